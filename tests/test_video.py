"""Videos: frames in a thread, plates followed, one result a plate; on generated clips whose truth is known."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from ccpd.plate_numbers import random_text
from ccpd.plates import PlateRenderer
from LPRNet.data.labels import read_labels
from LPRNet.data.load_data import LPRDataLoader
from platekit import video
from platekit.drawing import hide_plates
from platekit.errors import UserError
from platekit.frames import FrameSource, is_live, source_name
from platekit.fusion import FusedReading
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.plate_crops import PlateCrops
from platekit.read_plates import main
from platekit.results import Details, PictureResult, Plate
from platekit.tracking import Rules, Track, Tracker, likeness
from platekit.video import AnnotatedVideos, VideoFile, Watch, run_video
from tests.conftest import ROOT, files_below, full_disk, make_picture, overlap, put_picture, results_of
from tests.makers import nothing, slow

WIDTH, HEIGHT = 640, 360
CLIP = 120  # frames


@dataclasses.dataclass(frozen=True)
class Car:
    """A plate on its way: it comes and goes at the border or at once, grows, and may be hidden for a while."""

    text: str
    start: int
    frames: int
    centre: tuple[float, float]
    speed: tuple[float, float]
    width: float
    growth: float = 1.0
    hidden: tuple[int, int] = (0, 0)

    def box(self, frame: int) -> np.ndarray | None:
        """Its box inside the picture, or None where less than 0.7 of it shows."""
        age = frame - self.start
        if not 0 <= age < self.frames or self.hidden[0] <= age < self.hidden[1]:
            return None
        size = self.width * self.growth**age * np.array([1, 0.32])
        middle = np.add(self.centre, np.multiply(self.speed, age))
        whole = np.concatenate([middle - size / 2, middle + size / 2])
        box = np.clip(whole, 0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
        return box if (box[2:] - box[:2]).prod() > 0.7 * size.prod() and (box[2:] > box[:2]).all() else None


def random_cars(rng: np.random.Generator, crossing: bool) -> list[Car]:
    """One to four cars; crossing ones meet on one line, the others drive where they like."""
    cars = []
    for index in range(rng.integers(1, 5)):
        text, width = random_text(rng, str(rng.choice(["blue", "green"]))), rng.uniform(30, 80)
        side = 1 if index % 2 else -1
        speed = (side * rng.uniform(4, 7), 0.0) if crossing else (side * rng.uniform(0, 0.5) * width, rng.normal())
        start = (WIDTH * (0.5 - side * rng.uniform(0.1, 0.5)),
                 HEIGHT / 2 + rng.uniform(-3, 3) if crossing else rng.uniform(30, HEIGHT - 30))
        gap = int(rng.integers(8, 20))
        hidden = (gap, gap + int(rng.integers(3, 30))) if rng.random() < 0.25 else (0, 0)
        cars.append(Car(text, int(rng.integers(40)), int(rng.integers(25, 80)), start, speed, width,
                        rng.uniform(0.995, 1.015), hidden))
    return cars


def visible(cars: list[Car], frame: int) -> list[tuple[Car, np.ndarray]]:
    """Cars and boxes of a frame; of two plates that overlap, a detector gives the front one."""
    shown: list[tuple[Car, np.ndarray]] = []
    for car in cars:
        box = car.box(frame)
        if box is not None and all(overlap(box, other) < 0.3 for _, other in shown):
            shown.append((car, box))
    return shown


def misread(text: str, rng: np.random.Generator, count: int) -> str:
    symbols = list(text)
    for place in rng.choice(len(symbols), count, replace=False):
        symbols[place] = str(rng.choice(list("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789")))
    return "".join(symbols)


def noisy_plate(car: Car, box: np.ndarray, rng: np.random.Generator) -> Plate | None:
    """What the nets make of a plate: dropped at times, its box shaken, four of ten readings wrong, some surely so."""
    if rng.random() < 0.12:
        return None
    box = box + rng.normal(0, 0.03, 4) * np.tile(box[2:] - box[:2], 2)
    kind = rng.random()
    text, sure = (
        (car.text, rng.uniform(0.7, 0.999)) if kind < 0.6
        else (misread(car.text, rng, int(rng.integers(1, 3))), rng.uniform(0.2, 0.8)) if kind < 0.9
        else (misread(car.text, rng, 1), rng.uniform(0.8, 0.97)) if kind < 0.92
        else (car.text[:-1], rng.uniform(0.6, 0.97)) if kind < 0.93
        else ("", 0.0) if kind < 0.96
        else (misread(car.text, rng, 5)[:-1], rng.uniform(0.05, 0.5)))
    return Plate(tuple(box), 0.99, text, sure, (sure ** (1 / 7),) * len(text))


def follow_clip(seed: int) -> tuple[Counter[str], list[Track]]:
    """How often each plate was read right, and the tracks. Every third clip is watched with gaps, as a slow machine
    watches a camera; every fifth is without noise."""
    rng = np.random.default_rng(seed)
    cars, tracker = random_cars(rng, crossing=seed % 2 == 1), Tracker()
    right, tracks, frame = Counter(), [], 0
    while frame < CLIP:
        plates = []
        for car, box in visible(cars, frame):
            plate = noisy_plate(car, box, rng) if seed % 5 else Plate(tuple(box), 0.99, car.text, 0.97)
            if plate:
                plates.append(plate)
                right[car.text] += plate.text == car.text
        order = rng.permutation(len(plates))
        tracker.follow(frame, [plates[index] for index in order])
        tracks += tracker.finished()
        frame += int(rng.integers(1, 4)) if seed % 3 == 2 else 1
    return right, tracks + tracker.finished(end=True)


def test_of_hundreds_of_tracks_99_percent_are_right_and_none_is_doubled():
    total = right = 0
    for seed in range(150):
        readable, tracks = follow_clip(seed)
        texts = Counter(track.reading.text for track in tracks)
        wanted = [text for text, count in readable.items() if count >= 3]
        total += len(wanted)
        right += sum(texts[text] == 1 for text in wanted)
        assert max(texts.values(), default=0) <= 1, f"clip {seed}: a plate twice among {texts}"
        assert texts.keys() <= readable.keys(), f"clip {seed}: {texts.keys() - readable.keys()} was not there"
    print(f"{right} of {total} tracks right")
    assert total >= 300 and right >= 0.99 * total


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Car]]:
    """A clip of rendered plates that enter, cross and leave before a background, and the truth about it."""
    rng = np.random.default_rng(3)
    cars = [Car("皖A12345", 0, 60, (-20, 150), (12, 0), 90), Car("粤B6789Z", 0, 60, (660, 190), (-12, 0), 90),
            Car("京AD12345", 10, 40, (200, 300), (5, -1), 70, 1.01), Car("川C777X7", 20, 30, (500, 60), (0, 1), 60)]
    path = tmp_path_factory.mktemp("clips") / "皖 drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (WIDTH, HEIGHT))
    renderer = PlateRenderer()
    plates = {car.text: renderer.render(car.text, "green" if len(car.text) == 8 else "blue", rng) for car in cars}
    background = make_picture(HEIGHT, WIDTH, 1) // 4
    for frame in range(60):
        picture = background.copy()
        for car, box in reversed(visible(cars, frame)):
            x1, y1, x2, y2 = box.round().astype(int)
            picture[y1:y2, x1:x2] = cv2.resize(plates[car.text], (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
        writer.write(picture)
    writer.release()
    return path, cars


class Eyes:
    """Stands in for the nets: knows what each frame shows, frame by frame, and checks that it is the right one."""

    def __init__(self, cars: list[Car]) -> None:
        self.cars, self.frame = cars, 0

    def __call__(self, image: np.ndarray) -> PictureResult:
        shown = visible(self.cars, self.frame)
        self.frame += 1
        for _, (x1, y1, x2, y2) in ((car, box.astype(int)) for car, box in shown):
            assert image[y1 + 2:y2 - 2, x1 + 2:x2 - 2].max() > 70  # a plate is brighter than the background
        return PictureResult(WIDTH, HEIGHT, tuple(Plate(tuple(box), 0.99, car.text, 0.9) for car, box in shown))


def test_a_clip_gives_a_line_a_frame_a_line_a_plate_and_an_annotated_video(drive, tmp_path, capsys):
    path, cars = drive
    target = tmp_path / "plates.jsonl"
    assert run_video([str(path)], Eyes(cars), str(target), tmp_path / "drawn") == 0
    lines = results_of(target)
    assert {line["image"] for line in lines} == {str(path)}
    frames, tracks = ([line for line in lines if key in line] for key in ("frame", "track"))
    assert len(lines) == len(frames) + len(tracks) and [line["frame"] for line in frames] == list(range(60))
    assert list(frames[0]) == ["image", "frame", "second", "width", "height", "ms", "plates", "tracks"]
    numbers = {line["track"]: line["text"] for line in tracks}
    for line in frames:
        assert [numbers[track["number"]] for track in line["tracks"]] == [plate["text"] for plate in line["plates"]]
        assert all(track["confidence"] == 0.9 for track in line["tracks"])
    assert sorted(line["text"] for line in tracks) == sorted(car.text for car in cars)
    rate = FrameSource(str(path)).rate
    for line in tracks:
        assert list(line) == ["image", "track", "text", "confidence", "first_frame", "last_frame", "frames",
                              "best_frame", "box", "first_second", "last_second"]
        for end in ("first", "last"):
            assert line[f"{end}_second"] == round(line[f"{end}_frame"] / rate, 2)
        car = next(car for car in cars if car.text == line["text"])
        seen = [number for number in range(60) if car in [shown for shown, _ in visible(cars, number)]]
        assert (line["first_frame"], line["last_frame"], line["frames"]) == (seen[0], seen[-1], len(seen))
        assert line["confidence"] == 0.9 and np.allclose(line["box"], car.box(line["best_frame"]), atol=0.06)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(f"; annotated video in {tmp_path / 'drawn' / path.name}")
    assert "60 frames" in said and "x real time, 0 dropped; 4 plates" in said and "皖 drive.avi" in said
    assert files_below(tmp_path / "drawn") == ["皖 drive.avi"]
    drawn, plain = (list(FrameSource(str(clip))) for clip in (tmp_path / "drawn" / path.name, path))
    assert len(drawn) == len(plain) == 60
    assert np.abs(drawn[30][1].astype(int) - plain[30][1]).mean() > 1


def test_a_video_is_drawn_as_asked(drive, tmp_path):
    path, cars = drive
    assert run_video([str(path)], Eyes(cars), output=tmp_path, hide=True) == 0
    hidden, plain = (dict(FrameSource(str(clip))) for clip in (tmp_path / path.name, path))
    x1, y1, x2, y2 = cars[0].box(30).astype(int)
    parts = [frames[30][y1:y2, x1:x2].astype(int) for frames in (hidden, plain)]
    rough = [np.abs(np.diff(part, axis=1)).mean() for part in parts]
    assert rough[0] < 0.5 * rough[1]


def test_main_hides_the_plates_of_a_video_where_asked(call, drive, monkeypatch, tmp_path):
    path, cars = drive
    texts = []
    monkeypatch.setattr("platekit.drawing.draw_text", lambda *args, **named: texts.append(args))
    monkeypatch.setattr("platekit.read_plates.make_reader", lambda args, **_: SimpleNamespace(read=Eyes(cars)))
    for flags, number in ((("--hide",), 0), ((), 1)):
        done = call(main, "--video", path, "--output", tmp_path / str(number), "--json", tmp_path / "a.jsonl", *flags)
        assert done.status == 0 and bool(texts) == bool(number)


def test_q_in_the_window_ends_a_video(drive, monkeypatch, tmp_path):
    path, cars = drive
    shown = []
    monkeypatch.setattr("platekit.video.check_display", lambda show: None)
    monkeypatch.setattr(cv2, "imshow", lambda name, picture: shown.append(picture))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 20 else -1)
    assert run_video([str(path)], Eyes(cars), str(tmp_path / "plates.jsonl"), show=True) == 0
    lines = results_of(tmp_path / "plates.jsonl")
    assert len(shown) == 20 and [line["frame"] for line in lines if "frame" in line] == list(range(20))
    assert shown[0].shape == (HEIGHT, WIDTH, 3) and any("track" in line for line in lines)


def test_what_is_drawn_is_what_all_frames_say(drive, monkeypatch, tmp_path):
    path, cars = drive
    eyes, drawn = Eyes(cars), []

    def read(image: np.ndarray) -> PictureResult:
        result = eyes(image)
        wrong = (dataclasses.replace(plate, text="京X00000", confidence=0.3) for plate in result.plates)
        return dataclasses.replace(result, plates=tuple(wrong)) if eyes.frame == 30 else result

    def draw(image: np.ndarray, plates: Sequence[Plate]) -> np.ndarray:
        drawn.append({plate.text for plate in plates})
        return image

    monkeypatch.setattr("platekit.video.draw_plates", draw)
    assert run_video([str(path)], read, output=tmp_path) == 0
    assert "皖A12345" in drawn[29] and set.union(*drawn) == {car.text for car in cars}


def test_a_plate_is_hidden_in_frames_that_do_not_show_it_too(drive, monkeypatch, tmp_path):
    """Where it is expected, until it counts as gone: one readable frame would undo the rest."""
    path, cars = drive
    eyes, hidden = Eyes(cars), []

    def read(image: np.ndarray) -> PictureResult:
        result = eyes(image)
        return dataclasses.replace(result, plates=()) if eyes.frame in (30, 31) else result

    def hide(image: np.ndarray, plates: Sequence[Plate]) -> np.ndarray:
        hidden.append(plates)
        return hide_plates(image, plates)

    monkeypatch.setattr("platekit.video.hide_plates", hide)
    assert run_video([str(path)], read, output=tmp_path / "hidden", hide=True) == 0
    for number in (28, 29, 30):
        for _, box in visible(cars, number):
            assert max(overlap(box, plate.box) for plate in hidden[number]) > 0.6
    drawn: list[int] = []
    eyes = Eyes(cars)
    monkeypatch.setattr("platekit.video.draw_plates", lambda image, plates: drawn.append(len(plates)) or image)
    assert run_video([str(path)], read, output=tmp_path / "drawn") == 0
    assert drawn[28] and drawn[29] == drawn[30] == 0  # boxes and texts only where something was found


@pytest.mark.parametrize(("places", "seconds"), [
    ([0, 33, 67, 900, 1800], [0, 0.033, 0.067, 0.9, 1.8]),  # milliseconds, as a phone's frames come
    ([0, 0, 0, 0, 0], [0, 0.04, 0.08, 0.12, 0.16]),  # not told
    ([0, 40, 60, 60, 100, 140], [0, 0.04, 0.06, 0.06, 0.1, 0.14]),  # two of one stamp
    ([0, 40, 9e9, 120, 160], [0, 0.04, 9e6, 0.12, 0.16])])  # a wrong one
def test_frames_have_the_times_that_the_file_tells(drive, monkeypatch, places, seconds):
    given, get = iter(places), cv2.VideoCapture.get
    monkeypatch.setattr(cv2.VideoCapture, "get", lambda capture, what: float(next(given))
                        if what == cv2.CAP_PROP_POS_MSEC else get(capture, what))
    monkeypatch.setattr(FrameSource, "_wait_for_room", lambda source: source._next < len(places))
    with FrameSource(str(drive[0])) as source:
        source.rate = 25.0
        assert [source.second for _ in source] == pytest.approx(seconds)


def test_without_json_a_line_a_plate_is_printed(drive, capsys):
    path, cars = drive
    assert run_video([str(path)], Eyes(cars)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and any(line.startswith(f"{path}: 皖A12345  confidence 0.900  frames ") for line in lines)


def test_a_live_source_tells_of_a_plate_while_it_is_there(drive, monkeypatch, capsys):
    """A barrier opens for a car that stands before it, not when it has gone."""
    monkeypatch.setattr("platekit.frames.is_live", lambda source: True)
    monkeypatch.setattr(cv2.VideoCapture, "read", slow(cv2.VideoCapture.read, 0.02))
    said = []

    def read(image: np.ndarray) -> PictureResult:
        said.append(capsys.readouterr().out)
        return PictureResult(WIDTH, HEIGHT, (Plate((10, 10, 90, 35), 0.99, "皖A12345", 0.8),))

    assert run_video([str(drive[0]), str(drive[0])], read) == 1  # it ended by itself
    told = "".join(said).splitlines()
    assert len(told) >= 1 and told[0].startswith(f"{drive[0]}: 皖A12345  confidence 0.800  here since 20")
    assert len([line for line in told if "here since" in line]) == 2  # once of each source
    assert "".join(said[:3]) == ""  # it counts from the third frame on


def test_lines_tell_of_a_plate_while_it_is_there_too(drive, monkeypatch, tmp_path):
    monkeypatch.setattr("platekit.frames.is_live", lambda source: True)
    monkeypatch.setattr(cv2.VideoCapture, "read", slow(cv2.VideoCapture.read, 0.02))
    result = PictureResult(WIDTH, HEIGHT, (Plate((10, 10, 90, 35), 0.99, "皖A12345", 0.8),))
    run_video([str(drive[0])], lambda image: result, str(tmp_path / "plates.jsonl"))
    lines = results_of(tmp_path / "plates.jsonl")
    (arrived,) = (line for line in lines if "arrived" in line)
    (track,) = (line for line in lines if "track" in line)
    assert lines.index(arrived) == 3 and arrived["first_time"] == track["first_time"]
    assert (arrived["arrived"], arrived["text"], arrived["confidence"]) == (track["track"], "皖A12345", 0.8)


def test_plates_that_are_less_sure_than_asked_for_are_left_out(drive):
    plates = Plate((10, 10, 90, 35), 0.99, "皖A12345", 0.8), Plate((200, 10, 280, 35), 0.99, "粤B12345", 0.6)
    rules = Rules(least=0.7)
    frames = Watch(str(drive[0]), lambda image: PictureResult(WIDTH, HEIGHT, plates), rules)
    assert [track.reading.text for frame in frames for track in frame.finished] == ["皖A12345"]


def test_a_plate_that_turns_out_to_have_been_there_before_is_told_of_once(drive, monkeypatch, capsys):
    monkeypatch.setattr("platekit.frames.is_live", lambda source: True)
    monkeypatch.setattr(cv2.VideoCapture, "read", slow(cv2.VideoCapture.read, 0.02))
    frames, said = itertools.count(), []

    def read(image: np.ndarray) -> PictureResult:
        frame = next(frames)
        said.append(capsys.readouterr().out)
        early, late = (Plate((x, 10, x + 80, 35), 0.99, "皖A12345", surety) for x, surety in ((10, 0.5), (300, 0.95)))
        return PictureResult(WIDTH, HEIGHT, (early,) if frame == 0 else (late,) if frame >= 10 else ())

    run_video([str(drive[0])], read)
    told = "".join([*said, capsys.readouterr().out])
    assert told.count("here since") == 1


def test_of_several_sources_those_that_wait_for_a_live_one_are_named(drive, monkeypatch, capsys):
    monkeypatch.setattr("platekit.frames.is_live", lambda source: True)
    run_video([str(drive[0]), "rtsp://user:secret@gate/2"], lambda image: PictureResult(WIDTH, HEIGHT, ()))
    said = capsys.readouterr().err
    assert f"rtsp://gate/2 will be opened when {drive[0]} ends" in said and "secret" not in said


def test_results_do_not_replace_the_list_of_videos(call, drive, tmp_path):
    (tmp_path / "list.txt").write_text(f"{drive[0]}\n", "utf-8")
    done = call(main, "--video", tmp_path / "list.txt", "--json", tmp_path / "list.txt")
    assert "would replace an input" in done.sentence() and (tmp_path / "list.txt").read_text("utf-8") == f"{drive[0]}\n"


def test_every_nth_frame_of_a_file_is_looked_at(drive, tmp_path, capsys):
    path, cars = drive
    with FrameSource(str(path), every=7) as source:
        seen = [(number, source.second, frame) for number, frame in source]
    assert [number for number, _, _ in seen] == list(range(0, 60, 7)) and not source.broken
    assert [second for _, second, _ in seen] == pytest.approx([number / source.rate for number, _, _ in seen])
    with pytest.raises(UserError, match="from 1 on"):
        Watch(path, Eyes(cars), every=0)
    whole = dict(FrameSource(str(path)))
    assert all((whole[number] == frame).all() for number, _, frame in seen)

    eyes = Eyes(cars)

    def read(image: np.ndarray) -> PictureResult:
        result = eyes(image)
        eyes.frame += 4
        return result

    assert run_video([str(path)], read, str(tmp_path / "plates.jsonl"), tmp_path / "drawn", every=5) == 0
    lines = results_of(tmp_path / "plates.jsonl")
    assert [line["frame"] for line in lines if "frame" in line] == list(range(0, 60, 5))
    assert sorted(line["text"] for line in lines if "track" in line) == sorted(car.text for car in cars)
    assert "12 of 60 frames" in capsys.readouterr().err
    assert len(list(FrameSource(str(tmp_path / "drawn" / path.name)))) == 56  # it keeps time


@pytest.mark.parametrize(("live", "number", "sources"), [
    (False, signal.SIGINT, 1), (False, signal.SIGINT, 2), (True, signal.SIGINT, 1), (True, signal.SIGINT, 2),
    (True, signal.SIGTERM, 1), (True, getattr(signal, "SIGHUP", signal.SIGTERM), 1)])
def test_ctrl_c_leaves_whole_files(drive, tmp_path, monkeypatch, live, number, sources):
    path, _ = drive
    handler, calls = signal.getsignal(number), []
    if handler is signal.SIG_IGN:
        pytest.skip("this signal is ignored here, as under nohup")
    if live:
        monkeypatch.setattr("platekit.frames.is_live", lambda source: True)
        monkeypatch.setattr(cv2.VideoCapture, "read", slow(cv2.VideoCapture.read, 0.03))

    def read(image: np.ndarray) -> PictureResult:
        calls.append(image)
        if len(calls) == 21:
            os.kill(os.getpid(), number)
        return PictureResult(WIDTH, HEIGHT, (Plate((10, 10, 90, 35), 0.99, "皖A12345", 0.9),))

    def run() -> int:
        return run_video([str(path)] * sources, read, str(tmp_path / "plates.jsonl"), tmp_path / "drawn")

    if live and sources == 1:  # nothing else ends a camera
        assert run() == 0
    else:
        with pytest.raises(KeyboardInterrupt):
            run()
    assert signal.getsignal(number) is handler
    lines = results_of(tmp_path / "plates.jsonl")
    frames = [line["frame"] for line in lines if "frame" in line]
    assert len(frames) == 21 and [line["frames"] for line in lines if "track" in line] == [21]
    (video,) = (tmp_path / "drawn").iterdir()
    (end,) = (line["last_second"] for line in lines if "track" in line)
    assert abs(len(list(FrameSource(str(video)))) - (20 * end + 1)) <= 1  # it keeps time, whatever was dropped
    assert not list(tmp_path.glob("*.part"))


def test_a_live_source_gives_its_latest_frame_and_a_file_every_one(drive, monkeypatch):
    path, _ = drive
    with FrameSource(str(path)) as source:
        for number, _ in source:
            if number < 12:
                time.sleep(0.005)  # however slow the reader is
        assert number == 59 and source.dropped == 0 and source.total == 60 and source.rate == 20
    monkeypatch.setattr(cv2.VideoCapture, "read", slow(cv2.VideoCapture.read, 0.005))
    with FrameSource(str(path), live=True) as source:
        numbers = []
        for number, _ in source:
            numbers.append(number)
            time.sleep(0.03)
    assert len(numbers) < 55 and numbers == sorted(set(numbers)) and numbers[-1] == 59
    assert len(numbers) + source.dropped == 60


def test_a_video_that_nobody_looks_at_keeps_no_thread(drive):
    path, _ = drive
    source = FrameSource(path)
    assert not any("frames of" in thread.name for thread in threading.enumerate())
    source.close()
    assert not source._capture.isOpened()


def test_a_folder_is_no_video_and_an_address_may_be_long(tmp_path):
    with pytest.raises(UserError, match="name the videos in it"):
        FrameSource(str(tmp_path))
    with pytest.raises(UserError, match="cannot open"):
        FrameSource("http://127.0.0.1:9/" + 300 * "x")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_names_that_are_no_utf8(drive, tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.avi")
    path.write_bytes(drive[0].read_bytes())
    assert run_video([str(path)], nothing, output=tmp_path / "drawn") == 0
    assert len(list(FrameSource(str(tmp_path / "drawn" / path.name)))) == 60


def test_a_video_that_does_not_fit_the_disk_is_one_sentence(tmp_path):
    for size in (0, 500, 20_000):
        video = VideoFile(tmp_path / f"{size}.avi", 20)
        with full_disk(size), pytest.raises(UserError, match=rf"cannot write all of .*{size}\.avi"):
            for number in range(20):
                video.write(number / 20, make_picture(HEIGHT, WIDTH, number))
            video.close()


def test_a_video_that_is_named_twice_gets_two_annotated_ones(tmp_path):
    videos = AnnotatedVideos(tmp_path, ["clip.mp4"])
    assert [videos.file_for("clip.mp4", 25).path.name for _ in range(2)] == ["clip.mp4.avi", "clip.mp4-2.avi"]


def test_an_annotated_video_of_a_long_address_has_a_name_and_of_a_clocks_rate_a_usual_one(tmp_path):
    address = f"https://host/live.m3u8?signature={300 * 'a'}"
    videos = AnnotatedVideos(tmp_path, [address])
    first, second = (videos.file_for(address, rate) for rate in (1000.0, 240.0))
    assert first.path != second.path and (first.rate, second.rate) == (25.0, 240.0)
    first.write(0.0, make_picture(48, 64))
    first.close()
    assert files_below(tmp_path) == [first.path.name]


def test_a_jump_of_a_files_clock_is_not_filled(tmp_path):
    video = VideoFile(tmp_path / "video.avi", 20)
    for second in (0.0, 0.05, 1.0, 7200.0, 7200.05, 7201.0):
        video.write(second, make_picture(48, 64))
    video.close()
    with FrameSource(str(video.path)) as source:
        assert len(list(source)) == 21 + 1 + 20


def test_where_frames_are_lost_an_annotated_video_holds_the_one_before(tmp_path):
    video = VideoFile(tmp_path / "video.avi", 20)
    for place in (0, 1, 4, 6):
        video.write(place / 20, np.full((48, 64, 3), 10 + 10 * place, np.uint8))
    video.close()
    with FrameSource(str(video.path)) as source:
        shown = [round(float(frame.mean()), -1) for _, frame in source]
    assert shown == [10, 20, 20, 20, 50, 50, 70]


@pytest.mark.parametrize(("number", "wrong", "count"), [(10, 9e6, 59), (10, 30.0, 59 + 590), (50, 0.0, 60)])
def test_a_wrong_time_stamp_loses_one_frame_at_most(tmp_path, number, wrong, count):
    video = VideoFile(tmp_path / "video.avi", 20)
    for frame in range(60):
        video.write(wrong if frame == number else frame / 20, make_picture(48, 64, frame))
    video.close()
    with FrameSource(str(video.path)) as source:
        assert len(list(source)) == count


def test_a_live_source_replaces_no_recording_of_an_earlier_run(drive, tmp_path, monkeypatch, capsys):
    for module in ("frames", "video"):
        monkeypatch.setattr(f"platekit.{module}.is_live", lambda source: True)
    for _ in range(3):
        run_video([str(drive[0])], nothing, str(tmp_path / "plates.jsonl"), tmp_path / "drawn")
    assert "the results of an earlier run are in" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("plates*")) == [f"plates.jsonl{end}" for end in ("", "1", "2")]
    assert all(results_of(path) for path in tmp_path.glob("plates*"))
    assert len(list((tmp_path / "drawn").iterdir())) == 3


def test_ctrl_c_while_a_source_is_opened_leaves_the_results_of_those_before(drive, tmp_path, monkeypatch):
    opened = video.open_watch

    def slowly(source: str, *rest: Any, **named: Any) -> Any:
        if source == "other.avi":
            raise KeyboardInterrupt
        return opened(source, *rest, **named)

    monkeypatch.setattr(video, "open_watch", slowly)
    with pytest.raises(KeyboardInterrupt):
        run_video([str(drive[0]), "other.avi"], nothing, str(tmp_path / "plates.jsonl"))
    assert len(results_of(tmp_path / "plates.jsonl")) == 60 and files_below(tmp_path) == ["plates.jsonl"]
    with pytest.raises(KeyboardInterrupt):  # before there is anything new
        run_video(["other.avi"], nothing, str(tmp_path / "plates.jsonl"))
    assert len(results_of(tmp_path / "plates.jsonl")) == 60


def test_a_source_whose_annotated_video_has_no_place_does_not_end_the_others(drive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.avi", "b/y.avi"):
        (tmp_path / name).parent.mkdir()
        shutil.copy(drive[0], name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("in the way")
    assert run_video(["a/x.avi", "b/y.avi"], nothing, "plates.jsonl", Path("out")) == 1
    lines = results_of(tmp_path / "plates.jsonl")
    assert "cannot write" in lines[0]["error"] and {line["image"] for line in lines[1:]} == {"b/y.avi"}


def test_a_plate_is_told_of_at_once_where_nobody_looks(drive):
    """What opens a barrier reads a pipe, which Python fills by 8 KB. Here it lets the camera go on."""
    script = f"""
