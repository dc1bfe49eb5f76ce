"""The synthetic stand-in for CCPD."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ccpd.annotation import has_annotation, parse
from ccpd.dataset import PHOTO_SIZE, SUBSETS, find_subsets
from ccpd.geometry import sample_pose
from ccpd.layout import corners_of_kind
from ccpd.plate_kinds import KINDS
from ccpd.plates import PlateRenderer, plate_mask
from ccpd.scenes import _inside, annotate, fit_to, mount_plate, render_photo
from ccpd.synthesize import DRAWING, main, photo_file, synthesize
from platekit.corners import bounding_box, box_corners, is_convex
from platekit.errors import UserError
from platekit.images import read_image
from platekit.opencv import cv2
from tests.conftest import make_picture, put_picture

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    out = tmp_path_factory.mktemp("ccpd")
    assert main(["--out", str(out), "--count", "2"]) == 0
    return out


def test_every_subset_has_photos_that_are_their_own_annotation(stand_in):
    found = find_subsets(stand_in)
    assert set(found) == set(SUBSETS)
    for subset, folder in found.items():
        photos = sorted(folder.glob("*.jpg"))
        assert len(photos) == 2
        for path in photos:
            height, width = read_image(path).shape[:2]
            assert (width, height) == PHOTO_SIZE
            if subset == "ccpd_np":
                assert not has_annotation(path.name)
                continue
            annotation = parse(path.name)
            assert annotation.file_name() == path.name
            corners = np.array(annotation.vertices)
            assert tuple(annotation.box) == (*corners.min(axis=0), *corners.max(axis=0))
            assert corners.min() >= 0 and (corners < PHOTO_SIZE).all()
            assert is_convex(corners.astype(float))
            assert len(annotation.plate) == (8 if subset == "ccpd_green" else 7)


def test_a_second_run_adds_only_what_is_missing(tmp_path, capsys):
    def files():
        return {path.name: path.read_bytes() for path in (tmp_path / "ccpd_base").glob("*.jpg")}

    run = ["--out", str(tmp_path), "--subsets", "ccpd_base"]
    main([*run, "--count", "2"])
    first = files()
    next(iter((tmp_path / "ccpd_base").glob("*.jpg"))).unlink()
    main([*run, "--count", "3"])
    second = files()
    assert len(second) == 3 and first.items() <= second.items()
    assert "next: python MTCNN/data_set/preprocess.py" in capsys.readouterr().out
    for other in (("--seed", "1"), ("--size", "360", "580")):
        with pytest.raises(UserError, match="another --out"):
            main([*run, "--count", "3", *other])
    assert files() == second


def test_what_another_generator_drew_is_not_gone_on_with(tmp_path, monkeypatch):
    glyphs = tmp_path / "glyphs"
    put_picture(glyphs / "140_B.jpg", make_picture(30, 20))
    run = ["--out", str(tmp_path / "out"), "--subsets", "ccpd_np", "--glyphs", str(glyphs)]
    main([*run, "--count", "1"])
    main([*run, "--count", "2"])
    put_picture(glyphs / "140_A.jpg", make_picture(30, 20))
    with pytest.raises(UserError, match="another --out"):
        main([*run, "--count", "3"])
    (glyphs / "140_A.jpg").unlink()
    monkeypatch.setattr("ccpd.synthesize.DRAWING", ("ccpd.plates",))
    with pytest.raises(UserError, match="another --out"):
        main([*run, "--count", "3"])


def test_the_same_glyphs_elsewhere_are_gone_on_with(tmp_path):
    put_picture(tmp_path / "glyphs" / "140_B.jpg", make_picture(30, 20))
    run = ["--out", str(tmp_path / "out"), "--subsets", "ccpd_np", "--glyphs"]
    main([*run, str(tmp_path / "glyphs"), "--count", "1"])
    main([*run, str(shutil.copytree(tmp_path / "glyphs", tmp_path / "copy")), "--count", "2"])
    assert len(list((tmp_path / "out" / "ccpd_np").glob("*.jpg"))) == 2


def test_all_modules_that_decide_what_photos_show_are_known():
    seen: set[str] = set()

    def visit(name: str) -> None:
        path = ROOT / f"{name.replace('.', '/')}.py"
        if name in seen or not path.is_file():
            return
        seen.add(name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    visit(module)

    visit("ccpd.scenes")
    assert set(DRAWING) == seen - {f"platekit.{name}" for name in ("errors", "files", "opencv", "paths")}


def test_a_folder_of_somebody_elses_photos_is_left_alone(tmp_path):
    put_picture(tmp_path / "ccpd_np" / "np_00001.jpg", make_picture(40, 60))
    before = (tmp_path / "ccpd_np" / "np_00001.jpg").read_bytes()
    with pytest.raises(UserError, match="were not drawn by this script; choose another --out"):
        main(["--out", str(tmp_path), "--subsets", "ccpd_np", "--count", "2"])
    assert (tmp_path / "ccpd_np" / "np_00001.jpg").read_bytes() == before


@pytest.mark.parametrize("subset", ["ccpd_base", "ccpd_tilt", "ccpd_rotate"])
def test_the_annotation_ends_where_the_plate_does_and_begins_at_its_lower_right_corner(subset):
    corners = sample_pose(subset, np.random.default_rng(0)).corners
    photo, plate = np.zeros((1160, 720, 3), np.uint8), np.full((140, 440, 3), 128, np.uint8)
    plate[:20, :40], plate[-20:, -40:] = (0, 0, 255), (255, 0, 0)  # upper left red, lower right blue
    sharp = np.ones((140, 440), np.float32)  # no rounded corners
    mount_plate(photo, corners, plate, sharp, 128, SimpleNamespace(random=lambda: 0.99))  # in even light
    annotation = annotate(photo, corners, "皖A12345")
    y, x = np.nonzero(photo.max(axis=2) > 64)
    np.testing.assert_allclose(annotation.box, (x.min(), y.min(), x.max(), y.max()), atol=1.5)
    for channel, vertex in ((0, 0), (2, 2)):
        marked = np.argwhere((photo[..., channel] > 200) & (photo[..., 2 - channel] < 60)).mean(axis=0)[::-1]
        assert np.linalg.norm(np.subtract(annotation.vertices, marked), axis=1).argmin() == vertex


def test_a_lamp_mirrored_in_a_plate_leaves_it_whole():
    photo, plate = np.zeros((200, 300, 3), np.uint8), np.full((140, 220, 3), 100, np.uint8)
    mount_plate(photo, box_corners((40, 30, 260, 170)).astype(float), plate, np.ones((140, 220), np.float32), 100,
                np.random.default_rng(next(seed for seed in range(99)
                                           if np.random.default_rng(seed).random(2)[1] < 0.08 <
                                           0.6 < np.random.default_rng(seed).random())))
    inside = photo[35:165, 45:255]
    assert inside.min() > 40 and inside.max() > 1.2 * np.median(inside)


def test_at_a_plates_rounded_corners_the_car_shows():
    photo, plate = np.full((200, 300, 3), (0, 90, 0), np.uint8), np.full((140, 220, 3), 200, np.uint8)
    corners = box_corners((40, 30, 260, 170)).astype(float)
    mask = plate_mask(plate, KINDS["motorcycle"])
    assert mask[70, [0, -1]].min() == mask[[0, -1], 110].min() == 1 == mask.max() and mask.mean() > 0.995
    mount_plate(photo, corners, plate, mask, 200, SimpleNamespace(random=lambda: 0.99))
    for x, inward in ((40, 1), (259, -1)):
        for y, down in ((30, 1), (169, -1)):
            assert (photo[y:y + 2 * down:down, x:x + 2 * inward:inward] == (0, 90, 0)).all()
            assert photo[y + 5 * down, x + 5 * inward].min() > 150  # a radius of 10 mm, here of 10 pixels


@pytest.mark.parametrize(("turned", "sheared", "tilt"), [(0, 0, (0, 0)), (20.6, 0, (20, 0)), (-20.6, 0, (20, 0)),
                                                         (0, 10.7, (0, 10)), (20.6, 10.7, (20, 10))])
def test_angles_are_those_of_the_line_and_from_right_ones_rounded_down(turned, sheared, tilt):
    """As in CCPD's names, of which nearly all follow from their corners so."""
    angle, shear = np.radians((turned, sheared))
    across = np.array([np.cos(angle), np.sin(angle)])
    down = np.array([-np.sin(angle - shear), np.cos(angle - shear)])
    corners = np.array([300, 400]) + [100 * across + 40 * down, 40 * down, 0 * down, 100 * across]
    annotation = annotate(np.zeros((1160, 720, 3), np.uint8), corners, "皖A12345")
    assert annotation.tilt == tilt
    x1, y1, x2, y2 = annotation.box
    assert annotation.area == f"{(x2 - x1) * (y2 - y1) * 10000 // (720 * 1160):04d}"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_glyphs_in_a_folder_whose_name_is_no_utf8_are_noted(tmp_path):
    glyphs = tmp_path / os.fsdecode(b"gbk\xff\xa1")
    glyphs.mkdir()
    put_picture(glyphs / "140_A.jpg", make_picture(140, 60))
    for count in (1, 0):
        assert synthesize(tmp_path / "out", "ccpd_np", 1, glyphs=glyphs) == count


