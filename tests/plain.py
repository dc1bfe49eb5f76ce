"""The published algorithm written straightforwardly: the benchmark's yardstick, and the oracle of the fast path.

Every level is resized from the whole photo, PNet runs on it in float32 and in PyTorch's own memory order, crops are cut
one by one, LPRNet has its 3-D pooling and unfolded batch norm and reads one plate at a time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import nms, roi_align

from LPRNet.alphabet import Alphabet
from LPRNet.model.LPRNET import ChannelStridePool
from LPRNet.recogniser import LOOKS, MARGINS, SURE, load_reader
from MTCNN.detector import ROUNDS, Thresholds, drop_nested, scores_of_mean_odds
from MTCNN.model.MTCNN_nets import PNET_SIZE, PNET_STRIDE, ONet, PNet
from MTCNN.paths import ONET_WEIGHTS, PNET_WEIGHTS
from MTCNN.pyramid import plan_levels
from platekit.checkpoints import load_weights
from platekit.opencv import cv2


class PublishedPool(nn.MaxPool3d):
    """LPRNet's pooling as it was published: over three dimensions, the channels being the first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.unsqueeze(1)).squeeze(1)


def with_published_pools(lprnet: nn.Module) -> nn.Module:
    for index, layer in enumerate(lprnet.backbone):
        if isinstance(layer, ChannelStridePool):
            lprnet.backbone[index] = PublishedPool((1, 3, 3), stride=(layer.step, 1, layer.width_stride))
    return lprnet


