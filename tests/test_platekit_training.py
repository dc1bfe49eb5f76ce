"""The training loop: schedule, order, resuming to the same bits, and what stops it."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from platekit.arguments import seed_number
from platekit.devices import trains_in_bfloat16
from platekit.errors import UserError
from platekit.loaders import check_shared_memory, check_workers
from platekit.revision import code_revision
from platekit.signals import stop_on_signal
from platekit.training import (
    EpochBatches,
    Run,
    Settings,
    check_run,
    start_weights,
)
from tests.conftest import ROOT, lines_of, needs_locks

SETTINGS = Settings(epochs=3, batch_size=4, learning_rate=0.05, warmup_steps=3, bfloat16=False, seed=5)
CPU = torch.device("cpu")


class Noisy(Dataset):
    """Points on a line; the noise of a sample follows from its seed, as an augmentation does."""

    def __init__(self, size: int = 17, fatal: int | None = None) -> None:
        self.size, self.fatal, self.keys = size, fatal, []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        index, seed = key
        self.keys.append(key)
        if self.fatal is not None and len(self.keys) > self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        noise = torch.randn(3, generator=torch.Generator().manual_seed(seed % 2**31))
        return torch.full((3,), index / self.size) + 0.1 * noise, torch.tensor([index / self.size])


class Net(nn.Module):
    """Has what makes resuming hard: dropout, buffers that batches change, and weights for each of the optimisers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Linear(3, 16), nn.BatchNorm1d(16)
        self.inner, self.drop, self.last = nn.Linear(16, 16), nn.Dropout(0.5), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.drop(self.inner(self.norm(self.first(x)))))


def collate(samples):
    return tuple(torch.stack(part) for part in zip(*samples))


@pytest.mark.parametrize(("half", "gains", "dtype"), [
    (True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)])
def test_mixed_precision_is_for_devices_that_gain_by_it(tmp_path, monkeypatch, half, gains, dtype):
    monkeypatch.setattr("platekit.training.trains_in_bfloat16", lambda device: gains)
    seen = []

    def loss_of(net, batch):
        answers = net(batch[0])
        seen.append(answers.dtype)
        return answers.square().mean(), {}

    run = Run(tmp_path, Net(), dataclasses.replace(SETTINGS, bfloat16=half), CPU)
    run.train_step(collate([Noisy()[index, 0] for index in range(4)]), loss_of, 0.1)
    assert seen == [dtype]


