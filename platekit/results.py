"""What comes out of reading a picture, and the JSON line it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Details:
    """What is told of a plate only if asked for.

    ``colour`` is one of ``LPRNet.details.COLOURS``, ``corners`` are (x, y) in pixels of the picture: the upper left one
    of an upright plate, then clockwise. A turned plate's may lie outside the box.
    """

    colour: str
    colour_confidence: float
    corners: tuple[tuple[float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """The details as in the JSON lines."""
        return {"colour": self.colour, "colour_confidence": round(self.colour_confidence, 4),
                "corners": [[round(value, 1) for value in corner] for corner in self.corners]}


@dataclass(frozen=True)
class Plate:
    """One plate: ``box`` (x1, y1, x2, y2) in pixels of the picture; what was not asked for is None.

    ``detection_score`` is the detector's probability of a plate, ``confidence`` the recogniser's of exactly this text.
    """

    box: Box
    detection_score: float | None = None
    text: str | None = None
    confidence: float | None = None
    symbol_confidences: tuple[float, ...] = field(default=(), repr=False)
    details: Details | None = None
    rows: int = 1  # of its symbols, as it was read
    others: tuple[tuple[str, float], ...] = field(default=(), repr=False)  # what else its text may be, and how surely
    picture: np.ndarray | None = field(default=None, repr=False, compare=False)  # of it, where a video's are kept

    def to_dict(self) -> dict[str, Any]:
        """The plate as in the JSON lines: ``text`` and ``confidence`` only where it was read, more with details."""
        line: dict[str, Any] = {}
        if self.text is not None and self.confidence is not None:
            line = {"text": self.text, "confidence": round(self.confidence, 4)}
        if self.details is not None:
            line["symbol_confidences"] = [round(value, 4) for value in self.symbol_confidences]
            line["others"] = [{"text": text, "confidence": round(value, 4)} for text, value in self.others]
            line |= self.details.to_dict() | {"rows": self.rows}
        line["detection_score"] = None if self.detection_score is None else round(self.detection_score, 4)
        return line | {"box": [round(value, 1) for value in self.box]}

    def __str__(self) -> str:
        box = ", ".join(f"{value:.0f}" for value in self.box)
        reading = "plate" if self.text is None else f"{self.text or '(nothing read)'}  confidence {self.confidence:.3f}"
        colour = "" if self.details is None else f"  {self.details.colour} {self.details.colour_confidence:.3f}"
        score = "" if self.detection_score is None else f"  detection {self.detection_score:.3f}"
        return f"{reading}{colour}{score}  box ({box})"


@dataclass(frozen=True)
class PictureResult:
    """The plates of one picture, the surest detection first, and the milliseconds each stage took."""

    width: int
    height: int
    plates: tuple[Plate, ...]
    ms: dict[str, float] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return "\n".join(map(str, self.plates)) or "no plate found"

    def to_dict(self) -> dict[str, Any]:
        """The picture as in the JSON lines, without its name."""
        ms = {name: round(value, 1) for name, value in self.ms.items()}
        return {"width": self.width, "height": self.height, "ms": ms,
                "plates": [plate.to_dict() for plate in self.plates]}
