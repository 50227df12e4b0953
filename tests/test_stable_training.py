"""What teaches actionness with --pseudo_source classes, --teacher_decay and --lr_schedule: against loops and by hand."""

import json
import math
from dataclasses import replace

import pytest
import torch
from support.networks import build_batch, build_model, build_objective, random_output
from support.runs import assert_same, interrupt_at, load
from torch import nn

import train
from experiments.job import make_job
from layers.weight_average import WeightAverage
from layers.wide_adam import WideAdam
from losses import (
    AdaptiveMask,
    Company,
    actionness_targets,
    class_evidence,
    evidence_labels,
    evidence_threshold,
    mil_loss,
    take_part_in_targets,
)
from options import ActionnessOptions, FusionOptions, OptimisationOptions, check_training, parse_flags, resolve
from reference import loops
from run import saving
from run.checkpoint import Checkpoint
from run.state_dicts import MOST_WEIGHT
from run.training_state import check_average
from train import build_training, train_step
from utils.errors import InputError

SMALL = {"num_segments": 24, "feature_size": 6, "hidden_size": 8, "dropout": 0.5}
ON = {"pseudo_source": "classes", "teacher_decay": 0.99, "lr_schedule": "cosine"}
FLAGS = [f"--{name}={value}" for name, value in ON.items()]
STABLE_MASK = ["--no_mask"]


# Pseudo labels from class evidence


def test_class_evidence_is_the_loop():
    cas, labels = torch.randn(3, 9, 4), torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    evidence = class_evidence(cas, labels)
    for b in range(3):
        assert evidence[b].tolist() == pytest.approx(loops.class_evidence(cas[b], labels[b].tolist()), rel=1e-6)


def test_class_evidence_by_hand():
    cas = torch.log(torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]]))
    assert class_evidence(cas, torch.tensor([[0.0, 1, 1]]))[0].tolist() == pytest.approx([0.2, 0.6])


def test_threshold_by_hand():
    threshold, below, above = evidence_threshold(torch.tensor([[0.9, 0.1, 0.2, 0.8, 0.0], [0.5, 0.5, 0.5, 0.9, 0.5]]))
    assert threshold.flatten().tolist() == pytest.approx([0.5, 0.7])
    assert below.flatten().tolist() == pytest.approx([0.1, 0.5])
    assert above.flatten().tolist() == pytest.approx([0.85, 0.9])


@pytest.mark.parametrize("t", [2, 3, 10, 65])
def test_threshold_is_the_best_of_all_cuts(t):
    evidence = torch.rand(20, t).square()
    found = torch.cat(evidence_threshold(evidence), 1)
    for row, numbers in zip(evidence.tolist(), found.tolist(), strict=True):
        assert numbers == pytest.approx(loops.evidence_threshold(row), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("band", [0.0, 0.5, 1.0, 3.0])
def test_labels_and_weights_are_the_loop(band):
    evidence = torch.rand(8, 30).square()
    evidence[0] = 0.3
    evidence[1, :-1] = 0.3
    labels, weights = evidence_labels(evidence, band=band)
    for b in range(8):
        expected = loops.evidence_labels(evidence[b].tolist(), band)
        assert labels[b].tolist() == expected[0] and weights[b].tolist() == pytest.approx(expected[1], abs=1e-6)


def test_weights_by_hand():
    """The threshold is 0.5, the means 0.1 and 0.9: 0.4 away from it, or half that, a snippet weighs 1."""
    evidence = torch.tensor([[0.0, 0.3, 0.0, 0.7, 1.0, 1.0]])
    threshold, below, above = (value.item() for value in evidence_threshold(evidence))
    assert (threshold, below, above) == pytest.approx((0.5, 0.1, 0.9))
    for band, inner in ((1.0, 0.5), (0.5, 1.0), (2.0, 0.25), (0.0, 1.0)):
        outer = min(1.0, 0.5 / (0.4 * band)) if band else 1.0
        labels, weights = evidence_labels(evidence, band=band)
        assert labels.tolist() == [[0, 0, 0, 1, 1, 1]]
        assert weights[0].tolist() == pytest.approx([outer, inner, outer, inner, outer, outer])


@pytest.mark.parametrize("t", [1, 2, 7])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1.0])
@pytest.mark.parametrize("band", [0.0, 1.0])
def test_evidence_that_is_the_same_everywhere_teaches_nothing(t, value, band):
    labels, weights = evidence_labels(torch.full((2, t), value), band=band)
    assert not labels.any() and not weights.any()


