"""The whole chain from Python: a picture in, its plates read.

    from platekit.pipeline import PlateReader

    reader = PlateReader()                      # loads the bundled weights once
    for plate in reader("photo.jpg").plates:    # a path, a file's bytes or a BGR array
        print(plate.text, plate.confidence, plate.box)
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
import torch

from LPRNet.alphabet import Reading
from LPRNet.details import DetailReader
from LPRNet.paths import COLOUR_WEIGHTS, LPRNET_WEIGHTS, STN_WEIGHTS
from LPRNet.recogniser import Recogniser
from MTCNN.detector import ROUNDS, THRESHOLDS, Detector, Thresholds
from MTCNN.paths import ONET_WEIGHTS, PNET_WEIGHTS
from MTCNN.pyramid import ASPECTS, MINI_LP, SCALE
from platekit.devices import pick_device
from platekit.errors import UserError
from platekit.images import Picture, for_each
from platekit.results import PictureResult, Plate

WEIGHTS = {"pnet": PNET_WEIGHTS, "onet": ONET_WEIGHTS, "lprnet": LPRNET_WEIGHTS, "stn": STN_WEIGHTS}  # the bundled ones

# A box is kept if its detection score or its text's confidence reaches a limit. Boxes come from the surest on:
# FIRST_LIMITS apply until one is kept, FURTHER_LIMITS to all later ones. On 3,332 photos set aside FIRST_LIMITS leave
# out 9 of 22 boxes that are no plates, and 8 of 2,587 plates. Beside a plate's box such a box stays in 13 photos with
# FIRST_LIMITS alone, and in 4 with both; 17 more plates would be left out if they stood beside a surer one.
FIRST_LIMITS = 0.95, 0.15  # detection score, confidence
FURTHER_LIMITS = 0.99, 0.3

# A plate whose end the right edge of the picture cuts off is often read surely, without its last symbol. In 126 real
# photos, cut off inside the plate at seven places each, 230 wrong readings had a confidence above 0.7. For 211 of them,
# and for none of the 489 right ones, the box reached beyond the edge by more than CUT_OFF of its width and the text was
# shorter than WHOLE.
CUT_OFF, WHOLE = 0.035, 7
CUT_OFF_FACTOR = 0.1  # of the confidence then


def doubt_cut_off(reading: Reading, beyond: float) -> Reading:
    """The reading of a Chinese plate whose box reached ``beyond`` (over its width) the picture's right edge: less sure
    if it lacks a symbol then."""
    if beyond <= CUT_OFF or len(reading.text) >= WHOLE:
        return reading
    return dataclasses.replace(reading, confidence=CUT_OFF_FACTOR * reading.confidence, others=())


def without_unlikely(plates: Iterable[Plate]) -> list[Plate]:
    """Those of the plates, the surest first, that reach a limit."""
    kept: list[Plate] = []
    for plate in plates:
        least_score, least_confidence = FURTHER_LIMITS if kept else FIRST_LIMITS
        if (plate.detection_score or 0) >= least_score or (plate.confidence or 0) >= least_confidence:
            kept.append(plate)
    return kept


class PlateReader:
    """Finds and reads plates. All nets are loaded once, when it is made."""

    def __init__(self, device: str | torch.device = "auto", mini_lp: tuple[float, float] = MINI_LP,
                 scale: float = SCALE, pnet: str | os.PathLike = PNET_WEIGHTS, onet: str | os.PathLike = ONET_WEIGHTS,
                 lprnet: str | os.PathLike = LPRNET_WEIGHTS, stn: str | os.PathLike = STN_WEIGHTS,
                 rounds: int = ROUNDS, aspects: Sequence[float] = ASPECTS, details: bool = False,
                 colour: str | os.PathLike = COLOUR_WEIGHTS, doubtful: bool = False,
                 min_confidence: float = 0.0, thresholds: Thresholds = THRESHOLDS) -> None:
        """``mini_lp`` is the (width, height) in pixels of the smallest plate to find, ``scale`` the factor between
        pyramid levels; ``rounds``, ``aspects`` and ``thresholds`` are the detector's; with ``details`` plates have a
        colour, by the weights ``colour``, and corners too; boxes that reach no limit count if ``doubtful``. Otherwise
        plates with a confidence (0 to 1) below ``min_confidence`` are left out.

        Raises UserError when weights are missing or of another shape, and for impossible sizes and confidences.
        """
        device = pick_device(device)
        if not 0 <= min_confidence <= 1:
            raise UserError(f"a confidence is a number from 0 to 1, not {min_confidence}; change --min_confidence")
        self.detector = Detector(pnet, onet, device, mini_lp, scale, thresholds, rounds, aspects)
        self.recogniser = Recogniser(lprnet, stn, device)
        self.doubtful, self.min_confidence = doubtful, min_confidence
        self.details = DetailReader(self.recogniser, colour) if details else None

    @overload
    def __call__(self, picture: Picture) -> PictureResult: ...

    @overload
    def __call__(self, picture: Iterable[Picture]) -> list[PictureResult]: ...

    def __call__(self, picture: Picture | Iterable[Picture]) -> PictureResult | list[PictureResult]:
        """The plates of a picture (a path, a file's bytes, or BGR uint8 (H, W, 3)), or of each of a list of pictures.

        Raises UserError for a file that is no picture, ValueError for an array of another kind.
        """
        return for_each(self.read, picture)

    def read(self, image: np.ndarray) -> PictureResult:
        """The plates of one BGR uint8 picture (H, W, 3)."""
        start = time.perf_counter()
        pixels = self.detector.upload(image)
        found = self.detector.find(pixels)
        boxes, scores = found.boxes, found.scores
        detected = time.perf_counter()
        readings = self.recogniser.read(pixels, boxes)
        if self.recogniser.alphabet.chinese:  # other plates may be shorter
            readings = list(map(doubt_cut_off, readings, found.beyond.tolist()))
        details = self.details(pixels, boxes, [reading.text for reading in readings]) if self.details \
            else [None] * len(readings)
        done = time.perf_counter()
        plates = [Plate(tuple(box), score, reading.text, reading.confidence, reading.symbol_confidences,
                        details=detail, rows=reading.rows, others=reading.others)
                  for box, score, reading, detail in zip(boxes.tolist(), scores.tolist(), readings, details)]
        if not self.doubtful:
            plates = [plate for plate in without_unlikely(plates) if (plate.confidence or 0) >= self.min_confidence]
        height, width = image.shape[:2]
        return PictureResult(width, height, tuple(plates),
                             {"detect": (detected - start) * 1000, "recognise": (done - detected) * 1000})
