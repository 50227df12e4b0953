"""Ablation switches remove the computation that they name, and nothing else."""

import dataclasses
import json

import pytest
import torch
from support.networks import build_model, build_objective, random_output
from torch.utils.flop_counter import FlopCounterMode

import losses
import main
import model
from formats.timelines import read_timelines
from options import resolve
from run.checkpoint import load_checkpoint, to_published
from test import class_scores

B, T, CLASSES = 3, 24, 4
SMALL = {
    "num_segments": T,
    "feature_size": 6,
    "hidden_size": 16,
    "pseudo_extra": 2,
    "dropout": 0.0,
}
TERMS = {"mil", "bg", "act", "mix", "mutual", "so"}
OF_ACTIONNESS = {"bg", "act", "mix", "mutual"}
# switch -> the loss terms, parameters' layers and functions that it removes
REMOVED = {
    "no_second_order": ({"so"}, {"fc", "fc1"}, {"second_order_pooling", "propagate_semantics"}),
    "no_propagation": (set(), {"fc1"}, {"propagate_semantics"}),
    "no_actionness": (
        OF_ACTIONNESS,
        {"action_rgb.0", "action_flow.0", "cls_rgb.0", "cls_flow.0"},
        {
            *("background_loss", "pseudo_labels", "masked_gce", "mutual_loss", "mask"),
            *("convolve", "activate", "score", "mixed", "add_partner", "join_labels", "average_weights"),
        },
    ),
    "no_mixup": ({"mix"}, set(), {"mixed", "add_partner", "join_labels", "average_weights"}),
    "no_mask": (set(), set(), {"mask"}),
    "no_mutual": ({"mutual"}, set(), {"mutual_loss"}),
}


def small_options(*switches):
    return resolve({**SMALL, **dict.fromkeys(switches, True)})


def one_batch():
    generator = torch.Generator().manual_seed(1)
    labels = torch.zeros(B, CLASSES)
    labels[torch.arange(B), torch.tensor([0, 3, 1])] = 1
    return torch.randn(B, T, 12, generator=generator), labels


def computed(switches=(), *, objective=None):
    """{loss term: value} of a training step, and the step's FLOPs forward and backward."""
    objective = objective or build_objective(small_options(*switches), CLASSES)
    objective.model.train()
    with FlopCounterMode(display=False) as counter:
        result = objective(*one_batch())
        result.losses[-1].backward()
    return dict(zip(result.names, result.losses.tolist(), strict=True)), counter.get_total_flops()


@pytest.fixture
def called(monkeypatch):
    """The names of the method's functions and modules that are called from now on."""
    names = set()

    def watch(place, name, shown=None):
        original = getattr(place, name)

        def noted(*args, **kwargs):
            names.add(shown or name)
            return original(*args, **kwargs)

        monkeypatch.setattr(place, name, noted)

    for name in ("second_order_pooling", "propagate_semantics", "add_partner"):
        watch(model, name)
    for name in ("convolve", "activate", "score", "mixed"):
        watch(model.ActionnessBranch, name)
    for name in ("background_loss", "pseudo_labels", "masked_gce", "mutual_loss", "join_labels", "average_weights"):
        watch(losses, name)
    watch(losses.AdaptiveMask, "forward", "mask")
    return names


def test_the_whole_method_calls_everything(called):
    terms, _ = computed()
    assert set(terms) == TERMS | {"total"}
    assert called == set().union(*(functions for _, _, functions in REMOVED.values()))


@pytest.mark.parametrize("switch", REMOVED)
def test_a_switch_removes_what_it_names_and_nothing_else(called, switch):
    removed, layers, functions = REMOVED[switch]
    every = set().union(*(names for _, _, names in REMOVED.values()))
    terms, flops = computed([switch])
    assert set(terms) == TERMS - removed | {"total"}
    assert called == every - functions
    whole, ablated = (build_model(small_options(*own), CLASSES) for own in ((), (switch,)))
    gone = to_published(whole.state_dict()).keys() - to_published(ablated.state_dict()).keys()
    assert {name.rpartition(".")[0] for name in gone} == layers
    expected = computed()[1]
    assert flops < expected if layers or switch == "no_mixup" else flops == expected


@pytest.mark.parametrize("switch", ["no_mixup", "no_mutual"])
def test_what_is_left_has_the_values_of_the_whole_method(switch):
    whole, ablated = computed()[0], computed([switch])[0]
    left = TERMS - REMOVED[switch][0]
    assert {name: ablated[name] for name in left} == pytest.approx({name: whole[name] for name in left}, rel=1e-6)
    weights = resolve({}).losses.weights
    assert ablated["total"] == pytest.approx(sum(weights[name] * ablated[name] for name in left), rel=1e-6)


