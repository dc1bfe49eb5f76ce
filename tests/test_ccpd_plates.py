"""Plate numbers and the plate renderer."""

from __future__ import annotations

import re
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from ccpd import plates
from ccpd.plate_kinds import ALL_KINDS, FORCES, KINDS
from ccpd.plate_numbers import UNREAD_SYMBOLS, forces_text, random_text, unread_plate
from ccpd.plates import PlateRenderer, cover_plate
from ccpd.symbols import DIGITS, LETTERS, PROVINCES
from LPRNet.alphabet import CHARS
from platekit.errors import UserError
from platekit.images import write_image


@pytest.fixture(scope="module")
def renderer():
    return PlateRenderer()


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.upper])
def test_layout_keeps_the_standards_margins(name):
    kind = KINDS[name]
    lefts = [left for left, _ in kind.cells]
    rights = [left + width for left, width in kind.cells]
    assert lefts[0] == pytest.approx(kind.width_mm - rights[-1]) == 15.5
    assert all(right < left for right, left in zip(rights, lefts[1:]))
    assert rights[1] < kind.dot_mm < lefts[2]
    assert kind.symbols == (8 if name == "green" else 7)
    assert all(kind.row(index) == (25, 90) for index in range(kind.symbols)) and kind.height_mm == 140


@pytest.mark.parametrize(("name", "size"), [
    ("yellow_double", (440, 220)), ("motorcycle", (220, 140)), ("moped", (220, 140)), ("white_double", (440, 220))])
def test_a_plate_of_two_rows_has_its_two_symbols_above_the_five(name, size):
    kind = ALL_KINDS[name]
    assert ((kind.width_mm, kind.height_mm), kind.symbols, kind.upper) == (size, 7, 2)
    upper, lower = kind.cells[:2], kind.cells[2:]
    assert upper[0][0] == kind.width_mm - sum(upper[1]) and abs(lower[0][0] - (kind.width_mm - sum(lower[-1]))) <= 1
    assert all(left + width < right for cells in (upper, lower) for (left, width), (right, _) in pairwise(cells))
    assert sum(upper[0]) < kind.dot_mm < upper[1][0]
    assert sum(kind.row(1)) < kind.row(2)[0] and sum(kind.row(6)) < kind.height_mm


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
    else:
        assert {sum(symbol in LETTERS for symbol in text[2:]) for text in texts} == {0, 1, 2}
    assert len({symbol for text in texts for symbol in text[2:]}) == len(LETTERS + DIGITS)


@pytest.mark.parametrize("name", ["white", "white_double"])
def test_numbers_of_the_forces_are_two_letters_and_five_digits(name):
    texts = [forces_text(np.random.default_rng(seed), name) for seed in range(200)]
    assert all(set(text[:2]) <= set(LETTERS) and set(text[2:]) <= set(DIGITS) and len(text) == 7 for text in texts)
    assert {text[0] for text in texts} == set(LETTERS) and 40 < sum(text[0] == text[1] for text in texts) < 90


def test_numbers_of_the_armed_police_are_wj_a_province_and_five_symbols():
    texts = [forces_text(np.random.default_rng(seed), "white_police") for seed in range(200)]
    assert all(text[:2] == "WJ" and set(text[3:7]) <= set(DIGITS) and len(text) == 8 for text in texts)
    assert {text[2] for text in texts} == set(PROVINCES)
    assert 20 < sum(text[7] in LETTERS for text in texts) < 120


@pytest.mark.parametrize("name", ALL_KINDS)
def test_screws_and_frames_leave_the_symbols_to_be_read(renderer, monkeypatch, name):
    kind = ALL_KINDS[name]
    worst = 0.0
    for seed in range(80):
        ink = renderer._ink("8" * kind.symbols, kind, 1.0, np.random.default_rng(seed)) > 127
        cover = np.zeros((*ink.shape, 3), np.uint8)
        renderer._bolts(cover, kind, 1.0, np.random.default_rng(seed))
        renderer._frame(cover, kind, 1.0, np.random.default_rng(seed))
        for index, (left, width) in enumerate(kind.cells):
            top, height = kind.row(index)
            cell = slice(round(top), round(top + height)), slice(round(left), round(left + width))
            worst = max(worst, (cover[cell].any(axis=2) & ink[cell]).sum() / ink[cell].sum())
    assert worst < 0.03


