"""Cut plates out of your own photos for LPRNet, by a table of boxes and texts.

    python LPRNet/data/crops_of_boxes.py --boxes photos/boxes.csv --out crops

The table is the detector's, with a further column ``text``. LPRNet_Train.py takes the crops and their ``labels.csv``.
Where it has a column ``rows``, of which plates have 1 or 2, so has theirs.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import zlib
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tqdm import tqdm

from LPRNet.alphabet import foreign_texts
from LPRNet.data.crop_names import CropName
from LPRNet.data.labels import TABLE
from LPRNet.data.preprocess import Cut, add_context
from LPRNet.paths import LPRNET_WEIGHTS, STN_WEIGHTS
from platekit.arguments import HelpFormatter, ListOf, add_seed, check_range, command_line
from platekit.errors import UserError, run_script
from platekit.images import read_image, write_image
from platekit.tables import (
    BOX,
    BOXES_HELP,
    FILE,
    ROWS,
    TEXT,
    TableRow,
    box_of,
    corners_of,
    read_rows,
    rows_of,
    write_rows,
)

COLUMNS = (FILE, TEXT, "photo")  # of the table of crops; the last shows that this script has written it


OWN_NAME = r"\d+_.*\.jpg|[^_]+_\d+(_-?\d+&-?\d+){4}\.jpg"  # of a crop that this script has written


def earlier_crops(folder: Path) -> set[Path]:
    """What a run before has written: the crops of its table, which training would miss in the new one. UserError where
    the table is somebody else's."""
    table = folder / TABLE
    if not table.exists():
        return set()
    if not table.read_text(encoding="utf-8-sig", errors="replace").startswith(",".join(COLUMNS)):
        raise UserError(f"{table} exists and is not of this script; name another --out")
    try:
        pictures = {row.picture for row in read_rows(table, COLUMNS)}
    except UserError:  # all its crops are gone
        return set()
    return {path for path in pictures if path.parent == folder.resolve() and re.fullmatch(OWN_NAME, path.name)}


def cut_of(row: TableRow, box: list[float], context: float) -> tuple[Cut, str]:
    """What to cut out for a row, with surroundings where it tells the plate's corners, and the crop's name: one of its
    own for what the row says, so that no crop is ever taken for that of another box or text."""
    checksum = zlib.crc32(repr((row.texts[FILE], box, row.texts[TEXT])).encode())
    name = row.picture.stem[:60]  # a longer name may be too long with what is added
    (x1, y1, x2, y2), corners = box, corners_of(row, box)
    cut = Cut((int(x1), int(y1), math.ceil(x2), math.ceil(y2)), 0 if corners is None else round(context * (x2 - x1)))
    if corners is None:
        return cut, f"{checksum}_{name}.jpg"
    places = tuple((x, y) for x, y in (corners - cut.start).round().astype(int).tolist())
    letters = re.sub(r"[_\W]", "", name) or "plate"
    return cut, f"{CropName(letters, checksum, places).stem()}.jpg"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--boxes", type=Path, nargs="+", action=ListOf, required=True, metavar="FILE",
                        help=f"{BOXES_HELP}; and a column text")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"folder of the crops and of {TABLE}")
    add_context(parser, "surroundings where the corners are known, on each side, as a share of the plate's width")
    add_seed(parser)
    args = parser.parse_args()
    check_range(args, "context", 0, 100)
    plates = [(row, rows_of(row), *cut_of(row, box, args.context))
              for table in args.boxes for row in read_rows(table, (FILE, *BOX, TEXT))
              if (box := box_of(row)) and row.texts[TEXT]]
    if not plates:
        raise UserError(f"{' and '.join(map(str, args.boxes))} has no row with a box and a text; complete it")
    earlier, labels, problems = earlier_crops(args.out), {}, []
    for row, rows, cut, name in tqdm(plates, unit="plate"):
        target = args.out / name
        try:
            crop = cut.of(read_image(row.picture))
        except UserError as error:
            kept = target.resolve() in earlier
            problems.append(f"{'kept as it was' if kept else 'left out'}: {row.place}: {error}")
            if not kept:
                continue
        else:
            write_image(target, crop, quality=95)
        labels[target.name] = row.texts[TEXT], row.texts[FILE], rows
    for problem in problems:
        print(problem, file=sys.stderr)
    if not labels:
        raise UserError("no plate could be cut out; correct the rows named above")
    used = {row.picture for row, *_ in plates} | {args.out.resolve() / name for name in labels}
    columns = (*COLUMNS, ROWS) if any(rows > 1 for *_, rows in labels.values()) else COLUMNS
    write_rows(args.out / TABLE, columns, ((name, *texts)[:len(columns)] for name, texts in labels.items()))
    for path in earlier - used:
        path.unlink(missing_ok=True)
    print(f"{len(labels)} crops and {TABLE} are in {args.out}")
    if gone := len(earlier - used):
        print(f"removed {gone} crops of an earlier run that are not in these tables; name all tables with one --boxes")
    flags = ["--img_dirs_train", args.out, "--labels", args.out / TABLE, "--weights", LPRNET_WEIGHTS,
             STN_WEIGHTS, "--save", "my_lprnet.pth", "my_stn.pth"]  # seldom are there enough to train from scratch
    texts = [text for text, *_ in labels.values()]
    if foreign_texts(texts):
        if any(" " in text for text in texts):
            print("leave spaces out of the texts, whose symbols tell as much: correct the table and run this again")
        symbols = "".join(sorted(set().union(*texts) - {" "}))
        print(f"write the symbols that such plates can have into symbols.txt; these have {symbols}")
        flags += ["--alphabet", "symbols.txt", "--max_length", max(map(len, texts))]
    print(f"next: python LPRNet/LPRNet_Train.py {command_line(flags)}")
    return 1 if problems else 0


if __name__ == "__main__":
    run_script(main)
