"""torchrun: several processes train as one does, go on from each other's checkpoints, and end together."""

from __future__ import annotations

import atexit
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from LPRNet.model.mixed import norm_relu, norm_tap_pool
from platekit import distributed
from platekit.errors import UserError
from platekit.sharing import own_items
from platekit.training import EpochBatches, Run, Settings
from tests.makers import maps, random_norm, torchrun

SETTINGS = Settings(epochs=3, batch_size=4, learning_rate=0.02, warmup_steps=3, bfloat16=False, seed=5)


class Patches(Dataset):
    """Small pictures of noise, and their mean; the pixels follow from the seed of the sample alone."""

    def __len__(self) -> int:
        return 17  # the last batch holds one

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(key[1] % 2**40), dtype=torch.float64)
        return pixels, pixels.mean()


def loss(net, batch):
    """Not a mean over samples: the worst half counts, so that a share alone would give another loss."""
    pixels, wanted = batch
    worst = (net(pixels)[:, 0] - wanted).square().topk((len(wanted) + 1) // 2).values
    return worst.mean(), {"worst": worst.max().item()}


def train_patches(folder: Path, stop_after: int | None = None, fatal: int | None = None) -> None:
    """A training with batch norm in float64, where rounding cannot hide a wrong gradient."""
    device = distributed.join(torch.device("cpu"))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1)).double()
    run = Run(folder, net, SETTINGS, device, save_seconds=0)
    run.resume()

    def counted(net, batch):
        if run.step == stop_after:
            raise SystemExit(3)
        if run.step == fatal and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(net, batch)

    run.train(Patches(), torch.utils.data.default_collate, counted, lambda net: {"score": float(run.step)})


def torchrun_patches(processes: int, folder: Path, **options: int) -> tuple[int, str]:
    script = folder.parent / "patches.py"
    script.write_text("import sys, json\nfrom pathlib import Path\nfrom tests.test_distributed import train_patches\n"
                      "train_patches(Path(sys.argv[1]), **json.loads(sys.argv[2]))\n")
    process = torchrun(processes, script, folder, json.dumps(options))
    _, err = process.communicate(timeout=300)
    return process.returncode, err


def in_two_processes(function: Callable[[Path], None], folder: Path) -> None:
    """Call a function of this module in two processes, with the folder."""
    script = folder / "call.py"
    script.write_text("import sys\nfrom pathlib import Path\nfrom tests import test_distributed\n"
                      f"test_distributed.{function.__name__}(Path(sys.argv[1]))\n")
    process = torchrun(2, script, folder)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


def share_items(folder: Path) -> None:
    """Share two walks over items; what this process got is in a file of its own."""
    distributed.join(torch.device("cpu"))
    got = [list(own_items(range(40))) for _ in range(2)]
    (folder / f"{distributed.rank()}.json").write_text(json.dumps(got))
    distributed.wait_for_all()


def test_every_walk_over_items_is_shared_anew(tmp_path):
    in_two_processes(share_items, tmp_path)
    walks = zip(*(json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)))
    assert [sorted(first + second) for first, second in walks] == [list(range(40))] * 2


def leave(folder: Path) -> None:
    """Write down, last of all, whether the process is still in its group and which threads it has."""
    def report() -> None:
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
        (folder / f"{os.environ['RANK']}.txt").write_text(
            f"{torch.distributed.is_initialized()} {[name for name in names if 'gloo' in name]}")

    atexit.register(report)
    distributed.join(torch.device("cpu"))
    distributed.wait_for_all()
    torch.optim.AdamW(nn.Linear(2, 2).parameters())  # which imports more of torch


def test_processes_leave_their_group_before_they_end(tmp_path):
    """Threads of gloo's that outlived the interpreter aborted the exit now and then."""
    in_two_processes(leave, tmp_path)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == ["False []"] * 2


