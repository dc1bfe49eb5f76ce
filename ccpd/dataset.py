"""What CCPD consists of, where it comes from, and where its photos lie on this disk."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from ccpd.annotation import has_annotation
from platekit.errors import UserError
from platekit.files import stripped_lines
from platekit.paths import working_folder

CCPD_FOLDER = working_folder("ccpd")  # in a checkout, users unpack the data set beside this file
SYNTHETIC_FOLDER = CCPD_FOLDER / "synthetic"
PHOTO_SIZE = (720, 1160)  # width, height of every photo

SUBSETS: dict[str, str] = {
    "ccpd_base": "ordinary photos, the only ones meant for training",
    "ccpd_blur": "blurred by a moving hand or a missed focus",
    "ccpd_challenge": "the hardest of all kinds",
    "ccpd_db": "very dark, very bright or unevenly lit",
    "ccpd_fn": "very far from or very near to the camera",
    "ccpd_rotate": "turned by 20 to 50 degrees in the picture plane",
    "ccpd_tilt": "seen from the side and from above at once",
    "ccpd_weather": "rain, snow and fog",
    "ccpd_green": "new-energy plates with eight symbols (released in 2020 as CCPD-Green)",
    "ccpd_np": "new cars without a plate",
}

PLATE_FREE = "ccpd_np"
DOWNLOAD = "https://github.com/detectRecog/CCPD"
_NOT_SUBSETS = ("ccpd_train", "ccpd_val")  # what preprocessing makes of the subsets
HOW_TO_GET = (
    f"get CCPD from {DOWNLOAD} and unpack it into {CCPD_FOLDER}, or draw a stand-in with 'python ccpd/synthesize.py'"
)


def find_subsets(root: str | os.PathLike | None = None) -> dict[str, Path]:
    """The folders named ``ccpd_*`` below ``root`` that hold photos, by subset name in alphabetical order.

    ``root`` (default: the package's own folder) may be the place of unpacking (``CCPD2019/ccpd_base`` below it),
    the release's folder, or a single subset. Real photos go before the synthetic stand-in; UserError when a name
    occurs twice among the real ones, since figures of two releases must never be mixed, and when nothing is found.
    """
    root, stand_in = (Path(os.path.abspath(path)) for path in (root or CCPD_FOLDER, SYNTHETIC_FOLDER))
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; check the path, or {HOW_TO_GET}")
    real: dict[str, Path] = {}
    drawn: dict[str, Path] = {}
    for folder in subset_folders(root):
        known = drawn if stand_in in folder.parents and root != stand_in else real
        if folder.name in known:
            raise UserError(
                f"{known[folder.name]} and {folder} are both the subset {folder.name}; name one release's folder"
            )
        known[folder.name] = folder
    chosen = real or drawn
    if not chosen:
        raise UserError(f"{root} holds no ccpd_* folder with photos; {HOW_TO_GET}")
    return dict(sorted(chosen.items()))


def subset_folders(root: Path) -> list[Path]:
    """Folders ``ccpd_*`` with photos, at most three levels down, never below one another."""
    level, found = [root], []
    for _ in range(4):
        deeper = []
        for folder in level:
            if folder.name in _NOT_SUBSETS and folder != root:
                continue
            if folder.name.startswith("ccpd_") and holds_photo(folder):
                found.append(folder)
            else:
                with contextlib.suppress(OSError):  # not the user's, as lost+found is
                    deeper += sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        level = deeper
    return found


def holds_photo(folder: Path) -> bool:
    """Whether a photo lies in the folder, or in its train, val or test folder as in CCPD-Green."""
    for place in (folder, *(folder / part for part in ("train", "val", "test"))):
        # not there, or not the user's; a subset has 200,000 files: look until the first photo only
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            if any(entry.name.lower().endswith((".jpg", ".jpeg", ".png")) for entry in entries):
                return True
    return False


def listed_names(path: str | os.PathLike) -> set[str]:
    """The file names in a list, one per line or before a tab, with or without their folders. Raises UserError."""
    paths = (line.split("\t")[0].strip() for line in stripped_lines(path))
    names = {re.split(r"[/\\]", path)[-1] for path in paths}  # of any system's
    return names - {""}


def shows_no_plate(path: Path) -> bool:
    """Whether a photo is one without a plate: without an annotation, in a folder of such."""
    return PLATE_FREE in path.parts and not has_annotation(path)
