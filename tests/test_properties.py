"""What must hold of any input: suppression and decoding against oracles that try everything, pictures of any size,
and JSON lines against their published schema."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from LPRNet.alphabet import Alphabet
from LPRNet.details import COLOURS
from LPRNet.recogniser import Reader, Recogniser, save_reader
from main import main
from MTCNN.detector import Detector, Thresholds, drop_nested
from MTCNN.model.MTCNN_nets import ONet, PNet
from platekit.boxes import suppress
from platekit.command import OutputFolder
from platekit.drawing import draw_plates
from platekit.results import Details, PictureResult, Plate
from platekit.tracking import Track
from tests.conftest import RESULT, ROOT, lines_of, make_picture, put_picture

TIME = "2026-11-28T09:30:00.000+08:00"
Box = tuple[float, float, float, float]

whole = st.integers(0, 40)
boxes = st.lists(st.tuples(whole, whole, st.integers(1, 30), st.integers(1, 30)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])), max_size=12)


def common(a: Box, b: Box) -> float:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def area(a: Box) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def array(values: list[Box]) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 4)


# suppression

@given(boxes, st.randoms(use_true_random=False), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
       st.sampled_from([None, 1, 3]))
def test_suppression_keeps_what_no_better_kept_box_overlaps(found, rng, overlap, limit):
    scores = [rng.choice((0.2, 0.5, 0.9, rng.random())) for _ in found]
    kept: list[int] = []
    for index in sorted(range(len(found)), key=lambda index: -scores[index]):  # a stable sort: ties stay in order
        if all(common(found[index], found[other]) * (1 + overlap) <= overlap * (area(found[index]) + area(found[other]))
               or math.isclose(common(found[index], found[other]) * (1 + overlap),
                               overlap * (area(found[index]) + area(found[other]))) for other in kept):
            kept.append(index)
    result = suppress(array(found), np.array(scores), overlap, limit).tolist()
    assert result == kept[:limit] if limit else result == kept


@given(boxes)
def test_no_kept_box_lies_inside_a_better_one(found):
    kept = drop_nested(array(found)).tolist()
    oracle: list[int] = []
    for index, box in enumerate(found):
        limits = {other: 0.7 * min(area(box), area(found[other])) * (1 + 1e-6) for other in oracle}
        if not any(common(box, found[other]) > limit for other, limit in limits.items()):
            oracle.append(index)
    assert kept == oracle


# decoding

@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(0, 2**32 - 1), st.floats(0.1, 20))
def test_decoding_takes_the_best_path_and_sums_its_text_over_all_paths(steps, seed, spread):
    """Every path of 3 classes over the steps is tried."""
    alphabet = Alphabet("AB-")
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, spread, (1, 3, steps)))
    probabilities = logits.softmax(dim=1)[0]
    chances: dict[str, float] = {}
    best, most = "", -1.0
    for path in itertools.product(range(3), repeat=steps):
        text = "".join("AB-"[index] for index, _ in itertools.groupby(path)).replace("-", "")
        chance = math.prod(float(probabilities[index, step]) for step, index in enumerate(path))
        chances[text] = chances.get(text, 0) + chance
        best, most = (text, chance) if chance > most else (best, most)
    (reading,) = alphabet.decode(logits)
    assert reading.text == best and reading.confidence == pytest.approx(chances[best], rel=1e-3, abs=1e-5)
    assert len(reading.symbol_confidences) == len(best) and all(0 < p <= 1 for p in reading.symbol_confidences)


# pictures of any size

@pytest.fixture(scope="module")
def detector() -> Detector:
    """Untrained nets that take everything for a plate."""
    torch.manual_seed(0)
    everything = Thresholds(pnet_score=0.0, first_score=0.0, score=0.0, proposals=16, refined=8)
    return Detector(PNet(), ONet(), "cpu", mini_lp=(60, 20), thresholds=everything)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory) -> Recogniser:
    torch.manual_seed(0)
    paths = [tmp_path_factory.mktemp("weights") / name for name in ("lprnet", "stn")]
    save_reader(Reader(68), Alphabet(), *paths)
    return Recogniser(*paths, device="cpu")


few, some, many = st.integers(1, 3), st.integers(1, 300), st.integers(1, 3000)
sizes = st.one_of(st.tuples(few, few), st.tuples(some, some), st.tuples(few, many), st.tuples(many, few))


@st.composite
def pictures(draw: st.DrawFn) -> np.ndarray:
    """Any uint8 array (H, W, 3): noise, flat, or with a view's strides."""
    height, width = draw(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["noise", "black", "white", "turned", "backwards"]))
    if kind in ("black", "white"):
        return np.full((height, width, 3), 255 * (kind == "white"), np.uint8)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image.transpose(1, 0, 2) if kind == "turned" else image[::-1, :, ::-1] if kind == "backwards" else image


@settings(max_examples=40)
@given(image=pictures())
def test_the_detector_takes_any_picture(detector, image):
    found = detector.detect(image)
    height, width = image.shape[:2]
    assert np.isfinite(found.boxes).all() and ((found.scores >= 0) & (found.scores <= 1)).all()
    assert (found.boxes[:, :2] >= 0).all() and (found.boxes[:, 2:] <= (width, height)).all()
    assert (np.diff(found.scores) <= 0).all()


