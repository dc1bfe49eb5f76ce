"""Which windows of a view become samples: PNet's at random, ONet's mined with the trained PNet.

Both are picklable callables (view, pixels uint8 (1, 3, H, W), rng) -> windows (N, 4) by kind.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ccpd.views import View
from MTCNN.data_preprocessing.windows import (
    ANYWHERE,
    LEAST_WINDOW,
    NEGATIVE,
    Counts,
    choose,
    draw_windows,
    jitter,
    kinds_of,
    move_edge,
    overlaps,
    touching,
    windows_anywhere,
    windows_around,
)
from MTCNN.detector import Detector, Look, Thresholds
from MTCNN.model.MTCNN_nets import ONet
from MTCNN.pyramid import MINI_LP, SCALE
from platekit.boxes import at_least

MINED_SCORE = 0.3  # of PNet, for a window to count as what it takes for a plate
DRAWN = {"positive": (0.1, 0.3), "part": (0.25, 0.6)}  # spread of ``jitter`` and reach of ``move_edge``


class PNetWindows:
    """Random windows of the pyramid's aspects, and with weights those a trained PNet mistakes for plates."""

    def __init__(self, counts: Counts, weights: Path | None = None, mined: int = 0) -> None:
        self.counts, self.mined = counts, mined
        self.most = counts.total + (mined if weights else 0)  # samples of a view
        limits = Thresholds(pnet_score=MINED_SCORE, pnet_low=MINED_SCORE)
        self.detector = None if weights is None else Detector(weights, ONet(), "cpu", thresholds=limits)

    def __call__(self, view: View, pixels: torch.Tensor, rng: np.random.Generator) -> dict[str, np.ndarray]:
        height, width = view.image.shape[:2]
        chosen = draw_windows(height, width, view.box, view.ignore, self.counts, rng)
        if self.detector is not None:
            windows, _, scores = self.detector.scan(pixels)
            windows = windows[np.argsort(-scores, kind="stable")[:4000]].astype(float)
            iou = overlaps(windows, view.box)
            wrong = windows[(iou < NEGATIVE) & ~touching(windows, view.ignore)]
            chosen["negative"] = np.concatenate([chosen["negative"], _front_heavy(wrong, self.mined, rng)])
        return chosen


class ONetWindows:
    """Proposals of the pyramid by their overlap with the truth, and jittered truths such as later rounds see."""

    def __init__(self, counts: Counts, pnet: Path, onet: Path | None = None, threshold: float = MINED_SCORE,
                 mini_lp: tuple[float, float] = MINI_LP, scale: float = SCALE) -> None:
        self.counts, self.has_onet = counts, onet is not None
        self.most = counts.total + ANYWHERE  # samples of a view
        self.detector = Detector(pnet, ONet() if onet is None else onet, "cpu", mini_lp, scale,
                                 Thresholds(pnet_score=threshold, pnet_low=threshold, proposals=256))

    def __call__(self, view: View, pixels: torch.Tensor, rng: np.random.Generator) -> dict[str, np.ndarray]:
        windows, corrected = self.look(pixels)
        height, width = view.image.shape[:2]
        elsewhere = windows_anywhere(height, width, ANYWHERE, rng)
        if view.box is not None:
            kinds = kinds_of(overlaps(windows, view.box))
            of_plate = {kind: self.of_plate(kind, view.box, windows[kinds[kind]], corrected, rng)
                        for kind in ("positive", "part")}
            return {**of_plate, "negative": self.negatives(view, view.box, windows[kinds["negative"]], elsewhere, rng)}
        hard = _front_heavy(windows[~touching(windows, view.ignore)], self.counts.near + self.counts.far, rng)
        none = np.zeros((0, 4))
        return {"positive": none, "part": none,
                "negative": np.concatenate([hard, elsewhere[~touching(elsewhere, view.ignore)]])}

    def of_plate(self, kind: str, box: np.ndarray, windows: np.ndarray, corrected: np.ndarray,
                 rng: np.random.Generator) -> np.ndarray:
        """Windows of this kind of a plate's ``box`` (4,): the worst of those that ONet ``corrected``, some of the
        detector's ``windows``, all of which are of the kind, and drawn ones."""
        count = getattr(self.counts, kind)
        spread, edge = DRAWN[kind]
        own = corrected[kinds_of(overlaps(corrected, box))[kind]]
        worst = own[np.argsort(overlaps(own, box), kind="stable")][:count // 4]
        others = windows[~(windows[:, None] == worst).all(axis=2).any(axis=1)]
        seen = others[rng.permutation(len(others))[:count // 2 - len(worst)]]
        drawn = np.concatenate([jitter(box, 40, rng, spread=spread), move_edge(box, 60, rng, edge),
                                windows_around(box, 60, rng)])
        drawn = choose(drawn, kinds_of(overlaps(drawn, box))[kind], count - len(worst) - len(seen), rng)
        return np.concatenate([worst, seen, drawn])

    def negatives(self, view: View, box: np.ndarray, windows: np.ndarray, elsewhere: np.ndarray,
                  rng: np.random.Generator) -> np.ndarray:
        """Windows of no plate: about the plate's ``box`` (4,), the detector's wrong ``windows`` there and further away,
        and some anywhere."""
        around = windows_around(box, 60, rng)
        around = choose(around, kinds_of(overlaps(around, box))["negative"] & ~touching(around, view.ignore),
                        (self.counts.near + 1) // 2, rng)
        windows = windows[~touching(windows, view.ignore)]
        at_plate = touching(windows, box[None])
        near = _front_heavy(windows[at_plate], self.counts.near - len(around), rng)
        far = _front_heavy(windows[~at_plate], self.counts.far, rng)
        elsewhere = elsewhere[~touching(elsewhere, view.ignore) & (overlaps(elsewhere, box) < NEGATIVE)]
        return np.concatenate([around, near, far, elsewhere])

    def look(self, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The windows that the detector sees in a picture (1, 3, H, W), the best scored first, and those of them that
        it corrected itself.

        The latter are what ONet's later rounds see. Without ONet's weights there are none, and PNet's scores count.
        """
        boxes, scores = self.detector.propose(pixels)
        later: list[Look] = []
        if self.has_onet:
            limits = self.detector.thresholds
            moved, scores = self.detector.judge(pixels, boxes)
            later = list(self.detector.looks(pixels, moved, scores, limits.first_score))
            if not (later[-1].means >= limits.score).any():  # so the detector looks at less likely ones too
                later = list(self.detector.looks(pixels, moved, scores, limits.first_low))
        windows = np.concatenate([boxes, *(look.windows for look in later)]).astype(float)
        scores = np.concatenate([scores, *(look.scores for look in later)])
        large = at_least(windows, LEAST_WINDOW)
        ranked = np.argsort(-scores, kind="stable")
        return windows[ranked[large[ranked]]], windows[len(boxes):][large[len(boxes):]]


def _front_heavy(windows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most ``count`` of the windows (N, 4), none twice: half of them the first ones, half from anywhere behind."""
    first = min(len(windows), count // 2)
    rest = rng.permutation(np.arange(first, len(windows)))[:count - first]
    return np.concatenate([windows[:first], windows[rest]])
