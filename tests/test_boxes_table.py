"""Photos of one's own, without CCPD names: tables of boxes and YOLO's files, from samples to the count of plates."""

from __future__ import annotations

import codecs
import csv
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ccpd.annotation import parse
from LPRNet.alphabet import Alphabet
from LPRNet.data import crops_of_boxes
from LPRNet.data.labels import read_labels
from LPRNet.data.load_data import LPRDataLoader
from MTCNN import MTCNN as detection
from MTCNN.data_preprocessing import assemble_Pnet_imglist, gen_Onet_train_data, gen_Pnet_train_data
from MTCNN.data_preprocessing.generate import photos_by_split
from MTCNN.data_preprocessing.photos import read_photos
from MTCNN.data_preprocessing.sample_store import are_of_a_table
from MTCNN.data_set import boxes_of_labels, boxes_of_results, label_formats
from MTCNN.paths import PNET_WEIGHTS
from MTCNN.score import Score
from MTCNN.train.dataset import SampleList
from platekit.errors import UserError
from platekit.images import read_image
from platekit.inputs import find_images, read_lines
from platekit.opencv import cv2
from platekit.paths import SAMPLES
from platekit.read_plates import main as read_plates_main
from platekit.tables import BOX, Plates, clockwise, plates_of_tables, write_rows
from tests.conftest import make_picture, overlap, put_picture

BOXES = {"two": [(30.0, 40.0, 130.0, 80.0), (200.0, 150.0, 330.0, 190.5)], "one": [(100.0, 96.0, 270.0, 150.0)],
         "none": []}


def read_boxes(tables: list[Path]) -> dict[Path, np.ndarray]:
    return {path: plates.boxes for path, plates in plates_of_tables(tables).items()}


@pytest.fixture
def photos(tmp_path):
    """Photos of blue rectangles, of two, one and none, and one that no table names."""
    for seed, name in enumerate((*BOXES, "unknown")):
        picture = make_picture(240, 360, seed)
        for x1, y1, x2, y2 in BOXES.get(name, ()):
            cv2.rectangle(picture, (int(x1), int(y1)), (int(x2) - 1, int(y2) - 1), (230, 60, 20), -1)
        put_picture(tmp_path / "photos" / "a" / f"{name}.png", picture)
    return tmp_path / "photos"


@pytest.fixture
def table(photos):
    """Their table, with texts."""
    rows = [row for name, boxes in BOXES.items()
            for row in ([(f"a/{name}.png", *box, text) for box, text in zip(boxes, ("B-1", "Ü7"))]
                        or [(f"a/{name}.png", *("",) * 5)])]
    path = photos / "boxes.csv"
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("file", "x1", "y1", "x2", "y2", "text"), *rows])
    return path


def test_every_plate_of_a_photo_is_learnt_and_the_others_left_alone(photos, table, capsys):
    found = read_photos([photos], plates=plates_of_tables([table]))
    assert [photo.path.stem for photo in found] == ["none", "one", "two", "two"]
    assert found[0].box is None and all(photo.corners is None for photo in found)
    assert [photo.box.tolist() for photo in found[1:]] == [list(box) for box in BOXES["one"] + BOXES["two"]]
    assert [photo.ignore.tolist() for photo in found] == [[], [], [list(BOXES["two"][1])], [list(BOXES["two"][0])]]
    assert "left out 1 pictures" in capsys.readouterr().out


def test_samples_of_both_nets_are_cut_by_a_table(call, photos, table, tmp_path):
    for net, main, most, more in (("p", gen_Pnet_train_data.main, 10 + 8 + 10 + 14, ()),
                                  ("o", gen_Onet_train_data.main, 12 + 8 + 6 + 18 + 4, ("--pnet", PNET_WEIGHTS))):
        done = call(main, "-dir_train", photos, "-dir_val", "--boxes", table, "--views", 2, "--out_train",
                    tmp_path / net, *more)
        assert done.status == 0 and "3 photos with a plate and 1 without" in done.out, done
        assert f"up to {4 * 2 * most} samples" in done.out, done
        pixels = np.load(tmp_path / net / "positive.npy")
        assert len(pixels) > 10 and (pixels.reshape(-1, 3)[:, 0] > pixels.reshape(-1, 3)[:, 2] + 50).mean() > 0.6


def test_another_table_is_another_set_of_samples(call, photos, table, tmp_path):
    arguments = ("-dir_train", photos, "-dir_val", "--boxes", table, "--views", 1, "--out_train", tmp_path / "p")
    assert call(gen_Pnet_train_data.main, *arguments).status == 0
    table.write_text(table.read_text("utf-8").replace("270.0", "260.0"), encoding="utf-8")
    assert str(tmp_path / "p") in call(gen_Pnet_train_data.main, *arguments).sentence()


def test_yolos_files_give_the_same_table(call, photos, tmp_path):
    for name, boxes in BOXES.items():
        lines = [f"0 {(x1 + x2) / 720} {(y1 + y2) / 480} {(x2 - x1) / 360} {(y2 - y1) / 240}\n"
                 for x1, y1, x2, y2 in boxes]
        (tmp_path / "labels" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / "a" / f"{name}.txt").write_text("".join(lines))
    out = tmp_path / "elsewhere" / "boxes.csv"
    done = call(boxes_of_labels.main, "--images", photos, "--labels", tmp_path / "labels", "--out", out)
    assert done.status == 0 and "3 plates; 1 pictures" in done.out, done
    assert f"-dir_train {photos} --hold_out 0.1 --boxes {out}" in done.out
    found = read_boxes([out])
    assert {path.stem: boxes.tolist() for path, boxes in found.items()} == {
        name: [list(box) for box in boxes] for name, boxes in BOXES.items()}
    assert all(path.is_file() for path in found)


CORNERS = np.array([[100, 100], [260, 60], [270, 96], [105, 140]], float)  # from the upper left one clockwise


@pytest.mark.parametrize("form", ["pose", "visible", "turned"])
def test_corners_of_yolo_in_any_order_are_those_of_the_table(call, photos, tmp_path, form):
    """Those that are not marked are not known."""
    shares = CORNERS[[2, 0, 3, 1]] / (360, 240)
    low, high = shares.min(axis=0), shares.max(axis=0)
    box = [*(low + high) / 2, *high - low]
    numbers = {"pose": [*box, *shares.flatten()], "visible": [*box, *np.insert(shares, 2, 2, axis=1).flatten()],
               "turned": shares.flatten()}[form]
    (photos / "a" / "one.txt").write_text(" ".join(map(str, [0, *numbers])))
    (photos / "a" / "two.txt").write_text("0 0.5 0.5 0.1 0.1" + 12 * " 0")
    (photos / "a" / "none.txt").write_text("0 0.9 0.5 0.2 0.2 0.8 0.4 1.01 0.4 1.01 0.6 0.8 0.6")  # partly outside
    assert call(boxes_of_labels.main, "--images", photos, "--out", tmp_path / "boxes.csv").status == 0
    plates = {path.stem: plates for path, plates in plates_of_tables([tmp_path / "boxes.csv"]).items()}
    (box,), (corners,), _ = plates["one"]
    np.testing.assert_allclose(corners, CORNERS[[2, 3, 0, 1]], atol=0.1)
    np.testing.assert_allclose(box, (100, 60, 270, 140), atol=0.1)
    assert plates["two"][1] == plates["none"][1] == [None]


