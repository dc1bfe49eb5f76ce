"""PNet over the sheets of a pyramid, computed where it may find something."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from MTCNN.model.fast import FastPNet
from MTCNN.model.MTCNN_nets import PNET_SIZE, PNET_STRIDE, PNet
from MTCNN.pyramid import Sheet, output_size
from MTCNN.rough import PNET_MARGIN, TILE, TILE_SIZE, cells_of, cut_tiles, likely_tiles, make_rough
from platekit.crops import normalise

BAND_PIXELS = {"cpu": 800_000, "cuda": 8_000_000}  # PNet takes sheets in bands of rows
TILES = 2000  # that PNet takes at a time


class Found(NamedTuple):
    """What PNet has found."""

    windows: np.ndarray  # (N, 4)
    offsets: np.ndarray  # (N, 4)
    scores: np.ndarray  # (N,)


class Scanner:
    """PNet, or another net of its outputs, on one device."""

    def __init__(self, pnet: PNet | Callable, device: torch.device) -> None:
        self.device = device
        self.scorer = FastPNet(pnet).to(device) if type(pnet) is PNet else PlainScorer(pnet)
        self.rough = make_rough(pnet, device)

    @torch.inference_mode()
    def scan(self, sheets: Iterable[Sheet], height: int, width: int, least: float, low: float, few: int) -> Found:
        """Windows that score ``least`` or more, in no order, in the sheets of a picture of ``height`` x ``width``.

        Where they are fewer than ``few``, those that score ``low`` or more.
        """
        found = [Found(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32), np.zeros(0))]
        likely = []  # the tiles of all sheets make few large calls
        for sheet in sheets:
            for first, pixels in self.bands(sheet.pixels):
                maps = self.scorer.pooled(pixels)
                chosen = self.tiles_to_compute(maps, low)
                if chosen is None:
                    rows, columns, *answers = self.scan_maps(maps, low)
                    windows, inside = sheet.windows(rows + first, columns, height, width)
                    found.append(Found(*(part[inside] for part in (windows, *answers))))
                else:
                    tiles, best = chosen
                    rows, columns = cells_of(tiles)
                    windows, inside = sheet.windows(rows + first, columns, height, width)
                    likely.append((cut_tiles(maps, tiles).numpy(), windows, inside, best >= least - PNET_MARGIN))
        if likely:
            parts, windows, inside, sure = map(np.concatenate, zip(*likely))
            for now in filter(np.any, (sure, ~sure)):
                cells = now.repeat(TILE)
                found.append(self.scan_tiles(torch.from_numpy(parts[now]), windows[cells], inside[cells], low))
                if sum(np.count_nonzero(part.scores >= least) for part in found) >= few:
                    break  # as in most pictures with a plate
        all_found = Found(*map(np.concatenate, zip(*found)))
        good = all_found.scores >= least
        return all_found if good.sum() < few else Found(*(part[good] for part in all_found))

    def bands(self, pixels: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """A sheet's pixels in bands, and the first row of PNet's cells in each."""
        stride, (rows, _) = PNET_STRIDE[0], output_size(*pixels.shape[2:])
        band = max(1, BAND_PIXELS[self.device.type] // (stride * pixels.shape[3]))
        for first in range(0, rows, band):
            end = stride * (first + band - 1) + PNET_SIZE[0]
            yield first, pixels[:, :, stride * first:end]

    def scan_maps(self, maps: torch.Tensor, least: float) -> tuple[np.ndarray, ...]:
        """The cells that PNet scores at least ``least``: their rows, columns, offsets (N, 4) and scores."""
        offsets, scores = self.scorer.score(maps)
        rows, columns = torch.nonzero(scores[0, 1] >= least, as_tuple=True)
        found = torch.stack([rows, columns, scores[0, 0, rows, columns], *offsets[0, :, rows, columns]])
        rows, columns, background, *offsets = found.float().cpu().numpy()
        return rows.astype(int), columns.astype(int), np.stack(offsets, axis=1), plate_scores(background)

    def tiles_to_compute(self, maps: torch.Tensor, least: float) -> tuple[np.ndarray, np.ndarray] | None:
        """The tiles (T, 2) that PNet may score ``least`` in, by a rough look at the maps of its first layers, and their
        rough scores (T,).

        None without a rough net, and when computing them takes longer than all of the maps.
        """
        if self.rough is None:
            return None
        tiles, scores = likely_tiles(self.rough(maps)[0, 0].numpy(), least - PNET_MARGIN)
        return (tiles, scores) if len(tiles) * math.prod(TILE_SIZE) < math.prod(maps.shape[2:]) else None

    def scan_tiles(self, maps: torch.Tensor, windows: np.ndarray, inside: np.ndarray, least: float) -> Found:
        """PNet on tiles (T, C, *TILE_SIZE), their cells' windows, whether these count; returns as ``scan``."""
        parts = [self.scorer.score(part) for part in maps.split(TILES)]
        offsets = torch.cat([part.permute(0, 2, 3, 1).flatten(0, 2) for part, _ in parts]).numpy()
        scores = plate_scores(torch.cat([part[:, 0].flatten() for _, part in parts]).numpy())
        kept = inside & (scores >= least)
        return Found(windows[kept], offsets[kept], scores[kept])


class PlainScorer:
    """Any other net, called as ``FastPNet``."""

    def __init__(self, net: Callable) -> None:
        self.pooled, self.score = normalise, net


def plate_scores(background: np.ndarray) -> np.ndarray:
    """The scores (N,) of plates in float64, from the probabilities (N,) of the background.

    In float32 the best boxes of a plate all have one of the few numbers next to 1, and chance would choose.
    """
    return 1 - background.astype(np.float64)
