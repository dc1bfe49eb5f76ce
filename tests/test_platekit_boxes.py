"""Box arithmetic: offsets, clipping, and the crop that every net sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision import ops

from platekit.boxes import at_least, box_iou, clip_boxes, decode_offsets, encode_offsets, suppress
from platekit.crops import _sample_by_opencv, _sample_by_torch, crop_resize, normalise, sample_boxes, upload
from platekit.opencv import cv2
from tests.conftest import make_picture
from tests.makers import noise

corner = st.floats(-2000, 2000, width=32)
side = st.floats(0.5, 1500, width=32)
box = st.tuples(corner, corner, side, side).map(lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3]))


KINDS = [np.array, torch.tensor]  # of batches that offsets are computed of: training has tensors


@given(st.lists(st.tuples(box, box), max_size=5), st.sampled_from(KINDS))
def test_decoding_inverts_encoding(pairs, kind):
    boxes, anchors = (kind(np.array(side).reshape(-1, 4)) for side in ([a for a, _ in pairs], [b for _, b in pairs]))
    decoded = decode_offsets(encode_offsets(boxes, anchors), anchors)
    assert type(decoded) is type(boxes)
    np.testing.assert_allclose(decoded, boxes, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_are_corner_differences_over_the_anchor_size(kind):
    anchors = kind([[100.0, 50.0, 300.0, 100.0], [100, 50, 300, 100]])  # 200 wide, 50 high
    boxes = kind([[120.0, 45.0, 280.0, 110.0]])
    assert encode_offsets(boxes, anchors[:1]).tolist() == [pytest.approx([0.1, -0.1, -0.1, 0.2])]
    assert encode_offsets(boxes, anchors).tolist() == [pytest.approx([0.1, -0.1, -0.1, 0.2])] * 2
    offsets, anchors = kind([[0.1, -0.1, -0.1, 0.2]]), anchors[:1]
    assert decode_offsets(offsets, anchors).tolist() == [pytest.approx([120, 45, 280, 110])]


@given(st.lists(box, min_size=1, max_size=6), st.integers(1, 1200), st.integers(1, 1200))
def test_clipped_boxes_lie_inside_and_the_given_ones_stay(boxes, height, width):
    given_boxes = np.array(boxes)
    before = given_boxes.copy()
    clipped = clip_boxes(given_boxes, height, width)
    assert np.array_equal(given_boxes, before)
    assert (clipped >= 0).all() and (clipped[:, 0::2] <= width).all() and (clipped[:, 1::2] <= height).all()
    inside = (before[:, :2] >= 0).all(1) & (before[:, 2] <= width) & (before[:, 3] <= height)
    assert np.array_equal(clipped[inside], before[inside])


def test_a_box_beside_the_picture_has_no_area_left():
    clipped = clip_boxes(np.array([[-50.0, 10.0, -5.0, 30.0], [5.0, 5.0, 60.0, 20.0]]), 40, 100)
    assert clipped.tolist() == [[0, 10, 0, 30], [5, 5, 60, 20]] and at_least(clipped, 2).tolist() == [False, True]


@pytest.mark.filterwarnings("error")
def test_a_picture_that_may_not_be_written_to_is_taken_without_a_word():
    image = np.frombuffer(bytes(range(24)), np.uint8).reshape(2, 4, 3)  # as from a pipe
    assert upload(image)[0].permute(1, 2, 0).tolist() == image.tolist()


def test_normalising_leaves_the_picture_alone():
    image = np.array([[[0, 127, 255]]], dtype=np.uint8)
    found = normalise(upload(image))
    assert found.shape == (1, 3, 1, 1) and found.dtype == torch.float32
    assert found.flatten().tolist() == pytest.approx([-127.5 / 128, -0.5 / 128, 127.5 / 128])
    assert image.tolist() == [[[0, 127, 255]]]
    floats = torch.tensor([0.0, 255.0])
    assert normalise(floats).tolist() == pytest.approx([-127.5 / 128, 127.5 / 128])
    assert floats.tolist() == [0, 255]


def test_a_crop_of_the_whole_picture_is_the_mean_of_areas():
    image = noise(72, 282)  # three times 24x94
    crop = crop_resize(upload(image), np.array([[0.0, 0.0, 282.0, 72.0]]))
    means = image.reshape(24, 3, 94, 3, 3).mean(axis=(1, 3))
    assert crop.shape == (1, 3, 24, 94)
    np.testing.assert_allclose(crop[0].permute(1, 2, 0).numpy() * 128 + 127.5, means, atol=1e-3)


def test_a_crop_of_its_own_size_is_the_pixels_themselves():
    image = make_picture(60, 200, 1)
    crop = crop_resize(upload(image), np.array([[30.0, 20.0, 124.0, 44.0]]))
    expected = normalise(upload(image[20:44, 30:124]))
    torch.testing.assert_close(crop, expected, atol=1e-5, rtol=0)


@settings(max_examples=30)
@given(st.integers(0, 40), st.integers(0, 20), st.integers(1, 3), st.integers(1, 3))
def test_a_crop_moves_with_its_box(x, y, across, down):
    """The same content at another place gives the same crop, whatever the box's size."""
    plate = noise(24 * down, 94 * across, seed=x)
    picture = np.full((24 * down + 40, 94 * across + 60, 3), 90, dtype=np.uint8)
    picture[y:y + plate.shape[0], x:x + plate.shape[1]] = plate
    box = np.array([[x, y, x + plate.shape[1], y + plate.shape[0]]], dtype=np.float32)
    alone = np.array([[0, 0, plate.shape[1], plate.shape[0]]], dtype=np.float32)
    torch.testing.assert_close(crop_resize(upload(picture), box), crop_resize(upload(plate), alone),
                               atol=1e-4, rtol=0)


