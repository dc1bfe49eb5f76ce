"""Nothing gets in: weights that are not what they should be, code in files, paths that lead elsewhere."""

from __future__ import annotations

import ast
import hashlib
import json
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from ccpd import synthesize
from LPRNet import LPRNet_Test
from LPRNet.paths import COLOUR_WEIGHTS, LPRNET_WEIGHTS, STN_WEIGHTS
from LPRNet.recogniser import Reader, load_reader
from main import main
from MTCNN.data_preprocessing.sample_store import open_array
from MTCNN.model.MTCNN_nets import ONet, PNet
from MTCNN.paths import ONET_WEIGHTS, PNET_WEIGHTS
from platekit import checkpoints
from platekit.checkpoints import SUMS, load_weights, read_checkpoint, read_sums, save_weights
from platekit.errors import UserError
from tests.conftest import ROOT, make_picture, put_picture
from tests.makers import Malicious

BUNDLED = (PNET_WEIGHTS, ONET_WEIGHTS, LPRNET_WEIGHTS, STN_WEIGHTS, COLOUR_WEIGHTS)
SOURCES = sorted(path for package in ("ccpd", "LPRNet", "MTCNN", "platekit") for path in (ROOT / package).rglob("*.py"))


# weights are what they should be

@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.name)
def test_every_bundled_file_has_its_sum(path):
    assert read_sums(path.parent)[path.name] == {hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("flag", ["--pnet", "--onet", "--lprnet", "--stn"])
def test_bundled_weights_of_another_sum_are_refused_and_ones_own_elsewhere_are_not(call, tmp_path, flag):
    original = dict(zip(("--pnet", "--onet", "--lprnet", "--stn"), BUNDLED))[flag]
    folder = tmp_path / "weights"
    shutil.copytree(original.parent, folder)
    state = torch.load(folder / original.name, weights_only=True)
    first = next(iter(state))
    state[first] = state[first] * 1.01  # a file that is otherwise sound
    torch.save(state, folder / original.name)
    put_picture(tmp_path / "photo.jpg", make_picture(60, 120))
    done = call(main, "--image", tmp_path / "photo.jpg", "--json", "-", "--device", "cpu", flag, folder / original.name)
    assert done.status == 2 and "SHA-256" in done.sentence() and original.name in done.sentence()
    (folder / SUMS).unlink()
    done = call(main, "--image", tmp_path / "photo.jpg", "--json", "-", "--device", "cpu", flag, folder / original.name)
    assert done.status == 0, done.err


def test_the_sums_are_those_of_the_command(tmp_path):
    """As sha256sum writes them: with a star before the name where it read in binary mode."""
    save_weights(tmp_path / "net", PNet())
    digest = hashlib.sha256((tmp_path / "net").read_bytes()).hexdigest()
    for text in (f"{digest}  net\n", f"{digest} *net\r\n"):
        (tmp_path / SUMS).write_bytes(text.encode())
        load_weights(PNet(), tmp_path / "net")
    if shutil.which("sha256sum"):
        save_weights(tmp_path / "net", PNet())
        subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path, check=True, capture_output=True)


def test_training_rewrites_the_sum_of_what_it_replaces(tmp_path):
    for path in BUNDLED[:2]:
        shutil.copy(path, tmp_path)
    shutil.copy(PNET_WEIGHTS.parent / SUMS, tmp_path)
    save_weights(tmp_path / PNET_WEIGHTS.name, PNet())
    save_weights(tmp_path / "mine", PNet())
    load_weights(PNet(), tmp_path / PNET_WEIGHTS.name)
    load_weights(ONet(), tmp_path / ONET_WEIGHTS.name)
    sums = read_sums(tmp_path)
    assert set(sums) == {PNET_WEIGHTS.name, ONET_WEIGHTS.name} and all(len(digests) == 1 for digests in sums.values())


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_kill_between_weights_and_sum_leaves_weights_that_are_read(tmp_path, monkeypatch, step):
    shutil.copy(PNET_WEIGHTS, tmp_path)
    shutil.copy(PNET_WEIGHTS.parent / SUMS, tmp_path)
    writes = 0
    original = checkpoints.write_bytes

    def killed(path, data):
        nonlocal writes
        if writes == step:
            raise KeyboardInterrupt
        writes += 1
        original(path, data)

    monkeypatch.setattr(checkpoints, "write_bytes", killed)
    monkeypatch.setattr(checkpoints, "write_text", lambda path, text: killed(path, text.encode()))
    with pytest.raises(KeyboardInterrupt):
        save_weights(tmp_path / PNET_WEIGHTS.name, PNet())
    load_weights(PNet(), tmp_path / PNET_WEIGHTS.name)


# no code in files

