"""Videos, cameras and streams: one JSON line per frame, one result per plate, and the annotated video.

    from platekit.pipeline import PlateReader
    from platekit.video import Watch

    for frame in Watch("clip.mp4", PlateReader().read):
        for track in frame.finished:                # a plate that has left the picture
            print(track.number, track.reading.text, track.reading.confidence, track.first_frame, track.last_frame)
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from platekit.command import OutputFolder, check_display, json_lines, results_place, write_line
from platekit.containers import stated_length
from platekit.devices import enough_memory
from platekit.distributed import world
from platekit.drawing import draw_plates, hide_plates
from platekit.errors import DiskFull, UserError
from platekit.files import writing
from platekit.frames import MOST_RATE, USUAL_RATE, FrameSource, is_live, source_name
from platekit.opencv import cv2, video_name
from platekit.plate_crops import PlateCrops, cut_out
from platekit.results import PictureResult, Plate
from platekit.signals import stop_on_signal
from platekit.tracking import RULES, Rules, Track, Tracker

LONGEST_GAP = 60.0  # seconds between two frames that an annotated video fills
LONGEST_NAME = 200  # bytes of an annotated video's file: addresses may be longer than names can be
RETRY = 5.0  # seconds between tries to open a stream again

ReadFrame = Callable[[np.ndarray], PictureResult]


@dataclasses.dataclass(frozen=True)
class Frame:
    """What is known after a frame. The last one of a video has no picture, only the tracks that ended with it; nor has
    one that tells that a live source gives no more frames for now."""

    number: int
    picture: np.ndarray | None
    result: PictureResult
    tracks: tuple[Track, ...] = ()  # of each plate of the result; they change with the frames that follow
    finished: tuple[Track, ...] = ()  # tracks that are over since the frame before
    second: float = 0.0  # FrameSource's
    unseen: tuple[Plate, ...] = ()  # of tracks that are not over, where they are expected

    def to_dict(self) -> dict[str, Any]:
        """The frame as in the JSON lines, without the name and the time; ``tracks`` are those of its plates.

        Raises ValueError for one without a picture, of which there is no line.
        """
        if self.picture is None:
            raise ValueError("this only tells which tracks have ended; a frame with a picture has a line")
        tracks = [track.so_far("number") for track in self.tracks]
        return {"frame": self.number, **self.result.to_dict(), "tracks": tracks}

    @property
    def plates(self) -> list[Plate]:
        """The frame's plates with what their tracks have made of all frames so far."""
        return [dataclasses.replace(plate, text=track.reading.text, confidence=track.reading.confidence,
                                    symbol_confidences=()) for plate, track in zip(self.result.plates, self.tracks)]


class Watch:
    """Reads a video, frame by frame, once, and follows its plates."""

    def __init__(self, source: str | os.PathLike | int, read: ReadFrame, rules: Rules = RULES,
                 live: bool | None = None, every: int = 1, reconnect: float = 0.0, pictures: bool = False) -> None:
        """``read`` gives the plates of a frame, sure or not; ``rules`` say which of them count (``rules.least`` is what
        ``min_confidence`` is for pictures); ``live`` and ``every`` are ``FrameSource``'s. A live source that ends by
        itself is opened again by a try every ``reconnect`` seconds (0: it is not). With ``pictures`` tracks keep those
        of their plates: ``track.reading.pictured``. Raises UserError when the source cannot be opened."""
        self.source, self.read, self.rules = FrameSource(source, live, every), read, rules
        self.reconnect, self.pictures = reconnect, pictures
        self.frames, self.seconds, self.last = 0, 0.0, -1  # how many, in how long, and the last one's number

    def __iter__(self) -> Iterator[Frame]:
        tracker, start = Tracker(self.rules), time.perf_counter()
        frames = iter(self.source)  # raises if somebody reads them already
        with self.source:
            while True:
                for number, picture in frames:
                    with enough_memory(self.source.name):
                        result = self.read(picture)
                    if self.pictures:
                        result = dataclasses.replace(result, plates=tuple(
                            dataclasses.replace(plate, picture=cut_out(picture, plate.box)) for plate in result.plates))
                    tracks = tracker.follow(number, result.plates, self.source.second)
                    self.frames, self.last = self.frames + 1, number
                    self.seconds = time.perf_counter() - start
                    unseen = tuple(Plate(tuple(box.tolist())) for box in tracker.unseen(number))
                    yield Frame(number, picture, result, tuple(tracks), tuple(tracker.finished()), self.source.second,
                                unseen)
                ended = tuple(tracker.finished(end=True))
                yield Frame(self.last, None, PictureResult(0, 0, ()), (), ended, self.source.second)
                if not (self.reconnect and self.source.reopen(self.reconnect)):
                    break
                frames = iter(self.source)

    def __str__(self) -> str:
        rate = self.frames / max(1e-9, self.seconds)
        count = self.frames if self.source.total in (None, self.frames) else f"{self.frames} of {self.source.total}"
        pace = "" if self.source.live else f"{self.source.second / max(1e-9, self.seconds):.2f} x real time, "
        return (f"{self.source.name}: {count} frames in {self.seconds:.1f} s, {rate:.1f} a second, {pace}"
                f"{self.source.dropped} dropped")