def test_a_photo_depends_on_seed_subset_and_number_alone():
    busy = PlateRenderer()
    for i in range(3):
        photo_file("ccpd_tilt", i, 5, busy)
    assert photo_file("ccpd_db", 1, 5, busy) == photo_file("ccpd_db", 1, 5, PlateRenderer())
    assert photo_file("ccpd_db", 1, 5, busy) != photo_file("ccpd_db", 1, 6, busy)


def test_the_plate_is_where_the_name_says():
    """The box of a plain yellow plate is yellow, its surroundings are not."""
    renderer = PlateRenderer()
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(8):
        photo, annotation = render_photo("ccpd_base", renderer, rng, ["yellow"])
        x1, y1, x2, y2 = annotation.box
        yellow = photo[:, :, 1:].min(axis=2).astype(int) - photo[:, :, 0] > 25
        hits += yellow[y1:y2, x1:x2].mean() > 2 * yellow.mean()
    assert hits >= 6


def test_light_makes_a_white_plate_brighter_than_a_blue_one():
    renderer = PlateRenderer()

    def brightness(kind: str) -> float:
        return np.mean([render_photo("ccpd_base", renderer, np.random.default_rng(seed), [kind])[1].brightness
                        for seed in range(20)])

    assert brightness("black") < 0.85 * brightness("blue") < 0.7 * brightness("white")


