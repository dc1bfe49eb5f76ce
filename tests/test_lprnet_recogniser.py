"""The recogniser: faster forms of the networks give the same readings."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ccpd.annotation import parse
from ccpd.plate_kinds import FORCES, KINDS
from ccpd.plate_numbers import UNREAD_SYMBOLS, forces_text, unread_plate
from ccpd.plates import PlateRenderer
from LPRNet.alphabet import Alphabet, Reading
from LPRNet.confidence import cool, fit_temperature
from LPRNet.model.fast import INTEGERS, FastLPRNet, FastReader, pool_rectified, rectify
from LPRNet.model.LPRNET import LPRNet, fold_batch_norm
from LPRNet.model.STN import STNet
from LPRNet.recogniser import LOOKS, MARGINS, SURE, Reader, Recogniser, load_reader, save_reader
from platekit.checkpoints import save_weights
from platekit.crops import crop_resize, upload
from platekit.errors import UserError
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.opencv import cv2
from platekit.paths import SAMPLES
from tests.conftest import make_picture, needs_bfloat16


def with_some_batch_norm(net: LPRNet) -> LPRNet:
    """The net, its batch norms as if trained."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return net


def test_folding_batch_norm_changes_nothing_but_the_layers():
    torch.manual_seed(0)
    net = with_some_batch_norm(LPRNet(68))
    before = copy.deepcopy(net.state_dict())
    crops = torch.randn(3, 3, 24, 94)
    folded = fold_batch_norm(net)
    with torch.inference_mode():
        torch.testing.assert_close(folded(crops), net.eval()(crops), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("count", [1, 3])
def test_the_fast_net_is_the_same_net(dtype, tolerance, count):
    torch.manual_seed(0)
    net = with_some_batch_norm(LPRNet(68)).eval()
    crops = torch.randn(count, 3, 24, 94)
    with torch.inference_mode():
        wanted, found = net(crops), FastLPRNet(net, dtype)(crops)
    assert found.dtype == torch.float32 and found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * float(wanted.std()))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=needs_bfloat16)])
def test_packed_weights_change_nothing(dtype):
    torch.manual_seed(0)
    reader, crops = FastReader(STNet(), with_some_batch_norm(LPRNet(68)), dtype).eval(), torch.randn(5, 3, 24, 94)
    with torch.inference_mode():
        wanted = [reader(part) for part in (crops[:1], crops)]
        reader.pack()
        assert not any(isinstance(layer, nn.Conv2d) for layer in reader.lprnet.modules())
        for one, other in zip(wanted, (crops[:1], crops)):
            torch.testing.assert_close(reader(other), one, rtol=1e-4, atol=1e-4)


def test_the_fast_net_reads_a_black_crop():
    net = LPRNet(68).eval()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)  # no energy in any tap
    with torch.inference_mode():
        assert (FastLPRNet(net)(torch.zeros(1, 3, 24, 94)) == 0).all()


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(("width", "stride"), [(3, 1), (5, 2), (6, 2), (11, 1)])
def test_rectified_numbers_are_pooled_by_their_bits(dtype, width, stride):
    x = torch.randn(2, 8, 5, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, 0, :3, :3] = torch.tensor([0.0, -0.0, -1e-40])  # a window of nothing, next to nothing and less
    x = x.contiguous(memory_format=torch.channels_last)
    wanted = functional.max_pool2d(x.relu(), 3, stride=(1, stride))
    assert torch.equal(pool_rectified(rectify(x), stride), wanted)


def test_the_temperature_that_was_applied_is_found_and_undone():
    """Logits whose confidence is right by construction, made too cautious, are brought back; readings stay."""
    rng = np.random.default_rng(0)
    alphabet = Alphabet("AB-", 1)
    probability = rng.uniform(0.5, 1, 3000)  # of the first symbol, in plates of one symbol and one time step
    logits = torch.from_numpy(np.log(np.stack([probability, 1 - probability, np.full(3000, 1e-9)], axis=1)))[..., None]
    labels = [[0] if right else [1] for right in rng.random(3000) < probability]
    assert 0.85 < fit_temperature(logits, labels, alphabet) < 1.2
    assert 0.42 < fit_temperature(logits / 2, labels, alphabet) < 0.6
    few = logits[probability > 0.95][:4]  # all of them right: no evidence that every reading is
    assert 0.85 < fit_temperature(few, [[0]] * 4, alphabet) <= 1
    nothing = torch.tensor([0.0, 0.0, 9.0])[None, :, None].expand(3000, 3, 1)  # whose confidence is 0 anyway
    assert 0.85 < fit_temperature(torch.cat([logits, nothing]), labels + [[0]] * 3000, alphabet) < 1.2
    assert fit_temperature(nothing, [[0]] * 3000, alphabet) == 1


