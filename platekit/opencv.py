"""OpenCV, imported here alone, so that its missing system libraries end in one sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from platekit.paths import ROOT


def unusable(problem: str) -> BaseException:
    """What ends one of this project's scripts in that sentence; in other programs an ImportError."""
    program = Path(sys.argv[0]).resolve()
    checkout = ROOT / "pyproject.toml"  # which is not installed with the packages
    ours = program.stem in ("read-plates", "serve-plates") or \
        (checkout.is_file() and program.is_file() and ROOT in program.parents)
    return SystemExit(f"error: {problem}") if ours else ImportError(problem)


try:
    import cv2
except ModuleNotFoundError as error:
    raise unusable(f"OpenCV is not installed ({error}); run 'pip install \"opencv-python-headless>=5\"', or for --show "
                   "opencv-python") from None
except ImportError as error:  # the wheel of opencv-python needs libGL and glib from the system
    raise unusable(
        f"OpenCV cannot be loaded ({error}); on Debian or Ubuntu run 'apt-get install libgl1 libglib2.0-0', or replace "
        "the wheel: 'pip uninstall opencv-python' and 'pip install \"opencv-python-headless>=5\"'"
    ) from None

if int(cv2.__version__.split(".")[0]) < 5:
    raise unusable(f"OpenCV {cv2.__version__} is too old; run 'pip install --upgrade \"opencv-python>=5\"'")

# A broken picture is reported by whoever reads it, in one sentence; OpenCV would add several of its own.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # and so would FFmpeg for a broken video
cv2.setNumThreads(1)  # torch has the threads; loader processes must not each start their own

from imutils.paths import image_types  # noqa: E402  # which imports OpenCV too

__all__ = ["cv2", "image_types", "video_name"]


def video_name(path: str) -> str | bytes:
    """A path or an address as OpenCV's videos take it: a text that is no UTF-8 would end the process, and of a name
    with a colon FFmpeg would take the first part for a protocol."""
    path = path if "://" in path else os.path.join(".", path)
    return os.fsencode(path) if os.name == "posix" else path
