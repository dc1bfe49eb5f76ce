"""How many plates of rare kinds are found and read, in drawn scenes: names like CCPD's cannot hold their numbers.

    python ccpd/rare_plates.py --glyphs GLYPHS               # of each kind 40 photos each of four subsets

Only the best box counts, as in ccpd/evaluate.py. Symbols outside the alphabet do not belong to what is to be read.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from tqdm import tqdm

from ccpd.annotation import Annotation
from ccpd.evaluate import add_weights, outcome_of, weights_of
from ccpd.plate_kinds import FORCES, PlateKind
from ccpd.plate_numbers import forces_text, unread_plate
from ccpd.plates import PlateRenderer
from ccpd.protocol import Share
from ccpd.scenes import render_photo
from ccpd.symbols import LETTERS
from ccpd.textures import pick
from LPRNet.alphabet import CHARS
from platekit.arguments import HelpFormatter, add_glyphs, add_seed, check_range
from platekit.devices import add_device
from platekit.errors import run_script
from platekit.pipeline import PlateReader

SUBSETS = ("ccpd_base", "ccpd_tilt", "ccpd_weather", "ccpd_rotate")
RandomPlate = Callable[[np.random.Generator], tuple[PlateKind, str]]


def of_forces(name: str) -> RandomPlate:
    """Plates of one of ``FORCES``."""
    return lambda rng: (FORCES[name], forces_text(rng, name))


def unread(*names: str, number: str) -> RandomPlate:
    """Plates of these kinds with a symbol outside the alphabet, whose numbers match the regular expression."""

    def plate(rng: np.random.Generator) -> tuple[PlateKind, str]:
        while True:
            kind, text = unread_plate(rng, pick(rng, names))
            if re.fullmatch(number, text):
                return kind, text

    return plate


RARE: dict[str, RandomPlate] = {
    "forces": of_forces("white"),
    "forces_double": of_forces("white_double"),
    "armed_police": of_forces("white_police"),
    "other_last_symbol": unread("white", "yellow", "yellow_double", "black", number="[^使]+"),
    "embassy": unread("black", number=".+使"),
    "older_embassy": unread("black", number="使.+"),
}


def draw_scenes(name: str, count: int, renderer: PlateRenderer, seed: int) -> Iterator[tuple[np.ndarray, Annotation]]:
    """``count`` photos of each of ``SUBSETS``, BGR uint8 (H, W, 3), with plates of a kind, and their annotations."""
    for place, subset in enumerate(SUBSETS):
        for number in range(count):
            rng = np.random.default_rng((seed, list(RARE).index(name), place, number))
            photo, annotation = render_photo(subset, renderer, rng, plate=RARE[name](rng))
            assert annotation  # each of these subsets shows plates
            yield photo, annotation


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=list(RARE), default=list(RARE), metavar="KIND",
                        help=f"of {', '.join(RARE)} (default: all)")
    parser.add_argument("--count", type=int, default=40, metavar="N",
                        help="photos in each subset")
    add_glyphs(parser)
    add_seed(parser, "same seed, same photos")
    add_device(parser)
    add_weights(parser)
    args = parser.parse_args()
    check_range(args, "count", 1)
    return args


def main() -> None:
    args = parse_arguments()
    renderer, reader = PlateRenderer(args.glyphs), PlateReader(args.device, **weights_of(args))
    for name in args.kinds:
        outcomes = []
        for photo, annotation in tqdm(draw_scenes(name, args.count, renderer, args.seed), desc=name, leave=False,
                                      total=args.count * len(SUBSETS), unit="photo", disable=None):
            readable = dataclasses.replace(annotation, plate="".join(filter(CHARS.__contains__, annotation.plate)))
            outcomes.append(outcome_of(reader.read(photo), readable, "", name))
        found = Share.of(outcome.found for outcome in outcomes)
        read = Share.of(outcome.read for outcome in outcomes)
        print(f"{name}: of {len(outcomes)} plates {found} found, {read} read", end="")
        doubles = {letter * 2 for letter in LETTERS}
        twins = [outcome.read for outcome in outcomes if outcome.plate and outcome.plate[:2] in doubles]
        if twins:
            print(f", of {len(twins)} with two equal letters {sum(twins)}", end="")
        print(flush=True)


if __name__ == "__main__":
    run_script(main)
