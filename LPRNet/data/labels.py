"""What plate crops show: by their file names, or by a table, which takes any symbol."""

from __future__ import annotations

import csv
import functools
import os
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from LPRNet.data.crop_names import CropName
from platekit.errors import UserError

LABELS_HELP = "CSV tables of the columns file (seen from the table's folder) and text; in other folders than the " \
    "pictures named there, names tell"


class Labels(dict[Path, str]):
    """The text of each picture, by its resolved path."""

    @functools.cached_property
    def folders(self) -> set[Path]:
        """Where pictures go by the tables, not by their names."""
        return {path.parent for path in self}


def read_labels(tables: Iterable[str | os.PathLike]) -> Labels:
    """The labels of CSV files with the columns ``file`` (from the table's folder) and ``text``. Raises UserError.

    A row whose picture is not there is reported and otherwise ignored.
    """
    labels: dict[Path, str] = {}
    for table in map(Path, tables):
        try:
            with open(table, encoding="utf-8-sig", newline="") as stream:
                reader = csv.DictReader(stream)
                rows = list(reader)
        except OSError as error:
            raise UserError(f"cannot read {table}: {error.strerror}; check the path") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"cannot read {table}: {error}; save it as CSV in UTF-8") from None
        if not {"file", "text"} <= set(reader.fieldnames or ()):
            raise UserError(f"{table} does not begin with the line 'file,text'; name its columns so")
        for number, row in enumerate(rows, 2):
            file, text = (row["file"] or "").strip(), (row["text"] or "").strip()
            if not file or not text:
                raise UserError(f"{table}, row {number}: a picture or its text is missing; complete the row")
            path = (table.parent / file).resolve()
            if labels.setdefault(path, text) != text:
                raise UserError(f"{table}, row {number}: {file} has two texts, '{labels[path]}' and '{text}'; keep one")
        missing = [row["file"] for row in rows if not (table.parent / row["file"].strip()).exists()]
        if rows and len(missing) == len(rows):
            raise UserError(f"{table}: none of its pictures is there, such as {missing[0]}; name them as seen from "
                            "the table's folder")
        if missing:
            print(f"{table}: {len(missing)} of {len(rows)} pictures are not there, the first is {missing[0]}",
                  file=sys.stderr)
    return Labels((path, unicodedata.normalize("NFC", text)) for path, text in labels.items())


def label_of(path: Path, labels: Labels) -> CropName:
    """What a picture shows by the table, else by its name. Raises UserError when neither says."""
    place = path.resolve() if labels else path
    if place in labels:
        return CropName(labels[place])
    if place.parent in labels.folders:
        raise UserError(f"{path} has no row in the table for its folder; add one, or move the picture away")
    return CropName.parse(path)
