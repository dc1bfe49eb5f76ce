"""The detector's trainer: losses, batches, resuming; and all its scripts in a row, from another directory."""

from __future__ import annotations

import math
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ccpd import camera
from MTCNN import MTCNN as detection
from MTCNN.data_preprocessing import (
    assemble_Onet_imglist,
    assemble_Pnet_imglist,
    gen_Onet_train_data,
    gen_Pnet_train_data,
)
from MTCNN.data_preprocessing.assemble import assemble
from MTCNN.data_preprocessing.sample_store import PHOTOS
from MTCNN.data_set import preprocess
from MTCNN.model.MTCNN_nets import ONet, PNet
from MTCNN.train import Train_Onet, Train_Pnet
from MTCNN.train.augment import blur_some, change_colours, light_some, prepare
from MTCNN.train.dataset import Batch, SampleList
from MTCNN.train.losses import box_loss, box_overlaps, class_loss
from MTCNN.train.trainer import average_precision, evaluate, sample_loss, train
from platekit.boxes import encode_offsets
from platekit.checkpoints import load_weights, read_checkpoint
from platekit.errors import UserError
from tests.conftest import files_below, lines_of
from tests.makers import options_for, photo_folder, write_list

CPU = torch.device("cpu")


# losses

def test_only_the_hardest_seven_of_ten_count():
    logits = torch.zeros(12, 2)
    logits[:, 0] = torch.linspace(-5, 5, 12)
    labels = torch.tensor([0] * 10 + [-1] * 2)
    each = F.cross_entropy(logits[:10], labels[:10], reduction="none")
    torch.testing.assert_close(class_loss(logits, labels), each.sort(descending=True).values[:7].mean())
    assert class_loss(logits, labels) > each.mean()


def test_parts_teach_the_box_alone_and_negatives_the_class_alone():
    offsets, logits = torch.zeros(3, 4, requires_grad=True), torch.zeros(3, 2, requires_grad=True)
    labels, wanted = torch.tensor([1, -1, 0]), torch.full((3, 4), 0.2)
    (class_loss(logits, labels, hardest=1.0) + box_loss(offsets, wanted, labels)).backward()
    assert logits.grad[1].abs().sum() == 0 and logits.grad[0].abs().sum() > 0
    assert offsets.grad[2].abs().sum() == 0 and offsets.grad[1].abs().sum() > 0


@pytest.mark.parametrize("labels", [[0], [1], [-1], [0, 0], [-1, -1]])
@pytest.mark.parametrize("kind", ["l1", "ends"])
def test_batches_of_one_kind_or_one_sample_have_a_loss(labels, kind):
    offsets = torch.zeros(len(labels), 4, requires_grad=True)
    logits = torch.zeros(len(labels), 2, requires_grad=True)
    value = class_loss(logits, torch.tensor(labels)) + box_loss(offsets, torch.full((len(labels), 4), 0.1),
                                                                torch.tensor(labels), kind)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(offsets.grad).all() and torch.isfinite(logits.grad).all()


def test_an_end_cut_off_costs_more_than_a_margin():
    wanted, label = torch.zeros(1, 4), torch.ones(1, dtype=torch.long)
    left_cut, left_wide, top_cut, right_wide, right_cut = (
        box_loss(torch.tensor([offsets]), wanted, label, "ends").item()
        for offsets in ([0.1, 0.0, 0.0, 0.0], [-0.1, 0, 0, 0], [0, 0.1, 0, 0], [0, 0, 0.1, 0], [0, 0, -0.1, 0]))
    assert left_cut == right_cut > left_wide == right_wide > top_cut
    assert top_cut == box_loss(torch.tensor([[0, 0.1, 0, 0]]), wanted, label).item()


def test_short_batches_count_by_their_samples():
    torch.manual_seed(0)
    net = PNet()
    full = Batch(torch.randn(1, 3, 12, 47).expand(8, -1, -1, -1), torch.ones(8, dtype=torch.long), torch.zeros(8, 4))
    short = Batch(full.pixels[:2], full.labels[:2], full.offsets[:2])
    values = [sample_loss(net, batch, CPU, Train_Pnet.RECIPE, "l1", 8)[0].item() for batch in (full, short)]
    assert values[1] == pytest.approx(values[0] / 4, rel=1e-4)