def test_points_of_yolo_that_are_no_corners(tmp_path):
    """One that is not marked, whichever it is, hides where the plate lies; other polygons are not taken for it."""
    points = np.array([[0.4, 0.4], [0.6, 0.4], [0.6, 0.5], [0.4, 0.5]])
    for place in range(4):
        shown = np.insert(points, 2, 2, axis=1)
        shown[place] = 0
        for numbers in (shown.flatten(), shown[:, :2].flatten()):
            (tmp_path / "a.txt").write_text(" ".join(map(str, [0, 0.5, 0.45, 0.2, 0.1, *numbers])))
            ((_, box, corners, _),) = label_formats.read_yolo(tmp_path / "a.txt", np.ones(2))
            assert corners is None and np.allclose(box, (0.4, 0.4, 0.6, 0.5))
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    circle = np.stack([0.5 + 0.1 * np.cos(angles), 0.5 + 0.05 * np.sin(angles)], axis=1)
    for polygon in (circle, circle[[0, 1, 2, 4, 5, 6]], circle[[0, 2, 4]], points[[0, 1, 1, 3]]):
        (tmp_path / "a.txt").write_text(" ".join(map(str, [0, *polygon.flatten()])))
        with pytest.raises(UserError, match="polygons are not taken"):
            label_formats.read_yolo(tmp_path / "a.txt", np.ones(2))


def test_a_plate_turned_either_way_begins_at_its_upper_left_corner():
    plate = np.array([[0, 0], [3, 0], [3, 1], [0, 1]], float)
    for angle in np.deg2rad([-70, -45, -20, 0, 20, 45, 70]):
        turned = plate @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        for shift in range(4):
            np.testing.assert_array_equal(clockwise(np.roll(turned, shift, axis=0)), turned)


def test_corners_of_a_table_go_with_the_photo_and_with_the_crop(call, photos, tmp_path):
    """The detector's views may turn such a plate, and LPRNet's training tells the transformer where it lies."""
    text = " ".join(map(str, CORNERS.flatten()))
    (photos / "boxes.csv").write_text(f"file,x1,y1,x2,y2,corners,text\na/one.png,100,60,270,140,{text},B1\n"
                                      "a/two.png,30,40,130,80,,B2\n")
    one, two = read_photos([photos], plates=plates_of_tables([photos / "boxes.csv"]))
    assert one.corners.tolist() == CORNERS[[2, 3, 0, 1]].tolist() and one.box.tolist() == [100, 60, 270, 140]
    assert two.corners is None and two.box.tolist() == [30, 40, 130, 80]
    for _ in range(2):  # the second time those of the first are replaced
        done = call(crops_of_boxes.main, "--boxes", photos / "boxes.csv", "--out", tmp_path / "crops")
        assert done.status == 0 and len(find_images(tmp_path / "crops")) == 2
    labels = read_labels([tmp_path / "crops" / "labels.csv"])
    data = LPRDataLoader(tmp_path / "crops", Alphabet([*"B12", "-"]), labels=labels)
    ((path, name),) = [(crop.path, crop.name) for crop in data.crops if crop.name.corners]
    assert name.plate == "B1" and read_image(path).shape == (140 + 68, 170 + 2 * 68, 3)  # cut off above
    np.testing.assert_array_equal(name.corner_array(), CORNERS[[2, 3, 0, 1]] - (32, 0))


@pytest.mark.parametrize("corners", [
    "1 2 3", "a b c d e f g h", 8 * "0 ", "100 60 100 140 270 140 270 60", "100 60 270 60 180 70 100 140",
    "270 140 100 140 100 60 270 60", "0.3 0.2 0.8 0.2 0.8 0.5 0.3 0.5", "0 0 1e9 0 1e9 1e9 0 1e9"])
def test_corners_that_are_none_of_a_plate_are_refused(photos, corners):
    """Too few, no numbers, all one, the wrong way round, bulging inwards, in CCPD's order, shares, far outside."""
    (photos / "boxes.csv").write_text(f"file,x1,y1,x2,y2,corners\na/one.png,100,60,270,140,{corners}\n")
    with pytest.raises(UserError, match=r"row 2: .* are no corners of the plate"):
        plates_of_tables([photos / "boxes.csv"])


def test_a_table_in_a_linked_folder_names_its_pictures(call, photos, tmp_path):
    (photos / "a" / "two.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "tables").symlink_to(tmp_path / "far" / "away")
    done = call(boxes_of_labels.main, "--images", photos, "--out", tmp_path / "tables" / "boxes.csv")
    assert done.status == 0 and list(read_boxes([tmp_path / "tables" / "boxes.csv"])) == [photos / "a" / "two.png"]
    assert "file,x1,y1,x2,y2\n../../photos/a/two.png," in (tmp_path / "far" / "away" / "boxes.csv").read_text()


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.1", "0 a b c d", "0 90 80 40 20", "0 nan 0.5 0.1 0.1",
                                  "0 0.4 0.9 0.6 0.96"])
