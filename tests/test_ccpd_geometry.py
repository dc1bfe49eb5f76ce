"""The plate geometry of the subsets."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccpd.annotation import parse
from ccpd.dataset import PHOTO_SIZE, SUBSETS
from ccpd.fit_geometry import describe, fit, main
from ccpd.geometry import relative_corners, sample_pose, shear_corners
from platekit.corners import is_convex
from platekit.errors import UserError


@given(subset=st.sampled_from(list(SUBSETS)), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=400)
def test_relative_corners_are_a_convex_plate_that_fills_its_box(subset, seed):
    corners = relative_corners(subset, np.random.default_rng(seed))
    assert corners.shape == (4, 2)
    assert is_convex(corners)
    assert np.allclose(corners.min(axis=0), 0) and np.allclose(corners.max(axis=0), 1)
    right_bottom, left_bottom, left_top, right_top = corners
    assert right_bottom[0] > left_bottom[0] and right_top[0] > left_top[0]
    assert left_bottom[1] > left_top[1] and right_bottom[1] > right_top[1]


@given(subset=st.sampled_from(list(SUBSETS)), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=400)
def test_poses_lie_inside_the_photo(subset, seed):
    pose = sample_pose(subset, np.random.default_rng(seed))
    again = sample_pose(subset, np.random.default_rng(seed))
    assert np.array_equal(pose.corners, again.corners)
    x1, y1, x2, y2 = pose.box
    assert 0 <= x1 < x2 <= PHOTO_SIZE[0] - 1 and 0 <= y1 < y2 <= PHOTO_SIZE[1] - 1
    assert x2 - x1 >= 39 and is_convex(pose.corners)
    assert 0 <= pose.brightness <= 255 and pose.blurriness >= 0


def test_subsets_differ_as_their_names_say():
    rng = np.random.default_rng(0)
    poses = {subset: [sample_pose(subset, rng) for _ in range(400)] for subset in SUBSETS}

    def median(subset, measure):
        return np.median([measure(pose) for pose in poses[subset]])

    def aspect(pose):
        x1, y1, x2, y2 = pose.box
        return (x2 - x1) / (y2 - y1)

    assert median("ccpd_tilt", aspect) < 1.5 < 2.5 < median("ccpd_base", aspect)
    assert median("ccpd_rotate", aspect) < 1.5
    assert median("ccpd_blur", lambda pose: pose.blurriness) < 10 < median("ccpd_base", lambda pose: pose.blurriness)
    assert median("ccpd_db", lambda pose: pose.brightness) < 60 < median("ccpd_base", lambda pose: pose.brightness)


@given(slope=st.floats(-0.9, 0.9), lean=st.floats(-0.9, 0.9))
def test_shears_are_read_back_from_the_corners(slope, lean):
    corners = shear_corners(slope, lean)
    right_bottom, left_bottom, left_top, right_top = corners
    assert np.allclose(corners.min(axis=0), 0, atol=1e-9) and np.allclose(corners.max(axis=0), 1)
    assert np.isclose(right_top[1] - left_top[1], slope) and np.isclose(left_bottom[0] - left_top[0], lean)
    assert np.isclose(right_bottom[1] - left_bottom[1], slope)


def test_fitting_returns_the_statistics_it_was_given(tmp_path):
    rng = np.random.default_rng(0)
    names = []
    for i in range(400):
        size, slope, lean = np.array([rng.uniform(150, 250), rng.uniform(60, 90)]), rng.uniform(0.1, 0.3), -0.1
        points = np.round((300, 500) + shear_corners(slope, lean) * size).astype(int)
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
        corners = "_".join(f"{x}&{y}" for x, y in points)
        names.append(f"03-1_1-{x1}&{y1}_{x2}&{y2}-{corners}-0_0_1_2_3_4_{i % 30}-{rng.integers(50, 150)}-40.jpg")
    (part,) = fit(map(parse, names))
    assert part["weight"] == 1.0
    assert part["quantiles"]["slope"][5] == pytest.approx(0.2, abs=0.03)
    assert part["quantiles"]["brightness"][5] == pytest.approx(100, abs=8)

    (tmp_path / "ccpd_rotate.txt").write_text("\n".join(names))
    assert main(["--fit", str(tmp_path), "--out", str(tmp_path / "table.json")]) == 0
    table = tmp_path / "table.json"
    assert list(json.loads(table.read_text())) == ["ccpd_rotate"]
    table.write_text(json.dumps({"ccpd_tilt": ["kept"], "ccpd_rotate": ["replaced"]}))
    assert main(["--fit", str(tmp_path), "--out", str(table)]) == 0
    assert json.loads(table.read_text()) == {"ccpd_tilt": ["kept"], "ccpd_rotate": [part]}
    (tmp_path / "ccpd_rotate.txt").write_text("\n".join(f"ccpd_rotate/{name}" for name in names))
    (tmp_path / "plain").write_text("\n".join(f"ccpd_rotate/{name}" for name in names))
    for more in (["--plain_list", str(tmp_path / "plain")], []):
        if not more:
            (tmp_path / "ccpd_rotate.txt").write_text(names[0])
        with pytest.raises(UserError, match="nothing was fitted"):
            main(["--fit", str(tmp_path), "--out", str(table), *more])
    assert json.loads(table.read_text())["ccpd_rotate"] == [part]


def test_corners_that_only_repeat_the_box_teach_nothing():
    box_only = "01-90_90-100&100_200&150-200&150_100&150_100&100_200&100-0_0_1_2_3_4_5-90-40.jpg"
    assert describe(parse(box_only)) is None


def test_unknown_subsets_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="ccpd_moon"):
        sample_pose("ccpd_moon", np.random.default_rng(0))
    with pytest.raises(UserError, match="too few"):
        fit([])
    with pytest.raises(UserError, match="not a folder"):
        main(["--fit", str(tmp_path / "nowhere")])


@pytest.mark.parametrize(("name", "content"), [
    ("ccpd_tilt.txt.gz", b"no gzip"), ("ccpd_tilt.txt.gz", gzip.compress(b"a.jpg", mtime=0)[:-9]),
    ("ccpd_tilt.txt.gz", gzip.compress(b"a.jpg", mtime=0)[:10] + b"\xff" * 30), ("ccpd_tilt.txt", b"\xff\xa1.jpg")])
def test_lists_that_cannot_be_read_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"cannot read the list .*{name}"):
        main(["--fit", str(tmp_path)])
