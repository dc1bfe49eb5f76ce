"""Changed photos to test on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ccpd import views
from ccpd.annotation import parse
from ccpd.plates import PlateRenderer
from ccpd.scenes import render_photo
from ccpd.vary import CHANGES, aslant, change_photo, main
from platekit.images import read_image, write_image
from platekit.inputs import find_images
from platekit.opencv import cv2
from tests.conftest import files_below, overlap


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    picture, annotation = render_photo("ccpd_base", PlateRenderer(), np.random.default_rng(5))
    path = tmp_path_factory.mktemp("photos") / annotation.file_name()
    write_image(path, picture)
    return path


def changed(path, change, seed):
    return change_photo(read_image(path), parse(path), change, seed)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_alters_the_plate_and_keeps_its_annotation(photo, change):
    before, original = parse(photo), read_image(photo)
    picture, after = changed(photo, change, seed=1)
    assert parse(after.file_name()) == after
    assert after.plate == before.plate
    x1, y1, x2, y2 = after.box
    assert 0 <= x1 < x2 < picture.shape[1] and 0 <= y1 < y2 < picture.shape[0]
    if change == "small":
        assert picture.shape[:2] == tuple(round(side / 3) for side in original.shape[:2])
        assert overlap(tuple(3 * side for side in after.box), before.box) > 0.9
        return
    difference = np.abs(picture.astype(int) - original)[y1:y2, x1:x2]
    assert picture.shape == original.shape and (difference.mean() > 4) == (change != "same")
    moves = change in ("turned", "aslant") or change.startswith("like_")
    assert (after.box != before.box) == moves
    again, other = (changed(photo, change, seed)[0] for seed in (1, 2))
    assert (again == picture).all()
    if change in ("noise", "night", "shadow", "streak", "reflection"):
        assert (other != picture).any()


def test_at_night_the_scene_is_dark_and_the_plate_is_not(photo):
    plate = np.zeros(read_image(photo).shape[:2], np.uint8)
    cv2.fillConvexPoly(plate, np.array(parse(photo).vertices, np.int32), 1)
    inside, outside = cv2.erode(plate, np.ones((9, 9))) > 0, cv2.dilate(plate, np.ones((9, 9))) == 0
    for seed in range(4):
        picture, day = changed(photo, "night", seed)[0], read_image(photo)
        assert abs(picture[inside].mean() / day[inside].mean() - 1) < 0.1
        assert np.median(picture[outside]) < 0.7 * np.median(day[outside])


def test_the_corners_move_with_the_plate(photo, monkeypatch):
    """What lies at the plate's corners before lies at the annotated ones afterwards."""
    monkeypatch.setattr(views, "change_look", lambda image, rng: image)
    monkeypatch.setattr(views, "look_like", lambda image, *_: image)
    for change in ("turned", "aslant", "small", "like_base"):
        picture, after = changed(photo, change, seed=3)
        original = read_image(photo)
        (x1, y1, x2, y2), (left, top, right, bottom) = parse(photo).box, after.box
        size = round(9 * np.sqrt((right - left) * (bottom - top) / (x2 - x1) / (y2 - y1)))  # as the plate's has changed
        for (x0, y0), (x1, y1) in zip(parse(photo).vertices, after.vertices):
            near = original[y0 - 9:y0 + 10, x0 - 9:x0 + 10].mean(axis=(0, 1))
            assert np.abs(picture[y1 - size:y1 + size + 1, x1 - size:x1 + size + 1].mean(axis=(0, 1)) - near).max() < 25


def test_a_small_plate_is_seen_from_the_side_in_a_photo_that_is_whole():
    """Nothing of it lies beyond the horizon, where a photo would appear mirrored."""
    picture = np.zeros((1160, 720, 3), np.uint8)
    corners = np.array([(100.0, 60), (20, 60), (20, 30), (100, 30)])
    for seed in range(6):
        _, matrix = aslant(picture, corners, np.random.default_rng(seed))
        edges = np.array([(0, 0, 1), (720, 0, 1), (0, 1160, 1), (720, 1160, 1)])
        assert ((edges @ matrix.T)[:, 2] > 0.05).all()


def test_corners_that_only_repeat_the_box_are_not_taken_for_the_plates():
    """Moved to those of a plate seen from the side, such corners would leave nothing to read."""
    picture, annotation = render_photo("ccpd_base", PlateRenderer(), np.random.default_rng(5))
    x1, y1, x2, y2 = annotation.box
    boxy = dataclasses.replace(annotation, vertices=((x2, y2), (x1, y2), (x1, y1), (x2, y1)))
    for seed in range(6):
        a, b, c, d = change_photo(picture, boxy, "like_tilt", seed)[1].box
        assert (c - a) / (d - b) > 0.7 * (x2 - x1) / (y2 - y1), seed