class VideoFile:
    """An annotated video, which a thread encodes."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._thread = ThreadPoolExecutor(1)
        self._work: Future[None] | None = None
        self._writer: cv2.VideoWriter | None = None
        self._size, self._next, self._left_out = (0, 0), 0, 0.0  # of its seconds those that nothing fills
        self._held: np.ndarray | None = None  # the frame before
        self._back = False  # whether the last frame's second was before those of frames that came earlier

    def write(self, second: float, picture: np.ndarray) -> None:
        """Add the frame of this second; the one before fills the places up to it, so that the video keeps time and no
        frame is shown before its second, but for gaps of more than ``LONGEST_GAP``.

        It is encoded while the caller goes on; what goes wrong then is raised by the next call, or by ``close``.
        """
        self._wait()
        self._work = self._thread.submit(self._encode, second, picture)

    def _wait(self) -> None:
        if self._work:
            self._work.result()

    def _encode(self, second: float, picture: np.ndarray) -> None:
        if self._writer is None:
            name, self._size = video_name(str(self.path)), picture.shape[1::-1]
            # AVI can be played even where the program was killed before its end.
            for codec in ("XVID", "MJPG"):
                code = cv2.VideoWriter.fourcc(*codec)
                self._writer = cv2.VideoWriter(name, code, self.rate, self._size)  # type: ignore[arg-type]  # bytes too
                if self._writer.isOpened():
                    break
            else:
                raise UserError(f"cannot write {self.path}; name another folder with --output")
        if picture.shape[1::-1] != self._size:  # OpenCV would leave it out; a stream may change its size
            picture = cv2.resize(picture, self._size)
        place = round((second - self._left_out) * self.rate)
        back, before = place < self._next - self.rate, self._back
        # The clock of joined recordings jumps; where one frame alone is back, its stamp is wrong.
        if place - self._next >= LONGEST_GAP * self.rate or (back and before):
            self._left_out += (place - self._next) / self.rate
            place = self._next
        self._back = back
        for _ in range(self._next, place):
            self._writer.write(picture if self._held is None else self._held)
        if place >= self._next:  # not for faster frames than stated
            self._writer.write(picture)
        self._held, self._next = picture, max(self._next, place + 1)

    def close(self) -> None:
        """End the file. Raises UserError when it is shorter than it says: OpenCV does not tell of failed writes."""
        try:
            with self._thread:
                self._wait()
        finally:
            if not self._next and self.path.exists() and not self.path.stat().st_size:  # what kept the name
                self.path.unlink()
        if self._writer and self._next:
            self._writer.release()
            stated = stated_length(self.path)
            if stated is None or stated.end != stated.size:
                raise UserError(f"cannot write all of {self.path}; free some space or choose another folder")


class AnnotatedVideos:
    """The folder of the annotated videos, in which no two sources get one file."""

    def __init__(self, output: Path, sources: Sequence[str | int]) -> None:
        self.output = output
        self._written: set[Path] = set()
        files = (Path(source) for source in sources if isinstance(source, str) and not is_live(source))
        self._folder = OutputFolder(output, files)
        with writing(output):
            output.mkdir(parents=True, exist_ok=True)

    def file_for(self, source: str | int, rate: float, live: bool = False) -> VideoFile:
        """The source's own, of as many frames a second as it has itself, where it does not state its clock's. That of
        a ``live`` one replaces none of an earlier run."""
        name = source_name(source)
        short = os.fsencode(re.sub(r"[^\w.-]+", "_", name))[:LONGEST_NAME].decode(errors="ignore")
        target = self.output / f"{short}.avi" if is_live(source) \
            else self._folder.path_for(Path(name), (".avi",), ".avi")
        first = target
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(2):  # what a camera has shown cannot be recorded again
                if target not in self._written and not (live and not is_new(target)):
                    break
                target = first.with_stem(f"{first.stem}-{number}")
        self._written.add(target)
        return VideoFile(target, rate if rate <= MOST_RATE else USUAL_RATE)


def is_new(path: Path) -> bool:
    """Whether there was no such file; now there is an empty one, so that no other process takes the name."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def run_video(sources: Sequence[str | int], read: ReadFrame, json_path: str | None = None,
              output: Path | None = None, *, show: bool = False, every: int = 1, hide: bool = False,
              reconnect: bool = False, rules: Rules = RULES, crops: Path | None = None) -> int:
    """Watch every source. JSON lines: one per frame with ``frame`` beside ``image``, and one per finished track.

    Without ``json_path`` one line per track is printed. Of a live source another one tells, either way, as soon as the
    track counts. ``every`` and ``rules`` are as for ``Watch``; ``hide`` blots plates out in what is drawn; with
    ``reconnect`` a live source that ends by itself is opened again. ``crops`` is ``PlateCrops``' folder.
    Returns the exit status: 0, or 1 when a source failed. Ctrl-C ends the source as if it ended there, with all files
    whole; KeyboardInterrupt follows unless it was the last source and a live one, which has no other end.
    """
    if world() > 1:
        raise UserError("torchrun shares pictures, not videos; start one process for each video")
    if reconnect and len(sources) > 1:
        raise UserError("--reconnect watches one stream or camera; start one process for each")
    if reconnect and not is_live(sources[0]):
        raise UserError(f"{sources[0]} is no stream or camera, which could come back; leave out --reconnect")
    json_path = results_place(json_path, sources, output)
    check_display(show)
    failed, cut_short = False, False
    videos = AnnotatedVideos(output, sources) if output else None
    kept = PlateCrops(crops) if crops else None
    keep = any(map(is_live, sources)) or not any(map(os.path.exists, sources))  # nothing takes their place
    with contextlib.ExitStack() as stack:
        if kept:
            stack.callback(kept.close)
        stream = stack.enter_context(json_lines(json_path, keep))
        for number, source in enumerate(sources):
            name = source_name(source)
            try:
                watch = open_watch(source, read, reconnect, stream, rules=rules, every=every, pictures=bool(crops))
            except KeyboardInterrupt:
                if not number:  # there is nothing new to keep
                    raise
                cut_short = True
                break
            if watch is None:
                failed |= not (reconnect and is_live(source))  # then only a signal has ended the tries
                continue
            if watch.source.live and sources[number + 1:]:
                print(f"{', '.join(map(source_name, sources[number + 1:]))} will be opened when {name} ends; start one "
                      "process for each to watch them at once", file=sys.stderr)
            with stop_on_signal(watch.source.stop) as signals:
                try:
                    video = videos.file_for(source, watch.source.rate, watch.source.live) if videos else None
                    report(watch, stream, video, show, hide, kept)
                    problem = None if signals else problem_of(watch, reconnect)
                except UserError as error:  # a frame too large for the GPU, or a disk that is full
                    watch.source.close()
                    if isinstance(error, DiskFull):
                        raise
                    problem = str(error)
            if problem:
                failed = True
                tell(problem, stream, name)
            if signals:
                cut_short = not watch.source.live or number + 1 < len(sources)
                break
    if kept:
        print(f"pictures of {len(kept.rows)} plates are in {kept.folder}, and {kept.table.name} says what they show",
              file=sys.stderr)
    if json_path not in (None, "-"):
        print(f"results written to {json_path}")
    if cut_short:
        raise KeyboardInterrupt
    return int(failed)