@pytest.mark.parametrize("kind", ["l1", "ends"])
def test_the_box_loss_that_was_asked_for_is_a_part_of_the_loss(kind):
    torch.manual_seed(0)
    net, recipe = PNet().eval(), Train_Pnet.RECIPE
    batch = Batch(torch.randn(8, 3, 12, 47), torch.ones(8, dtype=torch.long), torch.full((8, 4), 0.2))
    wanted = box_loss(net(batch.pixels)[0].flatten(1), batch.offsets, batch.labels, kind).item()
    loss, parts = sample_loss(net, batch, CPU, recipe, kind, 8)
    assert parts["box_loss"].item() == pytest.approx(wanted, rel=1e-4)
    assert loss.item() == pytest.approx(parts["class_loss"].item() + recipe.box_weight * wanted, rel=1e-4)


def test_box_and_class_loss_are_balanced():
    """At the size of error an untrained net makes, neither loss swamps the other."""
    labels = torch.tensor([1, -1, 0, 0, 0])
    classes = class_loss(torch.zeros(5, 2), labels)
    boxes = box_loss(torch.zeros(5, 4), torch.full((5, 4), 0.1), labels)
    for recipe in (Train_Pnet.RECIPE, Train_Onet.RECIPE):
        assert 0.25 < recipe.box_weight * boxes / classes < 1


def test_overlap_of_corrected_boxes():
    anchors, boxes = torch.tensor([[0.0, 0, 100, 30]]), torch.tensor([[10.0, 3, 110, 33]])
    wanted = encode_offsets(boxes, anchors)
    assert box_overlaps(wanted, wanted).item() == pytest.approx(1)
    assert box_overlaps(torch.zeros(1, 4), wanted).item() == pytest.approx(90 * 27 / (2 * 3000 - 90 * 27))
    inner, inside_out = torch.tensor([[0.1, 0.1, -0.1, -0.1], [0.6, 0, -0.6, 0]])
    found = box_overlaps(torch.zeros(2, 4), torch.stack([inner, inside_out]))
    assert found.tolist() == pytest.approx([0.64, 0])


