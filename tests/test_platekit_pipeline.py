"""What the whole chain takes for a plate."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ccpd.annotation import parse
from LPRNet.alphabet import Alphabet, Reading
from LPRNet.recogniser import Recogniser
from MTCNN.detector import Detections, Detector, Thresholds
from platekit.errors import UserError
from platekit.images import read_image
from platekit.opencv import cv2
from platekit.paths import ROOT, SAMPLES
from platekit.pipeline import PlateReader
from tests.conftest import make_picture, put_picture

SAMPLE_PHOTOS = sorted(SAMPLES.glob("*.jpg"))


@pytest.mark.parametrize(("found", "plates"), [
    ([(0.99, 0.9), (0.96, 0.001), (0.94, 0.15), (0.9, 0.04), (0.86, 0.8)], [0, 4]),  # the second would do alone,
    ([(0.96, 0.001), (0.94, 0.15), (0.93, 0.3)], [0, 2]),  # as would this first one,
    ([(0.94, 0.08), (0.93, 0.15), (0.92, 0.15)], [1]),  # and here the second, since the first is none
    ([(0.94, 0.08)], []),
    ([(0.999, 0.9), (0.995, 0.0)], [0, 1]), ([(0.95, 0.0)], [0]), ([(0.949, 0.0)], []),
    ([(0.99, 0.9), (0.99, 0.0), (0.989, 0.0)], [0, 1]),
])
def test_a_doubtful_box_that_nobody_can_read_is_no_plate(monkeypatch, found, plates):
    reader = PlateReader("cpu")
    scores = np.array([score for score, _ in found])
    boxes = torch.tensor([[10.0 * number, 0, 10 * number + 9, 5] for number in range(len(found))])
    readings = [Reading(str(number), confidence, (confidence,), others=((f"or {number}", 0.001),))
                for number, (_, confidence) in enumerate(found)]
    monkeypatch.setattr(reader.detector, "find", lambda pixels: Detections(boxes, scores, np.zeros(len(boxes))))
    monkeypatch.setattr(reader.recogniser, "read", lambda pixels, boxes: readings)
    read = reader(np.zeros((60, 80, 3), np.uint8)).plates
    assert [plate.text for plate in read] == [str(number) for number in plates]
    assert [plate.box[0] for plate in read] == [10 * number for number in plates]
    assert [plate.symbol_confidences for plate in read] == [(found[number][1],) for number in plates]
    assert [plate.others for plate in read] == [((f"or {number}", 0.001),) for number in plates]
    reader.min_confidence = 0.5
    left = [str(number) for number in plates if found[number][1] >= 0.5]
    assert [plate.text for plate in reader(np.zeros((60, 80, 3), np.uint8)).plates] == left


def test_a_confidence_in_percent_is_refused():
    with pytest.raises(UserError, match="a number from 0 to 1, not 90"):
        PlateReader("cpu", min_confidence=90)


def test_the_detectors_thresholds_are_those_that_were_given():
    assert len(PlateReader("cpu")(SAMPLE_PHOTOS[0]).plates) == 1
    assert PlateReader("cpu", thresholds=Thresholds(score=1.1))(SAMPLE_PHOTOS[0]).plates == ()


def test_a_plate_that_the_edge_cuts_off_is_not_read_surely():
    reader, (path,) = PlateReader("cpu"), [path for path in SAMPLE_PHOTOS if parse(path).plate == "津C70759"]
    photo, (x1, _, x2, _) = read_image(path), parse(path).box
    for share, text, sure in ((0.0, "津C70759", True), (0.03, "津C70759", True), (0.2, "津C7075", False)):
        (plate,) = reader.read(photo[:, :round(x2 - share * (x2 - x1))]).plates
        assert plate.text == text and (plate.confidence > 0.9 if sure else plate.confidence < 0.15), plate


def test_dozens_of_plates_in_one_picture_are_all_found_and_read():
    """36: six samples in a row, six rows of them."""
    parts = []
    for path in SAMPLE_PHOTOS:
        x1, y1, x2, y2 = parse(path.name).box
        wide, high = (x2 - x1) // 4, (y2 - y1) // 2
        part = read_image(path)[max(0, y1 - high):y2 + high, max(0, x1 - wide):x2 + wide]
        parts.append(cv2.resize(part, (160, 120), interpolation=cv2.INTER_AREA))
    rows = [np.hstack([parts[(row + column) % len(parts)] for column in range(6)]) for row in range(6)]
    plates = PlateReader("cpu").read(np.vstack(rows)).plates
    texts = {(int(plate.box[1] // 120), int(plate.box[0] // 160)): plate.text for plate in plates}
    assert len(texts) == 36
    right = [text == parse(SAMPLE_PHOTOS[sum(cell) % len(parts)].name).plate for cell, text in texts.items()]
    assert sum(right) >= 34  # each its own


@pytest.mark.parametrize("width", [51, 56, 62])
def test_a_small_plate_is_found_where_it_fills_the_picture(width):
    """The first window of the pyramid is larger than the smallest plate, and than such pictures."""
    reader = PlateReader("cpu")
    for path in SAMPLE_PHOTOS:
        x1, y1, x2, y2 = parse(path.name).box
        size = (width, round(width * (y2 - y1) / (x2 - x1)))
        plate = cv2.resize(read_image(path)[y1:y2, x1:x2], size, interpolation=cv2.INTER_AREA)
        assert len(reader.read(plate).plates) == 1, path.name


def test_each_stage_has_its_own_time(monkeypatch):
    reader, now = PlateReader("cpu"), [0.0]

    def takes(seconds: float, answer: object) -> object:
        now[0] += seconds
        return answer

    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    monkeypatch.setattr("platekit.pipeline.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(reader.detector, "find", lambda pixels: takes(2, nothing))
    monkeypatch.setattr(reader.recogniser, "read", lambda pixels, boxes: takes(3, []))
    assert reader(np.zeros((60, 80, 3), np.uint8)).ms == {"detect": 2000, "recognise": 3000}


def test_the_detector_has_the_settings_that_the_reader_was_given():
    detector = PlateReader("cpu", mini_lp=(70, 20), scale=0.5, rounds=1, aspects=(3,)).detector
    assert (detector.mini_lp, detector.scale, detector.rounds, detector.aspects) == ((70, 20), 0.5, 1, (3,))


def test_finder_and_reader_take_paths_and_say_what_is_none(tmp_path):
    path = put_picture(tmp_path / "a.png", make_picture(60, 100))
    for take in (Detector(device="cpu").detect, PlateReader("cpu")):
        assert type(take(str(path))) is type(take(path)) and len(take(path for _ in range(2))) == 2
        with pytest.raises(UserError, match="the bytes given"):
            take(b"no picture")
        with pytest.raises(UserError, match="nothere"):
            take("nothere.jpg")
        with pytest.raises(ValueError, match="BGR uint8"):
            take(None)


def test_a_picture_is_the_same_in_every_form():
    reader, path = PlateReader("cpu"), SAMPLE_PHOTOS[0]
    wanted = reader(read_image(path)).plates
    assert wanted
    with open(path, "rb") as file:
        for form in (path, str(path), path.read_bytes(), file):
            assert reader(form).plates == wanted
    assert [result.plates for result in reader([path, path.read_bytes()])] == [wanted] * 2


def test_one_reader_serves_several_threads():
    reader, photos = PlateReader("cpu"), [read_image(path) for path in SAMPLE_PHOTOS]
    wanted, start = [reader(photo).plates for photo in photos], threading.Barrier(4, timeout=60)

    def read(first: int) -> list[bool]:
        start.wait()
        return [reader(photos[number % 5]).plates == wanted[number % 5] for number in range(first, first + 5)]

    with ThreadPoolExecutor(4) as pool:
        assert all(same for part in pool.map(read, range(4)) for same in part) and all(wanted)


def test_a_reader_goes_to_other_processes():
    reader = PlateReader("cpu")
    path = next(SAMPLES.glob("*.jpg"))
    found = reader(path)
    assert found.plates
    for other in (pickle.loads(pickle.dumps(reader)), copy.deepcopy(reader)):
        assert other(path).plates == found.plates


def test_what_is_no_picture_is_refused_as_a_value_error(tmp_path):
    """One class for a program to catch; an open file is the picture in it."""
    take = Detector(device="cpu").detect
    path = put_picture(tmp_path / "a.png", make_picture(60, 100))
    paths = np.array([path, path])
    paths_of_a_table = type("Series", (list,), {"shape": (2,), "ndim": 1})(paths)  # as pandas has them
    assert len(take(paths_of_a_table)) == 2
    with open(path, "rb") as file:
        assert len(take(file)) == 0 and issubclass(UserError, ValueError)
        for what in (file, {path: 1}, torch.zeros(60, 100, 3).byte(), "nothere.jpg", memoryview(b"abcd")[::2]):
            with pytest.raises(ValueError):
                take(what)  # the file is at its end


@pytest.mark.parametrize(("make", "named"), [
    *((partial(PlateReader, "cpu", rounds=rounds), "rounds") for rounds in (-1, 2.5, 2.0, float("nan"), "2")),
    (partial(PlateReader, "cpu", mini_lp=50), "a width and"), (partial(PlateReader, "gpu"), "unknown device"),
    (partial(PlateReader, "cpu", mini_lp=(50,)), "a width and"), (partial(Recogniser, batch_size=0), "batch size")])
def test_impossible_settings_are_refused_when_a_reader_is_made(make, named):
    with pytest.raises(UserError, match=named):
        make()


@pytest.fixture
def doubles():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_callers_modes_change_nothing(doubles):
    path = next(SAMPLES.glob("*.jpg"))
    reader = PlateReader("cpu")
    picture = read_image(path)
    with torch.autocast("cpu", torch.bfloat16):
        found, straight = reader(path), reader.recogniser.straighten(picture)
    torch.set_default_dtype(torch.float32)
    assert np.array_equal(straight, reader.recogniser.straighten(picture))
    assert PlateReader("cpu")(path) == found and found.plates and len({found, found}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_reader_made_before_a_fork_reads_behind_it():
    """GNU's OpenMP would wait for threads that the forked process does not have."""
    script = f"""
import os, sys, torch
torch.set_num_threads(2)
from platekit.opencv import cv2
from platekit.pipeline import PlateReader
reader, path = PlateReader("cpu"), {str(next(SAMPLES.glob("*.jpg")))!r}
count = len(reader(path).plates)
child = os.fork()
if not child:
    os._exit(len(reader(path).plates) != count)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=100).returncode == 0


def test_other_plates_at_the_edge_may_be_short(monkeypatch):
    reader = PlateReader("cpu")
    found = Detections(np.array([[10.0, 10, 90, 40]], np.float32), np.array([0.99]), np.array([0.2]))
    monkeypatch.setattr(reader.detector, "find", lambda pixels: found)
    monkeypatch.setattr(reader.recogniser, "read", lambda pixels, boxes: [Reading("A1", 0.9)])
    confidences = [reader.read(make_picture(60, 120)).plates[0].confidence]
    reader.recogniser.alphabet = Alphabet("A1-", 4)
    confidences.append(reader.read(make_picture(60, 120)).plates[0].confidence)
    assert confidences == pytest.approx([0.09, 0.9])
