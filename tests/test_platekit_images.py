"""Pictures read, written and found, and what becomes of files that are no pictures."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from platekit.errors import UserError
from platekit.files import atomic_path, replace, write_bytes, write_text
from platekit.images import decode_image, read_image, write_image
from platekit.inputs import expand_inputs, find_images
from tests.conftest import ROOT, files_below, full_disk, make_picture, put_picture

NAMES = ("plain.png", "皖A12345.png", "🚗 car.png", "with space & more.png", "é-ü.png", "a[1].png")


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_written_and_read(tmp_path, name):
    image = make_picture(20, 30)
    write_image(tmp_path / name, image)
    assert files_below(tmp_path) == [name]
    assert np.array_equal(read_image(tmp_path / name), image)
    assert list(expand_inputs([tmp_path / name])) == [tmp_path / name]


def test_exif_orientation_turns_the_picture_upright(tmp_path):
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, :40] = (255, 0, 0)  # the left half blue
    data = cv2.imencode(".jpg", image)[1].tobytes()
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation 6: to be turned a quarter clockwise
    body = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    (tmp_path / "turned.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:])
    turned = read_image(tmp_path / "turned.jpg")
    assert turned.shape == (80, 40, 3)
    assert turned[10, 20].argmax() == 0 and turned[10, 20, 0] > 200  # blue is on top now
    assert turned[70, 20].max() < 50


@pytest.mark.parametrize(("kind", "image"), [
    ("grey", make_picture(20, 30)[..., 0]), ("alpha", np.dstack([make_picture(20, 30), make_picture(20, 30)[..., :1]])),
    ("16-bit", make_picture(20, 30).astype(np.uint16) * 257),
    ("16-bit grey", make_picture(20, 30).astype(np.uint16)[..., 0] * 257),
])
def test_every_kind_of_pixel_becomes_bgr_bytes(tmp_path, kind, image):
    found = read_image(put_picture(tmp_path / "picture.png", image))
    assert found.shape == (20, 30, 3) and found.dtype == np.uint8
    expected = make_picture(20, 30) if "grey" not in kind else np.repeat(make_picture(20, 30)[..., :1], 3, axis=2)
    assert np.abs(found.astype(int) - expected).max() <= 1


def broken_files(folder: Path) -> dict[str, str]:
    """Files that are no pictures, and what the sentence about each must say."""
    whole = cv2.imencode(".jpg", make_picture(200, 300))[1].tobytes()
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "truncated.jpg").write_bytes(whole[:len(whole) // 2])
    (folder / "almost.jpg").write_bytes(whole[:-40])
    (folder / "header.jpg").write_bytes(whole[:20])
    png = cv2.imencode(".png", make_picture(50, 50))[1].tobytes()
    (folder / "truncated.png").write_bytes(png[:len(png) // 2])
    header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)  # a picture of a billion by a billion pixels
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
                                      + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + png[33:])
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "folder.jpg").mkdir()
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    reasons = {"empty.jpg": "the file is empty", "folder.jpg": "it is a folder", "missing.jpg": "No such file",
               "dangling.jpg": "No such file"}
    names = ["truncated.jpg", "almost.jpg", "header.jpg", "truncated.png", "bomb.png", "text.jpg"]
    return reasons | dict.fromkeys(names, "cannot decode")


def test_each_broken_file_gives_one_sentence_that_names_it(tmp_path):
    for name, reason in broken_files(tmp_path).items():
        with pytest.raises(UserError) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and reason in str(caught.value), name
        assert "\n" not in str(caught.value)


def png_chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    return struct.pack(">I", len(content) if length is None else length) + kind + content \
        + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt"])
def test_a_chunk_longer_than_its_file_takes_no_memory(kind, monkeypatch):
    header = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    monkeypatch.setattr("platekit.images.cv2.imdecode", None)  # which would take 4 GB
    with pytest.raises(UserError, match="truncated"):
        decode_image(np.frombuffer(header + b"\xff\xff\xff\xf0" + kind, np.uint8), "a.png")


@pytest.mark.parametrize(("brand", "match"), [(b"heic", "HEIC .* convert it to JPEG"), (b"avif", "truncated")])
def test_what_a_phone_makes_is_named(brand, match):
    with pytest.raises(UserError, match=match):
        decode_image(np.frombuffer(b"\0\0\0\x20ftyp" + brand + bytes(40), np.uint8), "a.heic")


def test_what_lies_behind_the_end_of_a_png_is_no_chunk():
    data = cv2.imencode(".png", make_picture(20, 30))[1].tobytes() + b"\xff" * 20
    assert np.array_equal(decode_image(np.frombuffer(data, np.uint8), "a.png"), make_picture(20, 30))


def test_a_jpeg_of_thousands_of_scans_is_refused_and_a_thumbnail_or_a_film_has_none(monkeypatch):
    image = make_picture(20, 30)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    start = data.index(b"\xff\xda")
    scan = data[start:start + 2 + data[start + 3]]
    many = scan * 1000
    segment = b"\xff\xe1" + struct.pack(">H", len(many) + 2) + many
    photo = data[:2] + segment + data[2:] + many
    assert np.array_equal(decode_image(np.frombuffer(photo, np.uint8), "a.jpg"),
                          decode_image(np.frombuffer(data, np.uint8), "a.jpg"))
    monkeypatch.setattr("platekit.images.cv2.imdecode", None)
    for hidden in (b"", b"\xff\x01", b"\xff\xd0", b"\xff"):  # what has no length of its own
        with pytest.raises(UserError, match="more than 200 scans"):
            decode_image(np.frombuffer(data[:start] + hidden + many, np.uint8), "a.jpg")


def test_a_picture_of_very_many_parts_is_refused(monkeypatch):
    monkeypatch.setattr("platekit.images.MOST_PARTS", 50)
    for suffix, start, part in ((".jpg", 2, b"\xff\xe0\x00\x02"), (".png", 33, struct.pack(">I4sI", 0, b"teXt", 0))):
        data = cv2.imencode(suffix, make_picture(20, 30))[1].tobytes()
        with pytest.raises(UserError, match=r"parts|no picture"):
            decode_image(np.frombuffer(data[:start] + 60 * part + data[start:], np.uint8), "a")
        assert decode_image(np.frombuffer(data, np.uint8), "a").shape == (20, 30, 3)


def test_finding_looks_into_subfolders_in_a_fixed_order(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a/9.jpeg", "c.bmp", "d.avif"):
        put_picture(tmp_path / name, make_picture(4, 4))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "e.HEIC").write_bytes(b"a phone's, which cannot be read, but is reported then")
    (tmp_path / "folder.jpg").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert names == ["a/9.jpeg", "b/1.png", "b/2.JPG", "c.bmp", "d.avif", "e.HEIC"]


def test_inputs_come_in_the_order_given(tmp_path):
    for name in ("folder/b.png", "folder/a.png", "z.png", "y.png", "[odd].png"):
        put_picture(tmp_path / name, make_picture(4, 4))
    (tmp_path / "*").symlink_to(tmp_path / "nowhere")  # a name that is a pattern, of a file that is not there
    given = ["missing.jpg", "z.png", "folder", "?.png", "*"]
    found = [os.path.relpath(path, tmp_path) for path in expand_inputs([str(tmp_path / entry) for entry in given])]
    assert found == ["missing.jpg", "z.png", "folder/a.png", "folder/b.png", "y.png", "z.png",
                     "*", "[odd].png", "folder/a.png", "folder/b.png", "y.png", "z.png"]


@pytest.mark.parametrize("base", ["", "absolute"])
def test_a_pattern_does_not_go_round_in_circles(tmp_path, monkeypatch, base):
    monkeypatch.chdir(tmp_path)
    start = f"{tmp_path}/" if base else ""
    for name in ("in/a.png", "in/b/c.png", "in/.hidden/d.png", "in/b/.e.png"):
        put_picture(tmp_path / name, make_picture(10, 10))
    for number in range(20):
        (tmp_path / "in" / f"loop{number}").symlink_to(".")
    names = [f"{start}in/a.png", f"{start}in/b/c.png"]
    for pattern in ("in/**/*.png", "i?/**/*.png"):
        assert list(map(str, expand_inputs([start + pattern]))) == names
    assert len(list(expand_inputs([f"{start}in/**"]))) == 2  # the folder itself
    for name in ("in/.hidden", "in/b/.e.png"):  # read where it is named
        assert len(list(expand_inputs([start + name]))) == 1
    assert list(map(str, expand_inputs([f"{start}in/.hid*/**/*.png"]))) == [f"{start}in/.hidden/d.png"]


@pytest.mark.parametrize("pattern", ["**", "**/*", "**/**/*.png", "f*"])
def test_a_pattern_gives_a_picture_once_and_none_of_the_output(tmp_path, monkeypatch, pattern):
    names = ["folder/b.png", "folder/deep/a.png", "folder/out/a.png", "folder/out/deep/b.png"]
    for name in names:
        put_picture(tmp_path / name, make_picture(4, 4))
    monkeypatch.chdir(tmp_path)
    assert [path.as_posix() for path in expand_inputs([pattern], Path("folder/out"))] == names[:2]
    assert [path.as_posix() for path in expand_inputs([pattern])] == names


def test_a_name_longer_than_any_file_has_is_reported_like_one_that_is_missing(tmp_path):
    path = tmp_path / f"{'a' * 300}.jpg"
    assert list(expand_inputs([path])) == [path]
    with pytest.raises(UserError, match="cannot read"):
        read_image(path)
    with pytest.raises(UserError, match="is not a folder"):
        find_images(path)


@pytest.mark.parametrize(("entry", "reason"), [
    ("**/**.jpg", "within a name|matches no file"), ("none*.jpg", "matches no file"), ("empty", "holds no pictures"),
    ("empt*", "matches no pictures")])
def test_nothing_to_read_is_said(tmp_path, entry, reason):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=reason):
        list(expand_inputs([tmp_path / entry]))
    with pytest.raises(UserError, match="is not a folder"):
        find_images(tmp_path / "missing")
    with pytest.raises(UserError, match="empty text"):
        list(expand_inputs([""]))


def test_writing_makes_folders_and_leaves_nothing_else(tmp_path):
    write_image(tmp_path / "new" / "deep" / "picture.jpg", make_picture(8, 8))
    write_text(tmp_path / "new" / "text.txt", "皖")
    assert files_below(tmp_path) == ["new/deep/picture.jpg", "new/text.txt"]
    assert (tmp_path / "new" / "text.txt").read_bytes() == "皖".encode()


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"20000 x 1 pixels are too many for '\.webp'; use \.png"):
        write_image(tmp_path / "wide.webp", np.zeros((1, 20000, 3), np.uint8))
    with pytest.raises(UserError, match=r"no picture format is known for '\.xyz'"):
        write_image(tmp_path / "picture.xyz", make_picture(8, 8))
    assert files_below(tmp_path) == []


class Crash(Exception):
    """Anything that goes wrong while a file is written."""


def test_an_interrupted_write_keeps_the_old_file_alone(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(Crash), atomic_path(path) as temporary:
        temporary.write_bytes(b"half of the ne")
        raise Crash
    assert files_below(tmp_path) == ["file.bin"] and path.read_bytes() == b"old"


def test_on_windows_a_file_that_is_looked_at_is_replaced_a_little_later(tmp_path, monkeypatch):
    (tmp_path / "new").write_text("new")
    tries = []

    def locked(source: Path, target: Path, replace: Callable = os.replace) -> None:
        tries.append(target)
        if len(tries) < 3:
            raise PermissionError
        replace(source, target)

    monkeypatch.setattr("platekit.files.os.replace", locked)
    monkeypatch.setattr("platekit.files.os.name", "nt")
    replace(tmp_path / "new", tmp_path / "old")
    monkeypatch.undo()
    assert len(tries) == 3 and (tmp_path / "old").read_text() == "new"


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and files_below(tmp_path) == ["file.bin"]


def test_a_full_disk_is_one_sentence_and_the_old_file_stays(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with full_disk(50_000), pytest.raises(UserError, match=r"cannot write .*file\.bin"):
        write_bytes(path, bytes(200_000))
    assert files_below(tmp_path) == ["file.bin"] and path.read_bytes() == b"old"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"cannot write .*choose another folder"):
        write_bytes(tmp_path / "taken" / "file.bin", b"data")


def test_a_name_as_long_as_the_file_system_takes(tmp_path):
    name = "皖" * 83 + ".png"  # 253 of 255 bytes
    write_image(tmp_path / name, make_picture(4, 4))
    assert files_below(tmp_path) == [name]


@pytest.mark.parametrize(("script", "problem", "remedy"), [
    *((script, "raise ImportError('libGL.so.1: cannot open shared object file')", "apt-get install libgl1")
      for script in ("main.py", "ccpd/synthesize.py", "LPRNet/data/preprocess.py")),
    ("main.py", "import cv2.none", "is not installed (No module named 'cv2.none'; 'cv2' is not a package); run 'pip")])
def test_a_missing_library_of_opencv_is_one_sentence(tmp_path, script, problem, remedy):
    (tmp_path / "cv2.py").write_text(problem)
    done = subprocess.run([sys.executable, ROOT / script, "--help"], env={**os.environ, "PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True)
    assert done.returncode == 1 and remedy in done.stderr and "Traceback" not in done.stderr
    assert "'pip install \"opencv-python-headless>=5\"'" in done.stderr  # without the quotes > would write a file


def test_without_opencv_a_program_of_somebody_elses_gets_an_import_error(tmp_path):
    (tmp_path / "cv2.py").write_text("__version__ = '4.10.0'")
    done = subprocess.run([sys.executable, "-c", "import platekit.images"], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert "ImportError: OpenCV 4.10.0 is too old" in done.stderr
    shutil.copytree(ROOT / "platekit", tmp_path / "platekit")  # installed, where that program is too
    (tmp_path / "program.py").write_text("import platekit.images")
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True)
    assert "ImportError: OpenCV 4.10.0 is too old" in done.stderr


def test_threads_that_read_pictures_leave_the_programs_warnings_alone(tmp_path):
    path = put_picture(tmp_path / "a.png", make_picture(60, 100))
    script = f"""