def test_average_precision():
    assert average_precision(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2])) == 1
    assert average_precision(torch.tensor([0.9, 0.1]), torch.tensor([0.5])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(torch.tensor([0.5]), torch.tensor([0.5])) == pytest.approx(0.5)


class Scored:
    """A list of samples whose pixels hold the score that ``judge`` gives them."""

    def __init__(self, positives: torch.Tensor, parts: torch.Tensor, negatives: torch.Tensor) -> None:
        self.scores = torch.cat([positives, parts, negatives])
        self.labels = torch.tensor([1] * len(positives) + [-1] * len(parts) + [0] * len(negatives))
        self.offsets = torch.where(self.labels == -1, 0.1, 0.0)[:, None].expand(-1, 4)

    def __len__(self) -> int:
        return len(self.labels)

    def collate(self, keys: list[tuple[int, int]]) -> Batch:
        indices = [index for index, _ in keys]
        return Batch(self.scores[indices][:, None, None, None].expand(-1, 3, 12, 47), self.labels[indices],
                     self.offsets[indices])


def judge(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A net that leaves every box as it is."""
    score = pixels[:, :1, :1, :1]
    return torch.zeros(len(pixels), 4, 1, 1), torch.cat([1 - score, score], 1)


def test_the_figures_of_an_epoch():
    positives, negatives = torch.tensor([0.1, 0.3, 0.95, 0.99]), torch.arange(200) / 200  # 0.985 is the third best
    found = evaluate(judge, Scored(positives, torch.zeros(4), negatives), CPU, chunk=50)
    iou = box_overlaps(torch.zeros(1, 4), torch.full((1, 4), 0.1)).item()  # of parts; positives need no correction
    assert found["iou"] == pytest.approx((1 + iou) / 2) and iou < 0.9
    assert found["precision"] == pytest.approx(average_precision(positives, negatives))
    assert found["score"] == pytest.approx(found["precision"] + found["iou"]) and found["recall_99"] == 0.25


# batches

def test_a_list_is_sent_to_a_loader_without_its_samples(tmp_path):
    data = SampleList(write_list(tmp_path, count=200), augment=False, size=(12, 47))
    sent = ForkingPickler.dumps(data)
    assert len(sent) < 200 * 12 * 47 * 3
    assert torch.equal(ForkingPickler.loads(sent).read(np.arange(600)), data.read(np.arange(600)))


def test_a_list_gives_the_pixels_of_its_rows(tmp_path):
    lists = write_list(tmp_path, count=10)
    data, lines = SampleList(lists, augment=False, size=(12, 47)), np.loadtxt(lists)
    pixels = data.read(np.arange(len(data))[::-1]).numpy()
    arrays = [np.load(tmp_path / "samples" / f"{kind}.npy") for kind in ("positive", "part", "negative")]
    for (array, row), found in zip(lines[::-1, :2].astype(int), pixels):
        np.testing.assert_array_equal(found, arrays[array][row])


def test_a_list_in_a_linked_folder_finds_its_samples(tmp_path):
    write_list(tmp_path)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "lists").symlink_to(tmp_path / "far" / "away")
    target = tmp_path / "lists" / "list.txt"
    assemble([tmp_path / "samples"], target, {"positive": 1, "part": 1, "negative": 1}, None, 0)
    assert len(SampleList(target, augment=False, size=(12, 47))) == 180


def test_a_list_of_no_samples_is_refused(call, tmp_path):
    write_list(tmp_path)
    done = call(assemble_Pnet_imglist.main, "--samples_train", tmp_path / "samples", "--samples_val", "--list_train",
                tmp_path / "train.txt", "--size", -50)
    assert "--size must be at least 1" in done.sentence() and not (tmp_path / "train.txt").exists()


def test_colours_follow_the_seed(tmp_path):
    data = SampleList(write_list(tmp_path), augment=True, size=(12, 47))
    keys = [(index, 7 * index + 1) for index in range(20)]
    first, second = data.collate(keys), data.collate(keys)
    torch.testing.assert_close(first.pixels, second.pixels, rtol=0, atol=0)
    other = data.collate([(index, seed + 1) for index, seed in keys])
    assert not torch.equal(first.pixels, other.pixels)
    assert first.pixels.abs().max() <= 1 and first.pixels.shape == (20, 3, 12, 47)
    changed = change_colours(torch.full((4, 3, 12, 47), 100.0), torch.Generator().manual_seed(0))
    assert changed.std() > 1


def test_every_change_of_colours_is_in_some_samples():
    flat = torch.tensor([160.0, 110, 60]).view(1, 3, 1, 1).expand(60, 3, 4, 6)
    batches = [change_colours(flat, torch.Generator().manual_seed(seed)).mean((2, 3)) for seed in range(20)]
    blue, _, red = torch.cat(batches).T
    assert 0.02 < (red > 1.25 * blue).float().mean() < 0.15  # swapped channels
    grey = change_colours(torch.full((400, 3, 4, 6), 110.0), torch.Generator().manual_seed(0)).mean((2, 3))
    assert ((grey.amax(1) / grey.amin(1)).log() > 0.05).float().mean() > 0.3  # a gain for each channel
    assert 0.04 < ((blue / red).log().abs() < 0.17).float().mean() < 0.2  # some without colours
    assert change_colours(torch.zeros(100, 3, 4, 6), torch.Generator().manual_seed(0)).amax() > 15
    halves = torch.full((800, 3, 4, 6), 80.0)
    halves[..., 3:] = 140
    changed = change_colours(halves, torch.Generator().manual_seed(0)).mean((1, 2))
    contrast = (changed[:, -1] - changed[:, 0]) / 60  # times the gain, which is 0.75 to 1.25, give or take 8 %
    assert contrast.min() < 0.65 and contrast.max() > 1.4


def test_what_a_gpu_is_to_prepare_is_prepared_alike(tmp_path):
    lists, net = write_list(tmp_path, (24, 94)), ONet().eval()
    keys = [(index, 5) for index in range(60)]
    ready = SampleList(lists, augment=True, size=(24, 94)).collate(keys)
    raw = SampleList(lists, augment=True, size=(24, 94), raw=True).collate(keys)
    assert raw.pixels.dtype == torch.uint8 and raw.pixels.shape == ready.pixels.shape
    losses = []
    for batch in (ready, raw):
        torch.manual_seed(5)  # the draws of a training step follow from the torch seed
        with torch.autocast("cpu", torch.bfloat16):
            losses.append(sample_loss(net, batch, CPU, Train_Onet.RECIPE, "l1", 60)[0])
    assert losses[0] == losses[1]


def test_some_samples_are_partly_in_shadow_or_under_a_reflection():
    pixels = torch.full((400, 3, 24, 94), 120.0)
    lit = light_some(pixels, torch.Generator().manual_seed(0))
    assert (pixels == 120).all() and lit.min() >= 0 and lit.max() <= 255
    changed = (lit - pixels).abs().flatten(1).amax(1) > 4
    assert 50 < changed.sum() < 130
    darker, brighter = lit[changed].flatten(1).amin(1) < 115, lit[changed].flatten(1).amax(1) > 125
    assert darker.sum() > 1.5 * brighter.sum() > 0 and not (darker & brighter).any()
    parts = (lit[changed] - 120).abs().amax(1).flatten(1) > 10
    assert ((parts.float().mean(1) > 0.02) & (parts.float().mean(1) < 0.98)).float().mean() > 0.6  # an edge shows
    corners, inside = lit[:, 0, ::23, ::93].flatten(1), lit[:, 0].flatten(1)
    assert ((corners.amin(1) > 110) & (inside.amin(1) < 90)).any()  # the streak of a shadow
    assert len(light_some(pixels[:0], torch.Generator())) == 0


def test_some_samples_are_blurred_in_one_direction():
    pixels = torch.rand(200, 3, 24, 94) * 255
    before = pixels.clone()
    blurred = blur_some(pixels, torch.Generator().manual_seed(0))
    torch.testing.assert_close(pixels, before)
    moved = (blurred != pixels).flatten(1).any(1)
    assert 20 < moved.sum() < 60
    assert blurred[moved].std() < 0.7 * pixels[moved].std()
    torch.testing.assert_close(blurred[moved].mean(), pixels[moved].mean(), rtol=0.03, atol=0)
    assert len(blur_some(pixels[:0], torch.Generator())) == 0
    for stripes in (torch.arange(24)[:, None], torch.arange(94)):  # in more directions than one
        striped = (stripes % 4 * 60.0).expand(20, 3, 24, 94)
        least = [blur_some(striped, torch.Generator().manual_seed(seed))[..., 6:-6, 20:-20].std((1, 2, 3)).min()
                 for seed in range(8)]
        assert min(least) < 0.5 * striped.std()
    for length, angle, axis in ((9.0, 0.0, 0), (9.0, math.pi / 2, 1), (30.0, 0.0, 0)):
        kernel = camera.motion_kernel(length, angle)
        beside = kernel.sum(1 - axis)[abs(np.arange(len(kernel)) - len(kernel) // 2) > 1]
        assert kernel.sum() == pytest.approx(1) and abs(len(kernel) - length) <= 2 and not beside.any()
        assert (kernel.sum(axis) > 0).all() and kernel.sum(axis).max() < 2 / length


@pytest.mark.parametrize("length", [2.0, 2.5, 3.3, 6.2])
def test_short_motions_have_their_length_and_angle_too(length):
    for angle in np.linspace(0, np.pi, 13):
        kernel = camera.motion_kernel(length, angle)
        y, x = np.mgrid[:len(kernel), :len(kernel)] - len(kernel) // 2
        spread = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=kernel.ravel(), ddof=0)
        variances, axes = np.linalg.eigh(spread)
        turned = np.arctan2(axes[1, 1], axes[0, 1]) - angle
        assert abs(np.sin(turned)) < 0.1 and np.sqrt(12 * variances[1]) == pytest.approx(length, rel=0.45, abs=0.3)
        assert (kernel * x).sum() == pytest.approx(0, abs=1e-5) and (kernel * y).sum() == pytest.approx(0, abs=1e-5)


def test_lists_that_do_not_fit_are_refused(tmp_path):
    lists = write_list(tmp_path)
    with pytest.raises(UserError, match="does not fit"):
        SampleList(lists, augment=False, size=(24, 94))
    with pytest.raises(UserError, match="imglist"):
        SampleList(tmp_path / "missing.txt", augment=False, size=(12, 47))
    (tmp_path / "one_more.txt").write_text(lists.read_text() + "0 60 1 0 0 0 0\n")  # of rows 0 to 59
    with pytest.raises(UserError, match="does not fit"):
        SampleList(tmp_path / "one_more.txt", augment=False, size=(12, 47))
    (tmp_path / "empty.txt").write_text("# array x\n")
    (tmp_path / "none.txt").write_text("nan 0 1 0 0 0 0\n")
    for name in ("empty.txt", "none.txt"):
        with pytest.raises(UserError, match="is no list of samples"):
            SampleList(tmp_path / name, augment=False, size=(12, 47))


@pytest.mark.parametrize("numbers", ["-1 0 1", "0 -1 1", "0 nan 1", "nan 0 1", "0 inf 1", "0 1e300 1", "0 0.5 1",
                                     "0 0 nan"])
def test_a_list_whose_numbers_are_no_places_is_refused(tmp_path, numbers):
    lists = write_list(tmp_path, count=2)
    lists.write_text(lists.read_text() + f"{numbers} 0 0 0 0\n")
    with pytest.raises(UserError, match="is no list of samples"):
        SampleList(lists, augment=False, size=(12, 47))


# training

@pytest.mark.parametrize(("recipe", "net", "size"), [(Train_Pnet.RECIPE, PNet, (12, 47)),
                                                     (Train_Onet.RECIPE, ONet, (24, 94))])
def test_training_learns_and_its_last_batch_may_be_one_sample(recipe, net, size, tmp_path):
    lists = write_list(tmp_path, size, count=27)  # 81 samples: the last batch of 16 holds one
    before = evaluate(net().eval(), SampleList(lists, False, size), CPU)
    trained = train(recipe, options_for(recipe, tmp_path, lists, "--epoch", 6, "--batch_size", 16,
                                        "--learning_rate", 3e-3))
    figures = evaluate(trained, SampleList(lists, False, size), CPU)
    assert figures["precision"] > 0.95 and figures["iou"] > max(0.85, before["iou"] - 0.01)
    load_weights(net(), tmp_path / "weights")
    state, _ = read_checkpoint(tmp_path / "weights")
    assert set(state) == set(net().state_dict())  # a plain state dict


def test_the_rate_of_one_short_epoch_falls_too(tmp_path):
    train(Train_Pnet.RECIPE, options_for(Train_Pnet.RECIPE, tmp_path, write_list(tmp_path), "--epoch", 1,
                                         "--batch_size", 4, "--learning_rate", 1e-3))
    (row,) = lines_of(tmp_path / "run" / "log.jsonl")
    assert row["step"] > 10 and row["learning_rate"] < 3e-5


def test_a_resumed_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    lists = write_list(tmp_path)
    recipe = Train_Pnet.RECIPE

    def run(folder):
        return train(recipe, options_for(recipe, folder, lists, "--epoch", 3, "--batch_size", 32, "--seed", 4))

    straight = run(tmp_path / "straight")
    calls = []

    def killed(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments, **named)

    monkeypatch.setattr("MTCNN.train.trainer.evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.undo()
    assert not (tmp_path / "killed" / "weights").exists()
    resumed = run(tmp_path / "killed")
    for key, value in straight.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, rtol=0, atol=0)
    lists.write_text(lists.read_text().replace(" 0 0 0 0\n", " 0 0 0 0 \n"))
    with pytest.raises(UserError, match=r"another list of samples .* and list of validation samples"):
        run(tmp_path / "killed")


def test_samples_to_train_on_are_changed_and_those_to_validate_on_are_not(tmp_path, monkeypatch):
    lists, changed = write_list(tmp_path, count=4), []

    def killed(net, data, device):
        changed.append(data.augment)
        raise KeyboardInterrupt

    def prepared(pixels, generator):
        changed.append(True)
        return prepare(pixels, generator)

    monkeypatch.setattr("MTCNN.train.trainer.evaluate", killed)
    monkeypatch.setattr("MTCNN.train.dataset.prepare", prepared)
    with pytest.raises(KeyboardInterrupt):
        train(Train_Pnet.RECIPE, options_for(Train_Pnet.RECIPE, tmp_path, lists))
    assert changed == [True, False]


def test_a_list_of_samples_that_were_made_anew_is_refused(tmp_path):
    lists = write_list(tmp_path)
    (tmp_path / "samples" / "samples.json").write_text("{}")  # of another seed, say
    with pytest.raises(UserError, match=r"does not fit samples/positive\.npy; assemble"):
        SampleList(lists, augment=False, size=(12, 47))


def test_a_list_without_positives_is_refused_before_the_training(tmp_path):
    lists = write_list(tmp_path)
    lists.write_text("".join(line for line in lists.read_text().splitlines(keepends=True) if line.split()[2] != "1"))
    with pytest.raises(UserError, match="no positive samples"):
        train(Train_Pnet.RECIPE, options_for(Train_Pnet.RECIPE, tmp_path, lists))


def test_weights_that_the_run_replaces_are_refused(tmp_path):
    with pytest.raises(UserError, match="a file that this training replaces"):
        options_for(Train_Pnet.RECIPE, tmp_path, tmp_path / "list.txt", "--weights", tmp_path / "run" / "best.pth")


def test_weights_that_no_epoch_betters_are_kept(tmp_path, capsys):
    lists, recipe = write_list(tmp_path), Train_Pnet.RECIPE
    good = train(recipe, options_for(recipe, tmp_path / "a", lists, "--epoch", 4, "--batch_size", 16))
    flags = ("--weights", tmp_path / "a" / "weights", "--epoch", 1, "--learning_rate", 1000)
    load_weights(good, tmp_path / "a" / "weights")  # which are in half precision
    kept = train(recipe, options_for(recipe, tmp_path / "b", lists, *flags))
    for key, value in good.state_dict().items():
        torch.testing.assert_close(kept.state_dict()[key], value, rtol=0, atol=0)
    assert "no epoch was better" in capsys.readouterr().out


def test_wrong_numbers_are_refused(tmp_path):
    with pytest.raises(UserError, match="batch_size"):
        options_for(Train_Pnet.RECIPE, tmp_path, "x", "--batch_size", 0)
    with pytest.raises(SystemExit):
        options_for(Train_Pnet.RECIPE, tmp_path, "x", "--epoch", "many")


# scripts

SCRIPTS = {
    "MTCNN/data_set/preprocess.py": preprocess.main,
    "MTCNN/data_preprocessing/gen_Pnet_train_data.py": gen_Pnet_train_data.main,
    "MTCNN/data_preprocessing/gen_Onet_train_data.py": gen_Onet_train_data.main,
    "MTCNN/data_preprocessing/assemble_Pnet_imglist.py": assemble_Pnet_imglist.main,
    "MTCNN/data_preprocessing/assemble_Onet_imglist.py": assemble_Onet_imglist.main,
    "MTCNN/train/Train_Pnet.py": Train_Pnet.main,
    "MTCNN/train/Train_Onet.py": Train_Onet.main,
    "MTCNN/MTCNN.py": detection.main,
}


@pytest.mark.parametrize(("script", "module"), [
    ("MTCNN/MTCNN.py", False), ("MTCNN/MTCNN.py", True), ("MTCNN/data_set/preprocess.py", False),
    ("MTCNN/data_preprocessing/assemble_Pnet_imglist.py", True), ("MTCNN/train/Train_Onet.py", False)])
def test_scripts_start_anywhere(script, module, run_script, tmp_path):
    """As file and as module; MTCNN/MTCNN.py, whose name is its package's, both ways."""
    outcome = run_script(script, "--help", cwd=tmp_path, module=module)
    assert outcome.status == 0 and "--seed" in outcome.out, outcome.err


def test_the_whole_chain_from_another_directory(call, tmp_path):
    """Every script, with paths relative to a directory that is not the checkout."""
    photo_folder(tmp_path / "ccpd", [f"皖A{number:05d}" for number in range(8)])
    photo_folder(tmp_path / "ccpd", ["苏B00001", "苏B00002"], "ccpd_tilt")
    chain: list[tuple[str, tuple]] = [
        ("MTCNN/data_set/preprocess.py",
         ("--img_dirs", "ccpd", "--dir_train", "train", "--dir_val", "val", "--val_share", 0.4))]
    for net in ("Pnet", "Onet"):
        name = net.lower()
        counts = ("--positives", 4, "--parts", 4, "--near", 3, "--far", 4)
        weights = ("--pnet", "pnet") if net == "Onet" else ()
        chain += [
            (f"MTCNN/data_preprocessing/gen_{net}_train_data.py",
             ("-dir_train", "train", "-dir_val", "val", "--views", 2, "--views_val", 1, *counts, *weights,
              "--out_train", f"{name}_t", "--out_val", f"{name}_v")),
            (f"MTCNN/data_preprocessing/assemble_{net}_imglist.py",
             ("--samples_train", f"{name}_t", "--samples_val", f"{name}_v", "--list_train", f"lists/{name}_t.txt",
              "--list_val", f"lists/{name}_v.txt")),
            (f"MTCNN/train/Train_{net}.py",
             ("--list_train", f"lists/{name}_t.txt", "--list_val", f"lists/{name}_v.txt", "--run", f"run_{name}",
              "--save", name, "--epoch", 1, "--batch_size", 32)),
        ]
    chain.append(("MTCNN/MTCNN.py", ("--image", "val", "--json", "-", "--pnet", "pnet", "--onet", "onet")))
    for script, arguments in chain:
        outcome = call(SCRIPTS[script], *arguments, cwd=tmp_path)
        assert outcome.status == 0, (script, outcome.err)
        assert script == "MTCNN/MTCNN.py" or "next: " in outcome.out
        assert "PHOTOS" not in outcome.out  # these are CCPD's
    assert {"pnet", "onet"} <= set(files_below(tmp_path))
    assert outcome.out.count('"plates"') == len(files_below(tmp_path / "val"))


def test_the_detector_is_trained_with_the_box_loss_asked_for(tmp_path, monkeypatch):
    asked = []

    def loss(net, batch, box, **named):
        asked.append(box)
        raise KeyboardInterrupt

    monkeypatch.setattr("MTCNN.train.trainer.sample_loss", loss)
    with pytest.raises(KeyboardInterrupt):
        train(Train_Pnet.RECIPE, options_for(Train_Pnet.RECIPE, tmp_path, write_list(tmp_path, count=4),
                                                      "--box_loss", "ends"))
    assert asked == ["ends"]


def test_the_best_epoch_is_chosen_by_the_samples_to_validate_on(tmp_path, monkeypatch):
    for name, count in (("train", 8), ("val", 5)):
        (tmp_path / name).mkdir()
        write_list(tmp_path / name, count=count)
    judged = []
    monkeypatch.setattr("MTCNN.train.trainer.evaluate",
                        lambda net, data, device: judged.append((data.path, len(data))) or {"score": 0.0})
    recipe, val = Train_Pnet.RECIPE, tmp_path / "val" / "list.txt"
    train(recipe, options_for(recipe, tmp_path, tmp_path / "train" / "list.txt", "--epoch", 1, "--list_val", val))
    assert judged == [(val, 15)]


def test_photos_to_train_on_do_not_choose_the_epoch(tmp_path):
    for name, photos in (("train", ("a.jpg", "b.jpg")), ("val", ("b.jpg",))):
        (tmp_path / name).mkdir()
        write_list(tmp_path / name)
        (tmp_path / name / "samples" / PHOTOS).write_text("".join(f"{tmp_path}/{photo}\n" for photo in photos))
    options = options_for(Train_Pnet.RECIPE, tmp_path, tmp_path / "train" / "list.txt", "--epoch", 1,
                          "--list_val", tmp_path / "val" / "list.txt")
    with pytest.raises(UserError, match=r"share 1 photos, such as .*b\.jpg"):
        train(Train_Pnet.RECIPE, options)
    (tmp_path / "val" / "samples" / PHOTOS).write_text(f"{tmp_path}/c.jpg\n")
    train(Train_Pnet.RECIPE, options)


def test_what_a_training_keeps_can_be_read_as_weights(tmp_path):
    recipe = Train_Pnet.RECIPE
    best = train(recipe, options_for(recipe, tmp_path, write_list(tmp_path), "--epoch", 1))
    for name in ("best.pth", "last.pth"):
        net = recipe.net()
        load_weights(net, tmp_path / "run" / name)
        for mine, theirs in zip(net.state_dict().values(), best.state_dict().values()):
            torch.testing.assert_close(mine, theirs)


def test_another_seed_is_another_training(tmp_path):
    recipe, lists = Train_Pnet.RECIPE, write_list(tmp_path)
    first, second = (train(recipe, options_for(recipe, tmp_path / seed, lists, "--epoch", 1, "--seed", seed))
                     for seed in "12")
    assert any((a != b).any() for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    with pytest.raises(UserError, match="another box_loss"):
        train(recipe, options_for(recipe, tmp_path / "1", lists, "--epoch", 1, "--seed", 1, "--box_loss", "ends"))
