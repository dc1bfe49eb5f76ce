"""How results on CCPD are counted: the rules of the data set's authors, figures with intervals, calibration.

Each photo has one annotated plate, and only the detector's best box counts. A detection is right when its IoU with the
plate exceeds 0.7. A reading is right when every symbol is; CCPD's authors ask for an IoU above 0.6 as well, which is a
figure of its own here. Source: Xu et al., ECCV 2018.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

IOU_THRESHOLD = 0.7
APPROXIMATE_IOU = 0.5  # the same where the annotated box is approximate
READ_IOU = 0.6  # of a box whose reading counts by CCPD's rule
SAME_PLATE = 0.5  # IoU from which on what is read is the annotated plate, and not another car's
RESAMPLES = 2000
ALL = "all"  # the row of all subsets


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came out on one photo. ``plate`` is None where the photo shows none; ``text`` where nothing was found."""

    image: str
    subset: str
    plate: str | None
    iou: float = 0.0  # of the best box with the annotated one
    iou_threshold: float = IOU_THRESHOLD
    text: str | None = None
    confidence: float = 0.0
    detection_score: float = 0.0
    boxes: int = 0
    box: Sequence[float] | None = None  # the best one: x1, y1, x2, y2
    detect_ms: float = 0.0
    recognise_ms: float = 0.0
    state: str = ""  # of the photo's file: another one may have come in its place

    @property
    def found(self) -> bool:
        return self.iou > self.iou_threshold

    @property
    def read(self) -> bool:
        return self.plate is not None and self.text == self.plate

    @property
    def read_at_plate(self) -> bool:
        """Whether something was read, and where the annotated plate is: what says how well plates are read."""
        return bool(self.plate and self.text and self.iou > SAME_PLATE)


def edit_alignment(truth: str, text: str) -> list[tuple[str, str]]:
    """Pairs of symbols of the cheapest edit from ``truth`` to ``text``; an empty string for what has no partner."""
    cost = np.zeros((len(truth) + 1, len(text) + 1), int)
    cost[:, 0], cost[0] = np.arange(len(truth) + 1), np.arange(len(text) + 1)
    for i, a in enumerate(truth, 1):
        for j, b in enumerate(text, 1):
            cost[i, j] = min(cost[i - 1, j - 1] + (a != b), cost[i - 1, j] + 1, cost[i, j - 1] + 1)
    pairs, i, j = [], len(truth), len(text)
    while i or j:
        if i and j and cost[i, j] == cost[i - 1, j - 1] + (truth[i - 1] != text[j - 1]):
            pairs.append((truth[i - 1], text[j - 1]))
            i, j = i - 1, j - 1
        elif i and cost[i, j] == cost[i - 1, j] + 1:
            pairs.append((truth[i - 1], ""))
            i -= 1
        else:
            pairs.append(("", text[j - 1]))
            j -= 1
    return pairs[::-1]


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of ``count`` cases, with the bounds of its 95 % interval.

    That is the bootstrap's. Near 0 and 1 it is too short, above all where the cases are all alike: of cases that are
    right or wrong it is widened to the exact one.
    """

    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, hits: Iterable[bool | float]) -> Share | None:
        """The mean of ``hits``; None when there are none."""
        values = np.array(list(hits), dtype=float)
        if not len(values):
            return None
        kinds, counts = np.unique(values, return_counts=True)  # few: a resample is how often each of them is drawn
        draws = np.random.default_rng(0).multinomial(len(values), counts / len(values), size=RESAMPLES)
        means = draws @ kinds / len(values)
        low, high = np.percentile(means, (2.5, 97.5))
        if len(kinds) == 1 or set(kinds) <= {0, 1}:
            least, most = exact_interval(values.sum(), len(values))
            low, high = min(low, least), max(high, most)
        return cls(float(values.mean()), float(low), float(high), len(values))

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.low:.1%}-{self.high:.1%})"


def exact_interval(hits: float, count: int) -> tuple[float, float]:
    """The 95 % interval of the share that ``hits`` of ``count`` cases give (Clopper and Pearson, Biometrika 1934)."""
    logs = np.concatenate([[0], np.log(np.arange(1, count + 1)).cumsum()])  # of factorials
    numbers, ways = np.arange(count + 1), logs[-1] - logs - logs[::-1]

    def lower_end(right: int) -> float:
        """The largest share that gives ``right`` hits or more in at most 2.5 % of samples."""
        low, high = 0.0, float(right > 0)
        for _ in range(40 if right else 0):
            share = (low + high) / 2
            tail = np.exp(ways + numbers * np.log(share) + (count - numbers) * np.log1p(-share))[right:].sum()
            low, high = (share, high) if tail < 0.025 else (low, share)
        return low

    return lower_end(math.floor(hits)), 1 - lower_end(count - math.ceil(hits))


def character_accuracy(outcome: Outcome) -> float:
    """Share of equal pairs in the cheapest alignment of plate and reading: a symbol too many is wrong too."""
    pairs = edit_alignment(outcome.plate or "", outcome.text or "")
    return sum(a == b for a, b in pairs) / max(1, len(pairs))


STAGES = ("detect_ms", "recognise_ms")  # whose times are measured
MEASURES: dict[str, tuple[str, Callable[[Outcome], bool], Callable[[Outcome], bool | float]]] = {
    # key: (heading, which photos, what is counted)
    "found": ("found", lambda o: o.plate is not None, lambda o: o.found),
    "read": ("read", lambda o: o.plate is not None, lambda o: o.read),
    "read_there": (f"read, IoU > {READ_IOU}", lambda o: o.plate is not None,
                   lambda o: o.read and o.iou > min(READ_IOU, o.iou_threshold)),
    "both": ("both", lambda o: o.plate is not None, lambda o: o.found and o.read),
    "read_not_wan": ("read, not 皖", lambda o: o.plate is not None and o.plate[0] != "皖", lambda o: o.read),
    "read_green": ("read, green", lambda o: o.plate is not None and len(o.plate) == 8, lambda o: o.read),
    "characters": ("characters", lambda o: o.plate is not None, character_accuracy),
    "more_boxes": ("more boxes", lambda o: o.plate is not None, lambda o: o.boxes > 1),
    "false_plates": ("false plates", lambda o: o.plate is None, lambda o: o.boxes > 0),
}


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures of some photos: every measure as a Share (None where no photo counts), and times in ms."""
    row: dict[str, Any] = {"images": len(outcomes)}
    for key, (_, counts, hit) in MEASURES.items():
        row[key] = Share.of(hit(outcome) for outcome in outcomes if counts(outcome))
    for stage in STAGES:
        times = [getattr(outcome, stage) for outcome in outcomes]
        row[stage] = {"median": float(np.median(times)), "p95": float(np.percentile(times, 95))}
    return row