def test_outside_the_picture_is_mid_grey():
    white = np.full((24, 94, 3), 255, dtype=np.uint8)
    crop = crop_resize(upload(white), np.array([[-94.0, 0.0, 94.0, 24.0]]))
    assert crop[..., :46].abs().max() == 0
    assert torch.allclose(crop[..., 48:], torch.tensor(127.5 / 128))


def test_no_boxes_give_no_crops():
    assert crop_resize(upload(make_picture(30, 30)), np.zeros((0, 4))).shape == (0, 3, 24, 94)


def test_only_byte_pictures_and_sound_boxes_are_cropped():
    box = np.array([[30.0, 20.0, 124.0, 44.0]])
    with pytest.raises(ValueError, match="uint8"):
        crop_resize(normalise(upload(make_picture(60, 200))), box)
    for other in (box * float("nan"), box * float("inf"), box[:, ::-1], box[:, [0, 1, 0, 3]]):
        with pytest.raises(ValueError, match="finite boxes with x1 < x2"):
            crop_resize(upload(make_picture(60, 200)), other)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (200, 1), (2, 2)])
def test_the_smallest_pictures_are_cropped(size):
    crop = crop_resize(upload(np.full((*size, 3), 255, np.uint8)), np.array([[0.0, 0.0, *size[::-1]]]))
    assert torch.allclose(crop, torch.tensor(127.5 / 128))


IDENTITY = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


@pytest.mark.parametrize("enlarged", (1, 2, 3, 9))
def test_an_untransformed_box_is_sampled_as_its_crop(enlarged):
    image = cv2.resize(make_picture(240, 700, 2), None, fx=enlarged, fy=enlarged)
    pixels, boxes = upload(image), np.array([[60.0, 50.0, 530.0, 170.0], [610.0, 10.0, 695.0, 30.0]]) * enlarged
    sampled = sample_boxes(pixels, boxes, IDENTITY.repeat(2, 1, 1))
    torch.testing.assert_close(sampled, crop_resize(pixels, boxes), atol=0.05, rtol=0)


@settings(max_examples=30)
@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(0.6, 1.05), st.floats(0.4, 1.05), st.integers(1, 8))
def test_a_box_is_sampled_where_the_transform_says(right, down, across, along, enlarged):
    """Moved and scaled: the same as the crop of the box that the transform describes, also outside the box."""
    image = cv2.resize(make_picture(240, 700, 2), None, fx=enlarged, fy=enlarged)
    pixels, (x1, y1, x2, y2) = upload(image), (enlarged * side for side in (150.0, 60.0, 520.0, 170.0))
    theta = torch.tensor([[[across, 0, right], [0, along, down]]])
    centre = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2])
    half = torch.tensor([(x2 - x1) / 2, (y2 - y1) / 2])
    middle, reach = centre + half * theta[0, :, 2], half * torch.tensor([across, along])
    described = torch.cat([middle - reach, middle + reach])[None]
    sampled = sample_boxes(pixels, np.array([[x1, y1, x2, y2]]), theta)
    torch.testing.assert_close(sampled, crop_resize(pixels, described.numpy()), atol=0.05, rtol=0)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-200, 1500), st.floats(-200, 900), st.floats(2, 1500), st.floats(2, 900)),
                min_size=1, max_size=4),
       st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6))
