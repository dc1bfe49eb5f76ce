"""Long runs: cut short at any moment and resumed, shared by processes, inputs streamed, pictures decoded ahead."""

from __future__ import annotations

import gc
import itertools
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from platekit import command, images
from platekit.ahead import ahead
from platekit.command import run_pictures
from platekit.errors import UserError
from platekit.files import json_line
from platekit.inputs import expand_inputs
from platekit.parts import Parts
from platekit.results import PictureResult, Plate
from tests import many_photos
from tests.conftest import files_below, full_disk, lines_of, make_picture, put_picture

COUNT = 12


class Nets:
    """Stand in for the nets: a picture's mean is its plate's place; they may be killed at the nth picture."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.killed_at, self.read = killed_at, []

    def __call__(self, image: np.ndarray, path: Path) -> PictureResult:
        if len(self.read) == self.killed_at:
            raise KeyboardInterrupt
        self.read.append(path.name)
        return PictureResult(image.shape[1], image.shape[0], (Plate((0, 0, 9, float(image.mean())), 0.9, "皖A", 0.8),))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of two folders, the second of which holds a file that is none."""
    for number in range(COUNT):
        put_picture(tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.png", make_picture(20 + number, 30, number))
    (tmp_path / "photos" / "b" / "broken.jpg").write_text("no picture")
    return tmp_path / "photos"


@pytest.fixture
def whole(photos, tmp_path) -> bytes:
    """The file of a run that nothing cut short."""
    assert run_pictures([photos], Nets(), str(tmp_path / "whole.jsonl")) == 1
    return (tmp_path / "whole.jsonl").read_bytes()


def cut_short(photos: Path, target: Path, after: int, resume: bool = False, settings: Sequence[object] = ()) -> Nets:
    nets = Nets(after)
    with pytest.raises(KeyboardInterrupt):
        run_pictures([photos], nets, str(target), resume=resume, settings=settings)
    return nets


@pytest.mark.parametrize("tail", ["", "12", "12\t", '12\t{"image": "/no', '3\t{"image": "x"}'])
def test_a_run_cut_short_anywhere_goes_on_and_reads_nothing_twice(photos, whole, tmp_path, tail):
    target = tmp_path / "plates.jsonl"
    for first, second in itertools.product((0, 1, 7, COUNT - 1), (0, 3)):
        nets = [cut_short(photos, target, first)]
        with open(f"{target}.parts/0", "a", encoding="utf-8") as part:
            part.write(tail)  # of a line that a kill cut off
        if second < COUNT - first:
            nets.append(cut_short(photos, target, second, resume=True))
        assert not target.exists()
        nets.append(Nets())
        assert run_pictures([photos], nets[-1], str(target), resume=True) == 1  # a picture of the first run failed
        assert target.read_bytes() == whole and not Path(f"{target}.parts").exists()
        read = [name for part in nets for name in part.read]
        assert sorted(read) == [f"{number:02}.png" for number in range(COUNT)]
        target.unlink()


def test_empty_lines_in_a_finished_file_are_no_lines(photos, whole, tmp_path):
    target, nets = tmp_path / "whole.jsonl", Nets()
    target.write_bytes(whole.replace(b"\n", b"\n\n", 1) + b"\n")
    run_pictures([photos], nets, str(target), resume=True)
    assert len(nets.read) <= 1 and target.read_bytes() == whole  # one that failed is read again


def test_lines_of_other_settings_are_not_gone_on_from(photos, tmp_path):
    target = tmp_path / "plates.jsonl"
    cut_short(photos, target, 3, settings="a")
    with pytest.raises(UserError, match="made with other weights or flags"):
        run_pictures([photos], Nets(), str(target), resume=True, settings="b")
    same, anew = Nets(), Nets()
    run_pictures([photos], same, str(target), resume=True, settings="a")
    cut_short(photos, target, 3, settings="a")
    run_pictures([photos], anew, str(target), settings="b")
    assert len(same.read) == COUNT - 3 and len(anew.read) == COUNT and not Path(f"{target}.parts").exists()


def test_lines_of_other_weights_in_the_same_file_are_not_gone_on_from(photos, tmp_path):
    target, weights = tmp_path / "plates.jsonl", tmp_path / "net.pth"
    weights.write_bytes(b"one")
    cut_short(photos, target, 3, settings=[weights])
    weights.write_bytes(b"two")
    with pytest.raises(UserError, match="made with other weights or flags"):
        run_pictures([photos], Nets(), str(target), resume=True, settings=[weights])


def test_lines_of_a_run_before_are_not_taken_for_those_of_one_that_was_killed_at_once(photos, whole, tmp_path):
    target, sources, anew = tmp_path / "whole.jsonl", list(expand_inputs([photos])), Nets()
    for resume in (False, True):
        parts = Parts(target, "other weights")
        with parts.only_run():
            assert parts.start(resume, sources) == 0
    assert target.read_bytes() == whole
    run_pictures([photos], anew, str(target))
    assert len(anew.read) == COUNT


def test_a_file_that_is_whole_is_resumed_by_reading_what_is_new(photos, whole, tmp_path, capsys):
    target, nets = tmp_path / "whole.jsonl", Nets()
    assert run_pictures([photos], nets, str(target), resume=True) == 1
    assert nets.read == [] and target.read_bytes() == whole
    put_picture(photos / "c" / "new.png", make_picture(20, 20))
    assert run_pictures([photos], nets, str(target), resume=True) == 1
    assert nets.read == ["new.png"] and target.read_bytes().startswith(whole)
    assert f"{COUNT + 2} pictures, 1 of them failed; 2 read now" in capsys.readouterr().out
    run_pictures([photos], nets, str(target), output=tmp_path / "drawn", resume=True)
    assert f"{COUNT + 1} lines are kept, whose pictures are not drawn" in capsys.readouterr().out


def test_results_that_another_program_wrote_anew_are_resumed(photos, whole, tmp_path):
    target, nets = tmp_path / "plates.jsonl", Nets()
    entries = list(map(json.loads, whole.splitlines()))
    target.write_text("".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries))
    (failed,) = (Path(entry["image"]) for entry in entries if "error" in entry)
    put_picture(failed, make_picture(20, 20))
    assert run_pictures([photos], nets, str(target), resume=True) == 0
    assert nets.read == [failed.name]
    others = [json.loads(line) for line in target.read_bytes().splitlines() if failed.name.encode() not in line]
    assert others == [entry for entry in entries if entry["image"] != str(failed)]


