"""The detector's networks: the parameter contract, their geometry and their outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from MTCNN.model.MTCNN_nets import ONet, PNet
from platekit.checkpoints import load_weights, save_checkpoint
from platekit.errors import UserError

PNET_CONTRACT = {
    "features.conv1.weight": (10, 3, 3, 3), "features.conv1.bias": (10,), "features.prelu1.weight": (10,),
    "features.conv2.weight": (16, 10, 3, 5), "features.conv2.bias": (16,), "features.prelu2.weight": (16,),
    "features.conv3.weight": (32, 16, 3, 5), "features.conv3.bias": (32,), "features.prelu3.weight": (32,),
    "conv4_1.weight": (2, 32, 1, 1), "conv4_1.bias": (2,), "conv4_2.weight": (4, 32, 1, 1), "conv4_2.bias": (4,),
}
ONET_CONTRACT = {
    "features.conv1.weight": (32, 3, 3, 3), "features.conv1.bias": (32,), "features.prelu1.weight": (32,),
    "features.conv2.weight": (64, 32, 3, 3), "features.conv2.bias": (64,), "features.prelu2.weight": (64,),
    "features.conv3.weight": (64, 64, 3, 3), "features.conv3.bias": (64,), "features.prelu3.weight": (64,),
    "features.conv4.weight": (128, 64, 1, 1), "features.conv4.bias": (128,), "features.prelu4.weight": (128,),
    "features.conv5.weight": (256, 1280), "features.conv5.bias": (256,), "features.prelu5.weight": (256,),
    "conv6_1.weight": (2, 256), "conv6_1.bias": (2,), "conv6_2.weight": (4, 256), "conv6_2.bias": (4,),
}
NETS = [(PNet, PNET_CONTRACT, 10_664), (ONet, ONET_CONTRACT, 394_662)]


GOLDEN_PNET = ([-0.056489, 0.717192, 0.198598, 0.860427], [0.53909, 0.46091])  # offsets, scores
GOLDEN_ONET = ([-0.948312, 0.308033, 0.60671, 1.187546], [0.949011, 0.050989])


def arithmetic(net: nn.Module) -> nn.Module:
    """The net with weights that need no random generator, the same on every version of torch."""
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            steps = torch.arange(parameter.numel(), dtype=torch.float64)
            values = torch.sin(steps * (0.7 + 0.013 * number) + number) / max(1, parameter[0].numel()) ** 0.5
            parameter.copy_(values.reshape(parameter.shape))
    return net.eval()


def ramp(height: int, width: int) -> torch.Tensor:
    """An input (1, 3, height, width) without any symmetry."""
    y, x = torch.arange(height).double()[:, None], torch.arange(width).double()[None]
    channels = [torch.sin(0.31 * x + 0.11 * y), torch.cos(0.17 * x - 0.23 * y), torch.sin(0.05 * x * y)]
    return torch.stack(channels)[None].float()


@pytest.mark.parametrize(("kind", "contract", "count"), NETS)
def test_parameters_are_the_contract(kind, contract, count, tmp_path):
    state = {key: torch.full(shape, 0.01 * number) for number, (key, shape) in enumerate(contract.items())}
    net = kind()
    net.load_state_dict(state, strict=True)
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    save_checkpoint(tmp_path / "weights", state)
    load_weights(kind(), tmp_path / "weights")
    del state["features.conv2.bias"]
    save_checkpoint(tmp_path / "weights", state)
    with pytest.raises(UserError, match=r"features\.conv2\.bias"):
        load_weights(kind(), tmp_path / "weights")


def test_golden_pnet():
    offsets, scores = arithmetic(PNet())(ramp(12, 47))
    assert offsets.shape == (1, 4, 1, 1) and scores.shape == (1, 2, 1, 1)
    torch.testing.assert_close(offsets.flatten(), torch.tensor(GOLDEN_PNET[0]), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(scores.flatten(), torch.tensor(GOLDEN_PNET[1]), rtol=1e-3, atol=1e-5)


def test_golden_onet():
    offsets, scores = arithmetic(ONet())(ramp(24, 94))
    torch.testing.assert_close(offsets.flatten(), torch.tensor(GOLDEN_ONET[0]), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(scores.flatten(), torch.tensor(GOLDEN_ONET[1]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("kind", "size"), [(PNet, (12, 47)), (ONet, (24, 94))])
def test_logits_in_training_probabilities_otherwise(kind, size):
    net = arithmetic(kind())
    x = ramp(*size)
    _, probabilities = net(x)
    net.train()
    if kind is ONet:
        net.features.drop5.p = 0.0
    _, logits = net(x)
    assert probabilities.sum(1).allclose(torch.ones(()))
    torch.testing.assert_close(logits.softmax(1), probabilities)
    assert not torch.allclose(logits, probabilities)


def test_onet_flattens_width_before_height():
    """The linear layer's inputs run channel, width, height: with H=1 and W=10 the order only shows where H > 1."""
    maps = torch.arange(2 * 3 * 4).reshape(1, 2, 3, 4)  # C=2, H=3, W=4
    flat = ONet().features.flatten(maps)
    assert flat.shape == (1, 24)
    assert flat[0, :6].tolist() == [0, 4, 8, 1, 5, 9]


@pytest.mark.parametrize(("kind", "size"), [(PNet, (40, 90)), (ONet, (24, 94))])
@pytest.mark.parametrize("slope", [0.25, 0.0, -0.3])
def test_pooling_before_a_monotone_activation_changes_nothing(kind, size, slope):
    net = arithmetic(kind())
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.PReLU):
                module.weight.fill_(0.4)
        net.features.prelu1.weight[3] = slope
    x = torch.cat([ramp(*size), -ramp(*size)])
    features = x
    for layer in net.features:  # the published order
        features = layer(features)
    heads = (net.conv4_2, net.conv4_1) if kind is PNet else (net.conv6_2, net.conv6_1)
    offsets, scores = net(x)
    torch.testing.assert_close(offsets, heads[0](features), rtol=0, atol=0)
    torch.testing.assert_close(scores, heads[1](features).softmax(1), rtol=0, atol=0)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 2), (5, 4)])
def test_pnet_cell_sees_its_47x12_window_and_nothing_else(row, column):
    torch.manual_seed(0)
    net = PNet().eval()
    # every pixel that can matter does for some input: add the gradients of several inputs
    seen = torch.zeros(40, 90)
    for _ in range(30):
        x = torch.randn(1, 3, 40, 90, requires_grad=True)
        offsets, scores = net(x)
        (offsets[0, :, row, column].sum() + scores[0, 1, row, column]).backward()
        seen += x.grad[0].abs().sum(0)
    rows, columns = seen.amax(1).nonzero().flatten(), seen.amax(0).nonzero().flatten()
    assert (rows.min().item(), rows.max().item() + 1) == (2 * row, 2 * row + 12)
    assert (columns.min().item(), columns.max().item() + 1) == (5 * column, 5 * column + 47)


def test_batch_equals_single():
    net = arithmetic(ONet())
    batch = torch.cat([ramp(24, 94), ramp(24, 94).flip(3), ramp(24, 94) * 0.3])
    offsets, scores = net(batch)
    for index in range(3):
        single = net(batch[index:index + 1])
        torch.testing.assert_close(single[0][0], offsets[index], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(single[1][0], scores[index], atol=1e-5, rtol=1e-5)
