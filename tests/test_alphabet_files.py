"""Other people's plates: their alphabet and labels from files, trained on the plates of an invented country."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch

from ccpd.annotation import parse
from ccpd.plate_numbers import unread_plate
from ccpd.plates import PlateRenderer
from LPRNet import LPRNet_Test, LPRNet_Train
from LPRNet.alphabet import CHARS, TIME_STEPS, Alphabet, read_alphabet
from LPRNet.data.crop_names import CropName
from LPRNet.data.labels import label_of, read_labels
from LPRNet.data.load_data import LPRDataLoader
from LPRNet.data.rendered import RenderedPlates
from LPRNet.model.LPRNET import LPRNet
from LPRNet.paths import LPRNET_WEIGHTS, STN_WEIGHTS
from LPRNet.recogniser import Recogniser, load_reader
from LPRNet.rows import places_of
from LPRNet.transfer import start_from, translated
from main import main
from MTCNN.model.MTCNN_nets import ONet, PNet
from platekit.checkpoints import read_checkpoint, save_weights
from platekit.errors import UserError
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.paths import SAMPLES
from tests.conftest import files_below, lines_of, make_picture, put_picture
from tests.makers import ODEMARK_SYMBOLS, draw_odemark


@pytest.fixture
def symbols(tmp_path: Path) -> Path:
    path = tmp_path / "symbols.txt"
    path.write_text("\n".join(ODEMARK_SYMBOLS) + "\n", encoding="utf-8")
    return path


def test_plates_of_another_country_are_not_taken_for_chinese_ones(call, tmp_path):
    texts = "GZF6L71", "QRM4A19", "京A12345"
    for number in range(len(texts)):
        put_picture(tmp_path / f"{number}.png", make_picture(24, 94))
    (tmp_path / "labels.csv").write_text("file,text\n" + "".join(f"{number}.png,{text}\n"
                                                                for number, text in enumerate(texts)), "utf-8")
    done = call(LPRNet_Train.main, "--img_dirs_train", tmp_path, "--labels", tmp_path / "labels.csv")
    assert done.status == 2 and "2 of 3 labels are of no Chinese plate, such as 'GZF6L71'" in done.sentence()
    assert "--alphabet" in done.sentence()


def test_training_on_another_countrys_plates(call, symbols, tmp_path):
    """The loss falls, and whoever reads with the weights needs no flag for alphabet and length."""
    folder = draw_odemark(tmp_path / "crops", 40, 1)
    weights = tmp_path / "l.pth", tmp_path / "s.pth"
    done = call(LPRNet_Train.main, "--alphabet", symbols, "--max_length", 7, "--img_dirs_train", folder / "photos",
                "--labels", folder / "labels.csv", "--run", tmp_path / "run", "--save", *weights, "--epoch", 3,
                "--batch_size", 16, "--epoch_samples", 64, "--learning_rate", 0.001, "--workers", 0, "--device", "cpu",
                "--float32")
    assert done.status == 0, done.err
    assert "(0 drawn, the others views of 36 crops), choosing by 4 crops" in done.out
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert losses[0] > losses[1] > losses[2] and losses[2] < 0.8 * losses[0], losses
    assert read_checkpoint(weights[0])[1].items() >= {"chars": ODEMARK_SYMBOLS + "_", "max_length": 7}.items()
    assert load_reader(*weights)[1].chars[-2:] == ("-", "_")

    done = call(LPRNet_Test.main, "--image", folder / "photos", "--labels", folder / "labels.csv", "--json",
                tmp_path / "out.jsonl", "--lprnet", weights[0], "--stn", weights[1], "--device", "cpu")
    assert done.status == 0 and "of 40 right" in done.out and "皖" not in done.out, done
    (folder / "labels.csv").write_text((folder / "labels.csv").read_text("utf-8").lower(), encoding="utf-8")
    again = call(LPRNet_Test.main, "--image", folder / "photos", "--labels", folder / "labels.csv", "--device", "cpu",
                 "--lprnet", weights[0], "--stn", weights[1])
    assert "of 40 right" in again.out and "labels with symbols that these weights do not know" in again.out
    texts = [json.loads(line)["plates"][0]["text"] for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert len(texts) == 40 and set("".join(texts)) <= set(ODEMARK_SYMBOLS)

    save_weights(tmp_path / "pnet", PNet())
    save_weights(tmp_path / "onet", ONet())
    done = call(main, "--image", folder / "photos" / "1.jpg", "--json", "-", "--device", "cpu", "--lprnet", weights[0],
                "--stn", weights[1], "--pnet", tmp_path / "pnet", "--onet", tmp_path / "onet")
    assert done.status == 0 and len(done.out.splitlines()) == 1, done.err


@pytest.mark.parametrize("text", ["AB-1", "A\nB\n-\n1\n", "A\r\nB\r\n-\r\n1", "\ufeffAB-1\n"])
def test_an_alphabet_file_is_a_line_or_a_symbol_a_line(tmp_path, text):
    (tmp_path / "symbols.txt").write_bytes(text.encode("utf-8"))
    alphabet = read_alphabet(tmp_path / "symbols.txt", 5)
    assert alphabet.chars == tuple("AB-1_") and alphabet.max_length == 5 and alphabet.encode("1-A") == [3, 2, 0]


@pytest.mark.parametrize("text", ["ÅÜX", "Å\nÜ\nX\n"])
def test_a_letter_is_one_symbol_however_it_is_composed(tmp_path, text):
    (tmp_path / "symbols.txt").write_text(unicodedata.normalize("NFD", text), encoding="utf-8")
    (tmp_path / "labels.csv").write_text(unicodedata.normalize("NFD", "file,text\na.png,XÅ\n") + "a.png,XÅ\n",
                                         encoding="utf-8")
    put_picture(tmp_path / "crops" / f"{unicodedata.normalize('NFD', 'ÜÅX')}_1.png", make_picture(24, 94))
    put_picture(tmp_path / "a.png", make_picture(24, 94))
    alphabet = read_alphabet(tmp_path / "symbols.txt")
    data = LPRDataLoader(tmp_path, alphabet, labels=read_labels([tmp_path / "labels.csv"]))
    assert alphabet.chars == tuple("ÅÜX-") and sorted(data.labels) == [[1, 0, 2], [2, 0]]


@pytest.mark.parametrize("text", ["", "\n\n", "A\nBC\nD", "AA", "A\nB\nA", "AB-_~", "A \nB", "A B",
                                  "A\u200bB", "A\nB\n\u3000", b"\xff\xfe\xff", None])
def test_a_bad_alphabet_file_is_said_by_name(call, tmp_path, text):
    path = tmp_path / "symbols.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    done = call(LPRNet_Train.main, "--alphabet", path, "--img_dirs_train", tmp_path)
    assert done.status == 2 and str(path) in done.sentence()
    assert files_below(tmp_path) == ["symbols.txt"] * (text is not None)


@pytest.mark.parametrize("arguments", [("--max_length", 19), ("--max_length", 0), ("--max_length", 99)])
def test_plates_that_the_time_steps_cannot_hold_are_refused(call, symbols, tmp_path, arguments):
    for alphabet in ((), ("--alphabet", symbols)):
        done = call(LPRNet_Train.main, "--img_dirs_train", tmp_path, *alphabet, *arguments)
        assert done.status == 2 and f"{TIME_STEPS} time steps" in done.sentence()


def test_a_label_that_needs_too_many_time_steps_is_said_by_name(tmp_path):
    alphabet = Alphabet("AB-", 18)
    put_picture(tmp_path / ("AB" * 9 + "_1.png"), make_picture(24, 94))
    assert len(LPRDataLoader(tmp_path, alphabet).labels[0]) == 18
    put_picture(tmp_path / ("AA" * 9 + "_1.png"), make_picture(24, 94))
    with pytest.raises(UserError, match=r"AAA_1\.png.*needs 35 time steps"):
        LPRDataLoader(tmp_path, alphabet)


def test_drawn_plates_and_chinese_validation_crops_are_no_part_of_other_plates(call, symbols, tmp_path):
    done = call(LPRNet_Train.main, "--alphabet", symbols, "--img_dirs_train", tmp_path, "--rendered_share", 0.5)
    assert done.status == 2 and "Chinese plates" in done.sentence()


def test_chinese_plates_with_further_symbols_are_laid_out_as_others(call, tmp_path):
    """Two rows are looked for where they are, and the generator draws the further symbols."""
    more, fewer = Alphabet((*CHARS[:-1], *"警学挂", "-")), Alphabet((*CHARS[:65], "-"))
    net = LPRNet(len(more))
    more.rows = start_from(net, more, LPRNET_WEIGHTS).rows
    assert more.chinese and fewer.chinese and not Alphabet("AB1-").chinese
    assert len(places_of(more)) == len(places_of(Alphabet())) == len(places_of(fewer)) == 5
    assert places_of(Alphabet(fewer.chars, rows=1)) == ()
    (tmp_path / "symbols.txt").write_text("".join(fewer.symbols) + "挂", encoding="utf-8")
    put_picture(tmp_path / "crops" / "皖A1234挂_1.png", make_picture(24, 94))
    put_picture(tmp_path / "crops" / "皖A1235挂_1.png", make_picture(24, 94))
    done = call(LPRNet_Train.main, "--alphabet", tmp_path / "symbols.txt", "--img_dirs_train", tmp_path / "crops",
                "--hold_out", 0.5, "--epoch", 1, "--epoch_samples", 4, "--batch_size", 2, "--workers", 0, "--device",
                "cpu", "--run", tmp_path / "run", "--save", tmp_path / "l", tmp_path / "s", "--weights",
                LPRNET_WEIGHTS, STN_WEIGHTS)
    assert done.status == 0 and "(2 drawn, the others views of 1 crops)" in done.out, done.err
    assert read_checkpoint(tmp_path / "l", "lprnet")[1]["rows"] == 2
    rendered = RenderedPlates([(PlateRenderer(), 1.0)], more)
    labels = [rendered.view_of(*unread_plate(np.random.default_rng(seed), "white"), np.random.default_rng(1))[1]
              for seed in range(9)]
    assert {more.chars[label[-1]] for label in labels if label} == {"警"}


def test_what_other_crops_take_from_a_training_is_said(call, symbols, tmp_path):
    """Plates that are validated on are not trained on, and crops that no table names go by their own names."""
    for number in range(10):
        put_picture(tmp_path / "train" / f"AB{number // 2}_{number}.png", make_picture(24, 94, number))
    put_picture(tmp_path / "val" / "AB0_0.png", make_picture(24, 94))
    done = call(LPRNet_Train.main, "--alphabet", symbols, "--img_dirs_train", tmp_path / "train", "--img_dirs_val",
                tmp_path / "val", "--epoch", 1, "--epoch_samples", 4, "--batch_size", 2, "--workers", 0, "--device",
                "cpu", "--run", tmp_path / "run", "--save", tmp_path / "l", tmp_path / "s")
    assert done.status == 0 and "2 of 10 training crops show plates of --img_dirs_val" in done.out, done.err
    assert "labels of 8 crops come from file names" in done.out


def test_labels_come_from_the_table_and_else_from_the_name(tmp_path):
    (tmp_path / "sets").mkdir()
    put_picture(tmp_path / "sets" / "x.png", make_picture(24, 94))
    table = tmp_path / "sets" / "labels.csv"
    table.write_text("text,file,place\nA B-1,x.png,here\n 7 ,../y.png,\n", encoding="utf-8")
    labels = read_labels([table])
    assert label_of(tmp_path / "sets" / "x.png", labels).plate == "A B-1"
    assert label_of(tmp_path / "sets" / ".." / "y.png", labels).plate == "7"
    assert label_of(tmp_path / "others" / "皖A12345_2.png", labels).number == 2
    with pytest.raises(UserError, match="no row in the table"):
        label_of(tmp_path / "皖A12345_2.png", labels)  # beside a picture that the table names
    with pytest.raises(UserError, match="gives no label"):
        label_of(tmp_path / "others" / "x-1.png", labels)


def test_a_table_corrects_the_text_and_leaves_the_corners(tmp_path):
    name = CropName("皖A12345", 3, ((90, 20), (10, 20), (10, 5), (90, 5)))
    put_picture(tmp_path / f"{name.stem()}.png", make_picture(24, 94))
    (tmp_path / "labels.csv").write_text(f"file,text\n{name.stem()}.png,皖A12346\n", encoding="utf-8")
    (path,) = labels = read_labels([tmp_path / "labels.csv"])
    assert label_of(path, labels) == CropName("皖A12346", 3, name.corners)


@pytest.mark.parametrize("text", ["x.png,A1\n", "file;text\nx.png;A1\n", "file,text\nx.png,\n", "file,text\nx.png\n",
                                  "file,text\nx.png,A\nx.png,B\n", b"file,text\nx.png,\xff\n", None])
def test_a_bad_table_is_said_by_name(call, tmp_path, text):
    path = tmp_path / "labels.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    done = call(LPRNet_Test.main, "--image", tmp_path, "--labels", path)
    assert done.status == 2 and str(path) in done.sentence()


def test_what_counts_as_a_label():
    chinese, own = Alphabet(), Alphabet("ABC123-", 4)
    assert all(map(chinese.is_label, ("皖A12345", "皖AD12345", "KA12345", "WJ皖1234A")))
    others = "A12345", "014578", "WJ1234A", "WA皖12345", "KAA1234", "KA123456", "皖A1234567", "holiday7", ""
    assert not any(map(chinese.is_label, others))
    more = Alphabet((*CHARS[:-1], "使", "-"))  # a file called IMG_0001.jpg shows no plate IMG by that
    assert all(map(more.is_label, ("皖A12345", "使014578"))) and not any(map(more.is_label, ("IMG", "A12345")))
    assert own.is_label("A1") and not any(map(own.is_label, ("A1B2C", "X1", "")))
    assert own.max_length == 4 and chinese.max_length == 8 and chinese.chars == CHARS


def test_an_alphabet_without_a_recorded_length_reads_as_before(tmp_path):
    torch.manual_seed(0)
    reader = LPRNet_Train.Reader(len(CHARS))
    save_weights(tmp_path / "l.pth", reader.lprnet, {"chars": "".join(CHARS)})
    save_weights(tmp_path / "s.pth", reader.stn)
    assert Recogniser(tmp_path / "l.pth", tmp_path / "s.pth", "cpu").alphabet.max_length == 8


def test_training_goes_on_from_weights_of_another_alphabet(call, symbols, tmp_path):
    """What both alphabets have is read from the start: here all but the Scandinavian letters and the dash."""
    folder = draw_odemark(tmp_path / "crops", 30, 2)
    done = call(LPRNet_Train.main, "--alphabet", symbols, "--max_length", 7, "--img_dirs_train", folder / "photos",
                "--labels", folder / "labels.csv", "--run", tmp_path / "run", "--save", tmp_path / "l", tmp_path / "s",
                "--weights", LPRNET_WEIGHTS, STN_WEIGHTS, "--epoch", 1, "--batch_size", 16, "--epoch_samples", 16,
                "--learning_rate", 1e-6, "--workers", 0, "--device", "cpu", "--float32")
    assert done.status == 0 and "which knows 14 of 18 symbols" in done.out, done
    # weights that read nothing are none to keep
    assert [row["epoch"] for row in lines_of(tmp_path / "run" / "log.jsonl")] == [1]
    assert "read no crop yet: train longer" in done.out and "no epoch was better" not in done.out
    assert load_reader(tmp_path / "l", tmp_path / "s")[1].chars == (*ODEMARK_SYMBOLS, "_")


def test_a_new_symbol_is_not_read_everywhere_before_it_is_learned():
    """Only the bundled weights' symbols are known: what they read is read from the start, whatever is added to them."""
    wanted = (*CHARS[:-1], "警", CHARS[-1])
    recogniser = Recogniser(device="cpu")
    crops = torch.cat([recogniser.look(*recogniser.prepare(read_image(path), parse(path).box))
                       for path in find_images(SAMPLES)])
    given, _ = load_reader()
    for seed in range(3):
        torch.manual_seed(seed)
        other = LPRNet_Train.Reader(len(wanted)).eval()
        other.stn.load_state_dict(given.stn.state_dict())
        start_from(other.lprnet, Alphabet(wanted), LPRNET_WEIGHTS)
        with torch.inference_mode():
            texts, expected = ([reading.text for reading in Alphabet(chars).decode(net(crops))]
                               for chars, net in ((wanted, other), (CHARS, given)))
        assert texts == expected and all(expected)


