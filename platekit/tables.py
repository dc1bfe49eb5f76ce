"""Tables of what pictures show: CSV files, a row a picture or a plate, whose first line names the columns."""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from platekit.errors import UserError


@dataclass(frozen=True)
class Row:
    """A row of a table: where it stands, its picture (a resolved path), and what is in its columns, stripped."""

    place: str  # for messages
    picture: Path
    texts: dict[str, str]


def read_rows(table: str | os.PathLike, columns: tuple[str, ...]) -> list[Row]:
    """The rows of a table of these columns and perhaps more; ``file`` is its picture, seen from the table's folder.

    Pictures that are not there are reported. Raises UserError for what is no such table, and where none is there.
    """
    table = Path(table)
    try:
        with open(table, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            lines = [{name: (text or "").strip() for name, text in line.items() if isinstance(name, str)}
                     for line in reader]
    except OSError as error:
        raise UserError(f"cannot read {table}: {error.strerror}; check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {table}: {error}; save it as CSV in UTF-8") from None
    if not set(columns) <= set(reader.fieldnames or ()):
        raise UserError(f"{table} does not begin with the line '{','.join(columns)}'; name its columns so")
    rows = [Row(f"{table}, row {number}", (table.parent / line["file"]).resolve(), line)
            for number, line in enumerate(lines, 2)]
    for row in rows:
        if not row.texts["file"]:
            raise UserError(f"{row.place}: the picture is missing; complete the row")
    missing = [row.texts["file"] for row in rows if not row.picture.exists()]
    if rows and len(missing) == len(rows):
        raise UserError(f"{table}: none of its pictures is there, such as {missing[0]}; name them as seen from "
                        "the table's folder")
    if missing:
        print(f"{table}: {len(missing)} of {len(rows)} pictures are not there, the first is {missing[0]}",
              file=sys.stderr)
    return rows
