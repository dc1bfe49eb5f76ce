"""The rough look spares the exact nets most of what they'd reject, and changes nothing they say."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch

from MTCNN.detector import Detector, Thresholds
from MTCNN.model.fast import FastPNet
from MTCNN.model.MTCNN_nets import ONet, PNet
from MTCNN.rough import TILE, TILE_SIZE, cells_of, cut_tiles, likely_tiles
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.paths import SAMPLES
from tests.conftest import needs_bfloat16


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)


@needs_bfloat16
def test_what_is_found_is_the_same_with_and_without(monkeypatch):
    rough = Detector(device="cpu")
    monkeypatch.setattr("MTCNN.rough.multiplies_bfloat16", lambda device: False)
    exact = Detector(device="cpu")
    for path in find_images(SAMPLES):
        pixels = rough.upload(read_image(path))
        for found, wanted in zip(rough.scan(pixels), exact.scan(pixels)):
            np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)
        for found, wanted in zip(*(dataclasses.astuple(finder.find(pixels)) for finder in (rough, exact))):
            np.testing.assert_allclose(found, wanted, atol=1e-3, rtol=1e-5)


@needs_bfloat16
def test_the_exact_nets_see_little(monkeypatch):
    finder = Detector(device="cpu")
    seen = {"cells": 0, "crops": 0}
    score, onet = finder.scanner.scorer.score, finder._fast_onet.forward

    def count(name, number, net, x):
        seen[name] += number
        return net(x)

    monkeypatch.setattr(finder.scanner.scorer, "score", lambda x: count("cells", len(x) * x[0, 0].numel(), score, x))
    monkeypatch.setattr(finder._fast_onet, "forward", lambda x: count("crops", len(x), onet, x))
    pixels = finder.upload(read_image(find_images(SAMPLES)[0]))
    proposals = len(finder.propose(pixels)[0])
    seen.update(cells=0)
    assert len(finder.find(pixels)) >= 1
    assert 0 < seen["cells"] < 0.05 * pixels[0, 0].numel()  # half of a tenth: a cell is 10 pixels
    assert 0 < seen["crops"] < 0.4 * proposals


@needs_bfloat16
def test_cells_that_score_less_are_computed_where_few_score_well(monkeypatch):
    """Once: then they are the exact scan's."""
    tiles, lowest = Counter(), {}
    for few in (0, 10_000):
        limits = Thresholds(few=few)
        finder = Detector(device="cpu", thresholds=limits)
        pixels = finder.upload(read_image(find_images(SAMPLES)[0]))
        score = finder.scanner.scorer.score
        monkeypatch.setattr(finder.scanner.scorer, "score",
                            lambda x, few=few, score=score: tiles.update({few: len(x)}) or score(x))
        found = finder.scan(pixels)
        lowest[few] = found.scores.min()
        with monkeypatch.context() as patch:
            patch.setattr("MTCNN.rough.multiplies_bfloat16", lambda device: False)
            wanted = Detector(device="cpu", thresholds=limits).scan(pixels)
        order, wanted_order = (np.lexsort(part.windows.T) for part in (found, wanted))
        for part, other in zip(found, wanted):
            np.testing.assert_allclose(part[order], other[wanted_order], atol=1e-5, rtol=1e-5)
    assert 0 < tiles[0] < tiles[10_000] and lowest[0] >= 0.45 > lowest[10_000] >= 0.3


@needs_bfloat16
@pytest.mark.parametrize("share", [0.3, 0.003])
def test_other_weights_have_the_same_cells(share, monkeypatch):
    """Where PNet accepts a third of a picture, tiles would take longer than the picture."""
    torch.manual_seed(0)
    net, pixels = PNet().eval(), noise(150, 230)
    with torch.no_grad():
        net.conv4_1.weight.mul_(30)  # scores of an untrained net are all alike
    rough = Detector(net, ONet(), "cpu", thresholds=Thresholds(pnet_score=0))
    monkeypatch.setattr("MTCNN.rough.multiplies_bfloat16", lambda device: False)
    exact = Detector(net, ONet(), "cpu", thresholds=rough.thresholds)
    threshold = float(np.quantile(exact.scan(pixels)[2], 1 - share))
    rough.thresholds = exact.thresholds = Thresholds(pnet_score=threshold)
    assert len(exact.scan(pixels)[2]) > 0
    for found, wanted in zip(rough.scan(pixels), exact.scan(pixels)):
        np.testing.assert_allclose(found, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(12, 47), (12, 52), (30, 92), (31, 95), (60, 150)])
def test_tiles_have_the_cells_of_the_whole(size):
    torch.manual_seed(0)
    net = FastPNet(PNet().eval())
    with torch.inference_mode():
        maps = net.pooled(noise(*size))
        _, scores = net.score(maps)
        rough = torch.rand(scores.shape[2:])
        rough[0, -1] = 1
        likely = rough >= 0.7
        tiles, best = likely_tiles(rough.numpy(), 0.7)
        for (row, column), score in zip(tiles, best, strict=True):
            assert score == rough[row, column:column + TILE].max() >= 0.7
        patches = cut_tiles(maps, tiles)
        assert patches.shape == (len(tiles), 10, *TILE_SIZE) and len(tiles) <= likely.sum()
        _, found = net.score(patches)
    rows, columns = cells_of(tiles)
    there = columns < likely.shape[1]
    torch.testing.assert_close(found[:, 1].flatten()[there], scores[0, 1, rows[there], columns[there]])
    covered = torch.zeros_like(likely)
    covered[rows[there], columns[there]] = True
    assert covered[likely].all()