@pytest.mark.parametrize("able", [True, False])
def test_a_processor_trains_in_bfloat16_when_it_multiplies_such_numbers(monkeypatch, able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    assert trains_in_bfloat16(CPU) == (able and torch.backends.mkldnn.is_available())


@pytest.mark.parametrize("capability, able", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_of_several_gpus_each_trains_as_it_can(monkeypatch, capability, able):
    monkeypatch.setattr(torch.cuda, "get_device_capability", {torch.device("cuda:1"): capability}.get)
    assert trains_in_bfloat16(torch.device("cuda:1")) is able


def loss(net, batch):
    points, wanted = batch
    if net.training and len(points) == 1:  # batch norm takes no batch of one
        net.norm.eval()
    value = (net(points) - wanted).square().mean()
    net.norm.train(net.training)
    return value, {"twice": 2 * value.item(), "one": 1.0}


def evaluate(net):
    with torch.inference_mode():
        points = torch.linspace(0, 1, 20)[:, None].expand(20, 3)
        return {"score": -(net(points) - points[:, :1]).square().mean().item()}


def start(folder: Path, settings: Settings = SETTINGS, save_seconds: float = 120, facts: dict | None = None) -> Run:
    run = Run(folder, Net(), settings, CPU, facts or {"chars": "AB-"}, save_seconds)
    run.resume()
    return run


def state_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def reference(tmp_path: Path) -> tuple[dict, dict, dict]:
    """What an uninterrupted run ends with: its net, its average, and the best net."""
    run = start(tmp_path / "reference")
    best = run.train(Noisy(), collate, loss, evaluate)
    return state_of(run.net), state_of(run.average), state_of(best)


def test_the_rate_warms_up_then_falls_and_never_rises_again():
    settings = Settings(epochs=1, batch_size=1, learning_rate=0.5, warmup_steps=10)
    rates = [settings.learning_rate_at(step, 100) for step in range(300)]
    assert rates[0] == pytest.approx(0.05) and max(rates) == pytest.approx(0.5) == rates[10]
    assert all(first < second for first, second in pairwise(rates[:10]))
    assert all(first >= second for first, second in pairwise(rates[10:]))
    assert set(rates[100:]) == {0.0}
    short = [settings.learning_rate_at(step, 4) for step in range(20)]  # shorter than the warm-up
    assert max(short) <= 0.5


def test_an_epoch_has_every_index_once_in_another_order_each_time():
    batches = EpochBatches(23, 5, seed=1)
    epochs = []
    for batches.epoch in range(3):
        epoch = list(batches)
        assert [len(batch) for batch in epoch] == [5, 5, 5, 5, 3] and len(batches) == 5
        keys = [key for batch in epoch for key in batch]
        assert sorted(index for index, _ in keys) == list(range(23))
        assert len({seed for _, seed in keys}) == 23
        epochs.append(keys)
    assert len({tuple(index for index, _ in keys) for keys in epochs}) == 3
    assert not {seed for _, seed in epochs[0]} & {seed for _, seed in epochs[1]}
    batches.epoch, batches.first = 2, 3  # the rest of an epoch is the same rest
    assert [key for batch in batches for key in batch] == epochs[2][15:]
    other = EpochBatches(23, 5, seed=2)
    assert [key for batch in other for key in batch] != epochs[0]


def test_the_average_forgets_its_start_and_then_moves_slowly(tmp_path):
    run = start(tmp_path, dataclasses.replace(SETTINGS, average_decay=0.9))
    for step, moved in ((0, 1.0), (1, 9 / 11), (10_000, 0.1)):
        for net, value in ((run.average, 0), (run.net, 1)):
            for tensor in net.state_dict().values():
                tensor.fill_(value)
        run.step = step
        run.update_average()
        for tensor in run.average.state_dict().values():
            assert tensor.float().flatten()[0].item() == pytest.approx(moved if tensor.is_floating_point() else 1)


def test_it_learns_logs_and_keeps_the_best(tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=25)
    before = evaluate(Net().eval())["score"]
    run = start(tmp_path, settings)
    best = run.train(Noisy(), collate, loss, evaluate)
    rows = lines_of(tmp_path / "log.jsonl")
    assert [row["epoch"] for row in rows] == list(range(1, 26))
    assert all({"loss", "twice", "score", "learning_rate", "seconds", "revision"} <= set(row) for row in rows)
    assert rows[3]["twice"] == pytest.approx(2 * rows[3]["loss"]) and {row["one"] for row in rows} == {1}
    assert [row["learning_rate"] for row in rows] == [settings.learning_rate_at(step, 125) for step in range(4, 125, 5)]
    assert not best.training and evaluate(best)["score"] == pytest.approx(max(row["score"] for row in rows))
    assert evaluate(best)["score"] > before / 4  # a score is minus the error


def test_a_step_clips_the_gradient_and_decays_the_weights_as_the_settings_say(tmp_path):
    run = start(tmp_path, dataclasses.replace(SETTINGS, clip_norm=0.01, weight_decay=0.3))
    run.train_step(collate([Noisy()[index, 0] for index in range(4)]), loss, 0.1)
    assert torch.cat([weight.grad.flatten() for weight in run.net.parameters()]).norm().item() == pytest.approx(0.01)
    groups = [group for optimizer in run.optimizers for group in optimizer.param_groups]
    assert [(group["weight_decay"], group["lr"]) for group in groups] == [(0.3, 0.1)] * 2
    assert groups[1]["params"] == [run.net.inner.weight]
    assert sum(len(group["params"]) for group in groups) == len(list(run.net.parameters()))


def test_the_best_weights_are_kept_when_later_epochs_are_worse(tmp_path):
    scores, nets = iter([1.0, 5.0, 2.0]), []

    def judged(net):
        nets.append(state_of(net))
        return {"score": next(scores)}

    best = start(tmp_path).train(Noisy(), collate, loss, judged)
    assert same(state_of(best), nets[1]) and not same(nets[1], nets[2])


def test_weights_it_began_with_stay_in_a_draw(tmp_path):
    for name, given, kept in (("draw", [3.0, 3.0, 2.0, 3.0], 0), ("better", [3.0, 4.0, 4.0, 2.0], 2)):
        scores, nets = iter(given), []

        def judged(net, scores=scores, nets=nets):
            nets.append(state_of(net))
            return {"score": next(scores)}

        best = start(tmp_path / name).train(Noisy(), collate, loss, judged, trained=True)
        assert same(state_of(best), nets[kept])


class Crash(Exception):
    """What stops a run in the middle of an epoch."""


@pytest.mark.parametrize("at", [2, 7, 13])
def test_a_run_that_crashed_in_an_epoch_ends_with_the_same_bits(tmp_path, reference, at):
    calls = 0

    def crashing(net, batch):
        nonlocal calls
        calls += 1
        if calls > at:
            raise Crash
        return loss(net, batch)

    with pytest.raises(Crash):
        start(tmp_path / "run", save_seconds=0).train(Noisy(), collate, crashing, evaluate)
    run = start(tmp_path / "run")
    assert run.step == at  # five batches an epoch: 2, 7 and 13 lie inside epochs
    best = run.train(Noisy(), collate, loss, evaluate)
    assert same(state_of(run.net), reference[0])
    assert same(state_of(run.average), reference[1])
    assert same(state_of(best), reference[2])
    first, second = (
        [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "samples_per_second", "revision")}
         for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in ("reference", "run"))
    assert first == second


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize("at", [2, 5, 7])
def test_a_polite_kill_lets_the_step_end_and_saves_it(tmp_path, reference, capsys, number, ends, at):
    calls = 0

    def interrupted(net, batch):
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), number)
        return loss(net, batch)

    with pytest.raises(ends) as end:
        start(tmp_path / "run").train(Noisy(), collate, interrupted, evaluate)
    assert calls == at and getattr(end.value, "code", 143) == 143
    assert f"stopped and saved after {at} of 15 steps; the same command goes on" in capsys.readouterr().err
    run = start(tmp_path / "run")
    assert run.step == at and len(run.log) == at // 5  # five batches an epoch
    best = run.train(Noisy(), collate, loss, evaluate)
    assert same(state_of(run.net), reference[0]) and same(state_of(best), reference[2])


