"""STNet and LPRNet: the parameter contract, and the function they compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from LPRNet.alphabet import CHARS
from LPRNet.model.LPRNET import ChannelStridePool, LPRNet, normalise_energy
from LPRNet.model.mixed import TapAndPool
from LPRNet.model.STN import STRAIGHT_CORNERS, STNet, compose, plate_corners, straightening_loss
from LPRNet.model.training import BitReLU, ByteDropout, TrainingLPRNet
from LPRNet.recogniser import Reader
from platekit.crops import CROP_SIZE
from tests.makers import graph

STN_SHAPES = {
    "localization.0.weight": (32, 3, 3, 3), "localization.0.bias": (32,),
    "localization.3.weight": (32, 32, 5, 5), "localization.3.bias": (32,),
    "fc_loc.0.weight": (32, 896), "fc_loc.0.bias": (32,), "fc_loc.2.weight": (6, 32), "fc_loc.2.bias": (6,),
}
LPRNET_CONVOLUTIONS = {
    "backbone.0": (64, 3, 3, 3),
    "backbone.4.block.0": (32, 64, 1, 1), "backbone.4.block.2": (32, 32, 3, 1), "backbone.4.block.4": (32, 32, 1, 3),
    "backbone.4.block.6": (128, 32, 1, 1),
    "backbone.8.block.0": (64, 64, 1, 1), "backbone.8.block.2": (64, 64, 3, 1), "backbone.8.block.4": (64, 64, 1, 3),
    "backbone.8.block.6": (256, 64, 1, 1),
    "backbone.11.block.0": (64, 256, 1, 1), "backbone.11.block.2": (64, 64, 3, 1),
    "backbone.11.block.4": (64, 64, 1, 3), "backbone.11.block.6": (256, 64, 1, 1),
    "backbone.16": (256, 64, 1, 4), "backbone.20": (68, 256, 13, 1), "container.0": (68, 516, 1, 1),
}
LPRNET_NORMS = {"backbone.1": 64, "backbone.5": 128, "backbone.9": 256, "backbone.12": 256, "backbone.17": 256,
                "backbone.21": 68}
LPRNET_SHAPES = {
    **{f"{name}.weight": shape for name, shape in LPRNET_CONVOLUTIONS.items()},
    **{f"{name}.bias": shape[:1] for name, shape in LPRNET_CONVOLUTIONS.items()},
    **{f"{name}.{part}": (width,) for name, width in LPRNET_NORMS.items()
       for part in ("weight", "bias", "running_mean", "running_var")},
    **{f"{name}.num_batches_tracked": () for name in LPRNET_NORMS},
}
NETS = [(STNet, STN_SHAPES, 55_430), (lambda: LPRNet(68), LPRNET_SHAPES, 446_976)]


@pytest.fixture
def crops() -> torch.Tensor:
    """Six crops of waves (6, 3, 24, 94), each its own, made without random numbers."""
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(94.0), indexing="ij")
    waves = [torch.sin(x * (0.05 + 0.03 * n) + y * 0.15 * c + n) for n in range(6) for c in range(3)]
    return torch.stack(waves).view(6, 3, 24, 94)


def fill(net: nn.Module, scale: float = 1.0) -> nn.Module:
    """Fixed weights by arithmetic alone, so that they are the same with every library version."""
    for number, (name, value) in enumerate(net.state_dict().items()):
        if not value.is_floating_point():
            continue
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * (0.37 + 0.01 * number) + number)
        fan_in = max(1, value[0].numel()) if value.dim() > 1 else 1
        if name.endswith("running_var"):
            wave = 0.6 + 0.3 * wave
        elif name.endswith("weight") and value.dim() == 1:
            wave = 1 + 0.2 * wave
        elif value.dim() > 1:
            wave = wave * scale * (2 / fan_in) ** 0.5 * 1.4
        else:
            wave = wave * 0.1
        value.copy_(wave.view(value.shape))
    return net.eval()


@pytest.mark.parametrize(("net", "shapes", "count"), NETS, ids=["STNet", "LPRNet"])
def test_the_published_weight_layout_loads(net, shapes, count):
    built = net()
    state = {key: torch.zeros(shape, dtype=torch.long if key.endswith("tracked") else torch.float32)
             for key, shape in shapes.items()}
    built.load_state_dict(state, strict=True)
    assert {key: tuple(value.shape) for key, value in built.state_dict().items()} == shapes
    assert sum(parameter.numel() for parameter in built.parameters()) == count


def test_the_alphabet_sets_the_classes():
    assert LPRNet(40).eval()(torch.zeros(1, 3, 24, 94)).shape == (1, 40, 18)


def test_shapes(crops):
    assert STNet()(crops).shape == (6, 3, 24, 94)
    assert LPRNet(len(CHARS)).eval()(crops).shape == (6, 68, 18)
    assert Reader(68).eval()(crops[:1]).shape == (1, 68, 18)


@pytest.mark.parametrize(("step", "width_stride"), [(1, 1), (2, 2), (4, 2)])
def test_pooling_equals_the_published_3d_pooling(step, width_stride):
    x = torch.randn(2, 16, 9, 21, generator=torch.Generator().manual_seed(0))
    published = nn.MaxPool3d(kernel_size=(1, 3, 3), stride=(step, 1, width_stride))
    assert torch.equal(ChannelStridePool(step, width_stride)(x), published(x))


@pytest.mark.parametrize(("size", "index", "step", "width_stride"), [((64, 22, 92), 2, 1, 1), ((128, 20, 90), 6, 2, 2),
                                                                     ((256, 18, 44), 13, 4, 2)])
def test_a_tap_and_its_pool_have_the_gradient_of_both(size, index, step, width_stride):
    """TapAndPool in training against autograd over the two layers."""
    torch.manual_seed(index)
    x = torch.randn(2, *size, dtype=torch.float64).relu().requires_grad_()
    kernel, stride = LPRNet.TAPS[index]
    plain = functional.avg_pool2d(x, kernel, stride), ChannelStridePool(step, width_stride)(x)
    fast = TapAndPool.apply(x, kernel, stride, step, width_stride)
    weights = [torch.randn_like(part) for part in plain]
    gradients = [torch.autograd.grad(sum((a * b).sum() for a, b in zip(parts, weights)), x)[0]
                 for parts in (plain, fast)]
    assert all(map(torch.equal, plain, fast)) and plain[0].shape[2:] == (4, 18)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-12, atol=1e-12)


def test_training_takes_the_joint_gradient(crops):
    """The graph of a forward pass in training holds one TapAndPool for each of the three taps."""
    names = [node.name() for node in graph(TrainingLPRNet(68)(crops).grad_fn)]
    assert names.count("TapAndPoolBackward") == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_relu_of_training_is_torchs(dtype):
    x = torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, 0, 0] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 1e-39])
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    outputs = [BitReLU().train()(x.clone()), x.relu()]
    gradients = [torch.autograd.grad(y[1:].sum() + (2 * y[0, 1:]).sum() + y[0, 0, :, 1:].sum(), x)[0] for y in outputs]
    assert torch.equal(*outputs) and torch.equal(*gradients)
    with torch.autocast("cpu", torch.bfloat16):
        names = {node.name() for node in graph(TrainingLPRNet(68)(torch.randn(2, 3, 24, 94)).grad_fn)}
    assert "RectifyBackward" in names and "ReluBackward0" not in names


def test_the_backbone_uses_pools_a_b_and_c():
    pools = [(index, layer.step, layer.width_stride) for index, layer in enumerate(LPRNet(68).backbone)
             if isinstance(layer, ChannelStridePool)]
    assert pools == [(3, 1, 1), (7, 2, 2), (14, 4, 2)]


@pytest.mark.parametrize("kind", [STNet, lambda: LPRNet(68), lambda: Reader(68)], ids=["STNet", "LPRNet", "Reader"])
def test_a_batch_equals_its_samples_one_by_one(crops, kind):
    net = fill(kind(), 0.7)  # steeper weights would magnify the noise of float32 sums
    with torch.inference_mode():
        together = net(crops)
        alone = torch.cat([net(crop[None]) for crop in crops])
        among_others = net(torch.cat([crops[:1], 30 * crops[1:3]]))[:1]  # loud neighbours
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(among_others, alone[:1], atol=1e-5, rtol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-2  # samples that differ give answers that differ


def test_energy_is_normalised_as_published_at_batch_size_one():
    x = torch.randn(1, 8, 4, 18, generator=torch.Generator().manual_seed(0)) * 7
    published = torch.div(x, torch.mean(torch.pow(x, 2)))
    torch.testing.assert_close(normalise_energy(x), published)
    pair = torch.cat([x, 3 * x])
    torch.testing.assert_close(normalise_energy(pair, per_sample=False), pair / pair.square().mean())
    assert normalise_energy(torch.zeros(2, 8, 4, 18)).isfinite().all()  # a black crop is no division by zero


def test_the_transformer_begins_as_the_identity(crops):
    torch.testing.assert_close(STNet()(crops), crops, atol=2e-5, rtol=0)


def bilinear(image: np.ndarray, x: float, y: float) -> float:
    """A sample at pixel coordinates (x, y), 0 outside."""
    total = 0.0
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                total += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def test_the_transformer_samples_by_pixel_edges(crops):
    """-1 and 1 are the crop's edges, not the centres of its first and last pixel: align_corners is False."""
    net = STNet()
    theta = np.array([[0.8, 0.1, 0.15], [-0.2, 1.1, -0.1]])
    net.fc_loc[2].bias.data = torch.tensor(theta.flatten(), dtype=torch.float32)
    found = net(crops[:1])[0, 0].detach().numpy()
    image = crops[0, 0].numpy()
    for row, column in ((0, 0), (3, 10), (12, 47), (20, 80), (23, 93), (5, 93)):
        u, v = (column + 0.5) / 94 * 2 - 1, (row + 0.5) / 24 * 2 - 1
        x, y = theta @ (u, v, 1)
        expected = bilinear(image, (x + 1) / 2 * 94 - 0.5, (y + 1) / 2 * 24 - 0.5)
        assert found[row, column] == pytest.approx(expected, abs=1e-4), (row, column)


