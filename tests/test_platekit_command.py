"""The command line's contract: JSON lines, annotated pictures, exit statuses."""

from __future__ import annotations

import errno
import io
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ccpd import evaluate, rare_plates
from LPRNet import LPRNet_Test, train_colour
from LPRNet.alphabet import Alphabet
from MTCNN import MTCNN
from MTCNN import export_onnx as export_detector
from platekit import read_plates
from platekit.arguments import command_line
from platekit.command import json_lines, run_pictures, write_line
from platekit.errors import UserError, run_script
from platekit.files import fingerprint, write_bytes
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.results import PictureResult, Plate
from platekit.video import run_video
from tests.conftest import ROOT, files_below, lines_of, make_picture, needs_locks, put_picture, results_of

PLATES = (Plate((10.26, 4.0, 60.0, 20.0), 0.99876, "皖A12345", 0.98765, (0.9,) * 7),
          Plate((1, 2, 30, 12), 0.8, "", 0.5))


def read(image: np.ndarray, _: Path | None = None) -> PictureResult:
    """Stands in for the nets: the same plates in every picture."""
    return PictureResult(image.shape[1], image.shape[0], PLATES, {"detect": 21.04, "recognise": 4.06})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures and, between them, a file that is none."""
    put_picture(tmp_path / "in" / "a.png", make_picture(40, 100))
    (tmp_path / "in" / "b.jpg").write_text("no picture")
    put_picture(tmp_path / "in" / "c.png", make_picture(50, 80))
    return tmp_path / "in"


def test_a_line_has_the_keys_of_the_contract_in_their_order(folder, tmp_path, capsys):
    target = tmp_path / "new" / "plates.jsonl"
    assert run_pictures([folder / "a.png"], read, str(target)) == 0
    text = target.read_text("utf-8")
    assert text == (f'{{"image": "{folder / "a.png"}", "width": 100, "height": 40, '
                    '"ms": {"detect": 21.0, "recognise": 4.1}, "plates": ['
                    '{"text": "皖A12345", "confidence": 0.9877, "detection_score": 0.9988, '
                    '"box": [10.3, 4.0, 60.0, 20.0]}, '
                    '{"text": "", "confidence": 0.5, "detection_score": 0.8, "box": [1, 2, 30, 12]}]}\n')
    assert str(target) in capsys.readouterr().out
    assert files_below(tmp_path / "new") == ["plates.jsonl"]


def test_detection_alone_has_no_text():
    assert list(Plate((0, 0, 9, 9), 0.5).to_dict()) == ["detection_score", "box"]


def test_every_input_gets_its_line_in_order_and_a_broken_one_its_error(folder, capsys):
    status = run_pictures([folder / "c.png", folder / "missing.jpg", folder], read, "-")
    captured = capsys.readouterr()
    lines = lines_of(captured.out)
    assert status == 1
    assert [Path(line["image"]).name for line in lines] == ["c.png", "missing.jpg", "a.png", "b.jpg", "c.png"]
    assert [list(line) == ["image", "error"] for line in lines] == [False, True, False, True, False]
    assert [line for line in captured.err.splitlines() if line.startswith("error: ")] == \
        [f"error: {lines[1]['error']}", f"error: {lines[3]['error']}"]
    assert "b.jpg" in lines[3]["error"]


def test_a_picture_too_large_for_the_gpu_is_its_own_error(folder):
    def read_small(image: np.ndarray, _: Path) -> PictureResult:
        if image.shape[0] == 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(image)

    assert run_pictures([folder / "a.png", folder / "c.png"], read_small, str(folder / "out.jsonl")) == 1
    first, second = lines_of(folder / "out.jsonl")
    assert "use --device cpu" in first["error"] and len(second["plates"]) == 2


@pytest.mark.parametrize("place", ["read", "platekit.images.cv2.imdecode", "platekit.images.cv2.imencode"])
def test_a_picture_for_which_there_is_no_memory_is_its_own_error(folder, monkeypatch, capsys, place):
    def without_memory(work: Callable[..., Any]) -> Callable[..., Any]:
        calls = itertools.count()
        return lambda *args: work(*args) if next(calls) else cv2.copyMakeBorder(
            np.zeros((1, 1, 3), np.uint8), 0, 2**30, 0, 2**20, cv2.BORDER_CONSTANT)

    reading = without_memory(read) if place == "read" else read
    if place != "read":
        monkeypatch.setattr(place, without_memory(getattr(cv2, place.rpartition(".")[2])))
    monkeypatch.setattr("platekit.command.spare_threads", lambda: 1)
    assert run_pictures([folder / "a.png", folder / "c.png"], reading, "-", folder / "drawn") == 1
    out, said = capsys.readouterr()
    name = folder / "drawn" / "a.png" if place.endswith("imencode") else folder / "a.png"
    assert said.startswith(f"error: there is too little memory for {name}; ") and said.count("\n") == 1
    assert len(results_of(out)) == 2 and files_below(folder / "drawn") == ["c.png"]


def test_the_command_that_comes_next_suits_the_shell(monkeypatch):
    words = ["--out", "a b", "C:\\x"]
    assert command_line(words) == "--out 'a b' 'C:\\x'"
    monkeypatch.setattr("platekit.paths.os.name", "nt")
    assert command_line(words) == '--out "a b" C:\\x'


def test_without_json_a_line_a_plate_is_printed(folder, capsys):
    assert run_pictures([folder / "a.png"], read) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{folder / 'a.png'}: 皖A12345  confidence 0.988  detection 0.999  box (10, 4, 60, 20)"
    assert "(nothing read)" in second
    run_pictures([folder / "a.png"], lambda image, path: PictureResult(1, 1, ()))
    assert capsys.readouterr().out == f"{folder / 'a.png'}: no plate found\n"


def test_the_file_appears_when_it_is_whole(folder, tmp_path):
    target = tmp_path / "plates.jsonl"
    seen = []

    def look(image: np.ndarray, path: Path) -> PictureResult:
        seen.append(target.exists())
        return read(image)

    run_pictures([folder], look, str(target))
    assert seen == [False, False] and len(lines_of(target)) == 3
    assert "plates.jsonl.part" not in files_below(tmp_path)

    def fail(image: np.ndarray, path: Path) -> PictureResult:
        raise KeyboardInterrupt

    before = target.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run_pictures([folder], fail, str(target))
    assert target.read_bytes() == before  # the old file, not half of a new one


def test_wrong_usage_shows_before_anything_is_written(folder, tmp_path):
    def never(image: np.ndarray, path: Path) -> PictureResult:
        raise AssertionError("nothing is read when the usage is wrong")

    with pytest.raises(UserError, match="matches no file"):
        run_pictures([tmp_path / "none*.jpg"], never, str(tmp_path / "plates.jsonl"), tmp_path / "out")
    with pytest.raises(UserError, match="empty text"):
        run_pictures([folder, ""], never, str(tmp_path / "plates.jsonl"), tmp_path / "out")
    assert files_below(tmp_path) == ["in/a.png", "in/b.jpg", "in/c.png"]


def test_inputs_without_pictures_are_reported_beside_the_others(folder, tmp_path):
    """As when one camera of several has seen nothing in a night."""
    (tmp_path / "quiet").mkdir()
    (tmp_path / "list.txt").touch()
    inputs = [tmp_path / "quiet", folder, tmp_path / "none*.jpg", tmp_path / "list.txt"]
    target = tmp_path / "plates.jsonl"
    for _ in range(2):
        assert run_pictures(inputs, read, str(target), resume=target.exists()) == 1
        entries = lines_of(target)
        assert [Path(entry["image"]).name for entry in entries] == [
            "quiet", "a.png", "b.jpg", "c.png", "none*.jpg", "list.txt"]
        assert ["error" in entry for entry in entries] == [True, False, True, False, True, True]
    for entry, reason in zip((entries[0], *entries[4:]), ("holds no pictures", "matches no file", "names nothing")):
        assert reason in entry["error"]


class Killed:
    """Stands in for what reads a picture, or only detects: a kill comes first."""

    alphabet = Alphabet()

    def read(self, *_: object) -> PictureResult:
        raise KeyboardInterrupt

    detect = read_pictures = read


@pytest.mark.parametrize(("script", "flags"), [
    (read_plates, "mini_lp scale pnet onet lprnet stn hide details colour"), (MTCNN, "mini_lp scale pnet onet"),
    (LPRNet_Test, "lprnet stn labels")], ids=["read_plates", "MTCNN", "LPRNet_Test"])
def test_a_run_is_not_gone_on_with_by_other_flags(call, folder, tmp_path, monkeypatch, script, flags):
    monkeypatch.setattr(read_plates, "make_reader", lambda args, **_: Killed())
    monkeypatch.setattr(MTCNN, "Detector", lambda *args: Killed())
    monkeypatch.setattr(LPRNet_Test, "Recogniser", lambda *args: Killed())
    (tmp_path / "net").write_text("other weights")
    (tmp_path / "labels.csv").write_text("file,text\nin/a.png,皖A12345\n", encoding="utf-8")
    run = ("--image", folder, "--json", tmp_path / "plates.jsonl", "--device", "cpu")
    interrupted = 130
    assert call(script.main, *run).status == interrupted
    values = {"mini_lp": (60, 20), "scale": (0.5,), "hide": ("--output", tmp_path / "out"), "details": (),
              "colour": (tmp_path / "net", "--details"), "labels": (tmp_path / "labels.csv",)}
    for flag in flags.split():
        other = f"--{flag}", *values.get(flag, (tmp_path / "net",))
        assert "other weights or flags" in call(script.main, *run, "--resume", *other).sentence()
    assert call(script.main, *run, "--resume").status == interrupted


@pytest.mark.parametrize(("target", "why"), [
    ("in", "is no file's name"), ("new/", "is no file's name"), ("in/a.png/plates.jsonl", "cannot write")])
def test_a_json_file_that_cannot_be_is_said_at_once(folder, tmp_path, target, why):
    def never(image: np.ndarray, path: Path) -> PictureResult:
        raise AssertionError("nothing is read when the result has no place")

    with pytest.raises(UserError, match=why):
        run_pictures([folder / "a.png"], never, f"{tmp_path}/{target}")
    with pytest.raises(UserError, match="is no file's name"):
        run_pictures([folder / "a.png"], never, "")
    with pytest.raises(UserError, match=r"boxes_of_results\.py then makes a table"):
        run_pictures([folder / "a.png"], never, str(tmp_path / "plates.CSV"))
    assert files_below(tmp_path) == ["in/a.png", "in/b.jpg", "in/c.png"]


@pytest.mark.parametrize("content", [b"RIFF....AVI ", b'{"images": []}', b"a.jpg\n"])
def test_what_holds_no_results_is_not_replaced_by_them(folder, tmp_path, content):
    """``--json clip.avi`` may be meant as another input."""
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(UserError, match="holds no results"):
        run_pictures([folder / "a.png"], lambda *_: PictureResult(1, 1, ()), str(tmp_path / "other"))
    assert (tmp_path / "other").read_bytes() == content
    for results in (b"", b'{"image": "a"}\n', b'{"image":"a"}\n'):
        (tmp_path / "other").write_bytes(results)
        assert run_pictures([folder / "a.png"], lambda *_: PictureResult(1, 1, ()), str(tmp_path / "other")) == 0


def test_annotated_pictures_of_one_name_are_kept_apart(tmp_path):
    for index, name in enumerate(("x/a.png", "y/a.png", "y/a-2.png", "z/a.png", "z/a.gif", "z/b.ppm", "z/b.ppm.jpg",
                                   "z/c.PNG")):
        put_picture(tmp_path / name, make_picture(120, 200, index))
    inputs = [tmp_path / name for name in ("x", "y/a.png", "y/a-2.png", "z", "z/b.ppm")]
    assert run_pictures(inputs, read, output=tmp_path / "out") == 0
    assert files_below(tmp_path / "out") == ["x/a.png", "y/a-2.png", "y/a.png", "z/a.gif.jpg", "z/a.png", "z/b.ppm.jpg",
                                             "z/b.ppm.jpg.jpg", "z/c.PNG"]
    for name in ("x/a.png", "y/a.png", "y/a-2.png", "z/a.png"):
        drawn, original = read_image(tmp_path / "out" / name), read_image(tmp_path / name)
        assert np.array_equal(drawn[60:], original[60:]) and not np.array_equal(drawn, original)


@pytest.mark.parametrize("output", ["in", "in/../in"])
def test_annotated_pictures_never_replace_the_inputs(folder, tmp_path, output):
    before = (folder / "a.png").read_bytes()
    with pytest.raises(UserError, match="holds inputs"):
        run_pictures([folder], read, output=tmp_path / output)
    with pytest.raises(UserError, match="holds inputs"):
        run_video([str(folder / "clip.avi")], read, output=tmp_path / output)
    assert (folder / "a.png").read_bytes() == before and files_below(folder) == ["a.png", "b.jpg", "c.png"]


def test_an_output_that_is_a_file_is_wrong_usage(folder, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        run_pictures([folder], read, output=tmp_path / "taken")
    with pytest.raises(UserError, match="cannot write"):
        run_video([str(folder / "clip.avi")], read, output=tmp_path / "taken")


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a right to make links")
def test_links_in_a_circle_are_reported_for_each_picture(folder, tmp_path, capsys):
    (tmp_path / "circle").symlink_to("circle")
    assert run_pictures([folder / "*"], read, "-", tmp_path / "circle" / "drawn") == 1
    assert run_pictures([tmp_path / "circle" / "a.png"], read, "-", tmp_path / "drawn") == 1
    assert capsys.readouterr().err.count("Too many levels") == 3


def test_a_picture_that_cannot_be_written_has_failed_and_the_run_goes_on(folder, tmp_path, capsys):
    long_name = folder / f"{'d' * 251}.gif"  # no room for .jpg behind it
    put_picture(folder / "d.png", make_picture(20, 30)).rename(long_name)
    out = tmp_path / "plates.jsonl"
    assert run_pictures([folder], read, str(out), output=tmp_path / "drawn") == 1
    lines = lines_of(out)
    assert ["plates" in line for line in lines] == [True, False, True, True]  # what was read is not lost
    assert files_below(tmp_path / "drawn") == ["a.png", "c.png"] and "cannot write" in capsys.readouterr().err


def test_a_full_disk_ends_the_run(folder, tmp_path, monkeypatch):
    """What comes after could not be written either; what was read before goes on with --resume."""
    def replace(source: Path, target: Path) -> None:
        if target.suffix == ".png":
            raise OSError(errno.ENOSPC, "No space left on device")
        os.replace(source, target)

    out = tmp_path / "plates.jsonl"
    with monkeypatch.context() as changed, pytest.raises(UserError, match="No space left on device; free some space"):
        changed.setattr("platekit.files.replace", replace)
        run_pictures([folder], read, str(out), output=tmp_path / "drawn")
    assert run_pictures([folder], read, str(out), output=tmp_path / "drawn", resume=True) == 1
    assert ["plates" in line for line in lines_of(out)] == [True, False, True]


@pytest.mark.skipif(os.name == "nt", reason="Windows asks for a right to make links")
def test_a_picture_that_a_link_leads_to_is_not_replaced(folder, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.png").symlink_to(folder / "a.png")
    with pytest.raises(UserError, match="holds inputs"):
        run_pictures([tmp_path / "links"], read, output=folder)


def test_results_and_annotated_pictures_have_two_places(folder, tmp_path):
    for run, source in ((run_pictures, folder), (run_video, folder / "clip.avi")):
        with pytest.raises(UserError, match="name a file and a folder"):
            run([str(source)], read, str(tmp_path / "same"), tmp_path / "same")


@pytest.mark.parametrize(("json", "resume", "processes"), [
    (None, True, 1), ("-", True, 1), (None, False, 2), ("-", False, 2)])
def test_resume_and_torchrun_need_a_file(folder, monkeypatch, json, resume, processes):
    monkeypatch.setattr("platekit.command.world", lambda: processes)
    with pytest.raises(UserError, match="need a file for the results"):
        run_pictures([folder], lambda *_: 1 / 0, json, resume=resume)


def test_the_pictures_of_a_run_before_are_no_input(folder, capsys):
    """As the shell's * names them, or the pattern."""
    for inputs in ([*folder.glob("?.png"), folder / "drawn"], [folder / "*.png", folder / "drawn"], [folder / "*"],
                   [folder / "**" / "*.png"], [folder / "**"]):
        for _ in range(2):
            run_pictures(inputs, read, output=folder / "drawn")
        assert "drawn" not in "".join(line.partition(": ")[0] for line in capsys.readouterr().out.splitlines())
        assert set(files_below(folder / "drawn")) == {"a.png", "c.png"}
    for inputs, names in (([folder, folder / "drawn"], ["a.png", "b.jpg", "c.png"]),
                          ([folder / "drawn"], ["drawn/a.png", "drawn/c.png"])):  # where nothing else is named
        run_pictures(inputs, read, "-", leave_out=folder / "drawn")
        found = [os.path.relpath(line["image"], folder) for line in results_of(capsys.readouterr().out)]
        assert found == list(map(os.path.normpath, names))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_on_a_narrow_console_is_json(folder, monkeypatch, encoding):
    """Names with é, 皖, an emoji and a byte that is no UTF-8 come back as they were."""
    names = ["é.png", "皖.png", "🚗.png", os.fsdecode(b"\xff.png")]
    for name in names:
        put_picture(folder / "odd" / "plain.png", make_picture(8, 8)).rename(folder / "odd" / name)
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    assert run_pictures([folder / "odd"], read, "-") == 0
    sys.stdout.flush()
    lines = lines_of(raw.getvalue().decode("utf-8"))
    assert sorted(Path(line["image"]).name for line in lines) == sorted(names)
    target = folder / "plates.jsonl"
    with json_lines(str(target)) as stream:
        write_line(stream, {"image": names[-1]})
    assert lines_of(target) == [{"image": names[-1]}]


