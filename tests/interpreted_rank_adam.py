"""Cases of layers/rank_adam.py for Triton's interpreter, which tests/test_rank_adam.py runs in a process of their own."""

import pytest
import torch
from torch import nn

from layers import rank_adam, wide_adam
from layers.wide_adam import WideAdam
from layers.wide_linear import WideLinear

CPU = torch.device("cpu")
SETTINGS = {"lr": 0.01, "betas": (0.9, 0.999), "weight_decay": 0.1}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(rank_adam, "DEVICES", ("cpu",))
    monkeypatch.setattr(rank_adam, "TILE_COLUMNS", 256)  # several programs in a row


def draws(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def states(optimizer, parameter):
    return [optimizer.state[parameter][name] for name in ("exp_avg", "exp_avg_sq", "step")]


def assert_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6 * max(1.0, b.abs().max().item()))


def test_the_trial_passes():
    assert rank_adam.unusable(CPU) == ""


@pytest.mark.parametrize(
    ("shape", "rows", "betas", "decay"),
    [
        ((1, 1), 1, (0.9, 0.999), 0.1),
        ((7, 130), 2, (0.9, 0.999), 0.1),
        ((7, 130), 2, (0.9, 0.999), 0.0),
        ((18, 300), 3, (0.0, 0.99), 0.1),
        ((16, 256), 16, (0.8, 0.95), 0.0),
    ],
    ids=str,
)
def test_steps_are_those_of_adam(shape, rows, betas, decay):
    """From zero moments, for several steps, one of which found_inf forbids."""
    n, width = shape
    settings = {"lr": 0.01, "betas": betas, "weight_decay": decay}
    plain = nn.Parameter(draws(n, width, seed=0))
    optimizer = torch.optim.Adam([plain], **settings)
    w, m, v = plain.detach().clone(), torch.zeros(shape), torch.zeros(shape)
    step = torch.zeros(())
    for t, found in enumerate((None, 0.0, 1.0, 0.0)):
        g, x = draws(rows, n, seed=2 * t), draws(rows, width, seed=2 * t + 1)
        g[:, -1] = 0.0  # a gradient of weight decay alone, or of nothing
        found_inf = None if found is None else torch.tensor(found)
        rank_adam.rank_adam(
            w, m, v, g * torch.inf if found else g, x, step=step, found_inf=found_inf, eps=1e-8, **settings
        )
        if not found:
            plain.grad = g.t() @ x
            optimizer.step()
        assert_close([w, m, v, step], [plain.detach(), *states(optimizer, plain)])


@pytest.mark.parametrize("scheduled", [False, True])
def test_the_optimiser_takes_it(monkeypatch, scheduled):
    """Of two layers, one without factors, one called twice; beside a gradient in .grad the block's way is taken."""
    calls = []
    monkeypatch.setattr(
        wide_adam, "rank_adam", lambda w, *rest, **k: calls.append(w) or rank_adam.rank_adam(w, *rest, **k)
    )
    runs = []
    for ours in (True, False):
        torch.manual_seed(0)
        kind = WideLinear if ours else nn.Linear
        wide, narrow = kind(128, 5), nn.Linear(5, 3)
        parameters = [*wide.parameters(), *narrow.parameters()]
        optimizer = WideAdam(parameters, **SETTINGS) if ours else torch.optim.Adam(parameters, **SETTINGS)
        for step in range(4):
            optimizer.zero_grad()
            if scheduled:
                lr = 0.5**step
                optimizer.schedule_lr(lr) if ours else optimizer.param_groups[0].update(lr=lr)
            for part in range(1 + step % 2):
                narrow(wide(draws(2, 128, seed=10 * step + part)).tanh()).square().sum().backward()
            if step == 3:
                extra = draws(5, 128, seed=7)
                wide.weight.grad = extra if wide.weight.grad is None else wide.weight.grad + extra
            optimizer.step()
        runs.append([value for p in parameters for value in (p.detach(), *states(optimizer, p))])
    assert_close(*runs)
    assert len(calls) == 3


@pytest.mark.parametrize("why", ["rows", "double", "strides", "device", "compiler"])
def test_what_it_leaves_to_the_other_way(monkeypatch, why):
    weight = torch.zeros(4, 128)
    assert rank_adam.takes(weight, 1) and rank_adam.takes(weight, rank_adam.MOST_ROWS)
    monkeypatch.setattr(rank_adam, "unusable", lambda device: "no C compiler" if why == "compiler" else "")
    weight = weight.double() if why == "double" else torch.zeros(128, 4).t() if why == "strides" else weight
    if why == "device":
        monkeypatch.setattr(rank_adam, "DEVICES", ("cuda",))
    assert not rank_adam.takes(weight, rank_adam.MOST_ROWS + (why == "rows"))


def test_wrong_numbers_are_found_out(monkeypatch):
    right = rank_adam.rank_adam
    monkeypatch.setattr(rank_adam, "rank_adam", lambda *tensors, lr, **rest: right(*tensors, lr=2 * lr, **rest))
    rank_adam.unusable.cache_clear()
    assert rank_adam.unusable(CPU) == "its numbers differ from plain torch's"
    rank_adam.unusable.cache_clear()