@example([(0, -2, 2, 2), (1401.5, 100, 1, 1)], [0.0] * 6)  # half a pixel outside
def test_all_devices_sample_the_same(places, numbers):
    """What a GPU does, done on the CPU: the samples differ by rounding to pixel values, and to 1/32 of a pixel."""
    pixels = upload(cv2.resize(make_picture(240, 700, 2), (1401, 903)))
    boxes = np.array([[x, y, x + width, y + height] for x, y, width, height in places])
    theta = torch.tensor(numbers).view(1, 2, 3).repeat(len(boxes), 1, 1)
    mine = sample_boxes(pixels, boxes, theta)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("platekit.crops._sample_by_opencv", _sample_by_torch)
        torch.testing.assert_close(mine, sample_boxes(pixels, boxes, theta), atol=0.05, rtol=0)


def test_the_outside_is_sampled_as_mid_grey():
    pixels = upload(np.full((24, 94, 3), 255, np.uint8))
    boxes = np.array([[-94.0, 0, 94, 24], [200, 0, 300, 24]])
    half, none = sample_boxes(pixels, boxes, IDENTITY.repeat(2, 1, 1))
    assert half[..., :46].abs().max() < 0.01 and none.abs().max() < 0.01
    assert torch.allclose(half[..., 48:], torch.tensor(127.5 / 128))


@pytest.mark.parametrize("size", [(24, 94), (12, 47), (255, 1000), (1277, 5003), (3000, 96), (9000, 40), (3, 40_000)])
@pytest.mark.parametrize("sample", [_sample_by_opencv, _sample_by_torch])
def test_a_whole_picture_is_sampled_to_its_border(size, sample, monkeypatch):
    monkeypatch.setattr("platekit.crops._sample_by_opencv", sample)
    pixels = upload(np.full((*size, 3), 255, np.uint8))
    crop = sample_boxes(pixels, np.array([[0.0, 0, size[1], size[0]]]), IDENTITY)
    assert torch.allclose(crop, torch.tensor(127.5 / 128))


def test_a_picture_of_floats_is_not_sampled():
    with pytest.raises(ValueError, match="uint8"):
        sample_boxes(normalise(upload(make_picture(30, 90))), np.array([[0.0, 0, 90, 30]]), IDENTITY)


def test_the_longest_boxes_are_sampled():
    """Longer than 32,767 pixels, which was too much for older versions of OpenCV."""
    image = np.random.default_rng(0).integers(0, 255, (6, 80_000, 3), np.uint8)
    assert sample_boxes(upload(image), np.array([[0.0, 0, 80_000, 6]]), IDENTITY).std() > 0


def test_suppression_and_crops_are_torchvisions():
    """torchvision is not imported at run time, for the time that takes; its functions are the reference here."""
    random = torch.Generator().manual_seed(0)
    corners = torch.rand(150, 2, generator=random) * 150 - 20
    boxes = torch.cat([corners, corners + 4 + torch.rand(150, 2, generator=random) * 90], dim=1)
    scores = torch.rand(150, generator=random)
    arrays = boxes.numpy()
    kept = ops.nms(boxes, scores, 0.4).numpy()
    assert np.array_equal(suppress(arrays, scores.numpy(), 0.4), kept)
    assert np.array_equal(suppress(arrays, scores.numpy(), 0.4, 7), kept[:7])
    np.testing.assert_allclose(box_iou(arrays, arrays[:9]), ops.box_iou(boxes, boxes[:9]), rtol=1e-5)
    pixels = torch.randint(0, 256, (1, 3, 90, 140), generator=random, dtype=torch.uint8)
    for size in ((24, 94), (12, 47)):
        wanted = ops.roi_align(normalise(pixels), [boxes], size, sampling_ratio=-1, aligned=True)
        torch.testing.assert_close(crop_resize(pixels, arrays, size), wanted, atol=1e-3, rtol=0)


def test_iou_by_hand():
    boxes = np.array([(0.0, 0, 10, 10), (5, 0, 15, 10), (10, 0, 20, 10)])
    assert box_iou(boxes[:1], boxes)[0].tolist() == pytest.approx([1, 1 / 3, 0])
