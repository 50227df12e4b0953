"""Dropout drops its share, scales up the rest, and is still without it."""

import pytest
import torch

from layers.dropout import Dropout, dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75, 0.999])
def test_share_and_scale(share):
    torch.manual_seed(0)
    x = torch.ones(1000, 401)
    out = dropout(x, share=share, training=True)
    kept = out != 0
    torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / (1 - share)))
    deviation = (share * (1 - share) / x.numel()) ** 0.5
    assert 1 - kept.float().mean().item() == pytest.approx(share, abs=5 * deviation + 2**-16)


def test_values_are_dropped_one_by_one():
    """Four values come from one draw: they must not fall together, nor with their neighbours of the next draw."""
    torch.manual_seed(0)
    kept = dropout(torch.ones(200_000), share=0.5, training=True).view(-1, 8) != 0
    together = torch.corrcoef(kept.float().t()) - torch.eye(8)
    assert together.abs().max() < 0.03


def test_gradient_is_that_of_the_mask():
    x = torch.randn(3, 5, requires_grad=True)
    out = dropout(x, share=0.5, training=True)
    out.sum().backward()
    torch.testing.assert_close(x.grad, (out != 0).float() * 2)


def test_nearly_everything():
    """What 16 bits can't tell from everything: few are left, and none is left that should not be."""
    torch.manual_seed(0)
    out = dropout(torch.ones(1_000_000), share=0.999999, training=True)
    assert (out != 0).sum() < 100


@pytest.mark.parametrize(("share", "training"), [(0.5, False), (0.0, True)])
def test_nothing_to_drop(share, training):
    x = torch.randn(4)
    before = torch.get_rng_state()
    assert dropout(x, share=share, training=training) is x
    assert torch.equal(before, torch.get_rng_state())


def test_the_seed_fixes_it():
    x, outs = torch.randn(5, 7), []
    for _ in range(2):
        torch.manual_seed(3)
        outs.append(dropout(x, share=0.3, training=True))
    assert torch.equal(*outs)


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (2, 0, 5)])
def test_sizes_that_are_no_multiple_of_a_draw(shape):
    assert dropout(torch.ones(shape), share=0.5, training=True).shape == shape


def test_the_layer_drops_in_training_alone():
    layer, x = Dropout(0.5), torch.ones(8)
    torch.manual_seed(0)
    expected = dropout(x, share=0.5, training=True)
    torch.manual_seed(0)
    assert torch.equal(layer(x), expected)
    assert layer.eval()(x) is x