def test_cooling_divides_the_logits():
    torch.manual_seed(0)
    net = LPRNet(68).eval()
    crops = torch.randn(2, 3, 24, 94)
    with torch.inference_mode():
        before = net(crops)
    cool(net, 0.5)
    with torch.inference_mode():
        torch.testing.assert_close(net(crops), before * 2, rtol=1e-4, atol=1e-5)


def test_a_turned_plate_is_read_from_the_pixels_of_the_picture(tmp_path):
    """A further look samples the picture anew: fine stripes, that the crop of the box lost, are there again."""
    picture = np.zeros((480, 1880, 3), np.uint8)
    picture[::20] = picture[1::20] = picture[2::20] = picture[3::20] = picture[4::20] = 255  # as the box's rows are
    paths = tmp_path / "lprnet.pth", tmp_path / "stn.pth"
    reader = Reader(len(Alphabet()))
    with torch.no_grad():
        reader.stn.fc_loc[2].bias[4] = 0.2  # looks at the middle fifth of the height
    save_reader(reader, Alphabet(), *paths)
    recogniser = Recogniser(*paths, device="cpu")
    pixels, boxes = recogniser.prepare(picture)
    assert crop_resize(pixels, boxes).std() < 0.2  # 20 rows of the picture a row: grey
    assert recogniser.look(pixels, boxes).std() > 0.5  # 4 rows a row


def test_a_look_goes_on_from_where_the_one_before_it_ended(tmp_path):
    """Each one here finds the plate a twentieth further to the right, beyond the edge of the box."""
    picture = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 30, 3), np.uint8), (1200, 360))
    paths = tmp_path / "lprnet.pth", tmp_path / "stn.pth"
    reader = Reader(len(Alphabet()))
    with torch.no_grad():
        reader.stn.fc_loc[2].bias[2] = 0.1  # of half the crop's width
    save_reader(reader, Alphabet(), *paths)
    recogniser = Recogniser(*paths, device="cpu")
    pixels, boxes = recogniser.prepare(picture, (200.0, 100.0, 600.0, 200.0))
    moved = boxes + np.array([20, 0, 20, 0]) * (LOOKS - 1)
    assert LOOKS == 3 and (recogniser.look(pixels, boxes) - crop_resize(pixels, moved)).abs().mean() < 0.01
    assert (recogniser.look(pixels, boxes) - crop_resize(pixels, boxes)).abs().mean() > 0.05


