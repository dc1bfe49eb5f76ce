"""The recogniser: faster forms of the networks give the same readings."""

import copy

import numpy as np
import torch
from torch import nn

from LPRNet.alphabet import Alphabet
from LPRNet.LPRNet_Train import cool, fit_temperature
from LPRNet.model.LPRNET import LPRNet, fold_batch_norm


def test_folding_batch_norm_changes_nothing_but_the_layers():
    torch.manual_seed(0)
    net = LPRNet(68)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    before = copy.deepcopy(net.state_dict())
    crops = torch.randn(3, 3, 24, 94)
    folded = fold_batch_norm(net)
    with torch.inference_mode():
        torch.testing.assert_close(folded(crops), net.eval()(crops), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_the_temperature_that_was_applied_is_found_and_undone():
    """Logits whose confidence is right by construction, made too cautious, are brought back; readings stay."""
    rng = np.random.default_rng(0)
    alphabet = Alphabet("AB-", 1)
    probability = rng.uniform(0.5, 1, 3000)  # of the first symbol, in plates of one symbol and one time step
    logits = torch.from_numpy(np.log(np.stack([probability, 1 - probability, np.full(3000, 1e-9)], axis=1)))[..., None]
    labels = [[0] if right else [1] for right in rng.random(3000) < probability]
    assert 0.85 < fit_temperature(logits, labels, alphabet) < 1.2
    assert 0.42 < fit_temperature(logits / 2, labels, alphabet) < 0.6


def test_cooling_divides_the_logits():
    torch.manual_seed(0)
    net = LPRNet(68).eval()
    crops = torch.randn(2, 3, 24, 94)
    with torch.inference_mode():
        before = net(crops)
    cool(net, 0.5)
    with torch.inference_mode():
        torch.testing.assert_close(net(crops), before * 2, rtol=1e-4, atol=1e-5)