import cv2, itertools, sys
from tests.makers import slow
from platekit import frames, video
from platekit.results import PictureResult, Plate
frames.is_live = lambda source: True
cv2.VideoCapture.read = slow(cv2.VideoCapture.read, 0.02)
result, numbers = PictureResult(640, 360, (Plate((10, 10, 90, 35), 0.99, "皖A12345", 0.95),)), itertools.count()
video.run_video([{str(drive[0])!r}], lambda image: (next(numbers) == 2 and sys.stdin.readline(), result)[1])
"""
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONUNBUFFERED", None)
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, encoding="utf-8", env=env) as process:
        told = select.select([process.stdout], [], [], 60)[0]
        err = process.communicate("\n")[1]
    assert told, "it was held back until the video's end"
    assert "1 plate" in err and "\r" not in err  # nor is a bar drawn where nobody looks


def test_what_is_live_and_what_it_is_called():
    assert all(is_live(source) for source in (0, "rtsp://host/1", "http://host/a.mjpg", "/dev/video77"))
    assert not any(is_live(source) for source in ("clip.mp4", "file:///home/clip.mp4", 300 * "x", "zero\0byte"))
    assert source_name("rtsp://user:secret@host:554/1") == "rtsp://host:554/1" and source_name(2) == "camera:2"
    assert source_name("rtsp://user:s@cr@t@host/1") == "rtsp://host/1"
    for user in ("user:s/cr/t@", "user:s@c/t@", "user:1/2@", "user:s?c#t@", "user:@/@", "token@", "user@here:s/c@"):
        for place in ("10.0.0.5:554", "localhost/cam@1", "[::1]:554/1?n=a@b"):
            assert source_name(f"rtsp://{user}{place}") == f"rtsp://{place}"
        assert source_name(f"rtsp://{user}host/1") == "rtsp://host/1"
    for address in ("http://host/@user/1", "http://host.example:80/a@b.c", "http://[::1]:80/a@b", "http://host?a@b"):
        assert source_name(address) == address
    assert source_name("http://host/1?token=a/b=?c@d&n=1") == "http://host/1?token=***&n=1"
    assert source_name("rtsp://host/user=a&password=secret&channel=1") == "rtsp://host/user=***&password=***&channel=1"
    assert source_name("srt://host:9?mode=caller&passphrase=a") == "srt://host:9?mode=caller&passphrase=***"
    assert source_name("http://host/v?monkey=a&turkey=b") == "http://host/v?monkey=a&turkey=b"
    assert source_name("http://host/v?token=a&api_key=b&n=1") == "http://host/v?token=***&api_key=***&n=1"
    assert source_name("http://host/1?pwd=secret") == "http://host/1?pwd=***" and source_name("a//b@c") == "a//b@c"
    assert source_name("http://host/key=a/1?design=2") == "http://host/key=***/1?design=2"
    for secret in ("loginuse", "loginpas", "apikey", "accessToken", "streamkey", "sig", "X-Amz-Signature", "usr", "pw",
                   "wsSecret", "sign", "Signature", "md5", "hmac"):
        assert source_name(f"http://host/1?{secret}=a&n=1") == f"http://host/1?{secret}=***&n=1"
    assert source_name("day/pass=1/clip.mp4") == "day/pass=1/clip.mp4"  # a file keeps its own name


def test_a_camera_goes_with_the_clock(drive, monkeypatch):
    """A small computer may get the time from the network after the start. A summer's time ends, too."""
    shift = timedelta()

    class Clock(datetime):
        @classmethod
        def now(cls, zone: Any = None) -> datetime:
            return datetime.now(zone) + shift

    monkeypatch.setattr("platekit.frames.datetime", Clock)
    with FrameSource(drive[0]) as source:
        first = datetime.fromisoformat(source.clock(5))
        assert datetime.fromisoformat(source.clock(7)) - first == timedelta(seconds=2)
        shift = timedelta(days=90)
        assert abs(datetime.fromisoformat(source.clock(5)) - first - shift) < timedelta(seconds=1)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set here")