@pytest.mark.parametrize("name", ALL_KINDS)
def test_what_stands_in_front_of_a_plate_leaves_the_symbols_to_be_read(renderer, name):
    kind, worst, areas = ALL_KINDS[name], 0.0, []
    for seed in range(80):
        ink = renderer._ink("8" * kind.symbols, kind, 2.0, np.random.default_rng(seed)) > 127
        plate = np.zeros((*ink.shape, 3), np.uint8)
        cover_plate(plate, kind, np.random.default_rng(seed))
        hidden = plate.any(axis=2)
        areas.append(hidden.mean())
        for index, (left, width) in enumerate(kind.cells):
            top, height = kind.row(index)
            cell = slice(round(2 * top), round(2 * (top + height))), slice(round(2 * left), round(2 * (left + width)))
            worst = max(worst, (hidden & ink)[cell].sum() / ink[cell].sum())
    assert worst < 0.1 and 0.001 < min(areas) < 0.01 and 0.05 < max(areas) < 0.12


def test_few_plates_are_partly_hidden(renderer, monkeypatch):
    hidden = []
    monkeypatch.setattr(plates, "cover_plate", lambda plate, *_: hidden.append(plate))
    for seed in range(600):
        renderer.render("皖A12345", "blue", np.random.default_rng(seed), 0.2)
    assert 15 < len(hidden) < 50


@pytest.mark.parametrize(("name", "width"), [("blue", 10), ("white", 14.5), ("yellow_double", 11.5), ("moped", 10)])
def test_dots_are_about_as_large_as_the_standards(renderer, name, width):
    kind, widths = KINDS[name], []
    where = tuple(slice(round(2 * mm - 20), round(2 * mm + 21)) for mm in (kind.dot_y_mm, kind.dot_mm))
    for seed in range(60):
        ink = renderer._ink("8" * kind.symbols, kind, 2.0, np.random.default_rng(seed))[where]
        widths.append(np.sqrt(ink.mean() / 255 * ink.size / np.pi))  # a circle of that area, at two pixels per mm
    assert 0.85 * width < min(widths) < 0.95 * width and 1.1 * width < max(widths) < 1.2 * width


@pytest.mark.parametrize(("name", "text"), [
    ("white", "KA12345"), ("white_double", "KA12345"), ("white_police", "WJ皖12345")])
def test_the_dot_beside_red_symbols_is_red_or_black(renderer, name, text):
    kind, reds = FORCES[name], []
    x, y = round(kind.dot_mm), round(kind.dot_y_mm)
    for seed in range(60):
        plate = renderer.render(text, kind, np.random.default_rng(seed), 1.0)[y - 10:y + 11, x - 10:x + 11].astype(int)
        dark = plate[5:16, 5:16][plate[5:16, 5:16, 1] <= np.median(plate[8:13, 8:13, 1]) + 20]
        reds.append(bool(np.median(dark[:, 2] - dark[:, 1]) > 60))
    assert 15 < sum(reds) < 45


@pytest.mark.parametrize("behind", range(1, 7))
def test_the_dot_may_stand_elsewhere(renderer, behind):
    kind = KINDS["black"].with_dot_behind(behind)
    rights = [left + width for left, width in kind.cells]
    gaps = [right_left - right for right, (right_left, _) in zip(rights, kind.cells[1:])]
    assert gaps == [34 if index == behind else 12 for index in range(1, 7)]
    assert kind.dot_mm == rights[behind - 1] + 17 and kind.width_mm - rights[-1] == kind.cells[0][0]
    assert (kind == KINDS["black"]) == (behind == 2)
    # A renderer that has drawn the ordinary plate draws this one all the same.
    renderer.render("粤Z12345", "black", np.random.default_rng(1), 1.0)
    plate = renderer.render("粤Z12345", kind, np.random.default_rng(1), 1.0)
    dot = [plate[65:75, round(x) - 3:round(x) + 4].mean() for x in (kind.dot_mm, kind.dot_mm - 57, kind.dot_mm + 57)]
    assert dot[0] > 100 and np.isclose(renderer.render("粤Z12345", kind, np.random.default_rng(1), 1.0), plate).all()


def test_plates_with_a_symbol_that_is_not_read_have_their_dot_where_it_belongs():
    """Of 2018 (224·578使, 沪224·78领), older (使224·578, 使22·4578, 沪A·0023领), and of what may enter Guangdong."""
    black = [unread_plate(np.random.default_rng(seed), "black") for seed in range(300)]
    behind = {KINDS["black"].with_dot_behind(count): count for count in (2, 3, 4)}
    seen = {re.sub(f"[{LETTERS}]", "A", re.sub("[0-9]", "0", re.sub(f"^[{''.join(PROVINCES)}]", "沪", (
        text[:behind[kind]] + "·" + text[behind[kind]:])))) for kind, text in black if text[-1] not in "港澳"}
    assert seen == {"000·000使", "使000·000", "使00·0000", "沪000·00领", "沪A·0000领"}
    assert {text[:2] for kind, text in black if text[-1] in "港澳" and behind[kind] == 2} == {"粤Z"}
    assert unread_plate(np.random.default_rng(0), "white")[0] == KINDS["white"].with_dot_behind(1)
    assert unread_plate(np.random.default_rng(0), "yellow")[0] == KINDS["yellow"]


