"""Command lines: flags that every script has, and the commands that scripts name as the next ones."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from platekit.errors import UserError

NOT_RANDOM = "accepted by every script; nothing is random here"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help with each flag's default, as one would type it, where there is one and the help does not say it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        parts = action.default if isinstance(action.default, (list, tuple)) else [action.default]
        default = " ".join(map(for_help, parts))
        if not default or any(part is None or part is False or part == argparse.SUPPRESS for part in parts) \
                or action.help is None or "default" in action.help:
            return action.help
        return f"{action.help} (default: {default})"


class ListOf(argparse.Action):
    """A flag of several values that may be given several times: all count, in place of the default."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        given = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*([] if given is self.default else given), *values])


def for_help(value: object) -> str:
    """A value in a help text, which argparse formats: paths from the working directory where they lie below it."""
    if isinstance(value, Path) and value.is_relative_to(Path.cwd()):
        value = value.relative_to(Path.cwd())
    return (f"{value:g}" if isinstance(value, float) else str(value)).replace("%", "%%")


def check_range(args: argparse.Namespace, flag: str, least: float, most: float = math.inf) -> None:
    """UserError where the value of a flag (its name without dashes) is not from ``least`` to ``most``."""
    value = getattr(args, flag)
    if not least <= value <= most:
        allowed = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise UserError(f"--{flag} must be {allowed}, not {value}")


def add_seed(parser: argparse._ActionsContainer, text: str = NOT_RANDOM) -> None:
    """The flag ``--seed``, for a parser or a group of one."""
    parser.add_argument("--seed", type=seed_number, default=0, help=text)


def add_glyphs(parser: argparse._ActionsContainer) -> None:
    """The flag ``--glyphs``, for a parser or a group of one."""
    parser.add_argument("--glyphs", type=Path, metavar="DIR",
                        help="pictures of the plate typeface, 140_<symbol>.jpg and so on; the default is OpenCV's own")


def seed_number(text: str) -> int:
    """The type of a flag ``--seed``, for argparse."""
    number = int(text)
    if not 0 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"must be from 0 to {2**63 - 1}, not {number}")
    return number


def command_line(parts: Iterable[object]) -> str:
    """Words of a command as the system's shell takes them: for the command that comes next."""
    words = list(map(str, parts))
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def flags_of(files: Mapping[str, tuple[Path, Path]]) -> list[str]:
    """For the command that comes next: the flags, each with its path and default, whose path is not the default."""
    return [command_line([flag, path]) for flag, (path, default) in files.items()
            if path.resolve() != default.resolve()]
