"""--select: what is held out, which evaluation is chosen by what, and that a run's files are of that one."""

import json
import math
import pathlib

import numpy as np
import pytest
import torch
from support.runs import assert_same, interrupt_at, load, read_results
from support.tiny import load_tiny_set
from support.trained import tiny_network

from dataset import held_out_positions, hold_out
from eval.summary import EvaluationSummary
from model import combined_sequence
from options import DataOptions, EvaluationOptions, FusionOptions, LocalizationOptions
from run.experiment import Experiment
from run.history import EvaluationRecord, History
from test import video_loss
from utils.errors import InputError
from utils.snippet_grid import topk_count


@pytest.mark.parametrize("seed", range(20))
def test_every_class_keeps_a_training_video(seed):
    # The second class is in videos 1 and 2 alone, the third in 5 alone, which so is never held out.
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]], bool)
    held = held_out_positions(labels, share=0.5, seed=seed)
    assert len(held) == 3 and held == sorted(set(held))
    assert 5 not in held and not {1, 2} <= set(held)
    assert held == held_out_positions(labels, share=0.5, seed=seed)


def test_the_seed_draws():
    labels = np.ones((10, 1), bool)
    drawn = [held_out_positions(labels, share=0.3, seed=seed) for seed in range(200)]
    counts = np.bincount(np.concatenate(drawn), minlength=10)
    assert all(len(held) == 3 for held in drawn) and counts.min() > 30 and counts.max() < 90  # 60 each, sd 6.5


@pytest.mark.parametrize(("share", "count"), [(0.001, 1), (0.14, 1), (0.16, 2), (0.9, 9)])
def test_the_share_is_rounded_and_is_one_video_at_least(share, count):
    assert len(held_out_positions(np.ones((10, 1), bool), share=share, seed=1)) == count


def test_too_large_a_share_is_refused():
    with pytest.raises(InputError, match=r"--val_share 0.9: of 4 training videos 4 .* 2 can be, .* lower it, or give"):
        held_out_positions(np.repeat(np.eye(2, dtype=bool), 2, 0), share=0.9, seed=1)
    with pytest.raises(InputError, match=r"of 1 training video 1 would be held out"):
        held_out_positions(np.ones((1, 1), bool), seed=1, share=0.2)
    with pytest.raises(InputError, match=r"of 3 training videos 1 .* 0 can be, .* keep one; give --select last"):
        held_out_positions(np.eye(3, dtype=bool), share=0.2, seed=1)


@pytest.mark.parametrize("cache", ["ram", "device", "mmap"])
def test_held_out_videos_have_their_own_features(tiny, cache):
    whole = load_tiny_set(tiny.path, cache=cache)
    data = hold_out(whole, share=0.3, seed=1)
    assert data.held_out and len(data.held_out) == 2
    assert sorted(data.train.names + data.held_out.names) == sorted(whole.train.names)
    assert data.test is whole.test and sorted(v.video_id for v in data.videos) == sorted(
        v.video_id for v in whole.videos
    )
    for split in (data.train, data.held_out):
        for position, video in enumerate(split):
            rgb, flow = (np.load(tiny.feature("train", stream, video.video_id)) for stream in ("rgb", "flow"))
            expected = np.concatenate([rgb, flow], 1)[[0, 3]]
            np.testing.assert_array_equal(split.store.look(position, np.array([0, 3])), expected)
            features = split.store.prepare([position], np.array([[0, 3]]))().dense()[0]
            np.testing.assert_array_equal(features.numpy(), expected)


def test_the_loss_of_held_out_videos_is_that_of_the_class_logits(tiny):
    data, network = load_tiny_set(tiny.path), tiny_network()
    network.train()
    loss = video_loss(
        network,
        data.train,
        data_options=DataOptions(num_segments=24),
        fusion=FusionOptions(),
        localization=LocalizationOptions(beta=0.25),
        evaluation=EvaluationOptions(test_batch_size=3),
        eps=1e-10,
    )
    expected = []
    for position, video in enumerate(data.train):
        rows = np.arange(24) * video.num_snippets // 24
        output = network.eval()(torch.from_numpy(data.train.store.look(position, rows))[None])
        q, cas = combined_sequence(output, FusionOptions().weights)[0], output.cas[0]
        k = topk_count(0.125, 24)
        top = torch.stack([cas[q[:, c].topk(k).indices, c].mean() for c in range(3)])
        logits = 0.25 * top + 0.75 * output.video_logits[0]
        expected.append(-math.log(logits.softmax(0)[video.labels.argmax()].item()))
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_features_that_overflow_are_one_line(tiny):
    data, network = load_tiny_set(tiny.path), tiny_network()
    with torch.no_grad():
        network.snippet_classifier.bias.fill_(math.inf)
    options = {"fusion": FusionOptions(), "localization": LocalizationOptions(), "evaluation": EvaluationOptions()}
    with pytest.raises(InputError, match="held-out video 'train_0'"):
        video_loss(network, data.train, data_options=DataOptions(num_segments=24), **options, eps=1e-10)


