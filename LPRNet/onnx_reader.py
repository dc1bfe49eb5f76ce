"""STNet and LPRNet as two ONNX files: the spatial transforms alone, and both nets to probabilities."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from LPRNet.alphabet import TIME_STEPS, Alphabet
from LPRNet.model.LPRNET import fold_batch_norm
from LPRNet.model.STN import STNet
from platekit.checkpoints import tell_if_apart
from platekit.crops import CROP_SIZE
from platekit.errors import UserError
from platekit.files import file_fingerprint
from platekit.onnx_nets import OnnxNet

if TYPE_CHECKING:
    from LPRNet.recogniser import Reader


class Transforms(nn.Module):
    """What ``stn.onnx`` computes: crops (N, 3, 24, 94) -> spatial transforms (N, 2, 3)."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.stn = reader.stn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stn.theta(x)


class Probabilities(nn.Module):
    """What ``lprnet.onnx`` computes: crops (N, 3, 24, 94) -> probabilities (N, class_num, 18) by time step.

    Not logits: these reach hundreds, of which float32 keeps no four places behind the point.
    """

    places: torch.Tensor

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.stn, self.lprnet = reader.stn, fold_batch_norm(reader.lprnet)
        identity = functional.affine_grid(torch.eye(2, 3)[None], [1, 3, *CROP_SIZE], align_corners=False).flatten(0, 2)
        self.register_buffer("places", torch.cat([identity, torch.ones(len(identity), 1)], dim=1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # ``STNet.sample`` in operators that converters of the file know: they lack affine_grid.
        grid = (self.places @ self.stn.theta(x).transpose(1, 2)).unflatten(1, CROP_SIZE)
        return self.lprnet(functional.grid_sample(x, grid, align_corners=False)).softmax(dim=1)


class OnnxSTN:
    """Called, and asked for its transforms, as STNet."""

    def __init__(self, path: str | os.PathLike) -> None:
        self._net = OnnxNet(path, ("transforms",), CROP_SIZE).must_give((2, 3, *CROP_SIZE), (2, 2, 3))

    def theta(self, x: torch.Tensor) -> torch.Tensor:
        """The transforms (N, 2, 3) of crops (N, 3, 24, 94)."""
        return self._net.outputs(x)[0]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return STNet.sample(x, self.theta(x))


class OnnxReader:
    """Called as ``LPRNet.recogniser.Reader``; its logits are logarithms of probabilities."""

    def __init__(self, lprnet_path: str | os.PathLike, stn_path: str | os.PathLike) -> None:
        self.stn = OnnxSTN(stn_path)
        self._net = OnnxNet(lprnet_path, ("probabilities",), CROP_SIZE)
        try:
            chars, max_length = self._net.facts["chars"], int(self._net.facts["max_length"])
            rows = int(self._net.facts.get("rows", 0)) or None  # which earlier files do not record
        except (KeyError, ValueError):
            raise UserError(f"{lprnet_path} records no alphabet; write the file with 'python LPRNet/export_onnx.py'") \
                from None
        self.alphabet = Alphabet(chars, max_length, rows)
        self._net.must_give((2, 3, *CROP_SIZE), (2, len(self.alphabet), TIME_STEPS))
        tell_if_apart(self._net.facts, lprnet_path, file_fingerprint(stn_path), stn_path)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._net.outputs(x)[0].clamp(min=1e-37).log()


def facts_of(alphabet: Alphabet) -> dict[str, str]:
    """What ``lprnet.onnx`` records of its alphabet."""
    return {name: str(value) for name, value in alphabet.facts.items()}
