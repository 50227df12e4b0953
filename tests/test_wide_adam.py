"""Adam that never has a wide layer's gradient whole: the numbers and the state of torch's own."""

import copy

import pytest
import torch
from torch import nn

from layers import wide_adam
from layers.temporal_conv import taps_first
from layers.wide_adam import WideAdam
from layers.wide_linear import WideLinear, gradient_of, wide_linear


def layers(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((7, 128), (7,), (3, 7))
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def loss_of(layers, x, *, wide):
    weight, bias, head = layers
    hidden = wide_linear(x, weight, bias) if wide else nn.functional.linear(x, weight, bias)
    return (hidden.tanh() @ head.t()).square().sum()


def optimizers():
    ours, plain = layers(), layers()
    settings = {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}
    return (ours, WideAdam(ours, **settings)), (plain, torch.optim.Adam(plain, **settings))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100], ids=lambda rows: f"{rows} rows a block")
@pytest.mark.parametrize("batch", [1, 3, 9])
def test_steps_are_those_of_adam(monkeypatch, rows, batch):
    for name in ("BLOCK_BYTES", "PRODUCT_BLOCK_BYTES"):
        monkeypatch.setattr(wide_adam, name, rows * 128 * 4)
    (ours, optimizer), (plain, expected) = optimizers()
    for step in range(4):
        x = torch.randn(batch, 128, generator=torch.Generator().manual_seed(step))
        for parameters, each, wide in ((ours, optimizer, True), (plain, expected, False)):
            each.zero_grad()
            loss_of(parameters, x, wide=wide).backward()
            each.step()
    assert ours[0].grad is None
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)
    state, expected_state = optimizer.state_dict()["state"], expected.state_dict()["state"]
    assert state.keys() == expected_state.keys()
    for name in ("step", "exp_avg", "exp_avg_sq"):
        tolerance = 1e-5 * expected_state[0][name].abs().max().item()
        torch.testing.assert_close(state[0][name], expected_state[0][name], rtol=0, atol=tolerance)


def test_state_is_saved_and_loaded():
    (whole, first), (parts, second) = (optimizers()[0] for _ in range(2))
    x = torch.randn(2, 128)
    for step in range(4):
        for parameters, optimizer in ((whole, first), (parts, second)):
            optimizer.zero_grad()
            loss_of(parameters, x + step, wide=True).backward()
            optimizer.step()
        if step == 1:
            state = second.state_dict()
            second = WideAdam(parts, lr=0.5, betas=(0.5, 0.5), weight_decay=0.0)
            second.load_state_dict(state)
    for a, b in zip(whole, parts, strict=True):
        assert torch.equal(a, b)


def test_found_inf_leaves_everything_as_it_is():
    (ours, optimizer), _ = optimizers()
    x = torch.randn(2, 128)
    for found in (0.0, 1.0, 0.0):
        optimizer.zero_grad()
        loss_of(ours, x * (float("nan") if found else 1.0), wide=True).backward()
        before = [p.detach().clone() for p in ours]
        steps = {i: float(s["step"]) for i, s in optimizer.state_dict()["state"].items()}
        optimizer.found_inf = torch.tensor(found)
        optimizer.step()
        assert all(torch.equal(a, b) == bool(found) for a, b in zip(ours, before, strict=True))
        if found:
            assert {i: float(s["step"]) for i, s in optimizer.state_dict()["state"].items()} == steps
    assert {float(s["step"]) for s in optimizer.state_dict()["state"].values()} == {2.0}
    assert all(p.isfinite().all() for p in ours)


def test_gradients_are_gone_after_zero_grad():
    (ours, optimizer), _ = optimizers()
    loss_of(ours, torch.randn(2, 128), wide=True).backward()
    assert all(gradient_of(p) is not None for p in ours)
    optimizer.zero_grad()
    assert all(gradient_of(p) is None for p in ours)
    before = ours[0].detach().clone()
    optimizer.step()
    assert torch.equal(ours[0], before)


@pytest.mark.parametrize("max_norm", [0.1, 1e6], ids=["clips", "leaves alone"])
@pytest.mark.parametrize("batches", [(1,), (9,), (2, 1, 5)], ids=str)
@pytest.mark.parametrize("formed", [False, True], ids=["factors", "factors and .grad"])
def test_clipping_counts_and_scales_deferred_gradients(max_norm, batches, formed):
    (ours, optimizer), (plain, expected) = optimizers()
    for parameters, wide in ((ours, True), (plain, False)):
        for rows in batches:
            x = torch.randn(rows, 128, generator=torch.Generator().manual_seed(rows))
            loss_of(parameters, x, wide=wide).backward()
        if formed:  # as left by a compiled backward
            more = torch.randn(7, 128, generator=torch.Generator().manual_seed(0))
            parameters[0].grad = more if wide else parameters[0].grad + more
    norm = nn.utils.clip_grad_norm_(plain, max_norm)
    torch.testing.assert_close(optimizer.clip_grad_norm_(max_norm), norm, rtol=1e-5, atol=0)  # torch sums in float32
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(gradient_of(a), b.grad, rtol=0, atol=1e-5 * b.grad.abs().max().item())
    for each in (optimizer, expected):
        each.step()
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