def record(step, score):
    summary = EvaluationSummary(mAP={"0.5": score}, average_mAP={"0.5": score}, video_accuracy=score, per_class_AP={})
    return EvaluationRecord(step=step, epoch=1, summary=summary)


# mAP is best at step 20; the loss is least at 30, and as little at 40.
EVALUATIONS = [(10, 0.2, 1.5), (20, 0.4, 1.75), (30, 0.1, 0.5), (40, 0.3, 0.5)]


def history_of(select):
    history = History(Experiment(pathlib.Path("x")), average_tious=("0.5",), provenance={}, select=select)
    chosen = [
        step
        for step, score, loss in EVALUATIONS
        if history.add(record(step, score), val_loss=loss if select == "val" else None)
    ]
    return history, chosen


@pytest.mark.parametrize(("select", "chosen"), [("test", [10, 20]), ("last", [10, 20, 30, 40]), ("val", [10, 30])])
def test_what_is_selected_by_hand(select, chosen):
    history, found = history_of(select)
    assert found == chosen and history.selected.step == chosen[-1]
    results = history.results(step=40, finished=True)
    assert (results["select"], results["best"]["step"], results["last"]["step"]) == (select, 20, 40)
    assert (results["val"] and results["val"]["step"]) == (30 if select == "val" else None)
    assert [point["val_loss"] for point in results["history"]] == (
        [1.5, 1.75, 0.5, 0.5] if select == "val" else [None] * 4
    )
    again = History(Experiment(pathlib.Path("x")), average_tious=("0.5",), provenance={}, select=select)
    again.restore(history.as_plain())
    assert again.as_plain() == history.as_plain() and again.selected == history.selected


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (lambda plain: plain.update(val=None), "least loss"),
        (lambda plain: plain.update(val=plain["last"]), "least loss"),
        (lambda plain: plain["history"][1].update(val_loss=0.25), "least loss"),
        (lambda plain: plain["history"][1].update(val_loss=None), "--select"),
        (lambda plain: plain["history"][1].update(val_loss=-1.0), "a loss of the history"),
        (lambda plain: plain["history"][1].update(val_loss=math.nan), "a loss of the history"),
        (lambda plain: plain["val"]["mAP"].update({"0.7": 0.1}), "different tIoUs"),
    ],
)
def test_an_altered_choice_is_found(alter, named):
    history, _ = history_of("val")
    plain = json.loads(json.dumps(history.as_plain()))
    alter(plain)
    with pytest.raises(ValueError, match=named):
        history.restore(plain)


def test_an_evaluation_in_words():
    history = History(Experiment(pathlib.Path("x")), average_tious=("0.5",), provenance={}, select="val")
    said = []
    for step, score, loss in EVALUATIONS:
        history.add(record(step, score), val_loss=loss)
        said.append(history.describe_last())
    assert said == [
        "average mAP 0.5 20.0 %, video accuracy 20.0 %, the best so far; loss on held-out videos 1.5000, the least so far",
        "average mAP 0.5 40.0 %, video accuracy 40.0 %, the best so far; loss on held-out videos 1.7500",
        "average mAP 0.5 10.0 %, video accuracy 10.0 %; loss on held-out videos 0.5000, the least so far",
        "average mAP 0.5 30.0 %, video accuracy 30.0 %; loss on held-out videos 0.5000",
    ]


def test_a_history_of_another_selection_is_refused():
    with pytest.raises(ValueError, match="--select"):
        history_of("test")[0].restore(history_of("val")[0].as_plain())


OFTEN = ("--detection_inf_step", "2", "--eval_from_epoch", "1", "--save_minutes", "0")


@pytest.mark.parametrize(("select", "step"), [("val", 5), ("val", 8), ("last", 5)])
def test_a_run_and_its_files_are_of_what_is_selected_interrupted_or_not(tiny, run, tmp_path, monkeypatch, select, step):
    flags = (*OFTEN, "--select", select, "--keep_state")
    whole = run(tiny.path, "--exp_name", "whole", *flags)
    assert whole.code == 0, whole.err
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        assert run(tiny.path, "--exp_name", "parts", *flags).code == 1
    assert run(tiny.path, "--exp_name", "parts", "--resume", *flags).code == 0
    results = read_results(tmp_path, "whole")
    for name in ("select", "best", "last", "val", "history", *(["held_out"] if select == "val" else [])):
        assert results[name] == read_results(tmp_path, "parts")[name], name
    for name in ("last.pt", "best.pt"):
        one, other = (load(tmp_path, experiment, name) for experiment in ("whole", "parts"))
        assert_same(one.model, other.model)
        assert_same(one.training, other.training)
    best = load(tmp_path, "whole", "best.pt").training
    assert best["step"] == results[select]["step"] and best[select] == results[select]
    again = run(tiny.path, "--exp_name", "whole", "--inference_only")
    assert again.code == 0, again.err
    inferred = json.loads((tmp_path / "out" / "whole" / "inference" / "results.json").read_text())
    assert inferred["mAP"] == results[select]["mAP"]
    assert f"best.pt and detections_best.json: {select}, step {best['step']}" in whole.out