def open_watch(source: str | int, read: ReadFrame, reconnect: bool, stream: TextIO | None, **more: Any
               ) -> Watch | None:
    """The source's watch, with ``more`` of its arguments; None, and the problem is told, where it cannot be opened.
    With ``reconnect`` a live source is tried until it can, or until a signal comes."""
    make = functools.partial(Watch, source, read, reconnect=RETRY if reconnect else 0.0, **more)
    try:
        return make()
    except UserError as error:
        tell(str(error), stream, source_name(source))
    stop = threading.Event()
    with stop_on_signal(stop.set):
        while reconnect and is_live(source) and not stop.wait(RETRY):
            with contextlib.suppress(UserError):
                watch = make()
                if not stop.is_set():
                    return watch
                watch.source.close()
    return None


def problem_of(watch: Watch, reconnect: bool) -> str | None:
    """What is wrong with a source that has ended and was not stopped."""
    source, name = watch.source, watch.source.name
    if not watch.frames:
        return f"{name} gives no frame; check that it is whole and that OpenCV knows its format"
    if source.broken and not source.live:
        return f"{name} ends after {source.second:.2f} seconds; it is cut off, fetch it again"
    if source.broken and not reconnect:
        return f"{name} gives no more frames; check the camera or stream, and start again"
    return None


