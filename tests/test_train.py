"""Training runs on the tiny set: resuming, schedules, what is written, and what stops a run."""

import copy
import json
import signal
import threading

import numpy as np
import pytest
import torch
from support.networks import build_model
from support.runs import assert_same, interrupt_at, load, read_results
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import train
from dataset import Batch
from layers import snippets
from layers.snippets import Snippets
from options import resolve

# 7 videos in batches of 2 are 4 steps per epoch, 3 epochs are 12 steps; evaluations every 4 steps from the second epoch on.


@pytest.mark.parametrize("step", [1, 3, 4, 6, 8, 11])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tiny, run, tmp_path, monkeypatch, step, number):
    assert run(tiny.path, "--exp_name", "whole", "--keep_state").code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, number)
        outcome = run(tiny.path, "--exp_name", "parts", "--keep_state")
    assert outcome.code == 1
    assert f"interrupted at step {step} of 12" in outcome.err and "--resume --exp_name parts" in outcome.err
    assert run(tiny.path, "--exp_name", "parts", "--resume").code == 0
    whole, parts = load(tmp_path, "whole"), load(tmp_path, "parts")
    assert_same(whole.model, parts.model)
    assert_same(whole.training, parts.training)
    assert_same(load(tmp_path, "whole", "best.pt").model, load(tmp_path, "parts", "best.pt").model)
    for name in ("best", "last", "history"):
        assert read_results(tmp_path, "whole")[name] == read_results(tmp_path, "parts")[name]
    for name in ("detections_best.json",):
        texts = [(tmp_path / "out" / e / name).read_text() for e in ("whole", "parts")]
        assert texts[0] == texts[1]


def test_a_killed_run_resumes_from_its_last_checkpoint(tiny, run, tmp_path, monkeypatch):
    assert run(tiny.path, "--exp_name", "whole", "--keep_state").code == 0

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == 7:  # in epoch 2; last.pt is of the end of epoch 1
            raise SystemError
        return original(*args, **kwargs)

    original, calls = train.train_step, []
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", dies)
        with pytest.raises(SystemError):
            run(tiny.path, "--exp_name", "parts", "--keep_state")
    assert load(tmp_path, "parts").training["step"] == 4
    assert run(tiny.path, "--exp_name", "parts", "--resume").code == 0
    assert_same(load(tmp_path, "whole").training, load(tmp_path, "parts").training)


def test_the_last_experiment_is_resumed_without_a_name(tiny, run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        run(tiny.path, "--exp_name", "only")
    assert run(tiny.path, "--resume").code == 0
    assert load(tmp_path, "only").training["step"] == 12


def test_resuming_a_finished_run_prints_its_table_again(tiny, run):
    first = run(tiny.path, "--exp_name", "done")
    again = run(tiny.path, "--exp_name", "done", "--resume")
    assert again.code == 0
    assert [line for line in first.out.splitlines() if line.startswith(("best", "last"))] == [
        line for line in again.out.splitlines() if line.startswith(("best", "last"))
    ]


def test_the_seed_fixes_a_run(tiny, run, tmp_path):
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        run(tiny.path, "--exp_name", name, "--seed", seed)
    assert_same(load(tmp_path, "a").training, load(tmp_path, "b").training)
    assert not torch.equal(
        load(tmp_path, "a").model["encoder.conv.weight"], load(tmp_path, "c").model["encoder.conv.weight"]
    )


def test_evaluations_do_not_disturb_training(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "few")
    run(tiny.path, "--exp_name", "many", "--detection_inf_step", "1", "--eval_from_epoch", "1")
    assert_same(load(tmp_path, "few").model, load(tmp_path, "many").model)


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ([], [8, 12]),  # step 4 is in the first epoch
        (["--detection_inf_step", "5"], [5, 10, 12]),  # the last step always
        (["--eval_from_epoch", "1", "--detection_inf_step", "3"], [3, 6, 9, 12]),
        (["--num_epochs", "1"], [4]),
        (["--drop_last"], [4, 8, 9]),  # 3 steps per epoch
    ],
)
def test_when_evaluations_happen(tiny, run, tmp_path, flags, steps):
    assert run(tiny.path, "--exp_name", "x", *flags).code == 0
    assert [entry["step"] for entry in read_results(tmp_path, "x")["history"]] == steps


