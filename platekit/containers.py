"""How long a video's file says that it is, for AVI (RIFF) and MP4, MOV and 3GP (ISO/IEC 14496-12)."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")  # with which files of ISO begin


class Stated(NamedTuple):
    """Where the last part would ``end``, in a file of ``size`` bytes, and how many ``seconds`` are shown (infinite if
    that is not told)."""

    end: int
    size: int
    seconds: float = math.inf


def stated_length(path: str | os.PathLike) -> Stated | None:
    """What a file says of itself; None where it cannot be opened, or is of another format or not ended.

    Only the parts that lie one behind the other are looked at: each begins with its name and its size.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(12)
            avi = start[:4] == b"RIFF" and start[8:] == b"AVI "
            if not avi and start[4:8] not in _BOXES:
                return None
            end, seconds = 0, math.inf
            while end < size:
                file.seek(end)
                head = file.read(256)
                if avi:
                    length = 8 + int.from_bytes(head[4:8], "little")
                    length += length % 2
                else:
                    length = int.from_bytes(head[:4], "big")
                    if length == 1:  # too large for four bytes
                        length = int.from_bytes(head[8:16], "big")
                    elif length == 0:  # up to the end
                        length = size - end
                    if head[4:8] == b"moov":
                        seconds = _seconds_of_movie(head)
                if length < 8 + avi:  # as while it is written
                    return None
                end += length
            return Stated(end, size, seconds)
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None


def _seconds_of_movie(head: bytes) -> float:
    """What the movie header at the beginning of a ``moov`` box says: parts that an edit leaves out do not count."""
    place = head.find(b"mvhd") + 4
    width = 8 if head[place:place + 1] == b"\1" else 4  # of times in bytes
    rate = place + 4 + 2 * width  # behind the version and when it was made and changed
    ticks = int.from_bytes(head[rate:rate + 4], "big") if place > 4 else 0
    duration = int.from_bytes(head[rate + 4:rate + 4 + width], "big")
    return duration / ticks if ticks and 0 < duration < 256 ** width - 1 else math.inf