def test_photos_of_a_box_alone_are_not_moved_and_those_of_earlier_runs_are_told(call, tmp_path):
    picture, annotation = render_photo("ccpd_base", PlateRenderer(), np.random.default_rng(5))
    x1, y1, x2, y2 = annotation.box
    boxy = dataclasses.replace(annotation, vertices=((x2, y2), (x1, y2), (x1, y1), (x2, y1)))
    write_image(tmp_path / "a" / boxy.file_name(), picture)
    write_image(tmp_path / "b" / annotation.file_name(), picture)
    flags = "--changes", "same", "turned", "aslant", "--out", tmp_path / "varied"
    done = call(main, "--data", tmp_path / "a", *flags)
    assert done.status == 0 and "1 photos tell no corners" in done.out and "earlier runs" not in done.out
    assert [path.parent.name for path in find_images(tmp_path / "varied")] == ["ccpd_same"]
    done = call(main, "--data", tmp_path / "b", *flags)
    assert done.status == 0 and "tell no corners" not in done.out
    none = call(main, "--data", tmp_path / "a", "--changes", "turned", "--out", tmp_path / "none")
    assert "no photo could be changed so" in none.sentence()
    assert "1 photos of earlier runs are there too" in done.out and boxy.file_name() in done.out


def test_the_script_writes_a_folder_a_change(run_script, photo, tmp_path):
    write_image(photo.parent / "np_00001.jpg", np.zeros((40, 40, 3), np.uint8))
    done = run_script("ccpd/vary.py", "--data", photo.parent, "--out", "varied", "--changes", "same", "turned",
                      cwd=tmp_path)
    assert done.status == 0 and "wrote 2 photos" in done.out and "versions of 1, leaving out 0 and 1" in done.out
    found = find_images(tmp_path / "varied")
    assert [path.parent.name for path in found] == ["ccpd_same", "ccpd_turned"]
    write_image(tmp_path / photo.name, read_image(photo))
    again = run_script("ccpd/vary.py", "--data", ".", "varied", "--out", "varied", "--changes", "same", cwd=tmp_path)
    assert again.status == 0 and "wrote 1 photos" in again.out  # no changed one is changed again
    assert found[0].name == photo.name != found[1].name
    other = run_script("ccpd/vary.py", "--data", ".", "--out", "varied", "--seed", 1, cwd=tmp_path)
    assert other.status == 2 and "another seed" in other.sentence() and len(find_images(tmp_path / "varied")) == 2


def test_a_folder_without_annotations_is_refused(run_script, tmp_path):
    write_image(tmp_path / "in" / "photo.jpg", np.zeros((40, 40, 3), np.uint8))
    done = run_script("ccpd/vary.py", "--data", "in", "--out", "varied", cwd=tmp_path)
    assert done.status == 2 and "CCPD name" in done.sentence()
    assert not (tmp_path / "varied").exists()


def test_photos_are_not_changed_into_their_own_folder(run_script, photo):
    before = files_below(photo.parent)
    done = run_script("ccpd/vary.py", "--data", photo.parent, "--out", ".", cwd=photo.parent)
    assert done.status == 2 and "is the folder of the photos" in done.sentence()
    assert files_below(photo.parent) == before


def test_photos_of_one_name_are_all_kept_and_bad_ones_left_out(run_script, photo, tmp_path):
    for folder in ("ccpd_base", "ccpd_tilt"):
        write_image(tmp_path / "in" / folder / photo.name, read_image(photo))
    (tmp_path / "in" / "a" / photo.name).parent.mkdir()
    (tmp_path / "in" / "a" / photo.name).write_bytes(b"no picture")
    done = run_script("ccpd/vary.py", "--data", "in", "--out", "varied", "--changes", "same", cwd=tmp_path)
    assert done.status == 1 and "wrote 2 photos" in done.out and "left out: cannot decode" in done.err
    assert len(find_images(tmp_path / "varied")) == 2


def test_a_photo_that_was_made_smaller_is_left_out(call, photo, tmp_path):
    """Else its box, moved into the picture, would pass for the plate's."""
    for place, factor in (("small", 0.3), ("whole", 1)):
        write_image(tmp_path / "in" / place / photo.name, cv2.resize(read_image(photo), None, fx=factor, fy=factor))
    done = call(main, "--data", tmp_path / "in", "--out", tmp_path / "varied", "--changes", "turned")
    assert done.status == 1 and "was it made smaller?" in done.err and "wrote 1 photos" in done.out


def test_another_seed_changes_photos_otherwise(call, photo, tmp_path):
    for seed in (1, 2):
        assert call(main, "--data", photo.parent, "--out", tmp_path / f"{seed}", "--changes", "noise", "--seed",
                    seed).status == 0
    first, second = (read_image(find_images(tmp_path / f"{seed}")[0]) for seed in (1, 2))
    assert (first != second).any()