@pytest.mark.parametrize("band", [0.0, 1.0])
def test_evidence_that_differs_by_less_than_the_fixed_points_unit_teaches_nothing(band):
    """Its means don't lie on both sides of the threshold: distances from it would be negative, or nothing."""
    rows = [[1e-13, 1e-13, 2e-13], [0, 0, 1e-13], [0, 0, 4e-13], [5e-13, 5e-13, 9e-13], [0, 1e-12, 1.3e-12]]
    for row in [*rows, [0, 0, 1]]:
        _, weights = evidence_labels(torch.tensor([row, [0.0, 0.0, 1.0]], dtype=torch.float64), band=band)
        assert ((weights >= 0) & (weights <= 1)).all() and weights[1].tolist() == [1, 1, 1]
        if max(row) < 4.5e-13:  # half a unit: all sums are 0
            assert not weights[0].any()


def test_neighbouring_floats_are_told_apart():
    value = torch.tensor(0.3)
    labels, weights = evidence_labels(torch.stack([value, value.nextafter(torch.tensor(1.0))])[None], band=1.0)
    assert labels.tolist() == [[0, 1]] and weights.tolist() == [[1, 1]]


@pytest.mark.parametrize("no_mask", [False, True])
def test_targets_are_of_the_videos_own_classes(no_mask):
    """The mask's weight multiplies the band's, and mix-up is as ever."""
    options = resolve({**SMALL, **ON, "no_mask": no_mask})
    with torch.no_grad():
        output = build_model(options, 3)(torch.rand(3, 24, 12))
    labels, mask = torch.eye(3), AdaptiveMask(options.actionness, num_classes=3)
    targets = actionness_targets(output, mask, options.actionness, labels=labels, ablation=options.ablation)
    confidence, _, _ = loops.mask_weights(output.cas, 1 / 3, 1.0)
    for b in range(3):
        evidence = loops.class_evidence(output.cas[b], labels[b].tolist())
        label, weight = loops.evidence_labels(evidence, 1.0)
        if not no_mask:
            weight = [w * of_mask for w, of_mask in zip(weight, confidence[b], strict=True)]
        assert targets.label[b].tolist() == label and targets.weight[b].tolist() == pytest.approx(weight, abs=1e-5)
        assert torch.equal(targets.mixed_label[b], ((targets.label[b] + targets.label[b - 1]) > 0).float())
        torch.testing.assert_close(targets.mixed_weight[b], (targets.weight[b] + targets.weight[b - 1]) / 2)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--pseudo_extra", "0", *FLAGS], "--pseudo_extra is only read with --pseudo_source actionness"),
        (
            ["--pseudo_ratio", "0.1", "--recipe", "stable"],
            "--pseudo_ratio is only read with --pseudo_source actionness; here it is classes, by --recipe stable",
        ),
        (["--confidence_ratio", "0.1", *FLAGS], "--confidence_ratio is only read with --pseudo_source actionness"),
        (
            ["--mil_competition", "0.5"],
            "--mil_competition is only read with --mil_rank cas; here it is combined: give both",
        ),
        (["--pseudo_band", "1"], "--pseudo_band is only read with --pseudo_source classes; here it is actionness"),
    ],
)
def test_flags_that_are_not_read_are_refused(tiny, tmp_path, refused_with, flags, said):
    typed = parse_flags(flags)
    with pytest.raises(InputError, match=said):
        check_training(typed, resolve(typed))
    with pytest.raises(InputError, match=said):
        make_job("x", tmp_path, typed)
    assert said in refused_with(tiny.path, *flags)


