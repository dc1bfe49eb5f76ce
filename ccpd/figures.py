"""The pictures of an evaluation: failures, the spatial transformer at work, confusions, calibration, training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ccpd.protocol import Calibration, Outcome, calibrate_readings, edit_alignment
from platekit.crops import crop_resize, to_picture
from platekit.drawing import draw_text
from platekit.errors import UserError
from platekit.files import atomic_path
from platekit.images import read_image, write_image
from platekit.opencv import cv2
from platekit.pipeline import PlateReader

INK, PALE, RED = (30, 30, 30), (225, 225, 225), (40, 40, 210)  # BGR
CROP = (282, 72)  # width, height of a crop in the pictures: three times what the nets see
SHOWN = 60  # failures
STRAIGHTENED = 24  # plates in the picture of the spatial transformer
PICTURES = ("failures.png", "straightened.png", "confusion.png", "calibration.png", "training.png")


def draw_figures(folder: Path, outcomes: Sequence[Outcome], reader: PlateReader,
                 training_logs: Mapping[Path, list[dict[str, float]]]) -> None:
    """Write every picture that the outcomes allow, and remove those of an earlier run; curves need matplotlib and are
    left out, with a word, without it."""
    for name in PICTURES:
        (folder / name).unlink(missing_ok=True)
    failures = [outcome for outcome in outcomes if is_failure(outcome)]
    if failures:
        shown = evenly(failures, SHOWN)
        title = f"{len(shown)} of {len(failures)} failures: not found, not read right, or no plate there"
        write_image(folder / "failures.png", montage(reader, shown, title))
    looked_at = evenly([outcome for outcome in outcomes if outcome.box], STRAIGHTENED)
    if looked_at:
        title = "crops before and after the spatial transformer"
        write_image(folder / "straightened.png", montage(reader, looked_at, title))
    read = [outcome for outcome in outcomes if outcome.read_at_plate]
    if read:
        write_image(folder / "confusion.png", confusion_matrix(read))
    try:
        if read:
            draw_calibration(folder / "calibration.png", calibrate_readings(outcomes))
        if training_logs:
            draw_training(folder / "training.png", training_logs)
    except ImportError:
        print("calibration and training curves are left out: pip install -r requirements-extras.txt")


def is_failure(outcome: Outcome) -> bool:
    """Whether a plate was not found or not read right, or one was found where there is none."""
    return not (outcome.found and outcome.read) if outcome.plate else outcome.boxes > 0


def evenly(outcomes: Sequence[Outcome], count: int) -> list[Outcome]:
    """Up to ``count`` of the outcomes, up to as many of every subset, from its first to its last."""
    by_subset: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_subset.setdefault(outcome.subset, []).append(outcome)
    each = max(1, count // max(1, len(by_subset)))
    places = {subset: sorted(set(np.linspace(0, len(part) - 1, each).astype(int).tolist()))
              for subset, part in by_subset.items()}
    return [by_subset[subset][place] for subset in sorted(places) for place in places[subset]][:count]


def montage(reader: PlateReader, outcomes: Sequence[Outcome], title: str) -> np.ndarray:
    """A table of plates: the crop, the crop straightened by the STN, what is written and what was read."""
    cells = [plate_cell(reader, outcome) for outcome in outcomes]
    cells += [np.full_like(cells[0], 255)] * (len(cells) % 2)
    rows = [np.hstack(cells[start:start + 2]) for start in range(0, len(cells), 2)]
    head = np.full((32, rows[0].shape[1], 3), 255, np.uint8)
    draw_text(head, title, (8, 24), 18, INK)
    return np.vstack([head, *rows])


def plate_cell(reader: PlateReader, outcome: Outcome) -> np.ndarray:
    """One plate of the montage: BGR uint8 (136, 588, 3)."""
    width, height = CROP
    cell = np.full((height + 64, 2 * width + 24, 3), 255, np.uint8)
    image = read_image(outcome.image)
    if outcome.box:
        crop = to_picture(crop_resize(*reader.recogniser.prepare(image, outcome.box))[0])
        for place, picture in enumerate((crop, reader.recogniser.straighten(image, outcome.box))):
            left = 8 + place * (width + 8)
            cell[8:8 + height, left:left + width] = cv2.resize(picture, CROP, interpolation=cv2.INTER_CUBIC)
    found = f"IoU {outcome.iou:.2f}" if outcome.plate else "a false plate"
    text = f"{outcome.text or 'nothing'} (confidence {outcome.confidence:.2f})" if outcome.box else "not found"
    draw_text(cell, f"{outcome.plate or 'no plate'} is read as", (8, height + 32), 18, INK)
    draw_text(cell, f"{text}, {found}", (224, height + 32), 18, RED if is_failure(outcome) else INK)
    place = f"{outcome.subset.removeprefix('ccpd_')}: {Path(outcome.image).name}"
    draw_text(cell, place if len(place) < 72 else f"{place[:68]} ...", (8, height + 52), 13, INK)
    return cell


def confusion_matrix(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Which symbol (row) was read as which (column): wrong readings in red with their count, right ones pale."""
    pairs = Counter(pair for outcome in outcomes for pair in edit_alignment(outcome.plate or "", outcome.text or ""))
    symbols = sorted({symbol for pair in pairs for symbol in pair}, key=lambda s: (s == "", s.isascii(), s))
    cell = 26  # pixels
    size = (len(symbols) + 2) * cell
    image = np.full((size + cell, max(size, 24 * cell), 3), 255, np.uint8)
    draw_text(image, "row: what is written, column: what is read, _: no symbol", (cell, size + cell - 8), 16, INK)
    for index, symbol in enumerate(symbols):
        place = (index + 1) * cell
        name = symbol or "_"  # read where nothing is, or not read at all
        draw_text(image, name, (4, place + cell - 7), cell - 9, INK)
        draw_text(image, name, (place + 4, cell - 7), cell - 9, INK)
    for (truth, read), count in pairs.items():
        y, x = (symbols.index(truth) + 1) * cell, (symbols.index(read) + 1) * cell
        right = truth == read
        cv2.rectangle(image, (x, y), (x + cell - 2, y + cell - 2), PALE if right else RED, -1)
        size_of_digits = min(cell - 12, 36 // len(str(count)))
        draw_text(image, str(count), (x + 2, y + cell - 9), size_of_digits, INK if right else (255, 255, 255))
    return image


def draw_calibration(path: Path, calibration: Calibration) -> None:
    """Accuracy over confidence, with the number of readings behind each point. Raises ImportError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="lightgrey", label="perfect")
    axes.scatter(calibration.confidence, calibration.accuracy, s=[20 + 2 * count for count in calibration.count],
                 alpha=0.6, label=f"expected error {calibration.error:.3f}")
    for x, y, count in zip(calibration.confidence, calibration.accuracy, calibration.count):
        axes.annotate(str(count), (x, y), (-6, -6), textcoords="offset points", ha="right", va="top")
    axes.set(xlabel="confidence", ylabel="share read right", xlim=(-0.05, 1.08), ylim=(-0.05, 1.08),
             title="Confidence against accuracy (readings at the points)")
    axes.legend()
    save_figure(figure, path)


def read_training(log: Path) -> list[dict[str, float]]:
    """The rows of a training's log.jsonl, with step, loss and score. Raises UserError."""
    try:
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        return [{"step": row["step"],  # epoch 0 has no loss
                 **{key: float(row[key] if row["epoch"] else row.get(key, np.nan)) for key in ("loss", "score")}}
                for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read the training log {log}: {error}; name a log.jsonl") from None


def draw_training(path: Path, logs: Mapping[Path, list[dict[str, float]]]) -> None:
    """Loss and score over the steps of every training log, by its path. Raises ImportError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("loss", "score")):
        for log, rows in logs.items():
            axes.plot([row["step"] for row in rows], [row[key] for row in rows],
                      label="/".join(log.absolute().parts[-3:-1]))
        axes.set(xlabel="step", ylabel=key)
        axes.legend()
    save_figure(figure, path)


def save_figure(figure, path: Path) -> None:
    """Write a matplotlib figure whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
