"""Where things lie: the checkout, its samples, and the folders of what does not ship."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from platekit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]  # of the checkout, or site-packages
SAMPLES = ROOT / "ccpd" / "samples"  # photos of the generator


def samples_from_here() -> Path:
    """The folder of samples, by its short name where it lies below the working directory."""
    here = Path.cwd()
    return SAMPLES.relative_to(here) if SAMPLES.is_relative_to(here) else SAMPLES


def working_folder(package: str) -> Path:
    """The folder of a package's data, runs and newly trained weights.

    In a checkout that is the package's own. Installed it is a folder of the same name below the working directory:
    site-packages is no place for photos, and the next upgrade would take the weights away.
    """
    return ROOT / package if (ROOT / "pyproject.toml").is_file() else Path(package)


def must_be_there(folders: Iterable[str | os.PathLike], script: str) -> None:
    """UserError that names the script to run first, where one of its results is missing."""
    for folder in folders:
        if not os.path.isdir(folder):
            raise UserError(f"{folder} is not there; run 'python {script}' first, or name another folder")
