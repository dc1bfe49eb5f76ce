"""What files of videos say of their length, and which of them count as cut off."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from platekit.containers import Stated, stated_length
from platekit.frames import FrameSource

CODECS = {".avi": "MJPG", ".mp4": "mp4v", ".mov": "mp4v", ".mkv": "MJPG"}
FRAMES, RATE = 100, 20


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    """A clip of 100 frames in each kind of file."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(2)
    for suffix, codec in CODECS.items():
        writer = cv2.VideoWriter(str(folder / f"clip{suffix}"), cv2.VideoWriter_fourcc(*codec), RATE, (64, 48))
        for _ in range(FRAMES):
            writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
        writer.release()
    return {suffix: folder / f"clip{suffix}" for suffix in CODECS}


def frames_of(path: Path, every: int = 1) -> tuple[int, bool]:
    """How many frames come, and whether the file counts as cut off."""
    with FrameSource(path, every=every) as source:
        return len(list(source)), source.broken


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("every", [1, 30])
def test_a_whole_file_is_none_that_is_cut_off(clips, suffix, every):
    assert frames_of(clips[suffix], every) == (-(-FRAMES // every), False)
    stated = stated_length(clips[suffix])
    if suffix == ".mkv":
        assert stated is None
    else:
        assert stated.end == stated.size == clips[suffix].stat().st_size
        assert stated.seconds == (np.inf if suffix == ".avi" else pytest.approx(FRAMES / RATE))


@pytest.mark.parametrize("every", [1, 30])
def test_an_avi_file_that_lacks_its_last_frames_is_cut_off(clips, tmp_path, every):
    content = clips[".avi"].read_bytes()
    end = content.index(b"idx1") - 20_000  # of the frames
    (tmp_path / "cut.avi").write_bytes(content[:end])
    count, broken = frames_of(tmp_path / "cut.avi", every)
    assert broken and 90 / every < count < FRAMES
    (tmp_path / "live.avi").write_bytes(content[:4] + bytes(4) + content[8:end])  # as a program that was killed left it
    assert not frames_of(tmp_path / "live.avi", every)[1]  # it cannot be told


def test_an_mp4_file_of_which_an_edit_shows_a_part_is_whole(clips, tmp_path):
    """Phones and ffmpeg trim videos so: the frames that are left out stay in the file."""
    content = bytearray(clips[".mp4"].read_bytes())
    header, edit = content.index(b"mvhd") + 4, content.index(b"elst") + 4
    ticks, duration = struct.unpack(">II", content[header + 12:header + 20])
    assert duration / ticks == pytest.approx(FRAMES / RATE)
    struct.pack_into(">I", content, header + 16, duration // 2)
    struct.pack_into(">I", content, edit + 8, duration // 2)
    (tmp_path / "trimmed.mp4").write_bytes(content)
    count, broken = frames_of(tmp_path / "trimmed.mp4")
    assert not broken and 45 < count < 55


def box(name: bytes, content: bytes, form: str = "short") -> bytes:
    head = {"short": struct.pack(">I", 8 + len(content)) + name, "rest": bytes(4) + name,
            "long": struct.pack(">I", 1) + name + struct.pack(">Q", 16 + len(content))}[form]
    return head + content


@pytest.mark.parametrize("form", ["short", "long"])
@pytest.mark.parametrize("version", [0, 1])
def test_boxes_say_how_long_an_iso_file_is(tmp_path, form, version):
    times = struct.pack(">QQIQ", 1, 2, 600, 3000) if version else struct.pack(">IIII", 1, 2, 600, 3000)
    movie = box(b"moov", box(b"mvhd", bytes([version, 0, 0, 0]) + times + bytes(80)))
    content = box(b"ftyp", b"isom") + movie + box(b"mdat", bytes(1000), form)
    path = tmp_path / "clip.mp4"
    for end in (len(content), len(content) - 1, len(content) - 999):
        path.write_bytes(content[:end])
        assert stated_length(path) == Stated(len(content), end, 5.0)
    path.write_bytes(box(b"ftyp", b"isom") + box(b"mdat", bytes(1000), "rest"))
    assert stated_length(path) == Stated(*[path.stat().st_size] * 2)


@pytest.mark.parametrize("content", [b"", b"RIFF", bytes(100), b"RIFF" + bytes(4) + b"AVI " + bytes(50),
                                     box(b"ftyp", b"isom") + box(b"mdat", b"", "long")[:8] + bytes(8)])
def test_files_that_say_nothing_of_their_length(tmp_path, content):
    (tmp_path / "clip").write_bytes(content)
    assert stated_length(tmp_path / "clip") is None and stated_length(tmp_path / "none") is None
    assert stated_length(tmp_path) is None and stated_length("zero\0byte") is None