def test_a_plate_is_printed_on_a_console_that_lacks_its_symbols(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", newline="\n"))
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: print("皖A12345"))
    assert ended.value.code == 0 and raw.getvalue() == b"\\u7696A12345\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with a name")
@pytest.mark.parametrize("run", [run_pictures, run_video])
def test_results_never_replace_a_device_and_go_where_a_link_leads(folder, tmp_path, run):
    source = [str(folder / "a.png")]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe; name a file"):
        run(source, read, str(tmp_path / "pipe"))
    with pytest.raises(UserError, match="pipe; name a file"):
        write_bytes(tmp_path / "pipe", b"")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "plates.jsonl").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "plates.jsonl")
    assert run(source, read, str(tmp_path / "link")) == 0
    assert (tmp_path / "link").is_symlink() and lines_of(tmp_path / "far" / "plates.jsonl")
    (tmp_path / "far" / "plates.jsonl").unlink()  # a link may be made before there are results
    assert run(source, read, str(tmp_path / "link")) == 0 and lines_of(tmp_path / "far" / "plates.jsonl")
    assert (tmp_path / "pipe").is_fifo() and files_below(tmp_path / "far") == ["plates.jsonl"]


@pytest.mark.parametrize("output", ["", "drawn", "drawn/deeper"])
def test_an_output_that_cannot_be_written_is_said_before_anything_is_read(folder, tmp_path, monkeypatch, output):
    (tmp_path / "barred").mkdir()
    monkeypatch.setattr("platekit.command.os.access", lambda path, mode: Path(path).name != "barred")  # not even root
    with pytest.raises(UserError, match="permission denied"):
        run_pictures([folder], None, str(tmp_path / "plates.jsonl"), tmp_path / "barred" / output)
    assert files_below(tmp_path) == ["in/a.png", "in/b.jpg", "in/c.png"]


