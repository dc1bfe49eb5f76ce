"""Numbers as plates of each kind could have them."""

from __future__ import annotations

import numpy as np

from ccpd.plate_kinds import FORCES, KINDS, PlateKind
from ccpd.symbols import DIGITS, LETTERS, PROVINCES
from ccpd.textures import pick, pick_by_share

# Symbols that the alphabet lacks: those of the police, of driving schools, trailers, Hong Kong, Macau, consulates and
# embassies. All are the last ones, but for older plates of embassies.
UNREAD_SYMBOLS = {"white": "警", "yellow": "学", "yellow_double": "挂", "black": "港澳领使"}
# Where the letters among an ordinary plate's last five symbols are, and how often: about as on the 66,873 different
# plates that CCPD's file names tell, but with more plates that have none, as there are elsewhere.
SERIALS = {(): 12, (0,): 12, (1,): 9, (2,): 8, (3,): 8, (4,): 4, (0, 1): 18, (0, 4): 12, (0, 2): 8, (1, 2): 2,
           (0, 3): 2, (3, 4): 2, (2, 3): 1, (1, 3): 1, (1, 4): 1, (2, 4): 1}
FORCES_SHARE = 0.5  # of the plates drawn as ``white`` to train on that are of the armed forces
TWINS = 0.3  # share of the forces' numbers of which both letters are drawn the same: those are harder to read


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(pick(rng, DIGITS) for _ in range(count))


def random_text(rng: np.random.Generator, kind: PlateKind | str) -> str:
    """A plate number as it could be issued: provinces drawn evenly, the rest by realistic patterns.

    Ordinary plates: province, city letter, five symbols with up to two letters (``SERIALS``). New-energy plates
    (green): small cars carry a letter, mostly D or F, as third symbol, large ones as the last. White plates get
    ordinary numbers, which CCPD's file names can tell, in place of those that they have.
    """
    kind = KINDS[kind] if isinstance(kind, str) else kind
    head = pick(rng, PROVINCES)
    # Most cars of a province are registered in its first cities; every letter still appears.
    city = LETTERS[min(int(rng.exponential(5.0)), 23)] if rng.random() < 0.7 else pick(rng, LETTERS)
    if kind.name == "green":
        energy = pick(rng, "DF") if rng.random() < 0.8 else pick(rng, "ABCEGHJK")
        digits = [pick(rng, DIGITS) for _ in range(5)]
        if rng.random() < 0.2:
            return head + city + "".join(digits) + energy
        if rng.random() < 0.3:
            digits[0] = pick(rng, LETTERS)
        return head + city + energy + "".join(digits)
    serial = [pick(rng, DIGITS) for _ in range(5)]
    for place in pick_by_share(rng, SERIALS):
        serial[place] = pick(rng, LETTERS)
    return head + city + "".join(serial)


def unread_plate(rng: np.random.Generator, kind: PlateKind | str) -> tuple[PlateKind, str]:
    """A plate with one of ``UNREAD_SYMBOLS``, of a kind that has such: its layout and its number.

    Half of the embassies' and consulates' are as GA 36-2018 has them (224·578使, 沪224·78领), the others older: with 使
    before the digits, and 领 behind a letter and four (使224·578, 沪A·0023领).
    """
    kind = KINDS[kind] if isinstance(kind, str) else kind
    symbol = pick(rng, UNREAD_SYMBOLS[kind.name])
    text, older = random_text(rng, kind)[:-1] + symbol, rng.random() < 0.5
    if symbol == "使":
        digits, behind = _digits(rng, 6), int(rng.choice((3, 4))) if older else 3
        return kind.with_dot_behind(behind), "使" + digits if older else digits + "使"
    if symbol == "领":
        return (kind, text[:2] + _digits(rng, 4) + "领") if older else \
            (kind.with_dot_behind(4), text[0] + _digits(rng, 5) + "领")
    if symbol in "港澳":  # of vehicles that may enter Guangdong
        text = "粤Z" + text[2:]
    return kind.with_dot_behind(1) if symbol == "警" else kind, text


def forces_text(rng: np.random.Generator, kind: PlateKind | str = "white") -> str:
    """A number of the armed forces: two letters, at times the same, and five digits; of the armed police WJ, a
    province and five digits, of which the last is a letter now and then."""
    kind = FORCES[kind] if isinstance(kind, str) else kind
    if kind.small < 0:
        first = pick(rng, LETTERS)
        return first + (first if rng.random() < TWINS else pick(rng, LETTERS)) + _digits(rng, 5)
    return "WJ" + pick(rng, PROVINCES) + _digits(rng, 4) + pick(rng, LETTERS if rng.random() < 0.3 else DIGITS)
