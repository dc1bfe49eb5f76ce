"""The fast path gives the boxes and texts of the plain implementation in tests/plain.py, on the bundled photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MTCNN.model.fast import FastPNet
from MTCNN.model.MTCNN_nets import PNet
from MTCNN.paths import PNET_WEIGHTS
from platekit.checkpoints import load_weights
from platekit.crops import normalise
from platekit.devices import multiplies_bfloat16
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.paths import SAMPLES
from platekit.pipeline import PlateReader
from tests.conftest import needs_bfloat16
from tests.plain import PlainReader


@pytest.mark.parametrize("rough", [pytest.param(True, marks=needs_bfloat16), False],
                         ids=["rough look first", "exact at once"])
def test_the_fast_path_reads_what_the_plain_one_reads(rough, monkeypatch):
    monkeypatch.setattr("MTCNN.rough.multiplies_bfloat16", lambda device: rough and multiplies_bfloat16(device))
    reader, plain = PlateReader("cpu"), PlainReader(exact=True)
    for path in find_images(SAMPLES):
        image = read_image(path)
        boxes, texts = plain(image)
        result = reader.read(image)
        assert len(boxes) >= 1 and [plate.text for plate in result.plates] == texts
        # A level made in two halves differs from OpenCV's by a rounding in one value of a thousand, and with it what
        # ONet corrects, which is a share of the box.
        off = np.abs(np.array([plate.box for plate in result.plates]) - boxes)
        assert off.max() < 2.5e-4 * (boxes[:, 2] - boxes[:, 0]).min()


def test_the_published_pyramid_may_miss_a_tilted_plate():
    """The benchmark times it; where ONet's later rounds leave nothing, there are no boxes and no error."""
    plain, found = PlainReader(published=True), 0
    for path in find_images(SAMPLES):
        boxes, texts = plain(read_image(path))
        assert boxes.shape == (len(texts), 4)
        found += len(texts)
    assert found > 0


@pytest.mark.parametrize("size", [(40, 120), (12, 47), (13, 50), (31, 203), (47, 331), (90, 451), (200, 250)])
@pytest.mark.parametrize("slopes", ["trained", "all rising", "all falling"])
def test_the_first_layers_at_once_are_the_same_net(slopes, size):
    net = PNet().eval()
    load_weights(net, PNET_WEIGHTS)
    if slopes != "trained":
        with torch.no_grad():
            net.features.prelu1.weight.abs_().mul_(1.5 if slopes == "all rising" else -1.5)
    pixels = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for fast, plain in zip(FastPNet(net)(pixels), net(normalise(pixels)), strict=True):
            torch.testing.assert_close(fast, plain, atol=1e-5, rtol=1e-4)
