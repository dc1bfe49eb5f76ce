"""The evaluation protocol: what counts as found and read, intervals, calibration, reports."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpd.evaluate import as_line, main, note_settings, read_outcomes
from ccpd.protocol import Outcome, Share, box_iou, calibrate, character_accuracy, edit_alignment, summarise_subsets
from ccpd.report import as_csv, write_reports
from ccpd.synthesize import main as synthesize

TEXT = st.text("皖A1B2", max_size=8)


def outcome(**changes) -> Outcome:
    values = {"image": "a.jpg", "subset": "ccpd_base", "plate": "皖A12345", "iou": 0.9, "text": "皖A12345",
              "confidence": 0.95, "boxes": 1, "detect_ms": 20.0, "recognise_ms": 4.0}
    return Outcome(**{**values, **changes})


def test_iou_by_hand():
    assert box_iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert box_iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert box_iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1


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
    assert character_accuracy(outcome(text=None)) == 0


def test_share_has_an_interval_round_its_value():
    share = Share.of([True] * 90 + [False] * 10)
    assert share.value == 0.9 and share.count == 100
    assert 0.8 < share.low < 0.9 < share.high < 0.98
    assert Share.of([]) is None


def test_subsets_groups_and_photos_without_a_plate():
    rows = summarise_subsets([
        outcome(), outcome(text="皖A12346"), outcome(plate="京A12345", text="京A12345", iou=0.2),
        outcome(subset="ccpd_green", plate="皖AD12345", text="皖AD12345"),
        outcome(subset="ccpd_np", plate=None, text=None, iou=0, boxes=0),
        outcome(subset="ccpd_np", plate=None, text="皖A1", iou=0, boxes=1),
    ])
    base, everything = rows["ccpd_base"], rows["all"]
    assert (base["found"].value, base["read"].value, base["both"].value) == pytest.approx((2 / 3, 2 / 3, 1 / 3))
    assert base["read_not_wan"].count == 1 and base["read_not_wan"].value == 1
    assert everything["read_green"].value == 1 and everything["read"].count == 4
    assert rows["ccpd_np"]["false_plates"].value == 0.5 and rows["ccpd_np"]["read"] is None


def test_calibration_error_by_hand():
    calibration = calibrate([0.95, 0.95, 0.15, 1.0], [True, False, False, True])
    # upper bin: mean confidence 0.9667 and accuracy 2/3, three of four; lower bin: 0.15 and 0, one of four
    assert calibration.error == pytest.approx(0.75 * (2.9 / 3 - 2 / 3) + 0.25 * 0.15)
    assert calibration.count == [1, 3]


def test_reports_agree(tmp_path):
    outcomes = [outcome(), outcome(image="b.jpg", text="皖A12346", confidence=0.4)]
    write_reports(tmp_path, outcomes, {"release": "2019"})
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text(encoding="utf-8"))))
    assert report["subsets"]["all"]["read"]["value"] == float(rows[-1]["read"]) == 0.5
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "50.0%" in text and "2019" in text
    assert as_csv(summarise_subsets(outcomes)) == (tmp_path / "report.csv").read_text(encoding="utf-8")


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    log = tmp_path / "outcomes.jsonl"
    first, second = as_line(outcome()), as_line(outcome(image="b.jpg"))
    log.write_text(first + second[:40], encoding="utf-8")
    assert list(read_outcomes(log).values()) == [outcome()]


def test_ablations_go_to_folders_of_their_own(call, tmp_path):
    """PNet alone proposes more than the plate, windows of one aspect miss turned ones, and outcomes never mix."""
    assert synthesize(["--out", str(tmp_path), "--subsets", "ccpd_rotate", "--count", "3", "--seed", "1"]) == 0
    data = ("--data", tmp_path / "ccpd_rotate", "--device", "cpu")
    reports = {}
    for name, flags in {"all": (), "alone": ("--rounds", 0), "square": ("--aspects", 3.92)}.items():
        done = call(main, *data, "--out", tmp_path / name, *flags)
        assert done.status == 0, done.err
        reports[name] = json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8"))
    found = {name: report["subsets"]["all"]["found"]["value"] for name, report in reports.items()}
    more = {name: report["subsets"]["all"]["more_boxes"]["value"] for name, report in reports.items()}
    assert found["square"] < found["all"] and more["alone"] > more["all"], (found, more)
    assert reports["alone"]["facts"]["rounds of ONet"] == 0 and reports["square"]["facts"]["aspects"] == [3.92]
    assert "other settings" in call(main, *data, "--out", tmp_path / "all", "--rounds", 0).sentence()
    note_settings(tmp_path / "all" / "settings.json", {"rounds of ONet": 0}, restart=True)
    assert "--aspects" in call(main, *data, "--out", tmp_path / "none", "--aspects", 0).sentence()