def test_a_high_plate_is_moved_into_the_photo():
    """Of a motorcycle, half as high as wide, in a pose of an ordinary plate near the photo's edge."""
    _, annotation = render_photo("ccpd_fn", PlateRenderer(), np.random.default_rng(21), ["motorcycle"])
    wanted = corners_of_kind(sample_pose("ccpd_fn", np.random.default_rng(21)).corners, KINDS["motorcycle"])
    assert wanted[:, 0].max() > 740
    np.testing.assert_allclose(np.array(annotation.vertices), wanted - (wanted[:, 0].max() - 719, 0), atol=1.6)


def test_a_plate_that_is_larger_than_the_photo_is_shrunk_into_it():
    corners = np.array([(800.0, 600), (20, 560), (20, 100), (800, 140)])
    inside = _inside(corners)
    assert inside.min() >= -1e-6 and (inside.max(axis=0) <= np.array(PHOTO_SIZE) + 1e-6).all()
    np.testing.assert_allclose(np.diff(inside, axis=0) * 780 / 720, np.diff(corners, axis=0), atol=1e-6)


def test_a_green_plate_keeps_its_own_shape():
    """It is wider than a blue one."""
    def shape(kind: str) -> float:
        boxes = [render_photo("ccpd_base", PlateRenderer(), np.random.default_rng(seed), [kind])[1].box
                 for seed in range(4)]
        return np.mean([(x2 - x1) / (y2 - y1) for x1, y1, x2, y2 in boxes])

    assert shape("green") > 1.04 * shape("blue")