def test_a_source_that_was_typed_is_not_the_recipes():
    typed = {"pseudo_ratio": 0.1, "recipe": "stable", "pseudo_source": "classes"}
    with pytest.raises(InputError, match=r"here it is classes$"):
        check_training(typed, resolve(typed))


def test_a_rank_that_was_typed_leaves_the_recipes_competition_unread():
    typed = {"recipe": "stable", "mil_rank": "combined", "num_segments": 16}
    check_training(typed, resolve(typed))
    losses = resolve(typed).losses
    output, labels = random_output(t=64), torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    unread = replace(losses, mil_competition=0.0)
    alike = [mil_loss(output, labels, losses=each, fusion=FusionOptions()) for each in (losses, unread)]
    assert losses.mil_competition > 0 and torch.equal(*alike)


def test_what_is_not_read_need_not_fit_t():
    assert resolve({"num_segments": 10, **ON}).actionness == ActionnessOptions(
        pseudo_source="classes", teacher_decay=0.99
    )
    with pytest.raises(InputError, match="--pseudo_extra"):
        resolve({"num_segments": 10})


# The teacher


def test_the_average_by_hand():
    """Of three steps, with a skipped one between: 0.1, then 2/11 and 3/12 of the old value are kept, or less than that."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    teacher, brief = WeightAverage(model, decay=0.99), WeightAverage(model, decay=0.15)
    for value, skipped in ((2.0, 0.0), (9.0, 1.0), (3.0, 0.0), (5.0, 0.0)):
        model.weight.data.fill_(value)
        for average in (teacher, brief):
            average.update(skipped=torch.tensor(skipped))
    first = 0.1 * 1 + 0.9 * 2
    second = (2 * first + 9 * 3) / 11
    assert teacher.network.weight.item() == pytest.approx((3 * second + 9 * 5) / 12, rel=1e-6)
    assert brief.network.weight.item() == pytest.approx(0.15 * (0.15 * first + 0.85 * 3) + 0.85 * 5, rel=1e-6)
    for average, decay in ((teacher, 0.99), (brief, 0.15)):
        assert average.network.weight.item() == pytest.approx(loops.weight_average([1, 2, 3, 5], decay), rel=1e-6)
    assert teacher.updates == 3


def test_what_a_teacher_says_is_what_the_network_says_in_test():
    for flags in ({}, {"no_propagation": True}, {"no_second_order": True}, {"modal": "rgb"}):
        model, features = build_model(resolve({**SMALL, "pseudo_extra": 2, **flags}), 3).eval(), torch.rand(2, 24, 12)
        features = features[..., : model.channels]
        expected = model(features)
        for reads in (True, False):
            said = model.sequences(features, with_actionness=reads)
            assert torch.equal(said.cas, expected.cas)
            if reads or model.ablation.propagation:  # which weighs semantics by it
                assert torch.equal(said.actionness, expected.actionness)
            else:
                assert said.actionness is None


@pytest.mark.parametrize("no_propagation", [False, True])  # without it nothing but pseudo labels may read actionness
@pytest.mark.parametrize("source", ["actionness", "classes"])
def test_targets_are_the_teachers_and_the_step_moves_it(source, no_propagation):
    extra = {"pseudo_extra": 2} if source == "actionness" else {}
    options = resolve({**SMALL, **ON, **extra, "pseudo_source": source, "no_propagation": no_propagation})
    torch.manual_seed(0)
    objective, optimizer = build_training(build_model(options, 3), options, torch.device("cpu"))
    teacher, model = objective.teacher, objective.model.train()
    features, labels = torch.rand(2, 24, 12), torch.eye(3)[:2]
    with torch.no_grad():
        for parameter in model.parameters():  # apart from the teacher
            parameter.add_(torch.randn_like(parameter))
    mask = AdaptiveMask(options.actionness, num_classes=3)
    teacher_before = [p.clone() for p in teacher.network.parameters()]
    expected = actionness_targets(teacher.network(features), mask, options.actionness, labels=labels)
    result = train_step(objective, optimizer, build_batch(features, labels), teacher=teacher)
    assert torch.equal(result.targets.label, expected.label)
    torch.testing.assert_close(result.targets.weight, expected.weight)
    for mine, its, before in zip(teacher.network.parameters(), model.parameters(), teacher_before, strict=True):
        torch.testing.assert_close(mine, before + 0.9 * (its.detach() - before))
        assert not mine.requires_grad and mine.grad is None


def test_a_step_without_an_update_leaves_the_teacher_as_it_is():
    options = resolve({**SMALL, **ON})
    objective, optimizer = build_training(build_model(options, 3), options, torch.device("cpu"))
    before = [value.clone() for value in objective.teacher.tensors]
    broken = build_batch(torch.full((2, 24, 12), torch.inf), torch.eye(3)[:2])
    assert not train_step(objective, optimizer, broken, teacher=objective.teacher).losses[-1].isfinite()
    assert all(map(torch.equal, before, objective.teacher.tensors))


def test_without_actionness_nobody_is_taught():
    options = resolve({**SMALL, **ON, "no_actionness": True})
    assert build_training(build_model(options, 3), options, torch.device("cpu"))[0].teacher is None
    assert build_objective(resolve(SMALL | {"pseudo_extra": 2}), 3).teacher is None


# The learning rate


def test_the_cosine_by_hand():
    options = OptimisationOptions(lr=0.4, lr_schedule="cosine")
    assert [options.lr_at(step, 4) for step in range(5)] == pytest.approx(
        [0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.2 * (1 - math.sqrt(0.5)), 0]
    )
    assert [OptimisationOptions(lr=0.4).lr_at(step, 4) for step in range(5)] == [0.4] * 5


@pytest.mark.parametrize("wide", [True, False])
def test_a_scheduled_rate_is_adams_own(wide):
    """Also for the wide layers, whose gradients are formed in blocks."""
    options = resolve({**SMALL, "pseudo_extra": 2, "no_second_order": not wide})
    weights = []
    for scheduled in (True, False):
        torch.manual_seed(1)
        objective, optimizer = build_training(build_model(options, 3), options, torch.device("cpu"))
        objective.model.train()
        for lr in (0.5, 0.25, 0.125):  # which float32 has exactly
            if scheduled:
                optimizer.schedule_lr(lr)
            else:
                optimizer.param_groups[0]["lr"] = lr
            train_step(objective, optimizer, build_batch(torch.rand(2, 24, 12), torch.eye(3)[:2]))
        weights.append(list(objective.model.parameters()))
        assert optimizer.param_groups[0]["lr"] == (options.optimisation.lr if scheduled else 0.125)
    assert all(map(torch.equal, *weights))


def test_the_curve_shows_the_schedule(tiny, run, tmp_path):
    assert run(tiny.path, "--exp_name", "x", *FLAGS, "--lr", "0.01", "--log_steps", "3").code == 0
    lines = map(json.loads, (tmp_path / "out" / "x" / "curves.jsonl").read_text().splitlines())
    shown = {p["step"]: p["values"]["optimisation/learning_rate"] for p in lines if "loss/total" in p.get("values", {})}
    expected = {step: 0.005 * (1 + math.cos(math.pi * (step - 1) / 12)) for step in (3, 6, 9, 12)}
    assert shown == pytest.approx(expected)


def test_every_step_of_a_run_has_the_rate_of_its_place(tiny, run, tmp_path, monkeypatch):
    """From the full rate on; the last step's is that of one step before 0. So it is across an interrupt."""
    original, rates = train.train_step, []

    def noted(objective, optimizer, batch, **more):
        rates.append(optimizer.scheduled_lr.item())
        return original(objective, optimizer, batch, **more)

    flags = [*FLAGS, "--lr", "0.01", "--keep_state"]
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", noted)
        interrupt_at(patch, 5)
        assert run(tiny.path, "--exp_name", "x", *flags).code == 1
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", noted)
        assert run(tiny.path, "--exp_name", "x", "--resume", *flags).code == 0
    # 0.01 * (1 + cos(k * 15 degrees)) / 2
    cosines = [1, 0.9659258, 0.8660254, 0.7071068, 0.5, 0.2588190]
    expected = [0.005 * (1 + c) for c in cosines] + [0.005] + [0.005 * (1 - c) for c in reversed(cosines[1:])]
    assert rates == pytest.approx(expected, rel=1e-5)


