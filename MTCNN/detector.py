"""The detector: PNet over the pyramid, suppression, then ONet in three rounds on what is left.

``tests/plain.py`` is the same in plain PyTorch and gives the same boxes: read that first. Here is its fast form.

Boxes are (x1, y1, x2, y2) in pixels of the picture, see platekit.boxes. They are cut to the picture only at the very
end: a proposal that reaches past the border must keep its size while offsets are applied to it.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar, overload

import numpy as np
import torch

from MTCNN.model.fast import FastONet
from MTCNN.model.MTCNN_nets import ONET_SIZE, PNET_SIZE, ONet, PNet
from MTCNN.paths import ONET_WEIGHTS, PNET_WEIGHTS
from MTCNN.pyramid import ASPECTS, MINI_LP, OWN_SHEET, SCALE, make_sheets, plan_levels
from MTCNN.rough import ONET_SHARE, make_rough
from MTCNN.scan import Found, Scanner, plate_scores
from platekit.boxes import LEAST_SIDE, at_least, box_area, clip_boxes, common_area, decode_offsets, suppress
from platekit.checkpoints import load_weights
from platekit.compiled import survive_forks
from platekit.crops import crop_resize, upload
from platekit.devices import pick_device, without_autocast
from platekit.errors import UserError
from platekit.images import Picture, for_each
from platekit.memory import keep_freed_memory
from platekit.onnx_nets import OnnxNet, is_onnx

Net = TypeVar("Net", PNet, ONet)
ROUNDS = 3  # of ONet
KEPT_MEMORY = 64 << 20  # bytes at most, for the next picture
CROPS = 32  # that ONet takes at a time on the CPU; with 64, whose maps need fresh memory, each takes twice as long
NESTED = 0.7  # share of the smaller of two boxes that lies in the other: both are of one plate then


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What passes from stage to stage; scores are probabilities, overlaps are IoU."""

    pnet_score: float = 0.45  # of PNet's windows
    few: int = 30  # with fewer windows than this above ``pnet_score``, as in the dark, ``pnet_low`` takes its place
    pnet_low: float = 0.3
    pnet_overlap: float = 0.5  # of two proposals that overlap more, the better one stays
    proposals: int = 512  # most that go on to ONet: a plate has 5 to 10
    first_score: float = 0.2  # to get into ONet's next round
    first_low: float = 0.01  # takes the place of ``first_score`` where no plate was found
    first_overlap: float = 0.7  # as ``pnet_overlap``, between ONet's rounds
    refined: int = 512  # most that go on to ONet's next round
    score: float = 0.85  # of a plate, by ONet's last two rounds
    second_score: float = 0.98  # takes the place of ``score`` for what got on by ``first_low``
    overlap: float = 0.3  # as ``pnet_overlap``, of plates


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Plates of one picture, the most certain first."""

    boxes: np.ndarray  # float32 (N, 4), inside the picture
    scores: np.ndarray  # float32 (N,)
    beyond: np.ndarray  # (N,): how far each reached beyond the right edge, over its width

    def __len__(self) -> int:
        return len(self.scores)


THRESHOLDS = Thresholds()


class Look(NamedTuple):
    """One of ONet's rounds: the windows (N, 4) that it saw, the corrected boxes (N, 4), the scores (N,) of the windows,
    and the means (N,) of these and of the scores of the round before."""

    windows: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    means: np.ndarray


class Detector:
    """Finds licence plates. Weights are read once, when it is made."""

    def __init__(self, pnet: PNet | str | os.PathLike = PNET_WEIGHTS, onet: ONet | str | os.PathLike = ONET_WEIGHTS,
                 device: torch.device | str = "auto", mini_lp: tuple[float, float] = MINI_LP, scale: float = SCALE,
                 thresholds: Thresholds = THRESHOLDS, rounds: int = ROUNDS,
                 aspects: Sequence[float] = ASPECTS) -> None:
        """Nets (put into evaluation mode), or paths of their weights or ONNX files. ``mini_lp`` is the (width, height)
        of the smallest plate.

        ``scale`` is the factor between pyramid levels: a larger one searches more sizes and takes longer. ``rounds``
        is how often ONet runs: later rounds see the boxes that the one before corrected; they cost little and place
        boxes better. With 0, PNet's proposals of ``score`` or more are returned. ``aspects`` are the widths over
        heights of PNet's windows. Raises UserError when weights are missing or of another shape, and for impossible
        sizes.
        """
        self.device = pick_device(device)
        survive_forks()
        if np.shape(mini_lp) != (2,):
            raise UserError(f"the smallest plate is a width and a height, not {mini_lp}; change --mini_lp")
        if not isinstance(rounds, (int, np.integer)) or rounds < 0:
            raise UserError(f"the rounds of ONet must be a whole number from 0 on, not {rounds}; change --rounds")
        if self.device.type == "cpu":
            keep_freed_memory(KEPT_MEMORY)
        self.pnet, self.onet = _ready(PNet, pnet), _ready(ONet, onet)
        self.scanner = Scanner(self.pnet, self.device)
        for net in (self.pnet, self.onet):
            if isinstance(net, torch.nn.Module):
                net.to(self.device).to(memory_format=torch.channels_last)
        self._fast_onet = FastONet(self.onet) if type(self.onet) is ONet else self.onet
        self._rough_onet = make_rough(self.onet, self.device)
        self.mini_lp, self.scale, self.thresholds, self.rounds = mini_lp, scale, thresholds, rounds
        self.aspects = tuple(aspects)
        plan_levels(100, 100, mini_lp, scale, aspects)  # refuses what is impossible here, not at the first picture

    @overload
    def detect(self, pictures: Picture) -> Detections: ...

    @overload
    def detect(self, pictures: Iterable[Picture]) -> list[Detections]: ...

    def detect(self, pictures: Picture | Iterable[Picture]) -> Detections | list[Detections]:
        """Plates of one picture (a path, a file's bytes, or BGR uint8 (H, W, 3)), or of each of a list.

        Raises UserError for a file that is no picture, ValueError for an array of another kind.
        """
        return for_each(lambda image: self.find(self.upload(image)), pictures)

    @without_autocast
    @torch.inference_mode()
    def find(self, pixels: torch.Tensor) -> Detections:
        """The plates of a uint8 picture (1, 3, H, W) on the detector's device, best first."""
        boxes, scores = self.refine(pixels, *self.propose(pixels))
        return self.finish(boxes, scores, *pixels.shape[2:])

    def upload(self, image: np.ndarray) -> torch.Tensor:
        """The picture as uint8 (1, 3, H, W) on the device, in channels-last memory order."""
        return upload(image, self.device)

    @torch.inference_mode()
    def scan(self, pixels: torch.Tensor) -> Found:
        """PNet over the whole pyramid of a uint8 picture (1, 3, H, W).

        Returns the windows (N, 4) scored at least ``pnet_score`` (``pnet_low`` where they would be ``few``), their
        offsets (N, 4) and scores (N,), in no order.
        """
        height, width = pixels.shape[2:]
        levels = plan_levels(height, width, self.mini_lp, self.scale, self.aspects)
        # Elsewhere than on the CPU all levels share one sheet: few large calls, and one wait for the answer.
        sheets = make_sheets(pixels, levels, OWN_SHEET if self.device.type == "cpu" else math.inf)
        limits = self.thresholds
        low = min(limits.pnet_low, limits.pnet_score)
        return self.scanner.scan(sheets, height, width, limits.pnet_score, low, limits.few)

    @torch.inference_mode()
    def propose(self, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Proposals of a uint8 picture (1, 3, H, W): boxes (N, 4), scores (N,), the best ``proposals`` at most."""
        return self.choose(*self.scan(pixels))

    def choose(self, windows: np.ndarray, offsets: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The proposals among what ``scan`` returns."""
        best = np.argsort(-scores, kind="stable")[:16 * self.thresholds.proposals]  # bounds the suppression
        boxes, scores = decode_offsets(offsets[best], windows[best]), scores[best]
        sound = at_least(boxes, LEAST_SIDE)  # an untrained net can turn a box inside out
        boxes, scores = boxes[sound], scores[sound]
        kept = suppress(boxes, scores, self.thresholds.pnet_overlap, self.thresholds.proposals)
        return boxes[kept], scores[kept]

    @torch.inference_mode()
    def refine(self, pixels: torch.Tensor, boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """ONet's rounds over proposals in the picture (1, 3, H, W): corrected boxes and their scores.

        Where none of the corrected boxes reaches ``score``, the rounds are repeated with proposals from ``first_low``
        on: a badly placed one may have a score near 0 at first, and near 1 once it is corrected.
        """
        limits = self.thresholds
        if not self.rounds:
            return boxes, scores
        if self.rounds == 1:
            return self.judge(pixels, boxes, limits.score)
        first = self.judge(pixels, boxes, min(limits.first_low, limits.first_score))
        boxes, scores = self.correct(pixels, *first, limits.first_score)
        if not (scores >= limits.score).any():
            boxes, scores = self.correct(pixels, *first, limits.first_low)
            sure = scores >= limits.second_score
            boxes, scores = boxes[sure], scores[sure]
        return boxes, scores

    def correct(self, pixels: torch.Tensor, boxes: np.ndarray, scores: np.ndarray, least: float
                ) -> tuple[np.ndarray, np.ndarray]:
        """ONet's rounds after the first, on what has a score of ``least`` before each: returns as ``refine``.

        The scores are the means of the last two rounds' (of their log-odds): for as many plates, fewer other things
        pass.
        """
        *_, last = self.looks(pixels, boxes, scores, least)
        return last.boxes, last.means

    def looks(self, pixels: torch.Tensor, boxes: np.ndarray, scores: np.ndarray, least: float) -> Iterator[Look]:
        """ONet's rounds after the first, one by one: see ``correct``."""
        limits = self.thresholds
        for _ in range(1, self.rounds):
            kept = np.flatnonzero((scores >= least) & at_least(boxes, LEAST_SIDE))
            kept = kept[suppress(boxes[kept], scores[kept], limits.first_overlap, limits.refined)]
            windows, before = boxes[kept], scores[kept]
            boxes, scores = self.judge(pixels, windows)
            yield Look(windows, boxes, scores, scores_of_mean_odds(before, scores))

    @torch.inference_mode()
    def judge(self, pixels: torch.Tensor, boxes: np.ndarray, least: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """ONet once over ``boxes`` (N, 4): corrected boxes and scores. Boxes that a rough look says
        score below ``least`` may be left out."""
        crops = crop_resize(pixels, boxes)
        if least and self._rough_onet is not None:
            parts = crops.split(2 * CROPS)  # bfloat16 takes half the bytes
            likely = torch.cat([self._rough_onet(part)[:, 0] >= ONET_SHARE * least for part in parts])
            boxes, crops = boxes[likely.numpy()], crops[likely]
        answers = [np.zeros((0, 5), np.float32)]
        for part in crops.split(CROPS if self.device.type == "cpu" else max(1, len(boxes))):
            if len(part):
                offsets, probabilities = self._fast_onet(part.contiguous(memory_format=torch.channels_last))
                answers.append(torch.cat([offsets, probabilities[:, :1]], dim=1).cpu().numpy())
        answer = np.concatenate(answers)
        return decode_offsets(answer[:, :4], boxes), plate_scores(answer[:, 4])

    def finish(self, boxes: np.ndarray, scores: np.ndarray, height: int, width: int) -> Detections:
        """The final choice among boxes (N, 4), which may reach past the border: scores (N,) of at least ``score``, one
        box per plate, cut to the picture."""
        sure = scores >= self.thresholds.score
        clipped = clip_boxes(boxes[sure], height, width)
        inside = at_least(clipped, LEAST_SIDE)
        boxes, clipped, scores = boxes[sure][inside], clipped[inside], scores[sure][inside]
        kept = suppress(clipped, scores, self.thresholds.overlap)
        kept = kept[drop_nested(clipped[kept])]
        beyond = (boxes[kept, 2] - width).clip(min=0) / (boxes[kept, 2] - boxes[kept, 0])
        return Detections(clipped[kept], scores[kept].astype(np.float32), beyond)


def scores_of_mean_odds(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The scores (N,) whose log-odds are the means of those of two scores (N,): float64."""
    first, second = (np.clip(part.astype(np.float64), 1e-12, 1 - 1e-12) for part in (scores, others))
    odds = np.sqrt(first / (1 - first) * (second / (1 - second)))
    return odds / (1 + odds)


def drop_nested(boxes: np.ndarray) -> np.ndarray:
    """Indices of the boxes (N, 4), best first, without those that share more than ``NESTED`` of the smaller box's area
    with a better one.

    Part of a plate inside the whole plate overlaps it by a small IoU only, so that suppression by IoU keeps both.
    """
    area = box_area(boxes)
    shared = common_area(boxes, boxes) > NESTED * np.minimum(area[:, None], area)
    kept: list[int] = []
    for index in range(len(boxes)):  # a handful; a dropped box must not drop others
        if not shared[index, kept].any():
            kept.append(index)
    return np.array(kept, dtype=int)


def _ready(kind: type[Net], source: Net | str | os.PathLike) -> Net | OnnxNet:
    """The net itself, or a new one with the weights read from a path: in evaluation mode.

    An ONNX file becomes a net that onnxruntime runs.
    """
    if is_onnx(source):
        if kind is PNet:
            return OnnxNet(source, ("offsets", "scores")).must_give((1, 3, *PNET_SIZE), (1, 4, 1, 1), (1, 2, 1, 1))
        return OnnxNet(source, ("offsets", "scores"), ONET_SIZE).must_give((2, 3, *ONET_SIZE), (2, 4), (2, 2))
    if isinstance(source, kind):
        net = source
    else:
        net = kind().float()  # whatever the default is
        load_weights(net, source)  # type: ignore[arg-type]  # a path, since it is no net
    return net.eval()
