"""How bright plates are beside blue ones in the same light."""

from __future__ import annotations

import numpy as np
import pytest

from ccpd.plate_kinds import KINDS
from ccpd.plates import PlateRenderer
from ccpd.tones import in_light_of, is_blue, light_on_dark, tone_in, tone_of, tone_of_box
from platekit.corners import box_corners
from platekit.opencv import cv2


@pytest.mark.parametrize(("kind", "light"), [
    ("blue", True), ("black", True), ("white", False), ("yellow", False), ("green", False)])
def test_whether_symbols_are_light_is_seen_in_half_a_shadow_too(kind, light):
    right = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        plate = PlateRenderer().render("皖AD12345"[:KINDS[kind].symbols], kind, rng).astype(float)
        plate[:, :rng.integers(60, 160)] *= 0.5
        right += light_on_dark(plate) == light
    assert right >= 36


@pytest.mark.parametrize(("colour", "blue"), [
    ((72, 84, 48), False), ((95, 138, 74), False), ((192, 207, 123), True), ((110, 119, 71), True)])
def test_a_bluish_green_plate_is_not_taken_for_a_blue_one(colour, blue):
    """Mean colours of real plates: two green ones, and two blue ones in greenish light."""
    assert is_blue(np.full((24, 94, 3), colour, np.uint8)) == blue


def plates(kind: str, light: float) -> list[np.ndarray]:
    """Drawn plates of a kind, some hundreds of pixels wide, in a light that dims or bleaches them."""
    text = "皖AD12345"[:KINDS[kind].symbols]
    drawn = (PlateRenderer().render(text, kind, np.random.default_rng(seed)) for seed in range(40))
    return [np.clip(plate * float(light), 0, 255).astype(np.uint8) for plate in drawn]


def test_a_blue_plate_has_the_tone_one_whatever_its_light():
    for light in (0.3, 1.0, 1.8):
        drawn = plates("blue", light)
        assert {tone_of(plate, KINDS["blue"]) for plate in drawn} == {1.0}
        assert np.mean([tone_in(plate) for plate in drawn]) == 1
        grey = [cv2.cvtColor(cv2.cvtColor(plate, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) for plate in drawn]
        assert np.median([tone_in(plate) for plate in grey]) == 1  # as infrared cameras see it
        bleached = [cv2.addWeighted(plate, 0.4, np.full_like(plate, 255), 0.6, 0.0) for plate in grey]
        assert np.median([tone_in(plate) for plate in bleached]) == 1 and np.mean(bleached) > 150


def test_a_white_plate_has_the_tone_of_its_ground_in_dim_light_too():
    true = np.median([tone_of(plate, KINDS["white"]) for plate in plates("white", 1.0)])
    for light in (0.3, 0.6, 1.0):
        assert np.median([tone_in(plate) for plate in plates("white", light)]) == pytest.approx(true, rel=0.1)


def test_other_plates_are_at_least_as_light_as_blue_ones_where_their_light_is_not_known():
    for kind in ("black", "yellow", "green"):
        assert np.median([tone_in(plate) for plate in plates(kind, 0.6)]) == 1
    assert np.median([tone_in(plate) for plate in plates("yellow", 1.8)]) > 1.2
    assert np.median([tone_of(plate, KINDS["black"]) for plate in plates("black", 1.0)]) < 0.8


def test_the_tone_of_a_box_is_that_of_the_plate_in_its_share_of_the_box():
    assert tone_of_box(1.5, box_corners((0, 0, 94, 24))) == pytest.approx(1.5)
    half = np.array([(60, 20), (20, 40), (0, 20), (40, 0)], float)  # half of its bounding box
    assert tone_of_box(1.5, half) == pytest.approx(1 + 0.5 * cv2.contourArea(half.astype(np.float32)) / (60 * 40))


def test_a_white_ground_gets_no_brighter_than_white():
    assert in_light_of(50, 1.4) == pytest.approx(70) and in_light_of(100, 0.6) == pytest.approx(60)
    assert in_light_of(190, 1.4) == 200 and in_light_of(230, 1.4) == 230
