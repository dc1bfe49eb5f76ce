"""The optimiser of inner weights: orthogonal steps, torch's own for matrices, and which weights are its."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from LPRNet.recogniser import Reader
from MTCNN.model.MTCNN_nets import ONet, PNet
from platekit.muon import COEFFICIENTS, ITERATIONS, STEP, Muon, is_inner, orthogonal


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1e-6, 1.0, 1e4]), st.integers(0, 99))
def test_a_matrix_becomes_nearly_orthogonal(rows, columns, size, seed):
    """All directions count alike, whatever they counted before, but for those next to nothing."""
    rng = np.random.default_rng(seed)
    turns = [np.linalg.qr(rng.normal(size=(count, count)))[0] for count in (rows, columns)]
    least = min(rows, columns)
    values = np.diag(rng.uniform(0.1, 1, least))
    u, v = turns[0][:, :least], turns[1][:, :least]
    found = orthogonal(torch.from_numpy(size * u @ values @ v.T)).numpy()
    assert found.shape == (rows, columns)
    np.testing.assert_allclose(found @ v, u @ (u.T @ found @ v), atol=1e-6)  # the same directions
    assert np.linalg.svd(found, compute_uv=False)[:least] == pytest.approx(1, abs=0.35)


def test_nothing_stays_nothing():
    assert orthogonal(torch.zeros(16, 20)).count_nonzero() == 0


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (16, 16)])
def test_steps_are_those_of_torch_but_for_its_bfloat16(size):
    start = torch.randn(size, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    rate = {"lr": 0.1, "weight_decay": 0.2, "momentum": 0.9}
    optimizers = [Muon([ours], **rate), torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **rate,
                                                         ns_coefficients=COEFFICIENTS, ns_steps=ITERATIONS)]
    optimizers[1].param_groups[0]["lr"] *= STEP / 0.2
    optimizers[1].param_groups[0]["weight_decay"] /= STEP / 0.2
    for step in range(5):
        gradient = torch.randn(size, generator=torch.Generator().manual_seed(step + 1))
        for weight, optimizer in zip((ours, theirs), optimizers):
            weight.grad = gradient.clone()
            optimizer.step()
    moved = (ours - start).norm()
    assert moved > 0.5 and (ours - theirs).norm() < 0.03 * moved


def test_convolutions_count_as_matrices():
    start = torch.randn(16, 8, 3, 1, generator=torch.Generator().manual_seed(0))
    as_matrix = nn.Parameter(start.flatten(1).clone())
    for order in (torch.contiguous_format, torch.channels_last):
        weight = nn.Parameter(start.clone().to(memory_format=order))
        weight.grad, as_matrix.grad = torch.ones_like(weight), torch.ones_like(as_matrix)
        for each in (weight, as_matrix):
            each.grad[0] = 3
            Muon([each], lr=0.1).step()
        torch.testing.assert_close(weight.flatten(1), as_matrix)
        as_matrix = nn.Parameter(start.flatten(1).clone())


@pytest.mark.parametrize(("net", "others"), [
    (Reader(68), {"stn.localization.0", "stn.fc_loc.2", "lprnet.backbone.0"}),
    (PNet(), {"features.conv1", "conv4_1", "conv4_2"}), (ONet(), {"features.conv1", "conv6_1", "conv6_2"})])
def test_it_is_for_layers_between_others(net, others):
    matrices = {name.removesuffix(".weight") for name, weight in net.named_parameters() if weight.dim() > 1}
    inner = {name.removesuffix(".weight") for name, weight in net.named_parameters() if is_inner(weight)}
    assert inner == matrices - others
