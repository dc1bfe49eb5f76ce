"""The alphabet, and the one codec between plate text and CTC classes."""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ccpd.symbols import DIGITS, LETTERS, PROVINCES
from platekit.errors import UserError, reason

CHARS = tuple(PROVINCES + DIGITS + LETTERS + "IO-")
CHARS_DICT = {symbol: index for index, symbol in enumerate(CHARS)}
MAX_LENGTH = 8
MOST_SYMBOLS = 5000  # LPRNet grows with their square: 100 MB; a file of weights may say any number
TIME_STEPS = 18  # of LPRNet: no text can have more symbols
LEAST_OTHER = 0.001  # mean probability from which on a further text is told
CHINESE = re.compile(f"[{PROVINCES}].{{6,}}|[{LETTERS}]{{2}}[{DIGITS}]{{5}}|WJ[{PROVINCES}].{{5}}")
INVISIBLE = ("Zs", "Cc", "Cf")  # categories of Unicode: spaces, and what steers how a text is shown
BLANKS = "-_~"  # the blank is the first of these that is no symbol; no reading shows it


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was read from one crop.

    ``confidence`` is the probability of exactly this text, summed over every alignment of it to the time steps (of
    several views as ``Alphabet.agree`` has it); ``symbol_confidences`` has, for each symbol, the highest probability
    among the time steps that show it. ``rows`` of symbols, one or two, is what the plate was read as. ``others`` are
    the texts that further views showed, if several views were read, the likeliest first, each with its mean
    probability over the views.
    """

    text: str
    confidence: float
    symbol_confidences: tuple[float, ...] = ()
    rows: int = 1
    others: tuple[tuple[str, float], ...] = ()


class Alphabet:
    """Symbols in class order, the last one being the CTC blank, and how many of them a label has at most, in how many
    ``rows`` at most: 1 or 2 (by default 2 for Chinese plates). A reading may be longer."""

    def __init__(self, chars: Sequence[str] = CHARS, max_length: int = MAX_LENGTH, rows: int | None = None) -> None:
        if len(chars) < 2 or len(set(chars)) != len(chars):
            raise UserError(f"the alphabet '{''.join(chars)[:80]}' is too short or repeats a symbol; list each once, "
                            "the blank last")
        if len(chars) > MOST_SYMBOLS:
            raise UserError(f"the alphabet '{''.join(chars[:20])}...' has more than {MOST_SYMBOLS} symbols; leave out "
                            "those that no plate has")
        if not 1 <= max_length <= TIME_STEPS:
            raise UserError(f"plates of {max_length} symbols cannot be read: LPRNet has {TIME_STEPS} time steps; give "
                            f"--max_length from 1 to {TIME_STEPS}")
        self.chars, self.max_length = tuple(chars), max_length
        self.rows = rows or (2 if self.chinese else 1)
        self.blank = len(chars) - 1
        self._index = {symbol: index for index, symbol in enumerate(self.symbols)}

    @property
    def symbols(self) -> tuple[str, ...]:
        """Those that a text can have: all but the blank."""
        return self.chars[:-1]

    @property
    def chinese(self) -> bool:
        """Whether its plates are laid out as Chinese ones: it has all provinces, and perhaps more symbols."""
        return set(PROVINCES) <= set(self.symbols)

    @property
    def facts(self) -> dict[str, Any]:
        """What files of weights record of it."""
        return {"chars": "".join(self.chars), "max_length": self.max_length, "rows": self.rows}

    def __len__(self) -> int:
        return len(self.chars)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._index

    def is_label(self, text: str) -> bool:
        """Whether a file name's text is a plate's.

        Chinese ones have a province and at least six symbols more, or, of the forces, two letters and five digits, or
        WJ, a province and five symbols, or a symbol that this alphabet has and ``CHARS`` lacks.
        """
        return 0 < len(text) <= self.max_length and all(map(self.__contains__, text)) and \
            (not self.chinese or CHINESE.fullmatch(text) is not None or not set(text) <= set(CHARS))

    def encode(self, text: str, source: str = "label") -> list[int]:
        """Classes of ``text``; UserError naming ``source`` for a symbol outside the alphabet."""
        try:
            return [self._index[symbol] for symbol in text]
        except KeyError as error:
            raise UserError(f"{source}: plate '{text}' has the symbol {error} outside the alphabet; correct the label "
                            "or train with an alphabet that has it") from None

    def decode(self, logits: torch.Tensor) -> list[Reading]:
        """Greedy CTC decode of logits (N, class, T): repeats merged, blanks dropped (Graves et al., ICML 2006).

        Raises ValueError for logits of another shape.
        """
        return self._readings(self._log_probabilities(logits))

    def _readings(self, log_probs: torch.Tensor) -> list[Reading]:
        if not len(log_probs):
            return []
        paths = self._best_paths(log_probs)
        probabilities = self._likelihood(log_probs, [[index for index, _ in path] for path in paths])
        return [
            Reading("".join(self.chars[index] for index, _ in path), probability, tuple(p for _, p in path))
            for path, probability in zip(paths, probabilities.tolist())
        ]

    def classes(self, logits: torch.Tensor) -> list[list[int]]:
        """The classes of what ``decode`` reads, without its confidences, which take most of the time."""
        return [[index for index, _ in path] for path in self._best_paths(self._log_probabilities(logits))]

    def likelihood(self, logits: torch.Tensor, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """The probability (N,) of each sample's text (classes) by its logits (N, class, T), over every alignment."""
        return self._likelihood(self._log_probabilities(logits), texts)

    def _log_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        if logits.dim() != 3 or logits.shape[1] != len(self):
            raise ValueError(f"logits of (N, {len(self)}, time steps) are needed, not of {tuple(logits.shape)}")
        return logits.detach().float().log_softmax(dim=1).cpu()

    def _best_paths(self, log_probs: torch.Tensor) -> list[list[tuple[int, float]]]:
        """What each sample (N, class, T) is read as: the symbols' classes, and the probability of each."""
        best, classes = log_probs.max(dim=1)
        paths = []
        for sample_classes, sample_best in zip(classes.tolist(), best.exp().tolist()):
            path: list[tuple[int, float]] = []
            previous = self.blank
            for index, probability in zip(sample_classes, sample_best):
                if index != previous and index != self.blank:
                    path.append((index, probability))
                elif index != self.blank:  # the same symbol goes on: keep its best time step
                    path[-1] = (index, max(path[-1][1], probability))
                previous = index
            paths.append(path)
        return paths

    def agree(self, logits: torch.Tensor) -> Reading:
        """One reading of several views of a plate, logits (N, P, class, T): N views, each cut out in P ways, one of
        which may be right. Each text read in any of them is scored by its mean probability over the views, each view
        counting with its best way; the text with the highest score is returned. Its confidence is the geometric mean
        of that score, which is too low where some views are bad, and of its highest probability, which is too high.
        The other texts are told too."""
        log_probs = self._log_probabilities(logits.flatten(0, 1))
        readings = sorted(self._readings(log_probs), key=lambda reading: reading.confidence)
        candidates = list({reading.text: reading for reading in readings}.values())  # the surest reading of each text
        by_view = torch.stack([self._likelihood(log_probs, [self.encode(reading.text)] * len(log_probs))
                               .view(logits.shape[:2]).amax(dim=1) for reading in candidates])  # (texts, N)
        means = by_view.mean(dim=1)
        best, *others = means.argsort(descending=True, stable=True).tolist()
        confidence = (means[best] * by_view[best].max()).sqrt()
        return dataclasses.replace(candidates[best], confidence=confidence.item(), others=tuple(
            (candidates[index].text, means[index].item()) for index in others
            if candidates[index].text and means[index] >= LEAST_OTHER))

    def _likelihood(self, log_probs: torch.Tensor, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """How probable each sample (N, class, T) finds its text (N,), over every alignment."""
        def numbers(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.long, device=log_probs.device)  # the default may be another

        targets, lengths = numbers([index for text in texts for index in text]), numbers(list(map(len, texts)))
        steps = numbers([log_probs.shape[2]] * len(texts))
        cost = functional.ctc_loss(log_probs.permute(2, 0, 1), targets, steps, lengths, self.blank, reduction="none")
        return cost.neg().clamp(max=0).exp()


def foreign_texts(texts: Sequence[str]) -> list[str]:
    """Those of no Chinese plate, if they are more than half of all: then these are another country's plates."""
    foreign = [text for text in texts if not CHINESE.fullmatch(text)]
    return foreign if len(foreign) > len(texts) / 2 else []


def decode(preds: torch.Tensor | np.ndarray, chars: Sequence[str] = CHARS) -> tuple[list[str], list[list[int]]]:
    """The texts of logits (N, class, T), and their classes: the familiar form of ``Alphabet.decode``, which also gives
    confidences. Raises ValueError for logits of another shape.
    """
    classes = Alphabet(chars, TIME_STEPS).classes(torch.as_tensor(preds))
    return ["".join(chars[index] for index in text) for text in classes], classes


def read_alphabet(path: str | os.PathLike, max_length: int = MAX_LENGTH) -> Alphabet:
    """The alphabet of a text file: one symbol per line, or all of them in one line. The blank is added here.

    Raises UserError for a file that cannot be read, that repeats a symbol or has a line of several among others.
    """
    try:
        text = unicodedata.normalize("NFC", Path(path).read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the alphabet {path}: {reason(error)}; name a text "
                        "file in UTF-8") from None
    lines = [line for line in text.split("\n") if line]
    symbols = list(lines[0].strip()) if len(lines) == 1 else lines
    for symbol in symbols:
        if unicodedata.category(symbol[0]) in INVISIBLE:
            raise UserError(f"{path} has a symbol that cannot be seen, {symbol!a}; take it out, also of the labels")
        if len(symbol) != 1 or symbols.count(symbol) > 1:
            raise UserError(f"{path}: '{symbol}' is there twice or is more than one symbol; write each symbol once, "
                            "one per line or all in one line")
    blank = next((mark for mark in BLANKS if mark not in symbols), None)
    if blank is None or not symbols:
        raise UserError(f"{path} names no symbol, or all of {BLANKS}; name at least one, and leave one of these for "
                        "the CTC blank")
    return Alphabet((*symbols, blank), max_length)
