"""Plates of two rows: where the rows are, that training shows what reading sees, that the bundled weights read them."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import torch

from ccpd.plate_kinds import KINDS
from ccpd.plate_numbers import random_text
from ccpd.plates import PlateRenderer
from LPRNet import LPRNet_Train
from LPRNet.alphabet import CHARS, Alphabet, Reading
from LPRNet.data import augment
from LPRNet.data.labels import read_labels
from LPRNet.data.load_data import LPRDataLoader
from LPRNet.data.rendered import RenderedPlates
from LPRNet.model.STN import STRAIGHT_CORNERS
from LPRNet.paths import LPRNET_WEIGHTS, STN_WEIGHTS
from LPRNet.recogniser import MARGINS_OF_ROWS, Reader, Recogniser, load_reader, recorded_alphabet, save_reader
from LPRNet.rows import OTHER_PLACES, PLACES, ROWS, SHIFTS, places_of
from platekit.checkpoints import read_checkpoint
from platekit.crops import CROP_SIZE, to_picture, upload
from platekit.errors import UserError
from platekit.opencv import cv2
from tests.conftest import put_picture
from tests.makers import ODEMARK, ODEMARK_DOUBLE, ODEMARK_SYMBOLS, draw_odemark

DOUBLE = KINDS["yellow_double"]


def test_rows_hold_their_symbols_and_no_others():
    size, reach = np.array([DOUBLE.width_mm, DOUBLE.height_mm]), np.array(STRAIGHT_CORNERS[0])
    for number, row in enumerate(ROWS):
        for index, (left, width) in enumerate(DOUBLE.cells):
            top, height = DOUBLE.row(index)
            symbol = (np.array([(left, top), (left + width, top + height)]) / size * 2 - 1) * reach
            low, high = row.place(symbol)
            if (index >= DOUBLE.upper) == number:
                assert (low > -1).all() and (high < 1).all()
            else:
                assert high[1] < -1 or low[1] > 1
    assert sum(row.columns for row in ROWS) == CROP_SIZE[1]


def test_a_rows_place_is_its_transforms_inverse():
    points = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    for row in ROWS:
        matrix = row.theta[0].double().numpy()
        np.testing.assert_allclose(row.place(points @ matrix[:, :2].T + matrix[:, 2]), points, atol=1e-6)


def picture_of_plate(kind, text, seed=0):
    """A plate on grey ground, its box, and its corners."""
    plate = PlateRenderer().render(text, kind, np.random.default_rng(seed), 0.8)
    height, width = plate.shape[:2]
    picture = np.full((height + 80, width + 120, 3), 90, np.uint8)
    picture[40:40 + height, 60:60 + width] = plate
    return picture, np.array([[60, 40, 60 + width, 40 + height]], np.float32)


def test_reading_sees_rows_as_training_shows_them():
    picture, box = picture_of_plate(DOUBLE, "鲁ABE037")
    recogniser = Recogniser(device="cpu")
    with torch.no_grad():  # an STN that leaves all as it is
        recogniser.reader.stn.fc_loc[2].weight.zero_()
        recogniser.reader.stn.fc_loc[2].bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
    looks = recogniser.look(upload(picture), box.repeat(2, axis=0), PLACES)
    assert torch.equal(*looks.unflatten(0, (2, len(PLACES)))) and PLACES[0] == ROWS
    found, *others = (to_picture(look).astype(int) for look in looks[:len(PLACES)])
    x1, y1, x2, y2 = box[0]
    corners = np.array([(x2, y2), (x1, y2), (x1, y1), (x2, y1)], np.float32)
    whole = augment.picture_corners(*CROP_SIZE)
    shown = augment.rows_side_by_side(whole, lambda place: augment.warp(picture, corners, place)).astype(int)
    assert found.shape == shown.shape == (*CROP_SIZE, 3)
    assert np.abs(found - shown).mean() < 6 < 25 < np.abs(found - found.mean()).mean()
    columns = slice(0, ROWS[0].columns), slice(ROWS[0].columns, None)
    for other, shifts in zip(others, SHIFTS[1:], strict=True):  # what it shows lies lower or higher
        for row, part, shift in zip(ROWS, columns, shifts, strict=True):
            move = np.array([(1, 0, 0), (0, 1, -shift / row.half[1] / 2 * CROP_SIZE[0])])
            moved = cv2.warpAffine(found.astype(np.float32), move, CROP_SIZE[::-1])
            error, before = (np.abs(other - look)[9:-9, part].mean() for look in (moved, found))
            assert error < 0.5 * before


@pytest.fixture
def double(tmp_path):
    """A crop of two rows, white above black, and one of a row, of another alphabet."""
    picture = np.zeros((60, 90, 3), np.uint8)
    picture[:30] = 255
    put_picture(tmp_path / "a.png", picture)
    put_picture(tmp_path / "b.png", np.full((24, 94, 3), 128, np.uint8))
    (tmp_path / "labels.csv").write_text("file,text,rows\na.png,AB,2\nb.png,BA,\n")
    return tmp_path


@pytest.mark.parametrize("corners", [False, True])
def test_two_rows_of_ones_own_plates_are_learned_side_by_side(double, corners):
    if corners:
        (double / "a.png").rename(double / "a_1_90&60_0&60_0&0_90&0.png")
        (double / "labels.csv").write_text("file,text,rows\na_1_90&60_0&60_0&0_90&0.png,AB,2\nb.png,BA,1\n")
    alphabet = Alphabet("AB-", 2, rows=2)
    data = LPRDataLoader(double, alphabet, labels=read_labels([double / "labels.csv"]))
    assert places_of(alphabet) == OTHER_PLACES
    crop, label = data[0]
    assert label == [0, 1] and crop[6:18, 5:42].min() > 200 and crop[6:18, 52:89].max() < 50
    assert data[1][1] == [1, 0] and 100 < data[1][0].mean() < 150
    hard = data.with_crops(data.crops, augmented=True)
    assert all(hard[index, seed][1] == data.labels[index] for index in range(2) for seed in range(20))
    shown = [[data.view(index, seed, to_train=True)[1:] for seed in range(200)] for index in range(2)]
    texts = [sum(label != [] for label, _ in views) for views in shown]
    assert 70 < texts[0] < 130 and 185 < texts[1] < 200  # two rows as one and one as two have none
    assert all((told is not None) == corners for _, told in shown[0])
    lone = data.with_crops(data.crops[1:], augmented=True)
    assert all(lone.view(0, seed, to_train=True)[1] for seed in range(200))
    with pytest.raises(UserError, match=r"\.png is of a plate of two rows, but the alphabet of plates of one"):
        LPRDataLoader(double, Alphabet("AB-", 2), labels=read_labels([double / "labels.csv"]))


def test_a_training_with_plates_of_two_rows_records_them(tmp_path, call):
    draw_odemark(tmp_path, 12, 1, [ODEMARK, ODEMARK_DOUBLE])
    (tmp_path / "symbols.txt").write_text(ODEMARK_SYMBOLS, "utf-8")
    train = functools.partial(
        call, LPRNet_Train.main, "--alphabet", tmp_path / "symbols.txt", "--img_dirs_train", tmp_path / "photos",
        "--labels", tmp_path / "labels.csv", "--hold_out", 0.3, "--epoch", 1, "--epoch_samples", 4, "--batch_size", 2,
        "--workers", 0, "--device", "cpu", "--run", tmp_path / "run", "--save", tmp_path / "l", tmp_path / "s")
    done = train()
    assert done.status == 0, done.err
    assert read_checkpoint(tmp_path / "l")[1]["rows"] == 2

    # Rows that were corrected are other samples; without plates of two rows the weights stay what they are.
    table = tmp_path / "labels.csv"
    table.write_text(re.sub(r",2$", ",1", table.read_text("utf-8"), flags=re.M), "utf-8")
    assert "set of crops" in train().sentence()
    done = train("--restart", "--weights", tmp_path / "l", tmp_path / "s", "--save", tmp_path / "l2", tmp_path / "s2")
    assert done.status == 0 and read_checkpoint(tmp_path / "l2")[1]["rows"] == 2, done.err
    for path in (LPRNET_WEIGHTS, tmp_path / "l"):
        assert load_reader(path, STN_WEIGHTS)[1].rows == 2


@pytest.mark.parametrize(("chars", "rows", "places"), [
    (CHARS, None, PLACES), (CHARS, 1, ()), ((*CHARS[:-1], "警", "-"), None, PLACES),
    ("AB-", None, ()), ("AB-", 1, ()), ("AB-", 2, OTHER_PLACES)])
def test_weights_record_in_how_many_rows_to_read(tmp_path, chars, rows, places):
    alphabet = Alphabet(chars, 2, rows)
    save_reader(Reader(len(chars)), alphabet, tmp_path / "l", tmp_path / "s")
    reader = Recogniser(tmp_path / "l", tmp_path / "s", "cpu")
    assert reader.places == places and reader.alphabet.rows == alphabet.rows
    state, facts = read_checkpoint(tmp_path / "l")
    for wrong in (0, 3, "two"):
        with pytest.raises(UserError, match="records no alphabet"):
            recorded_alphabet(state, {**facts, "rows": wrong}, "l")


def test_the_halves_of_a_plate_meet_and_are_all_of_it():
    for upper, lower in OTHER_PLACES:
        (x, top), (_, bottom) = np.array(STRAIGHT_CORNERS)[[2, 0]]
        for row in (upper, lower):
            assert row.middle[0] - row.half[0] == pytest.approx(x) and row.columns == 47
        assert upper.middle[1] - upper.half[1] == pytest.approx(top)
        assert upper.middle[1] + upper.half[1] == pytest.approx(lower.middle[1] - lower.half[1])
        assert lower.middle[1] + lower.half[1] == pytest.approx(bottom)


def test_drawn_plates_of_two_rows_have_a_text_only_side_by_side():
    class Doubles(RenderedPlates):
        def __init__(self):
            super().__init__([(PlateRenderer(), 1.0)], Alphabet())
            self.kind_shares = {"yellow_double": 1}

    data, straight, labels = Doubles(), augment.straight_pose(), []
    for seed in range(60):
        crop, label, corners = data.view(seed)
        assert crop.shape == (*CROP_SIZE, 3)
        assert len(label) in ((6, 7) if np.array_equal(corners, straight) else (0,))  # six where 学 or 挂 is the last
        labels.append(len(label))
    assert 15 < labels.count(7) < 50 and 0 < labels.count(6) < 15


@pytest.mark.parametrize("seed", range(3))
def test_the_bundled_weights_read_them(seed):
    text = random_text(np.random.default_rng(seed), DOUBLE)
    reading = Recogniser(device="cpu").read_pictures([picture_of_plate(DOUBLE, text, seed)[0]])[0]
    assert reading.text == text and reading.confidence > 0.5 and len(reading.symbol_confidences) == 7
    assert reading.rows == 2


def test_what_has_no_text_has_no_confidence(monkeypatch):
    recogniser = Recogniser(device="cpu")
    blank = torch.full((1, len(recogniser.alphabet), 18), -20.0)
    blank[:, -1] = 20
    asked = []

    def logits(crops, reader):
        asked.append(len(crops))
        return blank.repeat(len(crops), 1, 1)

    monkeypatch.setattr(recogniser, "logits", logits)
    picture, box = picture_of_plate(KINDS["blue"], "皖A12345")
    assert recogniser.read(upload(picture), box.repeat(2, axis=0)) == [Reading("", 0.0, ())] * 2
    assert asked == [2, 2 * len(MARGINS_OF_ROWS) * len(PLACES)]  # each box, then all places round it
