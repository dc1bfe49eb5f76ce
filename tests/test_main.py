"""main.py: everything a user may point it at, with made-up weights; and the bundled samples with the real ones."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from ccpd.annotation import has_annotation, parse
from LPRNet.alphabet import CHARS, Alphabet
from LPRNet.recogniser import Reader, save_reader
from main import main
from MTCNN.detector import Detections, Detector
from MTCNN.model.MTCNN_nets import ONet, PNet
from platekit import read_plates
from platekit.checkpoints import save_weights
from platekit.command import run_pictures
from platekit.images import read_image
from platekit.read_plates import BACKENDS
from platekit.tables import BOX, write_rows
from platekit.video import run_video
from tests.conftest import ROOT, files_below, make_picture, put_picture, results_of
from tests.makers import nothing

SAMPLES = ROOT / "ccpd" / "samples"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags that name weights of nets that take much for a plate."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    pnet, onet, reader = PNet(), ONet(), Reader(len(CHARS))
    with torch.no_grad():
        pnet.conv4_1.bias.copy_(torch.tensor([-3.0, 3.0]))  # well above the default thresholds
        onet.conv6_1.bias.copy_(torch.tensor([-3.0, 3.0]))
        reader.lprnet.container[0].weight *= 0.01  # sure at the first view
        reader.lprnet.container[0].bias[0] = 20
    save_weights(folder / "pnet", pnet)
    save_weights(folder / "onet", onet)
    save_reader(reader, Alphabet(), folder / "lprnet", folder / "stn")
    return [part for name in ("pnet", "onet", "lprnet", "stn") for part in (f"--{name}", str(folder / name))] \
        + ["--device", "cpu"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three readable pictures, one of them below another folder."""
    for index, name in enumerate(("a.jpg", "b.png", "deep/c.png")):
        put_picture(tmp_path / "photos" / name, make_picture(90 + 30 * index, 200 + 40 * index, index))
    return tmp_path / "photos"


def check_line(line: dict) -> None:
    """The contract of a readable picture's line."""
    assert list(line) == ["image", "width", "height", "ms", "plates"] and list(line["ms"]) == ["detect", "recognise"]
    scores = [plate["detection_score"] for plate in line["plates"]]
    assert scores == sorted(scores, reverse=True)
    for plate in line["plates"]:
        assert list(plate) == ["text", "confidence", "detection_score", "box"]
        x1, y1, x2, y2 = plate["box"]
        assert 0 <= x1 < x2 <= line["width"] and 0 <= y1 < y2 <= line["height"]
        assert 0 <= plate["confidence"] <= 1 and 0 <= plate["detection_score"] <= 1
        assert set(plate["text"]) <= set(CHARS[:-1])


def test_json_on_standard_output_and_nothing_else(call, weights, photos, tmp_path):
    done = call(main, "--image", photos, "--json", "-", *weights, cwd=tmp_path)
    lines = results_of(done.out)
    assert done.status == 0 and [Path(line["image"]).name for line in lines] == ["a.jpg", "b.png", "c.png"]
    assert [(line["width"], line["height"]) for line in lines] == [(200, 90), (240, 120), (280, 150)]
    for line in lines:
        check_line(line)
    assert sum(len(line["plates"]) for line in lines) > 3
    assert files_below(tmp_path) == ["photos/a.jpg", "photos/b.png", "photos/deep/c.png"]  # no picture unasked


def test_json_file_and_annotated_pictures(call, weights, photos, tmp_path):
    done = call(main, "--image", photos / "b.png", photos / "deep", "--json", "new/plates.jsonl", "--output", "drawn",
                *weights, cwd=tmp_path)
    assert done.status == 0 and "new/plates.jsonl" in done.out
    assert len(results_of(tmp_path / "new" / "plates.jsonl")) == 2
    assert files_below(tmp_path / "drawn") == ["b.png", "deep/c.png"] and not (tmp_path / "outputs").exists()
    drawn = cv2.imread(str(tmp_path / "drawn" / "b.png"))
    assert drawn.shape == (120, 240, 3) and not np.array_equal(drawn, make_picture(120, 240, 1))


