"""Folders of bad files: every file gets its line, photos among them are read as alone, memory stays bounded."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest

from platekit import MAX_PIXELS
from platekit.errors import UserError
from platekit.images import read_image
from platekit.inputs import find_images
from tests.conftest import ROOT, make_picture, put_picture
from tests.hostile_inputs import FORMATS, MEMORY, bad_files, encode, run, with_size


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="memory is measured as Unix does it")
@pytest.mark.parametrize("script", ["main.py", "MTCNN/MTCNN.py", "LPRNet/LPRNet_Test.py"])
def test_a_hostile_folder_loses_no_line(script, tmp_path):
    """In small; ``python tests/hostile_inputs.py`` tries 10,000 files and a truncation at every kilobyte."""
    counts = run(100, tmp_path, seed=sum(map(ord, script)), scripts=(script,), truncations=20)
    assert counts.tried > 140 and counts.refused > 60 and counts.photos == 2
    assert not counts.lost and not counts.otherwise and counts.memory < MEMORY, str(counts)


def test_reading_any_bad_file_gives_a_picture_or_one_sentence(tmp_path):
    for _, (name, data) in zip(range(1000), bad_files(1)):
        path = tmp_path / name
        path.write_bytes(data)
        try:
            image = read_image(path)
        except UserError as error:
            assert str(path) in str(error) and str(error).count("\n") == name.count("\n")
        else:
            assert image.dtype == np.uint8 and image.shape[2] == 3 and 0 < image.size <= 3 * MAX_PIXELS
        path.unlink()


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix != ".webp"])
def test_a_picture_that_says_to_be_huge_is_refused_by_its_header(suffix, tmp_path):
    path = tmp_path / f"bomb{suffix}"
    for width, height in ((MAX_PIXELS // 1000 + 1, 1000), (60_000, 60_000)):
        if suffix in (".jpg", ".gif") and width > 65_535:  # sizes of 16 bits
            continue
        path.write_bytes(with_size(encode(make_picture(60, 160), suffix), suffix, width, height))
        with pytest.raises(UserError, match=f"more than {MAX_PIXELS // 10**6} megapixels"):
            read_image(path)


@pytest.mark.parametrize("start", [".jp2", ".j2k"])
def test_a_picture_of_few_bytes_that_takes_much_memory_is_refused(start, tmp_path):
    content = encode(make_picture(60, 160), ".jp2")
    code = content.index(b"\xff\x4f\xff\x51")
    size = struct.pack(">II", MAX_PIXELS // 4000 + 1, 1000)
    path = tmp_path / f"bomb{start}"
    path.write_bytes(content[code * (start == ".j2k"):code + 8] + size + content[code + 16:])
    with pytest.raises(UserError, match=r"JPEG 2000 .* takes too much memory"):
        read_image(path)
    path.write_bytes(content[code * (start == ".j2k"):])
    assert read_image(path).shape == (60, 160, 3)
    cv2.imwrite(str(tmp_path / "a.hdr"), np.ones((9, 9, 3), np.float32))
    with pytest.raises(UserError, match="convert it to JPEG or PNG"):
        read_image(tmp_path / "a.hdr")


@pytest.mark.parametrize("before", ["", "import cv2; "])  # which then knows of no limit
def test_the_limit_holds_whatever_is_imported_first(before, tmp_path):
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((MAX_PIXELS // 10_000 + 1, 10_000), np.uint8))
    code = f"{before}from platekit.images import read_image; read_image('large.png')"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("OPENCV_IO_MAX_IMAGE_PIXELS")  # this process has set it
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode and f"it has more than {MAX_PIXELS // 10**6} megapixels" in done.stderr


def test_a_hundred_megapixels_are_read(tmp_path):
    put_picture(tmp_path / "large.jpg", np.full((10_000, 10_000, 3), 90, np.uint8))
    assert read_image(tmp_path / "large.jpg").shape == (10_000, 10_000, 3)


def test_a_file_too_large_for_any_picture_is_not_read_into_memory(tmp_path):
    with open(tmp_path / "film.jpg", "wb") as file:
        file.truncate(8 * MAX_PIXELS + 1)
    with pytest.raises(UserError, match="make it smaller"):
        read_image(tmp_path / "film.jpg")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_pipes_devices_and_links_in_circles_end_in_one_sentence_and_hide_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    (tmp_path / "linked.jpg").symlink_to(tmp_path)
    put_picture(tmp_path / "good.jpg", make_picture(20, 20))
    assert [path.name for path in find_images(tmp_path)] == ["circle.jpg", "device.jpg", "good.jpg", "pipe.jpg"]
    for name in ("pipe.jpg", "device.jpg", "circle.jpg", "zero\0byte.jpg"):
        with pytest.raises(UserError, match="cannot read"):
            read_image(tmp_path / name)
