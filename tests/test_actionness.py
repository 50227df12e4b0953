"""Pseudo labels, the adaptive actionness mask, and the targets of a step."""

import math

import pytest
import torch

from losses import AdaptiveMask, actionness_targets, pseudo_labels, snippet_confidence
from model import SAL
from options import ActionnessOptions, ModelOptions
from reference import loops


def make_mask(momentum=0.7, var_factor=0.5):
    options = ActionnessOptions(mask_momentum=momentum, mask_var_factor=var_factor, mask_mean_init=0.25)
    return AdaptiveMask(options, num_classes=3)


@pytest.mark.parametrize("confidence", [0.5, 0.0])
def test_pseudo_labels(confidence):
    actionness, cas = torch.rand(3, 40), torch.randn(3, 40, 5)
    label = pseudo_labels(actionness, cas, ActionnessOptions(confidence_ratio=confidence))
    for b in range(3):
        confident = 20 if confidence else 0
        assert label[b].tolist() == loops.pseudo_labels(actionness[b], cas[b], 5 + 17, confident)


def test_adaptive_mask_by_hand():
    mask = make_mask()
    cas = torch.log(torch.tensor([[[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]]))  # confidence 0.9, 0.6, 0.5
    weight = mask(snippet_confidence(cas))
    mean = 0.7 * 0.25 + 0.3 * 2 / 3
    var = 0.7 * 1.0 + 0.3 * ((0.9 - 2 / 3) ** 2 + (0.6 - 2 / 3) ** 2 + (0.5 - 2 / 3) ** 2) / 2
    assert mask.mean.item() == pytest.approx(mean, rel=1e-6)
    assert mask.var.item() == pytest.approx(var, rel=1e-6)
    # mean is 0.375: all are above it
    assert weight.tolist() == [[1.0, 1.0, 1.0]]
    low = mask(snippet_confidence(torch.log(torch.tensor([[[0.26, 0.25, 0.25, 0.24], [0.97, 0.01, 0.01, 0.01]]]))))
    expected = math.exp(-((0.26 - mask.mean.item()) ** 2) / (2 * mask.var.item() / 4))
    assert low[0, 0].item() == pytest.approx(expected, rel=1e-5)
    assert low[0, 1] == 1


def test_adaptive_mask_is_the_loop():
    mask, mean, var = make_mask(), 0.25, 1.0
    for _ in range(3):
        cas = torch.randn(2, 6, 3)
        expected, mean, var = loops.mask_weights(cas, mean, var)
        torch.testing.assert_close(mask(snippet_confidence(cas)), torch.tensor(expected), rtol=1e-5, atol=1e-6)
        assert (mask.mean.item(), mask.var.item()) == pytest.approx((mean, var), rel=1e-5)


def test_mask_statistics_are_buffers():
    mask = make_mask()
    mask(torch.rand(2, 5))
    other = make_mask()
    other.load_state_dict(mask.state_dict())
    assert set(mask.state_dict()) == {"mean", "var"}
    assert (other.mean, other.var) == (mask.mean, mask.var)
    assert not list(mask.parameters())


def test_mask_of_a_single_snippet_and_of_equal_ones_is_finite():
    assert make_mask()(torch.rand(1, 1)).isfinite().all()
    flat = make_mask(momentum=0.0)
    assert flat(torch.full((2, 6), 0.25)).tolist() == [[1.0] * 6] * 2


def test_targets_carry_no_gradient_and_mix_by_the_rules():
    torch.manual_seed(0)
    model = SAL(ModelOptions(hidden_size=8), num_classes=3, streams=("rgb", "flow"), feature_size=4)
    options = ActionnessOptions(pseudo_extra=2)
    targets = actionness_targets(model(torch.randn(3, 20, 8)), make_mask(), options, labels=torch.ones(3, 3))
    for field in (targets.label, targets.weight, targets.mixed_label, targets.mixed_weight):
        assert not field.requires_grad
    for b in range(3):
        assert torch.equal(targets.mixed_label[b], ((targets.label[b] + targets.label[b - 1]) > 0).float())
        torch.testing.assert_close(targets.mixed_weight[b], (targets.weight[b] + targets.weight[b - 1]) / 2)
