"""The split of photos into training and validation, by plate number: a plate's photos all go to one side.

Plates repeat across photos and subsets, so a split by photo would validate on plates that were trained on.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ccpd.annotation import has_annotation, parse
from ccpd.dataset import shows_no_plate
from platekit.errors import UserError, reason
from platekit.files import atomic_path, write_text, writing
from platekit.inputs import find_images

NOTE = ".split"  # in the folder to train on: by what it was split


@dataclass
class Counts:
    """Photos that went to each side, that were there already (in either), and that were left out."""

    train: int = 0
    val: int = 0
    unchanged: int = 0
    left_out: int = 0


def belongs_to_val(key: str, share: float, seed: int) -> bool:
    """Whether a plate number (or the name of a photo without a plate) is validated on: a hash of it and the seed, so
    that no photo's side depends on the others. (LPRNet's ``split_by_plate`` sets an exact share of its plates aside.)
    """
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def key_of(path: Path) -> str | None:
    """What decides a photo's side: its plate number, or its name where it shows no plate; None for other pictures.

    Raises UserError for a file that cannot be read and for a damaged annotation.
    """
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None
    if has_annotation(path):
        return parse(path).plate
    return path.name if shows_no_plate(path) else None


def split_photos(folders: Iterable[Path], train: Path, val: Path, share: float, seed: int,
                 copy: bool = False) -> Counts:
    """Link or copy the photos of CCPD folders into ``train`` and ``val``, below a folder of their subset's name.

    The bytes stay as they are. A file that is there already is kept; another photo of the same name goes into a
    numbered folder, so that none is lost. Raises UserError when nothing can be read or written, or the sides are one
    folder.
    """
    sides = train.resolve(), val.resolve()
    if sides[0].is_relative_to(sides[1]) or sides[1].is_relative_to(sides[0]):
        raise UserError(f"{train} and {val} are one folder, or one in the other; name two that lie apart")
    note, split_by = train / NOTE, f"val_share {share}, seed {seed}\n"
    if note.is_file() and note.read_text("utf-8") != split_by:
        raise UserError(f"{train} was split by {note.read_text('utf-8').strip()}; give the same, or plates would be on "
                        f"both sides, or remove {train} and {val} to split anew")
    counts = Counts()
    for folder in folders:
        for path in tqdm(find_images(folder), desc=folder.name, unit="photo"):
            try:
                key = key_of(path)
            except UserError as error:
                tqdm.write(f"left out: {error}")
                key = None
            if key is None:
                counts.left_out += 1
                continue
            validate = belongs_to_val(key, share, seed)
            side, other = (val, train) if validate else (train, val)
            if is_there(path, other / folder.name / path.name):
                raise UserError(f"{path.name} is in {other} already, by another --seed or --val_share; remove {train} "
                                f"and {val} to split anew")
            if not note.is_file():
                with writing(train):
                    train.mkdir(parents=True, exist_ok=True)
                write_text(note, split_by)
            if not place(path, side / folder.name, copy):
                counts.unchanged += 1
            elif validate:
                counts.val += 1
            else:
                counts.train += 1
    return counts


def place(source: Path, folder: Path, copy: bool) -> bool:
    """Put the file into the folder under its name, as a hard link where possible; False when it is there already."""
    target, number = folder / source.name, 0
    while target.exists():
        if is_there(source, target):
            return False
        number += 1  # another photo of this name
        target = folder / str(number) / source.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {target.parent}: {error.strerror}; choose another folder") from error
    if not copy:
        try:
            os.link(source.resolve(), target)
            return True
        except OSError:
            pass  # another file system, or one without links
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return True


def is_there(source: Path, target: Path) -> bool:
    """Whether the file is at ``target``, as a link or a copy."""
    return target.exists() and (os.path.samefile(source, target) or filecmp.cmp(source, target, shallow=False))