def norms_of_a_share(first: int, last: int) -> list[torch.Tensor]:
    """What training's own batch norms make of the samples from ``first`` to ``last``: outputs and the gradient of the
    input, then the norms' gradients and statistics."""
    results, sums, seen = [], [], []
    for fused in (norm_relu, lambda norm, x: norm_tap_pool(norm, x, (4, 10), (4, 5), 1, 1)):
        norm = random_norm(8)
        x = maps(5, 8, 12, 32).detach()[first:last].to(memory_format=torch.channels_last).requires_grad_()
        outputs = fused(norm, x)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        sum(output.float().square().sum() for output in outputs).backward()
        results += [*(output.detach() for output in outputs), x.grad]
        sums += [norm.weight.grad, norm.bias.grad]
        seen += [norm.running_mean, norm.running_var]
    return [torch.cat([result.flatten(1) for result in results], dim=1), torch.cat(sums), torch.cat(seen)]


def norms_of_my_share(folder: Path) -> None:
    """The norms' results for samples 0 and 1 in process 0, for 2 to 4 in process 1."""
    distributed.join(torch.device("cpu"))
    mine = norms_of_a_share(*((0, 2), (2, 5))[distributed.rank()])
    torch.save(mine, folder / f"{distributed.rank()}.pth")
    distributed.wait_for_all()  # a process that ends while the other still waits for it may be aborted


def test_norms_of_mixed_precision_see_the_samples_of_all_processes(tmp_path):
    in_two_processes(norms_of_my_share, tmp_path)
    samples, sums, seen = zip(*(torch.load(tmp_path / f"{rank}.pth") for rank in range(2)))
    wanted = norms_of_a_share(0, 5)
    torch.testing.assert_close(torch.cat(samples), wanted[0], rtol=0.01, atol=0.01)  # bfloat16
    torch.testing.assert_close(sums[0] + sums[1], wanted[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(seen[0], wanted[2])
    torch.testing.assert_close(seen[1], wanted[2])


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.pth", weights_only=True)["net"]


def test_shares_make_up_the_batches_of_one_process():
    whole = list(EpochBatches(17, 4, 5))
    shares = [list(EpochBatches(17, 4, 5, rank, 3)) for rank in range(3)]
    for batch, parts in zip(whole[:-1], zip(*shares)):
        assert sorted(batch) == sorted(key for part in parts for key in part) and all(parts)
    assert [parts[-1] for parts in shares] == [whole[-1]] * 3  # nobody is left without a sample


def test_two_processes_compute_the_weights_of_one_and_go_on_from_its_checkpoint(tmp_path):
    train_patches(tmp_path / "one")
    with pytest.raises(SystemExit):
        train_patches(tmp_path / "two", stop_after=7)
    status, err = torchrun_patches(2, tmp_path / "two")
    assert status == 0, err
    assert "Warning" not in err
    one, two = last_weights(tmp_path / "one"), last_weights(tmp_path / "two")
    for key, value in one.items():
        # The last batch of one is computed twice; its variance is then estimated as that of twice as many values.
        rtol = 0.05 if key.endswith("running_var") else 1e-6
        torch.testing.assert_close(two[key], value, rtol=rtol, atol=1e-9, msg=key)
    curves = [[json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
              for name in ("one", "two")]
    assert curves[1] == pytest.approx(curves[0], rel=1e-6) and len(curves[0]) == 3


def test_a_lost_process_ends_all_and_one_goes_on_alone(tmp_path):
    started = time.monotonic()
    status, err = torchrun_patches(2, tmp_path / "run", fatal=7)
    assert status != 0 and time.monotonic() - started < 200
    assert "Signal 9 (SIGKILL)" in err and "RuntimeError" not in err
    state = torch.load(tmp_path / "run" / "last.pth", weights_only=True)
    assert state["step"] == 7
    train_patches(tmp_path / "run")
    assert torch.load(tmp_path / "run" / "last.pth", weights_only=True)["step"] == 15


def train_in_my_folder(folder: Path) -> None:
    """As on two machines whose disks are their own."""
    distributed.join(torch.device("cpu"))
    mine = folder / str(distributed.rank())
    if (folder / "resume").exists():
        with pytest.raises(UserError, match=r"would go on from step .* a disk that they share"):
            train_patches(mine)
    else:
        train_patches(mine)


def test_processes_with_folders_of_their_own_train_and_do_not_go_on(tmp_path):
    in_two_processes(train_in_my_folder, tmp_path)
    assert (tmp_path / "0" / "best.pth").exists()
    (tmp_path / "resume").touch()
    in_two_processes(train_in_my_folder, tmp_path)
