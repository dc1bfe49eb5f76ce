"""Fit the tables of ccpd/geometry.py anew.

    python ccpd/fit_geometry.py --fit DIR [DIR ...] [--plain_list LIST]

A DIR holds subset folders of photos, or lists of their names called ``ccpd_tilt.txt[.gz]``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import NormalDist

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from ccpd.annotation import Annotation, has_annotation, parse
from ccpd.dataset import listed_names
from ccpd.geometry import LEVELS, MIXTURES, TABLES, VARIABLES, read_tables
from platekit.arguments import HelpFormatter, ListOf, add_seed
from platekit.corners import edges, is_convex
from platekit.errors import UserError, run_script
from platekit.files import write_text

FEWEST = 25  # annotations that make a component


def describe(annotation: Annotation) -> np.ndarray | None:
    """The eight variables (8,) of an annotation; None where its corners are only the box, or are no plate."""
    corners = np.array(annotation.vertices, float)
    x1, y1, x2, y2 = annotation.box
    size = np.array([x2 - x1, y2 - y1], float)
    if not is_convex(corners) or size[0] > 650 or len(set(map(tuple, (corners - (x1, y1)) % size))) == 1:
        return None
    across, down = edges(corners)
    return np.array(
        [np.log(size[0]), np.log(size[0] / size[1]), (x1 + x2) / 2, (y1 + y2) / 2, annotation.brightness,
         np.log1p(annotation.blurriness), across[1] / size[1], down[0] / size[0]]
    )


def fit(annotations: Iterable[Annotation]) -> list[dict]:
    """The model of one subset: components with weight, quantiles by variable and correlation (lower triangle)."""
    rows = [row for row in map(describe, annotations) if row is not None]
    if len(rows) < FEWEST:
        raise UserError(f"{len(rows)} usable annotations are too few to fit; name a folder with at least {FEWEST}")
    table = np.array(rows)
    signs = (table[:, -2] < 0) * 2 + (table[:, -1] < 0)
    components = []
    for sign in range(4):
        part = table[signs == sign]
        if len(part) < FEWEST:
            continue
        ranks = part.argsort(axis=0).argsort(axis=0)
        grid = np.linspace(0.002, 0.998, 999)
        scores = np.interp((ranks + 0.5) / len(part), grid, [NormalDist().inv_cdf(p) for p in grid])
        correlation = np.nan_to_num(np.corrcoef(scores.T))[np.tril_indices(len(VARIABLES), -1)]
        levels = np.quantile(part, [NormalDist().cdf(level) for level in LEVELS], axis=0).T
        components.append(
            {"weight": round(len(part) / len(table), 4),
             "quantiles": {name: [round(float(value), 3) for value in row] for name, row in zip(VARIABLES, levels)},
             "correlation": [round(float(value), 3) for value in correlation]}
        )
    if not components:
        raise UserError(f"{len(rows)} annotations are too few for any direction of tilt; name a larger folder")
    return components


def read_names(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Subset names with the photo names of each, from subset folders and from lists ``ccpd_*.txt[.gz]``."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; check the path")
    for path in sorted(folder.glob("ccpd_*")):
        if path.is_dir():
            yield path.name, sorted(photo.name for photo in path.rglob("*.jpg"))
        elif path.name.endswith((".txt", ".txt.gz")):
            try:
                text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                yield path.name.partition(".")[0], text.decode("utf-8").split()
            except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
                raise UserError(f"cannot read the list {path}: {error}; fetch it again") from None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--fit", nargs="+", action=ListOf, required=True, metavar="DIR",
                        help="folders of subsets or of name lists")
    parser.add_argument("--plain_list", metavar="LIST", help="text file of photos whose corners are not to be trusted")
    parser.add_argument("--out", default=TABLES, type=Path, help="table to write")
    add_seed(parser)
    args = parser.parse_args(arguments)
    excluded = listed_names(args.plain_list) if args.plain_list else set()
    tables: dict[str, list[dict]] = {}
    for folder in map(Path, args.fit):
        for subset, names in read_names(folder):
            annotations = [parse(name) for name in names if has_annotation(name) and Path(name).name not in excluded]
            if subset in MIXTURES or subset in tables or len(annotations) < FEWEST:
                print(f"skipped {subset} in {folder}: {len(annotations)} annotations")
                continue
            tables[subset] = fit(annotations)
            print(f"fitted {subset}: {len(annotations)} annotations, {len(tables[subset])} components")
    if not tables:
        raise UserError(f"nothing was fitted; name folders that hold ccpd_* subsets of {FEWEST} annotations or more")
    kept = read_tables(args.out) if args.out.exists() else {}
    lines = (f'"{subset}": [\n ' + ",\n ".join(json.dumps(part) for part in parts) + "]" for subset,
             parts in sorted({**kept, **tables}.items()))
    write_text(args.out, "{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote {args.out}; next: python ccpd/synthesize.py")
    return 0


if __name__ == "__main__":
    run_script(main)
