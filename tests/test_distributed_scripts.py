"""torchrun: the training scripts run in two processes as in one."""

from __future__ import annotations

import json

import pytest

from LPRNet import LPRNet_Train
from MTCNN.model.MTCNN_nets import ONET_SIZE, PNET_SIZE
from MTCNN.train import Train_Onet, Train_Pnet
from tests.conftest import ROOT, files_below, needs_bfloat16
from tests.makers import draw_crops, torchrun, write_list

CPU = ("--epoch", 2, "--device", "cpu", "--restart")
FLOAT32 = ("--float32",)


@pytest.mark.parametrize(("name", "precision"), [("lprnet", FLOAT32), ("pnet", FLOAT32), ("onet", FLOAT32),
                                                 pytest.param("lprnet", (), marks=needs_bfloat16)])
def test_every_training_script_runs_in_two_processes_with_the_same_loss(name, precision, call, tmp_path):
    """What is drawn for a share (dropout, the colours of a detector batch) differs, and what is rounded: hence the
    tolerance."""
    if name == "lprnet":
        script, main, tolerance = "LPRNet/LPRNet_Train.py", LPRNet_Train.main, 0.01 if precision else 0.03
        flags = ["--img_dirs_train", draw_crops(tmp_path / "train", 16, 1), "--img_dirs_val",
                 draw_crops(tmp_path / "val", 3, 2), "--epoch_samples", 18, "--batch_size", 6, "--workers", 0,
                 "--dropout_rate", 0, "--learning_rate", 2e-4]
    else:
        script, main, size = ("MTCNN/train/Train_Pnet.py", Train_Pnet.main, PNET_SIZE) if name == "pnet" else \
            ("MTCNN/train/Train_Onet.py", Train_Onet.main, ONET_SIZE)
        lists, tolerance = write_list(tmp_path, size, count=40), 0.05
        flags = ["--list_train", lists, "--list_val", lists, "--batch_size", 40, "--learning_rate", 5e-4]

    def flags_for(folder):
        weights = [tmp_path / folder / net for net in (("lprnet", "stn") if name == "lprnet" else (name,))]
        return [*flags, *CPU, *precision, "--run", tmp_path / folder, "--save", *weights]

    done = call(main, *flags_for("one"))
    assert done.status == 0, done.err
    process = torchrun(2, ROOT / script, *flags_for("two"))
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "Warning" not in err, err
    assert out.count("next: ") == 1 and out.count("wrote ") == 1  # process 0 alone speaks and writes
    curves = [[json.loads(line)["loss"] for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
              for folder in ("one", "two")]
    assert curves[1] == pytest.approx(curves[0], rel=tolerance) and len(curves[0]) == 2
    assert files_below(tmp_path / "one") == files_below(tmp_path / "two")