# Runs


@pytest.mark.parametrize("step", [1, 4, 7])
@pytest.mark.parametrize("flags", [[], STABLE_MASK, ["--pseudo_source", "actionness"]], ids=" ".join)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tiny, run, tmp_path, monkeypatch, step, flags):
    flags = [*FLAGS, *flags]
    assert run(tiny.path, "--exp_name", "whole", "--keep_state", *flags).code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        assert run(tiny.path, "--exp_name", "parts", "--keep_state", *flags).code == 1
    assert run(tiny.path, "--exp_name", "parts", "--resume", *flags).code == 0
    whole, parts = load(tmp_path, "whole"), load(tmp_path, "parts")
    assert_same(whole.model, parts.model)
    assert_same(whole.training, parts.training)
    assert whole.training["teacher"]["updates"] == 12
    assert not any(torch.equal(w, whole.training["teacher"]["weights"][n]) for n, w in whole.model.items())


def test_a_run_that_is_lengthened_says_what_its_schedule_becomes(tiny, run, tmp_path):
    assert run(tiny.path, "--exp_name", "x", *FLAGS).code == 0
    assert load(tmp_path, "x").training["teacher"] is None
    outcome = run(tiny.path, "--exp_name", "x", "--resume", "--num_epochs", "4", *FLAGS)
    assert outcome.code == 0
    said = "the learning rate's cosine was that of 12 steps, and is now that of 16"
    assert said in outcome.out and "the teacher with the network's own weights" in outcome.out
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert any(said in note and note.startswith("from step 13 on") for note in results["changed"])


