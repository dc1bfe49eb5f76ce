"""The whole chain as the README tells it: 60 stand-in photos, every script, through to weights that main.py uses.

The scripts run in a copy of the code, so that their own default paths are used: no step is told where the step before
it wrote. They are started from another directory, by turns as file and as module.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ccpd.annotation import has_annotation, parse
from LPRNet.alphabet import CHARS
from tests.conftest import ROOT, files_below, lines_of

PACKAGES = ("ccpd", "LPRNet", "MTCNN", "platekit")
# (script, as module, its flags, the next script it must name)
CHAIN = (
    ("ccpd/synthesize.py", False, "--count 6 --seed 1", "MTCNN/data_set/preprocess.py"),
    ("MTCNN/data_set/preprocess.py", True, "--val_share 0.2", "gen_Pnet_train_data.py"),
    ("MTCNN/data_preprocessing/gen_Pnet_train_data.py", False, "--views 2 --views_val 1", "assemble_Pnet_imglist.py"),
    ("MTCNN/data_preprocessing/assemble_Pnet_imglist.py", True, "", "Train_Pnet.py"),
    ("MTCNN/train/Train_Pnet.py", False, "--epoch 4 --batch_size 64 --device cpu", "gen_Onet_train_data.py"),
    ("MTCNN/data_preprocessing/gen_Onet_train_data.py", True, "--views 1 --views_val 1 --mini_lp 80 24",
     "assemble_Onet_imglist.py"),
    ("MTCNN/data_preprocessing/assemble_Onet_imglist.py", False, "", "Train_Onet.py"),
    ("MTCNN/train/Train_Onet.py", True, "--epoch 2 --batch_size 64 --device cpu", "python "),
    ("LPRNet/data/preprocess.py", False, "", "LPRNet_Train.py"),
    ("LPRNet/LPRNet_Train.py", True, "--epoch 2 --epoch_samples 64 --batch_size 16 --workers 0 --device cpu",
     "LPRNet_Test.py"),
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The code alone, without data, runs and weights."""
    copy = tmp_path / "checkout"
    for package in PACKAGES:
        for folder, below, files in os.walk(ROOT / package):
            below[:] = [name for name in below if (Path(folder) / name / "__init__.py").is_file()]
            target = copy / os.path.relpath(folder, ROOT)
            target.mkdir(parents=True)
            for name in files:
                if name.endswith((".py", ".json")):
                    shutil.copy(Path(folder) / name, target)
    for name in ("main.py", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    return copy


def count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.rglob(pattern))


def test_from_no_photo_to_weights_that_read(run_script, checkout, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    mtcnn, lprnet = checkout / "MTCNN", checkout / "LPRNet"
    for script, module, flags, following in CHAIN:
        done = run_script(script, *flags.split(), cwd=elsewhere, module=module, root=checkout)
        assert done.status == 0, f"{script}: {done.out}{done.err}"
        assert "Traceback" not in done.err and "Warning" not in done.err, done.err
        (line,) = [line for line in done.out.splitlines() if "next: " in line]
        assert following in line.partition("next: ")[2], script
        assert str(checkout) in done.out, f"{script} does not say what it read or wrote"
        check(script, mtcnn, lprnet, checkout)
    assert files_below(elsewhere) == []  # a default path that depends on the directory would leave something here

    # The last step of the chain: readings of crops, and of whole photos, as file and as module.
    done = run_script("LPRNet/LPRNet_Test.py", "--device", "cpu", cwd=elsewhere, root=checkout)
    assert done.status == 0 and "all: " in done.out, done.err
    photos = sorted((mtcnn / "data_set" / "ccpd_val").rglob("*.jpg"))
    done = run_script("main.py", "--image", mtcnn / "data_set" / "ccpd_val", "--json", "plates.jsonl",
                      "--output", "drawn", "--device", "cpu", cwd=elsewhere, root=checkout)
    assert done.status == 0, done.err
    lines = lines_of(elsewhere / "plates.jsonl")
    assert [line["image"] for line in lines] == [str(path) for path in photos]
    assert all((line["width"], line["height"]) == (720, 1160) and "error" not in line for line in lines)
    assert count(elsewhere / "drawn", "*.jpg") == len(photos)
    done = run_script("main.py", "--image", photos[0], "--json", "-", "--device", "cpu", cwd=elsewhere, root=checkout,
                      module=True)
    assert done.status == 0 and json.loads(done.out)["plates"] == lines[0]["plates"]


def check(script: str, mtcnn: Path, lprnet: Path, checkout: Path) -> None:
    """What the step has left behind."""
    name = Path(script).stem
    data = mtcnn / "data_set"
    if name == "synthesize":
        photos = sorted((checkout / "ccpd" / "synthetic").rglob("*.jpg"))
        assert len(photos) == 60 and {path.parent.name for path in photos} >= {"ccpd_base", "ccpd_np", "ccpd_tilt"}
        assert cv2.imdecode(np.fromfile(photos[0], np.uint8), 1).shape == (1160, 720, 3)
    elif script == "MTCNN/data_set/preprocess.py":
        train, val = (sorted((data / f"ccpd_{split}").rglob("*.jpg")) for split in ("train", "val"))
        assert len(train) + len(val) == 60 and min(len(train), len(val)) >= 5
        plates = [{parse(path).plate for path in side if has_annotation(path)} for side in (train, val)]
        assert plates[0] and plates[1] and not plates[0] & plates[1]
    elif name.startswith("gen_"):
        for split in ("train", "val"):
            folder = data / "samples" / f"{name[4:8].lower()}_{split}"
            assert count(folder, "*.npy") == 3 and len(files_below(folder)) < 12  # arrays, not a file per sample
    elif name.startswith("assemble_"):
        for split in ("train", "val"):
            rows = (data / "lists" / f"imglist_{name[9:13].lower()}_{split}.txt").read_text().splitlines()
            assert len([row for row in rows if not row.startswith("#")]) > 30
    elif name.startswith("Train_"):
        net = name[6:].lower()
        state = torch.load(mtcnn / "weights" / f"{net}_Weights", weights_only=True)
        assert sum(value.numel() for value in state.values()) == {"pnet": 10_664, "onet": 394_662}[net]
        log = lines_of(mtcnn / "train" / "runs" / net / "log.jsonl")
        assert log[-1]["loss"] < log[0]["loss"]
    elif script == "LPRNet/data/preprocess.py":
        for split in ("train", "val"):
            photos = [path for path in (data / f"ccpd_{split}").rglob("*.jpg") if has_annotation(path)]
            crops = sorted((lprnet / "data" / split).iterdir())
            assert sorted(path.name.split("_")[0] for path in crops) == sorted(parse(path).plate for path in photos)
    elif name == "LPRNet_Train":
        state = torch.load(lprnet / "weights" / "Final_LPRNet_model.pth", weights_only=True)
        assert state["container.0.bias"].shape == (len(CHARS),)
        assert "fc_loc.2.bias" in torch.load(lprnet / "weights" / "Final_STN_model.pth", weights_only=True)