@settings(max_examples=40)
@given(image=pictures(), place=st.lists(st.floats(-50, 400), min_size=4, max_size=4))
def test_the_recogniser_takes_any_picture_and_any_box(recogniser, image, place):
    box = (min(place[0], place[2]), min(place[1], place[3]), max(place[0], place[2]) + 1, max(place[1], place[3]) + 1)
    readings = recogniser.read_pictures([image, image], [(0, 0, image.shape[1], image.shape[0]), box])
    assert len(readings) == 2
    assert all(0 <= reading.confidence <= 1 and len(reading.text) <= 18 for reading in readings)


# JSON lines

numbers = st.floats(0, 5000)
plates = st.builds(Plate, box=st.tuples(numbers, numbers, numbers, numbers), text=st.text(max_size=8),
                   detection_score=st.floats(0, 1), confidence=st.floats(0, 1))
details = st.builds(Details, st.sampled_from(COLOURS), st.floats(0, 1),
                    st.tuples(*[st.tuples(st.floats(-5000, 5000), numbers)] * 4))
others = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.floats(0, 1)), max_size=3).map(tuple)
detailed = st.builds(replace, plates, details=details, others=others)
detected = st.builds(Plate, box=st.tuples(numbers, numbers, numbers, numbers), detection_score=st.floats(0, 1))
results = st.builds(PictureResult, st.integers(1, 9999), st.integers(1, 9999),
                    st.lists(st.one_of(plates, detailed, detected), max_size=4).map(tuple),
                    st.dictionaries(st.sampled_from(["detect", "recognise"]), st.floats(0, 1e6)))


@given(results, st.text(max_size=20))
def test_every_result_is_a_line_of_the_schema(result, name):
    for line in ({"image": name, **result.to_dict()}, {"image": name, "frame": 3, "time": TIME, **result.to_dict()}):
        RESULT.validate(json.loads(json.dumps(line)))


@given(st.one_of(plates, detailed))
def test_every_track_is_a_line_of_the_schema(plate):
    line = json.loads(json.dumps({"image": "clip.avi", **Track(1, 0, 0, plate).to_dict()}))
    RESULT.validate(line)
    RESULT.validate({**line, "first_time": TIME, "last_time": TIME})


@pytest.mark.parametrize("line", [
    {}, {"image": "a", "error": ""}, {"image": "a", "error": "x", "plates": []},
    {"image": "a", "width": 1, "height": 1, "ms": {}}, {"width": 1, "height": 1, "ms": {}, "plates": []},
])
def test_the_schema_refuses_other_lines(line):
    assert not RESULT.is_valid(line)


@pytest.mark.parametrize("plate", [
    {"box": [0, 0, 1, 1]}, {"text": "A", "detection_score": 1, "box": [0, 0, 1, 1]},
    {"detection_score": 1, "box": [0, 0, 1, 1], "colour": "blue", "colour_confidence": 1},
    {"detection_score": 1, "box": [0, 0, 1, 1], "colour": "red", "colour_confidence": 1,
     "corners": [[0, 0]] * 4},
    {"detection_score": 1.1, "box": [0, 0, 1, 1]}, {"detection_score": 1, "box": [0, 0, 1]},
])
def test_the_schema_refuses_other_plates(plate):
    line = {"image": "a", "width": 1, "height": 1, "ms": {}, "plates": [{"detection_score": 1, "box": [0, 0, 1, 1]}]}
    assert RESULT.is_valid(line) and not RESULT.is_valid({**line, "plates": [plate]})


def test_what_main_writes_follows_the_schema(call, tmp_path):
    put_picture(tmp_path / "photos" / "a.png", make_picture(80, 200))
    (tmp_path / "photos" / "b.png").write_text("no picture")
    done = call(main, "--image", tmp_path / "photos", ROOT / "ccpd" / "samples", "--json", tmp_path / "out.jsonl",
                "--device", "cpu")
    lines = lines_of(tmp_path / "out.jsonl")
    assert done.status == 1 and len(lines) > 3 and any(line.get("plates") for line in lines)
    for line in lines:
        RESULT.validate(line)


# outputs stay in their folder

names = st.lists(st.sampled_from(["..", ".", "a", "b.jpg", "...", "~", "c d", "京.png", "x.jpg.exe", "-"]), min_size=1,
                 max_size=5)


@given(st.lists(names, min_size=1, max_size=4))
def test_annotated_pictures_stay_in_the_output_folder_and_apart(tmp_path_factory, inputs):
    base = tmp_path_factory.getbasetemp()
    paths = [Path(base, "in", "deep", *parts, "picture.jpg") for parts in inputs]
    output = base / "out"
    folder = OutputFolder(output, paths)
    targets = {Path(path).resolve(): folder.path_for(path).resolve() for path in paths}
    assert all(target.is_relative_to(output.resolve()) and target != output for target in targets.values())
    assert len(set(targets.values())) == len(targets)


@settings(max_examples=20)
@given(image=pictures(), plate=plates)
def test_any_plate_is_drawn_on_any_picture(image, plate):
    assert draw_plates(image, [plate]).shape == image.shape
