"""Frames of video files, cameras and streams, read in a thread of their own."""

from __future__ import annotations

import math
import os
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from urllib.parse import unquote

import numpy as np

from platekit.containers import stated_length
from platekit.errors import UserError
from platekit.files import is_device
from platekit.opencv import cv2, video_name

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".3gp")
QUEUE = 8  # frames of a file that may be read ahead
USUAL_RATE, MOST_RATE = 25.0, 240.0  # frames a second; what is above is a clock's rate
MISSES = 5  # places without a frame, one after the other, from which on a source is at its end: some are only damaged
OPENING = 15000  # milliseconds that a stream may take to open: no signal ends that call
HANGS = 1.0  # seconds that a place without a frame takes where nothing comes any more
CLOCK_SET = timedelta(seconds=1)  # a larger difference: the clock was set, or the computer has slept
WHOLE = 0.9  # share of a file's stated length from which on it counts as whole: some state a guess
MOST_CAMERAS = 2**31  # numbers from there on, and those below 0, end OpenCV, not only its call
_HOST = r"(?:[\w-]+(?:\.[\w-]+)+|localhost|\[[\da-f:.]+\])(?::\d+)?(?=[/?#]|$)"
# A password may have / and @ in it, so that what stands before the last thing that looks like a host is left out.
_USER = re.compile(rf"://(?!{_HOST}|[^:@/?#]*(?:[/?#]|$))(?:.*@(?={_HOST})|.*@)", re.IGNORECASE)
_SECRET = (
    r"(?<![\w-])([\w-]*(?:user(?:name)?|usr|login\w*|pass\w*|pas|pwd?|token|secret|auth|sig(?:nature)?|hmac|md5|"
    r"credentials?|jwt|policy|hdnts|(?:api|access|stream|auth|secret)_?key|[_-]key|(?<![a-z])(?:key|sign))=)")