def test_the_teacher_of_a_run_that_is_lengthened_begins_with_its_weights(tiny, run, tmp_path, monkeypatch):
    """And with its number of updates: so it does not move as far as a new one would."""
    assert run(tiny.path, "--exp_name", "x", *FLAGS).code == 0
    weights = load(tmp_path, "x").model
    with monkeypatch.context() as patch:
        interrupt_at(patch, 1)
        assert run(tiny.path, "--exp_name", "x", "--resume", "--num_epochs", "4", *FLAGS).code == 1
    after = load(tmp_path, "x")
    teacher, kept = after.training["teacher"], 13 / 22
    assert after.training["step"] == teacher["updates"] == 13
    for name, weight in teacher["weights"].items():
        torch.testing.assert_close(weight, kept * weights[name] + (1 - kept) * after.model[name])


class Crowd(Company):
    """Of the videos of a step one process has all; what is gathered of it is what another, which has none, is given."""

    def __init__(self, gathered=None):
        self.gathered, self.shape = gathered, None

    def everyone(self, values):
        self.shape = tuple(values.shape)
        self.gathered = values if self.gathered is None else self.gathered
        return self.gathered


@pytest.mark.parametrize("no_mask", [False, True])
@pytest.mark.parametrize("source", ["actionness", "classes"])
def test_a_process_without_videos_takes_part_in_targets(source, no_mask):
    """It gathers as many values of a snippet as the others do, and its mask sees the same confidences."""
    options = resolve({**SMALL, "pseudo_extra": 2, "pseudo_source": source, "no_mask": no_mask})
    with torch.no_grad():
        output = build_model(options, 3)(torch.rand(3, 24, 12))
    with_videos, without = (AdaptiveMask(options.actionness, num_classes=3) for _ in range(2))
    rest, of_all = {"ablation": options.ablation}, Crowd()
    actionness_targets(output, with_videos, options.actionness, labels=torch.eye(3), company=of_all, **rest)
    company = Crowd(of_all.gathered)
    take_part_in_targets(without, 24, options.actionness, company=company, device=torch.device("cpu"), **rest)
    assert company.shape == (0, *of_all.shape[1:])
    assert torch.equal(without.mean, with_videos.mean) and torch.equal(without.var, with_videos.var)
    assert no_mask == torch.equal(without.mean, AdaptiveMask(options.actionness, num_classes=3).mean)


