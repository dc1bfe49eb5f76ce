"""What plate crops show: by their file names, or by a table, which takes any symbol."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from LPRNet.data.crop_names import CropName
from platekit.errors import UserError
from platekit.files import real_path
from platekit.tables import FILE, TEXT, read_rows, rows_of
from platekit.tables import LABELS_TABLE as TABLE

LABELS_HELP = "CSV tables with the columns file (path from the table's folder) and text, and perhaps rows, 2 for a " \
    "plate of two rows; in folders without a picture in a table, file names give the labels"


class Labels(dict[Path, str]):
    """The text of each picture, by its resolved path; ``double`` are those of a plate of two rows."""

    def __init__(self) -> None:
        self.double: set[Path] = set()

    @functools.cached_property
    def folders(self) -> set[Path]:
        """Where pictures go by the tables, not by their names."""
        return {path.parent for path in self}


def read_labels(tables: Iterable[str | os.PathLike]) -> Labels:
    """The labels of CSV files with the columns ``file`` (from the table's folder) and ``text``. Raises UserError.

    A row whose picture is not there is reported and otherwise ignored.
    """
    labels = Labels()
    for row in (row for table in tables for row in read_rows(table, (FILE, TEXT))):
        file, text = row.texts[FILE], unicodedata.normalize("NFC", row.texts[TEXT])
        if not text:
            raise UserError(f"{row.place}: the text of {file} is missing; complete the row")
        known = row.picture in labels
        if labels.setdefault(row.picture, text) != text:
            raise UserError(f"{row.place}: {file} has two texts, '{labels[row.picture]}' and '{text}'; keep one")
        double = rows_of(row) > 1
        if known and double != (row.picture in labels.double):
            raise UserError(f"{row.place}: {file} has one row and two; keep one")
        if double:
            labels.double.add(row.picture)
    return labels


def check_tables(folders: Iterable[str | os.PathLike], labels: Labels) -> None:
    """UserError for a folder of crops with a table of its own from which no label comes."""
    for folder in map(Path, folders):
        place = real_path(folder)
        if (folder / TABLE).is_file() and not any(labelled.is_relative_to(place) for labelled in labels.folders):
            raise UserError(f"{folder / TABLE} tells what the crops beside it show; give it with --labels, or move it "
                            "away")


def label_of(path: Path, labels: Labels) -> CropName:
    """What a picture shows by the table, else by its name, and its corners by the name. Raises UserError when neither
    says what."""
    resolved = real_path(path) if labels else path
    if resolved in labels:
        label = CropName(labels[resolved], rows=2 if resolved in labels.double else 1)
        with contextlib.suppress(UserError):  # its name may tell the corners
            return dataclasses.replace(CropName.parse(path), plate=label.plate, rows=label.rows)
        return label
    if resolved.parent in labels.folders:
        raise UserError(f"{path} has no row in the table for its folder; add one, or move the picture away")
    return CropName.parse(path)
