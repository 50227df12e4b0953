"""Each loss term against a plain loop or an answer worked by hand."""

import pytest
import torch
from support.networks import random_output

from losses import (
    ActionnessTargets,
    background_loss,
    competing_evidence,
    masked_gce,
    mil_loss,
    mutual_loss,
    sal_losses,
    video_cross_entropy,
    weighted_total,
)
from options import FusionOptions, LossOptions
from reference import loops

THIRDS = {"cas": 1 / 3, "rgb": 1 / 3, "flow": 1 / 3}


def random_targets(b=2, t=16):
    label, weight = (torch.rand(b, t) > 0.7).float(), torch.rand(b, t)
    return ActionnessTargets(
        label=label,
        weight=weight,
        mixed_label=(torch.rand(b, t) > 0.5).float(),
        mixed_weight=torch.rand(b, t),
        label_of_all=label,
        weight_of_all=weight,
    )


def test_video_cross_entropy():
    logits, labels = torch.randn(3, 5), torch.tensor([[1.0, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    expected = sum(loops.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)) / 3
    assert video_cross_entropy(logits, labels, eps=1e-10).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("rank", "competition"), [("combined", 2.0), ("cas", 0.0), ("cas", 0.5), ("cas", 2.0)])
def test_mil_loss(rank, competition):
    output, labels = random_output(t=64), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    expected = 0.0
    for b, cas in enumerate(output.cas):
        actionness = {stream: values[b] for stream, values in output.stream_actionness.items()}
        if rank == "combined":
            by = loops.combined_sequence(cas, actionness, THIRDS)
        else:
            by = loops.competing_evidence(cas, labels[b], competition)
        logits = [loops.topk_mean(cas[:, c], by[:, c], 8) for c in range(3)]
        expected += loops.cross_entropy(logits, labels[b]) / 2
    options = LossOptions(mil_rank=rank, mil_competition=competition)
    loss = mil_loss(output, labels, losses=options, fusion=FusionOptions()).item()
    assert loss == pytest.approx(expected, rel=1e-6)


def test_competing_evidence_gives_each_class_of_a_video_snippets_of_its_own():
    # Both classes have most evidence at the first snippet; the second is more the other's than the first's.
    cas = torch.tensor([[[5.0, 6.0, 0.0], [4.0, 2.0, 9.0]]])
    both, one = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    assert cas.argmax(1).tolist() == [[0, 0, 1]]
    assert competing_evidence(cas, both, weight=1.0).argmax(1).tolist() == [[1, 0, 1]]
    assert torch.equal(competing_evidence(cas, one, weight=1.0), cas)
    assert torch.equal(competing_evidence(cas, both, weight=1.0)[..., 2], cas[..., 2])  # which the video does not show


def test_background_loss():
    cas_bg = torch.randn(2, 16, 3)
    expected = sum(loops.background_loss(video, 2) for video in cas_bg) / 2
    assert background_loss(cas_bg, ratio=0.125).item() == pytest.approx(expected, rel=1e-5)


def test_background_loss_is_zero_where_all_classes_are_equal():
    assert background_loss(torch.ones(2, 16, 20), ratio=0.125).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("q", [0.5, 0.7, 1.0])
def test_masked_gce(q):
    prob, targets = torch.rand(3, 10), random_targets(3, 10)
    expected = sum(loops.masked_gce(prob[b], targets.label[b], targets.weight[b], q, 1e-7) for b in range(3))
    actual = masked_gce(prob, targets.label, targets.weight, q=q, eps=1e-7).item()
    assert actual == pytest.approx(expected / 3, rel=1e-5)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_masked_gce_with_labels_of_one_kind_or_no_weight(label):
    labels = torch.full((1, 4), label)
    assert masked_gce(torch.full((1, 4), label), labels, torch.ones(1, 4), q=0.5, eps=1e-7).item() == pytest.approx(
        0, abs=1e-5
    )
    assert masked_gce(torch.full((1, 4), 0.5), labels, torch.zeros(1, 4), q=0.5, eps=1e-7).item() == 0


def test_mutual_loss():
    a, b = torch.rand(2, 5), torch.rand(2, 5)
    expected = sum(loops.mutual_loss(*video) for video in zip(a, b, strict=True)) / 2
    assert mutual_loss({"rgb": a, "flow": b}).item() == pytest.approx(expected, rel=1e-6)
    assert mutual_loss({"rgb": a}).item() == 0


def test_terms_sum_streams_and_the_total_is_weighted():
    output, targets, config = random_output(), random_targets(), LossOptions()
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    losses = sal_losses(output, labels, targets, losses=config, fusion=FusionOptions())
    act = sum(masked_gce(a, targets.label, targets.weight, q=0.5, eps=1e-7) for a in output.stream_actionness.values())
    mix = sum(
        masked_gce(a, targets.mixed_label, targets.mixed_weight, q=0.5, eps=1e-7)
        for a in output.mixed_actionness.values()
    )
    logits = [output.video_logits, *output.stream_video_logits.values()]
    so = sum(video_cross_entropy(z, labels, eps=1e-10) for z in logits)
    torch.testing.assert_close(torch.stack([losses["act"], losses["mix"], losses["so"]]), torch.stack([act, mix, so]))
    spec = {"mil": 1, "bg": 10, "act": 1, "mix": 1, "mutual": 5, "so": 3}  # docs/method.md, section 3
    expected = sum(spec[name] * losses[name].item() for name in spec)
    assert weighted_total(losses, config.weights).item() == pytest.approx(expected, rel=1e-6)


def test_single_stream_losses_are_finite():
    output, targets = random_output(streams=("rgb",)), random_targets()
    losses = sal_losses(output, torch.ones(2, 3), targets, losses=LossOptions(), fusion=FusionOptions())
    assert all(torch.isfinite(term) for term in losses.values())
    assert losses["mutual"] == 0