def test_without_flags_a_line_a_plate_and_pictures_in_outputs(call, weights, photos, tmp_path):
    listed = call(main, photos / "a.jpg", "--json", "-", *weights)  # the flag may be left away
    plates = results_of(listed.out)[0]["plates"]
    done = call(main, "-image", photos / "a.jpg", *weights, cwd=tmp_path)
    shown = [line for line in done.out.splitlines() if "confidence" in line]
    assert done.status == 0 and len(shown) == len(plates) > 0
    for line, plate in zip(shown, plates):
        assert (plate["text"] or "(nothing read)") in line
        assert float(line.partition("confidence ")[2].split()[0]) == pytest.approx(plate["confidence"], abs=1e-3)
    assert files_below(tmp_path / "outputs") == ["a.jpg"] and str(Path("outputs/a.jpg")) in done.out


def test_what_a_run_before_has_drawn_is_not_read(call, asked, photos, monkeypatch):
    """Nor where JSON lines are asked for, and nothing is drawn."""
    monkeypatch.chdir(photos)
    (photos / "outputs").mkdir()
    for name in ("outputs/a.avi", "b.avi"):
        (photos / name).touch()
    for flags in ((".",), ("--video", ".")):
        assert call(main, *flags, "--json", "a.jsonl").status == 0
    pictures, videos = asked
    assert (pictures["output"], pictures["leave_out"]) == (None, Path("outputs")) and videos["sources"] == ["b.avi"]


def test_patterns_and_broken_files_among_the_others(call, weights, photos, tmp_path):
    alone = results_of(call(main, "--image", photos, "--json", "-", *weights).out)
    (photos / "aa.jpg").write_text("no picture")
    (photos / "empty.png").write_bytes(b"")
    (photos / "b-truncated.jpg").write_bytes((photos / "a.jpg").read_bytes()[:-200])
    (photos / "folder.jpg").mkdir()
    (photos / "link.jpg").symlink_to(photos / "nowhere.jpg")
    done = call(main, "--image", photos, photos / "*.png", photos / "missing.jpg", "--json", "-", *weights)
    assert done.status == 1
    lines = results_of(done.out)
    names = [Path(line["image"]).name for line in lines]
    assert names == ["a.jpg", "aa.jpg", "b-truncated.jpg", "b.png", "c.png", "empty.png", "link.jpg",
                     "b.png", "empty.png", "missing.jpg"]
    broken = [line for line in lines if "error" in line]
    assert [Path(line["image"]).name for line in broken] == \
        ["aa.jpg", "b-truncated.jpg", "empty.png", "link.jpg", "empty.png", "missing.jpg"]
    assert [line for line in done.err.splitlines() if line] == [f"error: {line['error']}" for line in broken]
    readable = [(line["image"], line["plates"]) for line in lines[:7] if "error" not in line]
    assert readable == [(line["image"], line["plates"]) for line in alone]  # as without the others


def test_every_kind_of_picture_gets_its_line(call, weights, tmp_path):
    folder, base = tmp_path / "odd", make_picture(80, 180)
    put_picture(folder / "皖A12345 ü.png", base)
    put_picture(folder / "🚗🚙.png", base)
    put_picture(folder / "grey.png", base[..., 0])
    put_picture(folder / "alpha.png", np.dstack([base, base[..., :1]]))
    put_picture(folder / "deep.png", base.astype(np.uint16) * 257)
    put_picture(folder / "black.png", np.zeros_like(base))
    for height, width in ((1, 1), (1, 10_000), (10_000, 1), (2, 3), (12, 47), (15, 50), (24, 3000)):
        put_picture(folder / f"size_{height}x{width}.png", make_picture(height, width))
    done = call(main, "--image", folder, "--json", "-", "--output", tmp_path / "drawn", *weights)
    lines = {Path(line["image"]).name: line for line in results_of(done.out)}
    assert done.status == 0 and done.err == "" and sorted(lines) == files_below(folder)
    assert files_below(tmp_path / "drawn") == files_below(folder)
    for name, line in lines.items():
        check_line(line)
        if name.startswith("size_"):
            assert f"size_{line['height']}x{line['width']}.png" == name
    assert lines["皖A12345 ü.png"]["plates"] == lines["🚗🚙.png"]["plates"] == lines["alpha.png"]["plates"] != []
    assert lines["size_1x1.png"]["plates"] == []