def test_what_failed_is_read_again_when_resumed(photos, whole, tmp_path):
    target, nets = tmp_path / "plates.jsonl", Nets()
    run_pictures([photos], nets, str(target))
    (failed,) = (json.loads(line)["image"] for line in whole.splitlines() if b'"error"' in line)
    put_picture(Path(failed), make_picture(20, 20))
    again = Nets()
    assert run_pictures([photos], again, str(target), resume=True) == 0
    assert again.read == [Path(failed).name] and b'"error"' not in target.read_bytes()


DAMAGED = {"a bit": (b'"plates"', b'"plbtes"'), "a brace": (b'"plates": [', b'"plates": [['), "no list": (b"[{", b"{"),
           "no plate": (b'"plates": [', b'"plates": [1, '), "nesting": (b'"plates": [', b'"plates": ' + b"[" * 200_000),
           "digits": (b'"width": ', b'"width": ' + b"9" * 5000), "no UTF-8": (b'"text": "', b'"text": "\xff')}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("finished", [True, False])
def test_a_picture_whose_line_is_damaged_is_read_again(photos, whole, tmp_path, kind, finished):
    target, nets = tmp_path / "plates.jsonl", Nets()
    if finished:
        target.write_bytes(whole)
    else:
        cut_short(photos, target, 3)
    file = target if finished else Path(f"{target}.parts/0")
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(*DAMAGED[kind])
    file.write_bytes(b"".join(lines))
    assert run_pictures([photos], nets, str(target), resume=True) == 1
    assert nets.read[0] == "02.png" and len(nets.read) == (1 if finished else COUNT - 2)
    assert target.read_bytes() == whole


