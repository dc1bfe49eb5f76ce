"""Many readings of one plate made into one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from platekit.results import Box, Plate

KEPT = 100  # sightings (one per text) and numbers of a track at most: a car parked before a camera fills no memory
KEPT_PICTURES = 10  # the same of pictures


@dataclass(frozen=True)
class Sighting:
    """A plate in one frame of a video."""

    frame: int
    box: Box
    confidence: float
    rows: int = 1  # as it was read
    picture: np.ndarray | None = field(default=None, repr=False, compare=False)  # Plate's


class FusedReading:
    """Every reading votes for its length and, among those of the winning length, for the symbol at each place.

    Votes weigh as much as the confidences of text and symbol, so that a few sharp frames outvote many blurred ones.
    """

    def __init__(self) -> None:
        self.text, self.confidence = "", 0.0
        self._lengths: Counter[int] = Counter()
        self._symbols: dict[int, list[Counter[str]]] = {}
        self._colours: Counter[str] = Counter()
        self._surest: dict[str, Sighting] = {}  # the surest of the sightings that read this text

    def add(self, plate: Plate, frame: int) -> None:
        """One more reading; a plate without text counts as a sighting only."""
        text, confidence = plate.text or "", plate.confidence or 0.0
        self._keep(text, Sighting(frame, plate.box, confidence, plate.rows, plate.picture))
        # What a Counter counts are int to type checkers, whatever they are.
        self._lengths[len(text)] += confidence if text else 0.0  # type: ignore[assignment]
        places = self._symbols.setdefault(len(text), [Counter() for _ in text])
        for place, symbol, probability in zip(places, text, plate.symbol_confidences or (1.0,) * len(text)):
            place[symbol] += confidence * probability  # type: ignore[assignment]
        if plate.details is not None:
            self._colours[plate.details.colour] += plate.details.colour_confidence  # type: ignore[assignment]
        self._fuse()

    def merge(self, other: FusedReading) -> None:
        """Take over all readings of another one."""
        for text, sighting in other._surest.items():
            self._keep(text, sighting)
        self._lengths.update(other._lengths)
        self._colours.update(other._colours)
        for length, places in other._symbols.items():
            for mine, theirs in zip(self._symbols.setdefault(length, [Counter() for _ in places]), places):
                mine.update(theirs)
        self._fuse()

    @property
    def best(self) -> Sighting:
        """The sighting with the surest reading of the fused text; of any text, where no frame read this one."""
        return self._surest.get(self.text) or max(self._surest.values(), key=lambda sighting: sighting.confidence)

    @property
    def pictured(self) -> Sighting | None:
        """The sighting whose picture shows the plate: ``best``, or the surest that has one where that has none (any
        more); None where no pictures are kept."""
        if self.best.picture is not None:
            return self.best
        with_picture = (sighting for sighting in self._surest.values() if sighting.picture is not None)
        return max(with_picture, key=lambda sighting: sighting.confidence, default=None)

    @property
    def colour(self) -> str | None:
        """The colour with most votes; None where none was told."""
        return max(self._colours, key=self._colours.__getitem__, default=None)

    def __str__(self) -> str:
        reading = f"{self.text or '(nothing read)'}  confidence {self.confidence:.3f}"
        return f"{reading}  {self.colour}" if self.colour else reading

    def _keep(self, text: str, sighting: Sighting) -> None:
        if text not in self._surest or sighting.confidence > self._surest[text].confidence:
            self._surest[text] = sighting
            if len(self._surest) > KEPT:
                del self._surest[min(self._surest, key=lambda other: self._surest[other].confidence)]
            pictured = [text for text, known in self._surest.items() if known.picture is not None]
            if len(pictured) > KEPT_PICTURES:
                least = min(pictured, key=lambda other: (other == self.text, self._surest[other].confidence))
                self._surest[least] = replace(self._surest[least], picture=None)

    def _fuse(self) -> None:
        """``confidence``: that of the ``best`` sighting, times the share of votes for its weakest symbol."""
        places = self._symbols[max(self._lengths, key=self._lengths.__getitem__)]
        winners = [max(place.items(), key=lambda item: item[1]) for place in places]
        self.text = "".join(symbol for symbol, _ in winners)
        share = min((votes / max(1e-9, place.total()) for (_, votes), place in zip(winners, places)), default=0.0)
        self.confidence = share * self.best.confidence if self.text else 0.0
