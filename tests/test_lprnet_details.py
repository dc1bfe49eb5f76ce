"""Colours and corners of plates: told of drawn ones, written where asked for, and colours learned by the script."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from ccpd.annotation import parse
from ccpd.plate_kinds import FORCES, KINDS
from ccpd.plate_numbers import random_text
from ccpd.plates import PlateRenderer
from LPRNet import train_colour
from LPRNet.alphabet import Alphabet
from LPRNet.details import COLOURS, ColourNet, DetailReader, length_likelihoods
from LPRNet.recogniser import Recogniser
from platekit.checkpoints import save_weights
from platekit.crops import upload
from platekit.errors import UserError
from platekit.fusion import FusedReading
from platekit.images import read_image
from platekit.paths import samples_from_here
from platekit.pipeline import PlateReader
from platekit.read_plates import main
from platekit.results import Details, Plate
from tests.conftest import put_picture


@pytest.fixture(scope="module")
def reader() -> DetailReader:
    return DetailReader(Recogniser(device="cpu"))


def tell(reader: DetailReader, picture: np.ndarray, text: str) -> Details:
    return reader(*reader.recogniser.prepare(picture), [text])[0]


@pytest.mark.parametrize("kind", [*KINDS.values(), FORCES["white_double"]], ids=lambda kind: kind.name)
def test_drawn_plates_have_their_colour_in_warm_and_in_cold_light(reader, kind):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        text = random_text(rng, kind) if kind.name in KINDS else "KA12345"
        plate = PlateRenderer().render(text, kind, rng).astype(np.float32)
        for light in ((0.5, 0.55, 0.6), (0.9, 0.8, 0.7)):
            assert tell(reader, (plate * light).astype(np.uint8), text).colour == kind.colour


def test_the_text_decides_where_the_picture_does_not(reader):
    """Green plates alone have a province and seven symbols behind it."""
    grey = np.full((24, 94, 3), 60, np.uint8)
    assert tell(reader, grey, "皖AD12345").colour == "green" != tell(reader, grey, "皖A12345").colour
    assert length_likelihoods("") == [1.0] * len(COLOURS)
    white = COLOURS.index("white")
    assert length_likelihoods("WJ皖12345")[white] == 1 > length_likelihoods("皖AD12345")[white]
    assert length_likelihoods("皖A1234")[COLOURS.index("green")] < 1  # of which one symbol was not read


def test_the_length_of_other_plates_tells_no_colour(reader, monkeypatch):
    grey, chinese = np.full((24, 94, 3), 60, np.uint8), reader.recogniser.alphabet
    monkeypatch.setattr(reader.recogniser, "alphabet", Alphabet("AB1-", 8))
    other = tell(reader, grey, "AB11111")
    assert other == tell(reader, grey, "AB111111")
    monkeypatch.setattr(reader.recogniser, "alphabet", chinese)
    assert other != tell(reader, grey, "AB11111")


def test_probabilities_are_shared_out_among_the_colours(reader):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (24, 94, 3), dtype=np.uint8)
    told = tell(reader, noise, "")
    assert told.colour in COLOURS and 1 / len(COLOURS) < told.colour_confidence <= 1
    pixels, box = reader.recogniser.prepare(noise)
    assert reader(pixels, box[:0], []) == []


def test_corners_are_those_of_the_plate_from_the_upper_left_clockwise(reader):
    """Of the samples, whose true corners their names give, within a tenth of the plate's width."""
    for path in sorted(samples_from_here().glob("*.jpg")):
        truth = np.array(parse(path.name).vertices, float)[[2, 3, 0, 1]]
        box = (*truth.min(axis=0), *truth.max(axis=0))
        found = np.array(reader(*reader.recogniser.prepare(read_image(path), box), [""])[0].corners)
        width = np.linalg.norm(truth[1] - truth[0])
        assert np.linalg.norm(found - truth, axis=1).max() < 0.1 * width, path.name


def test_plates_of_one_picture_have_each_their_own(reader):
    rng, picture = np.random.default_rng(4), np.full((300, 700, 3), 90, np.uint8)
    boxes = np.array([[40, 30, 260, 100], [400, 150, 620, 220], [60, 200, 280, 270]], np.float32)
    texts, names = [], ("yellow", "blue", "white")
    for (x1, y1, x2, y2), name in zip(boxes.astype(int), names):
        texts.append(random_text(rng, KINDS[name]))
        plate = PlateRenderer().render(texts[-1], KINDS[name], rng, 0.8)
        picture[y1:y2, x1:x2] = cv2.resize(plate, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
    details = reader(upload(picture), boxes, texts)
    assert [detail.colour for detail in details] == list(names)
    for detail, box in zip(details, boxes):
        x1, y1, x2, y2 = box
        np.testing.assert_allclose(detail.corners, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)], atol=25)