def test_everything_that_influences_training_is_in_last_pt(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x", "--keep_state")
    checkpoint = load(tmp_path, "x")
    state = checkpoint.training
    parts = {
        "step",
        "best",
        "last",
        "val",
        "optimizer",
        "mask",
        "random",
        "history",
        "seconds",
        "data",
        "machine",
        "changed",
    }
    assert state.keys() == parts
    assert state["step"] == 12
    assert state["mask"]["mean"] != pytest.approx(1 / 3)
    assert len(state["optimizer"]["state"]) == len(checkpoint.model)
    assert checkpoint.classes == ("Dive", "Jump", "Throw")
    best = load(tmp_path, "x", "best.pt")
    assert best.training["step"] == state["best"]["step"]


@pytest.mark.parametrize("modal", ["rgb", "flow"])
def test_single_stream_runs(tiny, run, tmp_path, modal):
    assert run(tiny.path, "--exp_name", "x", "--modal", modal).code == 0
    assert load(tmp_path, "x").model["encoder.conv.weight"].shape[1] == 6
    outcome = run(tiny.path, "--exp_name", "x", "--inference_only")
    assert outcome.code == 0  # the modality comes from the checkpoint


def test_a_loss_that_is_not_finite_stops_the_run(tiny, run, tmp_path, monkeypatch):
    original, calls = train.sal_losses, []

    def spoiled(*args, **kwargs):
        losses = original(*args, **kwargs)
        calls.append(1)
        if len(calls) == 6:
            losses["mix"] = losses["mix"] * float("nan")
        return losses

    monkeypatch.setattr(train, "sal_losses", spoiled)
    outcome = run(tiny.path, "--exp_name", "x")
    assert outcome.code == 1 and "Traceback" not in outcome.err and outcome.err.count("\n") == 1
    assert "step 6 (epoch 2)" in outcome.err and "mix nan" in outcome.err
    for term in ("mil", "bg", "act", "mutual", "so", "total"):
        assert f"{term} " in outcome.err
    assert outcome.err.count("train_") == 2  # the videos of the batch
    checkpoint = load(tmp_path, "x")  # the end of epoch 1
    assert checkpoint.training["step"] == 4
    assert all(torch.isfinite(value).all() for value in checkpoint.model.values())


def test_weights_that_are_not_finite_are_not_saved(tiny, run, tmp_path):
    outcome = run(tiny.path, "--exp_name", "x", "--batch_size", "64", "--num_epochs", "1", "--lr", "1e38")
    assert outcome.code == 1 and "not finite after step 1" in outcome.err and outcome.err.count("\n") == 1
    assert not list((tmp_path / "out" / "x").glob("*.pt"))


def test_training_lowers_the_loss_and_finds_the_actions(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x", "--num_epochs", "40", "--detection_inf_step", "20", "--eval_from_epoch", "1")
    results = read_results(tmp_path, "x")
    assert results["last"]["average_mAP"]["0.1:0.7"] > 0.3
    assert results["last"]["video_accuracy"] >= 0.5


def test_tensorboard_has_every_curve(tiny, run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tiny.path, "--exp_name", "x", "--log_steps", "1")
    events = EventAccumulator(str(tmp_path / "out" / "x" / "tensorboard")).Reload()
    tags = set(events.Tags()["scalars"])
    assert {f"loss/{name}" for name in ("mil", "bg", "act", "mix", "mutual", "so", "total")} <= tags
    assert {f"mAP/0.{i}" for i in range(1, 8)} <= tags
    assert {"average_mAP/0.1-0.7", "video_accuracy", "seconds/step", "seconds/evaluation"} <= tags
    assert {"AP/Dive", "AP/Jump", "AP/Throw"} <= tags
    assert {"actionness/mask_mean", "actionness/pseudo_label_share", "optimisation/learning_rate"} <= tags
    assert [event.step for event in events.Scalars("loss/total")] == list(range(1, 13))
    assert [event.step for event in events.Scalars("mAP/0.5")] == [8, 12]
    assert events.Scalars("optimisation/learning_rate")[0].value == pytest.approx(0.01)


def test_results_file(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x", "--seed", "3")
    results = read_results(tmp_path, "x")
    for row in ("best", "last"):
        assert list(results[row]["mAP"]) == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]
        values = list(results[row]["mAP"].values())
        assert results[row]["average_mAP"] == pytest.approx(
            {"0.1:0.5": np.mean(values[:5]), "0.1:0.7": np.mean(values)}
        )
        assert 0 <= results[row]["video_accuracy"] <= 1
        assert {"step", "epoch"} <= results[row].keys()
    assert results["seed"] == results["options"]["seed"] == 3
    assert {"python", "torch", "numpy"} <= results["versions"].keys()
    assert results["seconds"].keys() == {"training", "evaluation"} and "git_commit" in results
    best = max(results["history"], key=lambda entry: entry["average_mAP"])
    assert results["best"]["step"] == best["step"] and results["last"]["step"] == 12
    assert json.loads((tmp_path / "out" / "x" / "options.json").read_text()) == results["options"]
    files = {p.name for p in (tmp_path / "out" / "x").iterdir()}
    curves = {"curves.jsonl", "tensorboard"}
    assert files == {"options.json", "results.json", "detections_best.json", "best.pt", "last.pt"} | curves


def test_no_threads_needed_for_signal_handlers(tiny, run, tmp_path):
    """Signal handlers can be set in the main thread only; elsewhere a run goes without."""
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run(tiny.path, "--exp_name", "x").code))
    thread.start()
    thread.join()
    assert codes == [0]


