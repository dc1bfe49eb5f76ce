"""The recogniser: STNet and LPRNet together, loaded once.

``tests/plain.py`` is the same in plain PyTorch and gives the same texts.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from LPRNet.alphabet import CHARS, Alphabet, Reading
from LPRNet.model.fast import FastReader
from LPRNet.model.LPRNET import LPRNet
from LPRNet.model.STN import STNet, compose
from LPRNet.onnx_reader import OnnxReader, OnnxSTN
from LPRNet.paths import LPRNET_WEIGHTS, STN_WEIGHTS
from LPRNet.rows import Row, places_of
from platekit.boxes import checked_boxes
from platekit.checkpoints import (
    load_state,
    load_weights,
    read_checkpoint,
    save_weights,
    tell_if_apart,
    weights_fingerprint,
)
from platekit.compiled import survive_forks
from platekit.crops import CROP_SIZE, sample_boxes, to_picture, upload, without_colours
from platekit.devices import multiplies_bfloat16, pick_device, without_autocast
from platekit.errors import UserError
from platekit.images import Picture, for_each
from platekit.onnx_nets import is_onnx

LOOKS = 3  # at a plate; the first is the crop of its box
SURE = 0.8  # the confidence from which on one view of a plate is enough
# Other boxes to look at the plate in: how far their sides lie out, over the box's width and height.
MARGINS = (0.03, 0.03), (-0.02, -0.02)
# The same where it may have two rows, with the box itself: by the last two 8 more of 506 such plates are read.
MARGINS_OF_ROWS = (0.0, 0.0), *MARGINS, (0.08, 0.08), (0.0, 0.08)
CROPS = 16  # that the nets take at a time on the CPU; with 64, whose maps leave the caches, each takes half longer


class Reader(nn.Module):
    """STNet, then LPRNet: crops (N, 3, 24, 94) -> logits (N, class_num, 18)."""

    def __init__(self, class_num: int, dropout_rate: float = 0.5, lprnet: type[LPRNet] = LPRNet) -> None:
        super().__init__()
        self.stn = STNet()
        self.lprnet = lprnet(class_num, dropout_rate)

    def forward(self, x: torch.Tensor, with_theta: bool = False) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """The logits; ``with_theta`` also the spatial transforms (N, 2, 3)."""
        theta = self.stn.theta(x)
        logits = self.lprnet(self.stn.sample(x, theta))
        return (logits, theta) if with_theta else logits


def save_reader(reader: Reader, alphabet: Alphabet, lprnet_path: str | os.PathLike,
                stn_path: str | os.PathLike) -> None:
    """Write both nets' weights; LPRNet's file records the alphabet, the length and rows of its plates, and the other.
    """
    save_weights(stn_path, reader.stn)
    save_weights(lprnet_path, reader.lprnet, {**alphabet.facts, "with": weights_fingerprint(reader.stn)})


def load_reader(lprnet_path: str | os.PathLike = LPRNET_WEIGHTS, stn_path: str | os.PathLike = STN_WEIGHTS
                ) -> tuple[Reader, Alphabet]:
    """Both nets from their files, in evaluation mode, and the alphabet recorded there (``CHARS`` where none is)."""
    state, facts = read_checkpoint(lprnet_path, "lprnet")
    alphabet = recorded_alphabet(state, facts, lprnet_path)
    reader = Reader(len(alphabet)).float()  # whatever the default is
    load_state(reader.lprnet, state, lprnet_path)
    load_weights(reader.stn, stn_path, "stn")
    tell_if_apart(facts, lprnet_path, weights_fingerprint(reader.stn), stn_path)
    return reader.eval(), alphabet


def recorded_alphabet(state: dict[str, Any], facts: dict[str, Any], path: str | os.PathLike,
                      other: Alphabet | None = None) -> Alphabet:
    """The alphabet of LPRNet's weights that were read from ``path``; where none is recorded, ``CHARS``, or ``other``
    if that alone has their size. Raises UserError where none has.
    """
    shape = getattr(state.get("container.0.bias"), "shape", None)
    default = other if other and shape == (len(other),) and len(other) != len(CHARS) else Alphabet()
    chars, max_length = facts.get("chars", default.chars), facts.get("max_length", default.max_length)
    rows = facts.get("rows")  # which earlier files do not record
    if not isinstance(chars, (str, tuple)) or not isinstance(max_length, int) or set(map(type, chars)) - {str} \
            or rows not in (None, 1, 2):
        raise UserError(f"{path} records no alphabet but {str(chars)[:80]!r}; name weights of LPRNet")
    if shape != (len(chars),):  # before a net of that size is made
        if shape and "chars" not in facts:
            raise UserError(f"{path} is for {shape[0]} classes and records no alphabet; 'python LPRNet/LPRNet_Train.py "
                            "--alphabet FILE --weights' goes on from it and records one")
        raise UserError(f"{path} does not fit an LPRNet of {len(chars)} classes; name weights of LPRNet")
    return Alphabet(chars, max_length, rows)


def fast_reader(nets: Reader, device: torch.device, dtype: torch.dtype = torch.float32) -> FastReader:
    """The trained nets, in evaluation mode, for inference on the device."""
    reader = FastReader(nets.stn, nets.lprnet, dtype).to(device).to(memory_format=torch.channels_last)
    return reader.pack() if device.type == "cpu" else reader


def boxes_round(boxes: np.ndarray, margins: Sequence[tuple[float, float]] = MARGINS) -> np.ndarray:
    """Boxes (N, 4) moved out by each of the margins: (N * len(margins), 4), those of one box in a row."""
    size = (boxes[:, None, 2:] - boxes[:, None, :2]) * np.array(margins, boxes.dtype)  # (N, M, 2)
    return (boxes[:, None] + np.concatenate([-size, size], axis=2)).reshape(-1, 4)


@torch.no_grad()
def transforms(stn: STNet | OnnxSTN, pixels: torch.Tensor, boxes: np.ndarray, looks: int) -> torch.Tensor:
    """The spatial transforms (N, 2, 3), within each of the ``boxes`` (N, 4) of a uint8 picture (1, 3, H, W), after so
    many looks."""
    theta = torch.eye(2, 3, dtype=torch.float32, device=pixels.device).repeat(len(boxes), 1, 1)
    for _ in range(looks):
        theta = compose(theta, stn.theta(sample_boxes(pixels, boxes, theta)))
    return theta


class Recogniser:
    """Reads plate crops. The nets are loaded once; a reading does not depend on what else is in the batch, but for
    rounding: of 200 real crops no text did, and confidences up to 0.003."""

    reader: FastReader | OnnxReader
    first_reader: FastReader | OnnxReader  # of a plate's first view

    def __init__(self, lprnet_path: str | os.PathLike = LPRNET_WEIGHTS, stn_path: str | os.PathLike = STN_WEIGHTS,
                 device: str | torch.device = "auto", batch_size: int | None = None) -> None:
        """The paths name weights, or ONNX files (.onnx). Raises UserError when they are missing or do not fit.

        ``batch_size`` is how many crops the nets take at a time, by default ``CROPS`` on the CPU and 64 elsewhere.
        """
        self.device = pick_device(device)
        survive_forks()
        if is_onnx(lprnet_path) != is_onnx(stn_path):
            raise UserError(f"of {lprnet_path} and {stn_path} one is an ONNX file; name both as such, or none")
        if is_onnx(lprnet_path):
            self.reader = self.first_reader = OnnxReader(lprnet_path, stn_path)
            self.alphabet = self.reader.alphabet
        else:
            nets, self.alphabet = load_reader(lprnet_path, stn_path)
            self.reader = self.first_reader = fast_reader(nets, self.device)
            # Measured with earlier weights: no text of 2,762 sure plates changes, 99 in 100 confidences by under 0.006.
            if multiplies_bfloat16(self.device):
                self.first_reader = fast_reader(nets, self.device, torch.bfloat16)
        self.places = places_of(self.alphabet)
        if batch_size is not None and batch_size < 1:
            raise UserError(f"the batch size must be at least 1, not {batch_size}")
        self.batch_size = batch_size or (CROPS if self.device.type == "cpu" else 64)
        self._made_of = os.path.abspath(lprnet_path), os.path.abspath(stn_path), self.device, self.batch_size

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), self._made_of  # oneDNN's weights cannot be pickled: another process loads them again

    @without_autocast
    @torch.inference_mode()
    def read(self, pixels: torch.Tensor, boxes: np.ndarray) -> list[Reading]:
        """Readings of the plates in ``boxes`` (N, 4) of one uint8 picture (1, 3, H, W).

        Each plate is looked at ``LOOKS`` times. In the crop of the box a turned plate fills only part of 24 x 94
        pixels, and one that reaches past the box is cut off. So the region that the spatial transformer finds is
        sampled anew from the picture, and the transformer looks at that once more. The last look goes through both
        nets, in bfloat16 on processors that multiply such numbers in hardware. Where the confidence is below ``SURE``
        more views are read (``read_views``); where there is then no text, two rows (``read_rows``). Where nothing is
        read the confidence is 0.
        """
        boxes = checked_boxes(boxes)
        if not len(boxes):
            return []
        crops = self.looks(pixels, boxes)
        logits = self.logits(crops, self.first_reader)
        readings = self.alphabet.decode(logits)
        doubtful = [index for index, reading in enumerate(readings) if reading.confidence < SURE]
        if doubtful:
            for index, reading in zip(doubtful, self.read_views(pixels, boxes[doubtful], crops[doubtful])):
                readings[index] = reading
        empty = [index for index, reading in enumerate(readings) if not reading.text]
        if empty and self.places:
            for index, reading in zip(empty, self.read_rows(pixels, boxes[empty])):
                readings[index] = reading
        return [reading if reading.text else Reading("", 0.0) for reading in readings]

    def read_views(self, pixels: torch.Tensor, boxes: np.ndarray, crops: torch.Tensor) -> list[Reading]:
        """What the views of each plate agree on (``Alphabet.agree``), in float32: ``crops`` (N, 3, 24, 94) of its box,
        those of other boxes round it, and all of them in grey; those with their colours count twice."""
        others = self.looks(pixels, boxes_round(boxes)).unflatten(0, (len(boxes), -1))
        crops = torch.cat([crops.unsqueeze(1), others], dim=1).flatten(0, 1)

        def by_view(part: torch.Tensor) -> torch.Tensor:  # (N, views, 1, class, T)
            return self.logits(part, self.reader).unflatten(0, (len(boxes), -1)).unsqueeze(2)

        coloured, grey = by_view(crops), by_view(without_colours(crops))
        readings = []
        for views, in_grey in zip(coloured, grey):
            reading = self.alphabet.agree(views)
            if reading.text:  # if not, it may have two rows
                agreed = self.alphabet.agree(torch.cat([views, views, in_grey]))
                reading = agreed if agreed.text else reading
            readings.append(reading)
        return readings

    def read_rows(self, pixels: torch.Tensor, boxes: np.ndarray) -> list[Reading]:
        """What is read of plates of two rows (LPRNet/rows.py): they are looked for in more boxes, and read in bfloat16
        where the first view is."""
        views = boxes_round(boxes, MARGINS_OF_ROWS)
        logits = self.logits(self.looks(pixels, views, self.places), self.first_reader)
        return [dataclasses.replace(self.alphabet.agree(of_plate), rows=2)
                for of_plate in logits.unflatten(0, (len(boxes), -1, len(self.places)))]

    def logits(self, crops: torch.Tensor, reader: Callable) -> torch.Tensor:
        """A reader's logits (N, class_num, T) for crops (N, 3, 24, 94)."""
        return torch.cat([reader(part) for part in crops.split(self.batch_size)])

    def looks(self, pixels: torch.Tensor, boxes: np.ndarray, places: Sequence[Sequence[Row]] = ()) -> torch.Tensor:
        """``look`` at any number of boxes, a batch at a time."""
        starts = range(0, len(boxes), self.batch_size)
        return torch.cat([self.look(pixels, boxes[start:start + self.batch_size], places) for start in starts])

    @torch.no_grad()
    def look(self, pixels: torch.Tensor, boxes: np.ndarray, places: Sequence[Sequence[Row]] = ()) -> torch.Tensor:
        """The crops (N, 3, 24, 94) of the last look.

        With ``places`` of rows, the rows side by side, as of a plate that has them: (N * len(places), 3, 24, 94),
        those of one box in a row.
        """
        theta = transforms(self.reader.stn, pixels, boxes, LOOKS - 1)
        if not places:
            return sample_boxes(pixels, boxes, theta)

        def part(row: Row) -> torch.Tensor:
            crop = sample_boxes(pixels, boxes, compose(theta, row.theta.to(theta.device)))
            return functional.adaptive_avg_pool2d(crop, (CROP_SIZE[0], row.columns))

        side_by_side = [torch.cat([part(row) for row in rows], dim=3) for rows in places]
        return torch.stack(side_by_side, dim=1).flatten(0, 1)

    def read_pictures(self, pictures: Iterable[Picture], boxes: Iterable[Sequence[float]] | None = None
                      ) -> list[Reading]:
        """Readings of pictures (paths, files' bytes, or BGR uint8 (H, W, 3)) of one plate each: in its box, or filling
        the picture.

        Raises UserError for a file that is no picture; ValueError for an array of another kind, a box without area,
        another number of boxes than of pictures, and one picture instead of several.
        """
        if isinstance(pictures, (str, os.PathLike, bytes)):
            raise ValueError("read_pictures takes several pictures; give a list")
        pairs = zip(pictures, itertools.repeat(None) if boxes is None else boxes, strict=boxes is not None)
        return [self.read(*self.prepare(for_each(lambda image: image, picture), box))[0] for picture, box in pairs]

    @without_autocast
    @torch.inference_mode()
    def straighten(self, picture: np.ndarray, box: Sequence[float] | None = None) -> np.ndarray:
        """What LPRNet gets to see of a picture of one plate, to look at: BGR uint8 (24, 94, 3)."""
        return to_picture(self.reader.stn(self.look(*self.prepare(picture, box)))[0])

    def prepare(self, picture: np.ndarray, box: Sequence[float] | None = None) -> tuple[torch.Tensor, np.ndarray]:
        """A BGR uint8 picture and the box of its plate, by default all of it, as ``read`` takes them.

        A box that reaches further out of the picture than the picture is large is cut there: it would take memory.
        Raises ValueError for any other array, and for a box without area.
        """
        pixels = upload(picture, self.device)
        height, width = picture.shape[:2]
        boxes = checked_boxes([(0, 0, width, height) if box is None else box])
        size = np.array([width, height, width, height], np.float32)
        cut = boxes.clip(-size, 2 * size)
        return pixels, cut if (cut[:, 2:] > cut[:, :2]).all() else boxes  # far outside there is nothing to cut