def test_a_teacher_beyond_what_weights_may_be_is_refused():
    average = WeightAverage(nn.Linear(1, 2), decay=0.9)
    assert check_average(average.state_dict(), average)["updates"] == 0
    for value in (2 * MOST_WEIGHT, -2 * MOST_WEIGHT):
        weights = {"weight": torch.tensor([[0.0], [value]]), "bias": torch.zeros(2)}
        with pytest.raises(ValueError, match="weight of the teacher"):
            check_average({"weights": weights, "updates": torch.tensor(1.0)}, average)


def test_a_copy_for_the_background_has_room_for_the_teacher(monkeypatch):
    """Of 100 numbers each: weights, two moments and the teacher, which may be half of the free memory."""
    hundred = torch.zeros(100)
    moments = {"state": {0: {"exp_avg": hundred, "exp_avg_sq": hundred}}}
    training = {"optimizer": moments, "teacher": {"weights": {"w": hundred}, "updates": torch.zeros(())}}
    checkpoint = Checkpoint(model={"w": hundred}, training=training)
    for free, room in ((2 * 1600 - 1, False), (2 * 1600 + 2, True)):
        monkeypatch.setattr(saving, "free_bytes", lambda device, free=free: free)
        assert saving._has_room(checkpoint) == room
    monkeypatch.setattr(saving, "free_bytes", lambda device: 2 * 1200 + 2)
    assert saving._has_room(Checkpoint(model={"w": hundred}, training={**training, "teacher": None}))


def test_the_whole_stable_recipe_trains(tiny, run, tmp_path):
    assert run(tiny.path, "--exp_name", "x", "--recipe", "stable", "--num_epochs", "2").code == 0
    assert run(tiny.path, "--exp_name", "y", "--recipe", "stable", "--num_epochs", "2", "--mask").code == 0
    saved = [json.loads((tmp_path / "out" / name / "options.json").read_text())["no_mask"] for name in "xy"]
    assert saved == [True, False]


@pytest.mark.parametrize(
    "flags", [["--precision", "bf16"], ["--deterministic"], ["--modal", "rgb", "--pseudo_band", "0"]]
)
def test_a_taught_run_in_other_ways(tiny, run, tmp_path, flags):
    assert run(tiny.path, "--exp_name", "x", *FLAGS, *flags).code == 0
    weights = load(tmp_path, "x").model
    assert all(value.isfinite().all() for value in weights.values())


def test_a_part_can_be_switched_on_again():
    assert not resolve(parse_flags(["--recipe", "stable", "--mask"])).ablation.no_mask
    assert resolve(parse_flags(["--recipe", "stable"])).ablation.no_mask
    assert parse_flags(["--no_mask", "--mask"]) == {"no_mask": False}
    assert parse_flags(["--mixup", "--no_mixup"]) == {"no_mixup": True}


def test_an_optimiser_without_a_schedule_has_the_groups_rate():
    assert WideAdam([nn.Parameter(torch.ones(2))], lr=0.1, betas=(0.9, 0.9), weight_decay=0).scheduled_lr is None