def test_lines_of_a_run_that_was_killed_are_put_aside(tmp_path, capsys):
    target = str(tmp_path / "plates.jsonl")
    for number in range(3):
        with pytest.raises(KeyboardInterrupt), json_lines(target) as stream:
            stream.write(f"{number}\n" * (number < 2))
            raise KeyboardInterrupt
    assert f"are in {target}.part2 now" in capsys.readouterr().err
    with json_lines(target) as stream:  # nothing is in the last one
        stream.write("3\n")
    assert {name: (tmp_path / name).read_text() for name in files_below(tmp_path)} == {
        "plates.jsonl": "3\n", "plates.jsonl.part1": "0\n", "plates.jsonl.part2": "1\n"}


@needs_locks
def test_two_runs_do_not_write_one_file(folder, tmp_path):
    target = tmp_path / "plates.jsonl"
    with json_lines(str(target)) as stream:
        stream.write("1\n")
        stream.flush()
        with pytest.raises(UserError, match="another run is writing to"), json_lines(str(target)):
            pass
        stream.write("2\n")
    assert target.read_text() == "1\n2\n" and not Path(f"{target}.part1").exists()
    target.unlink()

    def read(image: np.ndarray, _: Path) -> PictureResult:
        with pytest.raises(UserError, match="another run is writing to"):
            run_pictures([folder], fail, str(target))
        return PictureResult(1, 1, ())

    def fail(*_: object) -> PictureResult:
        raise AssertionError("the other run reads")

    run_pictures([folder], read, str(target))
    assert len(results_of(target)) == len(find_images(folder))