@pytest.mark.parametrize("changed", [lambda lines: lines.replace(b"\n", b"\r\n"), lambda lines: lines[:-1]])
def test_a_file_with_other_line_ends_is_kept(photos, whole, tmp_path, changed):
    target, nets = tmp_path / "plates.jsonl", Nets()
    target.write_bytes(changed(whole))
    assert run_pictures([photos], nets, str(target), resume=True) == 1
    assert nets.read == [] and target.read_bytes() == whole


def test_a_damaged_number_and_damaged_settings_are_no_crash(photos, tmp_path):
    target, nets = tmp_path / "plates.jsonl", Nets()
    cut_short(photos, target, 3)
    with open(f"{target}.parts/0", "ab") as part:
        part.write(b"9" * 5000 + b'\t{"image": "x", "plates": []}\n')
    run_pictures([photos], nets, str(target), resume=True)
    assert len(nets.read) == COUNT - 3
    cut_short(photos, target, 3)
    Path(f"{target}.parts/settings").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="made with other weights or flags"):
        run_pictures([photos], Nets(), str(target), resume=True)


def test_without_the_flag_a_run_starts_anew(photos, whole, tmp_path, capsys):
    target = tmp_path / "plates.jsonl"
    cut_short(photos, target, 5)
    nets = Nets()
    run_pictures([photos], nets, str(target))
    assert len(nets.read) == COUNT and target.read_bytes() == whole and not Path(f"{target}.parts").exists()
    aside = Path(f"{target}.parts1")  # to go on with after all
    assert f"the lines of a run that was cut short are in {aside} now" in capsys.readouterr().err
    target.unlink()
    aside.rename(f"{target}.parts")
    nets = Nets()
    run_pictures([photos], nets, str(target), resume=True)
    assert len(nets.read) == COUNT - 5 and target.read_bytes() == whole


def test_ctrl_c_says_how_to_go_on(photos, tmp_path, capsys):
    cut_short(photos, tmp_path / "plates.jsonl", 5)
    assert f"what was read is in {tmp_path / 'plates.jsonl.parts'}; the same command goes on with --resume" \
        in capsys.readouterr().err


def test_lines_of_other_inputs_are_not_mixed_in_and_not_lost(photos, tmp_path):
    target = tmp_path / "plates.jsonl"
    cut_short(photos, target, 5)
    before = Path(f"{target}.parts/0").read_bytes()
    (photos / "a" / "00.png").rename(photos / "a" / "zz.png")
    with pytest.raises(UserError, match="do not belong to these inputs"):
        run_pictures([photos], Nets(), str(target), resume=True)
    (photos / "a" / "zz.png").rename(photos / "a" / "00.png")
    with pytest.raises(UserError, match="now there are fewer inputs"):
        run_pictures([photos / "a" / "00.png"], Nets(), str(target), resume=True)
    assert Path(f"{target}.parts/0").read_bytes() == before
    assert run_pictures([photos], Nets(), str(target), resume=True) == 1
    with pytest.raises(UserError, match="now there are fewer inputs"):
        run_pictures([photos / "a" / "00.png"], Nets(), str(target), resume=True)
    assert not Path(f"{target}.parts").exists()


