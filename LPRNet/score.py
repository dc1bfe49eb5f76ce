"""How many labelled crops are read right, and whether the confidence says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ccpd.protocol import calibrate
from LPRNet.alphabet import Alphabet
from LPRNet.data.crop_names import CropName
from LPRNet.data.labels import Labels, label_of
from platekit.errors import UserError
from platekit.files import real_path


class Score:
    """Counts right readings of labelled crops, and compares the confidence with them."""

    columns: tuple[str, ...] = "file", "text", "read", "confidence"  # of ``wrong``

    def __init__(self, alphabet: Alphabet, labels: Labels) -> None:
        self.alphabet, self.labels = alphabet, labels
        self.texts: list[str] = []  # what is written
        self.right: list[bool] = []
        self.confidences: list[float] = []
        self.wrong: list[tuple[object, ...]] = []
        self.unlabelled = self.failed = 0
        self.seen: set[Path] = set()

    def add_entry(self, entry: dict[str, Any]) -> None:
        """Count what a line of results says, where a table, or a name that is a plate's, says what the crop shows."""
        path = Path(entry["image"])
        if (resolved := real_path(path)) in self.seen:  # named twice
            return
        self.seen.add(resolved)
        name = known_label(path, self.labels)
        if "plates" not in entry:
            self.failed += name is not None
        for plate in entry.get("plates", ()):
            if "text" not in plate:
                raise UserError("the lines kept by --resume come from another script; name another --json")
            if not name or not (self.alphabet.is_label(name.plate) or resolved in self.labels):
                self.unlabelled += 1
                continue
            self.texts.append(name.plate)
            self.right.append(plate["text"] == name.plate)
            self.confidences.append(plate["confidence"])
            if not self.right[-1]:
                self.wrong.append((path, name.plate, plate["text"], plate["confidence"]))

    def __str__(self) -> str:
        if not self.texts:
            return f"none of {self.unlabelled} crops is in --labels" if self.labels and self.unlabelled else ""
        groups = {"all": self.right}
        if "皖" in self.alphabet:
            groups["not 皖"] = [right for right, text in zip(self.right, self.texts) if not text.startswith("皖")]
        counts = [f"{name}: {sum(part)} of {len(part)} right ({sum(part) / len(part):.1%})"
                  for name, part in groups.items() if part]
        counts.append(f"calibration error {calibrate(self.confidences, self.right).error:.3f}")
        if self.failed:
            counts.append(f"{self.failed} labelled ones that could not be read")
        if self.unlabelled:
            counts.append(f"{self.unlabelled} without a label that these weights could read")
        if strange := sum(not all(map(self.alphabet.__contains__, text)) for text in self.texts):
            counts.append(f"{strange} labels with symbols that these weights do not know")
        return ", ".join(counts)


def known_label(path: Path, labels: Labels) -> CropName | None:
    """``label_of``, or None."""
    try:
        return label_of(path, labels)
    except UserError:
        return None