def test_weights_that_record_no_alphabet_are_of_the_one_that_fits(tmp_path):
    """Other programs save state dicts alone; of Chinese plates' size they are those of Chinese plates."""
    own = Alphabet((*ODEMARK_SYMBOLS, "_"), 7)
    for size in (len(own), len(CHARS)):
        torch.manual_seed(size)
        torch.save(dict(LPRNet(size).state_dict()), tmp_path / f"{size}.pth")
    net = LPRNet(len(own))
    assert start_from(net, own, tmp_path / f"{len(own)}.pth").chars == own.chars
    assert torch.equal(net.container[0].bias, torch.load(tmp_path / f"{len(own)}.pth")["container.0.bias"])
    assert start_from(net, own, tmp_path / f"{len(CHARS)}.pth").chars == CHARS
    with pytest.raises(UserError, match=f"is for {len(own)} classes and records no alphabet; .*--alphabet FILE"):
        load_reader(tmp_path / f"{len(own)}.pth")


def test_weights_for_the_same_symbols_in_another_order_are_the_same_weights():
    torch.manual_seed(0)
    given, crops = LPRNet(len(CHARS)).eval(), torch.randn(3, 3, 24, 94)
    order = [*np.random.default_rng(0).permutation(len(CHARS) - 1).tolist(), len(CHARS) - 1]
    wanted = tuple(CHARS[place] for place in order)
    other = LPRNet(len(CHARS)).eval()
    other.load_state_dict(translated(given.state_dict(), CHARS, other.state_dict(), wanted))
    with torch.inference_mode():
        torch.testing.assert_close(other(crops), given(crops)[:, order])