def test_clipping_by_hand():
    weight = nn.Parameter(torch.zeros(1, 2))
    optimizer = WideAdam([weight], lr=0.1, betas=(0.9, 0.999), weight_decay=0.0)
    assert optimizer.clip_grad_norm_(1.0) == 0
    for factor in (1.0, 1.0, -1.0):  # sums to (3, 4)
        wide_linear(torch.tensor([[3.0, 4.0]]), weight, None).mul(factor).sum().backward()
    assert optimizer.clip_grad_norm_(1.0).item() == 5
    torch.testing.assert_close(gradient_of(weight), torch.tensor([[0.6, 0.8]]))


def test_opposite_gradients_have_no_norm():
    weight, x = nn.Parameter(torch.zeros(3, 64)), torch.randn(2, 64)
    optimizer = WideAdam([weight], lr=0.1, betas=(0.9, 0.999), weight_decay=0.0)
    for factor in (1.0, -1.0):
        wide_linear(x, weight, None).mul(factor).sum().backward()
    assert optimizer.clip_grad_norm_(1.0).item() == pytest.approx(0, abs=1e-6)


class Wide(nn.Module):
    """A module around a wide layer, whose zero_grad knows nothing of factors."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.layer = kind(128, 7)


@pytest.mark.parametrize("backwards", [1, 2])
def test_no_gradient_counts_in_two_steps(backwards):
    """The gradients of several backwards add up until a step, also where only `.grad` is cleared after it."""
    ours, plain = Wide(WideLinear), Wide(nn.Linear)
    settings = {"lr": 0.01, "betas": (0.9, 0.999), "weight_decay": 0.0}
    steppers = WideAdam(ours.parameters(), **settings), torch.optim.Adam(plain.parameters(), **settings)
    for step in range(3):
        for model, optimizer in zip((ours, plain), steppers, strict=True):
            model.zero_grad()
            for part in range(backwards):
                x = torch.randn(2, 128, generator=torch.Generator().manual_seed(10 * step + part))
                model.layer(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(list(ours.parameters()), list(plain.parameters()), rtol=1e-5, atol=1e-6)
    assert gradient_of(ours.layer.weight) is None
    before = ours.layer.weight.clone()
    ours.zero_grad()
    steppers[0].step()  # without a backward there is nothing to do
    assert torch.equal(ours.layer.weight, before)


def test_the_layers_own_zero_grad_clears_its_factors():
    layer = WideLinear(128, 7)
    optimizer = WideAdam(layer.parameters(), lr=0.01, betas=(0.9, 0.999), weight_decay=0.0)
    layer(torch.randn(2, 128)).sum().backward()
    assert gradient_of(layer.weight) is not None
    layer.zero_grad()
    assert gradient_of(layer.weight) is None and optimizer.clip_grad_norm_(1.0) == 0


def test_a_step_shows_in_the_versions_of_the_weights():
    (ours, optimizer), _ = optimizers()
    before = [p._version for p in ours]
    loss_of(ours, torch.randn(2, 128), wide=True).backward()
    optimizer.step()
    assert all(p._version > version for p, version in zip(ours, before, strict=True))


@pytest.mark.parametrize("saved", ["contiguous", "as it is"])
def test_layouts_in_memory_make_no_difference(saved):
    """Weights laid out tap by tap, and moments of a checkpoint that was written when they were not."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(4, 6, 3, generator=generator)
    ours, plain = nn.Parameter(taps_first(value)), nn.Parameter(value.clone())
    optimizer = WideAdam([ours], lr=0.1, betas=(0.9, 0.999), weight_decay=0.01)
    expected = torch.optim.Adam([plain], lr=0.1, weight_decay=0.01)
    target = torch.randn(4, 6, 3, generator=generator)
    for step in range(4):
        for parameter, each in ((ours, optimizer), (plain, expected)):
            each.zero_grad()
            ((parameter - target) ** 3).sum().backward()
            each.step()
        if step == 1 and saved == "contiguous":
            state = optimizer.state_dict()
            moments = {name: value.contiguous() for name, value in state["state"][0].items()}
            optimizer.load_state_dict({**state, "state": {0: moments}})
    assert optimizer.state[ours]["exp_avg"].stride() == ours.stride() != plain.stride()
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


def test_a_deep_copy_steps_like_the_original():
    """The copy has parameters that no optimiser has taken over."""
    ours, optimizer = optimizers()[0]
    x = torch.randn(2, 128)
    loss_of(ours, x, wide=True).backward()
    optimizer.step()
    twins, twin = copy.deepcopy((ours, optimizer))
    for parameters, each in ((ours, optimizer), (twins, twin)):
        each.zero_grad()
        loss_of(parameters, x, wide=True).backward()
        each.step()
    assert twins[0].grad is not None
    torch.testing.assert_close(ours, twins)
