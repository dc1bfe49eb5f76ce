"""What the whole chain takes for a plate."""

import numpy as np
import torch

from LPRNet.alphabet import Reading
from platekit.pipeline import PlateReader


def test_a_doubtful_box_that_nobody_can_read_is_no_plate(monkeypatch):
    reader = PlateReader("cpu")
    scores, confidences = torch.tensor([0.99, 0.96, 0.94, 0.9, 0.86]), (0.9, 0.001, 0.03, 0.01, 0.8)
    boxes = torch.tensor([[10.0 * number, 0, 10 * number + 9, 5] for number in range(5)])
    readings = [Reading(str(number), confidence, ()) for number, confidence in enumerate(confidences)]
    monkeypatch.setattr(reader.detector, "find", lambda pixels: (boxes, scores))
    monkeypatch.setattr(reader.recogniser, "read", lambda pixels, boxes: readings)
    plates = reader(np.zeros((60, 80, 3), np.uint8)).plates
    assert [plate.text for plate in plates] == ["0", "1", "2", "4"]
    assert [plate.box[0] for plate in plates] == [0, 10, 20, 40]
