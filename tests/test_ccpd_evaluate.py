"""The evaluation protocol: what counts as found and read, intervals, calibration, reports."""

import csv
import dataclasses
import io
import itertools
import json
import os
import shutil
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpd import evaluate as evaluation
from ccpd.annotation import Annotation, parse
from ccpd.dataset import find_subsets, listed_names
from ccpd.evaluate import evaluate_photo, find_photos, main, not_trained_on, note_settings, read_outcomes
from ccpd.figures import RED, confusion_matrix, draw_training, evenly, is_failure, read_training
from ccpd.protocol import (
    MEASURES,
    Outcome,
    Share,
    calibrate,
    calibrate_readings,
    character_accuracy,
    edit_alignment,
    exact_interval,
    summarise_subsets,
)
from ccpd.report import write_reports
from ccpd.synthesize import main as synthesize
from MTCNN.model.MTCNN_nets import ONet, PNet
from platekit.checkpoints import save_weights
from platekit.errors import UserError
from platekit.files import alone, json_line
from platekit.pipeline import PlateReader
from platekit.results import PictureResult, Plate
from tests.conftest import files_below, make_picture, needs_locks, put_picture

TEXT = st.text("皖A1B2", max_size=8)


def outcome(**changes) -> Outcome:
    values = {"image": "a.jpg", "subset": "ccpd_base", "plate": "皖A12345", "iou": 0.9, "text": "皖A12345",
              "confidence": 0.95, "boxes": 1, "detect_ms": 20.0, "recognise_ms": 4.0}
    return Outcome(**{**values, **changes})


def test_exactly_the_threshold_is_not_found():
    assert not outcome(iou=0.7).found
    assert outcome(iou=0.71).found
    assert outcome(iou=0.6, iou_threshold=0.5).found


@given(TEXT, TEXT)
def test_alignment_spells_both_texts(truth, text):
    pairs = edit_alignment(truth, text)
    assert "".join(a for a, _ in pairs) == truth
    assert "".join(b for _, b in pairs) == text


def test_alignment_is_the_cheapest():
    assert edit_alignment("皖A12", "皖12") == [("皖", "皖"), ("A", ""), ("1", "1"), ("2", "2")]
    assert character_accuracy(outcome(text="皖A12346")) == pytest.approx(6 / 7)
    assert character_accuracy(outcome(text="皖A123456")) == pytest.approx(7 / 8)  # a symbol too many is wrong too
    assert character_accuracy(outcome(text=None)) == 0


def test_share_has_an_interval_round_its_value():
    share = Share.of([True] * 90 + [False] * 10)
    assert share.value == 0.9 and share.count == 100
    assert 0.8 < share.low < 0.9 < share.high < 0.98
    assert Share.of([]) is None


@pytest.mark.parametrize("count", [1, 6, 126])
def test_a_share_of_all_or_none_has_the_exact_interval(count):
    right, wrong = Share.of([True] * count), Share.of([False] * count)
    assert right.low == pytest.approx(0.025 ** (1 / count)) and right.high == 1
    assert (wrong.low, wrong.high) == pytest.approx((0, 1 - right.low))


@pytest.mark.parametrize(("hits", "count", "low", "high"), [  # scipy.stats.binomtest(hits, count).proportion_ci()
    (38, 39, 0.8652, 0.9994), (1, 3, 0.0084, 0.9057), (383, 388, 0.9702, 0.9958)])
def test_the_exact_interval(hits, count, low, high):
    assert exact_interval(hits, count) == pytest.approx((low, high), abs=1e-4)
    share = Share.of([True] * hits + [False] * (count - hits))
    assert share.low <= low + 1e-4 and share.high >= high - 1e-4


def test_one_photo_says_little():
    share = Share.of([6 / 7])
    assert (share.low, share.high) == (0, 1)


def test_a_reading_counts_by_ccpds_rule_where_the_plate_is():
    rows = summarise_subsets([outcome(iou=0.61), outcome(iou=0.59), outcome(iou=0.59, iou_threshold=0.5)])
    assert (rows["all"]["read"].value, rows["all"]["read_there"].value) == pytest.approx((1, 2 / 3))


