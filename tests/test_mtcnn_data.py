"""From photos to training lists: the split, views, windows, the sample store and the generators."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ccpd import camera, views
from ccpd.annotation import parse
from ccpd.geometry import Pose
from ccpd.layout import corners_of_kind, corners_of_ordinary, enlarge
from ccpd.plate_kinds import ALL_KINDS, KINDS
from ccpd.plates import PlateRenderer, plate_mask
from ccpd.symbols import LETTERS
from ccpd.tones import tone_of
from ccpd.views import (
    View,
    bounding_box,
    box_corners,
    change_look,
    make_view,
    mild_warp,
    transform,
    warp_between,
)
from MTCNN.data_preprocessing import gen_Onet_train_data, gen_Pnet_train_data, swap
from MTCNN.data_preprocessing import generate as generation
from MTCNN.data_preprocessing.assemble import assemble, run
from MTCNN.data_preprocessing.choosers import ONetWindows, PNetWindows
from MTCNN.data_preprocessing.generate import ViewSamples, generate, photos_by_split
from MTCNN.data_preprocessing.photos import read_photos
from MTCNN.data_preprocessing.sample_store import SAMPLE_KINDS, SampleWriter, open_array
from MTCNN.data_preprocessing.swap import PlateSwapper, replace_plate, swapped_plate
from MTCNN.data_preprocessing.windows import (
    Counts,
    choose,
    draw_windows,
    kinds_of,
    move_edge,
    overlaps,
    touching,
    windows_anywhere,
    windows_around,
)
from MTCNN.data_set import preprocess
from MTCNN.data_set.split import belongs_to_val
from MTCNN.detector import Detector, Thresholds
from MTCNN.model.MTCNN_nets import ONet, PNet
from MTCNN.paths import ONET_WEIGHTS, PNET_WEIGHTS
from MTCNN.pyramid import make_sheets, plan_levels
from MTCNN.train.dataset import SampleList
from platekit.boxes import decode_offsets
from platekit.checkpoints import save_checkpoint
from platekit.corners import share_of_box
from platekit.crops import crop_resize, normalise, to_picture
from platekit.errors import UserError
from platekit.files import alone
from platekit.images import read_image
from platekit.inputs import find_images, read_lines
from platekit.opencv import cv2
from platekit.paths import SAMPLES
from tests.conftest import files_below, make_picture, needs_locks, put_picture
from tests.makers import CORNERS, noise, photo, photo_folder, photo_name

# the split

def test_split_is_by_plate_and_keeps_every_byte(call, tmp_path):
    source = tmp_path / "ccpd"
    plates = [f"皖A{number:05d}" for number in range(40)]
    for index, plate in enumerate(plates):
        for area, subset in (("01", "ccpd_base"), ("02", "ccpd_base"), ("03", "ccpd_tilt")):
            path = source / subset / photo_name(plate, area=area)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{index} {area} {subset}".encode())
    (source / "ccpd_np").mkdir()
    for number in range(20):
        (source / "ccpd_np" / f"{number}.jpg").write_bytes(b"np %d" % number)
    train, val = tmp_path / "a" / "train", tmp_path / "b" / "val"
    arguments = ("--img_dirs", source, "-dir_train", train, "--dir_val", val, "--val_share", 0.3, "--seed", 5)
    outcome = call(preprocess.main, *arguments)
    assert outcome.status == 0 and "gen_Pnet_train_data" in outcome.out
    sides = [{parse(path).plate for path in side.rglob("*-*.jpg")} for side in (train, val)]
    assert not sides[0] & sides[1] and sides[0] | sides[1] == set(plates)
    assert 4 <= len(sides[1]) <= 20
    assert (train / "ccpd_np").is_dir() and (val / "ccpd_np").is_dir()
    content = Counter(path.read_bytes() for path in source.rglob("*.jpg"))
    assert Counter(path.read_bytes() for side in (train, val) for path in side.rglob("*.jpg")) == content
    before = files_below(train)
    again = call(preprocess.main, *arguments)
    assert again.status == 0 and "wrote 0 photos" in again.out and files_below(train) == before


def test_a_photo_that_cannot_be_read_is_left_out_of_the_split(call, tmp_path):
    source = photo_folder(tmp_path / "ccpd")
    gone = source / "ccpd_base" / photo_name("苏E33333")
    gone.symlink_to(tmp_path / "not there")
    done = call(preprocess.main, "--img_dirs", source, "-dir_train", tmp_path / "train", "-dir_val", tmp_path / "val")
    assert f"left out: cannot read {gone}: " in done.out + done.err and "Traceback" not in done.err
    assert len(list((tmp_path / "train").rglob("*.jpg"))) + len(list((tmp_path / "val").rglob("*.jpg"))) >= 2


def test_two_photos_of_one_name_are_both_kept(call, tmp_path):
    for release in ("old", "new"):
        path = tmp_path / release / "ccpd_base" / photo_name("皖A12345")
        path.parent.mkdir(parents=True)
        path.write_bytes(release.encode())
        os.utime(path, (0, 0))  # of one size and time too
    outcome = call(preprocess.main, "--img_dirs", tmp_path / "old", tmp_path / "new", "--dir_train", tmp_path / "train",
                   "--dir_val", tmp_path / "val", "--val_share", 0)
    assert outcome.status == 0
    kept = {path.read_bytes() for path in (tmp_path / "train").rglob("*.jpg")}
    assert kept == {b"old", b"new"}


@pytest.mark.parametrize(("train", "val"), [("x", "x"), ("x", "x/val"), ("x/train", "x")])
def test_split_refuses_folders_in_one_another(call, tmp_path, train, val):
    photo_folder(tmp_path / "ccpd")
    outcome = call(preprocess.main, "--img_dirs", tmp_path / "ccpd", "--dir_train", tmp_path / train, "--dir_val",
                   tmp_path / val)
    assert outcome.status == 2 and "lie apart" in outcome.sentence() and not (tmp_path / "x").exists()


def test_a_split_is_not_mixed_with_one_of_another_seed(call, tmp_path):
    photo_folder(tmp_path / "ccpd", [f"皖A{number:05d}" for number in range(20)])
    sides = tmp_path / "train", tmp_path / "val"
    split = ("--img_dirs", tmp_path / "ccpd", "--dir_train", sides[0], "--dir_val", sides[1], "--val_share", 0.4)
    assert call(preprocess.main, *split).status == 0
    assert "was split by val_share 0.4, seed 0" in call(preprocess.main, *split, "--seed", 1).sentence()
    photo_folder(tmp_path / "other", [f"皖A{number:05d}" for number in range(20)])  # a subset with the same plates
    later = ("--img_dirs", tmp_path / "other", *split[2:-1], 0.1)
    assert "plates would be on both sides" in call(preprocess.main, *later).sentence()
    (sides[0] / ".split").unlink()  # of an earlier version
    assert "another --seed" in call(preprocess.main, *split, "--seed", 1).sentence()
    assert not set(files_below(sides[0])) & set(files_below(sides[1]))


# photos and views

def test_corners_that_are_only_the_box_are_not_believed(tmp_path, capsys):
    box = np.array([100.0, 96, 270, 150])
    photo_folder(tmp_path)
    put_picture(tmp_path / "ccpd_base" / photo_name("皖A99999", box_corners(box).astype(int).tolist()), photo())
    put_picture(tmp_path / "ccpd_np" / "17.jpg", photo())
    put_picture(tmp_path / "ccpd_base" / "holiday.jpg", photo())
    distrusted = photo_name("苏B54321")
    (tmp_path / "plain.txt").write_text(f"frames/ccpd_base/{distrusted}\n", encoding="utf-8")
    (tmp_path / "ignore.txt").write_text(f"{photo_name('皖A12345')} 1 2 30 40.5\n", encoding="utf-8")
    photos = {p.path.name: p for p in read_photos([tmp_path], tmp_path / "plain.txt", tmp_path / "ignore.txt")}
    assert len(photos) == 5 and "holiday.jpg" not in photos
    assert photos["17.jpg"].box is None
    assert photos[distrusted].corners is None and photos[distrusted].box is not None
    assert photos[photo_name("皖A12345")].ignore.tolist() == [[1, 2, 30, 40.5]]
    assert "names in" not in capsys.readouterr().out
    (tmp_path / "plain.txt").write_text(photo_name("皖A12345").removesuffix(".jpg"), encoding="utf-8")
    read_photos([tmp_path], tmp_path / "plain.txt", tmp_path / "ignore.txt")
    assert f"none of the 1 names in {tmp_path / 'plain.txt'} is of a photo" in capsys.readouterr().out
    (tmp_path / "ignore.txt").write_text("a.jpg nan nan nan nan")
    with pytest.raises(UserError, match="is not 'name x1 y1 x2 y2'"):
        read_photos([tmp_path], None, tmp_path / "ignore.txt")
    assert sum(p.corners is not None for p in photos.values()) == 2


def test_a_view_carries_the_plate_along(monkeypatch):
    """The blue quadrilateral of the picture is where the view says that the plate is."""
    monkeypatch.setattr(views, "change_look", lambda image, rng: image)
    monkeypatch.setattr(views, "look_like", lambda image, *_: image)
    vertices = np.array(CORNERS, float) + [200, 400]
    image = np.full((1160, 720, 3), 120, np.uint8)
    cv2.fillConvexPoly(image, vertices.astype(np.int32), (220, 60, 20))
    box = np.concatenate([vertices.min(0), vertices.max(0)])
    zones = np.array([[50.0, 60, 250, 160], box])
    aspects = []
    for seed in range(30):
        view = make_view(image, box, vertices, zones, np.random.default_rng(seed))
        assert view.image.shape == image.shape and view.image.dtype == np.uint8
        aspects.append((view.box[2] - view.box[0]) / (view.box[3] - view.box[1]))
        y, x = np.nonzero(view.image[..., 0].astype(int) - view.image[..., 2] > 100)
        found = np.array([[x.min(), y.min(), x.max() + 1.0, y.max() + 1.0]])
        assert overlaps(found, view.box)[0] > 0.85, seed
        for zone, moved in zip(zones, view.ignore, strict=True):
            np.testing.assert_allclose(moved, bounding_box(transform(box_corners(zone), view.matrix)))
    assert min(aspects) < 1.5 < 2.5 < max(aspects)


def test_a_view_looks_as_its_pose_says(monkeypatch):
    monkeypatch.setattr(views, "_weather", lambda image, rng: image)
    image = cv2.GaussianBlur(noise(1160, 720), (0, 0), 0.6)
    box = np.array([200.0, 500, 480, 590])
    for seed in range(8):
        corners = box_corners(box)
        view = views.look_like(image, box, Pose(corners, 70.0, 4.0), np.random.default_rng(seed))
        plate = view[500:590, 200:480]
        assert camera.sharpness(plate) < 12 < camera.sharpness(image[500:590, 200:480]), seed
        assert 45 < plate.mean() < 110, seed


def test_a_view_of_a_plate_that_is_not_blue_has_its_light(monkeypatch):
    """In the light in which a blue plate is as bright as the pose says."""
    for step in ("_weather", "_light", "_noise"):
        monkeypatch.setattr(views, step, lambda image, *_: image)
    image, box = np.full((1160, 720, 3), 90, np.uint8), np.array([200.0, 500, 480, 590])
    for tone in (0.4, 1.0, 1.6):
        view = views.look_like(image, box, Pose(box_corners(box), 70.0, 300.0), np.random.default_rng(0), tone)
        assert view.mean() == pytest.approx(70 * tone, rel=0.05)
    # one that fills half of its box, the rest of which has no tone
    diamond = np.array([[340.0, 590], [200, 545], [340, 500], [480, 545]])
    assert share_of_box(diamond) == pytest.approx(0.5) and share_of_box(box_corners(box)) == pytest.approx(1)
    for tone in (0.4, 1.6):
        view = views.look_like(image, box, Pose(diamond, 70.0, 300.0), np.random.default_rng(0), tone)
        assert view.mean() == pytest.approx(70 * (1 + tone) / 2, rel=0.05)


@pytest.mark.parametrize(("amount", "moved"), [(1.0, False), (5.0, False), (5.0, True)])
def test_light_that_is_blurred_swells(amount, moved):
    """Half black, half white is half the light: a grey of 180, not of 127. What is even stays as it is."""
    stripes, even = np.zeros((60, 60, 3), np.uint8), np.full((60, 60, 3), 90, np.uint8)
    stripes[:, ::2] = 255
    for linear, grey in ((True, 180), (False, 127)):
        kind = camera.BlurKind(moved, linear=linear)
        blurred = camera.blur(stripes, amount, kind)
        assert blurred.dtype == np.uint8 and abs(int(blurred[30, 30, 0]) - grey) <= 2
        assert (camera.blur(even, amount, kind) == even).all()


def test_a_view_of_a_wide_picture_keeps_the_plate_as_it_is(monkeypatch):
    monkeypatch.setattr(views, "sample_pose", lambda *_: Pose(box_corners(np.array([200.0, 500, 480, 590])), 70.0, 4.0))
    vertices = box_corners(np.array([800.0, 600, 1080, 690]))
    view = make_view(np.full((1080, 1920, 3), 120, np.uint8), bounding_box(vertices), vertices, np.zeros((0, 4)),
                     np.random.default_rng(0))
    width, height = view.box[2:] - view.box[:2]
    assert width / height == pytest.approx(280 / 90)
    np.testing.assert_allclose((view.box[:2] + view.box[2:]) / 2 / (1920, 1080), (340 / 720, 545 / 1160))


def test_no_pose_makes_a_plate_too_small_to_be_seen():
    image, box = make_picture(30, 100), np.array([3.0, 2, 97, 28])
    for seed in range(60):
        view = make_view(image, box, box_corners(box), np.zeros((0, 4)), np.random.default_rng(seed))
        assert (view.box[2:] - view.box[:2]).min() >= 4


def test_a_view_without_a_pose_looks_as_no_pose(monkeypatch):
    monkeypatch.setattr(views, "LEAST_POSED", 1000)
    monkeypatch.setattr(views, "look_like", None)
    image, box = make_picture(300, 400), np.array([100.0, 100, 200, 130])
    for seed in range(10):
        make_view(image, box, box_corners(box), np.zeros((0, 4)), np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(4))
def test_a_plate_gets_smaller_as_a_sensor_would_see_it(monkeypatch, seed):
    """Fine stripes become grey, and an edge stays where it is."""
    monkeypatch.setattr(views, "change_look", lambda image, rng: image)
    monkeypatch.setattr(views, "look_like", lambda image, *_: image)
    box = np.array([200.0, 500, 520, 600])
    monkeypatch.setattr(views, "sample_pose", lambda *_: Pose(box_corners(np.array([310.0, 560, 390, 585])), 70.0, 4.0))
    image = np.zeros((1160, 720, 3), np.uint8)
    image[500:600, 200:520] = 255 * (np.arange(320) % 2)[:, None]
    view = make_view(image, box, box_corners(box), np.zeros((0, 4)), np.random.default_rng(seed)).image[..., 0]
    assert np.abs(view[564:581, 314:386].astype(int) - 128).max() < 25
    columns = view[572, 290:410].astype(float)
    assert columns.sum() / 127.5 == pytest.approx(80, abs=1)
    middle = 290 + (columns * np.arange(120)).sum() / columns.sum()
    assert middle == pytest.approx(350, abs=0.15)  # odd columns are bright


def test_most_views_that_look_as_ccpd_are_coded_as_its_photos_were():
    """Coding a picture once more, as it was coded before, changes next to nothing."""
    image = cv2.GaussianBlur(noise(1160, 720), (0, 0), 1)
    box = np.array([200.0, 500, 480, 590])
    coarse = []
    for seed in range(20):
        view = views.look_like(image, box, Pose(box_corners(box), 120.0, 300.0), np.random.default_rng(seed))
        coarse.append(np.abs(camera.coded(view, camera.CCPD_QUALITY).astype(int) - view).mean() < 1)
    assert 10 <= sum(coarse) < 20


def test_half_of_the_least_sharp_views_are_shaken_though_they_have_the_figure_already(monkeypatch):
    for module, step in ((views, "_weather"), (views, "_light"), (views, "_noise"), (camera, "coded")):
        monkeypatch.setattr(module, step, lambda image, *_: image)
    y, x = np.mgrid[:600, :720]
    image = (70 + 30 * np.sin(x / 5) * np.sin(y / 5)).astype(np.uint8)[..., None].repeat(3, axis=2)
    box = np.array([200.0, 250, 480, 340])

    def contrast(blurriness: float, seed: int) -> float:
        pose = Pose(box_corners(box), 70.0, blurriness)
        return views.look_like(image, box, pose, np.random.default_rng(seed))[250:340, 200:480].std()

    before = image[250:340, 200:480].std()
    assert camera.sharpness(image[250:340, 200:480]) < 0.3 * views.SHAKEN  # so that nothing else blurs it
    assert 5 < sum(contrast(views.SHAKEN - 0.1, seed) < 0.8 * before for seed in range(20)) < 15
    assert all(contrast(views.SHAKEN + 0.1, seed) > 0.9 * before for seed in range(20))


def test_a_swapped_plate_lies_on_the_corners_of_the_old_one():
    image = np.full((400, 500, 3), 90, np.uint8)
    vertices = np.array([(380, 250), (130, 220), (128, 140), (378, 170)], float)
    cv2.fillConvexPoly(image, vertices.astype(np.int32), (170, 60, 20))
    before = image.copy()
    unchanged, corners, tone = PlateSwapper(0)(image, vertices, np.random.default_rng(0))
    assert unchanged is image and corners is vertices and tone == 1
    swapper = PlateSwapper(1)
    with_plate, colours, tones = 0, set(), []
    for seed in range(40):
        swapped, corners, tone = swapper(image, vertices, np.random.default_rng(seed))
        np.testing.assert_array_equal(image, before)
        y, x = np.nonzero((swapped.astype(int) - image).any(axis=2))
        changed = np.array([[x.min(), y.min(), x.max() + 1.0, y.max() + 1.0]])
        if corners is None:
            assert overlaps(changed, bounding_box(vertices))[0] > 0.8, seed
            continue
        with_plate += 1
        tones.append(tone)
        assert overlaps(changed, bounding_box(corners))[0] > 0.88, seed
        # A green plate is wider than a blue one, one of two rows higher, a motorcycle's most of all.
        assert np.abs(corners - vertices).max() < 60 and np.abs(corners - vertices)[:, 0].max() < 20
        blue, green, red = swapped[150:240, 150:360].reshape(-1, 3).mean(axis=0)
        colours.add("blue" if blue > red + 25 else "green" if green > max(blue, red) + 10 else
                    "yellow" if red > blue + 25 else "grey")
    assert 30 <= with_plate < 40 and len(colours) == 4 and min(tones) < 0.7 and max(tones) > 1.3
    wide = corners_of_kind(vertices, KINDS["green"])
    narrow = corners_of_kind(vertices, KINDS["blue"])
    assert np.ptp(wide[:, 0]) / np.ptp(narrow[:, 0]) == pytest.approx(480 / 440, rel=0.02)
    for name, higher in (("yellow_double", 220 / 140), ("motorcycle", 2)):
        (_, bottom, top, _), (_, low, high, _) = corners_of_kind(vertices, KINDS[name]), narrow
        assert np.linalg.norm(bottom - top) / np.linalg.norm(low - high) == pytest.approx(higher, rel=0.02)
        assert np.ptp(corners_of_kind(vertices, KINDS[name])[:, 0]) == pytest.approx(np.ptp(narrow[:, 0]), rel=0.02)


def test_a_swapped_plate_has_its_dot_somewhere_else_now_and_then(monkeypatch):
    """Nets that see it behind the second symbol only place the boxes of consulates' plates by it."""
    swapper, drawn = PlateSwapper(1), []
    render = swapper.renderer.render
    monkeypatch.setattr(swapper.renderer, "render",
                        lambda text, kind, *rest: drawn.append(kind) or render(text, kind, *rest))
    vertices = np.array([(380, 250), (130, 220), (128, 140), (378, 170)], float)
    for seed in range(150):
        swapper(np.full((400, 500, 3), 90, np.uint8), vertices, np.random.default_rng(seed))
    one_row = [kind for kind in drawn if kind.name in ("yellow", "white", "black", "blue")]
    moved = [kind for kind in one_row if kind != KINDS[kind.name]]
    assert 0.2 < len(moved) / len(one_row) < 0.6 and len({kind.dot_mm for kind in moved}) == 4
    others = [kind for kind in drawn if kind not in one_row]
    assert others and all(kind == ALL_KINDS[kind.name] for kind in others)