import cv2, threading, warnings
from platekit.images import read_image
before = list(warnings.filters)
threads = [threading.Thread(target=lambda: [read_image({str(path)!r}) for _ in range(100)]) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert list(warnings.filters) == before, warnings.filters
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": "."})
    assert done.returncode == 0, done.stderr


def test_too_large_a_picture_is_refused_before_it_is_decoded_though_opencv_was_there_first(tmp_path):
    """And a limit that somebody has set below the project's stays."""
    path = put_picture(tmp_path / "a.png", make_picture(60, 100))
    script = f"""
import cv2
from platekit.images import MAX_PIXELS, read_image
assert MAX_PIXELS == 5000
from PIL import Image
Image.MAX_IMAGE_PIXELS = 2000
read_image({str(put_picture(tmp_path / "small.png", make_picture(60, 70)))!r})  # which Pillow alone would refuse
Image.MAX_IMAGE_PIXELS = cv2.imdecode = None
read_image({str(path)!r})
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "5000", "PYTHONPATH": "."})
    assert "UserError" in done.stderr and "more than 0.005 megapixels" in done.stderr


def test_a_name_in_a_list_keeps_its_spaces_but_no_mark_of_the_encoding_and_no_end_of_the_line(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.png\r\n b.png \n")
    assert list(map(str, expand_inputs([tmp_path / "list.txt"]))) == ["a.png", " b.png "]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_list_that_is_a_pipe_or_a_device_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    for name in ("pipe.txt", "zero.txt"):
        with pytest.raises(UserError, match=f"{name}: it is a pipe or a device"):
            list(expand_inputs([tmp_path / name]))


def test_a_list_in_another_encoding_is_said(tmp_path):
    (tmp_path / "list.txt").write_text("皖.jpg\r\n", encoding="utf-16")  # as a console of Windows writes it
    with pytest.raises(UserError, match=r"list\.txt is in UTF-16; save it in UTF-8"):
        list(expand_inputs([tmp_path / "list.txt"]))
