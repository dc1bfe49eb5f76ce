"""The CCPD file-name codec and the search for subset folders."""

from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccpd.annotation import CITY_TABLE, PROVINCE_TABLE, SERIAL_TABLE, Annotation, has_annotation, parse
from ccpd.dataset import CCPD_FOLDER, find_subsets, listed_names
from platekit.errors import UserError
from platekit.inputs import find_images

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
README_NAME = "025-95_113-154&383_386&473-386&473_177&454_154&383_363&402-0_0_22_27_27_33_16-37-15.jpg"

coordinates = st.integers(0, 4000)
points = st.tuples(coordinates, coordinates)
plates = st.builds(
    lambda province, city, serial: province + city + "".join(serial),
    st.sampled_from(PROVINCE_TABLE),
    st.sampled_from(CITY_TABLE),
    st.lists(st.sampled_from(SERIAL_TABLE), min_size=5, max_size=6),
)
annotations = st.builds(
    Annotation,
    area=st.text("0123456789", min_size=1, max_size=20),
    tilt=st.tuples(st.integers(0, 360), st.integers(0, 360)),
    box=st.tuples(points, st.tuples(st.integers(1, 900), st.integers(1, 900))).map(
        lambda pair: (*pair[0], pair[0][0] + pair[1][0], pair[0][1] + pair[1][1])
    ),
    vertices=st.tuples(points, points, points, points),
    plate=plates,
    brightness=st.integers(0, 255),
    blurriness=st.integers(0, 999),
)


@given(annotations)
def test_every_annotation_survives_the_file_name(annotation):
    name = annotation.file_name()
    assert has_annotation(name)
    assert parse(name) == annotation
    assert parse(Path("some") / "folder" / name).file_name() == name


def test_the_data_sets_own_example():
    annotation = parse(README_NAME)
    assert annotation.plate == "皖AY339S"
    assert annotation.box == (154, 383, 386, 473)
    assert annotation.vertices == ((386, 473), (177, 454), (154, 383), (363, 402))
    assert (annotation.area, annotation.tilt, annotation.brightness, annotation.blurriness) == (
        "025",
        (95, 113),
        37,
        15,
    )


def test_green_plates_have_eight_symbols():
    name = "004636015325670498-90_268-329&567_450&602-450&602_329&601_330&569_449&567-0_0_3_26_26_33_27_33-176-28.jpg"
    assert parse(name).plate == "皖AD22939"
    assert parse(name).file_name() == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("np_00001.jpg", "seven"),
        ("a-b-c-d-e-f-g.jpg", "area"),
        (README_NAME.replace("154&383_386", "154_386"), "box"),
        (README_NAME.replace("0_0_22", "0_22"), "plate"),
        (README_NAME.replace("0_0_22", "99_0_22"), "table"),
        (README_NAME.replace("-37-", "-037-"), "brightness"),
        (README_NAME.replace("-154&383_386&473", "-386&383_386&473"), "empty"),
        ("", "seven"),
    ],
)
def test_bad_names_are_refused_in_one_sentence(name, words):
    with pytest.raises(UserError) as error:
        parse(name)
    message = str(error.value)
    assert words in message and name in message and "\n" not in message


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text):
    try:
        parsed = parse(text)
    except UserError:
        return
    assert parsed.file_name("") == Path(text).stem


def test_photos_without_plate_are_told_apart():
    assert not has_annotation("np_00001.jpg")
    assert not has_annotation("1000.jpg")
    assert has_annotation("x" + README_NAME)  # meant as an annotation, so that reading it reports what is wrong


@pytest.mark.parametrize("plate", ["皖A1234", "皖A1234567", "AA12345", "皖A12I45", "皖112345"])
def test_plates_that_have_no_name(plate):
    with pytest.raises(UserError, match=plate):
        Annotation("1", (0, 0), (0, 0, 1, 1), ((0, 0),) * 4, plate, 0, 0).file_name()


@pytest.mark.parametrize(("field", "value"), [("box", (0, 0, 1.5, 1)), ("vertices", ((0, -1),) * 4), ("area", "0.5")])
def test_numbers_that_have_no_name(field, value):
    whole = Annotation("1", (0, 0), (0, 0, 1, 1), ((0, 0),) * 4, "皖A12345", 0, 0)
    with pytest.raises(UserError, match="whole numbers"):
        dataclasses.replace(whole, **{field: value}).file_name()


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real CCPD names are not at {REAL}")
def test_official_names_decode_and_encode_to_themselves():
    names = [photo.name for photo in REAL.glob("frames/*/ccpd_*/*.jpg")]
    for path in sorted((REAL / "annotations").glob("*.txt.gz")):
        names += gzip.decompress(path.read_bytes()).decode("utf-8").split()
    assert len(names) > 90_000
    names = [name for name in names if has_annotation(name)]
    assert all(parse(name).file_name() == name for name in names)