def test_inputs_that_change_while_they_are_read_are_noticed(photos, tmp_path):
    nets = Nets()

    def read(image: np.ndarray, path: Path) -> PictureResult:
        (photos / "b" / "00.png").write_bytes((photos / "a" / "00.png").read_bytes())  # comes in behind the walk
        return nets(image, path)

    (photos / "a" / "10.png").rename(photos / "b" / "zz.png")
    for path in (photos / "b").glob("*.png"):
        path.rename(photos / "a" / path.name)
    with pytest.raises(UserError, match="do not belong to these inputs"):
        run_pictures([photos / "b", photos / "a"], read, str(tmp_path / "plates.jsonl"))
    assert not (tmp_path / "plates.jsonl").exists()


def test_parts_of_many_processes_merge_in_input_order(tmp_path):
    sources = [Path(f"{number}.jpg") for number in range(40)]
    parts = Parts(tmp_path / "plates.jsonl")
    parts.folder.mkdir()
    parts.start(False, sources)
    for rank in range(3):
        with parts.part(rank) as part:
            for number in range(40):
                if number // 4 % 3 == rank:
                    part.write(number, {"image": str(sources[number]), "plates": []})
    assert parts.start(True, sources) == 40 and list(parts.left(sources)) == []
    assert files_below(parts.folder) == ["kept", "settings"]
    with parts.part(5) as part:  # as if the kill had come before the parts that are in "kept" were deleted
        part.write(7, {"image": str(sources[7]), "plates": []})
    assert parts.finish(sources) == (40, 0)
    assert (tmp_path / "plates.jsonl").read_bytes() == \
        b"".join(json_line({"image": f"{number}.jpg", "plates": []}) for number in range(40))
    assert files_below(tmp_path) == ["plates.jsonl"]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes and their children are told by /proc")
def test_many_photos_shared_by_processes_with_kills_in_between(tmp_path):
    """The command tests/many_photos.py in small: main.py under torchrun, all processes killed, then one of them."""
    photos = many_photos.write_list(tmp_path / "photos.txt", many_photos.draw_photos(tmp_path / "photos", 380)[20:])
    target = tmp_path / "plates.jsonl"
    there = [many_photos.run_and_kill(photos, target, 2, 8, everything) for everything in (True, False)]
    assert 8 <= there[0] < there[1] < 360 and not target.exists()  # a process may go on for a while after the kill
    many_photos.run(photos, target, 2, "--resume")
    plates = many_photos.plates_of(target, photos)
    assert sum(map(len, plates)) >= 4 and files_below(tmp_path)[-1] == "plates.jsonl"


def test_what_a_full_disk_refuses_is_said_with_its_place(tmp_path):
    parts = Parts(str(tmp_path / "plates.jsonl"), "")
    parts.folder.mkdir()
    with full_disk(100), pytest.raises(UserError, match=r"free some space|cannot write"), parts.part(0) as part:
        for number in range(1000):
            part.write(number, {"image": "a.jpg", "plates": []})


def test_a_list_is_read_line_by_line(photos, tmp_path, monkeypatch):
    """Names as ``find`` prints them; a byte order mark, foreign line ends and bytes that are no UTF-8 do not hurt."""
    monkeypatch.chdir(tmp_path)
    listed = tmp_path / "list.TXT"
    listed.write_bytes("\ufeffphotos/a/00.png\r\n\r\nphotos/with space é.png\n".encode() + b"photos/\xff.png\nlast.png")
    paths = list(expand_inputs([listed, "photos/b"]))
    assert [str(path) for path in paths[:5]] == \
        ["photos/a/00.png", "photos/with space é.png", "photos/\udcff.png", "last.png", "photos/b/01.png"]
    listed.write_text("\n")
    with pytest.raises(UserError, match="names nothing"):
        run_pictures([listed], Nets(), str(tmp_path / "plates.jsonl"))


def count_paths() -> int:
    """How many paths there are in memory."""
    gc.collect()
    return sum(issubclass(type(thing), Path) for thing in gc.get_objects())


