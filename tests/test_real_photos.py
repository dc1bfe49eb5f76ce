"""The bundled weights on real photos that nothing was trained on; skipped where the photos are not there."""

from functools import cache
from pathlib import Path

import pytest

from ccpd.dataset import listed_names
from ccpd.evaluate import evaluate_photo, find_photos
from ccpd.protocol import IOU_THRESHOLD, Outcome
from LPRNet.recogniser import Recogniser
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.pipeline import PlateReader


@cache
def evaluate(data: Path) -> list[Outcome]:
    reader, approximate = PlateReader("cpu"), listed_names(data / "boxes_approximate.txt")
    return [evaluate_photo(reader, path, subset, 0.5 if path.name in approximate else IOU_THRESHOLD)
            for subset, path in find_photos(sorted((data / "frames" / "val").iterdir()))]


def test_plates_are_found(shared_data):
    outcomes = [outcome for outcome in evaluate(shared_data) if outcome.plate]
    assert len(outcomes) > 350
    assert sum(outcome.found for outcome in outcomes) / len(outcomes) >= 0.97


def test_plates_are_read(shared_data):
    subsets = {"ccpd_base", "ccpd_db", "ccpd_fn", "ccpd_tilt", "ccpd_weather"}
    outcomes = [outcome for outcome in evaluate(shared_data) if outcome.subset in subsets]
    assert sum(outcome.read for outcome in outcomes) / len(outcomes) >= 0.94


@pytest.mark.parametrize("group", ["all", "not 皖"])
def test_crops_are_read(shared_data, group):
    paths = [path for path in find_images(shared_data / "crops" / "val") if group == "all" or path.name[0] != "皖"]
    readings = Recogniser(device="cpu").read_pictures([read_image(path) for path in paths])
    right = sum(reading.text == path.stem.split("_")[0] for reading, path in zip(readings, paths))
    assert len(paths) > 280 and right / len(paths) >= 0.97