def network_input(image: np.ndarray) -> torch.Tensor:
    """BGR uint8 (H, W, 3) as network input (1, 3, H, W)."""
    return torch.from_numpy(((image.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None].copy())


def cut_by_resize(image: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """The box cut at whole pixels, black outside the picture, and resized to ``size`` (height, width)."""
    x1, y1, x2, y2 = np.round(box).astype(int).tolist()
    height, width = image.shape[:2]
    part = image[max(y1, 0):max(y2, 0), max(x1, 0):max(x2, 0)]
    part = cv2.copyMakeBorder(part, max(-y1, 0), max(y2 - height, 0), max(-x1, 0), max(x2 - width, 0),
                              cv2.BORDER_CONSTANT)
    return network_input(cv2.resize(part, size[::-1]))


def cut_exactly(image: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """The box cut as the fast path's documentation says, by torchvision."""
    roi = torch.tensor([[0.0, *box]], dtype=torch.float32)
    return roi_align(network_input(image), roi, size, spatial_scale=1.0, sampling_ratio=-1, aligned=True)


def single_aspect_sizes(height: int, width: int, scale: float = 0.707) -> list[tuple[int, int, int]]:
    """The published pyramid: windows of one aspect, from full size down."""
    sizes, factor = [], 1.0
    while height * factor >= PNET_SIZE[0] and width * factor >= PNET_SIZE[1]:
        sizes.append((int(height * factor), int(width * factor), -1))
        factor *= scale
    return sizes


class PlainReader:
    """Boxes and texts of a picture. ``published``: the single-aspect pyramid and a single look at each crop.

    ``exact`` resamples as the fast path does, to be compared with it; else as cheaply as the published code.
    """

    def __init__(self, published: bool = False, exact: bool = False) -> None:
        self.published, self.exact, self.thresholds = published, exact, Thresholds()
        self.pnet, self.onet = PNet().eval(), ONet().eval()
        load_weights(self.pnet, PNET_WEIGHTS)
        load_weights(self.onet, ONET_WEIGHTS)
        reader, self.alphabet = load_reader()
        self.stn, self.lprnet = reader.stn, with_published_pools(reader.lprnet)
        self.cut = cut_exactly if exact else cut_by_resize

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, list[str]]:
        boxes = self.find(image)
        return boxes, self.read(image, boxes)

    def find(self, image: np.ndarray) -> np.ndarray:
        """Plates (N, 4), the surest first."""
        return self.refine(image, self.suppress(*self.scan(image, self.pyramid(image))))

    def pyramid(self, image: np.ndarray) -> list[np.ndarray]:
        height, width = image.shape[:2]
        sizes = single_aspect_sizes(height, width) if self.published else \
            [(level.height, level.width, level.source) for level in plan_levels(height, width)]
        made: list[np.ndarray] = []
        for high, wide, source in sizes:
            made.append(cv2.resize(made[source] if self.exact and source >= 0 else image, (wide, high)))
        return made

    @torch.no_grad()
    def scan(self, image: np.ndarray, levels: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """PNet level by level: boxes (N, 4) and scores (N,)."""
        boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
        limits = self.thresholds
        for level in levels:
            x = self.pnet.features(network_input(level))
            offsets, score = self.pnet.conv4_2(x)[0].numpy(), self.pnet.conv4_1(x).double().softmax(dim=1)[0, 1].numpy()
            rows, columns = np.nonzero(score >= limits.pnet_low)
            corner = np.stack([columns * PNET_STRIDE[1], rows * PNET_STRIDE[0]], axis=1)
            window = np.concatenate([corner, corner + PNET_SIZE[::-1]], axis=1)
            size = np.tile(PNET_SIZE[::-1], 2)
            scale = np.tile([image.shape[1] / level.shape[1], image.shape[0] / level.shape[0]], 2)
            boxes.append((window + offsets[:, rows, columns].T * size) * scale)
            scores.append(score[rows, columns])
        boxes, scores = np.concatenate(boxes), np.concatenate(scores)
        good = scores >= limits.pnet_score
        return (boxes, scores) if good.sum() < limits.few else (boxes[good], scores[good])

    def suppress(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The proposals (N, 4)."""
        best = np.argsort(-scores, kind="stable")[:16 * self.thresholds.proposals]
        best = best[(boxes[best, 2:] - boxes[best, :2] >= 2).all(axis=1)]
        kept = nms(torch.from_numpy(boxes[best]), torch.from_numpy(scores[best]), self.thresholds.pnet_overlap)
        return boxes[best][kept.numpy()[:self.thresholds.proposals]]

    @torch.no_grad()
    def refine(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """ONet's rounds, then one box per plate."""
        limits = self.thresholds
        if not len(boxes):
            return boxes
        first = self.judge(image, boxes)
        boxes, scores = self.correct(image, *first, limits.first_score, limits.score)
        if not len(boxes):
            boxes, scores = self.correct(image, *first, limits.first_low, limits.second_score)
        height, width = image.shape[:2]
        boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))
        boxes = boxes[nms(boxes.double(), scores, limits.overlap)]
        return boxes[drop_nested(boxes.numpy())].numpy()

    def correct(self, image: np.ndarray, boxes: torch.Tensor, scores: torch.Tensor, least: float, last: float
                ) -> tuple[torch.Tensor, torch.Tensor]:
        """The rounds after the first, on what has a score of ``least`` before each; what has ``last`` after them."""
        limits = self.thresholds
        for _ in range(1, ROUNDS):
            kept = nms(boxes.double(), scores.where(scores >= least, -1), limits.first_overlap)
            kept = kept[scores[kept] >= least][:limits.refined]
            if not len(kept):
                return torch.zeros(0, 4), torch.zeros(0, dtype=torch.float64)
            before = scores[kept]
            boxes, scores = self.judge(image, boxes[kept].numpy())
        scores = torch.from_numpy(scores_of_mean_odds(before.numpy(), scores.numpy()))
        return boxes[scores >= last], scores[scores >= last]

    def judge(self, image: np.ndarray, boxes: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        crops = torch.cat([self.cut(image, box, (24, 94)) for box in boxes])
        x = self.onet.features(crops)
        offsets, scores = self.onet.conv6_2(x), self.onet.conv6_1(x).double().softmax(dim=1)[:, 1]
        anchors = torch.from_numpy(boxes).float()
        return anchors + offsets * (anchors[:, 2:] - anchors[:, :2]).repeat(1, 2), scores

    def read(self, image: np.ndarray, boxes: np.ndarray) -> list[str]:
        """The text of each plate, one after the other."""
        return [self.decode(self.logits(self.look(image, box))) if self.published else self.agreed(image, box)
                for box in boxes]

    def agreed(self, image: np.ndarray, box: np.ndarray) -> str:
        """What the views of a plate agree on: one where it is sure; where not, those of the boxes round it too, and all
        of them in grey."""
        width, height = box[2:] - box[:2]
        views = [box] + [box + np.array([-x * width, -y * height, x * width, y * height]) for x, y in MARGINS]
        crops = [self.look(image, view) for view in views]
        logits = torch.stack(list(map(self.logits, crops)))
        if self.alphabet.decode(logits)[0].confidence >= SURE:
            return self.decode(logits[0])
        text = self.alphabet.agree(logits.unsqueeze(1)).text
        grey = [(0.114 * crop[:, :1] + 0.587 * crop[:, 1:2] + 0.299 * crop[:, 2:]).repeat(1, 3, 1, 1) for crop in crops]
        both = torch.cat([logits, logits, torch.stack(list(map(self.logits, grey)))])
        return text and (self.alphabet.agree(both.unsqueeze(1)).text or text)

    @torch.no_grad()
    def look(self, image: np.ndarray, box: np.ndarray) -> torch.Tensor:
        """The plate's crop (1, 3, 24, 94); the last look's unless ``published``."""
        crop = self.cut(image, box, (24, 94))
        if self.published:
            return crop
        margin = (box[2:] - box[:2]) / 8
        view = self.cut(image, np.concatenate([box[:2] - margin, box[2:] + margin]), (120, 235))
        place = torch.eye(3)[None]  # of the crop in the box
        for _ in range(LOOKS - 1):
            place = place @ torch.cat([self.stn.theta(crop), torch.tensor([[[0.0, 0, 1]]])], dim=1)
            grid = functional.affine_grid(place[:, :2] * 0.8, [1, 3, 48, 188], align_corners=False)  # 0.8: the margin
            crop = functional.avg_pool2d(functional.grid_sample(view, grid, align_corners=False), 2)
        return crop

    @torch.no_grad()
    def logits(self, crop: torch.Tensor) -> torch.Tensor:
        return self.lprnet(self.stn(crop))[0]

    def decode(self, logits: torch.Tensor) -> str:
        text, previous = "", Alphabet().blank
        for index in logits.argmax(dim=0).tolist():
            if index not in (previous, self.alphabet.blank):
                text += self.alphabet.chars[index]
            previous = index
        return text
