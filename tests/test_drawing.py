"""Weights drawn by threads are those that one thread draws, and leave the generator as it does."""

import pytest
import torch
from torch import nn

from layers import drawing
from layers.drawing import kaiming_normal_linear, normal_, skip_draws
from layers.wide_linear import WideLinear


@pytest.mark.parametrize("drawn", [0, 1, 623, 624, 625, 5000])
@pytest.mark.parametrize("count", [1, 2, 623, 624, 625, 20_000, 1_000_000])
def test_skipping_is_drawing(drawn, count):
    one, other = (torch.Generator().manual_seed(2**40 + 7) for _ in range(2))
    for generator in (one, other):
        torch.rand(drawn, generator=generator)
    torch.rand(count, generator=one)
    skip_draws(count, other)
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize("threads", [1, 2, 3, 9])
@pytest.mark.parametrize("size", [16, 624 * 16, 624 * 48 + 16, 2**17])
def test_threads_draw_what_one_draws(monkeypatch, threads, size):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(1)
    torch.randn(3)  # leaves half a pair of normally distributed numbers behind
    start = torch.get_rng_state()
    expected, drawn = torch.empty(4, size // 4).normal_(0, 0.3), torch.empty(4, size // 4)
    after = torch.get_rng_state()
    torch.set_rng_state(start)
    normal_(drawn, std=0.3)
    assert torch.equal(drawn, expected) and torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("few", [0, 10**9])
@pytest.mark.parametrize("shape", [(64, 5), (1024, 32)])
def test_a_layer_has_the_numbers_of_plain_torch(monkeypatch, few, shape):
    monkeypatch.setattr(drawing, "FEW", few)
    torch.manual_seed(3)
    expected = nn.Linear(*shape)
    nn.init.kaiming_normal_(expected.weight)
    nn.init.zeros_(expected.bias)
    following = torch.rand(5)
    torch.manual_seed(3)
    layer = kaiming_normal_linear(WideLinear, *shape)
    assert isinstance(layer, WideLinear) and layer.weight.requires_grad
    assert torch.equal(layer.weight, expected.weight) and torch.equal(layer.bias, expected.bias)
    assert torch.equal(torch.rand(5), following)


@pytest.mark.parametrize("few", [0, 10**9])
def test_other_devices_and_types_are_left_to_torch(monkeypatch, few):
    monkeypatch.setattr(drawing, "FEW", few)
    with torch.device("meta"):
        assert kaiming_normal_linear(WideLinear, 64, 4).weight.is_meta
    monkeypatch.setattr(drawing, "skip_draws", None)
    torch.set_default_dtype(torch.float64)
    try:
        assert kaiming_normal_linear(WideLinear, 64, 4).weight.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_layers_made_in_inference_mode(monkeypatch):
    """Threads do not take the mode over."""
    monkeypatch.setattr(drawing, "FEW", 0)
    torch.manual_seed(1)
    expected = kaiming_normal_linear(WideLinear, 1024, 32).weight
    torch.manual_seed(1)
    with torch.inference_mode():
        drawn = kaiming_normal_linear(WideLinear, 1024, 32).weight
    assert torch.equal(drawn, expected)