class FrameSource:
    """The frames of a video, once: ``for number, frame in source``. Closed by ``close`` or by the end of a ``with``.

    It gives every frame, or every ``every``-th one, except damaged ones. A live source (a camera or a stream) does not
    wait: only its latest frame is kept, and frames not taken in time count as ``dropped``. Frames are numbered as
    the source gave them, those that are left out too. ``second`` is the time of the last frame given: in a file by its
    time stamps, or by its frame rate where OpenCV tells none, from a live source by the clock since it was opened.
    """

    def __init__(self, source: str | os.PathLike | int, live: bool | None = None, every: int = 1) -> None:
        """A path, an address or the number of a camera; ``live`` says whether it is a live one, where that is not to
        be told by its name. Raises UserError when it cannot be opened."""
        if every < 1:
            raise UserError(f"every N-th frame is given for an N from 1 on, not for {every}")
        source = source if isinstance(source, int) else local_path(os.fspath(source))
        self.name = source_name(source)
        if isinstance(source, int) and not 0 <= source < MOST_CAMERAS:
            raise UserError(f"there is no camera {source}; cameras count from 0")
        if isinstance(source, str) and os.path.isdir(source):  # Path.is_dir raises for the length of some addresses
            raise UserError(f"{self.name} is a folder; name the videos in it")
        if isinstance(source, str) and is_device(source) and not source.startswith("/dev/"):  # it may wait for ever
            raise UserError(f"{self.name} is a pipe; lead it into /dev/stdin, or name a file")
        self._path = source
        self._opened_as = video_name(source) if isinstance(source, str) else source
        self._capture = cv2.VideoCapture()
        if not self._open():
            what = f"camera {source}" if isinstance(source, int) else self.name
            raise UserError(f"cannot open {what} as a video; check that it is there and that OpenCV knows its format")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        total = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        # A file behind a web address has a length, a stream has none.
        file_at_address = total > 0 and str(source).startswith(("http://", "https://"))
        self.live = is_live(source) and not file_at_address if live is None else live
        # Streams may state none, or their clock's.
        self.rate = rate if (1 <= rate <= MOST_RATE if self.live else 0 < rate < math.inf) else USUAL_RATE
        self.total = total if total > 0 and not self.live else None
        self.every = every
        self.dropped = 0
        self.broken = False  # a live source that ended by itself, or a file that is cut off
        self.second, self._opened, self._start = 0.0, datetime.now().astimezone(), time.monotonic()
        self._waiting: deque[tuple[int, np.ndarray, float]] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._next = 0  # number of the next frame
        self._thread: threading.Thread | None = None

    def _open(self) -> bool:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPENING] if "://" in str(self._path) else []
        return self._capture.open(self._opened_as, cv2.CAP_ANY, limits)  # type: ignore[arg-type]  # bytes are taken too

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        if self._thread:
            raise UserError(f"the frames of {self.name} are given once; open it anew")
        self._thread = threading.Thread(target=self._read, name=f"frames of {self.name}", daemon=True)
        self._thread.start()
        return self._frames()

    def _frames(self) -> Iterator[tuple[int, np.ndarray]]:
        while True:
            with self._changed:
                while not self._waiting and not self._ended and not self._stopped:
                    self._changed.wait(0.5)  # not for ever: Ctrl-C must get through on every system
                if self._stopped or not self._waiting:
                    return
                number, frame, self.second = self._waiting.popleft()
                self._changed.notify_all()
            yield number, frame

    def stop(self) -> None:
        """Give no further frame. A signal handler and other threads may call this."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def reopen(self, wait: float) -> bool:
        """Open a live source that ended by itself again, by a try every ``wait`` seconds: its frames can be read once
        more, and their numbers and seconds go on. False if it did not end so, or if ``stop`` is called meanwhile."""
        if not (self.live and self.broken and self._thread):
            return False
        self._thread.join()  # it lets go of the capture
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._stopped, wait):
                    return False
            if self._open():
                self._ended = self.broken = False
                self._thread = None
                return True

    def clock(self, second: float) -> str:
        """The time of day (ISO 8601) ``second`` seconds after the source was opened, as the clock is set now."""
        opened = datetime.now().astimezone() - timedelta(seconds=time.monotonic() - self._start)
        if abs(opened - self._opened) > CLOCK_SET:
            self._opened = opened
        return (self._opened + timedelta(seconds=second)).astimezone().isoformat(timespec="milliseconds")

    def close(self) -> None:
        """Stop, and let the source go."""
        self.stop()
        if self._thread:
            self._thread.join(timeout=5)  # a camera that hangs must not keep the results from being written
        else:
            self._capture.release()

    def _read(self) -> None:
        whole = False
        try:
            whole = self._read_all()
        finally:  # whatever happens here, nobody waits for ever
            with self._changed:
                self.broken = not self._stopped and not whole
                self._ended = True
                self._changed.notify_all()
            self._capture.release()

    def _read_all(self) -> bool:
        """Take all frames in; whether a file was read to its end."""
        missed, told, second = 0, 0.0, -1.0
        before_it, repeats = 0.0, 0  # the stamp before, and how often it came again
        while missed < MISSES and self._wait_for_room():
            before = time.monotonic()
            wanted = self._next % self.every == 0
            try:
                found, frame = self._capture.read() if wanted else (self._capture.grab(), None)
            except cv2.error:
                found = False
            if not found:
                if time.monotonic() - before >= HANGS:
                    break
                missed, self._next = missed + 1, self._next + 1
                continue
            missed = 0
            told = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            repeats, before_it = repeats + 1 if told == before_it else 0, told
            # A phone's frames do not come evenly; where OpenCV does not tell the place, or a wrong one, they are taken
            # to. Two of one stamp have one second.
            if told > second:
                second = told
            elif not told or told < second - 1 or repeats > 1:
                second = self._next / self.rate
            if frame is not None:
                self._give(self._next, frame, second)
            self._next += 1
        return not self.live and not self._is_cut_off(told)

    def _is_cut_off(self, end: float) -> bool:
        """Whether a file says that it is longer than up to the frame that begins at the second ``end``; that is 0 where
        OpenCV does not tell it."""
        stated = None if isinstance(self._path, int) else stated_length(self._path)
        lacks_bytes = stated is not None and stated.end > stated.size
        if self.total is None:
            return lacks_bytes
        seconds = min(self.total / self.rate, stated.seconds if stated else math.inf)
        lacks_frames = self._next - MISSES < self.total  # otherwise the last one is shown for long
        return lacks_frames and 0 < end < (1 if lacks_bytes else WHOLE) * seconds - 1.5 / self.rate

    def _give(self, number: int, frame: np.ndarray, second: float) -> None:
        """A frame for whoever waits, of this second of a file; from a live source in place of one that nobody took."""
        with self._changed:
            if self.live and self._waiting:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append((number, frame, time.monotonic() - self._start if self.live else second))
            self._changed.notify_all()

    def _wait_for_room(self) -> bool:
        """Whether another frame is wanted; for a file, once there is room for it."""
        with self._changed:
            while not self.live and len(self._waiting) >= QUEUE and not self._stopped:
                self._changed.wait()
            return not self._stopped


def local_path(source: str) -> str:
    """The path that a file's address (``file://``) names, which OpenCV would not decode; anything else is itself."""
    path = re.sub(r"^file://(localhost(?=/))?", "", source, flags=re.IGNORECASE)
    if path == source or os.path.exists(path):  # downloads have such names
        return path
    return unquote(path.lstrip("/") if os.name == "nt" else path, errors="surrogateescape")  # a drive's name is first


def source_name(source: str | int) -> str:
    """What a source is called in results: without the user, passwords and keys that a stream's address may hold."""
    if isinstance(source, int):
        return f"camera:{source}"
    if "://" not in source:
        return source
    place, mark, query = _USER.sub("://", source, count=1).partition("?")
    hidden = re.sub(rf"{_SECRET}[^&/]*", r"\1***", place, flags=re.IGNORECASE)
    return hidden + mark + re.sub(rf"{_SECRET}[^&]*", r"\1***", query, flags=re.IGNORECASE)  # base64 has / in it


def is_live(source: str | int) -> bool:
    """Whether a source may go on by itself: a camera, an address or a device."""
    if isinstance(source, int) or "://" in local_path(source):
        return True
    try:
        return stat.S_ISCHR(os.stat(source).st_mode)
    except (OSError, ValueError):  # opening it reports why
        return source.startswith("/dev/")  # a camera that is away
