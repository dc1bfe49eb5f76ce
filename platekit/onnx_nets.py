"""Networks as ONNX files: written and checked, compared with torch, and run by onnxruntime in torch's place."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import torch
from torch import nn

from platekit.errors import UserError, need
from platekit.files import atomic_path, real_path

PACKAGES = "onnx onnxruntime onnxscript"
LARGEST_DIFFERENCE = 1e-4  # that a file may show beside torch


def is_onnx(path: object) -> TypeGuard[str | os.PathLike]:
    """Whether a path names an ONNX file."""
    return isinstance(path, (str, os.PathLike)) and Path(path).suffix == ".onnx"


class OnnxNet:
    """A network in an ONNX file, called as the torch module it was made of; it runs on the CPU.

    ``facts`` are what was written with it. Raises UserError when the file is missing or is no such network.
    """

    def __init__(self, path: str | os.PathLike, outputs: Sequence[str] = (), size: Sequence[int] = ()) -> None:
        """``outputs`` are the names of the network's, and ``size`` the (height, width) of its input, empty if free."""
        runtime = need("onnxruntime", PACKAGES)
        if not os.path.isfile(path):
            raise UserError(f"{path} not found; write the ONNX files with 'python MTCNN/export_onnx.py' and "
                            "'python LPRNet/export_onnx.py'")
        options = runtime.SessionOptions()
        # Beside torch's own threads, further ones wait for each other longer than such small nets take.
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors alone: what is raised is said below
        try:
            self._session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises many kinds for a broken file
            raise UserError(f"cannot load {path}: {str(error).splitlines()[0][:160]}; export it again") from None
        taken, given = self._session.get_inputs(), [output.name for output in self._session.get_outputs()]
        fixed = [side for node in taken for side in node.shape[2:] if isinstance(side, int)]
        if [(node.name, node.type) for node in taken] != [("x", "tensor(float)")] \
                or (outputs and (given, fixed) != (list(outputs), list(size))):
            raise UserError(f"{path} holds another network than the one needed here; name the right file, or export it "
                            "again")
        self.facts: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self._made_of = os.path.abspath(path), outputs, size

    def must_give(self, size: Sequence[int], *shapes: tuple[int, ...]) -> OnnxNet:
        """The net itself. Raises UserError unless it makes finite numbers of these shapes of zeros of that size."""
        try:
            found = self.outputs(torch.zeros(*size, dtype=torch.float32))
        except Exception:  # onnxruntime raises many kinds
            found = ()
        if [tuple(output.shape) for output in found] != list(shapes) \
                or not all(output.isfinite().all() for output in found):
            wanted = " and ".join(" x ".join(map(str, shape)) for shape in shapes)
            raise UserError(f"{self._made_of[0]} does not make {wanted} finite numbers of {size[0]} grey pictures; "
                            "export it again")
        return self

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), self._made_of  # another process loads the file again

    def __call__(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        outputs = self.outputs(x)
        return outputs if len(outputs) > 1 else outputs[0]

    def outputs(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What a call gives, in a tuple even where it is one tensor."""
        found = self._session.run(None, {"x": x.cpu().contiguous().numpy()})
        return tuple(torch.from_numpy(output).to(x.device) for output in found)


def check_targets(*paths: str | os.PathLike) -> None:
    """UserError unless ONNX files can be made, and each path is one's and no other's."""
    for path in paths:
        if not is_onnx(path):
            raise UserError(f"{path} does not end in .onnx, by which such files are known; name another file")
    if len(set(map(real_path, paths))) < len(paths):
        raise UserError(f"{paths[0]} is named for two networks; name two files")
    for package in PACKAGES.split():
        need(package, PACKAGES)


def export(net: nn.Module, example: torch.Tensor, free: Sequence[int], path: str | os.PathLike,
           outputs: Sequence[str], inputs: dict[str, torch.Tensor], facts: dict[str, str] | None = None) -> None:
    """Write the net, in evaluation mode, to an ONNX file, after onnx has checked it and ``compare`` found it the same.

    The sizes of the dimensions ``free`` of the input are open; ``example`` is at least 2 long there. Raises UserError
    where onnxruntime computes something else; what was at ``path`` is then kept.
    """
    import onnx

    program = torch.onnx.export(net.eval(), (example,), dynamo=True, input_names=["x"], output_names=list(outputs),
                                dynamic_shapes=(dict.fromkeys(free, torch.export.Dim.DYNAMIC),),
                                external_data=False, verbose=False)
    model = program.model_proto  # type: ignore[union-attr]  # with dynamo there is one
    onnx.helper.set_model_props(model, facts or {})
    onnx.checker.check_model(model, full_check=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        compare(net, OnnxNet(temporary), inputs)
    print(f"wrote {path}: {Path(path).stat().st_size / 1e6:.2f} MB, checked by onnx {onnx.__version__}")


@torch.inference_mode()
def compare(net: nn.Module, exported: OnnxNet, inputs: dict[str, torch.Tensor]) -> None:
    """Print the largest difference between a net and its ONNX file on each input; UserError when it is too large."""
    largest = 0.0
    for name, x in inputs.items():
        pairs = zip(_tuple(net(x)), _tuple(exported(x)), strict=True)
        difference = max(float((wanted - found).abs().max()) for wanted, found in pairs)
        print(f"    {name:<12} {' x '.join(map(str, x.shape)):<20} largest difference {difference:.1e}")
        largest = max(largest, difference)
    if not largest <= LARGEST_DIFFERENCE:
        raise UserError(f"onnxruntime differs from torch by up to {largest:.1e}, more than {LARGEST_DIFFERENCE}; try "
                        "other versions of onnxruntime and onnxscript")


def _tuple(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