def test_inputs_are_never_all_held(photos, tmp_path):
    """In the middle of a long list there are a few paths in memory, however a run starts, and it ends whole."""
    listed, target, alive = tmp_path / "list.txt", tmp_path / "plates.jsonl", []
    names = [f"missing/{number}.jpg" for number in range(3000)]
    names[1500] = str(photos / "a" / "00.png")
    listed.write_text("\n".join(names))

    def read(image: np.ndarray, path: Path) -> PictureResult:
        alive.append(count_paths())
        raise KeyboardInterrupt

    before = count_paths()
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            run_pictures([listed], read, str(target), tmp_path / "out", resume=resume)
    assert run_pictures([listed], Nets(), str(target), resume=True) == 1
    assert [json.loads(line)["image"] for line in target.read_text("utf-8").splitlines()] == names
    assert len(alive) == 2 and max(alive) < before + 100


def test_a_folder_is_walked_as_its_pictures_are_asked_for(photos, monkeypatch):
    opened, scandir = [], images.os.scandir
    monkeypatch.setattr(images.os, "scandir", lambda path: opened.append(Path(path).name) or scandir(path))
    found = expand_inputs([photos])
    assert next(found).name == "00.png" and opened == ["photos", "a"]
    assert len(list(found)) == COUNT and opened == ["photos", "a", "b"]


def test_a_folder_that_cannot_be_looked_into_gets_its_line(photos, monkeypatch, capsys):
    scandir = images.os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "a":
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(images.os, "scandir", refuse)
    assert run_pictures([photos], Nets(), "-") == 1
    lines = lines_of(capsys.readouterr().out)
    assert lines[0]["image"] == str(photos / "a") and "error" in lines[0] and len(lines) == 2 + COUNT // 2


def test_an_output_folder_among_the_inputs_is_left_out(photos, tmp_path):
    for _ in range(2):
        nets = Nets()
        run_pictures([photos], nets, output=photos / "outputs")
        assert len(nets.read) == COUNT
    assert files_below(photos / "outputs") == [f"{'ab'[number % 2]}/{number:02}.png" for part in (0, 1)
                                              for number in range(part, COUNT, 2)]


def test_pictures_are_decoded_and_written_while_the_nets_compute(photos, tmp_path, monkeypatch):
    """At each picture the nets, the decoding of the next and the writing of the one before wait for one another."""
    (photos / "b" / "broken.jpg").unlink()
    names = [path.name for path in expand_inputs([photos])]
    meetings = [threading.Barrier(3 - (number in (0, COUNT - 1))) for number in range(COUNT)]
    threads, nets = set(), Nets()

    def meet(number: int) -> None:
        if 0 <= number < COUNT:
            meetings[number].wait(60)  # which ends in an error where they do not meet

    def beside(ahead_by: int, work):
        def call(path, *rest):
            threads.add((work.__name__, threading.current_thread() is threading.main_thread()))
            meet(names.index(path.name) - ahead_by)
            return work(path, *rest)
        return call

    def read(image: np.ndarray, path: Path) -> PictureResult:
        meet(names.index(path.name))
        return nets(image, path)

    monkeypatch.setattr(command, "spare_threads", lambda: 1)
    monkeypatch.setattr(command, "read_image", beside(1, command.read_image))
    monkeypatch.setattr(command, "write_image", beside(-1, command.write_image))
    assert run_pictures([photos], read, str(tmp_path / "plates.jsonl"), tmp_path / "out") == 0
    assert threads == {("read_image", False), ("write_image", False)} and nets.read == names


def test_work_ahead_is_in_order_bounded_and_passes_errors_on_in_their_turn():
    asked = []

    def items():
        for number in range(50):
            asked.append(number)
            yield number

    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        if number == 40:
            raise UserError("the fortieth")
        return number * number

    found = []
    with pytest.raises(UserError, match="fortieth"):
        for result in ahead(items(), work, threads=3):
            found.append(result)
            assert len(asked) - len(found) <= 3
    assert found == [number * number for number in range(40)]
    assert threading.active_count() == 1 or not any("ThreadPool" in thread.name for thread in threading.enumerate())
