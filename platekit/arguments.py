"""Command lines: flags that every script has, and the commands that scripts name as the next ones."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

NOT_RANDOM = "accepted by every script; nothing is random here"


def add_seed(parser: argparse._ActionsContainer, text: str = NOT_RANDOM) -> None:
    """The flag ``--seed``, for a parser or a group of one."""
    parser.add_argument("--seed", type=seed_number, default=0, help=text)


def seed_number(text: str) -> int:
    """The type of a flag ``--seed``, for argparse."""
    number = int(text)
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"must be from 0 to {2**63 - 1}, not {number}")
    return number


def for_help(path: Path) -> str:
    """A path as a part of a help text, which argparse formats."""
    return str(path).replace("%", "%%")


def command_line(parts: Iterable[object]) -> str:
    """Words of a command as the system's shell takes them: for the command that comes next."""
    words = list(map(str, parts))
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def flags_of(files: Mapping[str, tuple[Path, Path]]) -> list[str]:
    """The flags that name files, each with its default, that are not there: for the command that comes next."""
    return [command_line([flag, path]) for flag, (path, default) in files.items()
            if path.resolve() != default.resolve()]
