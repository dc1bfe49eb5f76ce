"""Boxes and Chinese text on pictures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ccpd.symbols import PROVINCES
from platekit.drawing import COLOUR, draw_plates, draw_text, hide_plates, text_width
from platekit.results import Plate
from tests.makers import noise


def test_every_province_has_ink_of_its_own():
    drawn = {}
    for province in PROVINCES:
        canvas = np.zeros((60, 60, 3), dtype=np.uint8)
        draw_text(canvas, province, (10, 48), 40)
        assert (canvas.max(axis=2) > 128).mean() > 0.05, province
        drawn[province] = canvas.tobytes()
    assert len(set(drawn.values())) == len(PROVINCES) == 31  # a missing glyph would look like another missing one


def test_a_name_that_is_no_utf8_can_be_drawn():
    canvas = np.zeros((60, 200, 3), dtype=np.uint8)
    draw_text(canvas, "np_\udcff.jpg", (10, 48), 20)
    assert canvas.any()


def test_the_picture_itself_is_drawn_on():
    """A copy of a large picture would be a tenth of the memory of a whole run."""
    image = np.full((100, 200, 3), 90, dtype=np.uint8)
    assert draw_plates(image, []) is image and (image == 90).all()
    assert draw_plates(image, [Plate((50, 40, 120, 60), 0.9, "皖A12345", 0.8)]) is image and not (image == 90).all()
    view = np.full((100, 200, 3), 90, dtype=np.uint8)[::-1]
    assert not (draw_plates(view, [Plate((50, 40, 120, 60), 0.9)]) == 90).all() and (view == 90).all()


def test_the_label_tells_the_text():
    def label(text: str | None) -> np.ndarray:
        image = np.full((200, 400, 3), 90, dtype=np.uint8)
        return draw_plates(image, [Plate((50, 100, 150, 140), 0.9, text, None if text is None else 0.8)])

    assert not np.array_equal(label("皖A12345"), label("京A12345"))
    assert not np.array_equal(label("皖A12345"), label(None))


@pytest.mark.parametrize(("width", "least"), [(3200, 140), (320, 15)])
def test_labels_grow_with_the_picture(width, least):
    drawn = draw_plates(np.zeros((width // 2, width, 3), np.uint8), [Plate((9, width // 2 - 20, 99, width // 2), 0.9)])
    filled = (drawn == COLOUR).all(axis=2).mean(axis=1) > 12 / width
    assert least < filled.sum() < 1.3 * least + 24


def test_texts_are_drawn_alike_again_and_by_several_threads():
    def draw(size: int) -> np.ndarray:
        image = np.zeros((60, 500, 3), np.uint8)
        draw_text(image, f"皖A12345 {text_width('皖', size)}", (5, 45), size)
        return image

    sizes = [10, 14, 22, 33] * 6
    wanted = {size: draw(size) for size in sizes}
    with ThreadPoolExecutor(4) as pool:
        assert all((drawn == wanted[size]).all() for size, drawn in zip(sizes, pool.map(draw, sizes)))


@pytest.mark.parametrize("text", ["皖A12345", "品川神奈500あ1234", "iiii"])
def test_a_label_fits_the_picture(text):
    """All that is written lies on its ground."""
    image = np.zeros((1200, 200, 3), np.uint8)
    drawn = draw_plates(image, [Plate((20, 600, 180, 640), 0.9, text, 0.98)])
    ground = np.flatnonzero((drawn == COLOUR).all(axis=2)[:595].any(axis=0))
    written = np.flatnonzero((drawn[:595] > (100, 100, 0)).all(axis=2).any(axis=0))
    assert len(written) > 20 and ground[0] < written[0] and written[-1] < ground[-1]


@pytest.mark.parametrize("box", [(0, 0, 200, 100), (150, 60, 200, 100), (0, 0, 40, 15), (0, 90, 200, 100)])
def test_a_box_at_the_border_is_seen_on_all_sides(box):
    """x2 and y2 are exclusive: the frame lies on the last pixels inside."""
    image = np.full((100, 200, 3), 90, dtype=np.uint8)
    frame = (draw_plates(image, [Plate(box, 0.9)]) == COLOUR).all(axis=2)
    x1, y1, x2, y2 = box
    for side in (frame[y1:y2, x1], frame[y1:y2, x2 - 1], frame[y1, x1:x2], frame[y2 - 1, x1:x2]):
        assert side.mean() > 0.3  # the label may lie over a part


def test_a_hidden_plate_is_a_few_squares_and_the_rest_is_as_it_was():
    image = noise(100, 200)
    hidden = hide_plates(image.copy(), [Plate((50.4, 40.2, 119.7, 60.9), 0.9, "皖A12345", 0.8)])
    changed = (hidden != image).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert rows[0] < 40 and rows[-1] > 60 and rows[-1] - rows[0] < 28
    assert columns[0] < 50 and columns[-1] > 119 and columns[-1] - columns[0] < 90
    part = hidden[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    assert len(np.unique(part.reshape(-1, 3), axis=0)) <= 10


@pytest.mark.parametrize("box", [(-60, 20, -20, 40), (20, -60, 60, -20), (210, 20, 250, 40), (20, 110, 60, 130)])
def test_what_is_hidden_outside_the_picture_changes_nothing(box):
    image = noise(100, 200)
    assert (hide_plates(image.copy(), [Plate(box)]) == image).all()


@pytest.mark.parametrize("draw", [draw_plates, hide_plates])
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (5, 5)])
def test_pictures_of_any_size_are_drawn_on(size, draw):
    image = np.zeros((*size, 3), dtype=np.uint8)
    plate = Plate((0.0, 0.0, float(size[1]), float(size[0])), 0.5, "皖A12345", 0.5)
    assert draw(image, [plate]).shape == image.shape


def test_the_surest_plate_is_drawn_on_top():
    sure, other = (Plate((50, 100, 250, 140), 0.9, text, 0.9) for text in ("皖A12345", "京B67890"))
    both, alone = (draw_plates(np.full((200, 400, 3), 90, np.uint8), plates) for plates in ([sure, other], [sure]))
    assert np.array_equal(both, alone)
