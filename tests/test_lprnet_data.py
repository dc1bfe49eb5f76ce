"""Crops: their names, the data sets, the geometry of their views, and how they are cut out of photos."""

from __future__ import annotations

import os
import re
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ccpd import camera
from ccpd.annotation import Annotation, parse
from ccpd.plate_kinds import KINDS
from ccpd.plates import PlateRenderer
from ccpd.symbols import LETTERS, PROVINCES
from LPRNet.alphabet import CHARS, Alphabet
from LPRNet.data import augment, crops_of_boxes, preprocess
from LPRNet.data.crop_names import CropName
from LPRNet.data.labels import read_labels
from LPRNet.data.load_data import LPRDataLoader, collate_fn, network_crop
from LPRNet.data.rendered import RenderedPlates, Scene, build_rendered
from LPRNet.data.training_plates import TrainingPlates, first_symbol_shares, sample_shares
from LPRNet.LPRNet_Train import find_corners, split_by_plate
from LPRNet.model.STN import STRAIGHT_CORNERS
from LPRNet.recogniser import Reader
from platekit.errors import UserError
from platekit.images import read_image
from platekit.opencv import cv2
from tests.conftest import files_below, full_disk, make_picture, put_picture
from tests.makers import noise

# Names.

plates = st.text(st.sampled_from(CHARS[:-1]), min_size=1, max_size=8)