def test_swapped_plates_of_one_row_are_the_armed_forces_too():
    plates = [swapped_plate(np.random.default_rng(seed)) for seed in range(400)]
    white = [text for kind, text in plates if kind.name == "white"]
    assert 0.2 < sum(text[0] in LETTERS for text in white) / len(white) < 0.8
    assert {text[0] for kind, text in plates if kind.name == "white_double"} <= set(LETTERS)


def test_the_tone_told_of_a_swapped_plate_is_that_of_the_plate_drawn(monkeypatch):
    swapper, drawn = PlateSwapper(1), []
    render = swapper.renderer.render

    def noted(text, kind, *rest):
        plate = render(text, kind, *rest)
        drawn.append(tone_of(plate, kind))
        return plate

    monkeypatch.setattr(swapper.renderer, "render", noted)
    image = np.full((400, 500, 3), 90, np.uint8)
    vertices = np.array([(380, 250), (130, 220), (128, 140), (378, 170)], float)
    told = [tone for seed in range(20) for _, corners, tone in [swapper(image, vertices, np.random.default_rng(seed))]
            if corners is not None]
    assert told == drawn


def test_a_swapped_plate_is_lit_as_the_old_one():
    vertices = np.array([(380, 250), (130, 250), (130, 170), (380, 170)], float)
    plate = PlateRenderer().render("皖A12345", "blue", np.random.default_rng(0))
    tones = []
    for tone in (20, 60, 110):
        image = np.full((400, 500, 3), tone, np.uint8)
        swapped = replace_plate(image, vertices, vertices, plate, plate_mask(plate, KINDS["blue"]),
                                np.random.default_rng(1))
        tones.append(swapped[180:240, 140:370].mean())
    assert tones[0] < 0.5 * tones[1] < tones[1] < 0.75 * tones[2]


