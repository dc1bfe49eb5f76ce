"""Drawn scenes with plates whose numbers names like CCPD's cannot hold, and the script that counts those read."""

import re

import numpy as np
import pytest

from ccpd.plates import PlateRenderer
from ccpd.rare_plates import KINDS, SUBSETS, draw_scenes

SHAPES = {"forces": "[A-Z]{2}[0-9]{5}", "forces_double": "[A-Z]{2}[0-9]{5}", "armed_police": "WJ.[0-9]{4}[0-9A-Z]",
          "other_last_symbol": "[^A-Z0-9使][A-Z][A-Z0-9]{4}[警学挂港澳领]", "embassy": "使[0-9]{6}"}


@pytest.mark.parametrize("name", KINDS)
def test_a_scene_shows_a_plate_of_its_kind(name):
    photos = [list(draw_scenes(name, 1, PlateRenderer(), seed)) for seed in (3, 3, 4)]
    assert [len(drawn) for drawn in photos] == [len(SUBSETS)] * 3
    assert all(re.fullmatch(SHAPES[name], annotation.plate) for drawn in photos for _, annotation in drawn)
    first, again, other = ([photo for photo, _ in drawn] for drawn in photos)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_script_counts_what_is_found_and_read(run_script, tmp_path):
    outcome = run_script("ccpd/rare_plates.py", "--count", 1, "--kinds", "forces", "embassy", cwd=tmp_path)
    forces, embassy = outcome.out.splitlines()
    assert outcome.status == 0 and forces.startswith("forces: of 4 plates ") and embassy.startswith("embassy: of 4 ")
    assert re.search(r"[0-9.]+% \([0-9.]+%-[0-9.]+%\) found, [0-9.]+% .* read", embassy)


def test_no_photos_are_wrong_usage(run_script, tmp_path):
    outcome = run_script("ccpd/rare_plates.py", "--count", 0, cwd=tmp_path)
    assert outcome.status == 2 and "--count must be at least 1" in outcome.err