def test_without_the_mask_all_weigh_1_and_its_statistics_rest():
    objective = build_objective(small_options("no_mask"), CLASSES)
    before = objective.mask.state_dict()["mean"].clone()
    objective.model.train()
    targets = objective(*one_batch()).targets
    assert targets.weight.unique().tolist() == targets.mixed_weight.unique().tolist() == [1.0]
    assert torch.equal(objective.mask.mean, before)


def test_without_actionness_semantics_reach_all_snippets_alike():
    network = build_model(small_options("no_actionness"), CLASSES).eval()
    features, _ = one_batch()
    output = network(features)
    encoded = network.encoder(features)
    semantics = network.video_semantics(model.second_order_pooling(encoded, eps=1e-5))
    expected = network.snippet_classifier(encoded + semantics[:, None, :])
    torch.testing.assert_close(output.cas, expected)
    assert output.actionness is None and output.stream_actionness == {}
    combined = model.combined_sequence(output, resolve({}).fusion.weights)
    torch.testing.assert_close(combined, output.cas.softmax(2))


@pytest.mark.parametrize("beta", [0.0, 0.35, 1.0])
def test_without_second_order_the_class_scores_are_the_topk_ones(beta):
    output, fusion = random_output(), resolve({}).fusion
    alone = dataclasses.replace(output, video_logits=None)
    combined = model.combined_sequence(output, fusion.weights)
    topk = torch.stack(
        [torch.stack([output.cas[b, combined[b, :, c].topk(2).indices, c].mean() for c in range(3)]) for b in range(2)]
    )
    torch.testing.assert_close(class_scores(alone, combined, fusion=fusion, beta=beta), topk.softmax(1))


def test_a_weight_of_0_is_no_ablation(called):
    computed(objective=build_objective(resolve({**SMALL, "w_mix": 0.0, "w_mutual": 0.0}), CLASSES))
    assert {"mixed", "mutual_loss"} <= called


@pytest.mark.parametrize("switches", [*([name] for name in REMOVED), list(REMOVED)])
def test_ablated_runs_train_resume_and_predict(tiny, run, tmp_path, switches):
    """With a report where it has least to show."""
    page = "no_actionness" in switches
    flags = [*(f"--{name}" for name in switches), f"--{'' if page else 'no-'}write_report", "--image_epochs", "0"]
    outcome = run(tiny.path, "--exp_name", "x", *flags, "--num_epochs", "1")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out" / "x"
    results = json.loads((folder / "results.json").read_text())
    assert all(results["options"][name] for name in switches)
    assert (folder / "report.html").exists() == page
    if page:
        video = read_timelines(folder / "timelines.npz").sequences[0]
        assert video.actionness is video.mask is None and not video.streams
    resumed = run(tiny.path, "--exp_name", "x", "--resume", "--num_epochs", "2")
    assert resumed.code == 0, resumed.err
    tested = run(tiny.path, "--exp_name", "x", "--inference_only", "--no-write_report")
    assert tested.code == 0, tested.err
    features, out = tiny.path / "features" / "test", tmp_path / "found"
    call = ("--predict", str(features), "--model_file", str(folder / "best.pt"), "--out", str(out), "--device", "cpu")
    call = (*call, "--no-write_report")
    assert main.main(call) == 0
    kept = load_checkpoint(folder / "best.pt").model
    assert ("video_semantics.weight" in kept) == (not {"no_propagation", "no_second_order"} & set(switches))


def test_an_ablated_model_does_not_start_from_the_whole_one(tiny, run, tmp_path, refused_with):
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1").code == 0
    best = str(tmp_path / "out" / "x" / "best.pt")
    line = refused_with(tiny.path, "--exp_name", "y", "--init_from", best, "--no_actionness")
    assert "--init_from" in line and "not this network's weights" in line and "check --modal, --no_actionness" in line
    folder = tmp_path / "out" / "x"
    line = refused_with(tiny.path, "--model_file", str(folder / "best.pt"), "--inference_only", "--no_second_order")
    assert "left over" in line and "check --no_propagation, --no_second_order" in line


def test_a_switch_is_typed_as_it_is_called(tiny, refused_with):
    assert "--no-no_mask" in refused_with(tiny.path, "--no-no_mask")
    line = refused_with(tiny.path, "--no_actionness", "--fuse_cas", "0")
    assert "--fuse_cas" in line
