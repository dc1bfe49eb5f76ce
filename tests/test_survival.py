"""Trainings survive what happens to a computer overnight: kills, full disks, folders that cannot be written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from LPRNet import LPRNet_Train
from MTCNN.data_preprocessing.assemble import assemble
from MTCNN.data_preprocessing.sample_store import SampleWriter
from MTCNN.model.MTCNN_nets import ONET_SIZE, PNET_SIZE
from MTCNN.train import Train_Onet, Train_Pnet
from platekit.errors import UserError
from platekit.files import alone
from platekit.training import Run
from tests.conftest import ROOT, files_below, full_disk, make_picture, needs_locks, put_picture
from tests.kill_campaign import Campaign
from tests.makers import draw_crops, write_list

CPU = ("--device", "cpu", "--float32", "--save_seconds", 0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_scripts_go_on_and_end_with_the_same_bits(tmp_path):
    """The campaign in small; ``python tests/kill_campaign.py`` is the whole."""
    campaign = Campaign(tmp_path, seed=1)
    for stage, kills in (("synthesize", 1), ("gen_Pnet", 2), ("Train_Pnet", 2)):
        campaign.survive(stage, kills)
    assert campaign.counts.kills == 5 and campaign.counts.went_on >= 1
    assert not campaign.counts.broken and not campaign.counts.differing, str(campaign.counts)


@needs_locks
def test_the_loader_processes_of_a_killed_run_keep_nobody_out(tmp_path):
    code = """
