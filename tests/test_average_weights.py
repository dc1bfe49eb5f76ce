"""The mean of two trainings is a file of weights like them, of any of the nets."""

from __future__ import annotations

import copy

import pytest
import torch

from LPRNet.alphabet import CHARS, MAX_LENGTH, Alphabet
from LPRNet.recogniser import Reader, load_reader, save_reader
from MTCNN.model.MTCNN_nets import ONet, PNet
from platekit import average_weights
from platekit.checkpoints import load_weights, save_state, save_weights


def gone_on(net: torch.nn.Module) -> torch.nn.Module:
    """The net after some more training."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return other


def test_the_average_lies_between_two_weights(call, tmp_path):
    first = ONet()
    nets = first, gone_on(first), ONet()
    for name, net in zip(("first", "second"), nets):
        save_weights(tmp_path / name, net)
    files = tmp_path / "first", tmp_path / "second"
    outcome = call(average_weights.main, *files, "--share", 0.25, "--seed", 1, "--save", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    load_weights(nets[2], tmp_path / "out")
    for first, second, out in zip(*(net.state_dict().values() for net in nets)):
        torch.testing.assert_close(out, 0.75 * first + 0.25 * second, rtol=1e-3, atol=1e-4)


def test_the_average_of_recognisers_knows_their_alphabet(call, tmp_path):
    alphabet = Alphabet(CHARS[:40] + CHARS[-1:], 5)
    reader = Reader(len(alphabet))
    for number, made in ((1, reader), (2, gone_on(reader))):
        save_reader(made, alphabet, tmp_path / f"lprnet{number}", tmp_path / f"stn{number}")
    for name in ("lprnet", "stn"):
        call(average_weights.main, tmp_path / f"{name}1", tmp_path / f"{name}2", "--save", tmp_path / name)
    assert load_reader(tmp_path / "lprnet", tmp_path / "stn")[1].chars == alphabet.chars


def test_without_a_share_it_is_the_mean(call, tmp_path):
    for name, value in (("first", 1.0), ("second", 2.0)):
        save_state(tmp_path / name, {"a": torch.full((2,), value)})
    assert call(average_weights.main, tmp_path / "first", tmp_path / "second", "--save", tmp_path / "out").status == 0
    assert torch.load(tmp_path / "out", weights_only=True)["a"].tolist() == [1.5, 1.5]


@pytest.mark.parametrize("turned", [False, True])
def test_the_average_reads_what_either_can(call, tmp_path, turned):
    """One learned two rows and longer plates; another program's weights tell no alphabet."""
    reader = Reader(3)
    for name, alphabet in (("a", Alphabet("AB-", 5)), ("b", Alphabet("AB-", 7, rows=2))):
        save_reader(reader, alphabet, tmp_path / name, tmp_path / "stn")
    files = (tmp_path / "b", tmp_path / "a") if turned else (tmp_path / "a", tmp_path / "b")
    assert call(average_weights.main, *files, "--save", tmp_path / "out").status == 0
    mean = load_reader(tmp_path / "out", tmp_path / "stn")[1]
    assert (mean.rows, mean.max_length) == (2, 7)
    state = {name: value for name, value in reader.lprnet.state_dict().items() if not name.endswith("_tracked")}
    torch.save(state, tmp_path / "plain")
    files = (tmp_path / "a", tmp_path / "plain") if turned else (tmp_path / "plain", tmp_path / "a")
    assert call(average_weights.main, *files, "--save", tmp_path / "out").status == 0
    assert load_reader(tmp_path / "out", tmp_path / "stn")[1].chars == ("A", "B", "-")


@pytest.mark.parametrize("other", ["another net", "another alphabet"])
def test_only_weights_of_one_net_have_an_average(other, call, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    if other == "another net":
        save_weights(first, ONet())
        save_weights(second, PNet())
    else:
        for path, chars in ((first, CHARS), (second, CHARS[1::-1] + CHARS[2:])):
            save_reader(Reader(len(chars)), Alphabet(chars, MAX_LENGTH), path, tmp_path / "stn")
    outcome = call(average_weights.main, first, second, "--save", tmp_path / "out")
    assert outcome.status != 0 and "different nets" in outcome.err and not (tmp_path / "out").exists()


def test_a_share_is_a_share(call, tmp_path):
    save_weights(tmp_path / "first", PNet())
    files = [tmp_path / "first"] * 2
    outcome = call(average_weights.main, *files, "--share", 2, "--save", tmp_path / "out")
    assert outcome.status != 0 and "between 0 and 1" in outcome.err


def test_trainings_that_began_apart_have_no_average(call, tmp_path):
    for name in ("a", "b"):
        save_weights(tmp_path / name, PNet())
    done = call(average_weights.main, tmp_path / "a", tmp_path / "b", "--save", tmp_path / "mean")
    assert done.status == 2 and "nothing in common" in done.sentence() and not (tmp_path / "mean").exists()


def test_of_what_was_noted_only_that_of_both_stays(call, tmp_path):
    save_weights(tmp_path / "a", PNet(), {"epochs": 3, "seed": 1})
    done = call(average_weights.main, tmp_path / "a", tmp_path / "a", "--save", tmp_path / "mean")
    assert done.status == 0 and not {"epochs", "seed"} & set(load_weights(PNet(), tmp_path / "mean"))


@pytest.mark.parametrize("value", [
    None, torch.tensor([float("nan")]), torch.tensor([1e300], dtype=torch.float64), torch.tensor([1j]),
    torch.tensor([1]), torch.eye(2).to_sparse(), torch.ones(2, device="meta")],
    ids=["nothing", "nan", "float64", "complex", "int", "sparse", "meta"])
def test_what_is_no_weight_has_no_average(value, call, tmp_path):
    torch.save({} if value is None else {"bias": value}, tmp_path / "odd")
    done = call(average_weights.main, tmp_path / "odd", tmp_path / "odd", "--save", tmp_path / "mean")
    assert done.status == 2 and "--save wrote" in done.sentence() and not (tmp_path / "mean").exists()


def test_a_plain_dictionary_of_tensors_is_weights(call, tmp_path):
    first = PNet()
    for name, net in (("a", first), ("b", gone_on(first))):
        torch.save(dict(net.state_dict()), tmp_path / name)
    done = call(average_weights.main, tmp_path / "a", tmp_path / "b", "--save", tmp_path / "mean")
    assert done.status == 0 and load_weights(PNet(), tmp_path / "mean")["average"] == ["a", "b"]
