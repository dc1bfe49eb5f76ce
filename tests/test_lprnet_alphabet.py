"""The alphabet and the codec between text and CTC classes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from LPRNet import LPRNet_Test
from LPRNet.alphabet import CHARS, CHARS_DICT, LEAST_OTHER, MOST_SYMBOLS, Alphabet, Reading
from LPRNet.data import load_data
from LPRNet.model import LPRNET
from LPRNet.recogniser import recorded_alphabet
from platekit.errors import UserError

SYMBOLS = CHARS[:-1]
SMALL = Alphabet("AB-")


def path_logits(path: list[int], classes: int = 68, peak: float = 30.0) -> torch.Tensor:
    """Logits (1, class, T) of a net that is sure of one class a time step."""
    logits = torch.zeros(1, classes, len(path))
    for step, index in enumerate(path):
        logits[0, index, step] = peak
    return logits


def read(*path: int) -> str:
    return SMALL.decode(path_logits(list(path), 3))[0].text


def test_the_symbols_in_the_published_order():
    assert "".join(CHARS[:31]) == "京沪津渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新"
    assert CHARS[31:41] == tuple("0123456789")
    assert CHARS[41:] == tuple("ABCDEFGHJKLMNPQRSTUVWXYZIO-")
    assert len(CHARS) == len(set(CHARS)) == 68
    assert {index: symbol for symbol, index in CHARS_DICT.items()} == dict(enumerate(CHARS))
    assert Alphabet().blank == 67 and len(Alphabet()) == 68
    assert load_data.CHARS is CHARS and load_data.CHARS_DICT is CHARS_DICT


def test_the_blank_is_no_symbol():
    assert "京" in Alphabet() and "-" not in Alphabet() and "警" not in Alphabet()


@given(st.lists(st.sampled_from(SYMBOLS), max_size=8), st.data())
def test_ideal_logits_of_a_text_decode_to_it(symbols, data):
    """Whatever the alignment: every symbol on one or more time steps, blanks between, and always between repeats."""
    alphabet, path = Alphabet(), []
    previous = None
    for index in alphabet.encode("".join(symbols)):
        blanks = data.draw(st.integers(1 if index == previous else 0, 2))
        path += [alphabet.blank] * blanks + [index] * data.draw(st.integers(1, 2))
        previous = index
    path += [alphabet.blank] * data.draw(st.integers(0 if path else 1, 3))
    reading = alphabet.decode(path_logits(path))[0]
    assert reading.text == "".join(symbols)
    assert len(reading.symbol_confidences) == len(symbols)
    assert reading.confidence == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("path", "text"), [
    ([0, 2, 1], "AB"),  # the first time step is no blank: its symbol counts
    ([0, 1], "AB"), ([2, 0, 1], "AB"), ([0], "A"), ([2], ""), ([2, 2, 2], ""), ([0, 0, 0], "A"),
    ([0, 2, 0], "AA"), ([0, 0, 2, 2, 0, 1, 1], "AAB"), ([2, 0, 2], "A"), ([1, 0, 1], "BAB"),
])
def test_repeats_merge_and_blanks_part_them(path, text):
    assert read(*path) == text


@pytest.mark.parametrize("take", [torch.from_numpy, np.asarray], ids=["tensor", "array"])
def test_decode_by_its_familiar_name(take):
    logits = np.full((2, len(CHARS), 18), -5.0, np.float32)
    logits[:, -1] = 0
    for step, symbol in enumerate("皖AA-A"):
        logits[0, CHARS_DICT[symbol], step] = 5
    texts, classes = LPRNet_Test.decode(take(logits), CHARS)
    assert texts == ["皖AA", ""] and classes == [[CHARS_DICT[symbol] for symbol in "皖AA"], []]
    with pytest.raises(ValueError, match="are needed"):
        LPRNet_Test.decode(take(logits[0]))


def test_the_alphabet_is_where_users_look_for_it():
    assert (LPRNET.CHARS, LPRNET.CHARS_DICT) == (load_data.CHARS, load_data.CHARS_DICT) == (CHARS, CHARS_DICT)
    with pytest.raises(AttributeError, match="no attribute OTHERS"):
        LPRNET.OTHERS  # noqa: B018


def test_no_crops_give_no_readings():
    assert Alphabet().decode(torch.zeros(0, 68, 18)) == []


def test_all_blanks_are_an_empty_text_with_its_probability():
    logits = torch.log(torch.tensor([[[0.1, 0.3], [0.1, 0.1], [0.8, 0.6]]]))
    assert SMALL.decode(logits) == [Reading("", pytest.approx(0.48, abs=1e-5), ())]


def brute_force(probabilities: torch.Tensor, text: str) -> float:
    """The probability of a text: the sum over every path of classes that collapses to it."""
    total = 0.0
    for path in itertools.product(range(3), repeat=probabilities.shape[1]):
        collapsed = "".join("AB-"[index] for index, _ in itertools.groupby(path)).replace("-", "")
        if collapsed == text:
            probability = 1.0
            for step, index in enumerate(path):
                probability *= probabilities[index, step].item()
            total += probability
    return total


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6))
def test_views_agree_on_the_text_that_is_most_probable_in_all_of_them(views, ways, steps, seed):
    logits = 2 * torch.randn(views, ways, 3, steps, generator=torch.Generator().manual_seed(seed))
    read = {reading.text for reading in SMALL.decode(logits.flatten(0, 1))}
    by_view = {text: [max(brute_force(way.softmax(dim=0), text) for way in view) for view in logits] for text in read}
    agreed = SMALL.agree(logits)
    mean = np.mean(by_view[agreed.text])
    assert mean == pytest.approx(max(map(np.mean, by_view.values())), abs=1e-5)
    assert agreed.confidence == pytest.approx(np.sqrt(mean * max(by_view[agreed.text])), abs=1e-5)
    assert len(agreed.symbol_confidences) == len(agreed.text)
    others = {text: np.mean(by_view[text]) for text in read - {agreed.text, ""} if np.mean(by_view[text]) > LEAST_OTHER}
    assert dict(agreed.others) == pytest.approx(others, abs=1e-5)
    assert list(agreed.others) == sorted(agreed.others, key=lambda other: -other[1])
    again = SMALL.agree(logits[:1, :1].expand(3, 2, -1, -1))
    assert again.text == SMALL.decode(logits[0, :1])[0].text  # views that are all alike change nothing


def test_one_view_that_is_sure_is_outvoted_by_none_that_are_not():
    """Two views that hardly prefer another text don't win against one that is certain, nor do ways that are wrong."""
    sure, unsure = torch.tensor([[8.0], [0.0], [0.0]]), torch.tensor([[0.0], [0.3], [0.0]])
    assert SMALL.agree(torch.stack([unsure, sure, unsure]).unsqueeze(1)).text == "A"
    one = SMALL.agree(torch.stack([sure, sure]).unsqueeze(1))
    ways = SMALL.agree(torch.stack([torch.stack([sure, unsure]), torch.stack([unsure, sure])]))
    assert (ways.text, ways.confidence) == (one.text, one.confidence)


