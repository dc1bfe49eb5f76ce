"""Machine code for bfloat16 gives what torch gives in float32, rounded."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from LPRNet.model.LPRNET import ChannelStridePool, LPRNet
from LPRNet.model.mixed import norm_relu, norm_tap_pool
from LPRNet.model.training import ByteDropout, TrainingLPRNet
from tests.makers import graph, maps, random_norm

SIZES = [((64, 22, 92), 2, 1, 1), ((128, 20, 90), 6, 2, 2), ((256, 18, 44), 13, 4, 2)]


@pytest.mark.parametrize("mean", [0, 30])
@pytest.mark.parametrize("size", [(64, 22, 92), (256, 16, 18), (68, 4, 18), (3, 1, 2)])
def test_a_batch_norm_and_its_relu(size, mean):
    x = (maps(4, *size) + mean).detach().requires_grad_()
    norm = random_norm(size[0])
    plain, exact = copy.deepcopy(norm).double(), x.detach().double().requires_grad_()
    found, wanted = norm_relu(norm, x), plain(exact).relu()
    torch.testing.assert_close(found.double(), wanted, rtol=0.01, atol=0.001)
    weights = maps(4, *size).detach()
    weights[(wanted - 0).abs() < 1e-3] = 0  # where rounding decides on which side of 0 it is
    gradients = torch.autograd.grad(found, [x, norm.weight, norm.bias], weights)
    expected = torch.autograd.grad(wanted, [exact, plain.weight, plain.bias], weights.double())
    for one, other in zip(gradients, expected):
        torch.testing.assert_close(one.double(), other, rtol=0.01, atol=0.01)
    for one, other in zip(norm.buffers(), plain.buffers()):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "index", "step", "width_stride"), SIZES)
def test_a_batch_norm_its_relu_a_tap_and_a_pool(size, index, step, width_stride):
    """What is largest is decided by the norm and its ReLU in bfloat16."""
    x, norm = maps(3, *size), random_norm(size[0])
    plain, other = copy.deepcopy(norm).double(), copy.deepcopy(norm)
    kernel, stride = LPRNet.TAPS[index]
    before = norm_relu(other, x).detach().double().requires_grad_()
    wanted = functional.avg_pool2d(before, kernel, stride), ChannelStridePool(step, width_stride)(before)
    found = norm_tap_pool(norm, x, kernel, stride, step, width_stride)
    assert all(part.dtype == torch.bfloat16 for part in found) and torch.equal(found[1].double(), wanted[1])
    torch.testing.assert_close(found[0].double(), wanted[0], rtol=0.01, atol=0.01)
    weights = [maps(*part.shape).detach() for part in found]
    gradients = torch.autograd.grad(found, [x, norm.weight, norm.bias], weights)
    of_relu, = torch.autograd.grad(wanted, before, [part.double() for part in weights])
    exact = x.detach().double().requires_grad_()
    expected = torch.autograd.grad(plain(exact).relu(), [exact, plain.weight, plain.bias], of_relu)
    for one, another in zip(gradients, expected):
        torch.testing.assert_close(one.double(), another, rtol=0.01, atol=0.02)
    assert all(map(torch.equal, norm.buffers(), other.buffers()))


@pytest.mark.parametrize("size", [(2, 64, 16, 21), (3, 5, 1, 7)])
def test_dropout(size):
    x = maps(*size)
    torch.manual_seed(0)
    found = ByteDropout(0.7)(x)
    assert found.grad_fn.name() == "DropBackward"
    torch.manual_seed(0)
    wanted = ByteDropout(0.7)(x.detach().float())
    torch.testing.assert_close(found.float(), wanted, rtol=0.01, atol=0)
    weights = maps(*size).detach()
    gradient, = torch.autograd.grad(found, x, weights)
    torch.testing.assert_close(gradient.float() * x.float(), weights.float() * wanted, rtol=0.02, atol=0)


def test_what_is_no_number_stays_none():
    """So that the loss tells of it."""
    x = maps(2, 64, 22, 92).detach()
    x[0, 3, 5, 7] = torch.nan
    found = norm_relu(nn.BatchNorm2d(64), x.requires_grad_())
    assert found[:, 3].isnan().all() and found[:, :3].isfinite().all()
    for part in norm_tap_pool(nn.BatchNorm2d(64), x, *LPRNet.TAPS[2], 1, 1):
        assert part[:, 3].isnan().all() and part[:, :3].isfinite().all()


def test_training_in_mixed_precision_takes_them():
    torch.manual_seed(0)
    net, crops = TrainingLPRNet(68, dropout_rate=0), torch.randn(4, 3, 24, 94, requires_grad=True)
    exact = LPRNet(68, dropout_rate=0)
    exact.load_state_dict(net.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        found = net(crops)
    names = [node.name() for node in graph(found.grad_fn)]
    assert names.count("NormReLUBackward") == names.count("NormTapPoolBackward") == 3
    wanted = exact(crops)
    assert (found - wanted).abs().mean() < 0.05 * wanted.std()
    found.square().mean().backward()
    wanted.square().mean().backward()
    for (name, one), other in zip(net.named_parameters(), exact.parameters()):
        if not name.endswith("bias"):  # a bias before a batch norm changes nothing: rounding is all of its gradient
            similar = functional.cosine_similarity(one.grad.flatten(), other.grad.flatten(), dim=0)
            assert similar > 0.88, name  # as with torch's own layers
    assert torch.equal(net.backbone[1].num_batches_tracked, exact.backbone[1].num_batches_tracked)
