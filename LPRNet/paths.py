"""Where the recogniser's files lie unless a flag says otherwise; the defaults of all its scripts fit together."""

from __future__ import annotations

from pathlib import Path

from platekit.paths import working_folder

PACKAGE = Path(__file__).resolve().parent
LPRNET_WEIGHTS = PACKAGE / "weights" / "Final_LPRNet_model.pth"
STN_WEIGHTS = PACKAGE / "weights" / "Final_STN_model.pth"
COLOUR_WEIGHTS = PACKAGE / "weights" / "Final_colour_model.pth"

WORK = working_folder("LPRNet")
CROPS_TRAIN = WORK / "data" / "train"
CROPS_VAL = WORK / "data" / "val"
RUN = WORK / "runs" / "lprnet"
LPRNET_ONNX, STN_ONNX = (WORK / "weights" / name for name in ("lprnet.onnx", "stn.onnx"))  # exported, not bundled
TRAINED_COLOUR = WORK / "weights" / COLOUR_WEIGHTS.name
TRAINED = [WORK / "weights" / path.name for path in (LPRNET_WEIGHTS, STN_WEIGHTS)]  # in a checkout the bundled ones
