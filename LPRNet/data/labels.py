"""What plate crops show: by their file names, or by a table, which takes any symbol."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from LPRNet.data.crop_names import CropName
from platekit.errors import UserError

LABELS_HELP = "CSV tables of the columns file (seen from the table's folder) and text; other pictures go by their names"
Labels = Mapping[Path, str]  # the text of each picture, by its resolved path


def read_labels(tables: Iterable[str | os.PathLike]) -> dict[Path, str]:
    """The labels of CSV files with the columns ``file`` (from the table's folder) and ``text``. Raises UserError."""
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
    return {path: unicodedata.normalize("NFC", text) for path, text in labels.items()}


def label_of(path: Path, labels: Labels) -> CropName:
    """What a picture shows by the table, else by its name. Raises UserError when neither says."""
    text = labels.get(path.resolve()) if labels else None
    return CropName.parse(path) if text is None else CropName(text)