def test_held_out_videos_are_not_trained_on_and_are_listed(tiny, run, tmp_path):
    outcome = run(tiny.path, "--exp_name", "x", "--select", "val", "--val_share", "0.3", *OFTEN)
    assert outcome.code == 0 and "5 training, 2 held-out and 4 test videos" in outcome.out
    results, digest = read_results(tmp_path, "x"), load(tmp_path, "x").training["data"]
    assert results["held_out"] == digest["held_out"]["videos"] and len(results["held_out"]) == 2
    assert not set(results["held_out"]) & set(digest["train"]["videos"])
    assert len(digest["train"]["videos"]) == 5 and results["steps"] == 9  # 3 epochs of 3 steps
    losses = {point["step"]: point["val_loss"] for point in results["history"]}
    assert results["val"]["step"] == min(losses, key=losses.get)


def test_the_choice_does_not_look_at_the_test_videos_truth(tiny, run, tmp_path):
    assert run(tiny.path, "--exp_name", "a", "--select", "val", *OFTEN).code == 0

    def spoil(database):
        for name, entry in database.items():
            if name.startswith("test"):
                entry["annotations"] = [{"label": "Dive", "segment": [0.0, 0.5]}]

    tiny.edit_gt(spoil)
    assert run(tiny.path, "--exp_name", "b", "--select", "val", *OFTEN).code == 0
    one, other = (read_results(tmp_path, name) for name in "ab")
    assert [p["val_loss"] for p in one["history"]] == [p["val_loss"] for p in other["history"]]
    assert one["val"]["step"] == other["val"]["step"] and one["val"]["mAP"] != other["val"]["mAP"]
    assert_same(load(tmp_path, "a", "best.pt").model, load(tmp_path, "b", "best.pt").model)


def test_a_last_pt_from_before_selections_resumes(tiny, run, tmp_path, monkeypatch):
    run(tiny.path, "--exp_name", "whole", "--keep_state")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 9)
        run(tiny.path, "--exp_name", "old", "--keep_state")
    path = tmp_path / "out" / "old" / "last.pt"
    content = torch.load(path, weights_only=True)
    del content["training"]["val"], content["options"]["select"], content["options"]["val_share"]
    for point in content["training"]["history"]:
        del point["val_loss"]
    torch.save(content, path)
    outcome = run(tiny.path, "--exp_name", "old", "--resume")
    assert outcome.code == 0, outcome.err
    assert_same(load(tmp_path, "whole").training, load(tmp_path, "old").training)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--val_share", "0.3"), "--val_share is only read with --select val"),
        (("--val_share", "0.3", "--select", "last"), "--val_share is only read with --select val"),
        (("--select", "val", "--val_share", "1"), "--val_share"),
        (("--select", "val", "--val_share", "0.9"), "every class is to keep one"),
        (("--select", "best"), "--select"),
    ],
)
def test_mistakes_are_one_line(tiny, refused_with, flags, named):
    assert named in refused_with(tiny.path, "--exp_name", "x", *flags)


def test_another_selection_is_not_resumed(tiny, run):
    assert run(tiny.path, "--exp_name", "x", "--select", "last").code == 0
    outcome = run(tiny.path, "--exp_name", "x", "--resume", "--select", "val")
    assert outcome.code == 2 and "--select is val, the experiment has last" in outcome.err


@pytest.mark.parametrize(
    "flags",
    [
        ("--eval_workers", "1"),
        ("--cache", "mmap"),
        ("--cache", "device"),
        ("--no_second_order", "--no_actionness"),
        ("--dataset", "activitynet1.3", "--batch_size", "2", "--num_epochs", "3"),  # videos of different lengths
    ],
)
def test_the_choice_is_that_of_the_losses_however_a_run_runs(tiny, run, tmp_path, flags):
    assert run(tiny.path, "--exp_name", "x", "--select", "val", *OFTEN, *flags).code == 0
    results = read_results(tmp_path, "x")
    losses = {point["step"]: point["val_loss"] for point in results["history"]}
    assert list(losses) == [2, 4, 6, 8, 9] and results["val"]["step"] == min(losses, key=losses.get)
    if flags[0] in ("--eval_workers", "--cache"):
        run(tiny.path, "--exp_name", "plain", "--select", "val", *OFTEN)
        assert read_results(tmp_path, "plain")["history"] == results["history"]


def test_another_held_out_video_is_not_resumed(tiny, run, tmp_path):
    flags = ("--exp_name", "x", "--select", "val", "--num_epochs", "1")
    assert run(tiny.path, *flags).code == 0
    (name,) = read_results(tmp_path, "x")["held_out"]
    file = tiny.feature("train", "rgb", name)
    np.save(file, np.load(file) + 1)
    outcome = run(tiny.path, *flags, "--resume")
    assert outcome.code == 2 and f"feature values of 1 held-out video ('{name}') changed" in outcome.err
