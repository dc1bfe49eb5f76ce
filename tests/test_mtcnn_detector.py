"""The detector's geometry from the pyramid to the final box, with nets that read their answer out of the picture.

The picture is a map of itself: blue is x and green is y. An oracle net thus knows where each of its windows lies
in the picture, by pixels alone, and answers with the true overlap and the true offsets. Whatever the pipeline gets
wrong - the size of a cell, the order of clipping, the scale of a level - moves the final box away from the truth.
"""

from __future__ import annotations

import dataclasses
import json
import math
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import ops

from MTCNN.detector import Detector, Thresholds, drop_nested
from MTCNN.model.MTCNN_nets import ONet, PNet
from MTCNN.MTCNN import create_mtcnn_net, main, parse_arguments
from MTCNN.pyramid import ASPECTS, OWN_SHEET, arrange, make_sheets, output_size, plan_levels, resize
from MTCNN.scan import BAND_PIXELS
from platekit.boxes import box_iou, encode_offsets
from platekit.checkpoints import save_checkpoint
from platekit.crops import upload
from platekit.errors import UserError
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.opencv import cv2
from platekit.paths import SAMPLES
from tests.conftest import make_picture, put_picture
from tests.makers import noise

HEIGHT, WIDTH = 200, 250


def map_picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture (H, W, 3) whose blue is x and whose green is y, up to 255 each."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)