def test_the_time_of_day_is_that_of_the_season(drive, monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        with FrameSource(drive[0]) as source:
            times = [datetime.fromisoformat(source.clock(days * 86400)) for days in (0, 91, 182, 273)]
        assert {moment.utcoffset() for moment in times} == {timedelta(hours=1), timedelta(hours=2)}
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("number", [-1, 2**31])
def test_a_camera_that_cannot_be_does_not_end_the_program(number):
    with pytest.raises(UserError, match="cameras count from 0"):
        FrameSource(number)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "clip.ts")
    with pytest.raises(UserError, match="is a pipe"):
        FrameSource(tmp_path / "clip.ts")


def test_only_a_frame_with_a_picture_has_a_line(drive):
    *frames, end = Watch(str(drive[0]), nothing)
    assert len([frame.to_dict() for frame in frames]) == 60 and end.picture is None
    with pytest.raises(ValueError, match="a frame with a picture has a line"):
        end.to_dict()


def test_a_slow_video_keeps_its_seconds(tmp_path):
    for rate in (0.5, 480):
        path = str(tmp_path / f"{rate}.avi")
        writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), rate, (64, 48))
        writer.write(make_picture(48, 64))
        writer.release()
        with FrameSource(path) as source:
            assert source.rate == pytest.approx(rate)