def test_readings_do_not_depend_on_the_other_boxes():
    recogniser = Recogniser(device="cpu", batch_size=2)
    texts = ["京A12345", "鲁ABE037", "津C70759"]
    boxes = np.array([[10, 10, 150, 55], [160, 20, 380, 90], [30, 100, 180, 150]])
    picture = make_picture(200, 400)
    for text, (x1, y1, x2, y2) in zip(texts, boxes):
        plate = PlateRenderer().render(text, KINDS["blue"], np.random.default_rng(0))
        picture[y1:y2, x1:x2] = cv2.resize(plate, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
    pixels, _ = recogniser.prepare(picture)
    together = recogniser.read(pixels, boxes)
    assert [reading.text for reading in together] == texts
    for reading, box in zip(together, boxes):
        (alone,) = recogniser.read(pixels, box[None])
        assert alone.text == reading.text and alone.confidence == pytest.approx(reading.confidence, abs=1e-3)
    assert recogniser.read(pixels, boxes[:0]) == []


def test_the_nets_take_one_crop_at_a_time_at_least():
    assert Recogniser(device="cpu", batch_size=1).batch_size == 1 and Recogniser(device="cpu").batch_size > 1
    with pytest.raises(UserError, match="at least 1, not 0"):
        Recogniser(device="cpu", batch_size=0)


@pytest.mark.parametrize("same", [True, False], ids=["one reader", "another one first"])
def test_a_doubtful_plate_is_looked_at_in_other_boxes_too(same, monkeypatch):
    """Of two plates the one whose first view is unsure gets the views of the boxes round it, and only that one."""
    recogniser = Recogniser(device="cpu")
    recogniser.first_reader = recogniser.reader if same else object()
    alphabet, looked, asked = recogniser.alphabet, [], []

    def ideal(text: str, strength: float) -> torch.Tensor:
        logits = torch.zeros(len(alphabet), 18)
        path = [index for symbol in alphabet.encode(text) for index in (symbol, alphabet.blank)]
        logits[path + [alphabet.blank] * (18 - len(path)), range(18)] = strength
        return logits

    def looks(picture: torch.Tensor, boxes: np.ndarray) -> torch.Tensor:
        looked.append(boxes)
        return torch.from_numpy(boxes)  # in the crops' place

    def logits(boxes: torch.Tensor, reader: object) -> torch.Tensor:
        asked.append((boxes, reader))
        return torch.stack([ideal("皖A12345", 20) if box[0] < 50 else ideal("皖A54321", 3 if box[0] == 100 else 20)
                            for box in boxes])

    monkeypatch.setattr(recogniser, "looks", looks)
    monkeypatch.setattr(recogniser, "logits", logits)
    monkeypatch.setattr("LPRNet.recogniser.without_colours", lambda crops: crops)
    boxes = np.array([[10.0, 10, 40, 20], [100, 100, 200, 150]])
    sure, doubtful = recogniser.read(torch.zeros(1, 3, 300, 300), boxes)
    assert sure.text == "皖A12345" and sure.confidence > SURE and doubtful.text == "皖A54321"
    assert doubtful.confidence < alphabet.decode(ideal("皖A54321", 20)[None])[0].confidence  # the first view counts
    first, others = looked  # each box once
    assert np.array_equal(first, boxes) and len(others) == len(MARGINS)
    np.testing.assert_allclose(others[0], [97.0, 98.5, 203.0, 151.5])
    readers = [reader for _, reader in asked]
    assert readers == [recogniser.first_reader, recogniser.reader, recogniser.reader]  # with colours and without
    assert all(np.array_equal(views, np.concatenate([boxes[1:], others])) for views, _ in asked[1:])  # of that plate


@pytest.mark.parametrize(("coloured", "grey", "text"), [(0.6, 0.75, "A"), (0.4, 0.95, "B")])
def test_views_with_their_colours_count_twice(monkeypatch, coloured, grey, text):
    """They read A, those in grey B: in a plain vote B would win both times, counting three times A."""
    recogniser = Recogniser(device="cpu")

    def logits(crops: torch.Tensor, reader: object) -> torch.Tensor:
        symbol, probability = ("B", grey) if crops.mean() else ("A", coloured)
        probabilities = torch.full((len(recogniser.alphabet), 18), 1e-4)
        probabilities[recogniser.alphabet.blank] = 1
        rest = (1 - probability) / 2
        probabilities[[*recogniser.alphabet.encode(f"{symbol}C"), recogniser.alphabet.blank], 9] = \
            torch.tensor([probability, rest, rest])
        return probabilities.log().expand(len(crops), -1, -1)

    monkeypatch.setattr(recogniser, "looks", lambda _, boxes: torch.zeros(len(boxes), 3, 24, 94))
    monkeypatch.setattr(recogniser, "logits", logits)
    monkeypatch.setattr("LPRNet.recogniser.without_colours", torch.ones_like)
    assert recogniser.read(torch.zeros(1, 3, 30, 90), np.array([[0.0, 0, 90, 30]]))[0].text == text


def test_a_plate_in_odd_light_is_read_by_its_shapes():
    """As when a program takes pictures for RGB that are BGR: the nets have seen no red plate."""
    recogniser, right = Recogniser(device="cpu"), 0
    for path in sorted(SAMPLES.glob("*.jpg")):
        box = tuple(map(float, parse(path.name).box))
        right += recogniser.read_pictures([read_image(path)[..., ::-1].copy()], [box])[0].text == parse(path.name).plate
    assert right == 5


def test_all_of_the_nets_is_on_the_device(monkeypatch):
    """A device that only holds shapes stands for a GPU."""
    monkeypatch.setattr("LPRNet.recogniser.pick_device", torch.device)
    recogniser = Recogniser(device="meta")
    assert {tensor.device.type for tensor in recogniser.reader.state_dict().values()} == {"meta"}
    assert recogniser.reader.lprnet(torch.zeros(2, 3, 24, 94, device="meta")).shape == (2, 68, 18)


def test_pictures_and_boxes_that_do_not_fit_are_refused():
    recogniser, picture = Recogniser(device="cpu"), np.zeros((30, 90, 3), np.uint8)
    for box in ((50, 5, 20, 25), (5, 25, 50, 25), (float("nan"), 0, 10, 10), (0, 0, float("inf"), 10)):
        with pytest.raises(ValueError, match="x1 < x2"):
            recogniser.read_pictures([picture], [box])
        with pytest.raises(ValueError, match="x1 < x2"):
            recogniser.read(*recogniser.prepare(picture)[:1], np.array([box]))
    assert recogniser.prepare(picture, (-1e7, 0, 1e7, 30))[1].tolist() == [[-90, 0, 180, 30]]
    assert recogniser.read_pictures([picture], [(1e6, 0, 2e7, 9)])[0].text == ""  # it lies far outside
    with pytest.raises(ValueError):
        recogniser.read_pictures([picture, picture], [(0, 0, 90, 30)])


def test_pictures_of_plates_may_be_files_or_their_bytes():
    recogniser, path = Recogniser(device="cpu"), find_images(SAMPLES)[0]
    box = parse(path).box
    for pictures in ([path, str(path)], iter([path.read_bytes(), read_image(path)])):
        readings = recogniser.read_pictures(pictures, [box, box])
        assert [reading.text for reading in readings] == [parse(path).plate] * 2
    assert len(recogniser.read_pictures(path for _ in range(2))) == 2
    for wrong in (path, str(path), [[path]]):
        with pytest.raises(ValueError, match=r"give a list|a picture is"):
            recogniser.read_pictures(wrong)
    with pytest.raises(UserError, match=r"no\.jpg"):
        recogniser.read_pictures(["no.jpg"])


def test_nets_that_were_not_trained_together_are_told_apart(tmp_path, capsys):
    for name in "ab":
        reader = Reader(4)
        torch.nn.init.normal_(next(reader.stn.parameters()))
        save_reader(reader, Alphabet("xyz-"), tmp_path / f"{name}_lprnet", tmp_path / f"{name}_stn")
    Recogniser(tmp_path / "a_lprnet", tmp_path / "a_stn", "cpu")
    Recogniser(device="cpu")  # earlier files note nothing
    save_weights(tmp_path / "same", load_reader(tmp_path / "a_lprnet", tmp_path / "a_stn")[0].stn, {"a": "word"})
    Recogniser(tmp_path / "a_lprnet", tmp_path / "same", "cpu")
    assert capsys.readouterr().err == ""
    Recogniser(tmp_path / "a_lprnet", tmp_path / "b_stn", "cpu")
    assert f"a_lprnet was made with other weights than {tmp_path / 'b_stn'}" in capsys.readouterr().err


def _of_forces(rng, kind):
    return kind, forces_text(rng, kind)


@pytest.mark.parametrize(("kind", "random", "least"), [
    (FORCES["white"], _of_forces, 17), (FORCES["white_police"], _of_forces, 10),
    *((KINDS[name], unread_plate, 17) for name in ("white", "yellow", "black"))])
def test_the_bundled_weights_read_rarer_plates(kind, random, least):
    """Those of the armed forces and police, and those with a symbol that the alphabet lacks: read without it.

    At least so many of 20: the small province of the armed police's is hard to tell in OpenCV's font.
    """
    rng, renderer = np.random.default_rng(2), PlateRenderer()
    plates = [random(rng, kind) for _ in range(20)]
    readings = Recogniser(device="cpu").read_pictures([renderer.render(text, kind, rng) for kind, text in plates])
    known = [text.strip("".join(UNREAD_SYMBOLS.values())) for _, text in plates]
    right = [reading.text == text for reading, text in zip(readings, known)]
    assert sum(right) >= least, [reading.text for reading in readings]


def test_other_plates_are_not_looked_at_as_two_rows(tmp_path, monkeypatch):
    save_reader(Reader(4), Alphabet("xyz-"), tmp_path / "l", tmp_path / "s")
    recogniser = Recogniser(tmp_path / "l", tmp_path / "s", "cpu")
    blank = torch.tensor([-20.0, -20, -20, 20])[None, :, None]
    monkeypatch.setattr(recogniser, "logits", lambda crops, reader: blank.repeat(len(crops), 1, 18))
    monkeypatch.setattr(recogniser, "read_rows", lambda *_: 1 / 0)
    assert recogniser.read(upload(make_picture(30, 90)), np.array([[0.0, 0, 90, 30]])) == [Reading("", 0.0)]