def test_the_plates_do_not_depend_on_the_order_of_inputs(call, weights, photos):
    forwards = results_of(call(main, "--image", photos / "a.jpg", photos / "b.png", "--json", "-", *weights).out)
    backwards = results_of(call(main, "--image", photos / "b.png", photos / "a.jpg", "--json", "-", *weights).out)
    assert [line["plates"] for line in forwards] == [line["plates"] for line in backwards[::-1]]


def test_the_smallest_plate_asked_for_decides_what_is_searched(call, weights, photos):
    small = results_of(call(main, "--image", photos / "a.jpg", "--json", "-", "--mini_lp", 40, 12, *weights).out)
    large = results_of(call(main, "--image", photos / "a.jpg", "--json", "-", "--mini_lp", 130, 35, *weights).out)
    none = results_of(call(main, "--image", photos / "a.jpg", "--json", "-", "--mini_lp", 400, 100, *weights).out)

    def narrowest(lines: list[dict]) -> float:
        return min(plate["box"][2] - plate["box"][0] for plate in lines[0]["plates"])

    assert narrowest(small) < 0.6 * narrowest(large)
    assert none[0]["plates"] == []


def make_video(path: Path, frames: int = 4) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (200, 90))
    for index in range(frames):
        writer.write(make_picture(90, 200, index))
    writer.release()
    assert path.stat().st_size
    return path


def test_a_video_gives_a_line_a_frame_and_an_annotated_video(call, weights, tmp_path):
    clip = make_video(tmp_path / "皖 clip.avi")
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    done = call(main, "--video", clip, tmp_path / "broken.mp4", "--json", "frames.jsonl", "--output", "drawn", *weights,
                cwd=tmp_path)
    lines = results_of(tmp_path / "frames.jsonl")
    assert done.status == 1 and len(done.sentence()) > 10
    frames = [line for line in lines if "frame" in line]
    assert [line["frame"] for line in frames] == [0, 1, 2, 3]
    for line in frames:
        assert list(line)[:3] == ["image", "frame", "second"] and line["image"] == str(clip)
        check_line({key: value for key, value in line.items() if key not in ("frame", "second", "tracks")})
    assert lines[-1]["image"] == str(tmp_path / "broken.mp4") and "cannot open" in lines[-1]["error"]
    done = call(main, "--video", clip, "--json", "-", "--every", "2", *weights)
    assert [line["frame"] for line in results_of(done.out) if "frame" in line] == [0, 2]
    assert files_below(tmp_path / "drawn") == ["皖 clip.avi"]
    capture = cv2.VideoCapture(str(tmp_path / "drawn" / "皖 clip.avi"))
    drawn = [capture.read()[1] for _ in range(4)]
    assert not capture.read()[0] and drawn[0].shape == (90, 200, 3)
    assert np.abs(drawn[0].astype(int) - make_picture(90, 200, 0)).mean() > 3  # boxes are drawn on it


def test_a_video_without_flags_goes_to_outputs(call, weights, tmp_path):
    clip = make_video(tmp_path / "in.avi")
    done = call(main, "--video", clip, *weights, cwd=tmp_path)
    assert done.status == 0 and f"{clip}: " in done.out  # one line per plate
    assert files_below(tmp_path / "outputs") == ["in.avi"]


@pytest.mark.parametrize("flag", ["--pnet", "--onet", "--lprnet", "--stn"])
@pytest.mark.parametrize("kind", ["missing", "of another net"])
def test_weights_that_are_not_there_or_do_not_fit(call, weights, photos, tmp_path, flag, kind):
    other = weights[weights.index("--onet" if flag == "--pnet" else "--pnet") + 1]
    path = other if kind == "of another net" else str(tmp_path / "missing")
    done = call(main, "--image", photos, "--json", "plates.jsonl", *weights, flag, path, cwd=tmp_path)
    assert done.status == 2 and path in done.sentence() and done.out == ""
    assert files_below(tmp_path) == ["photos/a.jpg", "photos/b.png", "photos/deep/c.png"]


