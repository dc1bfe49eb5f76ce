"""The recogniser: faster forms of the networks give the same readings."""

import copy

import torch
from torch import nn

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