def summarise_subsets(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """``summarise`` for every subset in alphabetical order, and for ``all``."""
    subsets = sorted({outcome.subset for outcome in outcomes})
    rows = {subset: summarise([o for o in outcomes if o.subset == subset]) for subset in subsets}
    return {**rows, ALL: summarise(outcomes)}


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy: for each bin its mean confidence, accuracy and count; ``error`` is their ECE.

    ``left_out`` counts readings of something else than an annotated plate, whose right text nobody knows.
    """

    confidence: list[float]
    accuracy: list[float]
    count: list[int]
    error: float
    left_out: int = 0


def calibrate(confidences: Sequence[float], right: Sequence[bool], bins: int = 10) -> Calibration:
    """Expected calibration error over equal-width bins (Guo et al., ICML 2017)."""
    confidences, right = np.asarray(confidences, float), np.asarray(right, float)
    index = np.minimum((confidences * bins).astype(int), bins - 1)
    used = [number for number in range(bins) if (index == number).any()]
    count = [int((index == number).sum()) for number in used]
    mean = [float(confidences[index == number].mean()) for number in used]
    accuracy = [float(right[index == number].mean()) for number in used]
    error = sum(n * abs(m - a) for n, m, a in zip(count, mean, accuracy)) / max(1, len(confidences))
    return Calibration(mean, accuracy, count, float(error))


def calibrate_readings(outcomes: Sequence[Outcome]) -> Calibration:
    """``calibrate`` on what was read of the annotated plates."""
    readings = [outcome for outcome in outcomes if outcome.read_at_plate]
    calibration = calibrate([outcome.confidence for outcome in readings], [outcome.read for outcome in readings])
    return dataclasses.replace(calibration, left_out=sum(bool(outcome.text) for outcome in outcomes) - len(readings))
