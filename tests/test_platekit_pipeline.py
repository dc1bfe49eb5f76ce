"""What the whole chain takes for a plate."""

import copy
import pickle

import numpy as np
import pytest
import torch

from LPRNet.alphabet import Reading
from MTCNN.detector import Detector
from platekit.devices import pick_device
from platekit.errors import UserError
from platekit.pipeline import PlateReader
from platekit.places import SAMPLES
from tests.conftest import make_picture, put_picture


@pytest.mark.parametrize(("found", "plates"), [
    ([(0.99, 0.9), (0.96, 0.001), (0.94, 0.15), (0.9, 0.04), (0.86, 0.8)], [0, 4]),  # the second would do alone,
    ([(0.96, 0.001), (0.94, 0.15), (0.93, 0.3)], [0, 2]),  # as would this first one,
    ([(0.94, 0.08), (0.93, 0.15), (0.92, 0.15)], [1]),  # and here the second, since the first is none
    ([(0.94, 0.08)], []),
    ([(0.999, 0.9), (0.995, 0.0)], [0, 1]),
])
def test_a_doubtful_box_that_nobody_can_read_is_no_plate(monkeypatch, found, plates):
    reader = PlateReader("cpu")
    scores = torch.tensor([score for score, _ in found])
    boxes = torch.tensor([[10.0 * number, 0, 10 * number + 9, 5] for number in range(len(found))])
    readings = [Reading(str(number), confidence, ()) for number, (_, confidence) in enumerate(found)]
    monkeypatch.setattr(reader.detector, "find", lambda pixels: (boxes, scores))
    monkeypatch.setattr(reader.recogniser, "read", lambda pixels, boxes: readings)
    read = reader(np.zeros((60, 80, 3), np.uint8)).plates
    assert [plate.text for plate in read] == [str(number) for number in plates]
    assert [plate.box[0] for plate in read] == [10 * number for number in plates]


def test_finder_and_reader_take_paths_and_say_what_is_none(tmp_path):
    path = put_picture(tmp_path / "a.png", make_picture(60, 100))
    for take in (Detector(device="cpu").detect, PlateReader("cpu")):
        assert type(take(str(path))) is type(take(path)) and len(take(path for _ in range(2))) == 2
        assert type(take(path.read_bytes())) is type(take(path))
        with pytest.raises(UserError, match="the bytes given"):
            take(b"no picture")
        with pytest.raises(UserError, match="nothere"):
            take("nothere.jpg")
        with pytest.raises(ValueError, match="BGR uint8"):
            take(None)


def test_a_reader_goes_to_other_processes():
    reader = PlateReader("cpu")
    path = next(SAMPLES.glob("*.jpg"))
    found = reader(path)
    assert found.plates
    for other in (pickle.loads(pickle.dumps(reader)), copy.deepcopy(reader)):
        assert other(path).plates == found.plates


def test_a_device_of_torchs_own_computes_as_exactly_as_one_by_name():
    for device in ("cpu", torch.device("cpu")):
        torch.backends.cudnn.allow_tf32 = True
        assert pick_device(device) == torch.device("cpu") and not torch.backends.cudnn.allow_tf32