def test_a_bad_file_of_yolo_is_left_out_and_said_so(call, photos, tmp_path, line):
    (photos / "a" / "one.txt").write_text(line)
    (photos / "a" / "two.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    done = call(boxes_of_labels.main, "--images", photos, "--out", tmp_path / "boxes.csv")
    assert done.status == 1 and f"left out: {photos / 'a' / 'one.txt'}: '{line}'" in done.err
    assert len(read_boxes([tmp_path / "boxes.csv"])) == 1


VOC = """<annotation><filename>one.jpg</filename>{}</annotation>"""
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def test_labels_of_pascal_voc_give_the_same_table(call, photos, tmp_path):
    for name, boxes in BOXES.items():
        (tmp_path / "labels" / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / "a" / f"{name}.xml").write_text(
            VOC.format("".join(OBJECT.format("licence", *box) for box in boxes)))
    arguments = ("--images", photos, "--labels", tmp_path / "labels", "--out", tmp_path / "boxes.csv")
    done = call(boxes_of_labels.main, *arguments)
    assert done.status == 0 and "3 plates; 1 pictures" in done.out, done
    assert {path.stem: boxes.tolist() for path, boxes in read_boxes([tmp_path / "boxes.csv"]).items()} == {
        name: [list(box) for box in boxes] for name, boxes in BOXES.items()}
    assert "the labels tell no texts (text)" in done.out
    one = tmp_path / "labels" / "a" / "one.xml"
    plate = "<attributes><attribute><name>plate</name><value> AB-1 </value></attribute></attributes></object>"
    one.write_text(VOC.format(OBJECT.format("licence", *BOXES["one"][0])).replace("</object>", plate))
    done = call(boxes_of_labels.main, *arguments[:-1], tmp_path / "texts.csv", "--text", "plate")
    assert done.status == 0 and "tell no texts" not in done.out
    texts = {path.stem: plates.texts for path, plates in plates_of_tables([tmp_path / "texts.csv"]).items()}
    assert texts == {"one": ["AB-1"], "two": [], "none": []}
    for bad in (VOC.format(OBJECT.format("licence", 100, 96, 700, 150)), VOC.format("<object/>"), "<annotation>",
                VOC.format("<size><width>720</width><height>480</height></size>"),
                '<?xml version="1.0" encoding="gb2312"?>' + VOC):
        one.write_text(bad)
        (tmp_path / "boxes.csv").unlink()
        done = call(boxes_of_labels.main, *arguments)
        assert done.status == 1 and str(one) in done.err and "2 plates" in done.out


def test_labels_of_labelme_give_the_same_table(call, photos, tmp_path):
    """Texts are fields or attributes, corners polygons of four; a shape without area may be of another class."""
    def shape(points: list, form: str = "rectangle", label: str = "plate", **more: object) -> dict:
        return {"label": label, "points": points, "shape_type": form, **more}

    def write(name: str, *shapes: dict, **more: object) -> None:
        (photos / "a" / f"{name}.json").write_text(json.dumps({"shapes": shapes, **more}))

    (x1, y1, x2, y2), other = BOXES["two"]
    polygon, tags = CORNERS[[2, 0, 3, 1]].tolist(), {"attributes": {"plate": "AB2"}}
    write("one", shape(polygon, "polygon", plate=" AB1 ", attributes=["none"]),
          shape([[5, 5]], "point", "lamp"), imageWidth=360)
    write("two", shape([[x2, y2], [x1, y1]], **tags), shape([[other[0], other[3]], [other[2], other[1]]]))
    write("none")
    arguments = ("--images", photos, "--out", tmp_path / "boxes.csv", "--text", "plate")
    done = call(boxes_of_labels.main, *arguments, "--classes", "plate")
    assert done.status == 0 and "3 plates; 1 pictures" in done.out, done
    found = {path.stem: plates for path, plates in plates_of_tables([tmp_path / "boxes.csv"]).items()}
    assert found["two"][0].tolist() == [list(box) for box in BOXES["two"]] and not len(found["none"][0])
    assert found["two"].corners == [None, None] and found["one"].texts == ["AB1"] and found["two"].texts == ["AB2"]
    np.testing.assert_array_equal(found["one"].corners[0], CORNERS[[2, 3, 0, 1]])
    (tmp_path / "boxes.csv").unlink()
    done = call(boxes_of_labels.main, *arguments)  # the lamp, too
    assert done.status == 1 and "has a side below" in done.err and "2 plates" in done.out
    for bad in ({"shapes": [shape([[5, 5], [900, 60]])]}, {"shapes": [shape([[5, 5, 5]])]}, {"shapes": [{}]}, [],
                {"shapes": [3]}, {}, {"shapes": [], "imageWidth": 720, "imageHeight": 480}):
        (photos / "a" / "one.json").write_text(json.dumps(bad))
        (tmp_path / "boxes.csv").unlink()
        done = call(boxes_of_labels.main, *arguments)
        assert done.status == 1 and "one.json" in done.err and "2 plates" in done.out, (bad, done)


def test_a_picture_that_coco_has_twice_is_said(call, photos, tmp_path):
    labels = {"images": [{"id": number, "file_name": "a/one.png"} for number in (0, 1)],
              "categories": [{"id": 7, "name": "plate"}],
              "annotations": [{"image_id": 0, "category_id": 7, "bbox": [100, 96, 170, 54]}]}
    (tmp_path / "coco.json").write_text(json.dumps(labels))
    done = call(boxes_of_labels.main, "--images", photos, "--labels", tmp_path / "coco.json", "--out",
                tmp_path / "boxes.csv")
    assert done.status == 2 and "coco.json has the picture a/one.png twice" in done.sentence()
    assert "as COCO's" not in done.err


@pytest.mark.parametrize(("folder", "slash"), [("a/", "/"), ("images/", "/"), ("", "/"), ("a/", "\\")])
def test_labels_of_coco_give_the_same_table(call, photos, tmp_path, folder, slash):
    """Corners come from four key points or a polygon of four; polygons of more points tell none."""
    boxes = [(number, box) for number, of_one in enumerate(BOXES.values()) for box in of_one]
    corners = np.array([(100, 100), (260, 60), (270, 96), (105, 140)], float)
    names = [f"{folder}{name}.png".replace("/", slash) for name in BOXES]
    labels = {"images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
              "categories": [{"id": 7, "name": "plate"}, {"id": 1, "name": "car"}],
              "annotations": [{"image_id": number, "category_id": 7, "bbox": [x1, y1, x2 - x1, y2 - y1],
                               "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2, x1 - 5, y1 + 9]]}
                              for number, (x1, y1, x2, y2) in boxes]}
    labels["annotations"].append({"image_id": 0, "category_id": 1, "bbox": [0, 0, 300, 200]})
    points = np.insert(corners, 2, 2, axis=1).flatten().tolist()  # each with its visibility
    labels["annotations"][2] |= {"bbox": [100, 60, 170, 80], "keypoints": points, "attributes": {"text": "AB1"}}
    x1, y1, x2, y2 = boxes[1][1]
    labels["annotations"][1]["segmentation"] = [[x2, y2 - 9, x1, y2, x1, y1, x2, y1, x2, y2 - 9]]  # closed
    (tmp_path / "coco.json").write_text(json.dumps(labels))
    arguments = ("--images", photos, "--labels", tmp_path / "coco.json", "--out", tmp_path / "boxes.csv")
    done = call(boxes_of_labels.main, *arguments, "--classes", "plate")
    assert done.status == 0 and "3 plates; 1 pictures" in done.out, done
    found = {path.stem: plates for path, plates in plates_of_tables([tmp_path / "boxes.csv"]).items()}
    assert found["two"][0].tolist() == [list(box) for box in BOXES["two"]] and not len(found["none"][0])
    assert found["two"].corners[0] is None
    np.testing.assert_array_equal(found["two"].corners[1], [(x2, y2 - 9), (x1, y2), (x1, y1), (x2, y1)])
    np.testing.assert_array_equal(found["one"].corners[0], corners[[2, 3, 0, 1]])
    assert found["one"].texts == ["AB1"] and found["two"].texts == [] and "not in" not in done.out
    assert "is there and may have been corrected" in call(boxes_of_labels.main, *arguments).sentence()
    (tmp_path / "boxes.csv").unlink()
    shutil.copytree(photos / "a", photos / "b")  # of the same names: whose labels are those without a folder?
    done = call(boxes_of_labels.main, *arguments, "--classes", "plate")
    if folder == "a/":
        assert done.status == 0 and "3 plates; 5 pictures" in done.out, done
    else:
        assert done.status == 2 and "has labels" in done.sentence()
    shutil.rmtree(photos / "b")
    (tmp_path / "boxes.csv").unlink(missing_ok=True)
    (photos / "a" / "none.png").rename(photos / "a" / "renamed.png")
    done = call(boxes_of_labels.main, *arguments)
    assert done.status == 0 and f"1 labelled pictures are not in {photos}, such as " in done.out
    assert done.out.count("none.png") == 1
    (photos / "a" / "renamed.png").rename(photos / "a" / "none.png")
    (tmp_path / "boxes.csv").unlink()
    for change, said in (({"width": 36, "height": 24}, "picture of 36 x 24 pixels"),
                         ({}, "[30, 40, 800, 40] is no bbox")):
        labels["images"][0] |= change
        (tmp_path / "coco.json").write_text(json.dumps(labels))
        done = call(boxes_of_labels.main, *arguments)
        assert done.status == 1 and said in done.err and f"the labels of {names[0]} in" in done.err
        (tmp_path / "boxes.csv").unlink()
        labels["images"][0] |= {"width": 360, "height": 240}
        labels["annotations"][0]["bbox"] = [30, 40, 800, 40]
    for bad in ("", "[]", "{}", json.dumps({**labels, "categories": []})):
        (tmp_path / "coco.json").write_text(bad)
        assert "coco.json as COCO's" in call(boxes_of_labels.main, *arguments).sentence()


@pytest.mark.parametrize("val", ["val", "valid"])
def test_labels_lie_where_yolo_looks_for_them(call, photos, tmp_path, val):
    for part in ("train", val):
        shutil.copytree(photos / "a", tmp_path / "set" / part / "images")
        (tmp_path / "set" / part / "labels").mkdir()
        (tmp_path / "set" / part / "labels" / "one.txt").write_text("0 0.5 0.5 0.2 0.1 ")
    done = call(boxes_of_labels.main, "--images", tmp_path / "set", "--out", tmp_path / "boxes.csv")
    assert done.status == 0 and "2 plates; 6 pictures" in done.out, done
    assert f"-dir_train {tmp_path / 'set' / 'train'} -dir_val {tmp_path / 'set' / val} --boxes" in done.out


def test_corners_that_merely_repeat_a_box_are_not_known(call, photos, tmp_path):
    (photos / "a" / "one.txt").write_text("0 0.25 0.2 0.75 0.2 0.75 0.8 0.25 0.8")
    assert call(boxes_of_labels.main, "--images", photos, "--out", photos / "boxes.csv").status == 0
    assert (photos / "boxes.csv").read_text("utf-8-sig") == "file,x1,y1,x2,y2\na/one.png,90.0,48.0,270.0,192.0\n"
    (photos / "own.csv").write_text("file,x1,y1,x2,y2,corners\na/one.png,90,48,270,192,91 48 270 47 270 192 90 191\n")
    (plates,) = plates_of_tables([photos / "own.csv"]).values()
    assert plates.corners == [None]


def test_spaces_in_a_tables_first_line_and_emptied_rows_do_not_count(photos):
    (photos / "boxes.csv").write_text("file, x1, y1 ,x2, y2\n,,,,\na/one.png, 1, 2, 30, 20\n , ,,,\n")
    assert [boxes.tolist() for boxes in read_boxes([photos / "boxes.csv"]).values()] == [[[1, 2, 30, 20]]]


def test_a_mark_of_the_encoding_is_no_part_of_yolos_class(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.1\n", encoding="utf-8-sig")
    assert [label.kind for label in label_formats.read_yolo(tmp_path / "a.txt", np.ones(2))] == ["0"]


def test_a_box_of_yolo_ends_where_the_picture_does(call, photos, tmp_path):
    (photos / "a" / "one.txt").write_text("0 0.9 0.5 0.25 0.2")
    assert call(boxes_of_labels.main, "--images", photos, "--out", tmp_path / "boxes.csv").status == 0
    assert read_boxes([tmp_path / "boxes.csv"])[photos / "a" / "one.png"].tolist() == [[279, 96, 360, 144]]


def test_a_box_without_area_is_left_out_and_said_so(call, photos, tmp_path):
    (photos / "a" / "one.txt").write_text("0 0.5 0.5 0.0000001 0.1")
    (photos / "a" / "two.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    done = call(boxes_of_labels.main, "--images", photos, "--out", tmp_path / "boxes.csv")
    assert done.status == 1
    assert f"left out: {photos / 'a' / 'one.png'}: the box of a label has a side below 2 pixels" in done.err
    assert [path.stem for path in read_boxes([tmp_path / "boxes.csv"])] == ["two"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_a_name_that_no_table_can_hold_is_said(call, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff1"
    put_picture(tmp_path / "1.png", make_picture(40, 60)).rename(os.fsdecode(name + b".png"))
    Path(os.fsdecode(name + b".txt")).write_text("0 0.5 0.5 0.1 0.1\n")
    done = call(boxes_of_labels.main, "--images", tmp_path, "--out", tmp_path / "boxes.csv")
    assert done.status == 2 and "is no UTF-8" in done.sentence() and r"\udcff1" in done.sentence()


def test_pictures_without_any_file_of_yolo_are_no_table(call, photos, tmp_path):
    done = call(boxes_of_labels.main, "--images", photos, "--out", tmp_path / "boxes.csv")
    assert "--labels" in done.sentence() and not (tmp_path / "boxes.csv").exists()
    (photos / "a" / "one.txt").write_text("0 0.5 0.5 0.1 0.1 0.99")
    done = call(boxes_of_labels.main, "--images", photos, "--out", tmp_path / "boxes.csv")
    assert done.status == 2 and "confidences and other polygons are not taken" in done.err


@pytest.mark.parametrize(("row", "what"), [
    ("a/one.png,1,2,3", "not four numbers"), ("a/one.png,1,2,x,4", "not four numbers"), ("a/one.png,5,2,3,4", "no box"),
    ("a/one.png,-3,2,3,4", "no box"), ("a/one.png,0.2,0.3,0.6,0.5", "not in shares"),
    ("a/one.png,1,2,30,3", "side below 2"), ("a/one.png,1,2,30,30,1", "more cells"), ("a/one.png,1,2,inf,4", "no box"),
    (",1,2,3,4", "picture is missing"), ("a/\0.png,1,2,3,4", "zero byte|NUL")])
def test_a_bad_row_is_said_by_its_place(photos, row, what):
    (photos / "boxes.csv").write_text(f"file,x1,y1,x2,y2\n\na/two.png,1,2,3,4\n\n{row}\n")
    with pytest.raises(UserError, match=rf"boxes\.csv, row 5: .*({what})"):
        read_boxes([photos / "boxes.csv"])


@pytest.mark.parametrize("rows", ['a.png,1,1,50,20,"sharp\nb.png,1,1,50,20,"blurred"\n',
                                  'a.png,1,1,50,20,"sharp\nb.png,1,1,50,20,blurred\n',
                                  'a.png,1,1,50,20,,"sharp\nb.png,1,1,50,20,blurred\n'])
def test_a_quotation_mark_that_is_not_closed_swallows_no_row(tmp_path, rows):
    (tmp_path / "boxes.csv").write_text(f"file,x1,y1,x2,y2,note\n{rows}")
    with pytest.raises(UserError, match="row 2: a text goes on over the end of the line"):
        read_boxes([tmp_path / "boxes.csv"])


def test_pictures_no_file_system_has_are_not_there(photos, capsys):
    (photos / "circle").symlink_to("circle")
    (photos / "boxes.csv").write_text(f"file,x1,y1,x2,y2\na/two.png,1,2,3,4\n{300 * 'x'}.png,,,,\ncircle/a.png,,,,\n")
    assert len(read_boxes([photos / "boxes.csv"])) == 3 and "2 of 3 pictures are not there" in capsys.readouterr().err


def test_a_table_without_its_columns_is_refused(photos):
    (photos / "boxes.csv").write_text("")
    with pytest.raises(UserError, match="file,x1,y1,x2,y2"):
        read_boxes([photos / "boxes.csv"])
    (photos / "boxes.csv").write_text("file,left,top,right,bottom\na/two.png,1,2,3,4\n")
    with pytest.raises(UserError, match="file,x1,y1,x2,y2"):
        read_boxes([photos / "boxes.csv"])
    (photos / "boxes.csv").write_text("file;x1;y1;x2;y2\na/two.png;1;2;3;4\n")
    with pytest.raises(UserError, match="commas between them"):
        read_boxes([photos / "boxes.csv"])


@pytest.mark.parametrize("told", ["text,AB1", "corners,1 2 3 4 5 6 7 8"])
def test_a_plate_that_was_read_but_has_no_box_is_no_photo_without_one(photos, told):
    column, value = told.split(",")
    (photos / "boxes.csv").write_text(f"file,x1,y1,x2,y2,{column}\na/one.png,,,,,{value}\n")
    with pytest.raises(UserError, match=f"row 2: there is {column} but no box"):
        read_boxes([photos / "boxes.csv"])


def test_columns_are_known_in_capitals_too_and_none_comes_twice(photos):
    (photos / "boxes.csv").write_text("File, X1,Y1,X2,Y2,Text\na/one.png,1,2,30,20,AB1,\n")
    (plates,) = plates_of_tables([photos / "boxes.csv"]).values()
    assert plates.texts == ["AB1"]
    (photos / "boxes.csv").write_text("file,x1,y1,x2,y2,note,Note\na/one.png,1,2,30,20,seen,at noon\n")
    assert len(read_boxes([photos / "boxes.csv"])) == 1
    (photos / "boxes.csv").write_text("file,x1,y1,x2,y2,text,Text\na/one.png,1,2,30,20,AB1,AB2\n")
    with pytest.raises(UserError, match="has the column text twice"):
        read_boxes([photos / "boxes.csv"])


def test_of_yolos_classes_those_that_are_plates_are_taken(call, photos, tmp_path):
    (photos / "a" / "two.txt").write_text("car 0.5 0.5 0.9 0.8\n1 0.5 0.5 0.1 0.1\n1 0.2 0.5 0.1 0.1\n")
    arguments = ("--images", photos, "--out", tmp_path / "boxes.csv")
    done = call(boxes_of_labels.main, *arguments)
    assert done.status == 0 and "3 plates" in done.out and "classes 1 (2), car (1)" in done.out
    (tmp_path / "boxes.csv").unlink()
    done = call(boxes_of_labels.main, *arguments, "--classes", "1")
    assert done.status == 0 and "2 plates" in done.out and "of the classes" not in done.out
    assert "labels of other classes, of no plates: car (1)" in done.out
    assert [len(boxes) for boxes in read_boxes([tmp_path / "boxes.csv"]).values()] == [2]
    (tmp_path / "boxes.csv").unlink()
    assert "no label has the class plate; name with --classes some of 1, car" in call(
        boxes_of_labels.main, *arguments, "--classes", "1", "plate").sentence()


def test_ones_own_photos_are_not_validated_by_ccpds_and_the_next_command_starts_from_weights(call, photos, table,
                                                                                            tmp_path):
    arguments = ("-dir_train", photos, "--boxes", table, "--views", 1, "--out_train", tmp_path / "p")
    assert "--hold_out 0.1" in call(gen_Pnet_train_data.main, *arguments).sentence()
    assert call(gen_Pnet_train_data.main, *arguments, "-dir_val").status == 0
    done = call(assemble_Pnet_imglist.main, "--samples_train", tmp_path / "p", "--samples_val", "--list_train",
                tmp_path / "list.txt")
    assert done.status == 0 and "--list_val LIST" in done.out and "--save my_pnet" in done.out, done
    samples = SampleList(tmp_path / "list.txt", False, (12, 47))
    assert samples.are_of_a_table and not are_of_a_table(tmp_path)
    (listed,) = samples.photo_lists
    assert sorted(read_lines(listed)) == sorted(str(photos / "a" / name) for name in ("none.png", "one.png", "two.png"))


def test_what_was_corrected_in_a_table_is_not_lost(call, photos, table):
    before = table.read_bytes()
    (photos / "a" / "two.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert "may have been corrected" in call(boxes_of_labels.main, "--images", photos, "--out", table).sentence()
    assert table.read_bytes() == before


def test_crops_of_another_text_have_other_names_and_those_of_photos_that_are_away_stay(call, photos, table, tmp_path):
    cut = partial(call, crops_of_boxes.main, "--boxes", table, "--out", "crops", cwd=tmp_path)
    assert cut().status == 0
    assert (tmp_path / "crops" / "labels.csv").read_text("utf-8-sig").startswith("file,text,photo\n")  # of one row all
    labels = read_labels([tmp_path / "crops" / "labels.csv"])
    (photos / "a" / "one.png").rename(photos / "away.png")
    done = cut()
    assert done.status == 1 and "kept as it was: " in done.err and "left out" not in done.err
    assert read_labels([tmp_path / "crops" / "labels.csv"]) == labels
    table.write_text(table.read_text("utf-8").replace("Ü7", "Ü8"), encoding="utf-8")
    assert cut().status == 1
    others = read_labels([tmp_path / "crops" / "labels.csv"])
    assert len(set(others) & set(labels)) == 2 and sorted(others) == find_images(tmp_path / "crops")
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join(line for line in lines if "one.png" not in line), "utf-8")
    assert "removed 1 crops of an earlier run" in cut().out


def test_crops_of_plates_of_two_rows_are_told(call, photos, table, tmp_path):
    lines = table.read_text("utf-8").splitlines()
    count = [("B-1" in line) + 1 for line in lines]
    table.write_text("\n".join(f"{line},{rows}" for line, rows in zip(lines, ["rows", *count[1:]])), "utf-8")
    done = call(crops_of_boxes.main, "--boxes", table, "--out", tmp_path / "crops")
    assert done.status == 0 and "3 crops and labels.csv" in done.out, done
    labels = read_labels([tmp_path / "crops" / "labels.csv"])
    assert {labels[path] for path in labels.double} == {"B-1"} and len(labels.double) == 2 and len(labels) == 3
    data = LPRDataLoader(tmp_path / "crops", Alphabet("B1Ü7-_", rows=2), labels=labels)
    assert sorted(crop.name.rows for crop in data.crops) == [1, 2, 2]
    path = tmp_path / "crops" / "labels.csv"
    path.write_text(path.read_text("utf-8").replace(",2\n", ",3\n"), "utf-8")
    with pytest.raises(UserError, match="rows are 1 or 2, not '3'"):
        read_labels([path])
    table.write_text(table.read_text("utf-8").replace(",2\n", ",2.0\n"), "utf-8")
    done = call(crops_of_boxes.main, "--boxes", table, "--out", tmp_path / "crops")
    assert done.status == 2 and f"{table}, row" in done.sentence() and "not '2.0'" in done.sentence()


def test_crops_come_from_every_table_however_they_are_named(call, photos, table, tmp_path):
    head, *lines = table.read_text("utf-8").splitlines()
    lines = [line for line in lines if not line.endswith(",")]
    for name, part in (("one.csv", lines[:1]), ("two.csv", lines[1:])):
        (table.parent / name).write_text("\n".join([head, *part]), "utf-8")
    one, two = table.parent / "one.csv", table.parent / "two.csv"
    for number, flags in enumerate((("--boxes", one, two), ("--boxes", one, "--boxes", two))):
        done = call(crops_of_boxes.main, *flags, "--out", tmp_path / str(number))
        assert done.status == 0 and "3 crops" in done.out, done


def test_crops_of_a_table_are_what_lprnet_learns_from(call, photos, table, tmp_path):
    done = call(crops_of_boxes.main, "--boxes", table, "--out", tmp_path / "crops")
    assert done.status == 0 and "3 crops and labels.csv" in done.out, done
    labels = read_labels([tmp_path / "crops" / "labels.csv"])
    assert sorted((path.stem.partition("_")[2], text) for path, text in labels.items()) == [
        ("one", "B-1"), ("two", "B-1"), ("two", "Ü7")]
    assert sorted(labels) == find_images(tmp_path / "crops")
    (crop,) = (path for path, text in labels.items() if text == "Ü7")
    assert read_image(crop).shape == (41, 130, 3)
    assert f"--labels {tmp_path / 'crops' / 'labels.csv'}" in done.out
    assert "these have -17BÜ" in done.out and "--alphabet symbols.txt --max_length 3" in done.out
    table.write_text(table.read_text("utf-8").replace("B-1", "皖A12345").replace("Ü7", "WJ皖12345"), "utf-8")
    assert "--alphabet" not in call(crops_of_boxes.main, "--boxes", table, "--out", tmp_path / "chinese").out


def test_a_crop_of_a_photo_with_a_long_name_has_a_name_too(call, photos, table, tmp_path):
    """File systems allow 255 bytes, to which the crop's name adds some of its own."""
    name = 83 * "长"
    (photos / "a" / "one.png").rename(photos / "a" / f"{name}.png")
    table.write_text(table.read_text("utf-8").replace("a/one.png", f"a/{name}.png"), encoding="utf-8")
    done = call(crops_of_boxes.main, "--boxes", table, "--out", tmp_path / "crops")
    assert done.status == 0 and len(find_images(tmp_path / "crops")) == 3, done


def test_a_plate_is_found_once(tmp_path):
    plates = np.array([(10, 10, 110, 40), (200, 10, 300, 40)], float)

    def add(score: Score, name: str, boxes: np.ndarray) -> None:
        score.add_entry({"image": str(tmp_path / name), "width": 400, "height": 100,
                         "plates": [{"box": box} for box in boxes.tolist()]})

    score = Score({tmp_path / "a.jpg": Plates(plates, [], []), tmp_path / "b.jpg": Plates(np.zeros((0, 4)), [], [])})
    add(score, "a.jpg", plates[[0, 0]] + 1)
    add(score, "b.jpg", plates[:0])
    add(score, "c.jpg", plates)
    assert str(score) == "2 pictures: 1 of 2 plates found (50.0%), 1 other boxes, 1 pictures without a row in a table"
    at_limit = Score({tmp_path / "a.jpg": Plates(np.array([(0, 0, 10, 10)], float), [], [])})
    add(at_limit, "a.jpg", np.array([(0, 0, 10, 7)]))  # an IoU of 0.7
    assert str(at_limit) == "1 pictures: 0 of 1 plates found (0.0%), 1 other boxes"
    assert score.wrong == [(tmp_path / "a.jpg", 2, 1, 1, "", "")]
    score.truth[tmp_path / "d.jpg"] = Plates(plates, [], [])
    assert str(score).endswith(", 1 pictures of the tables were not among those read")
    assert not str(Score({}))
    other = Score({})
    add(other, "a.jpg", plates)
    assert str(other) == "0 pictures: 0 of 0 plates found, 0 other boxes, 1 pictures without a row in a table"


def test_a_picture_whose_boxes_lie_outside_it_does_not_count_and_is_named(tmp_path):
    plates = Plates(np.array([(10, 10, 110, 40)], float), [], [])
    score = Score({tmp_path / "a.jpg": plates, tmp_path / "b.jpg": plates})
    score.add_entry({"image": str(tmp_path / "a.jpg"), "width": 100, "height": 50, "plates": []})
    assert str(score).startswith("0 pictures: 0 of 0 plates found, 0 other boxes, 1 pictures of the tables were not "
                                 "among those read, 1 pictures left out, whose boxes lie outside")
    assert str(score).endswith("a.jpg")
    score.add_entry({"image": str(tmp_path / "b.jpg"), "width": 109, "height": 50, "plates": []})
    assert score.plates == 1  # drawn a pixel too far


def test_a_picture_counts_once_and_what_cannot_be_right_is_said(tmp_path):
    """A picture that is named twice, one that cannot be read, a text of symbols that no reading has."""
    plates = Plates(np.array([(10, 10, 110, 40)], float), [], ["AB-1"])
    score = Score({tmp_path / name: plates for name in ("a.jpg", "b.jpg")}, "AB1")
    line = {"image": str(tmp_path / "a.jpg"), "width": 200, "height": 50,
            "plates": [{"box": [10, 10, 110, 40], "text": "AB1"}]}
    for entry in (line, line, *[{"image": str(tmp_path / "b.jpg"), "error": "cannot decode it"}] * 2):
        score.add_entry(entry)
    assert str(score) == ("1 pictures: 1 of 1 plates found (100.0%), 0 of 1 read wholly right (0.0%), 0 other boxes, "
                          "1 texts with symbols that these weights do not know, 1 pictures that could not be read")


def test_of_a_plate_in_two_tables_each_may_tell_what_the_other_does_not(photos, tmp_path):
    head, box = "file,x1,y1,x2,y2", "a/one.png,100,96,270,150"
    bare, told, other = (photos / f"{name}.csv" for name in ("bare", "told", "other"))
    bare.write_text(f"{head}\n{box}\n")
    told.write_text(f"{head},text,corners\n{box},AB1,100 100 260 96 270 146 105 150\na/two.png,10,10,110,50,CD2,\n")
    other.write_text(f"{head},text\na/two.png,14,10,113,53,CD2\na/two.png,12,40,110,80,CD3\n")  # drawn by two people
    for tables in ((bare, told), (told, bare)):
        plates = {path.stem: plates for path, plates in plates_of_tables(tables).items()}["one"]
        assert plates.texts == ["AB1"] and len(plates.boxes) == 1 and plates.corners[0] is not None
    assert plates_of_tables([told, other])[(photos / "a" / "two.png").resolve()].texts == ["CD2", "CD3"]
    other.write_text(f"{head},text\n{box},AB2\n")
    with pytest.raises(UserError, match=r"other\.csv, row 2: this plate has two texts, 'AB1' and 'AB2'"):
        plates_of_tables([told, other])


def test_a_photo_in_two_folders_that_are_named_counts_once(photos, table, capsys):
    plates = plates_of_tables([table])
    once = read_photos([photos], plates=plates)
    assert len(read_photos([photos / "a", photos], plates=plates)) == len(once)
    assert "4 photos are there twice" in capsys.readouterr().out
    (photos.parent / "first").mkdir()
    (photos.parent / "first" / "one.png").symlink_to(photos / "a" / "one.png")
    assert len(read_photos([photos.parent / "first", photos], plates=plates)) == len(once)  # those after it count too


def test_a_zone_to_leave_alone_may_be_named_by_a_path(photos, table, tmp_path):
    (tmp_path / "zones").write_text("a/one.png 1 2 3 4\n")
    zones = {photo.path.stem: len(photo.ignore) for photo in
             read_photos([photos], ignore=tmp_path / "zones", plates=plates_of_tables([table]))}
    assert zones["one"] == 1 and zones["none"] == 0


def test_lines_without_texts_are_no_readings(tmp_path):
    score = Score({}, "AB1")
    score.truth[tmp_path / "a.jpg"] = Plates(np.array([(10, 10, 110, 40)], float), [None], ["AB1"])
    line = {"image": str(tmp_path / "a.jpg"), "width": 200, "height": 50, "plates": [{"box": [10, 10, 110, 40]}]}
    with pytest.raises(UserError, match="another script"):
        score.add_entry(line)


def test_a_plate_in_two_tables_is_one_and_a_box_may_end_a_little_outside(photos, table, tmp_path):
    other = photos / "other.csv"
    other.write_text("file,x1,y1,x2,y2,text\na/one.png,101,96,270,149,B-1\na/two.png,-1.5,-0.4,40,30,A\n")
    found = {path.stem: plates for path, plates in plates_of_tables([table, table, other]).items()}
    assert found["one"].boxes.tolist() == [list(BOXES["one"][0])] and found["one"].texts == ["B-1"]
    assert found["two"].boxes.tolist() == [*map(list, BOXES["two"]), [0, 0, 40, 30]]
    other.write_text("file,x1,y1,x2,y2\na/one.png,-3,0,270,149\na/one.png,1,2,3,x\na/two.png,9,9,1,1\n")
    with pytest.raises(UserError, match=r"row 2: .* is no box.*\(so are 2 other rows, the next .*row 3\)"):
        plates_of_tables([other])


def test_photos_of_one_plate_are_set_aside_together(photos, table):
    args = SimpleNamespace(boxes=[table], hold_out=0.5, dir_val=[], dir_train=[photos], plain_list=None,
                           ignore_list=None)
    rows = ["file,x1,y1,x2,y2,text"]
    for number in range(24):
        shutil.copy(photos / "a" / "one.png", photos / "a" / f"{number}.png")
        rows.append(f"a/{number}.png,100,96,270,150,AB{number // 3}")
        if number % 3:  # another car, which may differ or be unread
            rows.append(f"a/{number}.png,10,9,27,15,{f'Z{number}' * (number % 2)}")
    table.write_text("\n".join(rows))
    sides = [{int(photo.path.stem) // 3 for photo in part} for part in photos_by_split(args).values()]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


@pytest.mark.parametrize("json", [None, "-", "plates.jsonl"])
def test_the_detector_counts_what_a_table_says(call, tmp_path, json):
    """Of the bundled samples all plates are found, and of one that is said to be elsewhere none."""
    rows = [(path.name, *parse(path).box) for path in sorted(SAMPLES.glob("*.jpg"))]
    rows[0] = (rows[0][0], 1, 1, 60, 20)
    for name, *_ in rows:
        (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    write_rows(tmp_path / "boxes.csv", ("file", *BOX, "text"), [(*row, "京A12345") for row in rows])
    done = call(detection.main, "--image", tmp_path, "--boxes", tmp_path / "boxes.csv", "--device", "cpu",
                *(("--json", json) if json else ()), cwd=tmp_path)
    line = f"{len(rows)} pictures: {len(rows) - 1} of {len(rows)} plates found"
    said = done.err if json == "-" else done.out
    assert done.status == 0 and f"{line} (80.0%), 1 other boxes" in said  # and nothing of texts


def test_the_whole_chain_counts_what_a_table_says_its_plates_read(call, tmp_path):
    """One is said to read otherwise, of one nothing is said; where a plate was found does not count for its text."""
    annotations = {path: parse(path) for path in sorted(SAMPLES.glob("*.jpg"))}
    texts = [annotation.plate for annotation in annotations.values()]
    texts[:2] = "京A00000", ""
    rows = [(path.name, *annotation.box, text) for (path, annotation), text in zip(annotations.items(), texts)]
    rows[2] = (rows[2][0], 1, 1, 60, 20, rows[2][5])
    for path in annotations:
        shutil.copy(path, tmp_path)
    write_rows(tmp_path / "boxes.csv", ("file", *BOX, "text"), rows)
    done = call(read_plates_main, tmp_path, "--boxes", tmp_path / "boxes.csv", "--json", tmp_path / "a.jsonl",
                "--device", "cpu")
    line = "5 pictures: 4 of 5 plates found (80.0%), 3 of 4 read wholly right (75.0%), 1 other boxes"
    assert done.status == 0 and line in done.out and len(rows) == 5
    assert "exclude --video" in call(read_plates_main, "--video", "a.avi", "--boxes", tmp_path / "boxes.csv").sentence()


def test_what_was_read_is_a_table_to_correct_and_to_train_on(call, tmp_path):
    photos = find_images(SAMPLES)[:3]
    for photo in photos:
        put_picture(tmp_path / "photos" / f"{photo.stem[:4]}.png", read_image(photo))
    put_picture(tmp_path / "photos" / "empty.png", make_picture(240, 360))
    (tmp_path / "photos" / "broken.png").write_bytes(b"broken")
    assert call(read_plates_main, "photos", "--details", "--json", "plates.jsonl", cwd=tmp_path).status == 1
    done = call(boxes_of_results.main, "--results", "plates.jsonl", "--out", "photos/boxes.csv", cwd=tmp_path)
    assert done.status == 0 and "3 plates; left out 1 errors or videos; left out 1 pictures without any" in done.out
    table = tmp_path / "photos" / "boxes.csv"
    with open(table, encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    annotations = {photo.stem[:4]: parse(photo) for photo in photos}
    assert table.read_bytes().startswith(codecs.BOM_UTF8)
    assert {row["file"].removesuffix(".png"): row["text"] for row in rows} \
        == {name: annotation.plate for name, annotation in annotations.items()}
    assert rows == sorted(rows, key=lambda row: float(row["confidence"])) and {row["rows"] for row in rows} == {"1"}
    for path, (boxes, (corners,), _) in plates_of_tables([table]).items():
        truth = annotations[path.stem]
        assert overlap(boxes[0], truth.box) > 0.7 and np.abs(corners - truth.vertices).max() < np.ptp(boxes[0][::2]) / 8
    done = call(crops_of_boxes.main, "--boxes", table, "--out", tmp_path / "crops")
    assert done.status == 0 and "3 crops and labels.csv" in done.out, done
    done = call(boxes_of_results.main, "--results", "plates.jsonl", "--out", "new/deeper/boxes.csv", cwd=tmp_path)
    assert done.status == 0 and len(plates_of_tables([tmp_path / "new" / "deeper" / "boxes.csv"])) == 3, done.err


def test_a_corrected_table_is_never_replaced_by_what_was_read(call, table, tmp_path):
    (tmp_path / "plates.jsonl").write_text('{"image": "x.png", "plates": []}\n')
    before = table.read_bytes()
    done = call(boxes_of_results.main, "--results", tmp_path / "plates.jsonl", "--out", table)
    assert "may have been corrected" in done.sentence() and table.read_bytes() == before


@pytest.mark.parametrize(("lines", "sentence"), [
    ("not json\n", "line 1 is no result"),
    ("[1]\n", "line 1 is no result"),
    ('{"image": "x.png", "plates": []}\n{"image": "x.png", "plates": [{}]}\n', "line 2 is no result"),
    ('{"image": "x.png", "error": "cannot read"}\n', "no plate in a picture"),
    ('{"image": "x.mp4", "frame": 0, "plates": [{"box": [1, 2, 30, 40]}]}\n', "no plate in a picture"),
    ('{"image": "x.png", "plates": [{"text": "a", "box": [1, 2, 30, 40]}]}\n', "run this in the folder where"),
    (None, "check the path"),
])
def test_results_that_give_no_table(call, tmp_path, lines, sentence):
    if lines:
        (tmp_path / "plates.jsonl").write_text(lines)
    done = call(boxes_of_results.main, "--results", "plates.jsonl", "--out", "boxes.csv", cwd=tmp_path)
    assert sentence in done.sentence() and done.status == 2 and not (tmp_path / "boxes.csv").exists()


def test_crops_of_boxes_have_the_surroundings_asked_for(call, photos, tmp_path):
    text = " ".join(map(str, CORNERS.flatten()))
    (photos / "boxes.csv").write_text(f"file,x1,y1,x2,y2,corners,text\na/one.png,100,60,270,140,{text},B1\n")
    done = call(crops_of_boxes.main, "--boxes", photos / "boxes.csv", "--out", tmp_path / "crops", "--context", 0.1)
    (crop,) = find_images(tmp_path / "crops")
    assert done.status == 0 and read_image(crop).shape == (80 + 2 * 17, 170 + 2 * 17, 3)


def test_photos_of_yolo_that_are_split_already_stay_so(call, tmp_path):
    for side in ("train", "val"):
        put_picture(tmp_path / "images" / side / "a.png", make_picture(240, 360))
        (tmp_path / "images" / side / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    done = call(boxes_of_labels.main, "--images", tmp_path / "images", "--out", tmp_path / "boxes.csv")
    assert f"-dir_train {tmp_path / 'images' / 'train'} -dir_val {tmp_path / 'images' / 'val'} --boxes" in done.out


def test_a_box_that_is_too_loose_is_another(tmp_path):
    """Its overlap is 0.625."""
    plates = Plates(np.array([(10, 10, 110, 40)], float), [], [])
    score = Score({tmp_path / "a.jpg": plates, tmp_path / "b.jpg": plates})
    score.add_entry({"image": str(tmp_path / "a.jpg"), "width": 400, "height": 100,
                     "plates": [{"box": [10, 10, 110, 58]}]})
    assert str(score).startswith("1 pictures: 0 of 1 plates found (0.0%), 1 other boxes")


def test_what_is_wrong_is_listed(photos, table, tmp_path):
    """Plates not found, texts not read, boxes that are no plates; a picture that is right has no row."""
    plates = plates_of_tables([table])
    score = Score(plates, "B-1Ü7")
    for name, texts in (("one", ["B-1"]), ("two", ["Ü8", ""])):
        boxes = [{"box": box, "text": text} for box, text in zip(BOXES[name], texts)]
        score.add_entry({"image": str(photos / "a" / f"{name}.png"), "width": 360, "height": 240, "plates": boxes})
    score.add_entry({"image": str(photos / "a" / "none.png"), "width": 360, "height": 240,
                     "plates": [{"box": (0, 0, 9, 9), "text": "B-1"}]})
    assert score.wrong == [(photos / "a" / "two.png", 2, 2, 0, "B-1 Ü7", "Ü8"),
                           (photos / "a" / "none.png", 0, 0, 1, "", "B-1")]