def test_a_polite_kill_when_all_steps_are_done_loses_nothing(tmp_path, reference, capsys):
    """Its weights are still to be written."""
    def interrupted(net):
        if run.step == 15:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(net)

    run = start(tmp_path / "run")
    assert same(state_of(run.train(Noisy(), collate, loss, interrupted)), reference[2])
    assert "all steps are done" in capsys.readouterr().err


def test_what_goes_on_after_a_restart_is_the_command_without_it(tmp_path, capsys):
    def interrupted(net, batch):
        os.kill(os.getpid(), signal.SIGINT)
        return loss(net, batch)

    run = start(tmp_path / "run")
    run.resume(restart=True)
    with pytest.raises(KeyboardInterrupt):
        run.train(Noisy(), collate, interrupted, evaluate)
    assert "the same command, without --restart, goes on" in capsys.readouterr().err


def test_weights_that_a_training_replaces_are_no_start(tmp_path):
    args = argparse.Namespace(epoch=1, batch_size=1, learning_rate=1e-3, workers=0, save_seconds=1, run=tmp_path)
    check_run(args, [tmp_path / "saved"], [tmp_path / "saved", tmp_path / "other" / "best.pth"])
    for name in ("best.pth", "last.pth"):
        with pytest.raises(UserError, match=f"{name} is a file that this training replaces; copy it elsewhere"):
            check_run(args, [], [tmp_path / "other", tmp_path / "x" / ".." / name])


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.skipif(sys.platform == "win32", reason="there are no groups of processes there")
def test_a_signal_to_all_processes_of_a_group_loses_no_step(tmp_path, workers, number):
    """As timeout and systemd send it: loader processes must not die of it before the step is saved."""
    code = ("import signal, sys, torch\nsignal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # nohup ignores it
            "torch.multiprocessing.set_start_method('spawn')\n"  # forked ones have this process's way with signals
            "from pathlib import Path\ntorch.set_num_threads(1)\n"
            "from tests.test_platekit_training import *\n"
            "def said(net, batch):\n    print('a step', flush=True)\n    return loss(net, batch)\n"
            f"start(Path(sys.argv[1])).train(Noisy(40_000), collate, said, evaluate, workers={workers})\n")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE,
                          start_new_session=True) as process:
        for _ in range(2):  # by then both loader processes have begun
            process.stdout.readline()
        os.killpg(process.pid, getattr(signal, number))
        process.stdout.read()
    assert process.returncode == 128 + getattr(signal, number) and start(tmp_path / "run").step > 0