def test_in_mixed_precision_the_transform_is_float32_and_moves_no_corner_far(crops):
    net = fill(STNet(), 0.2)
    exact = net.theta(crops)
    with torch.autocast("cpu", torch.bfloat16):
        theta = net.theta(crops)
        assert torch.equal(net.sample(crops, theta), STNet.sample(crops, theta))
    assert theta.dtype == torch.float32
    corners, others = (plate_corners(each, CROP_SIZE) for each in (theta, exact))
    assert (corners - others).norm(dim=2).max() < 0.1


GOLDEN = {  # of the weights that ``fill`` makes
    "STNet": [0.882054, 0.642362, -0.82859, 0.18859, -0.98754, 0.54121, 0.996784, -0.360202],
    "LPRNet": [2.81943, -2.43403, 1.39113, -2.40997, 3.29467, 0.598735, 0.460391, -1.15161],
}


def golden(net: nn.Module, crops: torch.Tensor) -> list[float]:
    """Eight values of the output, far apart."""
    with torch.inference_mode():
        flat = fill(net, 0.4)(crops[:2]).flatten().double()
    return flat[torch.linspace(7, len(flat) - 5, 8).long()].tolist()


@pytest.mark.parametrize(("name", "net"), [("STNet", STNet), ("LPRNet", lambda: LPRNet(68))])
def test_golden_values(crops, name, net):
    assert golden(net(), crops) == pytest.approx(GOLDEN[name], rel=1e-3, abs=1e-5)