def answer(low: torch.Tensor, high: torch.Tensor, size: tuple[int, int],
           truths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Offsets (N, 4) and plate scores (N,) for windows whose first and last pixels hold ``low`` and ``high`` (N, 2)."""
    step = (high - low) / torch.tensor([size[1] - 1, size[0] - 1])  # picture pixels per window pixel
    centre = (low + high) / 2 + 0.5  # from the pixel's index to its centre
    extent = step * torch.tensor([size[1], size[0]])
    windows = torch.cat([centre - extent / 2, centre + extent / 2], dim=1)
    iou, nearest = ops.box_iou(windows, truths).max(dim=1)
    return encode_offsets(truths[nearest], windows), iou


class OraclePNet(PNet):
    def __init__(self, *truths: tuple[float, float, float, float]) -> None:
        super().__init__()
        self.truths = torch.tensor(truths)

    def forward(self, x):
        values = F.pad(x[:, :2] * 128 + 127.5, (0, 4, 0, 1), mode="replicate")
        tops, lefts = values[0, :, :-11:2, :-46:5], values[0, :, 11::2, 46::5]
        rows, columns = tops.shape[1:]
        offsets, iou = answer(tops.flatten(1).T, lefts.flatten(1).T, (12, 47), self.truths)
        maps = offsets.T.reshape(1, 4, rows, columns)
        scores = iou.reshape(1, 1, rows, columns)
        return maps, torch.cat([1 - scores, scores], dim=1)


class OracleONet(ONet):
    """Sure of what overlaps a truth by more than 0.3; remembers the batches it was given."""

    def __init__(self, *truths: tuple[float, float, float, float]) -> None:
        super().__init__()
        self.truths = torch.tensor(truths)
        self.batches: list[int] = []
        self.gradients = False

    def forward(self, x):
        self.batches.append(len(x))
        self.gradients |= torch.is_grad_enabled()
        values = x[:, :2] * 128 + 127.5
        # away from the border: outside the picture there is no map
        low, high = values[:, :, 8, 30], values[:, :, 15, 63]
        scale = torch.tensor([93 / 33, 23 / 7])
        middle, half = (low + high) / 2, (high - low) / 2 * scale
        offsets, iou = answer(middle - half, middle + half, (24, 94), self.truths)
        sure = (iou > 0.3).float() * 0.5 + 0.5 * iou
        return offsets, torch.stack([1 - sure, sure], dim=1)


def make(*truths: tuple[float, float, float, float], **options) -> Detector:
    options.setdefault("thresholds", Thresholds(pnet_score=0.45))
    return Detector(OraclePNet(*truths), OracleONet(*truths), "cpu", **options)


BOXES = {
    "smallest": (100, 80, 150, 95),
    "upright": (60, 90, 180, 122),
    "tilted": (50, 60, 150, 115),
    "turned": (70, 50, 150, 115),
    "steep": (90, 40, 160, 130),
    "left edge": (0, 80, 100, 110),
    "top edge": (80, 0, 190, 30),
    "right edge": (150, 60, 250, 100),
    "corner": (160, 150, 250, 200),
    "whole width": (0, 90, 250, 160),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)
def test_box_is_found_where_it_is(box):
    plates = make(box).detect(map_picture())
    assert len(plates) == 1
    assert plates.boxes.dtype == np.float32 and plates.boxes.shape == (1, 4)
    np.testing.assert_allclose(plates.boxes[0], box, atol=1.5)


def test_pnet_alone_places_windows_rightly():
    """Offsets undo any error of the window unless they are left out: here the windows themselves are measured."""
    box = (60.0, 90.0, 180.0, 122.0)
    found = make(box)
    windows, _, scores = found.scan(found.upload(map_picture()))
    assert len(windows) > 10
    overlap = box_iou(windows, np.array([box]))[:, 0]
    np.testing.assert_allclose(overlap, scores, atol=0.04)


def test_where_few_windows_score_well_lower_ones_count_too():
    found = {}
    for few in (0, 5, 10_000):
        limits = Thresholds(pnet_score=0.45, pnet_low=0.3, few=few)
        finder = make((60.0, 90.0, 180.0, 122.0), thresholds=limits)
        found[few] = finder.scan(finder.upload(map_picture()))[2]
    assert found[0].min() >= 0.45 and 5 < len(found[0]) < len(found[10_000]) and 0.3 <= found[10_000].min() < 0.4
    assert np.array_equal(found[5], found[0])
    assert np.array_equal(np.sort(found[10_000][found[10_000] >= 0.45]), np.sort(found[0]))


def test_windows_have_the_aspects_that_were_asked_for():
    finder = make(BOXES["steep"], aspects=(47 / 12,), thresholds=Thresholds(pnet_score=0.0))
    windows, _, scores = finder.scan(finder.upload(map_picture()))
    width, height = (windows[:, 2:] - windows[:, :2]).T
    np.testing.assert_allclose(width / height, 47 / 12, atol=0.4)
    assert scores.max() < 0.45  # which is why there are others


def test_without_onet_the_proposals_are_the_answer():
    finder = make(BOXES["upright"], rounds=0, thresholds=Thresholds(pnet_score=0.45, score=0.5))
    plates = finder.detect(map_picture())
    assert not finder.onet.batches
    proposals, scores = finder.propose(finder.upload(map_picture()))
    assert plates.scores[0] == scores.max()
    np.testing.assert_array_equal(plates.boxes[0], proposals[scores.argmax()])


def test_each_round_sees_what_the_last_took_for_plates():
    doubles = Thresholds(pnet_score=0.45, pnet_overlap=1.0)
    finder = make(BOXES["upright"], BOXES["tilted"], rounds=3, thresholds=doubles)
    proposals, _ = finder.propose(finder.upload(map_picture()))
    finder.detect(map_picture())
    assert sum(finder.onet.batches[:-2]) == len(proposals) > 10 > finder.onet.batches[-2] >= finder.onet.batches[-1] > 0


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_score_is_the_mean_of_the_last_two_rounds(rounds, monkeypatch):
    """Two plates, of which the second is no plate to the last round; the order of boxes changes from round to round."""
    boxes = np.array([[10.0, 20, 110, 52], [130, 30, 230, 60]])
    answers = iter([(boxes, np.array([0.5, 0.6])), (boxes[::-1], np.array([0.8, 0.9])), (boxes, np.array([0.7, 0.1]))])
    finder = make(BOXES["upright"], rounds=rounds, thresholds=Thresholds(score=0.2))
    monkeypatch.setattr(finder, "judge", lambda *arguments: next(answers))
    _, scores = finder.refine(finder.upload(map_picture()), boxes, np.ones(2))
    pairs = {1: [(0.5, 0.5), (0.6, 0.6)], 2: [(0.6, 0.8), (0.5, 0.9)], 3: [(0.9, 0.7), (0.8, 0.1)]}[rounds]
    odds = np.array([(a / (1 - a) * b / (1 - b)) ** 0.5 for a, b in pairs])
    np.testing.assert_allclose(scores, odds / (1 + odds), atol=1e-6)


@pytest.mark.parametrize(("first", "then", "found"), [
    ((0.5, 0.05), 0.9, (True, False)),  # the second one gets on only where the first one is no plate
    ((0.15, 0.05), 0.99, (True, True)), ((0.15, 0.05), 0.97, (False, False)),  # and both need a better score then
    ((0.15, 0.005), 0.99, (True, False)), ((0.005, 0.005), 0.99, (False, False))])
def test_where_no_plate_is_found_proposals_of_a_low_score_get_on(first, then, found, monkeypatch):
    boxes = np.array([[10.0, 20, 110, 52], [130, 30, 230, 60]], np.float32)
    finder = make(BOXES["upright"])
    scores = dict(zip(boxes[:, 0], first))

    def judge(pixels, boxes, least=0.0):
        return boxes, np.array([scores[left] if least else then for left in boxes[:, 0]])

    monkeypatch.setattr(finder, "judge", judge)
    pixels = finder.upload(map_picture())
    plates = finder.finish(*finder.refine(pixels, boxes, np.ones(2)), *pixels.shape[2:]).boxes
    assert plates.tolist() == boxes[list(found)].tolist()


def test_several_plates_best_first_one_box_each():
    boxes = [(10, 20, 110, 52), (130, 30, 230, 60), (40, 120, 140, 190)]
    plates = make(*boxes).detect(map_picture())
    assert len(plates) == 3
    assert (np.diff(plates.scores) <= 0).all()
    overlap = box_iou(plates.boxes, np.array(boxes))
    assert overlap.max(axis=0).min() > 0.9


def test_nothing_found_is_nothing():
    net = PNet().eval()
    nn.init.zeros_(net.conv4_1.weight)
    with torch.no_grad():
        net.conv4_1.bias.copy_(torch.tensor([5.0, -5.0]))
    plates = Detector(net, ONet(), "cpu").detect(map_picture())
    assert plates.boxes.shape == (0, 4) and plates.scores.shape == (0,)


def test_nothing_is_left_after_onet():
    net = OracleONet((0, 0, 1, 1))
    finder = Detector(OraclePNet(BOXES["upright"]), net, "cpu", thresholds=Thresholds(pnet_score=0.45))
    plates = finder.detect(map_picture())
    assert net.batches and len(plates) == 0 and plates.boxes.shape == (0, 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (11, 60), (12, 47), (15, 58), (16, 63), (40, 130),
                                  (300, 13)])
def test_any_size_of_picture(size):
    torch.manual_seed(0)
    image = noise(*size)
    pnet = PNet()
    finder = Detector(pnet, ONet(), "cpu", thresholds=Thresholds(pnet_score=0.0, first_score=0.0, score=0.0))
    plates = finder.detect(image)
    assert len(plates.scores) == len(plates) == len(plates.boxes)
    if len(plates):
        assert plates.boxes.min() >= 0
        assert (plates.boxes[:, 2] <= size[1]).all() and (plates.boxes[:, 3] <= size[0]).all()
        assert ((plates.boxes[:, 2:] - plates.boxes[:, :2]) >= 1).all()


@pytest.mark.parametrize("image", [np.zeros((20, 30), np.uint8), np.zeros((20, 30, 4), np.uint8),
                                   np.zeros((0, 5, 3), np.uint8), np.zeros((20, 30, 3), np.float32)])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="BGR uint8"):
        make(BOXES["upright"]).detect(image)


def test_untrained_nets_give_sound_boxes():
    """Random offsets turn boxes inside out and far away; none of that may come out or raise."""
    torch.manual_seed(3)
    pnet, onet = PNet(), ONet()
    nn.init.normal_(pnet.conv4_2.bias, std=3)
    nn.init.normal_(onet.conv6_2.bias, std=3)
    finder = Detector(pnet, onet, "cpu", thresholds=Thresholds(pnet_score=0.1, first_score=0.0, score=0.0))
    plates = finder.detect(map_picture())
    assert np.isfinite(plates.boxes).all()
    assert (plates.boxes >= 0).all() and (plates.boxes <= (WIDTH, HEIGHT, WIDTH, HEIGHT)).all()


def test_the_smallest_plate_decides_where_the_pyramid_starts():
    tiny = (100, 80, 126, 88)
    assert len(make(tiny).detect(map_picture())) == 0
    assert len(make(tiny, mini_lp=(25, 8)).detect(map_picture())) == 1
    finest = [plan_levels(1160, 720, mini)[0] for mini in ((25, 8), (50, 15), (200, 60))]
    assert finest[0].width > finest[1].width > finest[2].width


def test_the_smallest_plate_may_not_ask_for_more_memory_than_there_is():
    assert plan_levels(12000, 10000)
    with pytest.raises(UserError, match=r"plates of 3 x 3 pixels in a picture of 6000 x 4000 .*--mini_lp"):
        plan_levels(4000, 6000, (3, 3))


def test_of_many_plates_each_is_proposed():
    """Clear plates, which have most of the windows, leave room for others."""
    places = np.array([(x, y) for y in range(0, 2000, 200) for x in range(0, 3000, 300)], np.float32)  # 100 plates
    shifts = np.array([(dx, dy) for dx in (-30, 0, 30) for dy in (-9, 0, 9)], np.float32)
    corners = (places[:, None] + shifts).reshape(-1, 2)
    windows = np.concatenate([corners, corners + np.float32([100, 30])], axis=1)
    scores = np.repeat(np.linspace(0.99, 0.5, len(places), dtype=np.float32), len(shifts))
    boxes, _ = make().choose(windows, np.zeros_like(windows), scores)
    truths = np.concatenate([places, places + np.float32([100, 30])], axis=1)
    assert (box_iou(truths, boxes).max(axis=1) > 0.5).all()


def test_the_pyramid_searches_several_aspects():
    levels = plan_levels(1160, 720)
    aspects = {round((47 * 720 / level.width) / (12 * 1160 / level.height), 1) for level in levels}
    assert {3.3, 1.8, 1.0} <= aspects
    assert len(plan_levels(1160, 720, aspects=ASPECTS[:1])) < len(levels)
    pixels = sum(level.width * level.height for level in levels)
    assert pixels * 1278 < 2.6e9  # multiply-adds of PNet: 270 + (2400 + 7680) / 10 for each pixel


@pytest.mark.parametrize("size", [(12, 47), (13, 51), (14, 52), (61, 204)])
def test_the_size_of_pnets_answer_is_known_beforehand(size):
    with torch.inference_mode():
        assert PNet()(torch.zeros(1, 3, *size))[0].shape[2:] == output_size(*size)


def test_large_levels_in_bands_give_the_same(monkeypatch):
    torch.manual_seed(0)
    image = noise(150, 200)
    finder = Detector(PNet(), ONet(), "cpu", thresholds=Thresholds(pnet_score=0.4))
    whole = finder.scan(finder.upload(image))
    monkeypatch.setitem(BAND_PIXELS, "cpu", 4000)
    banded = finder.scan(finder.upload(image))
    assert len(whole[0]) == len(banded[0]) > 100
    for first, second in zip(whole, banded):
        np.testing.assert_allclose(first, second, atol=1e-4, rtol=1e-4)


def test_onet_batches_are_bounded_and_without_gradients():
    box = BOXES["upright"]
    finder = make(box, thresholds=Thresholds(pnet_score=0.0, pnet_overlap=1.0, proposals=300, refined=24))
    finder.detect(map_picture())
    assert max(finder.onet.batches) <= 128 and sum(finder.onet.batches) <= 324
    assert not finder.onet.gradients


def test_weights_are_read_once(tmp_path):
    torch.manual_seed(0)
    for name, net in (("p", PNet()), ("o", ONet())):
        save_checkpoint(tmp_path / name, net.state_dict())
    finder = Detector(tmp_path / "p", tmp_path / "o", "cpu")
    boxes = create_mtcnn_net(map_picture(), (50, 15), "cpu", tmp_path / "p", tmp_path / "o")
    (tmp_path / "p").unlink()
    (tmp_path / "o").unlink()
    finder.detect([map_picture(), map_picture()])
    again = create_mtcnn_net(map_picture(), (50, 15), "cpu", tmp_path / "p", tmp_path / "o")
    np.testing.assert_array_equal(boxes, again)
    again = create_mtcnn_net(map_picture(), [50, 15], "cpu", tmp_path / "p", tmp_path / "o")
    np.testing.assert_array_equal(boxes, again)
    with pytest.raises(UserError, match="not found"):
        Detector(tmp_path / "p", tmp_path / "o", "cpu")


def test_the_name_of_a_link_says_what_its_file_is(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("MTCNN.MTCNN._detector", lambda *args: asked.append(args) or make(BOXES["upright"]))
    (tmp_path / "blob").write_bytes(b"")
    (tmp_path / "pnet.onnx").symlink_to(tmp_path / "blob")
    monkeypatch.chdir(tmp_path)
    create_mtcnn_net(map_picture(), device="cpu", p_model_path="pnet.onnx")
    assert asked[0][0] == str(tmp_path / "pnet.onnx")


def test_a_list_is_its_pictures_one_by_one():
    finder = make(BOXES["upright"])
    images = [map_picture(), map_picture()[:, :200].copy()]
    together = finder.detect(images)
    for image, plates in zip(images, together):
        np.testing.assert_array_equal(plates.boxes, finder.detect(image).boxes)


def test_nested_boxes_are_one_plate():
    boxes = np.array([[0.0, 0, 100, 30], [10, 5, 40, 25], [200, 0, 300, 30], [-20, -20, 320, 60], [90, 20, 190, 50]])
    assert drop_nested(boxes).tolist() == [0, 2, 4]
    assert drop_nested(boxes[:0]).tolist() == []
    plates = make(BOXES["upright"]).finish(boxes[:3], np.array([0.99, 0.98, 0.97]), 100, 400)
    assert plates.boxes.tolist() == boxes[[0, 2]].tolist() and plates.scores.tolist() == pytest.approx([0.99, 0.97])
    for left, kept in ((64, [0]), (66, [0, 1])):  # 36 or 34 of 50 columns lie in the better one
        assert drop_nested(np.array([[0.0, 0, 100, 30], [left, 5, left + 50, 25]])).tolist() == kept


def test_how_far_a_plate_reaches_beyond_the_right_edge_is_told():
    boxes = np.array([[0.0, 0, 100, 30], [360, 0, 460, 30], [-20, 60, 80, 90]])
    plates = make(BOXES["upright"]).finish(boxes, np.array([0.99, 0.98, 0.97]), 100, 400)
    assert plates.beyond.tolist() == [0, 0.6, 0]


def test_a_detector_can_be_sent_to_another_process():
    finder = Detector(device="cpu")
    sent = ForkingPickler.loads(ForkingPickler.dumps(finder))
    assert type(sent.scanner.rough) is type(finder.scanner.rough) and type(sent._rough_onet) is type(finder._rough_onet)
    pixels = finder.upload(read_image(find_images(SAMPLES)[0]))
    for found, wanted in zip(*(dataclasses.astuple(one.find(pixels)) for one in (sent, finder))):
        assert len(wanted) and np.array_equal(found, wanted)


def test_mini_lp_is_a_pair():
    assert parse_arguments(["-image", "a.jpg", "--mini_lp", "40", "12"]).mini_lp == [40.0, 12.0]
    spelled_out = parse_arguments(["-image", "a.jpg", "--mini_lp", "50", "15"])
    assert json.dumps(spelled_out.mini_lp) == json.dumps(parse_arguments(["-image", "a.jpg"]).mini_lp)  # for --resume


@pytest.mark.parametrize("mini_lp", [(0, 15), (50, float("nan")), (float("inf"), 15), (0.01, 0.01)])
def test_impossible_plates_are_refused(mini_lp):
    with pytest.raises(UserError, match="at least 3 x 3 pixels"):
        make(BOXES["upright"], mini_lp=mini_lp)


@pytest.mark.parametrize(("settings", "said"), [({"mini_lp": 50}, "a width and a height, not 50"),
                                                ({"scale": 1.5}, "--scale")])
def test_the_one_call_form_refuses_what_the_detector_does(settings, said):
    with pytest.raises(UserError, match=said):
        create_mtcnn_net(map_picture(), device="cpu", **settings)


def test_a_line_says_how_wide_and_high_the_picture_is(call, tmp_path):
    put_picture(tmp_path / "a.png", make_picture(60, 100))
    done = call(main, "--image", tmp_path / "a.png", "--json", "-", "--device", "cpu")
    line = json.loads(done.out)
    assert (line["width"], line["height"]) == (100, 60)


def test_the_script_searches_as_its_flags_say_and_draws_what_it_finds(call, tmp_path):
    sample = find_images(SAMPLES)[0]
    for flags, count in (((), 1), (("--mini_lp", 600, 150), 0)):
        output = ("--output", tmp_path / str(count), "--json", "-")
        done = call(main, "--image", sample, *output, "--device", "cpu", *flags)
        assert len(json.loads(done.out)["plates"]) == count
    drawn, plain = (read_image(tmp_path / name / sample.name).astype(int) for name in "10")
    assert (abs(drawn - plain).max(axis=2) > 100).sum() > 500  # a frame


@pytest.mark.parametrize("aspects", [(), (0,), (3, float("nan"))])
def test_impossible_aspects_are_refused(aspects):
    with pytest.raises(UserError, match="aspects must be positive"):
        plan_levels(1160, 720, aspects=aspects)


def test_all_of_the_nets_and_levels_is_on_the_device(monkeypatch):
    """A device that only holds shapes stands for a GPU."""
    monkeypatch.setattr("MTCNN.detector.pick_device", torch.device)
    detector = Detector(device="meta")
    nets = (detector.pnet, detector.onet, detector.scanner.scorer)
    assert {tensor.device.type for net in nets for tensor in net.state_dict().values()} == {"meta"}
    picture = torch.zeros(1, 3, 1160, 720, dtype=torch.uint8, device="meta")
    sheet, = make_sheets(picture, plan_levels(1160, 720), math.inf)
    assert sheet.pixels.device.type == "meta" and sheet.pixels.dtype == torch.uint8
    offsets, scores = detector.scanner.scorer(sheet.pixels)
    assert (offsets.shape[1], scores.shape[1]) == (4, 2)


@pytest.mark.parametrize("size", [(1160, 720), (1161, 720), (700, 500)], ids=["in halves", "odd", "enlarged"])
def test_levels_are_what_opencv_makes_of_the_whole(size):
    image = noise(*size)
    height, width = 798, 587
    assert height * width > OWN_SHEET
    sheet = torch.zeros(1, 900, 700, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    target = sheet[:, :, 20:20 + height, 35:35 + width]
    for level in (resize(upload(image), height, width), resize(upload(image), height, width, target)):
        difference = np.abs(level[0].permute(1, 2, 0).numpy() - cv2.resize(image, (width, height)).astype(int))
        assert difference.max() <= 1 and difference.mean() < 0.01  # of two roundings
    assert sheet.sum() == target.sum() and level is target


def test_sheets_hold_every_level_once_without_overlap():
    sizes = [(level.width, level.height) for level in plan_levels(1160, 720)]
    places, (width, height) = arrange(sizes)
    taken = np.zeros((height, width), int)
    for (x, y), (wide, high) in zip(places, sizes):
        assert x % 5 == y % 2 == 0 and x + wide <= width and y + high <= height
        taken[y:y + high, x:x + wide] += 1
    assert taken.max() == 1 and taken.mean() > 0.6
    assert arrange([]) == ([], (0, 0))


def test_detection_alone_takes_the_scale_too(call):
    assert "--scale" in call(main, "--image", SAMPLES, "--scale", 1.5, "--device", "cpu").sentence()