def test_a_second_signal_acts_as_usual_and_ignored_ones_stay_so(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    came = []
    usual = signal.signal(signal.SIGTERM, lambda *_: came.append("usual"))
    try:
        with stop_on_signal(lambda: came.append("stop")) as signals:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
                os.kill(os.getpid(), number)
        assert came == ["stop", "usual"] and signals == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert came == ["stop", "usual", "usual"]
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, usual)


def test_loader_processes_that_would_wait_for_ever_are_refused(tmp_path, monkeypatch):
    if not os.path.isdir("/dev/shm"):
        pytest.skip("this system shares no memory there")
    check_shared_memory(2, Noisy(), collate, 4)
    monkeypatch.setattr("shutil.disk_usage", lambda path: argparse.Namespace(free=640))  # samples have 16 bytes
    check_shared_memory(2, Noisy(), collate, 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--shm-size"):
        check_shared_memory(2, Noisy(), collate, 4)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    monkeypatch.setattr("shutil.disk_usage", lambda path: argparse.Namespace(free=100))
    with pytest.raises(UserError, match="--shm-size"):
        start(tmp_path).train(Noisy(), collate, loss, evaluate, workers=2)

    def read_only() -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("multiprocessing.Semaphore", read_only)
    monkeypatch.undo()
    monkeypatch.setattr("multiprocessing.Semaphore", read_only)
    with pytest.raises(UserError, match="--workers 0"):
        start(tmp_path).train(Noisy(), collate, loss, evaluate, workers=2)
    check_workers(0)


def test_a_gpu_without_room_is_a_sentence(tmp_path):
    def full(net, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(UserError, match="smaller --batch_size"):
        start(tmp_path).train(Noisy(), collate, full, evaluate)


def test_a_killed_process_ends_with_the_same_bits(tmp_path, reference):
    code = ("import sys, torch\nfrom pathlib import Path\ntorch.set_num_threads(1)\n"
            "from tests.test_platekit_training import *\n"
            "start(Path(sys.argv[1]), save_seconds=0).train(Noisy(fatal=30), collate, loss, evaluate)\n")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    run = start(tmp_path / "run")
    assert 0 < run.step < 15 and run.step % 5
    best = run.train(Noisy(), collate, loss, evaluate)
    assert same(state_of(run.net), reference[0]) and same(state_of(best), reference[2])


def test_dropout_and_order_follow_the_seed(tmp_path, reference):
    batch = collate([Noisy()[index, 0] for index in range(4)])
    first = [start(tmp_path / "first", dataclasses.replace(SETTINGS, seed=seed)).train_step(batch, loss, 0.1)["loss"]
             for seed in (1, 1, 2)]
    assert first[0] == first[1] != first[2]  # of one batch, so that dropout alone can differ
    other = start(tmp_path / "other", dataclasses.replace(SETTINGS, seed=6))
    other.train(Noisy(), collate, loss, evaluate)
    assert not same(state_of(other.net), reference[0])


def test_any_seed_that_a_flag_takes_trains(tmp_path):
    seed = seed_number(f"{2**63 - 1}")
    start(tmp_path, dataclasses.replace(SETTINGS, epochs=1, seed=seed)).train(Noisy(), collate, loss, evaluate)
    for text in ("-1", f"{2**63}"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be from 0"):
            seed_number(text)


def test_a_finished_run_gives_its_best_net_without_training(tmp_path, reference):
    def untouched(net, batch):
        raise AssertionError("a finished run trains no further")

    best = start(tmp_path / "reference").train(Noisy(), collate, untouched, evaluate)
    assert same(state_of(best), reference[2])


@needs_locks
def test_two_trainings_do_not_share_a_folder(tmp_path):
    def other(net: Net) -> dict[str, float]:
        with pytest.raises(UserError, match="another run is writing to"):
            start(tmp_path / "run").train(Noisy(), collate, loss, evaluate)
        return evaluate(net)

    start(tmp_path / "run").train(Noisy(), collate, loss, other)
    start(tmp_path / "run").train(Noisy(), collate, loss, evaluate)


def test_restart_begins_anew(tmp_path, reference):
    run = Run(tmp_path / "reference", Net(), SETTINGS, CPU, {"chars": "AB-"})
    assert run.resume(restart=True) is False and run.step == 0
    assert run.best_path.exists()

    def killed(net, batch):
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        run.train(Noisy(), collate, killed, evaluate)
    assert start(tmp_path / "reference").step == 0  # not where the former training was
    assert not run.best_path.exists()
    assert Run(tmp_path / "nothing", Net(), SETTINGS, CPU).resume() is False


def test_what_a_training_began_with_is_kept_by_a_kill_at_its_first_step(tmp_path):
    def killed(net, batch):
        raise SystemExit(1)

    for _ in range(2):
        with pytest.raises(SystemExit):
            run = start(tmp_path / "run")
            run.resume()
            run.train(Noisy(), collate, killed, lambda net: {"score": 0.5}, trained=True)
        assert start(tmp_path / "run").best_path.exists()


@pytest.mark.parametrize(("settings", "facts", "named"), [
    (dataclasses.replace(SETTINGS, learning_rate=0.1), {"chars": "AB-"}, "learning_rate"),
    (dataclasses.replace(SETTINGS, batch_size=8), {"chars": "AB-"}, "batch_size"),
    (SETTINGS, {"chars": "CD-"}, "chars"),
    (dataclasses.replace(SETTINGS, warmup_steps=9), {"chars": "CD-"}, "chars"),  # which the number of samples decides
])
def test_another_training_is_refused(tmp_path, reference, settings, facts, named):
    before = (tmp_path / "reference" / "last.pth").read_bytes()
    with pytest.raises(UserError, match=rf"another {named} \(.*, now .*\); .*--restart"):
        start(tmp_path / "reference", settings, facts=facts)
    assert (tmp_path / "reference" / "last.pth").read_bytes() == before


def test_another_net_is_refused(tmp_path, reference):
    run = Run(tmp_path / "reference", nn.Linear(3, 1), SETTINGS, CPU, {"chars": "AB-"})
    with pytest.raises(UserError, match="does not fit this network") as caught:
        run.resume()
    assert "\n" not in str(caught.value)


def test_a_broken_checkpoint_is_refused(tmp_path, reference):
    last = tmp_path / "reference" / "last.pth"
    last.write_bytes(last.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"cannot load.* --restart"):
        start(tmp_path / "reference")


def test_a_checkpoint_without_the_best_weights_so_far_is_refused_at_once(tmp_path, reference):
    best = tmp_path / "reference" / "best.pth"
    best.unlink()
    with pytest.raises(UserError, match=r"best.pth is missing, .*put it back beside .*last.pth"):
        start(tmp_path / "reference")


@pytest.mark.parametrize(("poison", "said"), [
    (float("nan"), "loss is nan"), (float("inf"), "loss is inf"), (None, "gradient is nan")])
def test_a_loss_or_gradient_that_is_no_number_stops_and_keeps_the_checkpoint(tmp_path, poison, said):
    calls = 0

    def poisoned(net, batch):
        nonlocal calls
        calls += 1
        value, figures = loss(net, batch)
        if calls == 8:
            # The root of 0 is 0, and its slope infinite: a finite loss with a gradient that is no number.
            value = value * poison if poison else value + (net.last.bias * 0).abs().sqrt().sum()
        return value, figures

    with pytest.raises(UserError, match=f"the {said} at step 7; .*--learning_rate"):
        start(tmp_path, save_seconds=0).train(Noisy(), collate, poisoned, evaluate)
    run = start(tmp_path)
    assert run.step == 7
    assert all(value.isfinite().all() for value in run.net.state_dict().values())
    run.train(Noisy(), collate, loss, evaluate)  # and it goes on from there


@pytest.mark.parametrize("size", [1, 5, 9])
def test_a_last_batch_of_one_is_a_batch(tmp_path, size):
    data = Noisy(size)
    run = start(tmp_path)
    run.train(data, collate, loss, evaluate)
    assert sorted(index for index, _ in data.keys) == sorted(list(range(size)) * 3)
    assert all(value.isfinite().all() for value in run.net.state_dict().values())


def test_loader_processes_change_nothing(tmp_path, reference):
    run = start(tmp_path / "run")
    run.train(Noisy(), collate, loss, evaluate, workers=1)
    assert same(state_of(run.net), reference[0])


def test_what_a_run_started_from_is_noted_in_order_and_without_what_it_replaces(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / name).write_text(name)
    a, b = tmp_path / "a", tmp_path / "b"
    assert start_weights([a, b], []).split() == [start_weights([a], []), start_weights([b], [])]
    monkeypatch.chdir(tmp_path)
    assert start_weights(["a", "b"], [b]) == start_weights([a], []) != "" == start_weights([], [a])


def test_the_revision_tells_one_change_of_the_code_from_another(tmp_path, monkeypatch):
    """What is measured with code that was changed is not taken for what the commit gives, nor for another change's."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    monkeypatch.setattr("platekit.revision.ROOT", tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # a hook's
        monkeypatch.delenv(name, raising=False)
    revision = code_revision.__wrapped__
    (tmp_path / "ccpd").mkdir()
    installed = []
    for text in ("a = 1", "a = 2"):  # where there is no checkout
        (tmp_path / "ccpd" / "a.py").write_text(text)
        installed.append(revision())
    assert len(set(installed)) == 2 and all(text.startswith("files-") for text in installed)
    (tmp_path / "pyproject.toml").touch()
    own = [flag for name in ("user.name=a", "user.email=a@b", "commit.gpgsign=false") for flag in ("-c", name)]
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "a")):
        subprocess.run(["git", "-C", str(tmp_path), *own, *command], check=True)
    clean = revision()
    assert re.fullmatch("[0-9a-f]{7,}", clean) and revision() == clean
    changed = []
    for text in ("a = 1", "a = 2"):
        (tmp_path / "pyproject.toml").write_text(text)
        changed.append(revision())
    assert len({clean, *changed}) == 3 and all(text.startswith(f"{clean}-dirty-") for text in changed)


def test_within_an_epoch_a_checkpoint_is_written_every_so_often_alone(tmp_path, monkeypatch):
    from platekit import training
    written, save = [], training.save_checkpoint
    monkeypatch.setattr(training, "save_checkpoint",
                        lambda path, content: written.append(Path(path).name) or save(path, content))
    start(tmp_path / "run").train(Noisy(), collate, loss, evaluate)
    assert written.count("last.pth") == SETTINGS.epochs