def test_other_sizes_carry_the_annotation_along():
    photo, annotation = render_photo("ccpd_base", PlateRenderer(), np.random.default_rng(1), size=(360, 580))
    full, whole = render_photo("ccpd_base", PlateRenderer(), np.random.default_rng(1))
    assert photo.shape == (580, 360, 3) and full.shape == (1160, 720, 3)
    assert np.allclose(np.array(annotation.box) * 2, whole.box, atol=2)


@pytest.mark.parametrize("subset", ["ccpd_base", "ccpd_np"])
def test_nights_are_dark_but_for_their_plates_and_lamps(subset, monkeypatch):
    means = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr("ccpd.scenes.OTHER_NIGHTS", share)
        shown = [render_photo(subset, PlateRenderer(), np.random.default_rng(seed)) for seed in range(4)]
        means[share] = np.mean([np.median(photo) for photo, _ in shown])
        plates = [photo[y1:y2, x1:x2].mean() for photo, annotation in shown if annotation
                  for x1, y1, x2, y2 in [annotation.box]]
        assert not plates or np.mean(plates) > 80
    assert means[1.0] < 0.6 * means[0.0]


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080), (64, 64), (400, 90), (360, 580)])
@pytest.mark.parametrize("subset", ["ccpd_base", "ccpd_rotate"])
def test_photos_of_any_shape_show_the_plate_whole_and_undistorted(size, subset):
    corners = sample_pose(subset, np.random.default_rng(4)).corners
    photo = np.zeros((1160, 720, 3), np.uint8)
    cv2.fillConvexPoly(photo, np.round(corners).astype(np.int32), (0, 0, 255))
    fitted, moved = fit_to(photo, corners, size)
    assert fitted.shape == (*size[::-1], 3)
    assert moved.min() > -0.5 and (moved.max(axis=0) < np.array(size) - 0.5).all()
    scale = np.ptp(moved, axis=0) / np.ptp(corners, axis=0)
    assert scale[0] == pytest.approx(scale[1], rel=0.02)
    y, x = np.nonzero(fitted[..., 2] > 127)
    np.testing.assert_allclose((x.min(), y.min(), x.max(), y.max()), bounding_box(moved), atol=1.5 + scale[0])


@pytest.mark.parametrize("start", [["ccpd/synthesize.py"], ["-m", "ccpd.synthesize"]])
def test_the_script_runs_from_anywhere(tmp_path, start):
    command = [sys.executable, str(ROOT / start[0])] if start[0] != "-m" else [sys.executable, *start]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} if start[0] == "-m" else dict(os.environ)
    done = subprocess.run(
        [*command, "--out", "made", "--count", "1", "--subsets", "ccpd_green"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "made" / "ccpd_green").glob("*.jpg"))) == 1


def test_wrong_usage_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "ccpd" / "synthesize.py"), "--glyphs", str(tmp_path / "nowhere")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_plates_of_the_kinds_asked_for_are_drawn(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("ccpd.synthesize.synthesize",
                        lambda out, subset, count, seed, glyphs, kinds, *_: asked.append(kinds) or 0)
    assert main(["--out", str(tmp_path), "--subsets", "ccpd_base", "--kinds", "yellow", "motorcycle"]) == 0
    assert asked == [["yellow", "motorcycle"]]


def test_photos_are_drawn_with_the_glyphs_given(tmp_path):
    for symbol in "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789":
        put_picture(tmp_path / "glyphs" / f"140_{symbol}.jpg", np.zeros((140, 70, 3), np.uint8))
    for name, glyphs in (("given", tmp_path / "glyphs"), ("none", None)):
        synthesize(tmp_path / name, "ccpd_base", 1, glyphs=glyphs, kinds=["blue"])
    given, none = (read_image(next((tmp_path / name).glob("*/*.jpg"))) for name in ("given", "none"))
    assert np.abs(given.astype(int) - none).max() > 60