def test_a_plate_in_the_place_of_a_white_one_is_not_taken_to_be_in_bright_light():
    vertices = box_corners((130, 170, 380, 250)).astype(float)
    blue = PlateRenderer().render("皖A12345", "blue", np.random.default_rng(0))
    brightness = []
    for kind, level in (("blue", 100), ("white", 140)):
        own = PlateRenderer().render("皖A12345", kind, np.random.default_rng(0))
        own = np.clip(own * (level / own.mean()), 0, 255).astype(np.uint8)
        image = np.full((400, 500, 3), 90, np.uint8)
        image[170:250, 130:380] = cv2.resize(own, (250, 80), interpolation=cv2.INTER_AREA)
        swapped = [replace_plate(image, vertices, vertices, blue.copy(), plate_mask(blue, KINDS["blue"]),
                                 np.random.default_rng(seed))[180:240, 140:370].mean() for seed in range(8)]
        brightness.append(np.mean(swapped))
    assert brightness[1] == pytest.approx(brightness[0], rel=0.1)


def test_at_the_corners_of_a_swapped_plate_the_photo_shows(monkeypatch):
    """Of signs too, which are told from plates by what stands on them."""
    swapper, white = PlateSwapper(1), np.full((182, 572, 3), 255, np.uint8)
    monkeypatch.setattr(swap, "swapped_plate", lambda rng: (KINDS["white"], "KA12345"))
    monkeypatch.setattr(swapper.renderer, "render", lambda *_: white.copy())
    monkeypatch.setattr(swap, "sign", lambda *_: white.copy())
    monkeypatch.setattr(swap.camera, "blur_to", lambda photo, *_: photo)
    image, vertices = np.full((500, 800, 3), 60, np.uint8), box_corners((100, 200, 650, 375)).astype(float)
    left, top, right, bottom = bounding_box(enlarge(vertices, swap.RIM)).round().astype(int) + (1, 1, -2, -2)
    for signs in (0, 1):
        monkeypatch.setattr(swap, "SIGNS", signs)
        swapped, _, _ = swapper(image, vertices, np.random.default_rng(1))
        changed = (swapped != image).any(axis=2)
        assert not changed[[top, top, bottom, bottom], [left, right, left, right]].any()
        assert changed[250:330, [left, right]].all() and changed[[top, bottom], 300:400].all()


def test_a_box_without_corners_is_moved_mildly():
    rng = np.random.default_rng(0)
    box = np.array([100.0, 96, 270, 150])
    for _ in range(50):
        matrix = mild_warp(box, 300, 360, rng)
        assert matrix[2].tolist() == [0, 0, 1]
        assert matrix[0, 1] == matrix[1, 0] == 0  # the box of a tilted plate would say too little once rotated
        moved = transform(box_corners(box), matrix)
        assert (moved.min(0) > -25).all() and (moved.max(0) < np.array([385, 325])).all()


def test_a_warp_that_folds_the_photo_is_refused_or_tamed():
    source = np.array(CORNERS, float)
    keystone = np.array([(200.0, 160), (100, 110), (100, 100), (200, 50)])  # the far side ten times smaller
    matrix = warp_between(source, keystone, 1160, 720)
    assert matrix is None or np.allclose(matrix[2], [0, 0, 1])
    shifted = source + [50, 30]
    np.testing.assert_allclose(transform(source, warp_between(source, shifted, 1160, 720)), shifted, atol=1e-2)