def test_what_another_cars_plate_is_read_as_says_nothing_of_reading():
    other = outcome(text="皖B54321", iou=0.1, confidence=1.0)
    calibration = calibrate_readings([outcome(), other, outcome(text=None, boxes=0)])
    assert calibration.count == [1] and calibration.left_out == 1
    assert is_failure(other) and is_failure(outcome(iou=0.6)) and is_failure(outcome(plate=None)) and not is_failure(
        outcome(plate=None, boxes=0))


def test_pictures_show_every_subset():
    many = [outcome(subset=subset, image=f"{number}") for subset, count in (("a", 50), ("b", 3), ("c", 3))
            for number in range(count)]
    shown = evenly(many, 24)
    assert Counter(outcome.subset for outcome in shown) == {"a": 8, "b": 3, "c": 3}
    assert shown[0].image == "0" and shown[7].image == "49" and evenly([], 24) == []


def test_subsets_groups_and_photos_without_a_plate():
    rows = summarise_subsets([
        outcome(), outcome(text="皖A12346", boxes=2), outcome(plate="京A12345", text="京A12345", iou=0.2),
        outcome(subset="ccpd_green", plate="皖AD12345", text="皖AD12345"),
        outcome(subset="ccpd_np", plate=None, text=None, iou=0, boxes=0),
        outcome(subset="ccpd_np", plate=None, text="皖A1", iou=0, boxes=1),
    ])
    base, everything = rows["ccpd_base"], rows["all"]
    assert (base["found"].value, base["read"].value, base["both"].value) == pytest.approx((2 / 3, 2 / 3, 1 / 3))
    assert base["read_not_wan"].count == 1 and base["read_not_wan"].value == 1
    assert base["more_boxes"].value == pytest.approx(1 / 3)
    assert everything["read_green"].value == 1 and everything["read"].count == 4
    assert rows["ccpd_np"]["false_plates"].value == 0.5 and rows["ccpd_np"]["read"] is None


def test_calibration_error_by_hand():
    calibration = calibrate([0.95, 0.95, 0.15, 1.0], [True, False, False, True])
    # upper bin: mean confidence 0.9667 and accuracy 2/3, three of four; lower bin: 0.15 and 0, one of four
    assert calibration.error == pytest.approx(0.75 * (2.9 / 3 - 2 / 3) + 0.25 * 0.15)
    assert calibration.count == [1, 3]


