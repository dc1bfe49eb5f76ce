"""Which code made a result."""

from __future__ import annotations

import functools
import subprocess

from platekit.files import file_fingerprint, fingerprint
from platekit.paths import ROOT

PACKAGES = ("ccpd", "LPRNet", "MTCNN", "platekit")


@functools.cache
def code_revision() -> str:
    """The revision of the code; of changed code with the fingerprint of the change. Where git knows none, the
    fingerprint of the code itself."""
    def git(*command: str) -> bytes:
        return subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, check=True).stdout

    if (ROOT / ".git").exists():  # else a copy, perhaps within somebody else's checkout
        try:
            revision = git("describe", "--always", "--dirty").decode().strip()
            return f"{revision}-{fingerprint(git('diff', 'HEAD'))}" if revision.endswith("-dirty") else revision
        except (OSError, subprocess.CalledProcessError):
            pass
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return f"files-{fingerprint(*map(file_fingerprint, files))}"
