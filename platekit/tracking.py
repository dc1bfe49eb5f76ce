"""Plates followed from frame to frame, so that one car gives one result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any

import numpy as np

from platekit.boxes import box_iou
from platekit.fusion import KEPT, FusedReading
from platekit.results import Plate


@dataclass(frozen=True)
class Rules:
    """When plates of two frames are one. Times count the frames that were looked at, but for ``seconds``; distances are
    plate widths."""

    overlap: float = 0.2  # IoU of the expected and the found box
    near: float = 0.5  # or this distance between their centres
    near_unknown: float = 1.0  # the same while the track's motion is not known
    near_alike: float = 4.0  # the same when the texts are equal, or alike and not both ``surer``
    distance: float = 0.1  # how much a pair is worse for each plate width between its centres
    alike: float = 0.7  # ``likeness`` from which on texts are alike
    half_alike: float = 0.5  # ``likeness`` below which texts are not half alike
    sure: float = 0.7  # two readings, both this sure and not half alike, are of two plates
    surer: float = 0.8  # two readings, both this sure, are of two plates if more than one symbol differs
    unsure: float = 0.5  # a ``surer`` reading and one at least this sure, not half alike, are of two plates
    missed: int = 8  # a track ends after so many frames without its plate
    memory: int = 50  # a plate that comes back within so many frames is the same one
    seconds: float = 3.0  # nor after more seconds, where few frames are looked at, if one of them was without it
    frames: int = 3  # a track counts from so many frames on, or from ``confidence`` on
    confidence: float = 0.9
    least: float = 0.0  # and never below this confidence


RULES = Rules()


class Track:
    """One plate over its frames. ``number`` counts from 1 in the order of first sight.

    ``frame`` counts the frames of the video, ``time`` those that were looked at, in which ``born`` and ``seen`` are.
    """

    box: np.ndarray  # in the last frame
    last_frame: int

    def __init__(self, number: int, frame: int, time: int, plate: Plate, second: float = 0.0) -> None:
        self.number, self.first_frame, self.born, self.first_second = number, frame, time, second
        self.frames, self.reading = 0, FusedReading()
        self.also: list[int] = []  # numbers of other tracks that turned out to be of this plate
        self._motion: np.ndarray | None = None  # pixels a frame
        self.see(frame, time, plate, second)

    def see(self, frame: int, time: int, plate: Plate, second: float = 0.0) -> None:
        """The plate was found in this frame."""
        box = np.array(plate.box, dtype=float)
        if self.frames:
            step = (centre(box) - centre(self.box)) / max(1, frame - self.last_frame)
            self._motion = step if self._motion is None else (self._motion + step) / 2
        self.box, self.last_frame, self.seen, self.last_second = box, frame, time, second
        self.frames += 1
        self.reading.add(plate, frame)

    @property
    def moving(self) -> bool:
        """Whether its motion is known."""
        return self._motion is not None

    def expected(self, frame: int) -> np.ndarray:
        """Its box in a later frame, were it to go on as it did."""
        shift = np.zeros(2) if self._motion is None else self._motion * (frame - self.last_frame)
        return self.box + np.tile(shift, 2)

    def absorb(self, earlier: Track) -> None:
        """Take over a track of the same plate that began earlier."""
        self.number, *also = sorted([self.number, *self.also, earlier.number, *earlier.also])
        self.also = also[:KEPT]
        if earlier.born < self.born:
            self.first_frame, self.born, self.first_second = earlier.first_frame, earlier.born, earlier.first_second
        if earlier.seen > self.seen:
            self.box, self.last_frame, self.seen = earlier.box, earlier.last_frame, earlier.seen
            self.last_second = earlier.last_second
        self.frames = min(self.frames + earlier.frames, self.seen - self.born + 1)  # some may be of both
        self.reading.merge(earlier.reading)

    def counts(self, rules: Rules = RULES) -> bool:
        """Whether it was seen often or surely enough to be a plate."""
        often = self.frames >= rules.frames or self.reading.confidence >= rules.confidence
        return often and self.reading.confidence >= rules.least

    def so_far(self, name: str) -> dict[str, Any]:
        """What JSON lines tell of a track at any time: its number, called ``name`` there, its text and how sure that
        is."""
        return {name: self.number, "text": self.reading.text, "confidence": round(self.reading.confidence, 4)}

    def to_dict(self) -> dict[str, Any]:
        """The track as in the JSON lines, without the name of its video."""
        best = self.reading.best
        colour = {} if self.reading.colour is None else {"colour": self.reading.colour}
        also = {"also": self.also} if self.also else {}
        return {**self.so_far("track"), **also, **colour, "first_frame": self.first_frame,
                "last_frame": self.last_frame, "frames": self.frames, "best_frame": best.frame,
                "box": [round(float(value), 1) for value in best.box],
                "first_second": round(self.first_second, 2), "last_second": round(self.last_second, 2)}

    def __str__(self) -> str:
        return f"{self.reading}  frames {self.first_frame} to {self.last_frame}"


class Tracker:
    """Follows plates: every frame's plates go to ``follow``, and ``finished`` gives the tracks that are over."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules, self._time, self._count, self._second = rules, 0, 0, 0.0
        self._live: list[Track] = []
        self._lost: list[Track] = []  # over, but their plates may come back

    def follow(self, frame: int, plates: Sequence[Plate], second: float = 0.0) -> list[Track]:
        """The track of each plate of one frame, ``second`` seconds after the video's begin.

        Frame numbers rise, gaps are frames that were not looked at.
        """
        self._time, self._second = self._time + 1, second
        tracks: dict[int, Track] = {}  # by plate
        for track, index in self._match(frame, plates):
            track.see(frame, self._time, plates[index], second)
            tracks[index] = track
        for index, plate in enumerate(plates):
            if index not in tracks:
                self._count += 1
                tracks[index] = Track(self._count, frame, self._time, plate, second)
                self._live.append(tracks[index])
        over = [track for track in self._live if self._time - track.seen > self.rules.missed or self._late(track)]
        self._live = [track for track in self._live if track not in over]
        self._lost += over
        return [tracks[index] for index in range(len(plates))]

    def unseen(self, frame: int) -> list[np.ndarray]:
        """Where the plates that the last frame did not show, but may be there, are expected in a frame: boxes (4,)."""
        return [track.expected(frame) for track in self._live if track.seen < self._time]

    def finished(self, end: bool = False) -> list[Track]:
        """Tracks that are over and were not given before, by first frame; at the ``end`` all that are left."""
        if end:
            self._lost, self._live = self._lost + self._live, []
        self._lost.sort(key=lambda track: track.born)
        done = []
        for track in list(self._lost):
            wait = self.rules.missed + (0 if self._late(track) else self.rules.memory)
            if not end and self._time - track.seen <= wait:
                continue
            self._lost.remove(track)
            later = next((other for other in self._lost + self._live if self._same_plate(track, other)), None)
            if later:
                later.absorb(track)
            elif track.counts(self.rules):
                done.append(track)
        return done

    def _late(self, track: Track, later: Track | None = None) -> bool:
        """Whether a plate that is seen now, or was first seen as ``later``, comes too many seconds after the track."""
        time, second = (later.born, later.first_second) if later else (self._time, self._second)
        return time - track.seen > 1 and second - track.last_second > self.rules.seconds

    def _match(self, frame: int, plates: Sequence[Plate]) -> list[tuple[Track, int]]:
        """Pairs of track and index of a plate, the best pairs first taken."""
        live = [track for track in self._live if not self._late(track)]
        if not live or not plates:
            return []
        expected = np.stack([track.expected(frame) for track in live])
        boxes = np.array([plate.box for plate in plates], dtype=float)
        overlaps = box_iou(expected, boxes).tolist()
        pairs = []
        for row, track in enumerate(live):
            for index, plate in enumerate(plates):
                alike = likeness(track.reading.text, plate.text or "")
                width = max(expected[row, 2] - expected[row, 0], boxes[index, 2] - boxes[index, 0])
                distance = float(np.linalg.norm(centre(expected[row]) - centre(boxes[index]))) / width
                if self._may_be(track, plate, overlaps[row][index], distance, alike):
                    pairs.append((overlaps[row][index] + alike - self.rules.distance * distance, row, index))
        matches, rows, indices = [], set(), set()
        for _, row, index in sorted(pairs, reverse=True):
            if row not in rows and index not in indices:
                rows.add(row)
                indices.add(index)
                matches.append((live[row], index))
        return matches

    def _may_be(self, track: Track, plate: Plate, overlap: float, distance: float, alike: float) -> bool:
        rules = self.rules
        less, more = sorted((track.reading.best.confidence, plate.confidence or 0.0))
        sure_enough = less >= rules.sure or (less >= rules.unsure and more >= rules.surer)
        other_text = sure_enough and alike < rules.half_alike
        other_symbols = less >= rules.surer and differing(track.reading.text, plate.text or "") > 1
        if other_text or other_symbols:
            return False  # another plate in this one's place: they cross, or one follows the other
        if alike == 1 or (alike >= rules.alike and less < rules.surer):
            return distance <= rules.near_alike
        return overlap >= rules.overlap or distance <= (rules.near if track.moving else rules.near_unknown)

    def _same_plate(self, earlier: Track, later: Track) -> bool:
        """Whether ``later`` is the plate of ``earlier`` again, after it was hidden or misread."""
        if later.born - earlier.seen > self.rules.memory or earlier.born > later.seen + self.rules.memory:
            return False
        if self._late(earlier, later) or self._late(later, earlier):
            return False
        if earlier.reading.text == later.reading.text:
            return bool(earlier.reading.text)
        texts = earlier.reading.text, later.reading.text
        unsure = min(earlier.reading.confidence, later.reading.confidence) < self.rules.sure
        alike = likeness(*texts) >= self.rules.half_alike and differing(*texts) <= 1
        return unsure and later.born > earlier.seen and alike


def centre(box: np.ndarray) -> np.ndarray:
    """The centre (x, y) of a box (4,)."""
    return (box[:2] + box[2:]) / 2


def likeness(a: str, b: str) -> float:
    """Share of places with the same symbol, where the shorter text may have a gap at one place; 0 for an empty text."""
    short, long = sorted((a, b), key=len)
    gap = len(long) - len(short)
    shared = max(sum(map(eq, short, long[:place] + long[place + gap:])) for place in range(len(short) + 1))
    return shared / len(long) if short else 0.0


def differing(a: str, b: str) -> int:
    """In how many symbols two texts differ, by ``likeness``."""
    return round((1 - likeness(a, b)) * max(len(a), len(b)))
