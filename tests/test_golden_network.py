"""The network, the losses, the targets and Adam against the golden files of an independent implementation."""

import numpy as np
import pytest
import recipe
import torch
from support.golden import golden_weight
from support.networks import build_model
from support.paths import GOLDEN

from layers.wide_adam import WideAdam
from layers.wide_linear import gradient_of
from losses import (
    AdaptiveMask,
    actionness_targets,
    masked_gce,
    sal_losses,
    snippet_confidence,
    weighted_total,
)
from options import resolve
from run.checkpoint import from_published, to_published

TOLERANCE = 1e-5  # of the array's largest magnitude


def assert_close(name, actual, expected):
    actual = np.asarray(actual.detach() if torch.is_tensor(actual) else actual, np.float64)
    expected = np.asarray(expected, np.float64).reshape(actual.shape)
    error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30)
    assert error <= TOLERANCE, f"{name}: off by {error:.2e} of the largest magnitude"


def golden_model(options, classes):
    with torch.device("meta"):
        model = build_model(options, classes)
    shapes = {name: tuple(p.shape) for name, p in to_published(model.state_dict()).items()}
    state = {name: torch.from_numpy(golden_weight(name, shape)) for name, shape in shapes.items()}
    model.load_state_dict(from_published(state), assign=True)
    return model.requires_grad_(True)


def assert_forward(golden, output):
    expected = {
        "cas": output.cas,
        "cas_bg": output.cas_bg,
        "action_flow": output.stream_actionness["flow"],
        "action_rgb": output.stream_actionness["rgb"],
        "action_flow_aug": output.mixed_actionness["flow"],
        "action_rgb_aug": output.mixed_actionness["rgb"],
        "sc": output.video_logits,
        "sc_flow": output.stream_video_logits["flow"],
        "sc_rgb": output.stream_video_logits["rgb"],
    }
    for name, actual in expected.items():
        assert_close(name, actual, golden[f"forward/{name}"])


RECIPE = resolve({"dropout": 0.0})


def adaptive_mask():
    return AdaptiveMask(RECIPE.actionness, num_classes=20)


def test_three_training_steps():
    golden = np.load(GOLDEN / "thumos_step.npz")
    model = golden_model(RECIPE, 20)
    assert sum(p.numel() for p in model.parameters()) == 145_765_418
    features = torch.from_numpy(recipe.features(3, 96, 2048, key=1))
    labels = torch.from_numpy(recipe.labels(3, 20))
    optimizer = WideAdam(model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=5e-4)
    mask = adaptive_mask()
    for step in range(3):
        output = model(features)
        if step == 0:
            assert_forward(golden, output)
        targets = actionness_targets(output, mask, RECIPE.actionness, labels=labels)
        losses = sal_losses(output, labels, targets, losses=RECIPE.losses, fusion=RECIPE.fusion)
        total = weighted_total(losses, RECIPE.losses.weights)
        actual = {
            "mil": losses["mil"],
            "bg_kl": losses["bg"],
            "mutual_mse": losses["mutual"],
            "total": total,
            "pseudo_label": targets.label,
            "pseudo_label_mix": targets.mixed_label,
            "mask": targets.weight,
            "mask_mix": targets.mixed_weight,
            "ema_mean": mask.mean,
            "ema_var": mask.var,
        }
        for name, value in actual.items():
            assert_close(f"step {step} {name}", value, golden[f"step{step}/{name}"])
        for name, term in (("second_order", losses["so"]), ("act", losses["act"]), ("mix", losses["mix"])):
            assert_close(f"step {step} {name}", term, golden[f"step{step}/{name}"].sum())
        for i, stream in enumerate(("flow", "rgb")):
            act = masked_gce(output.stream_actionness[stream], targets.label, targets.weight, q=0.5, eps=1e-7)
            assert_close(f"step {step} act {stream}", act, golden[f"step{step}/act"][i])
            mixed = output.mixed_actionness[stream]
            mix = masked_gce(mixed, targets.mixed_label, targets.mixed_weight, q=0.5, eps=1e-7)
            assert_close(f"step {step} mix {stream}", mix, golden[f"step{step}/mix"][i])
        optimizer.zero_grad()
        total.backward()
        if step == 0:
            for name, parameter in to_published(dict(model.named_parameters())).items():
                gradient = gradient_of(parameter)
                assert_close(f"{name} gradient", gradient.flatten()[:16], golden[f"grad_head/{name}"])
                assert_close(f"{name} gradient norm", gradient.double().norm(), golden[f"grad_norm/{name}"])
        optimizer.step()
    for name, parameter in to_published(dict(model.named_parameters())).items():
        assert_close(f"{name} after three steps", parameter.flatten()[:16], golden[f"after3/{name}"])


def test_activitynet_forward():
    golden = np.load(GOLDEN / "activitynet_forward.npz")
    model = golden_model(resolve({"dataset": "activitynet1.3", "dropout": 0.0}), 200)
    features = torch.from_numpy(recipe.features(3, 50, 2048, key=2))
    with torch.no_grad():
        assert_forward(golden, model(features))
        output = model.eval()(features)
    assert_close("cas in test", output.cas, golden["forward/cas"])
    assert_close("video logits in test", output.video_logits, golden["forward/sc"])


@pytest.mark.parametrize(
    ("name", "shape"), [("fc1.weight", (3, 70_000)), ("encoder.0.weight", (90, 40, 30)), ("fc.bias", (7,))]
)
def test_weights_are_those_of_the_recipe(name, shape):
    assert np.array_equal(golden_weight(name, shape), recipe.weight(name, shape))


@pytest.mark.parametrize("update", range(12))
def test_adaptive_mask_and_its_cross_entropy(update):
    golden = np.load(GOLDEN / "adaptive_mask.npz")
    mask = adaptive_mask()
    for i in range(update + 1):
        weight = mask(snippet_confidence(torch.from_numpy(golden[f"{i}/logits"])))
    assert_close("mask", weight, golden[f"{update}/mask"])
    assert_close("mean", mask.mean, golden[f"{update}/mean"])
    assert_close("variance", mask.var, golden[f"{update}/var"])
    prob, label = (torch.from_numpy(golden[f"{update}/{name}"]) for name in ("prob", "label"))
    assert_close("gce", masked_gce(prob, label, weight, q=0.5, eps=1e-7), golden[f"{update}/gce_masked"])