SHAPES = [(7, 5, 3, 11), (1, 1, 1, 1), (13,), (64, 64, 16, 21), (3, 257)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_dropout_drops_its_share_and_keeps_the_mean(shape, p):
    torch.manual_seed(0)
    layer = ByteDropout(p).train()
    x = torch.ones(shape)
    out = torch.stack([layer(x) for _ in range(min(2000, 1 + 40_000 // x.numel()))])
    assert out.shape[1:] == x.shape
    dropped = (out == 0).float().mean().item()
    chance = 4 * (p * (1 - p) / out.numel()) ** 0.5
    assert dropped == pytest.approx(p, abs=0.003 + chance)
    assert out.mean().item() == pytest.approx(1, abs=0.003 + chance / (1 - p))
    kept = out[out != 0]
    assert torch.allclose(kept, kept[0]) and kept[0].item() == pytest.approx(1 / (1 - p), rel=0.02)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_dropout_in_evaluation_is_the_identity(p):
    x = torch.randn(2, 3, 5, 7)
    assert torch.equal(ByteDropout(p).eval()(x), x)
    if p == 0:
        assert torch.equal(ByteDropout(p).train()(x), x)


def test_dropout_keeps_values_in_their_places_in_any_memory_order():
    values = torch.arange(1.0, 2 * 6 * 5 * 7 + 1).view(2, 6, 5, 7)
    for x in (values, values.contiguous(memory_format=torch.channels_last), values[:, ::2], values.transpose(2, 3)):
        torch.manual_seed(1)
        out = ByteDropout(0.5).train()(x)
        kept = out != 0
        assert out.shape == x.shape and 0.35 < kept.float().mean() < 0.65
        torch.testing.assert_close(out[kept], 2 * x[kept])


def test_dropout_passes_the_gradient_of_what_it_kept():
    x = torch.ones(4, 8, 3, 5, requires_grad=True)
    out = ByteDropout(0.5).train()(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())  # of ones, the gradient is the output


def test_dropout_follows_torchs_seed():
    layer, x = ByteDropout(0.5).train(), torch.ones(5, 7)
    torch.manual_seed(3)
    first = layer(x)
    assert not torch.equal(layer(x), first)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first)


def corners_of(theta: torch.Tensor) -> torch.Tensor:
    """Pixels (1, 4, 2) of a 24x94 crop that the transform (2, 3) takes the straight corners from, by hand."""
    return torch.stack([(theta @ torch.tensor([x, y, 1.0]) + 1) * torch.tensor([47.0, 12.0])
                        for x, y in STRAIGHT_CORNERS])[None]


def test_the_straightening_loss_is_least_for_the_transform_that_straightens():
    turned = torch.tensor([[0.8, 0.2, 0.05], [0.3, 0.5, -0.1]])
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    assert straightening_loss(turned[None], corners_of(turned), (24, 94)) < 1e-6
    assert straightening_loss(identity[None], corners_of(turned), (24, 94)) > 1


@given(st.integers(0, 2**32))
def test_composed_transforms_take_a_point_through_both(seed):
    outer, inner = np.random.default_rng(seed).normal(size=(2, 3, 2, 3))
    points = np.random.default_rng(seed + 1).normal(size=(2, 5))
    once = inner @ np.vstack([points, np.ones(5)])
    twice = outer @ np.concatenate([once, np.ones((3, 1, 5))], axis=1)
    composed = compose(torch.from_numpy(outer), torch.from_numpy(inner)).numpy() @ np.vstack([points, np.ones(5)])
    np.testing.assert_allclose(composed, twice, rtol=1e-9, atol=1e-9)


def test_unknown_corners_ask_for_nothing():
    theta = torch.randn(3, 2, 3, requires_grad=True)
    corners = corners_of(torch.tensor([[1.0, 0, 0], [0, 1, 0]])).repeat(3, 1, 1)
    corners[1] = torch.nan
    straightening_loss(theta, corners, (24, 94)).backward()
    assert theta.grad[0].abs().sum() > 0 and theta.grad[1].abs().sum() == 0 and theta.grad.isfinite().all()
    assert straightening_loss(theta, torch.full((3, 4, 2), torch.nan), (24, 94)) == 0