def test_plates_of_several_batches_have_their_own_details():
    reader = DetailReader(Recogniser(device="cpu", batch_size=2))
    boxes = np.array([[x, 10, x + 90, 34] for x in (5, 105, 205)], np.float32)
    told = reader(upload(np.full((60, 300, 3), 60, np.uint8)), boxes, ["皖A12345", "皖A12345", "皖AD12345"])
    assert [details.colour == "green" for details in told] == [False, False, True]


def test_weights_of_another_net_are_refused(tmp_path):
    save_weights(tmp_path / "net.pth", torch.nn.Linear(3, 5))
    with pytest.raises(UserError, match="net"):
        DetailReader(Recogniser(device="cpu"), tmp_path / "net.pth")


def test_main_tells_details_where_asked(call, tmp_path):
    told = call(main, "--image", samples_from_here(), "--json", "-", "--device", "cpu", "--details")
    plain = call(main, "--image", samples_from_here(), "--json", "-", "--device", "cpu")
    assert told.status == plain.status == 0
    for line, without in zip(told.out.splitlines(), plain.out.splitlines(), strict=True):
        plates, others = json.loads(line)["plates"], json.loads(without)["plates"]
        assert plates and all(plate["colour"] == "blue" and plate["colour_confidence"] > 0.9 for plate in plates)
        told_too = {"colour", "colour_confidence", "corners", "rows", "symbol_confidences", "others"}
        assert all(told_too < set(plate) and len(plate["symbol_confidences"]) == 7 for plate in plates)
        assert [{key: plate[key] for key in plate if key not in told_too} for plate in plates] == others
    printed = call(main, "--image", samples_from_here(), "--output", tmp_path, "--device", "cpu", "--details")
    assert "  blue 0.99" in printed.out or "  blue 1.000" in printed.out


def test_lines_have_probabilities_to_four_places_and_pixels_to_one():
    third, far = 1 / 3, 100 / 3
    plate = Plate((far,) * 4, third, "皖A", third, (third,) * 2, Details("blue", third, ((far, far),) * 4), 1,
                  (("皖B", third),))
    assert plate.to_dict() == {
        "text": "皖A", "confidence": 0.3333, "symbol_confidences": [0.3333] * 2,
        "others": [{"text": "皖B", "confidence": 0.3333}], "colour": "blue", "colour_confidence": 0.3333,
        "corners": [[33.3, 33.3]] * 4, "rows": 1, "detection_score": 0.3333, "box": [33.3] * 4}


def test_a_track_has_the_colour_of_most_of_its_frames():
    fused, other = FusedReading(), FusedReading()
    assert fused.colour is None
    for frame, (colour, sure) in enumerate([("black", 0.9), ("blue", 0.8), ("blue", 0.7)]):
        plate = Plate((0, 0, 40, 12), 0.9, "皖A12345", 0.9, (), Details(colour, sure, ()))
        (other if frame else fused).add(plate, frame)
    assert fused.colour == "black"
    fused.merge(other)
    assert fused.colour == "blue"


def test_the_script_learns_colours_and_says_how_well(call, tmp_path):
    crop = PlateRenderer().render("皖A12345", KINDS["blue"], np.random.default_rng(0))
    put_picture(tmp_path / "crops" / "a.png", crop)
    (tmp_path / "labels.csv").write_text("file,text\ncrops/a.png,皖A12345\n", encoding="utf-8")
    arguments = ("--img_dirs_train", tmp_path / "crops", "--labels", tmp_path / "labels.csv", "--save",
                 tmp_path / "net.pth")
    done = call(train_colour.main, *arguments, "--count", 2560, "--seed", 3)
    share = float(done.out.split("set aside: ")[1].split("%")[0])
    assert done.status == 0 and "256 plates" in done.out and share > 60, done.out
    learned = DetailReader(Recogniser(device="cpu"), tmp_path / "net.pth")
    assert tell(learned, crop, "皖A12345").colour == "blue"
    for wrong in (("--count", 100), ("--save", tmp_path)):
        done = call(train_colour.main, *arguments, *wrong)
        assert done.status == 2 and str(wrong[1]) in done.sentence()


def test_a_reader_tells_details_if_asked():
    sample = sorted(samples_from_here().glob("*.jpg"))[0]
    assert PlateReader("cpu")(sample).plates[0].details is None
    assert PlateReader("cpu", details=True)(sample).plates[0].details.colour == "blue"


def test_the_net_looks_at_mean_colours():
    """Golden values: areas in rows from the upper left, channels outermost."""
    torch.manual_seed(0)
    crops = torch.rand(2, 3, 24, 94) - 0.5
    net = ColourNet().eval()
    inner = crops[..., 2:22, 3:91]
    rows = [inner[:, :, row * 20 // 6:-(-(row + 1) * 20 // 6)] for row in range(6)]
    areas = [row[..., column * 88 // 12:-(-(column + 1) * 88 // 12)] for row in rows for column in range(12)]
    means = torch.stack([area.mean(dim=(2, 3)) for area in areas], dim=2)
    hidden = (means.flatten(1) @ net[0].weight.T + net[0].bias).relu()
    assert torch.allclose(net(crops), hidden @ net[2].weight.T + net[2].bias, atol=1e-6)
