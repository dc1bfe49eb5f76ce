"""Videos, cameras and streams, frame by frame."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from platekit.command import OutputFolder, ReadPicture, json_lines
from platekit.drawing import draw_plates
from platekit.errors import UserError
from platekit.opencv import cv2


def open_video(source: str | int) -> cv2.VideoCapture:
    """Open a file, a stream address or a camera by its number. Raises UserError when it gives no frames."""
    capture = cv2.VideoCapture(source)
    if not capture.isOpened():
        what = f"camera {source}" if isinstance(source, int) else source
        raise UserError(f"cannot open {what} as a video; check that it is there and that OpenCV knows its format")
    return capture


def read_frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    """The frames, until there are no more."""
    while True:
        found, frame = capture.read()
        if not found:
            return
        yield frame


def run_video(sources: Sequence[str | int], read: ReadPicture, json_path: str | None = None,
              output: Path | None = None, show: bool = False) -> int:
    """Read every frame of every source; JSON lines carry ``frame`` beside ``image``. Returns the exit status."""
    failed = False
    folder = OutputFolder(output) if output else None
    if folder:
        folder.check(Path(source) for source in sources if isinstance(source, str))
        try:
            folder.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {output}: {error.strerror}; name another folder with --output") from None
    with json_lines(json_path) as stream:
        for source in sources:
            name = f"camera:{source}" if isinstance(source, int) else str(source)
            try:
                capture = open_video(source)
            except UserError as error:
                failed = True
                print(f"error: {error}", file=sys.stderr)
                if stream:
                    stream.write(json.dumps({"image": name, "error": str(error)}, ensure_ascii=False) + "\n")
                continue
            writer, count = None, 0
            rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
            total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            for frame in tqdm(read_frames(capture), total=total if total > 0 else None, desc=name, unit="frame"):
                result = read(frame, Path(name))
                if stream:
                    line = {"image": name, "frame": count, **result.to_dict()}
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                    stream.flush()
                else:
                    for plate in result.plates:
                        tqdm.write(f"{name} frame {count}: {plate}")
                count += 1
                if not folder and not show:
                    continue
                drawn = draw_plates(frame, result.plates)
                if folder:
                    if writer is None:
                        target = folder.path_for(Path(name.replace(":", "_")).with_suffix(".avi")).with_suffix(".avi")
                        writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"MJPG"), rate, frame.shape[1::-1])
                    writer.write(drawn)
                if show:
                    cv2.imshow(name, drawn)
                    if cv2.waitKey(1) == ord("q"):
                        break
            capture.release()
            if writer is not None:
                writer.release()
                print(f"{name}: {count} frames, annotated video in {target}", file=sys.stderr)
    return int(failed)