@pytest.mark.parametrize("arguments", [
    ("--image", "empty"), ("--image", "none*.jpg"), ("--image", "photos", "--video", "clip.avi"),
    ("--image", "photos", "--scale", "1.5"), ("--image", "photos", "--mini_lp", "0", "15"),
    ("--image", "photos", "--device", "cuda:77"), ("--image", "photos", "--json", "photos"),
    ("--image", "photos", "--output", "photos"), ("--image", "photos", "--output", "photos/a.jpg"),
    ("--image", "photos", "--lprnet", "lprnet.onnx"), ("photos", "clip.MP4"),
    ("--video", "clip.avi", "--every", "0"), ("https://example.com/car.jpg",),
])
def test_wrong_usage_ends_in_one_sentence_and_leaves_nothing(call, weights, photos, tmp_path, arguments):
    (tmp_path / "empty").mkdir()
    done = call(main, *weights, *arguments, cwd=tmp_path)
    assert done.status == 2 and done.sentence()
    assert files_below(tmp_path) == ["photos/a.jpg", "photos/b.png", "photos/deep/c.png"]


@pytest.mark.parametrize("arguments", [("--mini_lp", "50"), ("--mini_lp", "wide", "15"), ("--unknown",), ("--image",)])
def test_flags_that_do_not_parse_end_with_status_2(call, arguments):
    done = call(main, *arguments)
    assert done.status == 2 and done.err.startswith("usage:")


def test_a_checkout_may_have_a_percent_sign_in_its_path(call, monkeypatch):
    for paths in BACKENDS.values():
        monkeypatch.setitem(paths, "pnet", Path("100%done/pnet"))
    done = call(main, "--help")
    assert done.status == 0 and done.out.count("100%done") == 2


def test_a_camera_that_is_not_there_is_an_input_that_failed(call, weights, tmp_path):
    done = call(main, "--camera", 77, "--json", "-", *weights, cwd=tmp_path)
    assert done.status == 1 and results_of(done.out)[0]["image"] == "camera:77" and "camera 77" in done.sentence()


def bundled() -> list[Path]:
    """The sample photos with an annotation in their names."""
    return sorted(path for path in SAMPLES.glob("*.jpg") if has_annotation(path))


def test_the_bundled_samples_are_found_and_read(call, tmp_path):
    done = call(main, "--json", "plates.jsonl", cwd=tmp_path)
    assert done.status == 0, done.err
    lines = {Path(line["image"]).name: line for line in results_of(tmp_path / "plates.jsonl")}
    assert len(bundled()) == 5
    for path in bundled():
        wanted, (best, *_) = parse(path), lines[path.name]["plates"]
        overlap = box_iou(torch.tensor([best["box"]]), torch.tensor([wanted.box], dtype=torch.float32)).item()
        assert overlap > 0.7, path.name
        assert best["text"] == wanted.plate, path.name


def test_hidden_plates_can_be_found_by_nobody(call, tmp_path):
    """Not in the pictures, of which there are as many as before; the lines still tell where they were."""
    arguments = ("--image", SAMPLES, "--device", "cpu")
    done = call(main, *arguments, "--hide", "--output", tmp_path / "hidden", "--json", tmp_path / "plates.jsonl")
    assert done.status == 0, done.err
    assert all(line["plates"] for line in results_of(tmp_path / "plates.jsonl"))
    again = call(main, "--image", tmp_path / "hidden", "--json", "-", "--device", "cpu")
    assert len(results_of(again.out)) == len(list(SAMPLES.glob("*.jpg")))
    assert not any(plate["confidence"] > 0.1 for line in results_of(again.out) for plate in line["plates"])
    refused = call(main, *arguments, "--hide", "--json", "-")
    assert refused.status == 2 and "--output" in refused.sentence()


def test_what_is_perhaps_a_plate_is_hidden_too(call, monkeypatch, tmp_path):
    put_picture(tmp_path / "a.png", make_picture(60, 120))
    found = Detections(np.array([[10.0, 10.0, 90.0, 40.0]], np.float32), np.array([0.9], np.float32), np.zeros(1))
    monkeypatch.setattr(Detector, "find", lambda self, pixels: found)
    for flags, count in (((), 0), (("--hide",), 1)):
        target = tmp_path / f"{count}.jsonl"
        done = call(main, "--image", tmp_path / "a.png", "--output", tmp_path / "out", "--json", target,
                    "--device", "cpu", *flags)
        assert done.status == 0 and len(results_of(target)[0]["plates"]) == count
        drawn = read_image(tmp_path / "out" / "a.png")
        changed = (drawn != make_picture(60, 120))[10:40, 10:90].any(axis=2).mean()
        assert (changed > 0.9) == bool(count)