@pytest.mark.parametrize("name", UNREAD_SYMBOLS)
def test_numbers_may_have_a_symbol_that_is_not_read(renderer, name):
    texts = [unread_plate(np.random.default_rng(seed), name)[1] for seed in range(60)]
    unread = [[symbol for symbol in text if symbol not in CHARS] for text in texts]
    assert {len(symbols) for symbols in unread} == {1}
    assert {symbol for symbol, in unread} == set(UNREAD_SYMBOLS[name])
    assert all(text[0] in PROVINCES and text[-1] in UNREAD_SYMBOLS[name] for text in texts if "使" not in text)
    assert {renderer.render(text, name, np.random.default_rng(0)).shape for text in texts[:10]} == {
        (round(KINDS[name].height_mm / 2), 220, 3)}


@pytest.mark.parametrize(("kind", "text", "red"), [
    ("white", "KA12345", (0, 1)), ("white", "皖A1234警", (6,)), ("white_double", "KA12345", (0, 1)),
    ("white_police", "WJ皖12345", (0, 1, 2))])
def test_white_plates_have_red_symbols(renderer, kind, text, red):
    kind = ALL_KINDS[kind]
    for seed in range(20):
        plate = renderer.render(text, kind, np.random.default_rng(seed), 1.0).astype(int)
        for index, (left, width) in enumerate(kind.cells):
            top, height = kind.row(index)
            cell = plate[round(top + 5):round(top + height - 5), round(left):round(left + width)].reshape(-1, 3)
            ink = cell[cell[:, 1] <= np.quantile(cell[:, 1], 0.15)]
            assert (np.median(ink[:, 2] - ink[:, 1]) > 60) == (index in red)


@pytest.mark.parametrize(("text", "place"), [
    ("使012345", 0), ("粤A1234领", 6), ("012345使", 6), ("粤01234领", 6)])
def test_embassies_and_consulates_symbols_are_red_or_white(renderer, text, place):
    left, width = (round(part) for part in KINDS["black"].cells[place])
    reds = []
    for seed in range(30):
        cell = renderer.render(text, "black", np.random.default_rng(seed), 1.0)[30:110, left:left + width].astype(int)
        ink = cell[cell[..., 2] >= np.quantile(cell[..., 2], 0.85)]
        reds.append(bool(np.median(ink[:, 2] - ink[:, 1]) > 60))
    assert 5 < sum(reds) < 28 if text[0] == "使" or text[1] == "A" else not any(reds)


@pytest.mark.parametrize("name", ALL_KINDS)
@pytest.mark.parametrize("scale", [0.2, 0.5, 1.3])
def test_plates_have_their_size_and_repeat_with_their_seed(renderer, name, scale):
    kind = ALL_KINDS[name]
    text = "A" * kind.symbols
    first = renderer.render(text, kind, np.random.default_rng(7), scale)
    assert first.dtype == np.uint8
    assert first.shape == (round(kind.height_mm * scale), round(kind.width_mm * scale), 3)
    assert np.array_equal(first, PlateRenderer().render(text, name, np.random.default_rng(7), scale))
    assert not np.array_equal(first, renderer.render(text, kind, np.random.default_rng(8), scale))


@pytest.mark.parametrize(
    ("name", "channel"), [("blue", 0), ("black", 1), ("yellow", 2), ("green", 1), ("yellow_double", 2)]
)
def test_ink_stands_out_in_every_cell(renderer, name, channel):
    kind = KINDS[name]
    for seed in range(20):
        plate = renderer.render(random_text(np.random.default_rng(seed), kind), kind, np.random.default_rng(seed), 1.0)
        for index, (left, width) in enumerate(kind.cells):
            top, height = map(round, kind.row(index))
            cell = plate[top : top + height, round(left) : round(left + width)].astype(float).mean(axis=2)
            low, high = np.quantile(cell, (0.1, 0.9))
            assert high - low > 15
        ground = np.median(plate[78:88, 20:-20] if kind.upper else plate[16:22, 20:-20], axis=(0, 1))
        assert ground[channel] >= ground.max() - 12  # the kind's colour leads


def test_every_symbol_is_distinct(renderer):
    kind = KINDS["blue"]
    shapes = {}
    for symbol in PROVINCES + LETTERS + DIGITS:
        glyph = renderer._glyph(2, symbol, kind, 45, 90)
        assert glyph.shape == (90, 45) and 0.05 < (glyph > 128).mean() < 0.8, symbol
        shapes[symbol] = glyph > 128
    for a in shapes:
        for b in shapes:
            if a < b:
                assert (shapes[a] != shapes[b]).mean() > 0.02, a + b


