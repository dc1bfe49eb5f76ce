"""From Python, and as a wheel: the stages alone, what the wheel holds, and that it works where only it is installed."""

from __future__ import annotations

import dataclasses
import email
import importlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from LPRNet.alphabet import Alphabet
from LPRNet.recogniser import Reader, Recogniser, save_reader
from MTCNN.detector import Detector
from MTCNN.model.MTCNN_nets import ONet, PNet
from platekit.results import PictureResult, Plate
from tests.conftest import ROOT, files_below, make_picture, put_picture

WEIGHTS = ["MTCNN/weights/pnet_Weights", "MTCNN/weights/onet_Weights", "LPRNet/weights/Final_LPRNet_model.pth",
           "LPRNet/weights/Final_STN_model.pth"]
SIX_LINES = """
from platekit.pipeline import PlateReader

reader = PlateReader()
for result in reader(["a.png", "a.png"]):
    print(result.width, result.height)
import platekit, LPRNet.LPRNet_Train, LPRNet.paths, ccpd.dataset
print(platekit.__file__, LPRNet.paths.TRAINED[0], LPRNet.paths.CROPS_TRAIN, ccpd.dataset.SYNTHETIC_FOLDER, sep="\\n")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the checkout (building leaves folders behind)."""
    copy = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("only a git checkout knows which of its files are its own")
    for name in listed.stdout.decode("utf-8", "surrogateescape").split("\0"):
        if name and not name.startswith("tests/") and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    put_picture(copy / "ccpd" / "ccpd_base" / "photo.jpg", make_picture(20, 20))  # a user's data set stays out
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, copy)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--target", folder, wheel)
    return folder


def pip(*arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", arguments[0], "-q", "--no-deps",
                           *map(str, arguments[1:])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run_installed(installed: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding="utf-8")


def test_the_wheel_holds_the_packages_with_their_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = email.message_from_bytes(archive.read(next(n for n in names if n.endswith("METADATA"))))
    files = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in files} == {"ccpd", "LPRNet", "MTCNN", "platekit"}
    assert files >= {*WEIGHTS, "ccpd/geometry.json", "platekit/page.html",
                      *(f"{package}/py.typed" for package in ("ccpd", "LPRNet", "MTCNN", "platekit"))}
    sources = {path.relative_to(ROOT).as_posix() for package in ("ccpd", "LPRNet", "MTCNN", "platekit")
               for path in (ROOT / package).rglob("*.py")}
    assert {name for name in files if name.endswith(".py")} == sources
    assert not [name for name in files if "ccpd_base" in name]
    needed = {line.split(">")[0] for line in metadata.get_all("Requires-Dist") if "extra" not in line}
    assert needed == {"torch", "torchvision", "opencv-python", "numpy", "numba", "imutils", "tqdm"}
    assert metadata.get_all("Provides-Extra") == ["extras"]


SCRIPTS = sorted(path.relative_to(ROOT) for path in ROOT.glob("[!.]*/**/*.py")
                 if path.parts[-2] != "tests" and "    run_script(main" in path.read_text("utf-8"))


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_every_script_has_help_and_takes_a_seed(script, call):
    done = call(importlib.import_module(".".join(script.with_suffix("").parts)).main, "--help")
    assert done.status == 0 and "--seed" in done.out and "--help" in done.out


@pytest.mark.parametrize("tool", ["benchmark", "hostile_inputs", "kill_campaign", "many_photos"])
def test_the_tools_beside_the_tests_start(tool, run_script, tmp_path):
    outcome = run_script(f"tests/{tool}.py", "--help", cwd=tmp_path)
    assert outcome.status == 0 and outcome.out.startswith("usage: "), outcome.err


def test_each_stage_works_alone(tmp_path):
    """The spatial transformer starts as the identity: what it gives back is the crop, to look at."""
    paths = tmp_path / "lprnet.pth", tmp_path / "stn.pth"
    save_reader(Reader(len(Alphabet())), Alphabet(), *paths)
    recogniser = Recogniser(*paths, device="cpu")
    picture = make_picture(60, 200)
    straight = recogniser.straighten(picture, (50, 10, 144, 34))
    assert straight.dtype == np.uint8 and np.abs(straight.astype(int) - picture[10:34, 50:144]).max() <= 2
    assert recogniser.straighten(picture).shape == (24, 94, 3)
    assert recogniser.read_pictures([picture], np.array([[50, 10, 144, 34]])) == recogniser.read_pictures(
        [picture], [(50, 10, 144, 34)])
    assert len(Detector(PNet(), ONet(), "cpu").detect([picture, straight])) == 2
    with pytest.raises(ValueError, match="BGR uint8"):
        recogniser.read_pictures([picture[:, :, 0]])


def test_results_print_well_and_cannot_be_changed():
    plate = Plate((10, 20, 110, 50), 0.998, "皖A12345", 0.987, (0.99,) * 7)
    result = PictureResult(720, 1160, (plate, plate))
    assert str(result).splitlines() == ["皖A12345  confidence 0.987  detection 0.998  box (10, 20, 110, 50)"] * 2
    assert str(PictureResult(720, 1160, ())) == "no plate found"
    with pytest.raises(dataclasses.FrozenInstanceError):
        plate.text = ""


def test_installed_it_works_from_any_directory_and_keeps_its_own_clean(installed, tmp_path):
    put_picture(tmp_path / "a.png", make_picture(120, 160))
    before = [name for name in files_below(installed) if "__pycache__" not in name]
    done = run_installed(installed, tmp_path, sys.executable, "-c", SIX_LINES)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["160 120"] * 2
    assert Path(lines[2]) == installed / "platekit" / "__init__.py"
    # Data and newly trained weights belong below the working directory, not beside the installed code.
    assert [Path(line).as_posix() for line in lines[3:]] == \
        ["LPRNet/weights/Final_LPRNet_model.pth", "LPRNet/data/train", "ccpd/synthetic"]

    for module in ("platekit.read_plates", "platekit.serve"):
        done = run_installed(installed, tmp_path, sys.executable, "-m", module, "--help")
        assert done.returncode == 0 and "--backend" in done.stdout, done.stderr
    done = run_installed(installed, tmp_path, sys.executable, "-m", "LPRNet.data.preprocess", "--help")
    assert done.returncode == 0 and "LPRNet/data" in done.stdout and str(installed) not in done.stdout

    command = str(installed / "bin" / "read-plates")
    done = run_installed(installed, tmp_path, command, "--image", "a.png", "missing.png", "--json", "-")
    assert done.returncode == 1, done.stderr
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == ["a.png", "missing.png"]
    assert files_below(tmp_path) == ["a.png"]
    assert [name for name in files_below(installed) if "__pycache__" not in name] == before