@pytest.fixture
def asked(monkeypatch):
    """What ``main`` asks for, instead of loading the nets and reading: the arguments by their names."""
    calls = []
    monkeypatch.setattr(read_plates, "make_reader", lambda args, **_: SimpleNamespace(read=nothing))
    for function in (run_pictures, run_video):
        def call(*arguments, function=function, **named):
            bound = inspect.signature(function).bind(*arguments, **named)
            calls.append({"function": function.__name__, **bound.arguments})
            return 0
        monkeypatch.setattr(read_plates, function.__name__, call)
    return calls


@pytest.mark.parametrize(("flags", "function", "name", "value"), [
    (("--camera", 0), "run_video", "sources", [0]),
    (("--camera", 7, "--reconnect"), "run_video", "reconnect", True),
    (("--video", "rtsp://a/1", "--show"), "run_video", "show", True),
    (("photo.jpg", "--show"), "run_pictures", "show", True),
    (("photo.jpg", "--json", "a.jsonl", "--hide", "--show"), "run_pictures", "json_path", "a.jsonl")])
def test_a_flag_reaches_what_reads(call, asked, flags, function, name, value):
    """Camera 0 too, which is false to Python; --hide beside --json is for what --show shows."""
    assert call(main, *flags).status == 0
    assert (asked[0]["function"], asked[0][name]) == (function, value)


@pytest.mark.parametrize("flags", [("--video", "clip.avi", "--resume"), ("--camera", 0, "--resume")])
def test_videos_are_not_resumed(call, asked, flags):
    assert "exclude" in call(main, *flags, "--json", "a.jsonl").sentence() and not asked


def test_what_is_wrong_goes_into_a_table(call, tmp_path):
    for sample in SAMPLES.glob("*.jpg"):
        shutil.copy(sample, tmp_path)
    texts = {path.name: parse(path).plate for path in tmp_path.glob("*.jpg")}
    wrong = min(texts)
    rows = [(name, *parse(tmp_path / name).box, "京A00000" if name == wrong else text) for name, text in texts.items()]
    write_rows(tmp_path / "boxes.csv", ("file", *BOX, "text"), rows)
    flags = ("--boxes", tmp_path / "boxes.csv", "--json", tmp_path / "out.jsonl", "--wrong")
    (tmp_path / "a").mkdir()
    done = call(main, tmp_path, *flags, tmp_path / "a" / "wrong.csv")
    assert done.status == 0 and f"{len(texts)} of {len(texts)} plates found" in done.out, done
    _, row = (tmp_path / "a" / "wrong.csv").read_text("utf-8-sig").splitlines()
    assert row == f"../{wrong},1,1,0,京A00000,{texts[wrong]}"
    assert "two files" in call(main, tmp_path, *flags, tmp_path / "out.jsonl").sentence()
    assert "name tables with --boxes" in call(main, tmp_path, "--wrong", tmp_path / "w.csv").sentence()


def test_plates_of_videos_are_as_sure_as_asked_for_when_all_is_seen(call, monkeypatch, tmp_path):
    asked = []

    def run(_: object, read: object, *__: object, rules: object, **___: object) -> int:
        asked.append((read, rules))
        return 0

    monkeypatch.setattr(read_plates, "run_video", run)
    assert call(main, "--video", tmp_path / "a.avi", "--min_confidence", 0.7).status == 0
    ((read, rules),) = asked
    assert rules.least == 0.7 and read.__self__.min_confidence == 0  # a frame is less sure
    assert "--min_confidence must be from 0 to 1" in call(main, "--min_confidence", 2).sentence()


@pytest.mark.parametrize(("flags", "what"), [(("--every", 5), "are for videos"), (("--reconnect",), "are for videos"),
                                             (("--colour", "my.pth"), "is of --details"),
                                             (("--video", "a.mp4", "--hide", "--crops", "a"), "leave one of them out")])
def test_flags_that_would_have_no_effect_or_undo_another_are_refused(call, flags, what):
    done = call(main, *flags)
    assert done.status == 2 and what in done.sentence()


def test_an_address_that_is_no_picture_is_named_without_its_password(call, asked):
    done = call(main, "rtsp://user:se/cret@10.0.0.5/1")
    assert "error: rtsp://10.0.0.5/1 is a video or an address" in done.sentence() and not asked