def test_glyph_pictures_are_used_and_missing_ones_replaced(tmp_path):
    for name, tone in (("140_A", 0), ("220_up_A", 90), ("220_down_A", 180)):
        write_image(tmp_path / f"{name}.jpg", np.full((250, 125, 3), tone, np.uint8))
    plain, own = PlateRenderer(), PlateRenderer(tmp_path)
    kind, double = KINDS["blue"], KINDS["yellow_double"]
    assert own._glyph(2, "A", kind, 45, 90).min() > 200
    assert np.array_equal(own._glyph(2, "B", kind, 45, 90), plain._glyph(2, "B", kind, 45, 90))
    assert own._glyph(1, "A", double, 80, 60).mean() == pytest.approx(165, abs=2)
    assert own._glyph(2, "A", double, 65, 110).mean() == pytest.approx(75, abs=2)


def test_a_wide_symbol_is_not_cut_off_and_an_empty_one_is_empty(tmp_path):
    wide = np.full((180, 150), 255, np.uint8)
    write_image(tmp_path / "140_C.jpg", np.dstack([wide] * 3))
    wide[:, :20] = wide[:, -20:] = 0
    write_image(tmp_path / "140_B.jpg", np.dstack([wide] * 3))
    renderer = PlateRenderer(tmp_path)
    shown = renderer._glyph(2, "B", KINDS["blue"], 45, 90)
    assert shown[:, 0].min() > 200 and shown[:, -1].min() > 200
    assert renderer._glyph(2, "C", KINDS["blue"], 45, 90).max() < 50


@pytest.mark.parametrize(("name", "left"), [("blue", 110), ("green", 128), ("yellow_double", 90)])
def test_screws_are_where_the_standard_has_holes(renderer, name, left):
    kind = KINDS[name]
    cover = np.zeros((round(kind.height_mm), round(kind.width_mm), 3), np.float32)
    for seed in range(60):
        part = np.zeros(cover.shape, np.uint8)
        renderer._bolts(part, kind, 1.0, np.random.default_rng(seed))
        cover += part > 0
    rows, columns = np.nonzero(cover[:70, :round(kind.dot_mm)].any(axis=2))
    weights = cover[rows, columns, 0]
    assert np.average(columns, weights=weights) == pytest.approx(left, abs=2)
    assert np.average(rows, weights=weights) == pytest.approx(13.5, abs=2)


@pytest.mark.parametrize(("name", "lower"), [
    ("blue", True), ("green", True), ("yellow_double", True), ("white_double", True), ("motorcycle", False)])
def test_there_are_lower_holes_where_there_is_room_below_the_symbols(renderer, name, lower):
    kind, seen, rows = ALL_KINDS[name], 0, []
    for seed in range(100):
        cover = np.zeros((round(kind.height_mm), round(kind.width_mm), 3), np.uint8)
        renderer._bolts(cover, kind, 1.0, np.random.default_rng(seed))
        below = np.flatnonzero(cover.any(axis=(1, 2)))
        below = below[below > kind.height_mm / 2]
        seen += below.size > 0
        rows += [below.mean()] if below.size else []
    assert 40 < seen < 80 and kind.height_mm - np.mean(rows) == pytest.approx(13.5, abs=2) if lower else not seen


@pytest.mark.parametrize(("name", "inset", "width"), [("blue", 4.0, 2.5), ("black", 4.0, 2.5), ("yellow", 3.0, 2.0)])
def test_the_border_line_is_as_far_from_the_edge_as_on_real_plates(renderer, name, inset, width):
    """Of 600 real blue plates, measured by the height of their symbols."""
    kind = KINDS[name]
    line = np.mean([renderer._ink("8" * 7, kind, 2.0, np.random.default_rng(seed))[:24, 420:440].mean(axis=1)
                    for seed in range(20)], axis=0) / 255
    assert line.sum() / 2 == pytest.approx(width, abs=0.4)
    assert np.average((np.arange(24) + 0.5) / 2, weights=line) == pytest.approx(inset, abs=0.4)


def test_the_green_field_of_large_vehicles_plates_has_a_yellow_rim(renderer, monkeypatch):
    monkeypatch.setattr(renderer, "_frame", lambda *_: None)
    for seed in range(10):
        plate = renderer.render("京B12345D", "green", np.random.default_rng(seed), 1.0).astype(int)
        rim, field = (np.median(part.reshape(-1, 3), axis=0) for part in (plate[6:8, 250:330], plate[16:20, 250:330]))
        assert rim[2] > rim[0] + 40 and rim[2] > rim[1] and field[1] > field[2]


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