def plates_of(texts: Sequence[tuple[str, float]]) -> FusedReading:
    fused = FusedReading()
    for frame, (text, sure) in enumerate(texts):
        fused.add(Plate((frame, 0, frame + 40, 12), 0.9, text, sure, (sure,) * len(text)), frame)
    return fused


def test_readings_are_fused_by_confidence():
    """One sharp frame outvotes blurred ones; symbols are voted on one by one; the confidence tells of a dispute."""
    sharp = plates_of([("皖A12B45", 0.3), ("皖A12B45", 0.3), ("皖A12345", 0.97), ("", 0.0)])
    assert sharp.text == "皖A12345" and sharp.best.frame == 2 and 0.5 < sharp.confidence < 0.97
    never_whole = plates_of([("皖A1234X", 0.6), ("皖A12Y45", 0.6), ("皖Z12345", 0.6), ("皖A123456", 0.9)])
    assert never_whole.text == "皖A12345" and never_whole.best.frame == 3
    unsure = plates_of([("皖A1234X", 0.1), ("皖A12Y45", 0.1), ("皖Z12345", 0.1)] * 9)  # many guesses are no certainty
    assert unsure.text == "皖A12345" and unsure.confidence < 0.1
    agreed, disputed = plates_of([("皖A12345", 0.9)] * 4), plates_of([("皖A12345", 0.9), ("皖A12346", 0.89)] * 2)
    assert agreed.confidence == pytest.approx(0.9) and disputed.text == "皖A12345" and disputed.confidence < 0.6
    assert plates_of([("", 0.0)]).text == "" and plates_of([("", 0.0)]).confidence == 0