def test_main_reports_no_bug_as_a_mistake(tiny, run, monkeypatch):
    """A bug keeps its traceback; only InputError and TrainingError lose theirs."""

    def bug(*args, **kwargs):
        raise ValueError("a bug")

    monkeypatch.setattr("data_tools.opening.load_dataset", bug)
    with pytest.raises(ValueError, match="a bug"):
        run(tiny.path)


@pytest.mark.parametrize(
    "flags", [{"pseudo_extra": 2}, {"pseudo_source": "classes", "teacher_decay": 0.9, "w_self": 1.0}]
)
def test_a_step_asks_the_device_for_nothing(monkeypatch, flags):
    """Fake tensors have no values: whoever reads one, or branches on one, fails."""
    monkeypatch.setattr(snippets, "_all_distinct", snippets._all_distinct.__wrapped__)  # which would keep fake tensors
    options = resolve({"num_segments": 24, "feature_size": 6, "hidden_size": 8, **flags})
    monkeypatch.setattr(copy, "deepcopy", lambda model: build_model(options, 3))  # which asks each weight where it is
    with FakeTensorMode(allow_non_fake_inputs=True):  # those that say where snippets are
        batch = Batch(
            features=Snippets.of(torch.empty(2, 24, 12)),
            labels=torch.empty(2, 3),
            video_ids=("a", "b"),
            num_snippets=(24, 24),
            fps=(25.0, 25.0),
            durations=(None, None),
            taught=torch.empty(2, 24, 3) if "w_self" in flags else None,
        )
        objective, optimizer = train.build_training(build_model(options, 3), options, torch.device("cpu"))
        for _ in range(2):
            result = train.train_step(objective, optimizer, batch, teacher=objective.teacher)
        assert result.losses.shape == (len(result.names),)
        with pytest.raises(DataDependentOutputException):
            result.losses.sum().item()


def test_a_loss_that_is_not_finite_is_noticed_though_losses_are_read_late(tiny, run, tmp_path, monkeypatch):
    """Steps after it change nothing that is saved, and the message names the step itself."""
    original, calls = train.train_step, []

    def poisoned(objective, optimizer, batch, **more):
        calls.append(1)
        factor = float("nan") if len(calls) == 6 else 1.0
        return original(
            objective, optimizer, batch._replace(features=Snippets.of(batch.features.dense() * factor)), **more
        )

    monkeypatch.setattr(train, "train_step", poisoned)
    outcome = run(
        tiny.path, *("--exp_name", "x", "--log_steps", "100", "--eval_from_epoch", "3", "--save_minutes", "0")
    )
    assert outcome.code == 1 and "loss not finite at step 6 (epoch 2)" in outcome.err
    assert len(calls) == 8  # the end of the epoch, where it would have been saved
    assert load(tmp_path, "x").training["step"] == 4


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_that_breaks_during_a_run_loses_nothing(tiny, run, tmp_path, monkeypatch, split):
    """Files of --cache mmap that vanish: a step or an evaluation later the run ends, saved, and goes on once they are back."""
    flags = ("--cache", "mmap", "--num_workers", "0", "--detection_inf_step", "6", "--eval_from_epoch", "1")
    assert run(tiny.path, "--exp_name", "whole", *flags).code == 0
    folder, away = tiny.path / "features" / split, tmp_path / "away"
    original, calls = train.train_step, []

    def step_then_vanish(*args, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            folder.rename(away)
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", step_then_vanish)
        outcome = run(tiny.path, "--exp_name", "parts", *flags)
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert f"{folder}" in outcome.err and "saved at step 6: fix it and continue with --resume" in outcome.err
    away.rename(folder)
    assert run(tiny.path, "--exp_name", "parts", "--resume", *flags).code == 0
    assert_same(load(tmp_path, "whole").training, load(tmp_path, "parts").training)
    assert read_results(tmp_path, "whole")["history"] == read_results(tmp_path, "parts")["history"]
