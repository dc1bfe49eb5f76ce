"""The rough look spares the exact nets most of what they'd reject, and changes nothing they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MTCNN import detector as detector_module
from MTCNN.detector import Detector, Thresholds
from MTCNN.model.MTCNN_nets import ONet, PNet
from MTCNN.rough import TILE_SIZE, cells_of, cut_tiles, rough_crops, tiles_of
from platekit.boxes import CROP_SIZE, crop_resize, normalise
from platekit.devices import multiplies_bfloat16
from platekit.images import find_images, read_image
from platekit.read_plates import SAMPLES

needs_bfloat16 = pytest.mark.skipif(not multiplies_bfloat16(torch.device("cpu")),
                                    reason="the processor has no bfloat16")


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)


@needs_bfloat16
def test_what_is_found_is_the_same_with_and_without(monkeypatch):
    rough = Detector(device="cpu")
    monkeypatch.setattr(detector_module, "multiplies_bfloat16", lambda device: False)
    exact = Detector(device="cpu")
    for path in find_images(SAMPLES):
        pixels = rough.upload(read_image(path))
        for found, wanted in zip(rough.scan(pixels), exact.scan(pixels)):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
        for found, wanted in zip(rough.find(pixels), exact.find(pixels)):
            torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-5)


@needs_bfloat16
def test_the_exact_nets_see_little(monkeypatch):
    finder = Detector(device="cpu")
    seen = {"pixels": 0, "crops": 0}
    scorer, onet = finder._scorer, finder.onet.forward

    def count(name, number, net, x):
        seen[name] += number
        return net(x)

    monkeypatch.setattr(finder, "_scorer", lambda x: count("pixels", len(x) * x[0, 0].numel(), scorer, x))
    monkeypatch.setattr(finder.onet, "forward", lambda x: count("crops", len(x), onet, x))
    pixels = finder.upload(read_image(find_images(SAMPLES)[0]))
    proposals = len(finder.propose(pixels)[0])
    seen.update(pixels=0)
    assert len(finder.find(pixels)[0]) >= 1
    assert 0 < seen["pixels"] < 0.5 * pixels[0, 0].numel()
    assert 0 < seen["crops"] < 0.4 * proposals


@needs_bfloat16
@pytest.mark.parametrize("share", [0.3, 0.003])
def test_other_weights_have_the_same_cells(share, monkeypatch):
    """Where PNet accepts a third of a picture, tiles would take longer than the picture."""
    torch.manual_seed(0)
    net, pixels = PNet().eval(), noise(150, 230)
    with torch.no_grad():
        net.conv4_1.weight.mul_(30)  # scores of an untrained net are all alike
    rough = Detector(net, ONet(), "cpu", thresholds=Thresholds(pnet_score=0))
    monkeypatch.setattr(detector_module, "multiplies_bfloat16", lambda device: False)
    exact = Detector(net, ONet(), "cpu", thresholds=rough.thresholds)
    threshold = float(exact.scan(pixels)[2].quantile(1 - share))
    rough.thresholds = exact.thresholds = Thresholds(pnet_score=threshold)
    assert len(exact.scan(pixels)[2]) > 0
    for found, wanted in zip(rough.scan(pixels), exact.scan(pixels)):
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(12, 47), (12, 52), (30, 92), (31, 95), (60, 150)])
def test_tiles_have_the_cells_of_the_whole(size):
    torch.manual_seed(0)
    net, pixels = PNet().eval(), noise(*size)
    with torch.inference_mode():
        scores = net(normalise(pixels))[1]
        likely = torch.rand(scores.shape[2:]) < 0.3
        likely[0, -1] = True
        tiles = tiles_of(likely)
        patches = cut_tiles(pixels, tiles)
        assert patches.shape == (len(tiles), 3, *TILE_SIZE) and len(tiles) <= likely.sum()
        found = net(normalise(patches))[1]
    rows, columns = cells_of(tiles)
    whole = (47 + 5 * columns <= size[1]) & (12 + 2 * rows <= size[0])
    torch.testing.assert_close(found[:, 1].flatten()[whole], scores[0, 1, rows[whole], columns[whole]])
    covered = torch.zeros_like(likely)
    covered[rows[columns < likely.shape[1]], columns[columns < likely.shape[1]]] = True
    assert covered[likely].all()


def test_rough_crops_are_nearly_the_exact_ones():
    image = read_image(find_images(SAMPLES)[0])
    pixels = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0)
    height, width = image.shape[:2]
    boxes = torch.tensor([[100.3, 200.6, 150.1, 215.2], [80.0, 300.5, 330.2, 390.1], [-30.0, 400.0, 60.0, 460.0],
                          [0.0, 0.0, width, height], [200.0, 100.0, 280.0, 340.0]])
    rough, exact = normalise(rough_crops(pixels, boxes)), crop_resize(pixels, boxes)
    assert rough.shape == exact.shape == (5, 3, *CROP_SIZE)
    np.testing.assert_array_less((rough - exact).abs().mean(dim=(1, 2, 3)), 0.25 * exact.std(dim=(1, 2, 3)))
    assert len(rough_crops(pixels, boxes[:0])) == 0