def test_short_and_unsure_tracks_do_not_count_and_a_sure_one_does():
    def tracks(*sightings: tuple[str, float]) -> list[str]:
        tracker = Tracker()
        for frame, (text, sure) in enumerate(sightings):
            tracker.follow(frame, [Plate((10, 10, 90, 35), 0.9, text, sure)])
        return [track.reading.text for track in tracker.finished(end=True)]

    assert tracks(("皖A12345", 0.5), ("皖A12345", 0.5)) == []
    assert tracks(("皖A12345", 0.9)) == ["皖A12345"] and tracks(("皖A12345", 0.899)) == []
    assert tracks(*[("皖A12345", 0.5)] * 3) == ["皖A12345"]


@pytest.mark.parametrize("other", ["鲁A12678", "鲁A12367", "鲁A98345", "鲁A123678"])
@pytest.mark.parametrize("gap", [0, 5])
def test_a_car_that_follows_another_of_its_city_is_another(other, gap):
    tracker = Tracker()
    for frame in range(30 + gap):
        text = "鲁A12345" if frame < 15 else other if frame >= 15 + gap else None
        tracker.follow(frame, [Plate((10, 10, 90, 35), 0.9, text, 0.97)] if text else [])
    assert [track.reading.text for track in tracker.finished(end=True)] == ["鲁A12345", other]


@pytest.mark.parametrize("away", [1.5, 3.8])
@pytest.mark.parametrize("gap", [0, 7])
def test_cars_of_consecutive_numbers_are_two(away, gap):
    tracker = Tracker()
    for frame in range(20 + gap):
        text, x = ("鲁A12345", 10) if frame < 10 else ("鲁A12346", 10 + 80 * away)
        tracker.follow(frame, [] if 10 <= frame < 10 + gap else [Plate((x, 10, x + 80, 35), 0.9, text, 0.99)])
    assert [(track.reading.text, round(track.reading.confidence, 2)) for track in tracker.finished(end=True)] \
        == [("鲁A12345", 0.99), ("鲁A12346", 0.99)]


def test_texts_of_a_symbol_are_not_alike_because_one_differs():
    tracker = Tracker()
    for frame in range(24):
        text, x = ("", 10) if frame < 4 else ("A", 400)
        tracker.follow(frame, [] if 4 <= frame < 20 else [Plate((x, 10, x + 80, 35), 0.9, text, 0.5)])
    assert [track.reading.text for track in tracker.finished(end=True)] == ["", "A"]


@pytest.mark.parametrize(("first", "second", "plates"), [
    ("MH12AB1234", "MH12AB1256", 2), ("MH12AB1234", "MH12AB1235", 1), ("AB12", "AB13", 1), ("AB12", "AB34", 2)])
def test_texts_of_any_length_are_of_one_plate_if_a_symbol_differs(first, second, plates):
    tracker = Tracker()
    for frame in range(20):
        text = second if frame > 9 or (plates == 1 and frame % 2) else first
        tracker.follow(frame, [Plate((10, 10, 90, 35), 0.9, text, 0.9)])
    assert len(list(tracker.finished(end=True))) == plates


@pytest.mark.parametrize("texts", [["鲁A12345"] * 4 + ["皖B67890"] * 25, ["皖B67890"] * 25 + ["鲁A12345"] * 4])
def test_a_car_that_is_read_surely_is_not_lost_beside_one_that_is_not(texts):
    tracker = Tracker()
    for frame, text in enumerate(texts):
        tracker.follow(frame, [Plate((10, 10, 90, 35), 0.9, text, 0.97 if text == "鲁A12345" else 0.6)])
    assert {track.reading.text: round(track.reading.confidence, 2) for track in tracker.finished(end=True)} \
        == {"鲁A12345": 0.97, "皖B67890": 0.6}


def test_a_parked_plate_that_comes_and_goes_keeps_a_bounded_list_of_numbers():
    tracker = Tracker()
    for frame in range(6000):
        tracker.follow(frame, [Plate((10, 10, 90, 35), 0.9, "鲁A12345", 0.98)] if frame % 20 < 3 else [])
    (track,) = tracker.finished(end=True)
    assert track.number == 1 and len(track.also) == 100 and track.frames == 900


@pytest.mark.parametrize("short", ["鲁A1245", "A12345", "鲁A1234"])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_symbol_that_was_not_read_makes_no_other_plate(short, frames):
    tracker = Tracker()
    for frame in range(23):
        text = short if 10 <= frame < 10 + frames else "鲁A12345"
        tracker.follow(frame, [Plate((10, 10, 90, 35), 0.9, text, 0.92 if text == short else 0.98)])
    (track,) = tracker.finished(end=True)
    assert track.reading.text == "鲁A12345" and track.frames == 23


def test_likeness_of_texts():
    assert likeness("鲁A12345", "鲁A12345") == 1 and likeness("", "鲁A12345") == 0 == likeness("", "")
    for other in ("鲁A12346", "鲁A1245", "A12345"):
        assert likeness("鲁A12345", other) == likeness(other, "鲁A12345") == 6 / 7
    assert likeness("鲁A12345", "A12345鲁") == 0 and likeness("鲁A12345", "鲁A5") == 3 / 7


def test_a_track_says_which_numbers_it_had_before_and_which_colour():
    """A plate that is away for a while has another number in its frames until it is known again."""
    tracker, numbers = Tracker(), set()
    for frame in range(60):
        here = frame < 11 or frame > 40
        plate = Plate((10, 10, 90, 35), 0.9, "皖A12345", 0.9, details=Details("green", 0.9, ((10.0, 10.0),) * 4))
        numbers |= {track.number for track in tracker.follow(frame, [plate] if here else [])}
    (track,) = tracker.finished(end=True)
    line = track.to_dict()
    assert str(track).split("  ")[2] == "green"
    assert numbers == {1, 2} and (line["track"], line["also"], line["colour"]) == (1, [2], "green")


def test_a_plate_that_comes_back_soon_is_the_same_one_and_later_another():
    for gap, count in ((30, 1), (200, 2)):
        tracker, done = Tracker(), []
        for frame, present in enumerate([True] * 5 + [False] * gap + [True] * 5):
            tracker.follow(frame, [Plate((10 + frame, 10, 90 + frame, 35), 0.9, "皖A12345", 0.9)] if present else [])
            done += tracker.finished()
        done += tracker.finished(end=True)
        assert len(done) == count and done[0].number == 1 and sum(track.frames for track in done) == 10


def test_the_watch_from_python(drive):
    path, cars = drive
    eyes = Eyes(cars)
    watch = Watch(Path(path), eyes)
    frames = list(watch)
    with pytest.raises(UserError, match="once"):
        next(iter(watch))
    watch, seen = Watch(path, eyes), 0
    for _ in watch:  # whom a second look does not disturb
        seen += 1
        if seen == 4:
            with pytest.raises(UserError, match="once"):
                next(iter(watch))
    assert seen == 61
    assert [frame.number for frame in frames] == [*range(60), 59] and frames[-1].picture is None
    assert sorted(track.reading.text for frame in frames for track in frame.finished) == sorted(c.text for c in cars)
    assert frames[5].plates[0].text == "皖A12345"