@pytest.mark.parametrize("flag", ["--pnet", "--onet", "--lprnet", "--stn"])
def test_weights_with_code_are_refused_by_main_in_one_sentence(call, tmp_path, flag):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"features.conv1.weight": Malicious(trace)}, path)
    put_picture(tmp_path / "photo.jpg", make_picture(60, 120))
    done = call(main, "--image", tmp_path / "photo.jpg", "--json", "-", "--device", "cpu", flag, path)
    assert done.status == 2 and str(path) in done.sentence() and not trace.exists()
    with zipfile.ZipFile(path) as archive:  # the file is a real one: unpickled without care it does its work
        pickle.loads(archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl"))))
    assert trace.exists()


def test_a_checkpoint_with_code_is_not_gone_on_from(tmp_path):
    from platekit.training import Run, Settings
    (tmp_path / "run").mkdir()
    torch.save({"net": Malicious(tmp_path / "trace")}, tmp_path / "run" / "last.pth")
    with pytest.raises(UserError, match="cannot load"):
        Run(tmp_path / "run", PNet(), Settings(1, 1, 0.1), torch.device("cpu")).resume()
    assert not (tmp_path / "trace").exists()


def test_samples_with_code_are_refused(tmp_path):
    np.save(tmp_path / "positive.npy", np.array([Malicious(tmp_path / "trace")], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot read the samples"):
        open_array(tmp_path / "positive.npy")
    assert not (tmp_path / "trace").exists()


def test_nothing_in_the_code_reads_pickles_or_runs_text():
    calls = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                calls.setdefault(ast.unparse(node.func), []).append((path.name, ast.unparse(node)))
            assert not (isinstance(node, (ast.Import, ast.ImportFrom)) and re.search(
                r"\b(pickle|marshal|shelve|dill|joblib)\b", ast.unparse(node))), path
    assert not {"eval", "exec", "compile", "__import__", "os.system", "os.popen"} & set(calls)
    assert {name for name, _ in calls["torch.load"]} == {"checkpoints.py"}
    assert all("weights_only=True" in text for _, text in calls["torch.load"])
    assert not any("allow_pickle" in text or "shell=True" in text for found in calls.values() for _, text in found)


# weights from a stranger that are sound as files

@pytest.mark.parametrize("chars", [tuple(range(68)), tuple("AB" * 34), ("A" * 10**6,) * 2, "", ("A",), {"A": 1}, 5,
                                   "".join(map(chr, range(10**6))), ("A", "", "-")], ids=lambda chars: str(chars)[:9])
def test_an_alphabet_that_is_none_is_refused_without_much_memory(tmp_path, chars):
    save_weights(tmp_path / "lprnet", Reader(68).lprnet, {"chars": chars, "max_length": 8})
    with pytest.raises(UserError) as caught:
        load_reader(tmp_path / "lprnet", STN_WEIGHTS)
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


def test_a_zip_bomb_as_weights_is_refused(tmp_path):
    """An archive of a few kilobytes that says to hold a storage of gigabytes."""
    torch.save({"conv1.weight": torch.zeros(8)}, tmp_path / "bomb")
    data = bytearray((tmp_path / "bomb").read_bytes())
    with zipfile.ZipFile(tmp_path / "bomb") as archive:
        header = archive.getinfo(next(name for name in archive.namelist() if name.endswith("data/0"))).header_offset
    struct.pack_into("<I", data, header + 22, 2**31)
    for place in [match.start() for match in re.finditer(b"PK\x01\x02", bytes(data))]:
        if b"data/0" in data[place + 46:place + 100]:
            struct.pack_into("<I", data, place + 24, 2**31)
    (tmp_path / "bomb").write_bytes(data)
    with pytest.raises(UserError):
        load_weights(PNet(), tmp_path / "bomb")


# no path leads elsewhere

@pytest.mark.parametrize("name", ["../outside.jpg", "/etc/passwd", "..", "deep/er.jpg", 5, None])
def test_an_index_of_the_generator_names_files_of_its_folder_only(call, tmp_path, name):
    (tmp_path / "outside.jpg").write_bytes(b"x")
    folder = tmp_path / "ccpd_np"
    folder.mkdir()
    settings = {"seed": 0, "kinds": None, "size": [240, 388], "drawn by": synthesize.drawn_by(None)}
    (folder / "index.json").write_text(json.dumps({"settings": settings, "photos": {"0": name}}))
    with pytest.raises(UserError, match=r"index\.json"):
        synthesize.synthesize(tmp_path, "ccpd_np", 1, size=(240, 388))
    assert sorted(path.name for path in folder.iterdir()) == ["index.json"]


def test_labels_that_name_files_elsewhere_read_nothing(call, tmp_path):
    put_picture(tmp_path / "crops" / "a.png", make_picture(24, 94))
    (tmp_path / "labels.csv").write_text("file,text\n../../../../etc/passwd,皖A12345\ncrops/a.png,皖A12345\n", "utf-8")
    done = call(LPRNet_Test.main, "--image", tmp_path / "crops", "--labels", tmp_path / "labels.csv", "--json",
                tmp_path / "out.jsonl", "--device", "cpu")
    assert done.status == 0 and len((tmp_path / "out.jsonl").read_text("utf-8").splitlines()) == 1


def test_sums_of_other_folders_are_not_looked_for(tmp_path):
    (tmp_path / SUMS).write_text(f"{'0' * 64}  ../elsewhere/net\n{'0' * 64}  /etc/passwd\nbroken\n")
    save_weights(tmp_path / "net", PNet())
    assert read_checkpoint(tmp_path / "net")[0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes no such names")
def test_annotated_pictures_of_strange_names_stay_in_their_folder(call, tmp_path):
    """The names are the files' own: whatever they look like, they are no paths."""
    inputs = tmp_path / "in"
    for name in ("..%2f..%2fx.jpg", "...jpg", "~.jpg", "-rf .jpg", "a\nb.jpg", "C:\\windows\\x.jpg", "$(touch x).jpg"):
        put_picture(inputs / "deep" / "photo.jpg", make_picture(40, 80)).rename(inputs / "deep" / name)
    before = sorted(tmp_path.rglob("*"))
    done = call(main, "--image", *sorted((inputs / "deep").iterdir()), "--output", tmp_path / "out",
                "--json", tmp_path / "out.jsonl", "--device", "cpu", cwd=tmp_path)
    assert done.status == 0, done.err
    new = set(tmp_path.rglob("*")) - set(before) - {tmp_path / "out", tmp_path / "out.jsonl"}
    assert len([path for path in new if path.is_file()]) == 7
    assert all(path.is_relative_to(tmp_path / "out") for path in new)