@st.composite
def quads(draw: st.DrawFn) -> tuple[tuple[int, int], ...]:
    """Corners of a plate, each off by up to an eighth of its sides."""
    x, y = (draw(st.integers(-999, 9000)) for _ in range(2))
    width, height = (draw(st.integers(8, 900)) for _ in range(2))
    off = st.integers(-(min(width, height) // 8), min(width, height) // 8)
    return tuple((x + right * width + draw(off), y + bottom * height + draw(off))
                 for right, bottom in ((1, 1), (0, 1), (0, 0), (1, 0)))


@given(plates, st.integers(0, 2**32), st.none() | quads(),
       st.sampled_from([".jpg", ".png", ".JPEG"]))
def test_a_crop_name_says_what_was_put_in(plate, number, corners, suffix):
    name = CropName(plate, number, corners)
    assert CropName.parse(f"some/folder/{name.stem()}{suffix}") == name
    array = name.corner_array()
    assert array is None if corners is None else array.tolist() == [list(map(float, point)) for point in corners]


def test_a_bare_plate_is_a_name():
    assert CropName.parse("皖A12345.jpg") == CropName("皖A12345", 1, None)


@pytest.mark.parametrize("name", ["_1.jpg", "皖A12345_x.jpg", "皖A12345_1_2&3.jpg", "皖A-12345_1.jpg", ".jpg",
                                  "皖A12345_1_1&2_3&4_5&6_7&8_9&9.jpg", "皖A12345_1_9&9_9&9_9&9_9&9.jpg",
                                  "皖A12345_1_1&2_3&4_5&6_7.jpg",
                                  # from the upper left corner on, the other way round, along one line
                                  "皖A12345_1_10&10_90&10_90&40_10&40.jpg", "皖A12345_1_90&10_10&10_10&40_90&40.jpg",
                                  "皖A12345_1_90&40_10&10_50&25_60&29.jpg",
                                  "皖A 12345_1.jpg", f"皖A12345_{'1' * 5000}.jpg",
                                  f"皖A12345_1_{'9' * 50}&2_3&4_5&6_7&8.jpg",
                                  "皖A12345_1_16777216&2_16777217&4_16777216&6_16777217&8.jpg"])
def test_other_names_are_refused_by_name(name):
    with pytest.raises(UserError, match=re.escape(name)):
        CropName.parse(name)


# Data sets.


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Three crops: one bare, two with corners; two of one plate."""
    folder = tmp_path / "crops"
    put_picture(folder / "京A12345_1.png", make_picture(30, 100, 1))
    corners = ((110, 50), (22, 48), (20, 14), (108, 16))
    for number in (2, 3):
        put_picture(folder / f"{CropName('沪B6789D', number, corners).stem()}.png", make_picture(70, 130, number))
    return folder


def same(first: tuple, second: tuple) -> bool:
    return np.array_equal(first[0], second[0]) and first[1] == second[1]


def test_a_sample_is_a_crop_and_its_classes(crops):
    data = LPRDataLoader(crops)
    assert len(data) == 3
    for index in range(3):
        crop, label = data[index]
        assert crop.shape == (24, 94, 3) and crop.dtype == np.uint8
        path, name = data.crops[index].path, data.crops[index].name
        assert "".join(CHARS[symbol] for symbol in label) == name.plate
        corners = name.corner_array()
        x1, y1, x2, y2 = (0, 0, 100, 30) if corners is None else (20, 14, 110, 50)
        expected = network_crop(np.ascontiguousarray(read_image(path)[y1:y2, x1:x2]))
        inner = (slice(2, -2), slice(2, -2))  # at the rim the surroundings shine in
        assert np.abs(crop[inner].astype(int) - expected[inner]).max() <= 2


@pytest.mark.parametrize("index", [0, 1])
def test_the_same_key_gives_the_same_view_and_another_seed_another(crops, index):
    data = LPRDataLoader([crops], augmented=True)
    first = data[index, 11]
    assert same(first, data[index, 11]) and same(first, LPRDataLoader(crops, augmented=True)[index, 11])
    assert not np.array_equal(first[0], data[index, 12][0]) and first[1] == data[index, 12][1]
    assert not same(data[index], data[index])  # without a seed each access shows another view
    shown = []
    for _ in range(2):
        torch.manual_seed(0)
        shown.append(data[index])
    assert same(*shown)
    assert first[0].shape == (24, 94, 3) and first[0].dtype == np.uint8


def test_a_size_is_no_alphabet(crops):
    with pytest.raises(UserError, match=r"is an Alphabet, not \(94, 24\); crops are always 24 x 94"):
        LPRDataLoader([crops], (94, 24))


def test_without_augmentation_the_seed_changes_nothing(crops):
    data = LPRDataLoader(crops)
    assert same(data[1, 5], data[1, 6]) and same(data[1, 5], data[1])


def test_several_folders_and_a_subset(crops, tmp_path):
    put_picture(tmp_path / "more" / "deep" / "粤Z99999.jpg", make_picture(24, 94))
    data = LPRDataLoader([crops, tmp_path / "more"])
    assert [crop.name.plate for crop in data.crops] == ["京A12345", "沪B6789D", "沪B6789D", "粤Z99999"]
    part = data.with_crops([data.crops[3], data.crops[0]], augmented=True)
    assert [crop.name.plate for crop in part.crops] == ["粤Z99999", "京A12345"]
    assert part.augmented and not data.augmented and part[0][1] == data[3][1]
    both = part.joined(LPRDataLoader([crops, tmp_path / "more"]))
    assert both.augmented and len(both.labels) == 4  # each once
    assert {crop.path for crop in both.crops} == {crop.path for crop in data.crops}


@pytest.mark.parametrize(("name", "reason"), [
    ("京A1234567_1.png", "has 9 symbols, the limit is 8"), ("警A12345_1.png", "outside the alphabet"),
    ("no label!.png", "gives no label"), ("京A12345_1_3&4.png", "gives no label"),
])
def test_a_bad_label_is_an_error_that_names_the_file(crops, name, reason):
    put_picture(crops / name, make_picture(24, 94))
    with pytest.raises(UserError, match=re.escape(reason)) as caught:
        LPRDataLoader(crops)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_all_symbols_that_an_alphabet_lacks_are_told_at_once(crops):
    for number, text in enumerate(("警A12345", "学B12345", "京A123Ø5")):
        put_picture(crops / f"{text}_{number}.png", make_picture(24, 94))
    with pytest.raises(UserError, match=r"; what the alphabet lacks in all: Ø学警$"):
        LPRDataLoader(crops)


def test_bad_labels_are_all_counted(crops):
    for number in range(8):
        put_picture(crops / f"警A1234{number}_1.png", make_picture(24, 94))
    with pytest.raises(UserError, match=r"警A12340_1\.png: .* \(7 others too: 警A12341_1\.png, .* \.\.\.\)$"):
        LPRDataLoader(crops)


def test_folders_without_crops_are_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        LPRDataLoader(tmp_path / "empty")
    with pytest.raises(UserError, match="is not a folder"):
        LPRDataLoader(tmp_path / "missing")


def test_an_alphabet_of_ones_own(tmp_path):
    put_picture(tmp_path / "xyx_1.png", make_picture(24, 94))
    assert LPRDataLoader(tmp_path, Alphabet("xyz-"))[0][1] == [0, 1, 0]


def test_a_batch_has_normalised_pictures_and_all_labels_in_a_row():
    crop = np.full((24, 94, 3), (0, 127, 255), dtype=np.uint8)
    images, labels, lengths = collate_fn([(crop, [1, 2, 3]), (255 - crop, [4])])
    assert images.shape == (2, 3, 24, 94) and images.dtype == torch.float32
    assert images[0, :, 5, 5].tolist() == pytest.approx([-127.5 / 128, -0.5 / 128, 127.5 / 128])
    assert images[1, 0, 5, 5].item() == pytest.approx(127.5 / 128)
    assert labels.tolist() == [1, 2, 3, 4] and lengths.tolist() == [3, 1]


def test_drawn_plates_show_every_province_and_say_what_they_show():
    seen = []

    class Watching(PlateRenderer):
        """Writes down what it is asked to draw."""

        def render(self, text, *arguments, **options):
            seen.append(text)
            return np.full((20, 60, 3), 128, dtype=np.uint8) if len(seen) > 40 else \
                super().render(text, *arguments, **options)

    alphabet, count = Alphabet(), 900
    data = RenderedPlates([(Watching(), 1.0)], alphabet, [make_picture(60, 200)])
    labels = []
    for index in range(count):
        crop, label, _ = data.view(1000 + index)
        assert crop.shape == (24, 94, 3) and crop.dtype == np.uint8
        labels.append("".join(alphabet.chars[symbol] for symbol in label))
    without = [label == "" for label in labels]
    known = [text.strip("警学挂港澳领使") for text in seen]
    assert [label for label in labels if label] == [text for text, empty in zip(known, without) if not empty]
    assert 0.05 < sum(len(text) == 6 for text in known) / count < 0.25
    assert 0.08 < sum(without) / count < 0.25  # two rows as one, one as two
    shares = [sum(text[0] == province for text in seen) / count for province in PROVINCES]
    assert min(shares) > 0.2 / 31 and max(shares) < 2.5 / 31  # evenly: not one province everywhere
    assert 0.05 < sum(text[0] in LETTERS for text in seen) / count < 0.14  # of the armed forces
    assert {len(text) for text in seen} == {7, 8}
    assert same(data.view(7), data.view(7)) and not np.array_equal(data.view(7)[0], data.view(8)[0])


def test_drawn_plates_stand_in_real_surroundings():
    """Beside the plate the scene shows, never the plate that stood there."""
    picture = np.full((200, 400, 3), (10, 200, 30), dtype=np.uint8)
    corners = np.array([[300, 120], [100, 120], [100, 60], [300, 60]], dtype=np.float32)
    picture[60:120, 100:300] = (250, 0, 250)
    data = RenderedPlates([(PlateRenderer(), 1.0)], Alphabet(), [], [Scene(picture, corners, "藏Z12345")])
    with_scene, with_old_plate, local = 0, 0, []
    data.kind_shares = {"blue": 1}
    for seed in range(100):
        crop, label, _ = data.view(seed)
        local += [len(label)] if label[:2] == Alphabet().encode("藏Z") else []
        crop = crop.astype(int)
        green = (crop[..., 1] - crop[..., [0, 2]].max(axis=2)) > 60
        with_scene += green.mean() > 0.02
        with_old_plate += ((crop[..., [0, 2]].min(axis=2) - crop[..., 1]) > 100).mean() > 0.1
    assert 30 < with_scene < 70 and with_old_plate == 0
    assert 15 < len(local) < 40  # half of the blue ones in the scene are of its plate's city
    assert set(local) == {7}  # and no green one


@pytest.mark.parametrize(("share", "drawn"), [(0.0, 0), (0.3, 6), (1.0, 20)])
def test_training_mixes_drawn_plates_and_crops_by_the_share(crops, share, drawn):
    real = LPRDataLoader(crops, augmented=True)
    rendered = RenderedPlates([(PlateRenderer(), 1.0)], Alphabet())
    data = TrainingPlates(real, rendered, 20, share)
    assert len(data) == 20 and data.rendered_count == drawn
    of_real = [any(data[index, 100 + index][1] == label for label in real.labels) for index in range(20)]
    assert of_real == [False] * drawn + [True] * (20 - drawn)
    assert same(data[15, 9], data[15, 9])
    shown = {tuple(data[19, seed][1]) for seed in range(40)} if share < 1 else set()
    assert share == 1 or shown == {tuple(label) for label in real.labels}  # every crop has its turn


def test_crops_of_rare_provinces_have_their_turn_more_often():
    """Half way, in logarithms, between even crops and even provinces."""
    shares = first_symbol_shares([[3, 40]] * 16 + [[5, 41]])
    assert shares.sum() == pytest.approx(1) and shares[16] / shares[0] == pytest.approx(4)


def test_crops_with_surroundings_have_a_share_of_their_own_and_come_evenly(tmp_path):
    corners = ((80, 20), (10, 20), (10, 4), (80, 4))
    for index in range(10):
        put_picture(tmp_path / f"{CropName('皖A00001', index, corners if index < 6 else None).stem()}.png",
                    make_picture(24, 94))
    data = LPRDataLoader(tmp_path)
    shares, with_corners = sample_shares(data), np.array([crop.name.corners is not None for crop in data.crops])
    assert shares.sum() == pytest.approx(1)
    assert shares[with_corners] == pytest.approx(0.4 / 6) and shares[~with_corners] == pytest.approx(0.6 / 4)
    in_scene = data.with_crops([crop for crop in data.crops if crop.name.corners], False)
    assert sample_shares(in_scene) == pytest.approx(1 / 6)


@pytest.mark.parametrize(("known", "others", "share"), [(5, 5, 0.4), (8, 2, 0.4), (9, 1, 0.7), (99, 1, 0.97),
                                                        (1, 9, 0.3), (2, 8, 0.4), (1, 99, 0.03)])
def test_a_few_crops_of_one_kind_are_not_most_of_the_samples(tmp_path, known, others, share):
    """One of 100 crops without corners was 60 % of all samples."""
    corners = ((80, 20), (10, 20), (10, 4), (80, 4))
    put_picture(tmp_path / "皖A00001_1.png", make_picture(24, 94))
    put_picture(tmp_path / f"{CropName('皖A00001', 2, corners).stem()}.png", make_picture(24, 94))
    data = LPRDataLoader(tmp_path)
    plain, with_corners = sorted(data.crops, key=lambda crop: crop.name.corners is not None)
    shares = sample_shares(data.with_crops([with_corners] * known + [plain] * others, False))
    assert shares.sum() == pytest.approx(1) and shares[:known].sum() == pytest.approx(share)


def test_an_exchanged_plate_has_the_first_symbols_of_one_and_the_last_of_another():
    """Each plate's symbols in their own picture, at their own size and turn; outside the plate nothing changes."""
    renderer, blue = PlateRenderer(), KINDS["blue"]
    one, other = (renderer.render(text, blue, np.random.default_rng(1)) for text in ("皖A11111", "苏B88888"))
    corners = np.array([[370, 110], [110, 80], [100, 20], [360, 50]], dtype=np.float32)
    scene = np.full((150, 400, 3), 30, dtype=np.uint8)
    place = cv2.getPerspectiveTransform(augment.picture_corners(*one.shape[:2]), corners)
    photo = cv2.warpPerspective(one, place, (400, 150), dst=scene.copy(), borderMode=cv2.BORDER_TRANSPARENT)
    for cut, edge in enumerate(augment.CUTS, 1):
        before = photo.copy()
        mixed = augment.exchange(photo, corners, other, augment.picture_corners(*other.shape[:2]), cut)
        assert (photo == before).all() and mixed.dtype == np.uint8
        plate = cv2.warpPerspective(mixed, np.linalg.inv(place), (220, 70)).astype(float)
        left, right = slice(8, int(edge) - 3), slice(int(edge) + 3, 212)
        inner = slice(10, 60)
        for part, right_one, wrong_one in ((left, one, other), (right, other, one)):
            distances = [np.abs(plate[inner, part] - drawn[inner, part]).mean() for drawn in (right_one, wrong_one)]
            assert distances[0] < 0.7 * distances[1], (cut, distances)
        assert (mixed[:15] == scene[:15]).all() and (mixed[:, :95] == scene[:, :95]).all()


def test_exchanged_plates_take_the_colours_of_the_first():
    renderer, rng = PlateRenderer(), np.random.default_rng(2)
    dark, bright = (renderer.render(text, "blue", rng) for text in ("皖A12345", "苏B67890"))
    dark = dark // 4
    mixed = augment.exchange(dark, augment.picture_corners(70, 220), bright, augment.picture_corners(70, 220), 2)
    assert abs(mixed[:, 80:].mean() - dark[:, 80:].mean()) < 6 < bright[:, 80:].mean() - dark[:, 80:].mean()
    bright[20:50, 100:120] = 0  # darker than what the first can show: it stays black
    mixed = augment.exchange(dark, augment.picture_corners(70, 220), bright, augment.picture_corners(70, 220), 2)
    assert mixed[:, 80:].max() < 2 * dark.max() and mixed[30:40, 105:115].max() < 30


@pytest.mark.parametrize("kind", ["yellow", "white", "green"])
def test_a_black_plate_gets_no_dark_symbols(kind):
    renderer, rng = PlateRenderer(), np.random.default_rng(2)
    black, other = (renderer.render("皖A12345", kind, rng) for kind in ("black", "black"))
    light = renderer.render("皖AD12345"[:KINDS[kind].symbols], kind, rng)
    places = [augment.picture_corners(*plate.shape[:2]) for plate in (black, other, light)]
    assert augment.exchange(black, places[0], light, places[2], 2) is None
    assert augment.exchange(light, places[2], black, places[0], 2) is None
    assert augment.exchange(black, places[0], other, places[1], 2) is not None


def test_views_of_light_plates_are_lighter_than_those_of_blue_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(augment, "LIKE_CCPD", 1)

    def brightness(kind: str) -> float:
        plate = PlateRenderer().render("皖A12345", kind, np.random.default_rng(1))
        put_picture(tmp_path / kind / "皖A12345_1.png", plate)
        data = LPRDataLoader(tmp_path / kind, augmented=True)
        return np.mean([data.view(0, seed)[0] for seed in range(200)])

    assert brightness("white") > 1.2 * brightness("blue")


def test_some_views_are_grey_and_some_in_light_of_another_colour(monkeypatch):
    crop = np.full((24, 94, 3), (160, 110, 60), np.uint8)
    for grey in (True, False):  # as the reader's views in grey: not of nearly equal channels
        views = [augment.degrade(crop, np.random.default_rng(seed), grey=grey) for seed in range(20)]
        assert all((view == view[..., :1]).all() == grey for view in views)

    def blue_over_red(crop: np.ndarray) -> np.ndarray:
        means = np.array([augment.look_anyhow(crop, np.random.default_rng(seed)).mean(axis=(0, 1))
                          for seed in range(60)])
        return np.log((means[:, 0] + 1) / (means[:, 2] + 1))

    monkeypatch.setattr(augment, "CASTS", 0)
    assert blue_over_red(crop).mean() > 0.5
    grey = np.full_like(crop, 110)
    plain = blue_over_red(grey).std()
    monkeypatch.setattr(augment, "CASTS", 1)
    assert blue_over_red(grey).std() > 1.5 * plain


def test_a_large_plate_is_averaged_as_the_reader_averages_it():
    """Of fine noise in thousands of pixels next to nothing is left, in training as in reading."""
    picture = noise(600, 1920, 3)
    corners = augment.picture_corners(*picture.shape[:2])
    view = augment.warp(picture, corners, augment.picture_corners(24, 94))
    assert np.std(view) < 1.5 * np.std(network_crop(picture)) + 1
    assert abs(view.mean() - picture.mean()) < 1


def test_most_white_plates_that_are_not_the_forces_are_the_polices():
    plates = [RenderedPlates([(PlateRenderer(), 1.0)], Alphabet()).plate(np.random.default_rng(seed))
              for seed in range(3000)]
    texts = [text for kind, text in plates if kind.name == "white" and text[0] in PROVINCES]
    assert len(texts) > 150 and 0.6 < np.mean([text[-1] == "警" for text in texts]) < 0.8


def test_only_chinese_plates_give_their_scenes_to_drawn_ones(tmp_path):
    """Drawn blue plates take their city, the first two symbols of a text."""
    plate, rows = PlateRenderer().render("皖A12345", "blue", np.random.default_rng(1)), ["file,text"]
    for number, text in enumerate(("A", "AB12345", "皖A12345")):
        name = CropName("皖A12345", number, ((219, 69), (1, 69), (1, 1), (219, 1)))
        put_picture(tmp_path / f"{name.stem()}.png", plate)
        rows.append(f"{name.stem()}.png,{text}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), "utf-8")
    labels = read_labels([tmp_path / "labels.csv"])
    rendered = build_rendered(None, LPRDataLoader(tmp_path, labels=labels), Alphabet())
    assert [scene.text for scene in rendered.scenes] == ["皖A12345"]


def test_a_blue_plate_gets_no_symbols_of_another_colour_whatever_is_round_it():
    renderer, rng = PlateRenderer(), np.random.default_rng(2)
    blue, yellow = (renderer.render("皖A12345", kind, rng) for kind in ("blue", "yellow"))
    red_car = np.full((200, 500, 3), (20, 20, 220), dtype=np.uint8)
    red_car[60:60 + len(blue), 100:100 + blue.shape[1]] = blue
    place = augment.picture_corners(*blue.shape[:2]) + (100, 60)
    whole = augment.picture_corners(*yellow.shape[:2])
    assert augment.exchange(red_car, place, yellow, whole, 2) is None
    assert augment.exchange(red_car, place, blue, whole, 2) is not None
    for away in (1000, -1000, (0, -10 - whole[:, 1].max())):  # corners in a file's name may be wrong
        assert augment.exchange(blue, (whole + away).astype(np.float32), blue, whole, 2) is None


def test_views_show_symbols_of_two_plates_where_both_fit(tmp_path):
    """Plates of seven symbols with the same colour on top, whose corners are known or have been found."""
    renderer, rng = PlateRenderer(), np.random.default_rng(3)
    texts = {"皖A11111": "blue", "苏B22222": "blue", "京C33333": "yellow", "沪D444444": "green"}
    for text, kind in texts.items():
        put_picture(tmp_path / f"{text}_1.png", renderer.render(text, kind, rng))
    data = LPRDataLoader(tmp_path, augmented=True)
    number = {crop.name.plate: index for index, crop in enumerate(data.crops)}
    first, second = number["皖A11111"], number["苏B22222"]
    assert data.view(first, 5, second)[1] == data.labels[first]  # where the symbols are is not known yet
    data.find_corners(lambda picture: augment.picture_corners(*picture.shape[:2]))
    labels = [data.view(first, seed, second)[1] for seed in range(30)]
    mixed = [data.labels[first][:cut] + data.labels[second][cut:] for cut in range(1, 7)]
    assert all(label in mixed for label in labels) and labels.count(mixed[1]) > 10  # most are cut behind the city
    for partner in ("京C33333", "沪D444444"):
        assert data.view(first, 5, number[partner])[1] == data.labels[first]
    assert all(data.view(first, seed, second)[2] is None for seed in range(9))  # found corners are not taught
    others = LPRDataLoader(tmp_path, Alphabet([symbol for symbol in CHARS if symbol != "藏"]), augmented=True)
    others.find_corners(lambda picture: augment.picture_corners(*picture.shape[:2]))
    assert others.view(first, 5, second)[1] == others.labels[first]  # plates that may be laid out otherwise


@pytest.mark.parametrize("corners", [
    augment.picture_corners(5, 20), augment.picture_corners(70, 220) + (300, 0),
    augment.picture_corners(70, 220)[[0, 0, 2, 2]]], ids=["tiny", "beside the crop", "flat"])
def test_corners_that_cannot_be_a_plates_are_left_out(tmp_path, corners):
    put_picture(tmp_path / "皖A12345_1.png", make_picture(70, 220))
    data = LPRDataLoader(tmp_path, augmented=True)
    data.find_corners(lambda picture: corners)
    assert data.crops[0].corners is None
    data.find_corners(lambda picture: augment.picture_corners(70, 220))
    assert data.crops[0].corners.tolist() == augment.picture_corners(70, 220).tolist()


def test_half_of_the_views_are_turned_by_corners_that_were_found(tmp_path, monkeypatch):
    put_picture(tmp_path / "皖A12345_1.png", make_picture(40, 130))
    data, turned = LPRDataLoader(tmp_path, augmented=True), []
    turn = augment.view_with_corners
    monkeypatch.setattr(augment, "view_with_corners", lambda *given: turned.append(1) or turn(*given))
    for found, least, most in ((False, 0, 0), (True, 35, 65)):
        if found:
            data.find_corners(lambda picture: augment.picture_corners(*picture.shape[:2]))
        assert all(data.view(0, seed).corners is None for seed in range(100))  # none to teach by
        assert least <= len(turned) <= most


def test_a_training_set_shows_plates_that_no_crop_has_once_the_corners_are_found(tmp_path):
    renderer, rng = PlateRenderer(), np.random.default_rng(4)
    for text in ("皖A12345", "苏B67890", "京N24680", "沪C13579"):
        put_picture(tmp_path / f"{text}_1.png", renderer.render(text, "blue", rng))
    real = LPRDataLoader(tmp_path, augmented=True)
    data = TrainingPlates(real, None, 100)
    assert all(data[index, index][1] in real.labels for index in range(30))
    real.find_corners(lambda picture: augment.picture_corners(*picture.shape[:2]))
    new = sum(data[index, index][1] not in real.labels for index in range(100))
    assert 35 < new < 70  # seven in ten, less those with themselves


def test_corners_are_found_where_the_spatial_transformer_looks():
    """A new one looks at the whole crop, whatever its size."""
    found = find_corners(Reader(68).eval(), make_picture(50, 300))
    assert found == pytest.approx((np.array(STRAIGHT_CORNERS) + 1) / 2 * (300, 50), abs=1e-3)


def test_training_on_one_kind_alone_and_on_nothing(crops):
    real, rendered = LPRDataLoader(crops, augmented=True), RenderedPlates([(PlateRenderer(), 1.0)], Alphabet())
    assert TrainingPlates(real, None, 5).rendered_count == 0
    assert TrainingPlates(None, rendered, 5).rendered_count == 5
    with pytest.raises(UserError, match="nothing to train on"):
        TrainingPlates(None, None, 5)


def test_plates_are_set_aside_by_number(tmp_path):
    for index in range(30):
        put_picture(tmp_path / f"京A{index % 10:05d}_{index}.png", make_picture(24, 94))
    train, aside = split_by_plate(LPRDataLoader(tmp_path, augmented=True), 0.3)
    first, second = ({crop.name.plate for crop in part.crops} for part in (train, aside))
    assert not first & second and len(first) == 7 and len(second) == 3
    assert len(train) == 21 and len(aside) == 9 and train.augmented and not aside.augmented
    with pytest.raises(UserError, match="too few to set"):
        split_by_plate(train.with_crops(train.crops[:1], True), 0.3)
    rest, given = split_by_plate(train, 0.0, {"京A00001", sorted(first)[0]})
    assert {crop.name.plate for crop in given.crops} == first & {"京A00001", sorted(first)[0]}
    assert len(rest) < len(train)
    _, both = split_by_plate(LPRDataLoader(tmp_path, augmented=True), 0.3, {min(first)})
    assert {crop.name.plate for crop in both.crops} == second | {min(first)}
    twice = LPRDataLoader([tmp_path, tmp_path], augmented=True)  # to have these crops more often
    assert [*map(len, split_by_plate(twice, 0.3))] == [42, 9]
    with pytest.raises(UserError, match="all 7 training plates"):
        split_by_plate(train, 0.0, first)


def test_plates_set_aside_stay_so_when_crops_are_added(tmp_path):
    def aside(count: int) -> set[str]:
        for index in range(count):
            put_picture(tmp_path / f"京A{index:05d}_0.png", make_picture(24, 94))
        return {crop.name.plate for crop in split_by_plate(LPRDataLoader(tmp_path, augmented=True), 0.3)[1].crops}

    few, many = aside(60), aside(180)
    assert len(few) == 18 and len(many) == 54 and len(few & many) >= 15  # by chance it would be five


# Geometry.

MARKS = ((0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 255, 255))  # of right-bottom, left-bottom, left-top, right-top


def marked(corners: np.ndarray, height: int = 200, width: int = 400) -> np.ndarray:
    """A grey picture with a coloured square of 17 pixels round each corner."""
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    for (x, y), colour in zip(corners.astype(int), MARKS):
        picture[max(0, y - 8):y + 9, max(0, x - 8):x + 9] = colour
    return picture


def place_of(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The centre (x, y), counted from the edges of pixels, of what has the colour."""
    weights = np.clip(1 - np.abs(image.astype(float) - colour).max(axis=2) / 100, 0, None)
    y, x = np.mgrid[0:image.shape[0], 0:image.shape[1]] + 0.5
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def test_corners_land_where_they_are_asked_to():
    source = np.array([[310.5, 150.5], [90.5, 140.5], [80.5, 60.5], [300.5, 50.5]], dtype=np.float32)
    target = np.array([[80, 19], [12, 17], [15, 6], [84, 4]], dtype=np.float32)
    crop = augment.warp(marked(source), source, target)
    assert crop.shape == (24, 94, 3)
    for wanted, colour in zip(target, MARKS):
        assert np.abs(place_of(crop, colour) - wanted).max() < 0.4, colour


def test_the_whole_picture_onto_the_whole_crop_is_a_plain_resize():
    picture = make_picture(48, 188)
    corners = augment.picture_corners(48, 188)
    crop = augment.warp(picture, corners, augment.picture_corners(24, 94))
    expected = picture.reshape(24, 2, 94, 2, 3).mean(axis=(1, 3))
    assert np.abs(crop - expected).max() <= 2


def test_round_the_picture_shows_the_border_or_the_background():
    picture = np.full((20, 60, 3), 200, dtype=np.uint8)
    corners, target = augment.picture_corners(20, 60), np.array([[70, 18], [24, 18], [24, 6], [70, 6]], np.float32)
    assert (augment.warp(picture, corners, target) == 200).all()
    background = np.full((24, 94, 3), 10, dtype=np.uint8)
    crop = augment.warp(picture, corners, target, background)
    assert (crop[8:16, 27:67] == 200).all() and (crop[:4] == 10).all() and (crop[:, :20] == 10).all()
    assert (background == 10).all()


def test_at_a_drawn_plates_rounded_corners_its_surroundings_show(monkeypatch):
    renderer, whole = PlateRenderer(), augment.picture_corners(24, 94)
    monkeypatch.setattr(renderer, "render", lambda text, kind, rng: np.full((70, 220, 3), 200, np.uint8))
    monkeypatch.setattr(augment, "random_background", lambda pictures, rng: np.zeros((24, 94, 3), np.uint8))
    monkeypatch.setattr(augment, "nearly_straight_pose", lambda rng, error: whole)
    monkeypatch.setattr(augment, "random_pose", lambda rng: whole)
    monkeypatch.setattr(augment, "degrade", lambda crop, rng, tone, grey: crop)
    rendered = RenderedPlates([(renderer, 1.0)], Alphabet())
    crop, _, _ = rendered.view_of(KINDS["blue"], "皖A12345", np.random.default_rng(0), for_colour=True)
    assert crop[[0, 0, -1, -1], [0, -1, 0, -1]].max() < 120 and crop[2:-2, 2:-2].min() == 200
    assert crop[0, 4:-4].min() > 150 and crop[4:-4, 0].min() > 150


def test_a_view_as_photographed_is_the_jittered_box():
    """The corners' box lies on the crop's edges but for the jitter, which stays within its bounds."""
    corners = np.array([[310, 150], [90, 150], [90, 50], [310, 50]], dtype=np.float32)
    picture = marked(corners)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        if rng.random() < 0.3:  # the first draw decides: as photographed
            view, found = augment.view_with_corners(picture, corners, np.random.default_rng(seed))
            x1, y1, x2, y2 = augment.jitter_box(augment.bounding_box(corners), rng)
            expected = (corners - (x1, y1)) / (x2 - x1, y2 - y1) * (94, 24)
            assert np.array_equal(view, augment.warp(picture, corners, expected))
            assert np.array_equal(found, expected)


@given(st.integers(0, 10**9), st.floats(-500, 500), st.floats(-500, 500), st.floats(20, 400), st.floats(10, 200))
def test_jitter_stays_within_its_bounds(seed, x, y, width, height):
    found = augment.jitter_box((x, y, x + width, y + height), np.random.default_rng(seed))
    off = (found - (x, y, x + width, y + height)) / (width, height, width, height)
    assert (np.abs(off) <= np.array([0.1, 0.13, 0.12, 0.13]) + 1e-6).all() and off[2] <= 0.1 + 1e-6


def test_jitter_is_relative_to_the_box():
    for seed in range(40):
        unit, large = (augment.jitter_box((0, 0, width, height), np.random.default_rng(seed))
                       for width, height in ((1, 1), (200, 60)))
        np.testing.assert_allclose(unit * (200, 60, 200, 60), large)


def test_what_a_first_look_leaves_is_nearly_straight():
    rng = np.random.default_rng(0)
    straight = (np.array(STRAIGHT_CORNERS) + 1) / 2 * (94, 24)
    off = np.stack([augment.nearly_straight_pose(rng) for _ in range(300)]) - straight
    assert np.abs(off.mean(axis=0)).max() < 1
    assert off.std(axis=0).min() > 1 and off.std(axis=0).max() < 6


def test_poses_differ_and_their_boxes_fill_the_crop():
    rng = np.random.default_rng(0)
    poses = np.stack([augment.random_pose(rng) for _ in range(300)])
    low, high = poses.min(axis=1), poses.max(axis=1)
    fills = (np.abs(low / (94, 24)) < 0.2).all(axis=1) & (np.abs(high / (94, 24) - 1) < 0.2).all(axis=1)
    assert fills.mean() > 0.8  # the others are later looks
    rise = (poses[:, 3, 1] - poses[:, 2, 1]) / 24  # of the upper edge
    assert rise.max() > 0.3 and rise.min() < -0.3 and np.abs(rise).min() < 0.05
    right_bottom, left_bottom, left_top, right_top = poses.mean(axis=0)
    assert left_top[0] < right_top[0] and left_bottom[0] < right_bottom[0] and left_top[1] < left_bottom[1]


def test_every_flaw_leaves_a_crop():
    crop = make_picture(24, 94)
    changed = 0
    for seed in range(150):
        found = augment.degrade(crop, np.random.default_rng(seed))
        assert found.shape == (24, 94, 3) and found.dtype == np.uint8
        assert np.array_equal(found, augment.degrade(crop, np.random.default_rng(seed)))
        changed += not np.array_equal(found, crop)
    assert changed > 140 and np.array_equal(crop, make_picture(24, 94))


@pytest.mark.parametrize(("look", "name", "least", "most"), [
    (augment.look_like_ccpd, "light_gradient", 0.15, 0.35), (augment.look_like_ccpd, "precipitation", 0.05, 0.2),
    (augment.look_like_ccpd, "coded_in_photo", 0.2, 0.75), (augment.look_anyhow, "light_gradient", 0.2, 0.4),
    (augment.look_anyhow, "precipitation", 0.05, 0.2), (augment.look_anyhow, "lower_resolution", 0.4, 0.6),
    (augment.look_anyhow, "blur", 0.3, 0.5)])
def test_every_flaw_is_in_its_share_of_the_crops(monkeypatch, look, name, least, most):
    flaw, seen = getattr(augment, name), []
    monkeypatch.setattr(augment, name, lambda *given: seen.append(1) is None and flaw(*given))
    for seed in range(200):
        look(make_picture(24, 94), np.random.default_rng(seed))
    assert least < len(seen) / 200 < most


def test_some_crops_are_veiled(monkeypatch):
    monkeypatch.setattr(augment, "precipitation", lambda image, rng: image)
    monkeypatch.setattr(augment, "light_gradient", lambda image, rng: image)
    black = np.zeros((24, 94, 3), np.uint8)
    means = np.array([augment.look_anyhow(black, np.random.default_rng(seed)).mean() for seed in range(200)])
    assert 0.03 < (means > 45).mean() < 0.2  # what every crop may get is up to 30


def test_light_falls_in_ramps_shadows_streaks_and_reflections():
    flat = np.full((24, 94, 3), 110, np.float32)
    change = np.stack([augment.light_gradient(flat, np.random.default_rng(seed))[..., 0] for seed in range(300)]) - 110
    low, high = change.min(axis=(1, 2)), change.max(axis=(1, 2))
    corners = np.abs(change[:, ::23, ::93]).max(axis=(1, 2))
    shadow, reflection = (high < 1) & (low < -10), (low > -1e-3) & (high > 10)
    streak = shadow & (corners < 5)
    assert ((low < -3) & (high > 3)).mean() > 0.1 and shadow.mean() > 0.15 and reflection.mean() > 0.15
    assert 0.01 < streak.mean() < shadow.mean() / 2
    to_the_right = change[shadow, :, 47:].mean(axis=(1, 2)) < change[shadow, :, :47].mean(axis=(1, 2))
    assert 0.3 < to_the_right.mean() < 0.7
    widths = (change[reflection].max(axis=1) > 0.5 * high[reflection, None]).sum(axis=1)
    assert widths.min() > 3 and np.median(widths) > 15


def test_snow_is_brighter_than_a_plate_and_mud_darker():
    flat = np.full((24, 94, 3), 150, np.float32)
    change = np.stack([augment.precipitation(flat, np.random.default_rng(seed)) for seed in range(100)]) - 150
    brighter, darker = change.max(axis=(1, 2, 3)) > 3, change.min(axis=(1, 2, 3)) < -3
    assert brighter.mean() > 0.5 and 0.15 < darker.mean() < 0.45 and not (brighter & darker).any()


def test_half_of_the_crops_are_as_dark_and_as_blurred_as_ccpd():
    """Sharp crops: many come out as blurred as those of CCPD's blur subset, whose published figures lie below 7."""
    crop = np.random.default_rng(0).integers(60, 190, (24, 94, 3), dtype=np.uint8)
    looks = [augment.look_like_ccpd(crop, np.random.default_rng(seed)) for seed in range(120)]
    sharpness, brightness = np.array([(camera.sharpness(look), look.mean()) for look in looks]).T
    assert 0.2 < (sharpness < 7 * augment.IN_CROP).mean() < 0.7 and camera.sharpness(crop) > 20
    assert brightness.min() < 30 and brightness.max() > 140


def test_plates_that_are_brighter_than_blue_ones_stay_so_in_the_light_of_ccpd():
    crop = np.random.default_rng(0).integers(90, 130, (24, 94, 3), dtype=np.uint8)

    def brightness(tone: float) -> float:
        return np.mean([augment.look_like_ccpd(crop, np.random.default_rng(seed), tone).mean() for seed in range(40)])

    assert 1.15 < brightness(1.4) / brightness(1.0) < 1.45 and brightness(0.6) < 0.75 * brightness(1.0)


def test_the_light_of_a_scene_is_told_by_blue_plates_alone(tmp_path):
    corners = np.array([(180.0, 70), (40, 70), (40, 30), (180, 30)])
    for number, colour in enumerate([(200, 80, 30), (220, 220, 220), (60, 180, 230)]):
        picture = np.full((100, 220, 3), (180, 40, 20), np.uint8)  # a blue car
        picture[30:70, 40:180] = colour
        name = CropName("皖A12345", number, tuple(map(tuple, corners.astype(int).tolist())))
        put_picture(tmp_path / f"{name.stem()}.jpg", picture)
    rendered = build_rendered(None, LPRDataLoader([tmp_path]), Alphabet())
    assert [picture[50, 100].argmax() for picture, _, _ in rendered.scenes] == [0] and len(rendered.scenes) == 1


@pytest.mark.parametrize(("crops", "pictures"), [(2, 2), (3, 3), (5, 3), (6, 3)])
def test_up_to_so_many_crops_surround_drawn_plates(tmp_path, monkeypatch, crops, pictures):
    monkeypatch.setattr("LPRNet.data.rendered.SURROUNDINGS", 3)
    for number in range(crops):
        put_picture(tmp_path / f"皖A12345_{number}.png", make_picture(24, 94, number))
    assert len(build_rendered(None, LPRDataLoader(tmp_path), Alphabet()).pictures) == pictures


def test_plates_for_the_colour_are_in_colour_and_keep_their_rows():
    rendered, kind = RenderedPlates([(PlateRenderer(), 1.0)], Alphabet()), KINDS["yellow_double"]
    samples = {for_colour: [rendered.view_of(kind, "皖A12345", np.random.default_rng(seed), for_colour)
                            for seed in range(40)] for for_colour in (False, True)}
    grey = {key: [bool((sample.crop == sample.crop[..., :1]).all()) for sample in kept]
            for key, kept in samples.items()}
    assert any(sample.label for sample in samples[False]) and any(grey[False])  # a text is that of rows side by side
    assert not any(sample.label for sample in samples[True]) and not any(grey[True])


def test_nine_of_ten_drawn_plates_are_in_the_typeface_that_is_given(tmp_path):
    put_picture(tmp_path / "glyphs" / "140_A.jpg", np.full((140, 70, 3), 255, np.uint8))
    put_picture(tmp_path / "crops" / "皖A12345_1.png", make_picture(24, 94))
    rendered = build_rendered(tmp_path / "glyphs", LPRDataLoader(tmp_path / "crops"), Alphabet())
    assert list(rendered.renderers.values()) == [0.9, 0.1]
    given, own = rendered.renderers
    cells = [renderer.render("AAAAAAA", "blue", np.random.default_rng(0)) for renderer in (given, own)]
    assert np.abs(cells[0].astype(int) - cells[1]).max() > 50


def test_jpeg_leaves_less_of_a_plate_that_is_small_in_its_photo():
    crop = cv2.GaussianBlur(make_picture(24, 94), (0, 0), 0.8)
    lost = []
    for width in (90, 180, 360):
        found = [augment.coded_in_photo(crop, width, np.random.default_rng(seed)) for seed in range(8)]
        assert all(view.shape == crop.shape and view.dtype == np.uint8 for view in found)
        lost.append(np.abs(np.array(found, int) - crop).mean())
    assert lost[0] > 1.4 * lost[1] > 2 * lost[2]


# Cutting crops out of photos.

TILTED = ((310, 250), (112, 240), (100, 180), (300, 196))
BOXY = ((310, 250), (100, 250), (100, 180), (310, 180))


def test_drawn_plates_have_the_light_of_the_scene_and_their_own_tone():
    photo, corners = np.full((60, 200, 3), 55, np.uint8), augment.picture_corners(60, 200)

    def lit(tone: int) -> float:
        plate = np.full((14, 44, 3), tone, np.uint8)
        return np.mean([augment.match_light(plate, photo, corners, np.random.default_rng(seed)) for seed in range(20)])

    assert lit(110) == pytest.approx(55, rel=0.1) and lit(160) == pytest.approx(80, rel=0.1)


def photo_name(plate: str, vertices: tuple = TILTED, brightness: int = 90) -> str:
    return Annotation("020", (90, 85), (100, 180, 310, 250), vertices, plate, brightness, 20).file_name()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Train photos: a plate in three of them, in two folders and under one name in both; and a val folder."""
    train, val = tmp_path / "ccpd_train", tmp_path / "ccpd_val"
    for folder, name in (("ccpd_base", photo_name("京A12345")), ("ccpd_tilt", photo_name("京A12345")),
                         ("ccpd_base", photo_name("京A12345", brightness=120)),
                         ("ccpd_base", photo_name("沪B6789D", BOXY))):
        put_picture(train / folder / name, marked(np.array(parse(name).vertices), 400, 500))
    put_picture(train / "ccpd_np" / "np_000001.jpg", make_picture(40, 50))  # a photo without a plate is left alone
    put_picture(val / "ccpd_base" / photo_name("粤C11111"), marked(np.array(TILTED), 400, 500))
    return tmp_path


def cut_all(call, photos: Path, *more: str, cwd: Path | None = None):
    return call(preprocess.main, "-dir_train", photos / "ccpd_train", "-dir_val", photos / "ccpd_val",
                "--out", photos / "out", *more, cwd=cwd)


def test_every_photo_gives_a_crop_and_none_replaces_another(call, photos):
    done = cut_all(call, photos)
    assert done.status == 0, done.err
    names = [CropName.parse(path) for path in files_below(photos / "out" / "train")]
    assert sorted(name.plate for name in names) == ["京A12345"] * 3 + ["沪B6789D"]
    assert [CropName.parse(path).plate for path in files_below(photos / "out" / "val")] == ["粤C11111"]
    assert f"crops of 4 photos in {photos / 'out' / 'train'}" in done.out
    assert "next: python LPRNet/LPRNet_Train.py" in done.out
    data = LPRDataLoader(photos / "out" / "train")
    assert {len(label) for label in data.labels} == {7}


def test_the_corners_in_the_name_are_where_the_plate_is(call, photos):
    cut_all(call, photos)
    checked = 0
    for path in sorted((photos / "out" / "train").iterdir()):
        name = CropName.parse(path)
        if name.plate == "沪B6789D":  # its corners only repeat the box: the bare box is cut
            assert name.corners is None and read_image(path).shape == (70, 210, 3)
            continue
        crop, checked = read_image(path), checked + 1
        for (x, y), colour in zip(name.corners, MARKS):
            assert np.abs(place_of(crop, colour) - (x + 0.5, y + 0.5)).max() < 0.7
        assert crop.shape == (70 + 2 * 84, 210 + 2 * 84, 3)  # surroundings of 0.4 of the width
    assert checked == 3


def test_no_context_and_untrusted_corners_cut_the_bare_box(call, photos):
    assert cut_all(call, photos, "--context", "0").status == 0
    for path in (photos / "out" / "train").iterdir():
        assert CropName.parse(path).corners is None and read_image(path).shape == (70, 210, 3)
    listed = photos / "list.txt"
    listed.write_text(f"ccpd_base/{photo_name('粤C11111')}\n")
    assert cut_all(call, photos, "--plain_list", str(listed)).status == 0
    (plain,) = (path for path in (photos / "out" / "val").iterdir())
    assert CropName.parse(plain).corners is None
    assert len(files_below(photos / "out" / "train")) == 4  # those that were cut without surroundings are gone


def test_crops_of_no_photo_stay_and_are_said(call, photos):
    assert "of no photo" not in cut_all(call, photos).out
    next((photos / "ccpd_val").rglob("*.jpg")).unlink()
    put_picture(photos / "ccpd_val" / "ccpd_base" / photo_name("粤C22222"), marked(np.array(TILTED), 400, 500))
    done = cut_all(call, photos)
    assert done.status == 0 and f"{photos / 'out' / 'val'} has 1 pictures of no photo in" in done.out
    assert len(files_below(photos / "out" / "val")) == 2


def test_running_again_gives_the_same_files(call, photos):
    cut_all(call, photos)
    before = {name: zlib.crc32((photos / "out" / name).read_bytes()) for name in files_below(photos / "out")}
    assert cut_all(call, photos).status == 0
    assert {name: zlib.crc32((photos / "out" / name).read_bytes()) for name in files_below(photos / "out")} == before


def test_crops_that_are_there_are_not_cut_again(call, photos):
    cut_all(call, photos)
    first, *others = sorted((photos / "out" / "train").iterdir())
    first.unlink()
    times = [path.stat().st_mtime_ns for path in others]
    assert cut_all(call, photos).status == 0
    assert first.exists() and [path.stat().st_mtime_ns for path in others] == times


def test_a_crop_from_the_photos_corner_is_cut_again_with_another_context(call, tmp_path):
    """Its name stays the same: the plate lies at the same place in it."""
    corners = ((110, 40), (8, 36), (5, 5), (107, 9))
    name = Annotation("020", (90, 90), (5, 5, 110, 40), corners, "京A12345", 90, 20).file_name()
    put_picture(tmp_path / "photos" / "ccpd_base" / name, make_picture(200, 300))
    sizes = []
    for context in (0.2, 0.6):
        assert call(preprocess.main, "-dir_train", tmp_path / "photos", "-dir_val", "--out", tmp_path / "out",
                    "--context", context).status == 0
        (crop,) = (tmp_path / "out" / "train").iterdir()
        sizes.append(read_image(crop).shape[:2])
    assert sizes == [(61, 131), (103, 173)]


def test_a_photo_that_was_replaced_is_cut_again(call, photos):
    cut_all(call, photos)
    (crop,) = (photos / "out" / "val").iterdir()
    (photo,) = (photos / "ccpd_val" / "ccpd_base").iterdir()
    put_picture(photo, np.zeros((400, 500, 3), np.uint8))
    os.utime(photo, (time.time() + 9, time.time() + 9))
    assert cut_all(call, photos).status == 0 and read_image(crop).max() == 0


def test_without_photos_to_validate_on_only_the_others_are_cut(call, photos):
    done = call(preprocess.main, "-dir_train", photos / "ccpd_train", "-dir_val", "--out", photos / "out")
    assert done.status == 0, done.err
    assert len(files_below(photos / "out" / "train")) == 4 and not (photos / "out" / "val").exists()


def test_it_runs_from_any_folder(run_script, photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    done = run_script("LPRNet/data/preprocess.py", "-dir_train", "../ccpd_train", "--dir_val", "../ccpd_val",
                      "--out", "crops", cwd=tmp_path / "elsewhere", module=True)
    assert done.status == 0, done.err
    assert len(files_below(tmp_path / "elsewhere" / "crops" / "train")) == 4


def test_photos_that_cannot_be_used_are_named_and_the_others_cut(call, photos):
    folder = photos / "ccpd_train" / "ccpd_base"
    whole = (folder / photo_name("京A12345")).read_bytes()
    (folder / photo_name("川D22222")).write_bytes(whole[:len(whole) // 2])
    (folder / photo_name("川D33333")).write_bytes(b"")
    put_picture(folder / photo_name("川D44444"), make_picture(100, 90))  # the box lies outside this picture
    put_picture(folder / "025-95_113-1&2_3&4-5&6-0_0-37-15.jpg", make_picture(100, 90))
    police = Annotation("020", (90, 85), (100, 180, 310, 250), TILTED, "警A12345", 90, 20).file_name()
    put_picture(folder / police, make_picture(400, 500))
    done = cut_all(call, photos)
    assert done.status == 1
    left_out = [line for line in done.err.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 5
    for name in (photo_name("川D22222"), photo_name("川D33333"), photo_name("川D44444"), police, "025-95_113-1&2"):
        assert any(name in line for line in left_out)
    assert sorted(CropName.parse(path).plate for path in files_below(photos / "out" / "train")) == \
        ["京A12345"] * 3 + ["沪B6789D"]


def test_missing_folders_and_lists_are_said_before_anything_is_written(call, photos):
    assert "is not there" in call(preprocess.main, "-dir_train", photos / "ccpd_train", "-dir_val", photos / "none",
                                  "--out", photos / "out").sentence()
    assert "cannot read" in cut_all(call, photos, "--plain_list", str(photos / "none.txt")).sentence()
    put_picture(photos / "other" / "holiday.jpg", make_picture(40, 40))
    done = call(preprocess.main, "-dir_train", photos / "other", "-dir_val", photos / "ccpd_val",
                "--out", photos / "out")
    assert done.status == 2 and "holds no photo with a CCPD name" in done.sentence()
    assert not (photos / "out").exists()


@pytest.mark.parametrize("context", ["nan", "inf", "-0.1"])
def test_a_context_that_cannot_be_is_refused(call, photos, context):
    assert "--context must be" in cut_all(call, photos, "--context", context).sentence()
    assert not (photos / "out").exists()


def test_crops_of_rows_that_are_gone_are_removed_and_nothing_else(call, tmp_path):
    rows = ["file,x1,y1,x2,y2,text"]
    for name in ("a", "b", "c"):
        put_picture(tmp_path / f"{name}.png", make_picture(60, 80))
        rows.append(f"{name}.png,10,10,{90 if name == 'c' else 50},40,X{name}")
    out = tmp_path / "out"
    put_picture(out / "1_mine.jpg", make_picture(20, 20))

    def names() -> list[str]:
        return sorted(re.sub(r"^\d{2,}", "", name) for name in files_below(out))

    for left, found in ((rows, ["_a.jpg", "_b.jpg"]), (rows[:1] + rows[2:], ["_b.jpg"])):
        (tmp_path / "boxes.csv").write_text("\n".join(left))
        done = call(crops_of_boxes.main, "--boxes", tmp_path / "boxes.csv", "--out", out)
        assert done.status == 1 and "the box goes beyond the picture (80 x 60 pixels)" in done.err
        assert names() == sorted([*found, "1_mine.jpg", "labels.csv"])
    (out / "labels.csv").write_text("file,text\n../a.png,X\nlabels.csv,X\n")  # somebody else's
    before = (out / "labels.csv").read_bytes()
    assert "not of this script" in call(crops_of_boxes.main, "--boxes", tmp_path / "boxes.csv", "--out", out).sentence()
    assert (out / "labels.csv").read_bytes() == before and names() == ["1_mine.jpg", "_b.jpg", "labels.csv"]


def test_a_full_disk_is_said_once_and_not_for_every_photo(call, photos):
    with full_disk(0):
        done = cut_all(call, photos)
    assert done.status == 2 and "cannot write" in done.sentence() and "left out" not in done.err