def test_reports_agree(tmp_path):
    outcomes = [outcome(), outcome(image="b.jpg", text="皖A12346", confidence=0.4, detect_ms=40.0, recognise_ms=8.0),
                outcome(image="c.jpg", subset="ccpd_np", plate=None, detect_ms=60.0, recognise_ms=6.0)]
    write_reports(tmp_path, outcomes, {"release": "2019"})
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text(encoding="utf-8"))))
    assert report["subsets"]["all"]["read"]["value"] == float(rows[-1]["read"]) == 0.5
    assert report["subsets"]["all"]["detect_ms"] == pytest.approx({"median": 40, "p95": 58})
    for row, (subset, figures) in zip(rows, report["subsets"].items(), strict=True):
        assert row["subset"] == subset
        for key in MEASURES:
            cells = [row[key + part] for part in ("", "_low", "_high", "_count")]
            wanted = figures[key] and [figures[key][part] for part in ("value", "low", "high", "count")]
            assert (list(map(float, cells)) == pytest.approx(wanted, abs=1e-4)) if wanted else not any(cells)
        for stage, part in itertools.product(("detect_ms", "recognise_ms"), ("median", "p95")):
            assert float(row[f"{stage}_{part}"]) == pytest.approx(figures[stage][part], abs=0.05)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "50.0%" in text and "2019" in text and "| 40 (58) | 6 (8) |" in text
    heading, _, *table = (line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|"))
    shown = dict(zip(heading, (" | ".join(table[-1]) + " ").split(" | ")))
    for key, (title, _, _) in MEASURES.items():
        wanted = report["subsets"]["all"][key]
        assert shown[title].strip().startswith(f"{wanted['value']:.1%}" if wanted else ""), title


def test_a_report_without_readings_tells_no_calibration(tmp_path):
    write_reports(tmp_path, [outcome(subset="ccpd_np", plate=None, text=None, boxes=0)], {})
    assert "calibration error" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_a_wrong_reading_is_in_the_row_of_what_is_written():
    image, cell = confusion_matrix([outcome(plate="皖A", text="皖B")]), 26
    row, column = 2 * cell, 3 * cell  # of A and of B, behind the headings and 皖
    assert tuple(image[row + 1, column + 1]) == RED and tuple(image[column + 1, row + 1]) == (255, 255, 255)


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    log = tmp_path / "outcomes.jsonl"
    first, second = (json_line(dataclasses.asdict(outcome(image=name))) for name in ("a.jpg", "b.jpg"))
    log.write_bytes(first + second[:40])
    assert list(read_outcomes(log).values()) == [outcome()]


DAMAGE = {"image": [1], "subset": 3, "plate": 5, "text": {}, "iou": "high", "confidence": None, "boxes": [],
          "box": [1, 2, 3], "state": None, "detect_ms": float("nan"), "other": 1}


@pytest.mark.parametrize("field", DAMAGE)
def test_a_line_with_a_damaged_field_is_not_done_and_those_behind_it_are(tmp_path, field):
    log, fields = tmp_path / "outcomes.jsonl", dataclasses.asdict(outcome(image="b.jpg"))
    log.write_bytes(json_line({**fields, field: DAMAGE[field]}) + json_line(dataclasses.asdict(outcome())))
    assert list(read_outcomes(log).values()) == [outcome()]


def test_damaged_bytes_and_nesting_are_lines_that_are_not_done(tmp_path):
    log = tmp_path / "outcomes.jsonl"
    log.write_bytes(b"\xff\xfe\n" + b"[" * 200_000 + b"\n" + json_line(dataclasses.asdict(outcome())))
    assert list(read_outcomes(log).values()) == [outcome()]
    (tmp_path / "settings.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="--restart"):
        note_settings(tmp_path / "settings.json", {}, False)


def test_ablations_go_to_folders_of_their_own(call, tmp_path):
    """PNet alone places boxes worse, windows of one aspect miss turned plates, and outcomes never mix."""
    assert synthesize(["--out", str(tmp_path), "--subsets", "ccpd_rotate", "--count", "3", "--seed", "4"]) == 0
    data = ("--data", tmp_path / "ccpd_rotate", "--device", "cpu")
    reports = {}
    for name, flags in {"all": (), "alone": ("--rounds", 0), "square": ("--aspects", 3.92)}.items():
        done = call(main, *data, "--out", tmp_path / name, *flags)
        assert done.status == 0, done.err
        reports[name] = json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8"))
    found = {name: report["subsets"]["all"]["found"]["value"] for name, report in reports.items()}
    placed = {name: sum(outcome.iou for outcome in read_outcomes(tmp_path / name / "outcomes.jsonl").values())
              for name in reports}
    assert found["square"] < found["all"] and placed["alone"] < placed["all"], (found, placed)
    assert reports["alone"]["facts"]["rounds of ONet"] == 0 and reports["square"]["facts"]["aspects"] == [3.92]
    assert "other settings" in call(main, *data, "--out", tmp_path / "all", "--rounds", 0).sentence()
    note_settings(tmp_path / "all" / "settings.json", {"rounds of ONet": 0}, restart=True)
    log, again = tmp_path / "alone" / "outcomes.jsonl", (*data, "--out", tmp_path / "alone", "--rounds", 0)
    before = log.read_bytes()  # with the time that each photo took
    assert call(main, *again).status == 0 and log.read_bytes() == before
    assert call(main, *again, "--restart").status == 0 and log.read_bytes() != before
    assert "other settings" in call(main, *data, "--out", tmp_path / "all", "--mini_lp", 90, 30).sentence()
    assert "--aspects" in call(main, *data, "--out", tmp_path / "none", "--aspects", 0).sentence()


def test_an_interval_of_a_whole_release_takes_little_memory():
    tracemalloc.start()
    share = Share.of(number % 10 > 0 for number in range(200_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6 and share.value == 0.9 and 0.898 < share.low < share.high < 0.902


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two photos of each of three subsets."""
    folder = tmp_path_factory.mktemp("photos")
    assert synthesize(["--out", str(folder / "ccpd_dataset"), "--subsets", "ccpd_base", "ccpd_tilt", "ccpd_np",
                       "--count", "2", "--seed", "7"]) == 0
    return folder


def test_a_folder_of_subsets_is_searched_whatever_its_name(photos):
    found = list(find_photos([photos / "ccpd_dataset"]))
    assert [subset for subset, _ in found] == ["ccpd_base"] * 2 + ["ccpd_np"] * 2 + ["ccpd_tilt"] * 2
    assert find_subsets(photos / "ccpd_dataset").keys() == {"ccpd_base", "ccpd_np", "ccpd_tilt"}


def test_pictures_beside_subsets_do_not_make_them_one(photos, tmp_path):
    shutil.copytree(photos / "ccpd_dataset", tmp_path / "ccpd")
    put_picture(tmp_path / "ccpd" / "readme.jpg", make_picture(40, 60))
    assert {subset for subset, _ in find_photos([tmp_path / "ccpd"])} == {"ccpd_base", "ccpd_np", "ccpd_tilt"}


def test_a_photo_that_was_made_smaller_is_said(call, photos, tmp_path):
    (source, *_) = (path for subset, path in find_photos([photos / "ccpd_dataset"]) if subset == "ccpd_tilt")
    put_picture(tmp_path / source.name, make_picture(130, 80))
    with pytest.raises(UserError, match="its box lies outside the picture; was it made smaller"):
        evaluate_photo(PlateReader("cpu"), tmp_path / source.name, "ccpd_tilt", 0.7)
    alone = call(main, "--data", tmp_path, "--out", tmp_path / "out", "--device", "cpu")
    assert "no photo could be evaluated: " in alone.sentence() and "was it made smaller?" in alone.err


def test_a_subset_called_as_the_total_keeps_its_own_row(photos, tmp_path):
    shutil.copytree(photos / "ccpd_dataset" / "ccpd_base", tmp_path / "mine" / "all")
    assert {subset for subset, _ in find_photos([tmp_path / "mine" / "all"])} == {"mine/all"}


def test_the_first_photo_is_measured_when_all_is_warm(photos, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(evaluation, "evaluate_photo",
                        lambda _, path, subset, __: seen.append(path) or Outcome(str(path), subset, None))
    paths = [("ccpd_np", path) for subset, path in find_photos([photos / "ccpd_dataset"]) if subset == "ccpd_np"]
    outcomes, _ = evaluation.evaluate(paths, None, tmp_path / "log", {}, set())
    assert seen == [paths[0][1], paths[0][1], paths[1][1]] and len(outcomes) == 2


@pytest.mark.parametrize("place", ["ccpd_mine", "ccpd_val/my_photos", "ccpd_mine/again/again", "holiday"])
def test_a_folder_of_photos_is_a_subset_whatever_its_name(tmp_path, monkeypatch, place):
    put_picture(tmp_path / place / "a.bmp", make_picture(40, 60))
    folder = tmp_path / Path(place).parts[0]
    assert list(find_photos([folder])) == [(folder.name, tmp_path / place / "a.bmp")]
    monkeypatch.chdir(folder)
    assert [subset for subset, _ in find_photos([Path(".")])] == [folder.name]


def test_outcomes_of_other_weights_are_not_taken_over(call, photos, tmp_path):
    """A run goes on where it stopped, with the lists of now, and not with what other weights have found."""
    for name, net in (("pnet", PNet()), ("onet", ONet())):
        save_weights(tmp_path / name, net)
    data = ("--data", photos / "ccpd_dataset", "--out", tmp_path / "out", "--device", "cpu")
    own = ("--pnet", tmp_path / "pnet", "--onet", tmp_path / "onet")
    assert call(main, *data, *own).status == 0
    lines = (tmp_path / "out" / "outcomes.jsonl").read_text("utf-8")
    (tmp_path / "list.txt").write_text("".join(f"{path.name}\n" for _, path in find_photos([photos / "ccpd_dataset"])))
    assert call(main, *data, *own, "--approximate", tmp_path / "list.txt").status == 0
    assert (tmp_path / "out" / "outcomes.jsonl").read_text("utf-8") == lines and len(lines.splitlines()) == 6
    assert "other settings" in call(main, *data).sentence()
    save_weights(tmp_path / "onet", ONet())
    assert "other settings" in call(main, *data, *own).sentence()


def test_a_photo_that_has_changed_is_looked_at_again(call, photos, tmp_path):
    data = shutil.copytree(photos / "ccpd_dataset" / "ccpd_base", tmp_path / "ccpd_base")
    changed, other = sorted(map(str, data.glob("*.jpg")))
    outcomes = []
    for _ in range(2):
        assert call(main, "--data", data, "--out", tmp_path / "out", "--device", "cpu").status == 0
        outcomes.append(read_outcomes(tmp_path / "out" / "outcomes.jsonl"))
        put_picture(Path(changed), np.zeros((1160, 720, 3), np.uint8))
    assert outcomes[0][other] == outcomes[1][other]  # times too: it was not looked at again
    assert outcomes[0][changed].text and outcomes[1][changed].text is None


def test_what_other_code_has_found_is_not_taken_over(call, photos, tmp_path, monkeypatch):
    run = ("--data", photos / "ccpd_dataset" / "ccpd_np", "--out", tmp_path / "out", "--device", "cpu")
    assert call(main, *run).status == 0
    monkeypatch.setattr("ccpd.evaluate.code_revision", lambda: "another")
    assert "other code" in call(main, *run).sentence()


def test_a_photo_goes_with_its_folder_of_now_and_pictures_of_before_go(call, photos, tmp_path):
    data = shutil.copytree(photos / "ccpd_dataset" / "ccpd_base", tmp_path / "ccpd_green" / "test")
    out = tmp_path / "out"
    assert call(main, "--data", data, "--out", out, "--device", "cpu").status == 0
    (out / "failures.png").write_text("of before")
    (tmp_path / "list.txt").write_text("C:\\photos\\none.jpg\n")
    done = call(main, "--data", data.parent, "--out", out, "--device", "cpu", "--approximate", tmp_path / "list.txt")
    assert done.status == 0 and "none of the 1 names" in done.err and "none.jpg" in done.err
    assert json.loads((out / "report.json").read_text("utf-8"))["subsets"].keys() == {"ccpd_green", "all"}
    assert not (out / "failures.png").exists() or (out / "failures.png").read_bytes() != b"of before"


def test_folders_of_one_name_are_two_subsets(photos, tmp_path):
    for release in ("one", "two"):
        shutil.copytree(photos / "ccpd_dataset", tmp_path / release)
    found = Counter(subset for subset, _ in find_photos([tmp_path / "one", tmp_path / "two" / "ccpd_base"]))
    assert found == {"one/ccpd_base": 2, "two/ccpd_base": 2, "ccpd_np": 2, "ccpd_tilt": 2}
    for release in ("one", "two"):
        shutil.copytree(photos / "ccpd_dataset" / "ccpd_tilt", tmp_path / release / "ccpd_green" / "test")
    found = {subset for subset, _ in find_photos([tmp_path / name / "ccpd_green" / "test" for name in ("one", "two")])}
    assert found == {"one/ccpd_green/test", "two/ccpd_green/test"}


def test_names_in_lists_come_from_any_system(tmp_path):
    (tmp_path / "list.txt").write_text("C:\\photos\\a.jpg\nphotos/b.jpg\tnote\n\nc:d.jpg\n")
    assert listed_names(tmp_path / "list.txt") == {"a.jpg", "b.jpg", "c:d.jpg"}


@needs_locks
def test_two_evaluations_do_not_share_a_folder(call, photos, tmp_path):
    (tmp_path / "out").mkdir()
    with alone(tmp_path / "out"):
        assert "another run is writing to" in call(main, "--data", photos, "--out", tmp_path / "out").sentence()


def test_an_output_that_is_a_file_is_wrong_usage(call, photos, tmp_path):
    (tmp_path / "out").write_text("")
    assert "cannot write" in call(main, "--data", photos / "ccpd_dataset", "--out", tmp_path / "out").sentence()


def test_a_photo_that_cannot_be_read_is_named_and_the_others_are_evaluated(call, tmp_path, monkeypatch):
    monkeypatch.setattr("ccpd.evaluate.draw_figures", lambda *args: None)  # they take their time
    put_picture(tmp_path / "ccpd_np" / "a.jpg", make_picture(60, 120))
    (tmp_path / "ccpd_np" / "broken.jpg").write_text("no picture")
    done = call(main, "--data", tmp_path / "ccpd_np", "--out", tmp_path / "out", "--device", "cpu")
    assert done.status == 1 and f"left out: cannot decode {tmp_path / 'ccpd_np' / 'broken.jpg'}" in done.err, done.err
    assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["subsets"]["ccpd_np"]["images"] == 1


def test_a_photo_that_says_nothing_shows_no_plate_in_its_own_folder_alone(photos, tmp_path):
    (source, *_) = (path for subset, path in find_photos([photos / "ccpd_dataset"]) if subset == "ccpd_base")
    reader = PlateReader("cpu")
    for folder in ("ccpd_base", "ccpd_np"):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / "IMG_0001.jpg")
    with pytest.raises(UserError, match="no CCPD annotation"):
        evaluate_photo(reader, tmp_path / "ccpd_base" / "IMG_0001.jpg", "ccpd_base", 0.7)
    assert evaluate_photo(reader, tmp_path / "ccpd_np" / "IMG_0001.jpg", "ccpd_np", 0.7).plate is None


def test_photos_that_are_trained_on_are_left_out_unless_named(photos, tmp_path, monkeypatch, capsys):
    shutil.copytree(photos, tmp_path / "data")
    base, tilt = (tmp_path / "data" / "ccpd_dataset" / name for name in ("ccpd_base", "ccpd_tilt"))
    everything = list(find_photos([base.parent]))
    shutil.copytree(tilt, tmp_path / "train" / "ccpd_tilt")
    (tmp_path / "val").mkdir()
    for path, folder in ((next(tilt.iterdir()), base), (next(base.iterdir()), tmp_path / "val")):
        again = dataclasses.replace(parse(path), brightness=1)  # another photo of a plate
        shutil.copy(path, folder / again.file_name())
    monkeypatch.setattr("ccpd.dataset.CCPD_FOLDER", tmp_path / "data")
    for name in ("train", "val"):
        monkeypatch.setattr(f"ccpd.evaluate.PHOTOS_{name.upper()}", tmp_path / name)
    assert not_trained_on() == [pair for pair in everything if pair[0] != "ccpd_tilt"]
    said = capsys.readouterr().out
    assert "left out 3 photos" in said and "1 of the other 4 show plates of" in said
    shutil.rmtree(tmp_path / "train" / "ccpd_tilt")
    assert len(not_trained_on()) == 7 and not capsys.readouterr().out


def test_no_photo_counts_twice_nor_what_an_evaluation_has_drawn(photos, tmp_path):
    folder = photos / "ccpd_dataset"
    assert list(find_photos([folder, folder / "ccpd_base", folder / "ccpd_np" / ".."])) == list(find_photos([folder]))
    photo = next((photos / "ccpd_dataset" / "ccpd_base").glob("*.jpg")).name
    for name in (photo, "ccpd_out/failures.png", "evaluation/failures.png"):
        put_picture(tmp_path / name, make_picture(40, 60))
    named = [tmp_path, tmp_path / "ccpd_out"]
    assert [path.name for _, path in find_photos(named, tmp_path / "evaluation")] == [photo, "failures.png"]
    assert list(find_photos([tmp_path / "ccpd_out"], tmp_path / "ccpd_out")) == []


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_folder_whose_name_is_no_utf8_is_evaluated_and_gone_on_with(call, photos, tmp_path):
    folder = tmp_path / os.fsdecode(b"gbk\xff\xa1")
    shutil.copytree(photos / "ccpd_dataset" / "ccpd_tilt", folder)
    for net, weights in (("pnet", PNet()), ("onet", ONet())):
        save_weights(tmp_path / net, weights)
    run = ("--data", folder, "--out", tmp_path / "out", "--device", "cpu", "--pnet", tmp_path / "pnet", "--onet",
           tmp_path / "onet")
    assert call(main, *run).status == 0
    lines = (tmp_path / "out" / "outcomes.jsonl").read_bytes()
    assert {Path(image).parent for image in read_outcomes(tmp_path / "out" / "outcomes.jsonl")} == {folder}
    assert call(main, *run).status == 0
    assert (tmp_path / "out" / "outcomes.jsonl").read_bytes() == lines


def test_a_training_log_that_is_none_is_refused_before_anything_is_read(call, tmp_path):
    (tmp_path / "log.jsonl").write_text("[1]\n")
    done = call(main, "--data", tmp_path, "--out", tmp_path / "out", "--training_log", tmp_path / "log.jsonl")
    assert done.status == 2 and "log.jsonl" in done.sentence() and files_below(tmp_path) == ["log.jsonl"]


def test_a_training_that_began_with_weights_has_no_loss_at_first(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "log.jsonl").write_text('{"epoch": 0, "step": 0, "score": 1}\n'
                                        '{"epoch": 1, "step": 5, "score": 2, "loss": 1}\n')
    draw_training(tmp_path / "training.png", {tmp_path / "log.jsonl": read_training(tmp_path / "log.jsonl")})
    assert (tmp_path / "training.png").stat().st_size > 1000


@pytest.mark.parametrize("approximate", [False, True])
def test_an_approximate_box_asks_for_less(tmp_path, approximate):
    annotation = Annotation("1", (90, 90), (100, 100, 300, 160), ((300, 160), (100, 160), (100, 100), (300, 100)),
                            "皖A12345", 90, 20)
    path, plate = tmp_path / annotation.file_name(), Plate((100, 100, 300, 136), 0.99, "皖A12345", 0.9)  # IoU 0.6
    (outcome,), problems = evaluation.evaluate(
        [("ccpd_base", path)], lambda _: PictureResult(720, 1160, (plate,), {"detect": 20.0, "recognise": 4.0}),
        tmp_path / "log.jsonl", {}, {path.name} if approximate else set())
    assert not problems and outcome.found == approximate


def test_each_stage_has_its_own_time_in_an_outcome():
    result = PictureResult(9, 9, (), {"detect": 20.0, "recognise": 4.0})
    outcome = evaluation.outcome_of(result, None, "a.jpg", "ccpd_np")
    assert (outcome.detect_ms, outcome.recognise_ms) == (20, 4)


@pytest.mark.parametrize("what", ["release", "training_log"])
def test_the_report_says_what_its_flags_say(call, tmp_path, monkeypatch, what):
    drawn = []
    monkeypatch.setattr("ccpd.evaluate.draw_figures", lambda *args: drawn.append(args))
    put_picture(tmp_path / "ccpd_np" / "a.jpg", make_picture(60, 120))
    (tmp_path / "log.jsonl").write_text('{"epoch": 1, "step": 5, "score": 2, "loss": 1}\n')
    done = call(main, "--data", tmp_path / "ccpd_np", "--out", tmp_path / "out", "--device", "cpu",
                "--release", "2019", "--training_log", tmp_path / "log.jsonl")
    assert done.status == 0
    if what == "release":
        assert json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["facts"]["release"] == "2019"
    else:
        assert list(drawn[0][3]) == [tmp_path / "log.jsonl"]
