"""Make a table of boxes and texts for --boxes from what main.py has read, to be corrected and trained on.

    python main.py --image photos/images --details --json plates.jsonl
    python MTCNN/data_set/boxes_of_results.py --results plates.jsonl --out photos/boxes.csv

Run it where main.py ran. One row per plate, the least sure first, with its ``confidence``, and with ``--details`` its
corners, and the rows of symbols that it was read as. Pictures without a plate are left out. Look at all photos: in
a photo of the table a plate without a row is learnt to be none.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from platekit.arguments import HelpFormatter, add_seed, command_line
from platekit.errors import UserError, run_script
from platekit.files import real_path, relative_name
from platekit.tables import BOX, CORNERS, FILE, ROWS, TEXT, corners_text, write_rows

COLUMNS = (FILE, TEXT, "confidence", *BOX, CORNERS, ROWS)
UNKNOWN = np.zeros((4, 2))  # which are no corners


def rows_of_results(path: Path, folder: Path) -> tuple[list[list[Any]], Counter[str]]:
    """The rows of a table in ``folder``, and how many lines of results give none, by why. Raises UserError."""
    rows: list[list[Any]] = []
    without: Counter[str] = Counter()
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                    name, plates = relative_name(Path(entry["image"]), folder), entry.get("plates")
                    if plates is None or "frame" in entry:
                        without["errors or videos"] += 1
                    elif not plates:
                        without["pictures without any"] += 1
                    else:
                        rows += [[name, plate.get("text", ""), plate.get("confidence", 0), *plate["box"],
                                  corners_text(np.array(plate.get("corners", UNKNOWN), np.float64), plate["box"]),
                                  plate.get("rows", "")]
                                 for plate in plates]
                except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
                    raise UserError(f"{path}, line {number} is no result; name a file that main.py --json has "
                                    "written") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; check the path") from None
    return rows, without


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--results", type=Path, required=True, metavar="FILE", help="what main.py --json has written")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    add_seed(parser)
    args = parser.parse_args()
    if args.out.exists():
        raise UserError(f"{args.out} is there and may have been corrected; name another --out, or remove it")
    rows, without = rows_of_results(args.results, args.out.parent)
    if not rows:
        raise UserError(f"{args.results} tells of no plate in a picture; read pictures with main.py --json")
    if not os.path.exists(os.path.normpath(real_path(args.out.parent) / rows[0][0])):  # the folder may be made only now
        raise UserError(f"{args.results} names pictures that are not there, such as {rows[0][0]} seen from "
                        f"{args.out.parent}; run this in the folder where main.py ran")
    rows.sort(key=lambda row: row[2])
    write_rows(args.out, COLUMNS, rows)
    print(f"wrote {args.out}: {len(rows)} plates"
          + "".join(f"; left out {count} {what}" for what, count in without.items()))
    flags = ("--boxes", args.out, "--out", args.out.parent / "crops")
    print(f"next: correct the table, then python LPRNet/data/crops_of_boxes.py {command_line(flags)}")


if __name__ == "__main__":
    run_script(main)