def _photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


@pytest.mark.parametrize("place", ["", "CCPD2019", "ccpd_dataset", "data/CCPD2019"])
def test_subsets_are_found_wherever_they_were_unpacked(tmp_path, place):
    _photo(tmp_path / place / "ccpd_base" / "a.jpg")
    _photo(tmp_path / place / "ccpd_tilt" / "b.JPG")
    _photo(tmp_path / place / "ccpd_green" / "train" / "c.jpg")
    _photo(tmp_path / place / "splits" / "d.jpg")
    (tmp_path / place / "ccpd_np").mkdir()
    _photo(tmp_path / "ccpd_train" / "e.jpg")
    found = find_subsets(tmp_path)
    assert list(found) == ["ccpd_base", "ccpd_green", "ccpd_tilt"]
    assert found["ccpd_base"] == tmp_path / place / "ccpd_base"
    assert find_subsets(found["ccpd_base"]) == {"ccpd_base": found["ccpd_base"]}
    assert [path.name for path in find_images(found["ccpd_green"])] == ["c.jpg"]


def test_what_preprocessing_made_is_searched_when_it_is_named(tmp_path):
    _photo(tmp_path / "ccpd_val" / "ccpd_tilt" / "a.jpg")
    assert list(find_subsets(tmp_path / "ccpd_val")) == ["ccpd_tilt"]


def test_a_list_names_photos_with_or_without_their_folders(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\nccpd_base/b.jpg\tapproximate\n\n  c.jpg \n")
    assert listed_names(tmp_path / "list.txt") == {"a.jpg", "b.jpg", "c.jpg"}
    with pytest.raises(UserError, match=r"none\.txt"):
        listed_names(tmp_path / "none.txt")


def test_a_folder_that_may_not_be_looked_into_is_passed_over(tmp_path, monkeypatch):
    _photo(tmp_path / "ccpd_base" / "a.jpg")
    (tmp_path / "lost+found").mkdir()

    def barred(function):
        def call(path):
            if Path(path).name == "lost+found":
                raise PermissionError(13, "Permission denied")
            return function(path)
        return call

    monkeypatch.setattr(Path, "iterdir", barred(Path.iterdir))
    monkeypatch.setattr(os, "scandir", barred(os.scandir))
    assert list(find_subsets(tmp_path)) == ["ccpd_base"]


def test_two_releases_are_not_mixed(tmp_path):
    _photo(tmp_path / "CCPD2019" / "ccpd_base" / "a.jpg")
    _photo(tmp_path / "ccpd_dataset" / "ccpd_base" / "a.jpg")
    with pytest.raises(UserError, match="one release"):
        find_subsets(tmp_path)


def test_missing_data_names_the_remedy(tmp_path):
    with pytest.raises(UserError, match=r"github\.com/detectRecog/CCPD.*synthesize\.py"):
        find_subsets(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        find_subsets(tmp_path / "nowhere")
    assert CCPD_FOLDER.name == "ccpd" and (CCPD_FOLDER / "dataset.py").is_file()


def test_real_photos_go_before_the_stand_in(tmp_path, monkeypatch):
    monkeypatch.setattr("ccpd.dataset.SYNTHETIC_FOLDER", tmp_path / "synthetic")
    _photo(tmp_path / "synthetic" / "ccpd_base" / "a.jpg")
    assert find_subsets(tmp_path)["ccpd_base"].parent.name == "synthetic"
    _photo(tmp_path / "CCPD2019" / "ccpd_base" / "a.jpg")
    assert find_subsets(tmp_path)["ccpd_base"].parent.name == "CCPD2019"
    monkeypatch.chdir(tmp_path.parent)
    assert find_subsets(tmp_path.name)["ccpd_base"].parent.name == "CCPD2019"
    assert find_subsets(tmp_path / "synthetic")["ccpd_base"].parent.name == "synthetic"


@pytest.mark.parametrize(("corner", "repeats"), [("386&473", True), ("385&474", True), ("383&473", False)])
def test_corners_that_repeat_the_box_say_nothing_of_the_pose(corner, repeats):
    name = f"025-95_113-154&383_386&473-{corner}_154&473_154&383_386&383-0_0_22_27_27_33_16-37-15.jpg"
    assert parse(name).without_pose is repeats


@pytest.mark.parametrize("corners", ["160&390_380&383_386&470_154&473", "386&470_154&473_386&390_160&383"])
def test_corners_in_another_order_say_nothing_of_the_pose(corners):
    """From the upper left one on, by which a plate would be upside down, and crosswise."""
    assert parse(f"025-95_113-154&383_386&473-{corners}-0_0_22_27_27_33_16-37-15.jpg").without_pose