class Stream(BaseHTTPRequestHandler):
    """A network camera that sends a hundred ever brighter pictures, ten milliseconds apart."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for brightness in range(100, 200):
            data = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), brightness, np.uint8))[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
            time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        """Tests say nothing."""


def test_a_stream_is_read_by_its_address_and_has_failed_when_it_ends(tmp_path, capsys):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen, began = [], datetime.now().astimezone()

    def read(image: np.ndarray) -> PictureResult:
        seen.append(round(float(image.mean())) - 100)
        time.sleep(0.05)
        return PictureResult(WIDTH, HEIGHT, (Plate((10, 10, 90, 35), 0.99, "皖A12345", 0.9),))

    try:
        address = f"http://user:secret@127.0.0.1:{server.server_address[1]}/camera.mjpg"
        assert run_video([address], read, str(tmp_path / "plates.jsonl"), tmp_path / "drawn") == 1
    finally:
        server.shutdown()
    said = capsys.readouterr().err
    assert "gives no more frames" in said and "real time" not in said  # what rate it has, a stream need not say
    text = (tmp_path / "plates.jsonl").read_text("utf-8")
    lines = results_of(text)
    numbers = [line["frame"] for line in lines if "frame" in line]
    assert len(numbers) < 80 and numbers[-1] == 99 and "secret" not in text
    assert np.abs(np.subtract(seen, numbers)).max() <= 2  # the frame of that number, not one from a queue
    assert [line["text"] for line in lines if "track" in line] == ["皖A12345"]
    (track,) = (line for line in lines if "track" in line)
    times = [datetime.fromisoformat(line["time"]) for line in lines if "frame" in line]
    assert began <= times[0] and times == sorted(times) and times[-1] <= datetime.now().astimezone()
    assert [datetime.fromisoformat(track[f"{end}_time"]) for end in ("first", "last")] == [times[0], times[-1]]
    assert np.isclose(track["last_second"] - track["first_second"], (times[-1] - times[0]).total_seconds(), atol=0.02)
    assert "gives no more frames" in lines[-1]["error"]
    (video,) = (tmp_path / "drawn").iterdir()
    drawn = FrameSource(str(video))
    assert abs(len(list(drawn)) / drawn.rate - track["last_second"]) < 0.1  # frames came by another rate than stated


def test_a_stream_that_ends_is_opened_again_if_asked(tmp_path, monkeypatch, capsys):
    """At first it is away; three times it sends its hundred pictures. No number is used twice, plates go with it."""
    class Breaking(Stream):
        calls = 0

        def do_GET(self) -> None:
            Breaking.calls += 1
            if Breaking.calls in (1, 3, 5):
                self.send_error(503)
            else:
                super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("platekit.video.RETRY", 0.5)
    seen, stopped = [], []

    def read(image: np.ndarray) -> PictureResult:
        seen.append(image)
        if Breaking.calls == 6 and image.mean() > 150 and not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return PictureResult(WIDTH, HEIGHT, (Plate((10, 10, 90, 35), 0.99, "皖A12345", 0.9),))

    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/camera.mjpg"
        status = run_video([address], read, str(tmp_path / "plates.jsonl"), tmp_path / "drawn", reconnect=True)
    finally:
        server.shutdown()
    assert status == 0
    with pytest.raises(UserError, match="one process for each"):
        run_video([address, address], read, reconnect=True)
    lines = results_of(tmp_path / "plates.jsonl")
    numbers = [line["frame"] for line in lines if "frame" in line]
    assert numbers == sorted(set(numbers)) and len(numbers) == len(seen) and numbers[-1] > 200
    tracks = [line for line in lines if "track" in line]
    assert [track["track"] for track in tracks] == [1, 2, 3]
    assert [track["first_time"] for track in tracks] == sorted(track["first_time"] for track in tracks)
    errors = [line["error"] for line in lines if "error" in line]
    assert "cannot open" in errors[0] and ["no more frames" in error for error in errors[1:]] == [True, True]
    said = capsys.readouterr().err
    assert said.count("gives no more frames") == 2 and said.count("is back") == 2
    (video,) = (tmp_path / "drawn").iterdir()
    drawn = FrameSource(str(video))
    shown = sum(track["last_second"] - track["first_second"] for track in tracks)
    assert abs(len(list(drawn)) / drawn.rate - shown) < 0.5  # not the time that it was away


def test_ctrl_c_ends_the_wait_for_a_stream_that_is_away(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("platekit.video.RETRY", 0.1)
    tries = itertools.count()

    def away(*arguments: Any, **named: Any) -> Watch:
        if next(tries) == 2:  # before the first one nobody waits for the signal yet
            os.kill(os.getpid(), signal.SIGINT)
        return Watch(*arguments, **named)

    monkeypatch.setattr("platekit.video.Watch", away)
    assert run_video(["http://127.0.0.1:9/a.mjpg"], nothing, str(tmp_path / "a.jsonl"), reconnect=True) == 0
    assert files_below(tmp_path) == ["a.jsonl"] and capsys.readouterr().err.count("cannot open") == 1


def test_a_file_that_is_cut_off_is_not_opened_again(drive, tmp_path):
    (tmp_path / "half.avi").write_bytes(drive[0].read_bytes()[:drive[0].stat().st_size // 2])
    watch = Watch(tmp_path / "half.avi", nothing, reconnect=0.01)
    assert 0 < sum(frame.picture is not None for frame in watch) < 60 and watch.source.broken
    for path in (str(tmp_path / "half.avi"), f"file://{tmp_path}/half.avi", "none.avi"):
        with pytest.raises(UserError, match="leave out --reconnect"):
            run_video([path], nothing, reconnect=True)


@pytest.mark.skipif(os.name == "nt", reason="a ? is in no name there")
def test_the_address_of_a_file_is_its_path(call, drive, tmp_path, monkeypatch):
    monkeypatch.setattr("platekit.read_plates.make_reader", lambda args, **_: SimpleNamespace(read=nothing))
    path, decoded = tmp_path / "in" / "皖 1%?.avi", tmp_path / "in" / "a%20b.avi"
    path.parent.mkdir()
    shutil.copy(drive[0], path)
    shutil.copy(drive[0], decoded)
    (tmp_path / "list.txt").write_text(path.as_uri())
    for number, (address, names) in enumerate({
            path.as_uri(): [path], f"FILE://localhost{path}": [path], str(tmp_path / "list.txt"): [path],
            f"file://{decoded}": [decoded], path.parent.as_uri(): [decoded, path]}.items()):
        output = tmp_path / str(number)
        done = call(main, "--video", address, "--json", output / "plates.jsonl", "--output", output)
        assert done.status == 0, done
        lines = results_of(output / "plates.jsonl")
        assert len(lines) == 60 * len(names) and {line["image"] for line in lines} == set(map(str, names))
        assert files_below(output) == sorted(["plates.jsonl", *(name.name for name in names)])
    with FrameSource(path.as_uri()) as source:
        assert not source.live and len(list(source)) == 60
    assert "cannot open" in call(main, "--video", "file:///none%00.avi").err


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_file_behind_an_address_is_read_whole(drive, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(drive[0].parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with FrameSource(f"http://127.0.0.1:{server.server_address[1]}/{drive[0].name}") as source:
            numbers = [number for number, _ in source]
    finally:
        server.shutdown()
    assert not source.live and numbers == list(range(source.total)) and source.dropped == 0


def test_a_video_without_frames_has_failed_and_one_cut_short_says_how_much_there_was(drive, tmp_path, capsys):
    whole = drive[0].read_bytes()
    first = whole.index(b"movi")
    (tmp_path / "empty.avi").write_bytes(whole[:first + 4])
    (tmp_path / "half.avi").write_bytes(whole[:len(whole) // 2])
    assert run_video([str(tmp_path / "empty.avi")], nothing, str(tmp_path / "a.jsonl"), tmp_path / "out") == 1
    (line,) = (tmp_path / "a.jsonl").read_text("utf-8").splitlines()
    assert "no frame" in json.loads(line)["error"] or "cannot open" in json.loads(line)["error"]
    assert "annotated video" not in capsys.readouterr().err
    assert run_video([str(tmp_path / "half.avi")], nothing, str(tmp_path / "b.jsonl")) == 1
    *frames, end = results_of(tmp_path / "b.jsonl")
    assert len(frames) > 10 and f"ends after {frames[-1]['second']:.2f} seconds; it is cut off" in end["error"]
    assert f": {len(frames)} of 60 frames" in capsys.readouterr().err


def test_a_video_that_cannot_be_read_on_does_not_end_the_others(drive, tmp_path):
    shutil.copy(drive[0], tmp_path / "first.avi")
    frames = itertools.count()

    def read(image: np.ndarray) -> PictureResult:
        if next(frames) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return nothing(image)

    videos = [str(tmp_path / "first.avi"), str(drive[0])]
    assert run_video(videos, read, str(tmp_path / "a.jsonl"), tmp_path / "out") == 1
    lines = results_of(tmp_path / "a.jsonl")
    assert "use --device cpu" in lines[3]["error"] and lines[3]["image"].endswith("first.avi")
    assert [line["frame"] for line in lines[4:]] == list(range(60))
    assert len(files_below(tmp_path / "out")) == 2


@pytest.mark.parametrize("live", [False, True])
def test_a_damaged_frame_does_not_end_a_video(drive, tmp_path, monkeypatch, live):
    """Some containers give nothing in its place, some less than nothing; at the end there is nothing for good."""
    reads = itertools.count()

    def read(capture: cv2.VideoCapture) -> tuple[bool, np.ndarray | None]:
        found, frame = cv2_read(capture)
        number = next(reads)
        if number == 30:
            raise cv2.error("damaged")
        return (False, None) if number in (10, 11, 12) else (found, frame)

    cv2_read = cv2.VideoCapture.read
    monkeypatch.setattr(cv2.VideoCapture, "read", slow(read, 0.01) if live else read)
    with FrameSource(str(drive[0]), live=live) as source:
        numbers = [number for number, _ in source]
    if not live:
        assert numbers == [number for number in range(60) if number not in (10, 11, 12, 30)]
    assert numbers[-1] == 59 and source.broken == live


def test_a_source_that_hangs_is_asked_once(drive, monkeypatch):
    reads = []
    monkeypatch.setattr("platekit.frames.HANGS", 0.02)
    monkeypatch.setattr(cv2.VideoCapture, "read", slow(lambda capture: (reads.append(capture), None), 0.05))
    with FrameSource(str(drive[0]), live=True) as source:
        assert list(source) == [] and source.broken and len(reads) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_reading_thread_that_died(drive, monkeypatch):
    monkeypatch.setattr(FrameSource, "_wait_for_room", lambda _: 1 / 0)
    with FrameSource(str(drive[0])) as source:
        assert list(source) == [] and source.broken


def test_frames_of_another_size_are_in_the_annotated_video_too(tmp_path):
    video = VideoFile(tmp_path / "video.avi", 20)
    for number, size in enumerate([(48, 64)] * 5 + [(96, 128)] * 5):
        video.write(number / 20, make_picture(*size))
    video.close()
    with FrameSource(str(video.path)) as source:
        assert [frame.shape[:2] for _, frame in source] == [(48, 64)] * 10


def test_a_file_whose_place_opencv_does_not_tell_is_whole(drive, monkeypatch):
    known = cv2.VideoCapture.get
    monkeypatch.setattr(cv2.VideoCapture, "get",
                        lambda capture, key: 0.0 if key == cv2.CAP_PROP_POS_MSEC else known(capture, key))
    with FrameSource(str(drive[0])) as source:
        assert len(list(source)) == 60 and not source.broken


def test_videos_of_a_folder_a_pattern_and_a_list_are_read_but_for_annotated_ones(call, drive, tmp_path):
    short = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(3):
        short.write(make_picture(48, 64))
    short.release()
    for name in ("in/a.avi", "in/b/c.avi", "in/out/a.avi"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "a.avi", tmp_path / name)
    put_picture(tmp_path / "in" / "a.png", make_picture(48, 64))
    (tmp_path / "list.txt").write_text("in/a.avi\nin/b/c.avi\n")
    (tmp_path / "streams.txt").write_text("in/a.avi\nrtsp://u:p@127.0.0.1:9/x//1?a=*\n")
    for entry in ("in", "in/**/*.avi", "list.txt"):
        done = call(main, "--video", entry, "--json", "-", "--output", "in/out", "--device", "cpu", cwd=tmp_path)
        names = dict.fromkeys(json.loads(line)["image"] for line in done.out.splitlines())
        assert list(names) == ["in/a.avi", "in/b/c.avi"], (entry, done)
    for entries in (("--video", "in/a.avi", "--video", "in/b"), ("--video", "in/a.avi", "in/b", "in/out")):
        done = call(main, *entries, "--json", "-", "--output", "in/out", "--device", "cpu", cwd=tmp_path)
        names = dict.fromkeys(json.loads(line)["image"] for line in done.out.splitlines())
        assert list(names) == ["in/a.avi", "in/b/c.avi"] and done.status == 0
    (tmp_path / "in" / "b" / "c.avi").unlink()
    done = call(main, "--video", "no*.mp4", "in/b", cwd=tmp_path)
    assert done.status == 2 and "matches no file" in done.sentence()
    for entries in (("no*.mp4", "in"), ("streams.txt",)):  # what is not there does not keep others from being read
        done = call(main, "--video", *entries, "--json", "-", "--output", "in/out", "--device", "cpu", cwd=tmp_path)
        assert done.status == 1 and "cannot open" in done.sentence() and '"in/a.avi", "frame"' in done.out
    assert "cannot open rtsp://127.0.0.1:9/x//1?a=* " in done.sentence()


@pytest.mark.parametrize("number", ["-1", "99999999999", "x"])
def test_a_camera_that_opencv_would_end_at_is_wrong_usage(call, number):
    done = call(main, "--camera", number)
    assert done.status == 2 and "--camera" in done.err and "Traceback" not in done.err


def test_processes_of_torchrun_do_not_write_one_file(drive, tmp_path, monkeypatch):
    monkeypatch.setattr("platekit.video.world", lambda: 2)
    with pytest.raises(UserError, match="torchrun"):
        run_video([str(drive[0])], nothing, str(tmp_path / "a.jsonl"))
    assert files_below(tmp_path) == []


def test_a_track_within_a_longer_one_does_not_end_it():
    """Two boxes are read as one plate."""
    tracker = Tracker()
    for frame in range(50):
        plates = [Plate((10, 10, 90, 35), 0.9, "皖A12345", 0.9)]
        if 10 < frame < 14:
            plates.append(Plate((400, 300, 480, 325), 0.9, "皖A12345", 0.9))
        tracker.follow(frame, plates)
    (track,) = tracker.finished(end=True)
    assert (track.first_frame, track.last_frame, track.frames) == (0, 49, 50) and track.box.tolist() == [10, 10, 90, 35]


PLATE = Plate((10, 10, 90, 35), 0.9, "皖A12345", 0.9)


def test_a_plate_that_was_away_has_the_second_of_its_first_sight():
    tracker = Tracker()
    for frame in range(60):
        tracker.follow(frame, [PLATE] if frame < 11 or frame > 40 else [], frame / 25)
    (track,) = tracker.finished(end=True)
    assert (track.first_frame, track.first_second, track.last_second) == (0, 0, 59 / 25)


def test_a_track_within_a_longer_one_does_not_end_it_in_seconds_either():
    tracker = Tracker()
    for frame in range(50):
        other = [dataclasses.replace(PLATE, box=(400, 300, 480, 325))] if 10 < frame < 14 else []
        tracker.follow(frame, [PLATE, *other], frame / 25)
    (track,) = tracker.finished(end=True)
    assert (track.first_second, track.last_second) == (0, 49 / 25)


@pytest.mark.parametrize(("missed", "numbers"), [(8, {1}), (9, {1, 2})])
def test_a_track_ends_after_eight_frames_without_its_plate(missed, numbers):
    tracker = Tracker()
    found = [tracker.follow(frame, [PLATE] if not 3 <= frame < 3 + missed else []) for frame in range(20)]
    assert {track.number for tracks in found for track in tracks} == numbers


@pytest.mark.parametrize(("text", "sure"), [("皖A12345", 0.9), ("皖A12346", 0.6)])
@pytest.mark.parametrize(("between", "missed", "count"), [
    (1.0, 2, 1), (1.0, 3, 2), (0.4, 6, 1), (0.4, 8, 2), (10.0, 0, 1), (10.0, 1, 2), (0.04, 30, 1)])
def test_where_few_frames_are_looked_at_a_plate_away_for_seconds_is_another(text, sure, between, missed, count):
    """Also a car with nearly the same text; what is not looked at does not count as away."""
    tracker, done = Tracker(), []
    for look in range(20 + missed):
        away = 4 <= look < 4 + missed
        plate = Plate((10, 10, 90, 35), 0.9, "皖A12345" if look < 4 else text, 0.9 if look < 4 else sure)
        tracker.follow(look, [] if away else [plate], look * between)
        done += tracker.finished()
    early = len(done)
    done += tracker.finished(end=True)
    assert len(done) == count and early == count - 1
    assert [track.first_second for track in done] == [0, (4 + missed) * between][:count]


def test_of_two_tracks_that_a_plate_may_be_of_the_nearer_one_gets_it():
    """Neither box overlaps it, and nothing was read."""
    tracker = Tracker()
    tracker.follow(0, [Plate((x, 0, x + 80, 20), 0.9, "", 0.0) for x in (0, 100)])
    assert [track.number for track in tracker.follow(1, [Plate((60, 25, 140, 45), 0.9, "", 0.0)])] == [2]


def test_a_track_goes_on_as_the_mean_of_its_steps():
    track = Track(1, 0, 1, PLATE)
    for frame, right in ((1, 10), (2, 30)):
        track.see(frame, frame + 1, dataclasses.replace(PLATE, box=(10 + right, 10, 90 + right, 35)))
    assert track.expected(4).tolist() == [40 + 2 * 15, 10, 120 + 2 * 15, 35]


def pictures_of(texts: Sequence[tuple[str, float]]) -> Track:
    """A track that read these texts, so surely, one a frame; each frame's picture has its number's brightness."""
    plates = [Plate((0, 0, 40, 12), 0.9, text, sure, rows=1 + frame % 2, picture=np.full((12, 40, 3), frame, np.uint8))
              for frame, (text, sure) in enumerate(texts)]
    track = Track(1, 0, 1, plates[0])
    for frame, plate in enumerate(plates[1:], 1):
        track.see(frame, frame + 1, plate)
    return track


def test_of_a_plate_with_many_texts_the_picture_of_its_own_is_kept():
    others = [(f"皖A1234{symbol}", 0.3) for symbol in "ABCDEFGHJKLM"]
    reading = pictures_of([*[("皖A12345", 0.2)] * 3, *others]).reading
    assert reading.text == "皖A12345" and reading.best.frame == 0 and reading.pictured is reading.best


def test_a_crop_is_of_the_frame_that_it_names_where_the_best_ones_is_not_kept(tmp_path):
    """What all frames agree on was read when another text led."""
    others = [(f"皖AF1234{symbol}", 0.3 + number / 100) for number, symbol in enumerate("ABCDEFGHJKL")]
    track = pictures_of([("皖A12345", 0.2), *others, *[("皖A12345", 0.19)] * 30])
    assert track.reading.text == "皖A12345" and track.reading.best.frame == 0
    crops = PlateCrops(tmp_path)
    crops.add("clip.avi", track)
    ((name, text, rows, _),) = crops.rows
    assert (name, text, rows) == ("00001_clip_avi_11.png", "皖A12345", 2)
    assert (read_image(tmp_path / name) == 11).all()


def test_of_very_many_texts_the_surest_is_kept():
    """A parked car before a camera at night."""
    fused = plates_of([("皖A12345", 0.97), *((f"皖B{number:05d}", 0.5) for number in range(150))])
    assert (fused.best.frame, fused.best.confidence) == (0, 0.97)


def test_the_surest_sighting_of_a_text_stays_the_best():
    fused = plates_of([("皖A12345", 0.7), ("皖A12345", 0.95), ("皖A12345", 0.8)])
    assert (fused.best.frame, fused.best.confidence, fused.confidence) == (1, 0.95, 0.95)


def test_a_symbol_counts_by_its_own_confidence():
    fused, sure, unsure = FusedReading(), (0.9,) * 7, (0.9,) * 6 + (0.2,)
    for frame, (text, symbols) in enumerate([("皖A12345", sure), ("皖A12346", unsure), ("皖A12346", unsure)]):
        fused.add(Plate((0, 0, 40, 12), 0.9, text, 0.8, symbols), frame)
    assert fused.text == "皖A12345"


def test_colours_count_by_their_confidence():
    fused = FusedReading()
    for frame, (colour, confidence) in enumerate([("black", 0.95), ("blue", 0.3), ("blue", 0.3)]):
        fused.add(dataclasses.replace(PLATE, details=Details(colour, confidence, ())), frame)
    assert fused.colour == "black"


@pytest.mark.parametrize(("stated", "live", "rate"), [
    (90_000, True, 25), (0.5, True, 25), (30, True, 30), (480, False, 480)])
def test_a_stream_that_states_its_clock_has_the_usual_rate(drive, monkeypatch, stated, live, rate):
    known = cv2.VideoCapture.get
    monkeypatch.setattr(cv2.VideoCapture, "get",
                        lambda capture, key: stated if key == cv2.CAP_PROP_FPS else known(capture, key))
    with FrameSource(str(drive[0]), live=live) as source:
        assert source.rate == rate


def test_a_file_that_lacks_a_fifth_is_cut_off(drive, tmp_path):
    whole = drive[0].read_bytes()
    (tmp_path / "part.avi").write_bytes(whole[:len(whole) * 4 // 5])
    with FrameSource(str(tmp_path / "part.avi")) as source:
        assert 40 < len(list(source)) < 55 and source.broken


def test_the_rules_of_a_watch_say_which_plates_count(drive):
    path, cars = drive
    never = Rules(frames=999, confidence=2.0)
    assert all(not frame.finished for frame in Watch(str(path), Eyes(cars), never))


def test_of_a_camera_every_nth_frame_is_looked_at_too(drive):
    with FrameSource(str(drive[0]), live=True, every=5) as source:
        assert {number % 5 for number, _ in source} == {0}


def test_a_file_whose_last_frame_is_shown_for_long_is_whole(drive, monkeypatch):
    known = cv2.VideoCapture.get
    monkeypatch.setattr(cv2.VideoCapture, "get",  # it has 20 frames a second, but takes as long as with 10
                        lambda capture, key: 10.0 if key == cv2.CAP_PROP_FPS else known(capture, key))
    with FrameSource(str(drive[0])) as source:
        assert len(list(source)) == 60 and not source.broken


def test_names_may_have_colons(tmp_path, monkeypatch):
    """FFmpeg takes what is before one for a protocol; OpenCV opens mp4 and avi by it."""
    monkeypatch.chdir(tmp_path)
    written = VideoFile(Path("plain.avi"), 20)
    for frame in range(20):
        written.write(frame / 20, make_picture(HEIGHT, WIDTH, 1))
    written.close()
    Path("plain.avi").rename("10:30:00.avi")
    assert len(list(FrameSource("10:30:00.avi"))) == 20


def test_a_stream_that_does_not_answer_is_not_waited_for_long(monkeypatch):
    """No signal ends the call that opens it."""
    monkeypatch.setattr("platekit.frames.OPENING", 300)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(UserError, match="cannot open"):
            FrameSource(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/1")
        assert time.monotonic() - start < 15  # OpenCV would wait for 30 seconds


def test_no_two_live_sources_get_one_file_and_names_are_not_too_long(tmp_path):
    """Processes side by side watch cameras whose addresses differ in what is not shown."""
    channels = [f"rtsp://10.0.0.5/user=admin&channel={channel}" for channel in (1, 2)]
    files = [AnnotatedVideos(tmp_path, [channel]).file_for(source_name(channel).rpartition("&")[0], 20, live=True)
             for channel in channels]
    assert len({file.path for file in files}) == 2
    for file in files:
        file.close()
    assert files_below(tmp_path) == []  # nothing came
    long = AnnotatedVideos(tmp_path, []).file_for("rtsp://here/" + 95 * "停", 20, live=True)
    assert long.path.exists() and len(long.path.name.encode()) < 255


def test_a_mistyped_video_does_not_replace_results(tmp_path, capsys):
    (tmp_path / "good.jsonl").write_text('{"image": "clip.avi", "error": "as it was"}\n')
    assert run_video([str(tmp_path / "none.avi")], nothing, str(tmp_path / "good.jsonl")) == 1
    assert "as it was" in (tmp_path / "good.jsonl1").read_text()


def test_a_picture_of_each_plate_is_kept_and_can_be_trained_on(drive, call, tmp_path, capsys, monkeypatch):
    path, cars = drive
    assert run_video([str(path)], Eyes(cars), str(tmp_path / "plates.jsonl"), crops=tmp_path / "crops") == 0
    assert "pictures of 4 plates are in" in capsys.readouterr().err
    labels = read_labels([tmp_path / "crops" / "labels.csv"])
    assert sorted(labels.values()) == sorted(car.text for car in cars)
    assert sorted(labels) == find_images(tmp_path / "crops")
    whole = dict(FrameSource(str(path)))
    best = {line["text"]: line for line in results_of(tmp_path / "plates.jsonl") if "track" in line}
    for crop, text in labels.items():
        x1, y1, x2, y2 = np.round(best[text]["box"]).astype(int)
        assert (read_image(crop) == whole[best[text]["best_frame"]][y1:y2, x1:x2]).all()
    assert len(LPRDataLoader(tmp_path / "crops", labels=labels)) == 4
    done = call(main, "--video", path, "--crops", tmp_path / "crops")
    assert "may have been corrected" in done.sentence() and len(read_labels([tmp_path / "crops" / "labels.csv"])) == 4
    assert run_video([str(path)], nothing, crops=tmp_path / "none") == 0
    with pytest.raises(UserError):
        run_video([str(path)], nothing, str(tmp_path / "none.csv"), crops=tmp_path / "none")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(video, "open_watch", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        run_video([str(path)], nothing, crops=tmp_path / "none")
    assert files_below(tmp_path / "none") == []  # the next run may have it
    assert "--crops is for videos" in call(main, path.parent, "--crops", tmp_path / "other").sentence()
