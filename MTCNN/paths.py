"""Where the detector's files lie unless a flag says otherwise; the defaults of all its scripts fit together."""

from __future__ import annotations

from pathlib import Path

from platekit.paths import working_folder

PACKAGE = Path(__file__).resolve().parent

PNET_WEIGHTS = PACKAGE / "weights" / "pnet_Weights"
ONET_WEIGHTS = PACKAGE / "weights" / "onet_Weights"

WORK = working_folder("MTCNN")
TRAINED_PNET, TRAINED_ONET = (WORK / "weights" / path.name for path in (PNET_WEIGHTS, ONET_WEIGHTS))
PNET_ONNX, ONET_ONNX = (WORK / "weights" / name for name in ("pnet.onnx", "onet.onnx"))  # exported, not bundled

PHOTOS_TRAIN = WORK / "data_set" / "ccpd_train"
PHOTOS_VAL = WORK / "data_set" / "ccpd_val"

SAMPLES = WORK / "data_set" / "samples"  # <net>_train and <net>_val folders, one per split
LISTS = WORK / "data_set" / "lists"  # imglist_<net>_train.txt and imglist_<net>_val.txt
RUNS = WORK / "train" / "runs"  # one folder per net


def samples_folder(net: str, split: str) -> Path:
    """Folder of the generated samples of ``net`` ("pnet", "onet") and ``split`` ("train", "val")."""
    return SAMPLES / f"{net}_{split}"


def list_file(net: str, split: str) -> Path:
    """The assembled training list of ``net`` and ``split``."""
    return LISTS / f"imglist_{net}_{split}.txt"
