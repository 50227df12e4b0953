"""The network, the losses, a training step and the way to detections against the plain formulation of the whole."""

import numpy as np
import pytest
import torch
from support.networks import build_model

from eval.detection import evaluate_detections
from layers.wide_adam import WideAdam
from layers.wide_linear import gradient_of
from losses import AdaptiveMask, actionness_targets, sal_losses, weighted_total
from model import combined_sequence
from options import resolve
from reference import formulas, loops
from run.checkpoint import to_published
from test import class_scores
from utils.segments import Segments

B, T, C = 3, 20, 5
TOLERANCE = 1e-5  # of the array's largest magnitude
OPTIONS = resolve({"feature_size": 8, "hidden_size": 16, "dropout": 0.0})


def assert_close(name, actual, expected):
    error = (actual - expected).detach().abs().max() / expected.detach().abs().max().clamp_min(1e-30)
    assert error <= TOLERANCE, f"{name}: off by {error:.2e} of the largest magnitude"


def small_model():
    return build_model(OPTIONS, C)


def small_batch():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(B, T, 16, generator=generator)
    return features, torch.tensor([[1.0, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 1, 1]])


def parameters(model):
    return to_published(dict(model.named_parameters()))


def plain_parameters(model):
    return {name: p.detach().clone().requires_grad_() for name, p in parameters(model).items()}


def losses_of(model, mask, features, labels):
    output = model(features)
    targets = actionness_targets(output, mask, OPTIONS.actionness, labels=labels)
    losses = sal_losses(output, labels, targets, losses=OPTIONS.losses, fusion=OPTIONS.fusion)
    return output, targets, losses, weighted_total(losses, formulas.LOSS_WEIGHTS)


def new_mask():
    return AdaptiveMask(OPTIONS.actionness, num_classes=C)


def test_forward():
    model, (features, _) = small_model(), small_batch()
    expected = formulas.network(plain_parameters(model), features, dropout=0.0)
    output = model(features)
    for name in ("cas", "cas_bg", "actionness", "video_logits"):
        assert_close(name, getattr(output, name), expected[name])
    for name in ("stream_actionness", "stream_video_logits", "mixed_actionness"):
        assert list(getattr(output, name)) == list(expected[name]) == ["rgb", "flow"]
        for stream, values in expected[name].items():
            assert_close(f"{name} {stream}", getattr(output, name)[stream], values)


def test_forward_in_test():
    model, (features, _) = small_model().eval(), small_batch()
    with torch.inference_mode():
        output, expected = model(features), formulas.network(plain_parameters(model), features, training=False)
        for name in ("cas", "actionness", "video_logits"):
            assert_close(name, getattr(output, name), expected[name])
        sequence = combined_sequence(output, OPTIONS.fusion.weights)
        assert_close("combined sequence", sequence, formulas.combined_sequence(expected))
        scores = class_scores(output, sequence, fusion=OPTIONS.fusion, beta=OPTIONS.localization.beta)
        for i in range(B):
            plain = formulas.class_scores(expected["cas"][i], sequence[i], expected["video_logits"][i])
            assert_close("class scores", scores[i], plain)


def test_losses_and_gradients():
    model, (features, labels) = small_model(), small_batch()
    params, mask, state = plain_parameters(model), new_mask(), formulas.new_mask_state(C)
    for _ in range(2):  # the running statistics carry over
        _, targets, losses, total = losses_of(model, mask, features, labels)
        out = formulas.network(params, features, dropout=0.0)
        expected_total, terms = formulas.training_loss(out, labels, state)
        assert list(losses) == list(terms)
        for name, term in terms.items():
            assert_close(name, losses[name], term)
        assert_close("total", total, expected_total)
        assert_close("mask mean", mask.mean, state["mean"])
        assert_close("mask variance", mask.var, state["var"])
    assert 0 < targets.label.mean() < 1
    total.backward()
    expected_total.backward()
    for name, parameter in parameters(model).items():
        assert_close(f"{name} gradient", gradient_of(parameter), params[name].grad)


def test_training_step():
    model, (features, labels) = small_model(), small_batch()
    params, state = plain_parameters(model), formulas.new_mask_state(C)
    optimizer = WideAdam(model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=5e-4)
    before = {name: p.detach().clone() for name, p in params.items()}
    *_, total = losses_of(model, new_mask(), features, labels)
    total.backward()
    optimizer.step()
    expected, _ = formulas.training_step(params, formulas.adam(params), features, labels, state, dropout=0.0)
    assert_close("total", total, expected)
    for name, parameter in parameters(model).items():
        assert_close(f"{name} after a step", parameter, params[name])
        assert not torch.equal(params[name], before[name])


def test_dropout_is_in_the_plain_formulation_in_training_alone():
    model, (features, _) = small_model(), small_batch()
    params = plain_parameters(model)
    full = formulas.network(params, features, dropout=0.0)["cas"]
    assert torch.equal(formulas.network(params, features, training=False)["cas"], full)
    assert not torch.equal(formulas.network(params, features, dropout=0.5)["cas"], full)


@pytest.mark.parametrize("length", [3, 20, 33])
def test_resample(length):
    video = torch.arange(length).unsqueeze(1)
    uniform = loops.resample(video, T).squeeze(1)
    assert uniform.tolist() == [i * length // T for i in range(T)]
    drawn = loops.resample(video, T, np.random.default_rng(0)).squeeze(1)
    high = torch.cat([uniform[1:], torch.tensor([length - 1])])
    assert (drawn >= uniform).all() and (drawn <= high).all()
    assert torch.equal(drawn, uniform) == (length == T)


def test_mean_average_precision():
    generator = np.random.default_rng(0)
    count, num_classes, tious = 300, 4, (0.1, 0.3, 0.5, 0.7)

    def made(n, classes):
        start = generator.uniform(0, 40, n)
        end = start + generator.uniform(1, 10, n)
        return Segments(generator.integers(0, 6, n), generator.integers(0, classes, n), start, end, generator.random(n))

    truth, detections = made(60, num_classes - 1), made(count, num_classes)  # the last class has no ground truth
    expected = formulas.mean_average_precision(
        list(zip(truth.video, truth.label, truth.start, truth.end, strict=True)),
        list(zip(detections.video, detections.label, detections.start, detections.end, detections.score, strict=True)),
        num_classes,
        tious,
    )
    result = evaluate_detections(truth, detections, num_classes=num_classes, tious=tious)
    np.testing.assert_allclose(result.map, expected, rtol=0, atol=1e-12)
    assert 0.01 < result.map.min() < result.map.max()
