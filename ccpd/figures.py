"""The pictures of an evaluation: failures, the spatial transformer at work, confusions, calibration, training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ccpd.protocol import Calibration, Outcome, calibrate_readings, edit_alignment
from platekit.boxes import crop_resize, to_picture
from platekit.drawing import draw_text
from platekit.errors import UserError
from platekit.files import atomic_path
from platekit.images import read_image, write_image
from platekit.opencv import cv2
from platekit.pipeline import PlateReader

INK, PALE, RED = (30, 30, 30), (225, 225, 225), (40, 40, 210)  # BGR
CROP = (282, 72)  # width, height of a crop in the pictures: three times what the nets see


def draw_figures(folder: Path, outcomes: Sequence[Outcome], reader: PlateReader, training_logs: Sequence[Path]) -> None:
    """Write every picture that the outcomes allow; curves need matplotlib and are left out, with a word, without it."""
    failures = [outcome for outcome in outcomes if outcome.plate and not outcome.read]
    successes = [outcome for outcome in outcomes if outcome.read]
    if failures:
        write_image(folder / "failures.png", montage(reader, failures[:60]))
    if successes:  # evenly from all subsets
        by_subset = sorted(successes, key=lambda outcome: outcome.subset)
        write_image(folder / "straightened.png", montage(reader, by_subset[:: max(1, len(by_subset) // 24)][:24]))
    read = [outcome for outcome in outcomes if outcome.plate and outcome.text]
    if read:
        write_image(folder / "confusion.png", confusion_matrix(read))
    try:
        draw_calibration(folder / "calibration.png", calibrate_readings(outcomes))
        if training_logs:
            draw_training(folder / "training.png", training_logs)
    except ImportError:
        print("calibration and training curves are left out: pip install -r requirements-extras.txt")


def montage(reader: PlateReader, outcomes: Sequence[Outcome], columns: int = 2) -> np.ndarray:
    """A table of plates: the crop, the crop straightened by the STN, what is written and what was read."""
    cells = [plate_cell(reader, outcome) for outcome in outcomes]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    return np.vstack([np.hstack(cells[start:start + columns]) for start in range(0, len(cells), columns)])


def plate_cell(reader: PlateReader, outcome: Outcome) -> np.ndarray:
    """One plate of the montage: BGR uint8 (124, 588, 3)."""
    width, height = CROP
    cell = np.full((height + 52, 2 * width + 24, 3), 255, np.uint8)
    image = read_image(outcome.image)
    if outcome.box:
        crop = to_picture(crop_resize(*reader.recogniser.prepare(image, outcome.box))[0])
        for place, picture in enumerate((crop, reader.recogniser.straighten(image, outcome.box))):
            left = 8 + place * (width + 8)
            cell[8:8 + height, left:left + width] = cv2.resize(picture, CROP, interpolation=cv2.INTER_CUBIC)
    draw_text(cell, f"{outcome.plate} is read as", (8, height + 36), 20, INK)
    text = outcome.text if outcome.text is not None else "no plate found"
    subset = outcome.subset.removeprefix("ccpd_")[:9]
    draw_text(cell, f"{text}  {outcome.confidence:.2f}  IoU {outcome.iou:.2f}  {subset}", (228, height + 36), 20,
              INK if outcome.read else RED)
    return cell


def confusion_matrix(outcomes: Sequence[Outcome], cell: int = 18) -> np.ndarray:
    """Which symbol (row) was read as which (column): wrong readings in red with their count, right ones pale."""
    pairs = Counter(pair for outcome in outcomes for pair in edit_alignment(outcome.plate, outcome.text))
    symbols = sorted({symbol for pair in pairs for symbol in pair}, key=lambda s: (s == "", s.isascii(), s))
    size = (len(symbols) + 2) * cell
    image = np.full((size, size, 3), 255, np.uint8)
    for index, symbol in enumerate(symbols):
        place = (index + 1) * cell
        name = symbol or "_"  # read where nothing is, or not read at all
        draw_text(image, name, (2, place + cell - 4), cell - 4, INK)
        draw_text(image, name, (place + 2, cell - 4), cell - 4, INK)
    for (truth, read), count in pairs.items():
        y, x = (symbols.index(truth) + 1) * cell, (symbols.index(read) + 1) * cell
        right = truth == read
        cv2.rectangle(image, (x, y), (x + cell - 2, y + cell - 2), PALE if right else RED, -1)
        if not right or count < 100:
            draw_text(image, str(count), (x + 1, y + cell - 6), cell - 8, INK if right else (255, 255, 255))
    return image


def draw_calibration(path: Path, calibration: Calibration) -> None:
    """Accuracy over confidence, with the number of readings behind each point. Raises ImportError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="lightgrey", label="perfect")
    axes.plot(calibration.confidence, calibration.accuracy, "o-", label=f"expected error {calibration.error:.3f}")
    for x, y, count in zip(calibration.confidence, calibration.accuracy, calibration.count):
        axes.annotate(f" {count}", (x, y), va="top")
    axes.set(xlabel="confidence", ylabel="share read right", title="Confidence against accuracy (counts at the points)")
    axes.legend()
    save_figure(figure, path)


def draw_training(path: Path, logs: Sequence[Path]) -> None:
    """Loss and score over the steps of every training log. Raises ImportError, UserError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("loss", "score")):
        for log in logs:
            try:
                rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
                values = [row[key] if row["epoch"] else row.get(key, np.nan) for row in rows]  # epoch 0 has no loss
                axes.plot([row["step"] for row in rows], values, label=log.parent.name)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(f"cannot read the training log {log}: {error}; name a log.jsonl") from None
        axes.set(xlabel="step", ylabel=key)
        axes.legend()
    save_figure(figure, path)


def save_figure(figure, path: Path) -> None:
    """Write a matplotlib figure whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