import os, sys, time
from platekit.files import alone
with alone(sys.argv[1]):
    if not os.fork():
        print(os.getpid(), flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        try:
            with pytest.raises(UserError, match="another run is writing to"), alone(tmp_path):
                pass
            process.kill()
            process.wait()
            with alone(tmp_path):
                os.kill(child, 0)  # it is still there
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.fixture(params=["Train_Pnet", "LPRNet_Train"])
def training(request, call, tmp_path):
    """``training(folder, *flags)``: a short training with its checkpoints in ``folder / "run"``."""
    if request.param == "Train_Pnet":
        lists = write_list(tmp_path / "data", PNET_SIZE)
        return lambda folder, *flags: call(
            Train_Pnet.main, "--list_train", lists, "--list_val", lists, "--epoch", 2, "--batch_size", 32, "--run",
            folder / "run", "--save", folder / "pnet", *CPU, *flags)
    train, val = draw_crops(tmp_path / "data" / "train", 8, 1), draw_crops(tmp_path / "data" / "val", 2, 2)
    return lambda folder, *flags: call(
        LPRNet_Train.main, "--img_dirs_train", train, "--img_dirs_val", val, "--epoch", 2, "--batch_size", 4,
        "--epoch_samples", 8, "--workers", 0, "--run", folder / "run", "--save", folder / "lprnet", folder / "stn",
        *CPU, *flags)


def good(run: Path) -> bool:
    return all(torch.isfinite(value).all() for value in torch.load(run / "last.pth", weights_only=True)["net"].values())


def test_a_full_disk_ends_a_training_in_one_sentence_and_keeps_its_checkpoint(training, tmp_path):
    assert training(tmp_path).status == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with full_disk(20_000):
        done = training(tmp_path, "--restart")
    assert done.status == 2 and "free some space" in done.sentence()
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before and good(tmp_path / "run")


@pytest.fixture
def read_only(training, tmp_path) -> Iterator[Path]:
    """A folder that this process may not write to: a test as root becomes nobody for its time."""
    folder = Path(tempfile.mkdtemp())
    if os.geteuid():
        folder.chmod(0o555)
        yield folder
        return
    assert training(tmp_path / "first").status == 0  # all is imported now: Python may lie where only root can read it
    modes = {place: place.stat().st_mode for place in (tmp_path, *tmp_path.parents)}
    modes = {place: mode for place, mode in modes.items() if mode & 0o555 != 0o555}
    try:
        for place, mode in {**modes, folder: 0o555}.items():  # the data must be within nobody's reach
            place.chmod(mode | 0o555)
        os.seteuid(65534)
        if not os.access(ROOT / "pyproject.toml", os.R_OK, effective_ids=True):
            pytest.skip("the checkout lies where only root can read it")
        yield folder
    finally:
        os.seteuid(0)
        for place, mode in modes.items():
            place.chmod(mode)
        folder.rmdir()


@pytest.mark.skipif(os.name == "nt", reason="a folder's mode stops nobody on Windows")
def test_a_read_only_folder_ends_a_training_in_one_sentence(training, read_only):
    done = training(read_only)
    assert done.status == 2 and "cannot write" in done.sentence() and str(read_only) in done.sentence()
    assert files_below(read_only) == []


def test_a_loss_that_is_no_number_is_one_sentence_and_the_checkpoint_stays(training, tmp_path, monkeypatch):
    original = Run.train_step

    def poisoned(self, batch, loss, learning_rate):
        def no_number(net, batch):
            value, figures = loss(net, batch)
            return value * (float("nan") if self.step == 3 else 1), figures

        return original(self, batch, no_number, learning_rate)

    monkeypatch.setattr(Run, "train_step", poisoned)
    done = training(tmp_path)
    assert done.status == 2 and "the loss is nan at step 3" in done.sentence() and "--learning_rate" in done.sentence()
    state = torch.load(tmp_path / "run" / "last.pth", weights_only=True)
    assert state["step"] == 3 and all(torch.isfinite(value).all() for value in state["net"].values())
    monkeypatch.undo()
    assert training(tmp_path).status == 0  # and it goes on from there


def test_a_checkpoint_of_another_training_is_refused_and_stays(training, tmp_path):
    assert training(tmp_path).status == 0
    last = tmp_path / "run" / "last.pth"
    before = last.read_bytes()
    done = training(tmp_path, "--learning_rate", 1e-5)
    assert done.status == 2 and "another learning_rate" in done.sentence() and "--restart" in done.sentence()
    assert last.read_bytes() == before


def test_a_checkpoint_of_another_alphabet_or_net_is_refused_and_stays(call, tmp_path):
    (tmp_path / "symbols.txt").write_text("ABCDEFGH")
    flags = ["--img_dirs_train", tmp_path / "train", "--img_dirs_val", tmp_path / "val", "--epoch", 1, "--workers", 0,
             "--rendered_share", 0, "--run", tmp_path / "run", "--save", tmp_path / "a", tmp_path / "b", *CPU]
    for name in ("train/AB_1", "val/CDH_1"):
        put_picture(tmp_path / f"{name}.jpg", make_picture(24, 94))
    assert call(LPRNet_Train.main, *flags, "--alphabet", tmp_path / "symbols.txt").status == 0
    before = (tmp_path / "run" / "last.pth").read_bytes()
    (tmp_path / "symbols.txt").write_text("ABCDEFGHI")
    done = call(LPRNet_Train.main, *flags, "--alphabet", tmp_path / "symbols.txt")
    assert done.status == 2 and "another chars" in done.sentence()
    lists = write_list(tmp_path / "data", PNET_SIZE)
    done = call(Train_Pnet.main, "--list_train", lists, "--list_val", lists, "--run", tmp_path / "run", "--save",
                tmp_path / "pnet", *CPU)
    assert done.status == 2 and str(tmp_path / "run" / "last.pth") in done.sentence()
    assert (tmp_path / "run" / "last.pth").read_bytes() == before and not (tmp_path / "pnet").exists()


@pytest.mark.parametrize(("recipe", "size"), [(Train_Pnet, PNET_SIZE), (Train_Onet, ONET_SIZE)])
def test_a_detector_trains_on_one_sample(recipe, size, call, tmp_path):
    writer = SampleWriter(tmp_path / "samples", size, {})
    pixels = np.full((1, *size, 3), 90, np.uint8)
    writer.add({"positive": (pixels, np.zeros((1, 4))), "part": (pixels[:0], np.zeros((0, 4))),
                "negative": (pixels[:0], np.zeros((0, 4)))})
    writer.finish()
    assemble([tmp_path / "samples"], tmp_path / "list.txt", {"positive": 1, "part": 1, "negative": 1}, None, 0)
    done = call(recipe.main, "--list_train", tmp_path / "list.txt", "--list_val", tmp_path / "list.txt", "--epoch", 1,
                "--run", tmp_path / "run", "--save", tmp_path / "net", *CPU)
    assert done.status == 0 and good(tmp_path / "run"), done.err


def test_lprnet_trains_on_one_crop(call, tmp_path):
    draw_crops(tmp_path / "crops", 1, 1)
    done = call(LPRNet_Train.main, "--img_dirs_train", tmp_path / "crops", "--img_dirs_val", tmp_path / "val",
                "--rendered_share", 0, "--epoch", 1, "--workers", 0, "--run", tmp_path / "run", *CPU,
                "--save", tmp_path / "a", tmp_path / "b")
    assert done.status == 2 and str(tmp_path / "val") in done.sentence()  # an empty set is said
    put_picture(tmp_path / "val" / "京A12345_1.jpg", make_picture(30, 90))
    done = call(LPRNet_Train.main, "--img_dirs_train", tmp_path / "crops", "--img_dirs_val", tmp_path / "val",
                "--rendered_share", 0, "--epoch", 1, "--workers", 0, "--run", tmp_path / "run", *CPU,
                "--save", tmp_path / "a", tmp_path / "b")
    assert done.status == 0 and good(tmp_path / "run"), done.err