def test_looks_follow_the_seed_and_leave_the_photo_alone():
    image = photo()
    before = image.copy()
    for seed in range(12):
        first, second = (change_look(image, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert first.shape == image.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


# windows

@pytest.mark.parametrize("box", [(300, 500, 500, 560), (300, 500, 450, 620), (300, 500, 400, 610), (0, 0, 90, 30)])
def test_windows_about_a_plate_are_mostly_of_use(box):
    """Square windows were of use in 13 of 100 cases; these must be in half, for plates of every aspect."""
    box = np.array(box, float)
    windows = windows_around(box, 1000, np.random.default_rng(0))
    kinds = kinds_of(overlaps(windows, box))
    assert sum(mask.mean() for mask in kinds.values()) > 0.75
    assert kinds["positive"].mean() > 0.12 and kinds["part"].mean() > 0.15
    assert not (kinds["positive"] & kinds["part"]).any() and not (kinds["part"] & kinds["negative"]).any()
    size, sizes = box[2:] - box[:2], windows[:, 2:] - windows[:, :2]
    off = np.abs(windows[:, :2] + windows[:, 2:] - box[:2] - box[2:]) / 2
    close = (off <= 0.15 * size).all(axis=1)
    assert 0.45 < close.mean() < 0.6 and (off <= (size + sizes) / 2 + 1e-9).all()  # all touch it at least
    growth = np.log(sizes.prod(axis=1) / size.prod())
    assert abs(np.median(growth[close])) < 0.1 and growth[close].std() < 0.6 < growth[~close].std()


def test_a_window_touches_a_zone_that_it_has_any_part_of():
    windows = np.array([[0.0, 0, 10, 10]])
    assert [touching(windows, np.array([[left, 0.0, 20, 10]])).item() for left in (9.95, 10)] == [True, False]
    assert not touching(windows, np.zeros((0, 4))).any()


def test_moved_edges_cut_off_one_end_or_go_beyond_it():
    box = np.array([100.0, 50.0, 300.0, 110.0])
    inside = (move_edge(box, 400, np.random.default_rng(0)) - box) / np.tile(box[2:] - box[:2], 2) * [1, 1, -1, -1]
    far = np.abs(inside) > 0.13  # the jitter of the other edges stays below
    assert (far.sum(axis=1) <= 1).all() and np.abs(inside).max() < 0.45
    for end in (0, 2):
        assert (inside[:, end] > 0.13).sum() > 25 and (inside[:, end] < -0.13).sum() > 25


def test_thresholds_of_the_kinds():
    kinds = kinds_of(np.array([0.29, 0.35, 0.41, 0.64, 0.66]))
    assert kinds["negative"].tolist() == [True, False, False, False, False]
    assert kinds["part"].tolist() == [False, False, True, True, False]
    assert kinds["positive"].tolist() == [False, False, False, False, True]


def test_drawn_windows_keep_their_word():
    rng = np.random.default_rng(1)
    box, zones = np.array([300.0, 500, 500, 560]), np.array([[0.0, 0, 720, 300]])
    chosen = draw_windows(1160, 720, box, zones, Counts(10, 8, 6, 12), rng)
    assert [len(chosen[kind]) for kind in ("positive", "part")] == [10, 8]
    assert overlaps(chosen["positive"], box).min() > 0.65
    assert overlaps(chosen["negative"], box).max() < 0.3 and len(chosen["negative"]) > 6
    assert (chosen["negative"][:, 1] >= 300).all()  # nothing from the zone to leave alone
    without = draw_windows(1160, 720, None, np.zeros((0, 4)), Counts(10, 8, 6, 12), rng)
    assert len(without["positive"]) == 0 and len(without["negative"]) == 18
    many = draw_windows(1160, 720, None, np.zeros((0, 4)), Counts(1, 1, 100, 0), rng)
    assert len(many["negative"]) == 100
    at_edge = draw_windows(1160, 720, np.array([5.0, 20, 205, 80]), np.zeros((0, 4)), Counts(10, 8, 40, 0), rng)
    windows = np.concatenate(list(at_edge.values()))  # PNet's levels end where the picture does
    assert (windows >= 0).all() and (windows[:, 2:] <= (720, 1160)).all() and len(at_edge["negative"]) == 40
    small = windows_anywhere(30, 40, 20, rng)
    assert (small >= 0).all() and (small <= (40, 30, 40, 30)).all()
    assert len({tuple(row) for row in choose(small, np.ones(20, bool), 15, rng).tolist()}) == 15


def test_samples_look_like_what_the_pyramid_shows():
    """A window cut for training and the same window on a pyramid level differ by little: one scale, one place."""
    image = photo(400, 500)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    for sheet in make_sheets(pixels, plan_levels(400, 500), alone=0):
        level, = sheet.levels
        row, column = (level.height - 12) // 4 * 2, (level.width - 47) // 10 * 5
        shown = sheet.pixels[0, :, row:row + 12, column:column + 47].float()
        scale = np.array([500 / level.width, 400 / level.height] * 2)
        window = np.array([[column, row, column + 47, row + 12]]) * scale
        sample = torch.from_numpy(to_picture(crop_resize(pixels, window, (12, 47)))[0]).permute(2, 0, 1).float()
        assert (shown - sample).abs().mean() < 4


# the store and the lists

def some_samples(rng, count: int = 3):
    return {kind: (rng.integers(0, 256, (count, 12, 47, 3), dtype=np.uint8), rng.normal(size=(count, 4)))
            for kind in ("positive", "part", "negative")}


def test_a_killed_writer_goes_on_where_it_stopped(tmp_path):
    steps = [some_samples(np.random.default_rng(number)) for number in range(6)]
    whole = SampleWriter(tmp_path / "whole", (12, 47), {"seed": 1})
    for step in steps:
        whole.add(step)
    whole.finish()
    killed = SampleWriter(tmp_path / "killed", (12, 47), {"seed": 1})
    for step in steps[:2]:
        killed.add(step)
    killed.save_progress()
    killed.add(some_samples(np.random.default_rng(99)))  # written, but not yet sound when the run is killed
    for file in (*killed.arrays.values(), *killed.lists.values()):
        file.flush()
    assert not list((tmp_path / "killed").glob("*.npy"))  # nobody takes them for whole
    resumed = SampleWriter(tmp_path / "killed", (12, 47), {"seed": 1})
    assert resumed.steps == 2
    for step in steps[2:]:
        resumed.add(step)
    resumed.finish()
    summary = tmp_path / "killed" / "samples.json"  # as if it had been killed when it had renamed three files
    summary.rename(summary.with_name("progress.json"))
    for name in ("negative.npy", "negative.txt", "part.txt"):
        (tmp_path / "killed" / name).rename(tmp_path / "killed" / f"{name}.partial")
    resumed = SampleWriter(tmp_path / "killed", (12, 47), {"seed": 1})
    assert resumed.steps == 6 and not resumed.complete
    resumed.finish()
    assert files_below(tmp_path / "whole") == files_below(tmp_path / "killed")
    assert len(files_below(tmp_path / "whole")) == 7  # not a file per sample
    for name in files_below(tmp_path / "whole"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    assert SampleWriter(tmp_path / "whole", (12, 47), {"seed": 1}).complete
    with pytest.raises(UserError, match="another seed"):
        SampleWriter(tmp_path / "whole", (12, 47), {"seed": 2})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"settings": [1], "steps": 1, "rows": {}}', '{"settings": 3}'])
def test_a_folder_of_samples_with_a_damaged_summary_is_refused(tmp_path, text):
    (tmp_path / "samples.json").write_text(text)
    with pytest.raises(UserError, match="is damaged; remove"):
        SampleWriter(tmp_path, (12, 47), {"seed": 1})


@pytest.mark.parametrize("lost", ["positive.npy.partial", "negative.txt.partial", "progress.json"])
def test_a_half_made_folder_that_lost_a_file_is_refused(tmp_path, lost):
    writer = SampleWriter(tmp_path, (12, 47), {})
    writer.add(some_samples(np.random.default_rng(0)))
    writer.save_progress()
    (tmp_path / lost).write_text("{}")
    with pytest.raises(UserError, match=f"{lost} is damaged; remove"):
        SampleWriter(tmp_path, (12, 47), {})
    (tmp_path / lost).unlink()
    if lost != "progress.json":  # without which it begins anew
        with pytest.raises(UserError, match=f"{lost} is damaged; remove"):
            SampleWriter(tmp_path, (12, 47), {})


@pytest.mark.parametrize("damaged", ["positive.npy", "negative.txt"])
def test_a_complete_folder_with_a_damaged_file_is_refused(tmp_path, damaged):
    writer = SampleWriter(tmp_path, (12, 47), {})
    writer.add(some_samples(np.random.default_rng(0)))
    writer.finish()
    assert SampleWriter(tmp_path, (12, 47), {}).complete
    (tmp_path / damaged).write_bytes(b"")
    for _ in range(2):
        with pytest.raises(UserError, match=f"{damaged} is damaged; remove"):
            SampleWriter(tmp_path, (12, 47), {})
        (tmp_path / damaged).unlink(missing_ok=True)


def test_offsets_keep_full_precision_and_kinds_may_be_empty(tmp_path):
    samples = some_samples(np.random.default_rng(0), 5)
    samples["part"] = (samples["part"][0][:0], samples["part"][1][:0])
    writer = SampleWriter(tmp_path, (12, 47), {})
    writer.add(samples)
    writer.finish()
    rows = np.loadtxt(tmp_path / "positive.txt")
    np.testing.assert_array_equal(rows[:, 2:].astype(np.float32), samples["positive"][1].astype(np.float32))
    assert rows[:, 1].tolist() == [1] * 5 and rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(open_array(tmp_path / "positive.npy"), samples["positive"][0])
    assert len(open_array(tmp_path / "part.npy")) == len((tmp_path / "part.txt").read_bytes()) == 0


def test_lists_hold_each_sample_once(tmp_path):
    for folder, count in (("a", 40), ("b", 25)):
        writer = SampleWriter(tmp_path / folder, (12, 47), {})
        samples = some_samples(np.random.default_rng(0), count)
        writer.add(samples)
        writer.finish()
    target = tmp_path / "lists" / "train.txt"
    rows = assemble([tmp_path / "a", tmp_path / "b"], target, {"positive": 1, "part": 0.4, "negative": 3}, None, 0)
    assert rows == {"positive": 65, "part": 26, "negative": 65}
    lines = [line for line in target.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == 156 and len({tuple(line.split()[:2]) for line in lines}) == 156
    listed = np.loadtxt(target)
    assert set(listed[listed[:, 2] == -1, 0]) == {1, 4}  # the parts are of both folders, though one has enough
    data = SampleList(target, augment=False, size=(12, 47))
    batch = data.collate([(index, 0) for index in (0, 70, 155)])
    array, row = int(data.array[70]), int(data.row[70])
    expected = normalise(torch.from_numpy(np.array(data.arrays[array][row])).permute(2, 0, 1))
    torch.testing.assert_close(batch.pixels[1], expected)
    folders, shares = [tmp_path / "a", tmp_path / "b"], {"positive": 1, "part": 1, "negative": 3}
    taken = assemble(folders, target, shares, None, 0, [1, 0.2])
    assert taken == {"positive": 45, "part": 45, "negative": 45}
    listed = np.loadtxt(target)
    assert listed[listed[:, 0] >= 3, 1].max() > 4  # not the first five of the second folder
    with pytest.raises(UserError, match="each of the 2 folders"):
        assemble(folders, target, shares, None, 0, [1])
    whole = (tmp_path / "b" / "negative.txt").read_text()
    for damaged in (whole + "25 0 0 0 0 0\n", whole[:whole.rindex("24")]):
        (tmp_path / "b" / "negative.txt").write_text(damaged)
        before = target.read_bytes()
        with pytest.raises(UserError, match=r"negative\.txt has not a line for each of 25 samples"):
            assemble(folders, target, shares, None, 0)
        assert target.read_bytes() == before
    (tmp_path / "b" / "negative.txt").write_text(whole)
    for unit in (2, 0.5):  # all 25 positives, and as many others as the shares say
        relative = {"positive": unit, "part": unit / 2, "negative": 0.8 * unit}
        assert list(assemble([tmp_path / "b"], target, relative, None, 0).values()) == [25, 12, 20]
    small = assemble([tmp_path / "a"], target, {"positive": 1, "part": 1, "negative": 1}, 30, 0)
    assert sum(small.values()) == 30
    for size in (3, 8, 29):
        few = assemble([tmp_path / "a"], target, {"positive": 1, "part": 1, "negative": 1}, size, 0)
        assert size - 3 < sum(few.values()) <= size and few["positive"] > 0
    with pytest.raises(UserError, match="--size 2 leaves no positives; give 3 or more"):
        assemble([tmp_path / "a"], target, {"positive": 1, "part": 1, "negative": 1}, 2, 0)
    lists = target, tmp_path / "lists" / "val.txt"
    run("pnet", "", ["--samples_train", str(tmp_path / "a"), "--samples_val", str(tmp_path / "b"), "--size", "30",
                     "--list_train", str(lists[0]), "--list_val", str(lists[1])])
    assert [len(np.loadtxt(path)) for path in lists] == [30, 75]  # the size is that of the training list
    call_of = ["--samples_train", str(tmp_path / "a"), "--list_train", str(target), "--negatives"]
    for share in ("nan", "inf", "-1"):
        with pytest.raises(UserError, match="shares must be"):
            run("pnet", "", [*call_of, share])
    with pytest.raises(UserError, match="no complete samples"):
        assemble([tmp_path / "missing"], target, {"positive": 1, "part": 1, "negative": 1}, None, 0)


# the generators

def test_generators_run_and_repeat(call, tmp_path):
    train = photo_folder(tmp_path / "photos")
    val = photo_folder(tmp_path / "other", ("粤D22222",))
    put_picture(train / "ccpd_np" / "1.jpg", make_picture(300, 360))
    (train / "ccpd_base" / photo_name("苏E33333")).write_bytes(b"not a picture")
    torch.manual_seed(0)
    pnet = PNet()
    torch.nn.init.constant_(pnet.conv4_1.bias, 0.0)
    save_checkpoint(tmp_path / "pnet", pnet.state_dict())
    save_checkpoint(tmp_path / "onet", ONet().state_dict())
    mining = ("--pnet", tmp_path / "pnet")
    common = ("-dir_train", train, "-dir_val", val, "--views", 2, "--views_val", 1, "--seed", 3)
    for number, (main, extra, size) in enumerate((
            (gen_Pnet_train_data.main, (), (12, 47)), (gen_Onet_train_data.main, mining, (24, 94)),
            (gen_Onet_train_data.main, (*mining, "--onet", tmp_path / "onet"), (24, 94)))):
        outputs = []
        for repeat in ("first", "second"):
            out = tmp_path / repeat / f"{number}"
            outcome = call(main, *common, *extra, "--out_train", out / "train", "--out_val", out / "val")
            assert outcome.status == 1, outcome.err
            assert "samples a second" in outcome.out and "next: python MTCNN" in outcome.out
            assert "left out: cannot decode" in outcome.out
            outputs.append({name: (out / name).read_bytes() for name in files_below(out)})
        assert outputs[0] == outputs[1]
        folder = tmp_path / "first" / f"{number}"
        summary, of_val = (json.loads((folder / split / "samples.json").read_text()) for split in ("train", "val"))
        assert summary["rows"]["positive"] > 20 and summary["rows"]["negative"] > 20 and summary["rows"]["part"] > 10
        assert (summary["steps"], of_val["steps"]) == (2 * 5, 1)
        assert (summary["settings"]["split"], of_val["settings"]["split"]) == ("train", "val")
        positives = open_array(folder / "train" / "positive.npy")
        assert positives.shape[1:] == (*size, 3) and positives.std() > 10
        assert "complete" in call(main, *common, *extra, "--out_train", folder / "train", "--out_val",
                                  folder / "val").out


def test_offsets_lead_back_to_the_plate(tmp_path):
    photos = read_photos([photo_folder(tmp_path)])
    data = ViewSamples(photos, 1, ["ccpd_base"], 0, (12, 47), PNetWindows(Counts(10, 10, 5, 5)))
    chosen = data.choose(make_view_of(photos[0]), None, np.random.default_rng((0, 0)))
    samples = data[0]
    boxes = decode_offsets(samples["part"][1], chosen["part"])
    np.testing.assert_allclose(boxes, np.tile(photos[0].box, (len(boxes), 1)), atol=1e-3)


def test_corners_outside_the_photo_are_not_trusted(tmp_path):
    """The box ends at the photo's edge, the plate does not."""
    photo = read_photos([photo_folder(tmp_path, ("皖A12345",))])[0]
    beyond = photo.corners + (1000, 0)
    views = [ViewSamples([dataclasses.replace(photo, corners=vertices)], 2, ["ccpd_rotate"], 0, (12, 47),
                         PNetWindows(Counts(5, 5, 2, 2)))[1]["positive"][0]
             for vertices in (beyond, None, photo.corners)]
    assert np.array_equal(*views[:2]) and not np.array_equal(*views[1:])


def make_view_of(entry):
    return View(read_image(entry.path), entry.box, entry.ignore)


def test_swapped_plates_are_for_training_only(call, tmp_path):
    train, val = photo_folder(tmp_path / "photos"), photo_folder(tmp_path / "other", ("粤D22222",))
    common = ("-dir_train", train, "-dir_val", val, "--views", 1, "--views_val", 1, "--seed", 3)
    for name, extra in (("plain", ()), ("swapped", ("--swap", 1))):
        out = tmp_path / name
        outcome = call(gen_Pnet_train_data.main, *common, *extra, "--out_train", out / "train", "--out_val",
                       out / "val")
        assert outcome.status == 0, outcome.err
    same = [(tmp_path / "plain" / split / "positive.npy").read_bytes()
            == (tmp_path / "swapped" / split / "positive.npy").read_bytes() for split in ("train", "val")]
    assert same == [False, True]
    outcome = call(gen_Pnet_train_data.main, *common, "--swap", 1.5)
    assert outcome.status == 2 and "--swap" in outcome.sentence()


def test_photos_that_come_after_those_without_a_plate_are_read_too(tmp_path):
    photo_folder(tmp_path, subset="ccpd_tilt")
    for name in ("a.jpg", "b.jpg"):
        put_picture(tmp_path / "ccpd_np" / name, make_picture(40, 60))
    assert [photo.box is None for photo in read_photos([tmp_path])] == [True, True, False, False, False]


def test_train_and_validation_never_share_a_folder(call, tmp_path):
    photos, others = photo_folder(tmp_path / "photos"), photo_folder(tmp_path / "others")
    outcome = call(gen_Pnet_train_data.main, "-dir_train", photos, "-dir_val", others, "--out_train", tmp_path / "x",
                   "--out_val", tmp_path / "x")
    assert outcome.status == 2 and "both" in outcome.sentence()
    outcome = call(gen_Pnet_train_data.main, "-dir_train", photos, "-dir_val", photos / "ccpd_base", "--out_train",
                   tmp_path / "x", "--out_val", tmp_path / "y")
    assert outcome.status == 2 and "share photos" in outcome.sentence()
    for train, val in (("photos/ccpd_base", photos), ("photos", photos / "ccpd_base"), ("photos", photos)):
        outcome = call(gen_Pnet_train_data.main, "-dir_train", train, "-dir_val", val, "--out_train", tmp_path / "x",
                       "--out_val", tmp_path / "y", cwd=tmp_path)
        assert outcome.status == 2 and "share photos" in outcome.sentence()
    (tmp_path / "file").write_text("in the way")
    outcome = call(gen_Pnet_train_data.main, "-dir_train", photos, "-dir_val", others, "--out_train",
                   tmp_path / "file" / "x", "--out_val", tmp_path / "y")
    assert outcome.status == 2 and "cannot write" in outcome.sentence()


def test_mined_windows_are_what_the_net_takes_for_plates(tmp_path):
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "pnet", PNet().state_dict())
    view = make_view_of(read_photos([photo_folder(tmp_path / "photos")])[0])
    pixels = torch.from_numpy(view.image).permute(2, 0, 1)[None]
    chosen = PNetWindows(Counts(2, 2, 2, 2), tmp_path / "pnet", 20)(view, pixels, np.random.default_rng(0))
    assert len(chosen["negative"]) >= 22
    assert overlaps(chosen["negative"], view.box).max() < 0.3
    finder = Detector(tmp_path / "pnet", ONet(), "cpu", thresholds=Thresholds(pnet_score=0.3))
    _, _, scores = finder.scan(pixels)
    assert len(scores) >= 20


@pytest.mark.parametrize("box", [None, np.array([100.0, 96, 270, 150])], ids=["no plate", "plate"])
@pytest.mark.parametrize("net", ["pnet", "onet"])
def test_mined_windows_begin_with_the_best_scored_and_touch_nothing_to_leave_alone(tmp_path, monkeypatch, net, box):
    save_checkpoint(tmp_path / "pnet", PNet().state_dict())
    view = View(photo(), box, np.array([[0.0, 0, 180, 300]]))
    corners = np.stack(np.meshgrid(np.arange(0, 310, 4), np.arange(0, 284, 4)), axis=2).reshape(-1, 2)
    windows = np.concatenate([corners, corners + (50, 16)], axis=1).astype(float)
    scores = np.random.default_rng(0).permutation(len(windows)) / len(windows)
    best = len(windows) - 1  # in the corner, far from both
    scores[best] = 1
    if net == "pnet":
        chooser = PNetWindows(Counts(0, 0, 0, 0), tmp_path / "pnet", 20)
        monkeypatch.setattr(chooser.detector, "scan", lambda pixels: (windows, None, scores))
    else:
        chooser = ONetWindows(Counts(0, 0, 0, 20), tmp_path / "pnet")
        monkeypatch.setattr(chooser, "look", lambda pixels: (windows[np.argsort(-scores)], windows[:0]))
    assert len(windows) > 4000  # more than are looked at
    for seed in range(10):
        chosen = chooser(view, None, np.random.default_rng(seed))["negative"]
        assert chosen[0].tolist() == windows[best].tolist() and len(chosen) >= 20
        assert chosen[:, 0].min() >= 180


def test_the_boxes_that_onet_placed_worst_are_always_learnt_from(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "pnet", PNet().state_dict())
    view = make_view_of(read_photos([photo_folder(tmp_path / "photos")])[0])
    size = np.tile(view.box[2:] - view.box[:2], 2)
    good, cut = (view.box + size * [0, 0, -share, 0] for share in (0.01, 0.2))
    corrected = np.stack([good] * 50 + [cut])
    chooser = ONetWindows(Counts(8, 4, 2, 2), tmp_path / "pnet")
    monkeypatch.setattr(chooser, "look", lambda pixels: (corrected[-3:], corrected))
    pixels = torch.from_numpy(view.image).permute(2, 0, 1)[None]
    for seed in range(10):
        chosen = chooser(view, pixels, np.random.default_rng(seed))["positive"]
        assert len(chosen) == 8 and (chosen == cut).all(axis=1).sum() == 1
    seen = view.box + size * [0, 0, 1, 0] * np.linspace(0.005, 0.05, 30)[:, None]
    monkeypatch.setattr(chooser, "look", lambda pixels: (seen, corrected))
    chosen = chooser(view, pixels, np.random.default_rng(0))["positive"]
    assert len(chosen) == 8 and (chosen[:, None] == seen).all(axis=2).sum() == 2  # with two corrected ones half of all


def test_proposals_are_of_the_score_that_was_asked_for():
    """However few they are."""
    pixels = torch.from_numpy(read_image(sorted(SAMPLES.glob("*.jpg"))[0])).permute(2, 0, 1)[None]
    counts = []
    for score in (0.3, 0.9):
        _, _, scores = ONetWindows(Counts(1, 1, 1, 1), PNET_WEIGHTS, threshold=score).detector.scan(pixels)
        assert scores.min() >= score
        counts.append(len(scores))
    assert counts[1] < 30 < counts[0]


def test_later_rounds_start_from_what_onet_corrected(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "pnet", PNet().state_dict())
    chooser = ONetWindows(Counts(8, 4, 2, 2), tmp_path / "pnet", ONet())
    proposal = np.array([[10.0, 10, 90, 40]])
    monkeypatch.setattr(chooser.detector, "propose", lambda pixels: (proposal, np.ones(1)))
    monkeypatch.setattr(chooser.detector, "judge", lambda pixels, boxes: (boxes + 2, np.full(len(boxes), 0.9)))
    windows, corrected = chooser.look(torch.zeros(1, 3, 60, 120, dtype=torch.uint8))
    assert (corrected == proposal + [[2.0], [4.0]]).all()
    assert windows[0].tolist() == proposal[0].tolist() and len(windows) == 3


@pytest.mark.parametrize(("likely", "looked_at"), [(0.5, 3), (0.9, 3), (0.05, 3), (0.005, 1)])
def test_the_first_windows_are_those_that_onet_takes_for_plates(tmp_path, monkeypatch, likely, looked_at):
    """Whatever PNet says; and less likely ones are looked at again where, as in detection, no plate was found."""
    save_checkpoint(tmp_path / "pnet", PNet().state_dict())
    chooser = ONetWindows(Counts(8, 4, 2, 2), tmp_path / "pnet", ONet())
    proposals = np.array([[10.0, 10, 90, 40], [200, 10, 280, 40], [10, 100, 90, 130]])
    monkeypatch.setattr(chooser.detector, "propose", lambda pixels: (proposals, np.array([0.9, 0.8, 0.4])))
    monkeypatch.setattr(chooser.detector, "judge",
                        lambda pixels, boxes: (boxes, np.where(boxes[:, 1] > 50, likely, 0.001)))
    windows, corrected = chooser.look(torch.zeros(1, 3, 160, 320, dtype=torch.uint8))
    # once among the proposals, then in both of the later rounds
    assert windows[:looked_at].tolist() == [proposals[2].tolist()] * looked_at
    assert len(windows) == 3 + looked_at - 1 and len(corrected) == looked_at - 1


def test_plates_set_aside_are_not_those_that_the_split_took_away(tmp_path):
    """``preprocess.py`` splits by a hash too: of what it left to train on, as many are set aside as are asked for."""
    plates = [plate for number in range(400) if not belongs_to_val(plate := f"皖A{number:05d}", 0.1, 0)]
    for plate in plates:
        (tmp_path / photo_name(plate)).touch()
    arguments = gen_Pnet_train_data.parse_arguments(["--dir_train", str(tmp_path), "--hold_out", "0.1"])
    assert 0.05 < len(photos_by_split(arguments)["val"]) / len(plates) < 0.15


def test_neither_the_nets_nor_the_splits_draw_alike(call, tmp_path, monkeypatch):
    seeds = []
    monkeypatch.setattr(generation, "generate", lambda folder, data, *_: seeds.append(data.seed) is not None)
    photos, others = photo_folder(tmp_path / "photos"), photo_folder(tmp_path / "others")
    for main, out in ((gen_Pnet_train_data.main, "p"), (gen_Onet_train_data.main, "o")):
        done = call(main, "-dir_train", photos, "-dir_val", others, "--out_train", tmp_path / out, "--out_val",
                    tmp_path / f"{out}v", *(["--pnet", PNET_WEIGHTS] if out == "o" else []))
        assert done.status == 0, done
    assert len(set(seeds)) == 4


@pytest.mark.parametrize("how", ["swapped", "told"])
def test_a_plate_of_another_shape_keeps_it_in_every_view(tmp_path, monkeypatch, how):
    """Poses are those of long plates: one of 220 x 140 mm is not drawn out to their shape."""
    monkeypatch.setattr(views, "sample_pose", lambda *_: Pose(box_corners(np.array([200.0, 500, 480, 590])), 70.0, 4.0))
    photo = read_photos([photo_folder(tmp_path / "photos")])[0]
    swapper, size = None, None
    if how == "swapped":
        monkeypatch.setattr(swap, "KIND_SHARES", {"motorcycle": 1})
        monkeypatch.setattr(swap, "SIGNS", 0)
        swapper = PlateSwapper(1)
    else:
        size = (220, 140)
        photo = dataclasses.replace(photo, corners=corners_of_kind(photo.corners, KINDS["motorcycle"]))
        photo = dataclasses.replace(photo, box=bounding_box(photo.corners))
    seen = []
    data = ViewSamples([photo], 6, ["ccpd_base"], 0, (12, 47), None, swapper, size)
    data.choose = lambda view, pixels, rng: seen.append(view) or dict.fromkeys(SAMPLE_KINDS, np.zeros((0, 4)))
    for index in range(1, 6):
        data[index]
        width, height = seen[-1].box[2:] - seen[-1].box[:2]
        assert width / height == pytest.approx(220 / 140, rel=0.05)


def test_the_ordinary_plate_in_the_place_of_another():
    vertices = np.array(CORNERS, float)
    for kind in KINDS.values():
        there = corners_of_ordinary(corners_of_kind(vertices, kind), kind.size_mm)
        np.testing.assert_allclose(there, vertices, atol=0.01)


def test_some_photos_are_set_aside_to_validate_on_the_same_for_both_nets(call, tmp_path):
    photos = photo_folder(tmp_path / "photos", [f"皖A{number:05d}" for number in range(12)])
    counts = []
    for net, main, more in (("p", gen_Pnet_train_data.main, ()),
                            ("o", gen_Onet_train_data.main, ("--pnet", PNET_WEIGHTS))):
        done = call(main, "-dir_train", photos, "--hold_out", 0.4, "--views", 1, "--views_val", 1, *more,
                    "--out_train", tmp_path / net, "--out_val", tmp_path / f"{net}v")
        assert done.status == 0, done
        counts.append([int(line.split()[1]) for line in done.out.splitlines() if "photos with a plate" in line])
        lists = [list(read_lines(tmp_path / folder / "photos.txt")) for folder in (net, f"{net}v")]
        assert list(map(len, lists)) == counts[-1]
        assert sorted(lists[0] + lists[1]) == list(map(str, find_images(photos)))
    assert counts[0] == counts[1] and sum(counts[0]) == 12 and 1 < counts[0][1] < 9
    refused = call(gen_Pnet_train_data.main, "-dir_train", photos, "-dir_val", photos, "--hold_out", 0.4)
    assert "leave one of them out" in refused.sentence()


def test_photos_of_one_plate_are_set_aside_together(tmp_path):
    plates = [f"皖A{number:05d}" for number in range(20)]
    for plate, area in itertools.product(plates, ("01", "02", "03")):
        (tmp_path / photo_name(plate, area=area)).touch()
    arguments = gen_Pnet_train_data.parse_arguments(["--dir_train", str(tmp_path), "--hold_out", "0.3"])
    train, val = ([parse(photo.path).plate for photo in photos] for photos in photos_by_split(arguments).values())
    assert not set(train) & set(val) and Counter(train + val) == dict.fromkeys(plates, 3)


@pytest.mark.parametrize(("flags", "what"), [(("--poses", "ccpd_foo"), "ccpd_foo"), (("--hold_out", "1"), "hold_out"),
                                             (("--hold_out", "0.0001"), "too few"),
                                             (("--threshold", "nan"), "threshold"),
                                             (("--plate_size", "0", "140"), "plate_size"),
                                             (("--plate_size", "nan", "140"), "plate_size"),
                                             (("--plate_size", "305", "152", "--swap", "0.5"), "plate_size")])
def test_wrong_flags_of_the_generators_are_refused(call, tmp_path, flags, what):
    photos = photo_folder(tmp_path / "photos")
    done = call(gen_Onet_train_data.main, "-dir_train", photos, "--pnet", PNET_WEIGHTS, "--out_train", tmp_path / "o",
                *flags)
    assert done.status == 2 and what in done.err and not (tmp_path / "o").exists()


def test_without_photos_to_validate_on_the_next_command_has_none_either(call, tmp_path):
    photo_folder(tmp_path / "photos")
    assert generate_pnet(call, tmp_path).out.rstrip().endswith("--samples_val")


def test_samples_are_written_once_for_every_view(tmp_path):
    photos = read_photos([photo_folder(tmp_path / "photos")])
    data = ViewSamples(photos, 2, ["ccpd_tilt"], 0, (12, 47), PNetWindows(Counts(3, 3, 2, 2)))
    assert not generate(tmp_path / "out", data, {"a": 1}, workers=0)
    rows = json.loads((tmp_path / "out" / "samples.json").read_text())["rows"]
    assert rows["positive"] <= 3 * len(data) and rows["positive"] >= len(data)


def generate_pnet(call, folder, *more):
    return call(gen_Pnet_train_data.main, "-dir_train", folder / "photos", "-dir_val",
                "--out_train", folder / "samples", "--views", 2, *more)


@needs_locks
def test_two_runs_do_not_write_samples_into_one_folder(call, tmp_path):
    photo_folder(tmp_path / "photos")
    (tmp_path / "samples").mkdir()
    with alone(tmp_path / "samples"):
        assert "another run is writing to" in generate_pnet(call, tmp_path).sentence()
    assert generate_pnet(call, tmp_path).status == 0


@pytest.mark.parametrize("change", ["ignored", "plain", "mined", "swapped"])
def test_samples_of_other_lists_weights_or_swaps_are_not_taken_for_complete(call, tmp_path, change):
    photo_folder(tmp_path / "photos")
    lists = tmp_path / "plain.txt", tmp_path / "ignored.txt"
    for path in lists:
        path.write_text("")
    save_checkpoint(tmp_path / "pnet", PNet().state_dict())
    flags = ["--plain_list", lists[0], "--ignore_list", lists[1], "--mine", tmp_path / "pnet", "--swap", 0.5]
    assert generate_pnet(call, tmp_path, *flags).status == 0
    assert "is complete" in generate_pnet(call, tmp_path, *flags).out
    if change == "ignored":
        lists[1].write_text(f"{photo_name('皖A12345')} 0 0 50 50\n")
    elif change == "plain":
        lists[0].write_text(photo_name("皖A12345") + "\n")
    elif change == "mined":
        save_checkpoint(tmp_path / "pnet", PNet().state_dict())
    else:
        flags = flags[:-2]
    assert "made with another" in generate_pnet(call, tmp_path, *flags).sentence()


def test_photos_that_were_made_smaller_or_are_misnamed_are_left_out_and_said_so_each_time(call, tmp_path):
    photo_folder(tmp_path / "photos")
    small = tmp_path / "photos" / "ccpd_base" / photo_name("皖A12345")
    put_picture(small, cv2.resize(photo(), None, fx=0.3, fy=0.3))
    put_picture(small.with_name("2023-05-12-10-22-33-1.jpg"), photo())
    circle = small.with_name(photo_name("苏E33333"))
    circle.symlink_to(circle)
    for status in (1, 0):  # the second time the samples are complete without them
        done = generate_pnet(call, tmp_path)
        assert done.status == status and f"left out: {small}: its box" in done.out and "left out 1 pictures" in done.out
        assert f"left out: cannot read {circle}: " in done.out
    for name in ("positive", "part"):
        pixels = open_array(tmp_path / "samples" / f"{name}.npy")
        assert len(pixels) and pixels.reshape(len(pixels), -1).std(axis=1).min() > 0


def test_samples_of_other_photos_are_not_taken_for_complete(call, tmp_path):
    photo_folder(tmp_path / "photos")
    assert generate_pnet(call, tmp_path).status == 0
    (tmp_path / "photos" / "ccpd_base" / photo_name("苏B54321")).rename(
        tmp_path / "photos" / "ccpd_base" / photo_name("苏B54322"))
    assert "another set of files" in generate_pnet(call, tmp_path).sentence()


def test_wrong_usage_shows_before_any_sample_is_made(call, tmp_path):
    photo_folder(tmp_path / "photos")
    for arguments in (("--views_val", 0), ("-dir_val", tmp_path / "none")):
        assert generate_pnet(call, tmp_path, *arguments).sentence() and not (tmp_path / "samples").exists()


def test_a_list_may_begin_with_a_mark_of_its_encoding(tmp_path):
    for name, line in (("plain", photo_name("皖A12345")), ("ignored", f"{photo_name('皖A12345')} 1 2 3 4")):
        (tmp_path / name).write_text(line, encoding="utf-8-sig")
    photo_folder(tmp_path / "photos", ["皖A12345"])
    (found,) = read_photos([tmp_path / "photos"], tmp_path / "plain", tmp_path / "ignored")
    assert found.corners is None and found.ignore.tolist() == [[1, 2, 3, 4]]


def test_what_a_kill_after_the_summary_leaves_is_removed(call, tmp_path):
    photo_folder(tmp_path / "photos")
    assert generate_pnet(call, tmp_path).status == 0
    before = files_below(tmp_path / "samples")
    (tmp_path / "samples" / "progress.json").write_bytes(b"{}")
    assert generate_pnet(call, tmp_path).status == 0 and files_below(tmp_path / "samples") == before


def test_a_step_that_was_left_out_is_named(call, tmp_path, monkeypatch):
    monkeypatch.setattr("MTCNN.paths.PHOTOS_TRAIN", tmp_path / "none")
    done = call(gen_Pnet_train_data.main, "-dir_train", tmp_path / "none", "-dir_val")
    assert "MTCNN/data_set/preprocess.py" in done.sentence()


@pytest.mark.parametrize(("script", "flags"), [
    (gen_Pnet_train_data, ("--workers", -1)), (gen_Pnet_train_data, ("--near", -1)),
    (gen_Pnet_train_data, ("--mined", -1)), (gen_Onet_train_data, ("--positives", -1)),
    (gen_Onet_train_data, ("--mini_lp", 1, 1)), (gen_Onet_train_data, ("--scale", 1.5))])
def test_impossible_numbers_are_one_sentence(call, tmp_path, script, flags):
    photo_folder(tmp_path / "photos")
    save_checkpoint(tmp_path / "pnet", PNet().state_dict())
    weights = ("--pnet", tmp_path / "pnet") if script is gen_Onet_train_data else ()
    done = call(script.main, "-dir_train", tmp_path / "photos", "-dir_val", "--out_train", tmp_path / "samples",
                *weights, *flags)
    assert done.status == 2 and flags[0] in done.sentence() and not (tmp_path / "samples").exists()


@pytest.fixture
def made(monkeypatch):
    """The samples that a generator would make, instead of making them."""
    data = []
    monkeypatch.setattr("MTCNN.data_preprocessing.generate.generate",
                        lambda folder, views, *_: bool(data.append(views)))
    return data


@pytest.mark.parametrize("script", [gen_Pnet_train_data, gen_Onet_train_data])
@pytest.mark.parametrize("what", ["counts", "poses", "seed", "swap", "threshold"])
def test_the_flags_of_the_generators_reach_the_samples(call, tmp_path, monkeypatch, made, script, what):
    monkeypatch.setattr("MTCNN.data_preprocessing.generate.PlateSwapper", lambda *arguments: arguments)
    weights = ("--pnet", PNET_WEIGHTS, "--threshold", 0.6) if script is gen_Onet_train_data else ()
    for seed in (7, 8):
        done = call(script.main, "-dir_train", photo_folder(tmp_path / "photos"), "-dir_val", "--out_train",
                    tmp_path / "out", "--positives", 1, "--parts", 2, "--near", 3, "--far", 4, "--poses", "ccpd_tilt",
                    "--seed", seed, "--swap", 0.5, "--glyphs", "typeface", *weights)
        assert done.status == 0, done.err
    first, second = made
    assert {"counts": lambda: first.choose.counts == Counts(1, 2, 3, 4), "poses": lambda: first.poses == ["ccpd_tilt"],
            "seed": lambda: first.seed != second.seed, "swap": lambda: first.swapper == (0.5, Path("typeface")),
            "threshold": lambda: not weights or first.choose.detector.thresholds.pnet_score == 0.6}[what]()


def test_samples_of_other_counts_are_not_taken_for_complete(call, tmp_path):
    photos = photo_folder(tmp_path / "photos")
    common = ("-dir_train", photos, "-dir_val", "--out_train", tmp_path / "out", "--views", 1)
    assert call(gen_Pnet_train_data.main, *common).status == 0
    assert "made with another counts" in call(gen_Pnet_train_data.main, *common, "--near", 3).sentence()


def test_the_command_takes_the_shares_of_folders(tmp_path):
    from MTCNN.data_preprocessing.sample_store import SampleWriter
    for name in "ab":
        writer = SampleWriter(tmp_path / name, (12, 47), {})
        writer.add(some_samples(np.random.default_rng(0), 20))
        writer.finish()
    run("pnet", "", ["--samples_train", str(tmp_path / "a"), str(tmp_path / "b"), "--samples_val", "--take", "1", "0.2",
                     "--list_train", str(tmp_path / "list.txt")])
    assert len(np.loadtxt(tmp_path / "list.txt")) == 3 * (20 + 4)


@pytest.mark.parametrize("flags", [(), ("--copy",)])
def test_photos_are_linked_or_copied_as_asked(call, tmp_path, flags):
    (photo,) = find_images(photo_folder(tmp_path / "ccpd", ["皖A12345"]))
    done = call(preprocess.main, "--img_dirs", tmp_path / "ccpd", "--dir_train", tmp_path / "train", "--dir_val",
                tmp_path / "val", "--val_share", 0, *flags)
    assert done.status == 0 and "wrote 1 photos" in done.out and "0 were there already" in done.out
    assert os.path.samefile(photo, find_images(tmp_path / "train")[0]) == (not flags)


@pytest.mark.parametrize("change", [("--pnet", "other"), ("--onet", "onet"), ("--threshold", 0.5), ("--scale", 0.5),
                                    ("--mini_lp", 60, 20)])
def test_onets_samples_of_other_nets_or_flags_are_not_taken_for_complete(call, tmp_path, change):
    photo_folder(tmp_path / "photos")
    for name, net in (("pnet", PNet()), ("other", PNet()), ("onet", ONet())):
        save_checkpoint(tmp_path / name, net.state_dict())
    generate = partial(call, gen_Onet_train_data.main, "-dir_train", "photos", "-dir_val", "--out_train", "samples",
                       "--views", 1, "--pnet", "pnet", cwd=tmp_path)
    assert generate().status == 0
    assert "is complete" in generate().out
    assert "made with another" in generate(*change).sentence()


def test_lists_and_mining_nets_reach_the_samples(call, tmp_path, made):
    photo_folder(tmp_path / "photos")
    name = photo_name("皖A12345")
    (tmp_path / "plain").write_text(f"{name}\n", "utf-8")
    (tmp_path / "ignored").write_text(f"{name} 1 2 30 40\n", "utf-8")
    common = ("-dir_train", "photos", "-dir_val", "--out_train", "out", "--plain_list", "plain", "--ignore_list",
              "ignored")
    assert call(gen_Pnet_train_data.main, *common, "--mine", PNET_WEIGHTS, "--mined", 7, cwd=tmp_path).status == 0
    assert call(gen_Onet_train_data.main, *common, "--pnet", PNET_WEIGHTS, "--onet", ONET_WEIGHTS,
                cwd=tmp_path).status == 0
    for samples in made:
        (one,) = (one for one in samples.photos if one.path.name == name)
        assert one.corners is None and one.ignore.tolist() == [[1, 2, 30, 40]]
    assert made[0].choose.detector is not None and made[0].choose.mined == 7 and made[1].choose.has_onet


def test_the_shares_and_the_seed_of_a_list_are_those_asked_for(tmp_path):
    writer = SampleWriter(tmp_path / "samples", (12, 47), {})
    writer.add({kind: (np.zeros((20, 12, 47, 3), np.uint8), np.zeros((20, 4))) for kind in SAMPLE_KINDS})
    writer.finish()

    def lines(name, *flags):
        target = tmp_path / name
        run("pnet", "", ["--samples_train", str(tmp_path / "samples"), "--samples_val", "--list_train", str(target),
                         *map(str, flags)])
        return target.read_text("utf-8").splitlines()

    kinds = Counter(line.split()[2] for line in lines("a", "--parts", 0.5, "--negatives", 0) if line[0].isdigit())
    assert kinds == {"1": 20, "-1": 10}
    assert lines("b", "--size", 10, "--seed", 1) != lines("c", "--size", 10, "--seed", 2)
