"""LPRNet_Train.py and LPRNet_Test.py as a user runs them, in this process."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from LPRNet import LPRNet_Test, LPRNet_Train, export_onnx
from LPRNet.alphabet import CHARS, Alphabet, Reading
from LPRNet.data.crop_names import CropName
from LPRNet.data.labels import read_labels
from LPRNet.data.load_data import LPRDataLoader, Sample
from LPRNet.data.training_plates import TrainingPlates, collate_with_corners
from LPRNet.LPRNet_Train import reading_loss
from LPRNet.model.LPRNET import LPRNet
from LPRNet.model.STN import STNet
from LPRNet.recogniser import Reader, load_reader, save_reader
from platekit.checkpoints import read_checkpoint, save_weights
from platekit.errors import UserError
from platekit.results import Plate
from tests.conftest import files_below, lines_of, make_picture, put_picture, results_of
from tests.makers import draw_crops

TINY = ("--epoch", 2, "--batch_size", 8, "--epoch_samples", 12, "--workers", 0, "--device", "cpu", "--float32")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    draw_crops(folder / "train", 20, 1)
    draw_crops(folder / "val", 4, 2)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    save_reader(Reader(len(CHARS)), Alphabet(), folder / "lprnet.pth", folder / "stn.pth")
    return folder / "lprnet.pth", folder / "stn.pth"


def train(call, crops: Path, folder: Path, *more):
    folders = [part for split in ("train", "val") if (flag := f"--img_dirs_{split}") not in more
               for part in (flag, crops / split)]
    return call(LPRNet_Train.main, *folders, "--run", folder / "run",
                "--save", folder / "lprnet.pth", folder / "stn.pth", *TINY, *more)


def test_ablations_train_without_the_transformer_and_over_the_batch(call, crops, tmp_path, monkeypatch):
    done = train(call, crops, tmp_path, "--without", "stn", "sample_norm")
    assert done.status == 0, done.err
    state = read_checkpoint(tmp_path / "run" / "best.pth")[0]
    assert all(torch.equal(state[f"stn.{key}"], value) for key, value in STNet().state_dict().items()
               if "fc_loc.2" in key)
    assert "wrote no weights" in done.out and "next:" not in done.out  # no reader normalises over the batch
    assert not list(tmp_path.glob("*.pth"))
    again = train(call, crops, tmp_path)
    assert again.status == 2 and "another" in again.sentence()
    monkeypatch.setattr("platekit.distributed.world", lambda: 2)
    assert "without torchrun" in train(call, crops, tmp_path, "--without", "sample_norm").sentence()


@pytest.mark.parametrize(("shown", "drawn", "counts", "learns"), [
    (0, 0, 0.2, False), (0, 0.5, 0.2, True), (20, 0, 0.2, True), (1, 0, 0.2, False), (20, 0.5, 0, False)])
def test_the_transformer_learns_where_corners_are_known(call, crops, weights, tmp_path, shown, drawn, counts, learns):
    shutil.copytree(crops, tmp_path / "crops")
    for path in sorted((tmp_path / "crops" / "train").iterdir())[:shown]:
        path.rename(path.with_stem(f"{path.stem}_90&20_3&22_2&3_91&1"))
    done = train(call, tmp_path / "crops", tmp_path, "--weights", *weights, "--rendered_share", drawn,
                 "--straightening", counts)
    assert done.status == 0, done.err
    start, now = (torch.load(path, weights_only=True) for path in (weights[1], tmp_path / "run" / "last.pth"))
    assert any((now["net"][f"stn.{name}"] != value).any() for name, value in start.items()) == learns


@pytest.mark.parametrize(("flag", "value"), [("--straightening", "-1"), ("--straightening", "nan"),
                                             ("--save_seconds", "nan"), ("--epoch_samples", "0")])
def test_impossible_numbers_are_refused(call, crops, tmp_path, flag, value):
    assert f"{flag} must be " in train(call, crops, tmp_path, flag, value).sentence()


def test_training_writes_weights_that_the_test_reads_with(call, crops, tmp_path):
    done = train(call, crops, tmp_path)
    assert done.status == 0, done.err
    assert "next: python LPRNet/LPRNet_Test.py" in done.out and str(tmp_path / "lprnet.pth") in done.out
    assert files_below(tmp_path) == ["lprnet.pth", "run/best.pth", "run/last.pth", "run/log.jsonl", "stn.pth"]
    rows = lines_of(tmp_path / "run" / "log.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2] and all(np.isfinite(row["loss"]) for row in rows)
    assert {"accuracy", "accuracy_hard_views", "score", "samples_per_second"} <= set(rows[0])
    state, facts = read_checkpoint(tmp_path / "lprnet.pth")
    assert facts["chars"] == "".join(CHARS) and set(state) == set(LPRNet(68).state_dict())
    for name in ("best.pth", "last.pth"):  # while a training goes on
        path = tmp_path / "run" / name
        assert load_reader(path, path)[1].chars == CHARS

    result = tmp_path / "readings.jsonl"
    done = call(LPRNet_Test.main, "--image", crops / "val", "--json", result, "--lprnet", tmp_path / "lprnet.pth",
                "--stn", tmp_path / "stn.pth", "--device", "cpu", "--output", tmp_path / "drawn")
    assert files_below(tmp_path / "drawn") == files_below(crops / "val")
    assert done.status == 0 and "all: 0 of 4 right (0.0%)" in done.out, done
    lines = results_of(result)
    assert [Path(line["image"]).name for line in lines] == files_below(crops / "val")
    for line in lines:
        assert list(line) == ["image", "width", "height", "ms", "plates"] and list(line["ms"]) == ["recognise"]
        (plate,) = line["plates"]
        assert plate["box"] == [0, 0, line["width"], line["height"]] and 0 <= plate["confidence"] <= 1

    # The same command again finds the run finished; another setting is refused and leaves the weights.
    before = (tmp_path / "lprnet.pth").read_bytes()
    again = train(call, crops, tmp_path)
    assert again.status == 0 and "is the end of this training" in again.out
    assert (tmp_path / "lprnet.pth").read_bytes() == before
    other = train(call, crops, tmp_path, "--learning_rate", 0.5)
    assert other.status == 2 and "another learning_rate" in other.sentence()
    assert "another number of samples" in train(call, crops, tmp_path, "--epoch_samples", 20).sentence()
    assert (tmp_path / "lprnet.pth").read_bytes() == before


def test_the_loss_tells_the_spatial_transformer_what_to_do_where_the_corners_are_known():
    torch.manual_seed(0)
    alphabet, reader = Alphabet(), Reader(len(CHARS)).eval()
    crop, corners = np.zeros((24, 94, 3), np.uint8), np.float32([[80, 20], [10, 20], [10, 4], [80, 4]])
    with_corners, without = (collate_with_corners([Sample(crop, [1, 2], place), Sample(crop, [3], None)])
                             for place in (corners, None))
    assert with_corners[3][0].tolist() == corners.tolist() and bool(with_corners[3][1].isnan().all())
    for batch, weight, turned in ((with_corners, 0.0, False), (with_corners, 0.5, True), (without, 0.5, False)):
        loss, parts = reading_loss(alphabet, torch.device("cpu"), weight)(reader, batch)
        torch.testing.assert_close(loss, parts["ctc"] + weight * parts["straightening"])
        assert (loss > parts["ctc"]) == turned


def test_weights_to_start_from_that_record_no_alphabet_are_refused(call, crops, weights, tmp_path):
    save_weights(tmp_path / "odd.pth", LPRNet(68), {"chars": 5})
    done = train(call, crops, tmp_path / "out", "--weights", tmp_path / "odd.pth", weights[1])
    assert done.status == 2 and str(tmp_path / "odd.pth") in done.sentence() and not (tmp_path / "out").exists()


def test_training_starts_from_given_weights(call, crops, weights, tmp_path):
    done = train(call, crops, tmp_path, "--weights", *weights, "--learning_rate", 1e-12, "--epoch", 1)
    assert done.status == 0, done.err
    trained, _ = load_reader(tmp_path / "lprnet.pth", tmp_path / "stn.pth")
    given, _ = load_reader(*weights)
    temperature = float(done.out.partition("divided by ")[2].split()[0])  # of the last layer, when training is over
    for (name, value), start in zip(trained.named_parameters(), given.parameters()):
        factor = temperature if name.startswith("lprnet.container") else 1
        torch.testing.assert_close(value * factor, start, atol=1e-3 * factor, rtol=2e-2, msg=name)


def test_a_part_of_the_plates_is_set_aside_without_validation_crops(call, crops, tmp_path, monkeypatch):
    monkeypatch.setattr(LPRNet_Train, "CROPS_VAL", crops / "val")  # CCPD's, which crops of one's own are not chosen by
    done = call(LPRNet_Train.main, "--img_dirs_train", crops / "train", "--run", tmp_path / "run", "--hold_out", 0.2,
                "--save", tmp_path / "a.pth", tmp_path / "b.pth", *TINY, "--epoch", 1, "--rendered_share", 0)
    assert done.status == 0, done.err
    assert "views of 16 crops), choosing by 4 crops" in done.out and "12 samples an epoch (0 drawn" in done.out


def test_the_best_weights_are_chosen_by_crops_as_they_are_and_by_hard_views(call, crops, tmp_path, monkeypatch):
    right = itertools.cycle([np.ones(4), np.zeros(4)])
    monkeypatch.setattr(LPRNet_Train, "read_right", lambda texts, labels: next(right))
    assert train(call, crops, tmp_path, "--epoch", 1, "--epoch_samples", 4).status == 0
    row = json.loads((tmp_path / "run" / "log.jsonl").read_text())
    assert [row[name] for name in ("accuracy", "accuracy_hard_views", "score")] == [1, 0, 0.5]


def test_a_damaged_crop_does_not_end_a_training(call, crops, weights, tmp_path):
    shutil.copytree(crops / "train", tmp_path / "train")
    (tmp_path / "train" / "京A12345_77.jpg").write_bytes(b"no picture")
    done = train(call, crops, tmp_path, "--img_dirs_train", tmp_path / "train", "--epoch_samples", 200, "--epoch", 1,
                 "--weights", *weights)
    assert done.status == 0 and done.err.count("left out: ") == 1 and "京A12345_77.jpg" in done.err, done


def test_many_damaged_crops_do_not_end_a_training_either(crops, tmp_path):
    shutil.copytree(crops / "train", tmp_path / "train")
    for number in range(4 * len(list((crops / "train").iterdir()))):
        (tmp_path / "train" / f"京A12345_{100 + number}.jpg").write_bytes(b"no picture")
    data = TrainingPlates(LPRDataLoader(tmp_path / "train", augmented=True), None, 60)
    assert all(data[index, index][1] for index in range(60))


def bad_folders(folder: Path) -> dict[str, tuple[Path, str]]:
    (folder / "empty").mkdir()
    put_picture(folder / "alien" / "警A12345_1.jpg", make_picture(24, 94))
    put_picture(folder / "nameless" / "holiday 1.jpg", make_picture(24, 94))
    put_picture(folder / "long" / "京A1234567_1.jpg", make_picture(24, 94))
    (folder / "broken").mkdir()
    (folder / "broken" / "京A12345_1.jpg").write_bytes(b"no picture")
    return {"missing": (folder / "missing", "is not a folder"), "empty": (folder / "empty", "holds no pictures"),
            "alien": (folder / "alien", "outside the alphabet"), "nameless": (folder / "nameless", "gives no label"),
            "long": (folder / "long", "the limit is 8"), "broken": (folder / "broken", "cannot decode")}


def test_bad_folders_end_in_one_sentence_and_leave_nothing(call, crops, tmp_path):
    for kind, (folder, reason) in bad_folders(tmp_path).items():
        for flag in ("--img_dirs_train", "--img_dirs_val"):
            done = train(call, crops, tmp_path / "out", flag, folder)
            assert done.status == 2 and reason in done.sentence() and str(folder) in done.sentence(), (kind, flag)
            assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [
    ("--learning_rate", -1), ("--learning_rate", "nan"), ("--workers", -1),
    ("--epoch", 0), ("--batch_size", 0), ("--epoch_samples", 0), ("--epoch_samples", -3), ("--hold_out", 1),
    ("--hold_out", -0.2), ("--rendered_share", 1.5), ("--rendered_share", -1), ("--glyphs", "missing"),
    ("--max_length", 7), ("--device", "cuda:77"), ("--device", "abacus"), ("--weights", "missing.pth", "missing.pth"),
])
def test_bad_values_end_in_one_sentence_and_leave_nothing(call, crops, tmp_path, arguments):
    done = train(call, crops, tmp_path / "out", *arguments)
    assert done.status == 2 and done.sentence() and not (tmp_path / "out").exists()


def test_all_samples_drawn_needs_their_number(call, crops, tmp_path):
    done = call(LPRNet_Train.main, "--img_dirs_train", crops / "train", "--rendered_share", 1)
    assert done.status == 2 and "--epoch_samples" in done.sentence()


@pytest.mark.parametrize(("flag", "kind"), [
    ("--lprnet", "missing"), ("--stn", "missing"), ("--lprnet", "STNet's"), ("--stn", "LPRNet's"),
    ("--lprnet", "other alphabet"), ("--lprnet", "garbage"), ("--lprnet", "odd facts"),
])
def test_weights_that_do_not_fit_end_in_one_sentence(call, crops, weights, tmp_path, flag, kind):
    path = tmp_path / "weights.pth"
    if kind == "STNet's":
        save_weights(path, STNet())
    elif kind == "LPRNet's":
        save_weights(path, LPRNet(68))
    elif kind == "other alphabet":
        save_weights(path, LPRNet(68), {"chars": "ABC-"})
    elif kind == "garbage":
        path.write_bytes(b"garbage")
    elif kind == "odd facts":
        save_weights(path, LPRNet(68), {"chars": 5})
    given = {"--lprnet": weights[0], "--stn": weights[1], flag: path}
    done = call(LPRNet_Test.main, "--image", crops / "val", "--json", tmp_path / "out.jsonl",
                *[part for pair in given.items() for part in pair])
    assert done.status == 2 and str(path) in done.sentence()
    assert files_below(tmp_path) == (["weights.pth"] if path.exists() else [])


def test_an_alphabet_of_ones_own_is_read_from_the_weights(call, tmp_path):
    reader = Reader(4).eval()
    with torch.no_grad():
        for parameter in reader.lprnet.parameters():
            parameter.zero_()
        reader.lprnet.container[0].bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))  # every time step shows the second
    save_reader(reader, Alphabet("xyz-"), tmp_path / "l.pth", tmp_path / "s.pth")
    put_picture(tmp_path / "crop.png", make_picture(30, 100))
    done = call(LPRNet_Test.main, "--image", tmp_path / "crop.png", "--json", "-", "--lprnet", tmp_path / "l.pth",
                "--stn", tmp_path / "s.pth")
    (line,) = done.out.splitlines()
    assert done.status == 0 and json.loads(line)["plates"][0]["text"] == "y"


def test_the_accuracy_counts_labelled_crops_only(call, weights, tmp_path, monkeypatch):
    class Sure:
        """Reads the same text everywhere."""

        def __init__(self, *_) -> None:
            self.alphabet = Alphabet()

        def read_pictures(self, pictures, boxes):
            return [Reading("皖A12345", 0.9) for _ in pictures]

    monkeypatch.setattr(LPRNet_Test, "Recogniser", Sure)
    for name in ("皖A12345_1.jpg", "皖A12345_2.jpg", "京A12345_1.jpg", "holiday 1.jpg", "photo.jpg"):
        put_picture(tmp_path / name, make_picture(30, 100))
    (tmp_path / "皖B11111_1.jpg").write_text("broken")
    done = call(LPRNet_Test.main, "--image", tmp_path, tmp_path / "京A12345_1.jpg")
    assert done.status == 1 and "皖B11111_1.jpg" in done.sentence()
    assert "all: 2 of 3 right (66.7%), not 皖: 0 of 1 right (0.0%), calibration error 0.233, 1 labelled ones that " \
        "could not be read, 2 without" in done.out
    assert call(LPRNet_Test.main, "--image", tmp_path / "photo.jpg").out.count("right") == 0


def test_what_is_read_wrong_is_listed(call, crops, weights, tmp_path):
    (tmp_path / "labels.csv").write_text("file,text\na.png,京A12345\n", "utf-8")
    put_picture(tmp_path / "a.png", make_picture(30, 100))
    test = ("--image", tmp_path / "a.png", "--lprnet", weights[0], "--stn", weights[1], "--labels",
            tmp_path / "labels.csv", "--wrong", tmp_path / "wrong.csv")
    done = call(LPRNet_Test.main, *test)
    assert done.status == 0 and "0 of 1 right" in done.out and "1 rows of what is wrong are in" in done.err
    head, row = (tmp_path / "wrong.csv").read_text("utf-8-sig").splitlines()
    assert head == "file,text,read,confidence" and row.startswith("a.png,京A12345,")
    assert call(LPRNet_Test.main, *test).status == 0  # it replaces an earlier one
    other = ("--wrong", tmp_path / "labels.csv")
    assert "is no such table" in call(LPRNet_Test.main, *test, *other).sentence()
    assert (tmp_path / "labels.csv").read_text("utf-8").startswith("file,text\n")


def test_a_reading_without_detection_prints_no_score():
    assert "detection" not in str(Plate((0, 0, 9, 9), None, "皖A12345", 0.9))


def test_the_accuracy_counts_what_a_run_before_has_read(call, crops, weights, tmp_path):
    test = ("--image", crops / "val", "--json", tmp_path / "out.jsonl", "--lprnet", weights[0], "--stn", weights[1])
    assert "of 4 right" in call(LPRNet_Test.main, *test).out
    assert "of 4 right" in call(LPRNet_Test.main, *test, "--resume").out
    lines = (tmp_path / "out.jsonl").read_text("utf-8")
    (tmp_path / "out.jsonl").write_text(lines.replace('"text"', '"box"'), encoding="utf-8")  # as MTCNN.py writes
    assert "another script" in call(LPRNet_Test.main, *test, "--resume").sentence()


def test_a_step_that_was_left_out_is_named(call, tmp_path, monkeypatch):
    for script, name in ((LPRNet_Train, "CROPS_TRAIN"), (LPRNet_Test, "CROPS_VAL")):
        monkeypatch.setattr(script, name, tmp_path / "none")
        done = call(script.main)
        assert done.status == 2 and "LPRNet/data/preprocess.py" in done.sentence()


@pytest.mark.parametrize("change", ["crops", "labels", "start", "share"])
def test_a_run_is_not_taken_for_one_on_other_data(call, crops, weights, tmp_path, change):
    own = tmp_path / "own"
    draw_crops(own, 12, 1)
    done = call(LPRNet_Train.main, "--img_dirs_train", own, "--hold_out", 0.2, "--run", tmp_path / "run", "--save",
                tmp_path / "a.pth", tmp_path / "b.pth", *TINY)
    assert done.status == 0, done.err
    assert f"LPRNet_Test.py --lprnet {tmp_path / 'a.pth'} --stn {tmp_path / 'b.pth'}" in done.out
    more = []
    if change == "crops":
        draw_crops(own, 12, 2)
    elif change == "labels":
        for path in own.iterdir():
            path.rename(path.with_name(f"京Z{path.name[2:]}"))
    else:
        more = ["--weights", *weights] if change == "start" else ["--rendered_share", 0.25]
    before = (tmp_path / "a.pth").read_bytes()
    again = call(LPRNet_Train.main, "--img_dirs_train", own, "--hold_out", 0.2, "--run", tmp_path / "run", "--save",
                 tmp_path / "a.pth", tmp_path / "b.pth", *TINY, *more)
    assert again.status == 2 and "another" in again.sentence() and (tmp_path / "a.pth").read_bytes() == before


@pytest.mark.parametrize("flags", [("--seed", -1), ("--dropout_rate", 1), ("--dropout_rate", 2)])
def test_numbers_that_cannot_be_are_refused(call, crops, tmp_path, flags):
    assert train(call, crops, tmp_path, *flags).status == 2 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("save", "said"), [(("a", "../run/a"), "twice"), (("a", "."), "is a folder or"),
                                            (("a", "../file/b"), "in no folder"),
                                            (("a", os.devnull), "or a device")])
def test_weights_that_have_no_place_are_said_before_the_training(call, crops, tmp_path, save, said):
    (tmp_path / "run").mkdir()
    (tmp_path / "file").touch()
    done = train(call, crops, tmp_path, "--save", *(tmp_path / "run" / name for name in save))
    assert done.status == 2 and said in done.sentence() and files_below(tmp_path / "run") == []
    picture = next(path for path in (crops / "train").iterdir())
    before = picture.read_bytes()
    done = train(call, crops, tmp_path, "--save", picture, tmp_path / "stn")
    assert "holds no weights" in done.sentence() and picture.read_bytes() == before
    torch.save(STNet().state_dict(), tmp_path / "old", _use_new_zipfile_serialization=False)
    assert train(call, crops, tmp_path, "--save", tmp_path / "lprnet", tmp_path / "old").status == 0


@pytest.mark.parametrize("script", [LPRNet_Test, LPRNet_Train])
def test_help_is_given_in_a_folder_of_any_name(call, monkeypatch, script):
    for name in ("CROPS_TRAIN", "CROPS_VAL"):
        monkeypatch.setattr(script, name, Path("/50%done/crops"), raising=False)
    done = call(script.main, "--help")
    assert done.status == 0 and "/50%done/crops" in "".join(done.out.split())


def test_a_seed_of_the_export_is_one_as_elsewhere(call):
    assert "--seed: must be" in call(export_onnx.main, "--seed", -1).err


@pytest.fixture
def before_training(monkeypatch):
    """A training ends before its first step; the weights of the straightening loss that were asked for."""
    asked = []

    def loss(alphabet, device, straightening):
        asked.append(straightening)
        raise UserError("so far")

    monkeypatch.setattr(LPRNet_Train, "reading_loss", loss)
    return asked


def test_the_straightening_loss_has_the_weight_asked_for(call, crops, tmp_path, before_training):
    assert "so far" in train(call, crops, tmp_path, "--straightening", 0.7).sentence() and before_training == [0.7]


def test_an_epoch_shows_each_crop_once_on_average_but_is_never_short(call, crops, tmp_path, monkeypatch,
                                                                     before_training):
    monkeypatch.setattr(LPRNet_Train, "LEAST_SAMPLES", 30)
    done = call(LPRNet_Train.main, "--img_dirs_train", crops / "train", "--img_dirs_val", crops / "val", "--run",
                tmp_path / "run", "--save", tmp_path / "a", tmp_path / "b", "--rendered_share", 0.75, "--device", "cpu")
    assert "training on 80 samples an epoch (60 drawn, the others views of 20 crops)" in done.out, done
    assert "labels of 20 crops come from file names, such as '" in done.out
    done = call(LPRNet_Train.main, "--img_dirs_train", crops / "train", "--img_dirs_val", crops / "val", "--run",
                tmp_path / "run", "--save", tmp_path / "a", tmp_path / "b", "--rendered_share", 0, "--device", "cpu")
    assert "training on 30 samples an epoch (0 drawn" in done.out, done


def test_a_table_of_labels_that_was_not_given_is_said(call, crops, tmp_path):
    shutil.copytree(crops / "train", tmp_path / "train")
    (tmp_path / "train" / "labels.csv").write_text("file,text\n")
    done = train(call, crops, tmp_path, "--img_dirs_train", tmp_path / "train")
    assert done.status == 2 and f"{tmp_path / 'train' / 'labels.csv'} tells what" in done.sentence()
    (tmp_path / "labels.csv").write_text(f"file,text\n{next((crops / 'val').iterdir())},皖A11111\n", "utf-8")
    done = train(call, crops, tmp_path, "--img_dirs_train", tmp_path / "train", "--labels", tmp_path / "labels.csv")
    assert done.status == 2 and f"{tmp_path / 'train' / 'labels.csv'} tells what" in done.sentence()
    done = call(LPRNet_Test.main, "--image", tmp_path / "train")
    assert done.status == 2 and f"{tmp_path / 'train' / 'labels.csv'} tells what" in done.sentence()


@pytest.mark.parametrize(("flags", "count"), [((), 1), (("--without", "stn"), 0)])
def test_weights_to_start_from_find_the_plates_in_crops(call, crops, weights, tmp_path, monkeypatch, before_training,
                                                       flags, count):
    found = []
    monkeypatch.setattr(LPRDataLoader, "find_corners", lambda data, find: found.append(len(data)))
    train(call, crops, tmp_path, "--weights", *weights, *flags)
    assert before_training and found == [20] * count


def test_the_confidence_is_fitted_to_the_crops_as_they_are(call, crops, tmp_path, monkeypatch):
    seen, logits_of = [], LPRNet_Train.logits_of
    monkeypatch.setattr(LPRNet_Train, "logits_of",
                        lambda net, shown, *rest: seen.append(shown) or logits_of(net, shown, *rest))
    assert train(call, crops, tmp_path, "--epoch", 1, "--epoch_samples", 4).status == 0
    assert torch.equal(seen[-1], LPRNet_Train.all_crops(LPRDataLoader(crops / "val")))


def test_a_crop_with_surroundings_is_read_where_its_plate_lies(call, tmp_path, monkeypatch):
    asked = []

    class Looking:
        alphabet = Alphabet()

        def __init__(self, *_):
            pass

        def read_pictures(self, pictures, boxes):
            asked.extend(boxes)
            return [Reading("皖A12345", 0.9)]

    monkeypatch.setattr(LPRNet_Test, "Recogniser", Looking)
    name = CropName("皖A12345", 1, ((90, 40), (20, 40), (20, 15), (90, 15)))
    put_picture(tmp_path / f"{name.stem()}.png", make_picture(60, 120))
    outside = CropName("皖A12345", 2, ((125, 45), (-9, 45), (-9, -5), (125, -5)))
    put_picture(tmp_path / f"{outside.stem()}.png", make_picture(60, 120))
    lines = results_of(call(LPRNet_Test.main, "--image", tmp_path, "--json", "-").out)
    assert asked == [(20, 15, 90, 40), (-9, -5, 125, 45)]
    assert [line["plates"][0]["box"] for line in lines] == [[20, 15, 90, 40], [0, 0, 120, 45]]


def test_what_the_best_epoch_is_chosen_by(tmp_path):
    """By crops to validate on and their table: as they are and in hard views. Their plates are not trained on."""
    for name in ("train/皖A11111_1.png", "train/皖A22222_1.png", "val/one.png", "val/two.png"):
        put_picture(tmp_path / name, make_picture(24, 94))
    (tmp_path / "val" / "labels.csv").write_text("file,text\none.png,皖A22222\ntwo.png,皖A33333\n", "utf-8")
    args = SimpleNamespace(img_dirs_train=[tmp_path / "train"], img_dirs_val=[tmp_path / "val"], glyphs=None,
                           labels=[tmp_path / "val" / "labels.csv"], hold_out=0.0, epoch_samples=4, rendered_share=0.0)
    _, real, (plain, hard) = LPRNet_Train.build_data(args, Alphabet(), read_labels(args.labels))
    assert [crop.name.plate for crop in real.crops] == ["皖A11111"]
    assert {crop.name.plate for crop in plain.crops} == {"皖A22222", "皖A33333"}
    assert len(plain) == 3  # among them the one that was held out
    assert hard.augmented and not plain.augmented and hard.crops == plain.crops


def test_a_training_is_not_gone_on_with_by_another_seed_loss_or_other_crops_to_validate_on(call, crops, tmp_path):
    shutil.copytree(crops, tmp_path / "crops")
    assert train(call, tmp_path / "crops", tmp_path).status == 0
    for flags in (("--seed", 5), ("--straightening", 0.5), ("--dropout_rate", 0.3)):
        assert f"another {flags[0][2:]}" in train(call, tmp_path / "crops", tmp_path, *flags).sentence()
    next((tmp_path / "crops" / "val").iterdir()).unlink()
    assert "another set of validation crops" in train(call, tmp_path / "crops", tmp_path).sentence()


def test_a_fifth_of_a_few_plates_is_one(call, tmp_path):
    for number in range(3):
        put_picture(tmp_path / "train" / f"皖A1234{number}_1.png", make_picture(24, 94, number))
    data = LPRDataLoader(tmp_path / "train")
    train, plain = LPRNet_Train.split_by_plate(data, 0.1)
    assert (len(train), len(plain)) == (2, 1)
    with pytest.raises(UserError, match="too few to set 100% aside"):
        LPRNet_Train.split_by_plate(data, 1)
