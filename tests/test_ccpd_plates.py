"""Plate numbers and the plate renderer."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from ccpd.plates import KINDS, SYMBOL_HEIGHT, SYMBOL_TOP, PlateRenderer, random_text
from ccpd.symbols import DIGITS, LETTERS, PROVINCES
from platekit.errors import UserError
from platekit.images import write_image


@pytest.fixture(scope="module")
def renderer():
    return PlateRenderer()


@pytest.mark.parametrize("name", KINDS)
def test_layout_keeps_the_standards_margins(name):
    kind = KINDS[name]
    lefts = [left for left, _ in kind.cells]
    rights = [left + width for left, width in kind.cells]
    assert lefts[0] == pytest.approx(kind.width_mm - rights[-1]) == 15.5
    assert all(right < left for right, left in zip(rights, lefts[1:]))
    assert rights[1] < kind.dot_mm < lefts[2]
    assert kind.symbols == (8 if name == "green" else 7)
    assert kind.height_mm - 2 * SYMBOL_TOP == SYMBOL_HEIGHT


@pytest.mark.parametrize("name", KINDS)
def test_plate_numbers_are_issuable_and_spread_over_the_provinces(name):
    rng = np.random.default_rng(0)
    texts = [random_text(rng, name) for _ in range(3100)]
    assert {len(text) for text in texts} == {KINDS[name].symbols}
    assert all(text[1] in LETTERS and set(text[2:]) <= set(LETTERS + DIGITS) for text in texts)
    provinces = Counter(text[0] for text in texts)
    assert set(provinces) == set(PROVINCES)
    assert max(provinces.values()) < 2 * min(provinces.values())
    if name == "green":
        assert all(text[2] in LETTERS or text[-1] in LETTERS for text in texts)
    assert len({symbol for text in texts for symbol in text[2:]}) == len(LETTERS + DIGITS)


def test_a_province_can_be_asked_for():
    assert random_text(np.random.default_rng(0), KINDS["blue"], province="藏")[0] == "藏"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("scale", [0.2, 0.5, 1.3])
def test_plates_have_their_size_and_repeat_with_their_seed(renderer, name, scale):
    kind = KINDS[name]
    text = random_text(np.random.default_rng(1), kind)
    first = renderer.render(text, kind, np.random.default_rng(7), scale)
    assert first.dtype == np.uint8
    assert first.shape == (round(140 * scale), round(kind.width_mm * scale), 3)
    assert np.array_equal(first, PlateRenderer().render(text, name, np.random.default_rng(7), scale))
    assert not np.array_equal(first, renderer.render(text, kind, np.random.default_rng(8), scale))


@pytest.mark.parametrize(("name", "channel"), [("blue", 0), ("black", 1), ("yellow", 2), ("green", 1)])
def test_ink_stands_out_in_every_cell(renderer, name, channel):
    kind = KINDS[name]
    for seed in range(20):
        plate = renderer.render(random_text(np.random.default_rng(seed), kind), kind, np.random.default_rng(seed), 1.0)
        for left, width in kind.cells:
            cell = plate[25:115, round(left) : round(left + width)].astype(float).mean(axis=2)
            low, high = np.quantile(cell, (0.1, 0.9))
            assert high - low > 15
        ground = np.median(plate[16:22, 20:-20], axis=(0, 1))
        assert ground[channel] >= ground.max() - 12  # the kind's colour leads


def test_every_symbol_is_distinct(renderer):
    kind = KINDS["blue"]
    shapes = {}
    for symbol in PROVINCES + LETTERS + DIGITS:
        glyph = renderer._glyph(symbol, kind, 45, 90)
        assert glyph.shape == (90, 45) and 0.05 < (glyph > 128).mean() < 0.8, symbol
        shapes[symbol] = glyph > 128
    for a in shapes:
        for b in shapes:
            if a < b:
                assert (shapes[a] != shapes[b]).mean() > 0.02, a + b


def test_glyph_pictures_are_used_and_missing_ones_replaced(tmp_path):
    write_image(tmp_path / "140_A.jpg", np.zeros((250, 125, 3), np.uint8))
    plain, own = PlateRenderer(), PlateRenderer(tmp_path)
    kind = KINDS["blue"]
    assert own._glyph("A", kind, 45, 90).min() > 200
    assert np.array_equal(own._glyph("B", kind, 45, 90), plain._glyph("B", kind, 45, 90))


def test_bad_glyph_folders_and_texts_are_refused(tmp_path, renderer):
    with pytest.raises(UserError, match="nowhere"):
        PlateRenderer(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no"):
        PlateRenderer(tmp_path)
    (tmp_path / "140_A.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match="140_A"):
        PlateRenderer(tmp_path).render("皖A12345", "blue", np.random.default_rng(0))
    with pytest.raises(UserError, match="8 symbols"):
        renderer.render("皖A123456", "blue", np.random.default_rng(0))


def test_rendering_is_fast_enough_to_train_on(renderer):
    rng = np.random.default_rng(0)
    for _ in range(100):
        renderer.render(random_text(rng, "blue"), "blue", rng)
    start = time.process_time()
    for _ in range(300):
        renderer.render(random_text(rng, "blue"), "blue", rng)
    assert (time.process_time() - start) / 300 < 0.003  # 0.25 ms on an idle core; the bound allows for a busy one