def test_a_symbol_has_the_confidence_of_its_best_time_step():
    probabilities = torch.tensor([[[0.6, 0.9, 0.7, 0.1, 0.7], [0.2, 0.05, 0.2, 0.1, 0.2], [0.2, 0.05, 0.1, 0.8, 0.1]]])
    reading = SMALL.decode(probabilities.log())[0]
    assert reading.text == "AA" and reading.symbol_confidences == pytest.approx((0.9, 0.7))


def test_readings_do_not_depend_on_the_batch():
    logits = torch.randn(5, 68, 18, generator=torch.Generator().manual_seed(1))
    together = Alphabet().decode(logits)
    for one, reading in zip(logits, together):
        alone = Alphabet().decode(one[None])[0]
        assert alone.text == reading.text and alone.confidence == pytest.approx(reading.confidence, rel=1e-4)


@pytest.mark.parametrize("text", ["警A12345", "京A1234学", "京A-2345", "京a12345", "京A 2345"])
def test_an_unknown_symbol_is_an_error_that_names_its_source(text):
    with pytest.raises(UserError) as caught:
        Alphabet().encode(text, source="crops/one.jpg")
    assert "crops/one.jpg" in str(caught.value) and text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("chars", ["", "A", "AA-", "ABCA-"])
def test_an_alphabet_that_cannot_be_is_refused(chars):
    with pytest.raises(UserError, match="the alphabet"):
        Alphabet(chars)


def test_weights_that_say_to_know_ten_thousands_of_symbols_make_no_net():
    chars = "".join(map(chr, range(0x4E00, 0x4E00 + MOST_SYMBOLS + 1)))
    with pytest.raises(UserError, match="more than 5000 symbols"):
        recorded_alphabet({"container.0.bias": torch.zeros(1).expand(len(chars))}, {"chars": chars}, "lprnet.pth")