def test_new_symbols_begin_as_the_mean_of_the_known_ones_or_at_random():
    given = LPRNet(len(CHARS)).state_dict()
    for wanted, known in ((("A", "Ä", "B", "-"), True), (("Ä", "Ö", "-"), False)):
        made = translated(given, CHARS, LPRNet(len(wanted)).state_dict(), wanted)
        assert all(value.isfinite().all() for value in made.values())
        bias = made["container.0.bias"]
        assert not known or bias[1] == pytest.approx((bias[0] + bias[2]).item() / 2)


def test_names_are_no_labels_by_accident(tmp_path):
    for name in ("0001.jpg", "皖A1234_1.jpg"):
        path = put_picture(tmp_path / name[:4] / name, make_picture(24, 94))
        with pytest.raises(UserError, match="is no plate"):
            LPRDataLoader(path.parent)


def test_a_table_that_names_no_picture_is_refused_and_missing_ones_are_said(tmp_path, capsys):
    put_picture(tmp_path / "0001.png", make_picture(24, 94))
    (tmp_path / "labels.csv").write_text("file,text\n0001.png,A1\n0002.png,B2\n", encoding="utf-8")
    assert len(read_labels([tmp_path / "labels.csv"])) == 2
    assert "1 of 2 pictures are not there, the first is 0002.png" in capsys.readouterr().err
    (tmp_path / "labels.csv").write_text("file,text\nx/0001.png,A1\n", encoding="utf-8")
    with pytest.raises(UserError, match="none of its pictures"):
        read_labels([tmp_path / "labels.csv"])


def test_crops_that_no_table_names_are_said(call, tmp_path):
    for name in ("a/x.png", "b/y.png"):
        put_picture(tmp_path / name, make_picture(24, 94))
    (tmp_path / "labels.csv").write_text("file,text\na/x.png,A1\n")
    done = call(LPRNet_Test.main, "--image", tmp_path / "b", "--labels", tmp_path / "labels.csv", "--device", "cpu")
    assert done.status == 0 and "none of 1 crops is in --labels" in done.out