def say(line: str) -> None:
    """A line for standard output, at once: what opens a barrier may read it."""
    tqdm.write(line)
    sys.stdout.flush()


def tell(problem: str, stream: TextIO | None, name: str) -> None:
    """A source's problem as an error and as a line of results."""
    tqdm.write(f"error: {problem}", file=sys.stderr)
    write_line(stream, {"image": name, "error": problem})


def draw_frame(watch: Watch, frame: Frame, second: float, video: VideoFile | None, show: bool, hide: bool) -> None:
    """Draw on a frame's picture; add it to the annotated video at ``second``, and show it, where asked for."""
    assert frame.picture is not None
    picture = hide_plates(frame.picture, [*frame.plates, *frame.unseen]) if hide \
        else draw_plates(frame.picture, frame.plates)
    if video:
        video.write(second, picture)
    if show:
        cv2.imshow("plates (q ends)", picture)
        if cv2.waitKey(1) == ord("q"):
            watch.source.stop()


def report(watch: Watch, stream: TextIO | None, video: VideoFile | None, show: bool, hide: bool,
           crops: PlateCrops | None) -> None:
    """Watch one source and write its lines, its annotated video and its plates' pictures, or open a window: whatever
    was asked for."""
    name, count = watch.source.name, 0
    announced: set[int] = set()  # numbers of tracks
    silent_since, silent_seconds = None, 0.0  # of a stream that gives no frames until it is opened again

    def times(**seconds: float) -> dict[str, Any]:
        return {key: watch.source.clock(second) for key, second in seconds.items()} if watch.source.live else {}

    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(tqdm(total=watch.source.total, desc=name, unit="frame", leave=False,
                                            disable=not sys.stderr.isatty()))
        if video:
            stack.callback(video.close)
        for frame in watch:
            for track in frame.finished:
                count += 1
                seen = times(first_time=track.first_second, last_time=track.last_second)
                write_line(stream, {"image": name, **track.to_dict(), **seen})
                if not stream:
                    say("  ".join([f"{name}: {track}", *seen.values()]))
                if crops:
                    crops.add(name, track)
            if frame.picture is None:
                if silent_since is None and watch.reconnect and watch.source.live and watch.source.broken:
                    tell(f"{name} gives no more frames since {watch.source.clock(frame.second)}; it will be opened "
                         "again as soon as it can be", stream, name)
                silent_since = frame.second
                continue
            if silent_since is not None:
                tqdm.write(f"{name} is back  {watch.source.clock(frame.second)}", file=sys.stderr)
                silent_seconds += frame.second - silent_since
                silent_since = None
            progress.update(frame.number + 1 - progress.n)
            when = times(time=frame.second) or {"frame": frame.number, "second": round(frame.second, 3)}
            write_line(stream, {"image": name, **when, **frame.to_dict()})
            for track in frame.tracks:
                if watch.source.live and track.reading.text and track.counts(watch.rules) \
                        and announced.isdisjoint(numbers := {track.number, *track.also}):
                    announced |= numbers
                    since = watch.source.clock(track.first_second)
                    write_line(stream, {"image": name, **track.so_far("arrived"), "first_time": since})
                    if not stream:
                        say(f"{name}: {track.reading}  here since {since}")
            if video or show:
                draw_frame(watch, frame, frame.second - silent_seconds, video, show, hide)
    drawn = f"; annotated video in {video.path}" if video and watch.frames else ""
    print(f"{watch}; {count} plate{'s' * (count != 1)}{drawn}", file=sys.stderr)