@pytest.mark.parametrize(("result", "status"), [(0, 0), (None, 0), (1, 1), (2, 2)])
def test_the_exit_status_is_what_main_returns(result, status):
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: result)
    assert ended.value.code == status


def test_a_users_mistake_is_one_line_and_status_2(capsys):
    def main() -> int:
        raise UserError("photo.jpg is missing; check the path")

    with pytest.raises(SystemExit) as ended:
        run_script(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: photo.jpg is missing; check the path\n"


def test_a_mistake_found_in_a_loader_process_is_one_line_too(capsys):
    def main() -> None:
        from torch.utils.data import DataLoader

        for _ in DataLoader(Broken(), num_workers=1):
            pass

    with pytest.raises(SystemExit):
        run_script(main)
    assert capsys.readouterr().err == "error: crop.jpg is broken; fetch it again\n"


class Broken:
    """A data set that finds a broken file."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise UserError("crop.jpg is broken; fetch it again")


def test_the_first_process_of_a_container_ends_when_asked_to():
    """Which without a handler it would not."""
    code = ("import os, signal\nfrom platekit.errors import run_script\nown = os.getpid()\nos.getpid = lambda: 1\n"
            "run_script(lambda: os.kill(own, signal.SIGTERM))")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 143


def test_whoever_stops_reading_the_output_sees_no_traceback(tmp_path):
    code = ("from platekit.errors import run_script\n"
            "def main():\n    for _ in range(100_000): print('a line of output', flush=True)\nrun_script(main)\n")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize(("redirected", "status", "said"), [("> /dev/full", 2, "disk is full"), (">&-", 0, "")])
@pytest.mark.parametrize("at_once", [False, True])
def test_an_output_that_cannot_be_written_is_no_traceback(redirected, status, said, at_once):
    code = f"from platekit.errors import run_script; run_script(lambda: print('a line'), at_once={at_once})"
    done = subprocess.run(f'"{sys.executable}" -c "{code}" {redirected}', shell=True, cwd=ROOT, capture_output=True,
                          text=True, env={**os.environ, "PYTHONUNBUFFERED": ""})  # as it is by default
    assert done.returncode == status and said in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a shell that closes streams")
@pytest.mark.parametrize(("end", "status"), [("return 0", 0), ("raise UserError('a sentence')", 2)])
def test_a_closed_standard_error_loses_no_run(end, status):
    code = ("from platekit.errors import UserError, run_script\n"
            f"def main():\n    print('a line of output')\n    {end}\nrun_script(main, at_once=True)\n")
    done = subprocess.run(['sh', '-c', '"$0" -c "$1" 2>&-', sys.executable, code], cwd=ROOT, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (status, b"a line of output\n")


@pytest.mark.parametrize(("end", "status", "said"), [
    ("return 1", 1, ""), ("raise UserError('a sentence')", 2, "error: a sentence\n"),
    ("raise KeyboardInterrupt", 130, "interrupted\n")], ids=["done", "refused", "interrupted"])
@pytest.mark.parametrize("at_once", [False, True])
def test_what_was_printed_before_the_end_arrives(end, status, said, at_once):
    code = ("from platekit.errors import UserError, run_script\n"
            f"def main():\n    print('a line of output')\n    {end}\nrun_script(main, at_once={at_once})\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONUNBUFFERED": ""})  # as it is by default
    assert (done.returncode, done.stdout, done.stderr) == (status, "a line of output\n", said)


@pytest.mark.parametrize("kind", ["picture", "list", "below", "video"])
def test_results_never_replace_an_input(folder, tmp_path, kind):
    (tmp_path / "list.txt").write_text(f"{folder / 'a.png'}\n")
    (tmp_path / "clip.mp4").write_bytes(b"a video")
    target = {"picture": folder / "a.png", "list": tmp_path / "list.txt", "below": folder / "c.png",
              "video": tmp_path / "clip.mp4"}[kind]
    before = target.read_bytes()
    with pytest.raises(UserError, match="would replace"):
        if kind == "video":
            run_video([str(target)], read, str(target))
        else:
            run_pictures([folder if kind == "below" else target], read, str(target))
    assert target.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
@pytest.mark.parametrize("display", ["", ":987"])
def test_without_a_display_no_window_is_tried(folder, monkeypatch, display):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)  # Qt ends the process where nobody answers
    for run, source in ((run_pictures, folder), (run_video, "clip.mp4")):
        with pytest.raises(UserError, match="no window can be opened"):
            run([source], read, show=True)


def test_a_window_shows_each_picture_with_its_plates_until_a_key(folder, monkeypatch):
    shown, waits = [], []
    monkeypatch.setattr("platekit.command.check_display", lambda show: None)
    monkeypatch.setattr(cv2, "imshow", lambda name, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", waits.append)
    assert run_pictures([folder], read, "-", show=True) == 1  # one of the files is no picture
    assert [picture.shape[:2] for picture in shown] == [(40, 100), (50, 80)] and waits == [0, 0]
    assert not np.array_equal(shown[0], make_picture(40, 100))


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path):
    """A barrier that reads the lines cannot wait for the next car."""
    with json_lines(str(tmp_path / "a.jsonl")) as stream:
        write_line(stream, {"image": "a"})
        assert (tmp_path / "a.jsonl.part").read_text() == '{"image": "a"}\n'


def test_fingerprints_tell_where_one_text_ends():
    assert len({fingerprint(*texts) for texts in (("ab", "c"), ("a", "bc"), ("c", "ab"), ("abc",), ("abc", ""))}) == 5


@pytest.mark.parametrize(("module", "name", "flags"), [
    (evaluate, "PlateReader", ("pnet", "onet", "lprnet", "stn")), (rare_plates, "PlateReader", ("pnet", "lprnet")),
    (MTCNN, "Detector", ("pnet", "onet")), (train_colour, "load_weights", ("stn",)),
    (export_detector, "load_weights", ("pnet",)), (read_plates, "PlateReader", ("pnet", "colour"))])
def test_the_weights_that_flags_name_are_those_used(call, tmp_path, monkeypatch, module, name, flags):
    asked = []

    def take(*arguments, **named):
        asked.extend(map(str, (*arguments, *named.values())))
        raise UserError("so far")

    monkeypatch.setattr(module, name, take)
    put_picture(tmp_path / "皖A12345_1.png", make_picture(20, 60))
    needed = {train_colour: ("--img_dirs_train", tmp_path), evaluate: ("--data", tmp_path, "--out", "out"),
              read_plates: ("--details",)}
    done = call(module.main, *(part for flag in flags for part in (f"--{flag}", tmp_path / f"my_{flag}")),
                *needed.get(module, ()), cwd=tmp_path)
    assert done.sentence().endswith("so far"), done
    assert {str(tmp_path / f"my_{flag}") for flag in flags} <= set(asked)
