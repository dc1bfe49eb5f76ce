"""Drawn scenes with plates whose numbers names like CCPD's cannot hold, and the script that counts those read."""

import dataclasses
import re

import numpy as np
import pytest

from ccpd.plates import PlateRenderer
from ccpd.rare_plates import RARE, SUBSETS, draw_scenes, main
from platekit.pipeline import PlateReader
from platekit.results import PictureResult, Plate

SHAPES = {"forces": "[A-Z]{2}[0-9]{5}", "forces_double": "[A-Z]{2}[0-9]{5}", "armed_police": "WJ.[0-9]{4}[0-9A-Z]",
          "other_last_symbol": "[^A-Z0-9使](?:[A-Z][A-Z0-9]{4}|[0-9]{5})[警学挂港澳领]",
          "embassy": "[0-9]{6}使", "older_embassy": "使[0-9]{6}"}


@pytest.mark.parametrize("name", RARE)
def test_a_scene_shows_a_plate_of_its_kind(name):
    photos = [list(draw_scenes(name, 1, PlateRenderer(), seed)) for seed in (3, 3, 4)]
    assert [len(drawn) for drawn in photos] == [len(SUBSETS)] * 3
    assert all(re.fullmatch(SHAPES[name], annotation.plate) for drawn in photos for _, annotation in drawn)
    first, again, other = ([photo for photo, _ in drawn] for drawn in photos)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_all_symbols_that_are_left_out_are_measured():
    rng = np.random.default_rng(0)
    assert {RARE["other_last_symbol"](rng)[1][-1] for _ in range(200)} == set("警学挂港澳领")


def test_the_script_counts_what_is_found_and_read(call, monkeypatch):
    """By a reader that sees everything, and misreads one plate and overlooks another; 使 is not to be read."""
    scenes = [annotation for _, annotation in draw_scenes("embassy", 1, PlateRenderer(), 5)]
    ms = {"detect": 1.0, "recognise": 1.0}
    results = [PictureResult(720, 1160, (Plate(scene.box, 0.99, scene.plate.strip("使"), 0.9),), ms)
               for scene in scenes]
    results[1] = dataclasses.replace(results[1], plates=(dataclasses.replace(results[1].plates[0], text="A00000"),))
    results[2] = PictureResult(720, 1160, (), ms)
    monkeypatch.setattr(PlateReader, "read", lambda *_: results.pop(0))
    done = call(main, "--count", 1, "--kinds", "embassy", "--seed", 5)
    assert done.status == 0 and not results
    assert re.fullmatch(r"embassy: of 4 plates 75.0% \(.*\) found, 50.0% \(.*\) read\n", done.out), done.out


def test_the_script_runs(run_script, tmp_path):
    outcome = run_script("ccpd/rare_plates.py", "--count", 1, "--kinds", "forces", cwd=tmp_path)
    assert outcome.status == 0 and outcome.out.startswith("forces: of 4 plates ")


def test_no_photos_are_wrong_usage(run_script, tmp_path):
    outcome = run_script("ccpd/rare_plates.py", "--count", 0, cwd=tmp_path)
    assert outcome.status == 2 and "--count must be at least 1" in outcome.err
