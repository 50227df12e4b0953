"""Training by several ranks, against one process: losses, gradients, weights and files; and how ranks fail."""

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.networks import build_model
from support.paths import ROOT
from support.ranks import Hook, StartedRanks, run_ranks
from support.tiny import FEATURE_SIZE, load_tiny_set, tiny_flags

from dataset import Share, hold_out
from options import resolve
from ranks import pulse
from ranks.evaluation import dealt_out, fingerprint, shared_evaluator
from ranks.exchange import goes_as_rows
from ranks.meeting import check_same
from ranks.training import dropout_seed, in_short, share_state
from run.checkpoint import load_checkpoint
from run.data_digest import data_digest
from self_training import ProposalLessons
from train import build_training
from utils.errors import InputError, TrainingError

# Dropout is drawn by each rank; log_steps 1: a point of the curves for every step.
FLAGS = (
    "--dropout",
    "0",
    "--threads",
    "1",
    "--keep_state",
    "--log_steps",
    "1",
    "--detection_inf_step",
    "5",
)

TAUGHT = ("--pseudo_source", "classes", "--teacher_decay", "0.99", "--lr_schedule", "cosine", "--w_self", "1")


def without_length(flags):
    """The tiny set's flags for a run with these, which say how long it is."""
    tiny = tiny_flags(flags)
    length = tiny.index("--num_epochs")
    return [*tiny[:length], *tiny[length + 2 :], *FLAGS]


@pytest.fixture
def train(tiny, tmp_path):
    """train(name, *flags, count=2): the folder of a run by that many ranks."""

    def call(name, *flags, count=2):
        fixed = ("--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", name)
        ends = run_ranks([*without_length(flags), *fixed, *flags], tmp_path / f"of {name}", count=count)
        assert {rank: end.code for rank, end in ends.items()} == dict.fromkeys(range(count), 0), ends
        assert all(not end.out and not end.err for rank, end in ends.items() if rank)
        return tmp_path / "out" / name

    return call


def losses(folder):
    """{step: {loss: value}}"""
    found = {}
    for line in (folder / "curves.jsonl").read_text().splitlines():
        point = json.loads(line)
        terms = {name: value for name, value in point.get("values", point).items() if name.startswith("loss/")}
        if terms:
            found[point["step"]] = terms
    return found


def numbers(folder):
    """Weights, a teacher's too, mask statistics, lessons and moments, means of all gradients and of their squares, by name."""
    last = load_checkpoint(folder / "last.pt")
    state = last.training["optimizer"]["state"]
    moments = {f"{i}.{name}": value for i, of in state.items() for name, value in of.items()}
    teacher = last.training.get("teacher", {"weights": {}})["weights"]
    others = {"mask": last.training["mask"], "teacher": teacher, "lessons": last.training.get("lessons", {})}
    named = {f"{part}.{name}": value for part, values in others.items() for name, value in values.items()}
    return {**last.model, **moments, **named}


def assert_same_numbers(found, expected, *, tolerance=1e-5):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=tolerance * max(value.abs().max().item(), 1e-30), msg=name
        )


@pytest.mark.parametrize(
    ("size", "count", "flags"),
    [
        ("2", 2, ["--no_mixup"]),
        ("4", 2, []),
        ("3", 3, []),
        ("4", 2, ["--no_actionness", "--no_propagation"]),
        ("4", 2, TAUGHT),
        ("3", 3, ["--pseudo_source", "classes", "--teacher_decay", "0.99", "--no_mask", "--w_self", "1"]),
    ],
)
def test_ranks_compute_what_one_process_does(train, size, count, flags):
    """Over the end of an epoch, whose last batch of the 7 videos is smaller than the others: some ranks have no video."""
    flags = ("--batch_size", size, "--num_iters", "5", *flags)
    alone, shared = train("alone", *flags, count=1), train("shared", *flags, count=count)
    expected = losses(alone)
    assert len(expected) == 5
    for step, terms in losses(shared).items():
        assert terms == pytest.approx(expected[step], rel=1e-5, abs=1e-6), step
    assert_same_numbers(numbers(shared), numbers(alone))


def test_an_evaluation_by_ranks_is_that_of_one_process_to_the_byte(train):
    flags = (
        "--num_iters",
        "2",
        "--lr",
        "1e-38",
        "--test_batch_size",
        "1",
        "--batch_size",
        "3",
    )  # so that the weights stay the same
    folders = {count: train(f"by-{count}", *flags, count=count) for count in (1, 3)}
    results = {count: json.loads((folder / "results.json").read_text()) for count, folder in folders.items()}
    assert [results[count].pop("ranks") for count in results] == [1, 3]
    kept = ("best", "last", "history", "steps", "left_out")
    assert {name: results[1][name] for name in kept} == {name: results[3][name] for name in kept}
    files = [(folder / "detections_best.json").read_bytes() for folder in folders.values()]
    assert files[0] == files[1]


def test_batches_are_dealt_out_by_length():
    assert dealt_out([5, 1, 4, 3, 3], 2) == [[0, 4], [1, 2, 3]]
    assert dealt_out([1], 3) == [[0], [], []]


def test_shares_of_a_batch():
    assert [list(Share(rank, 3).of(7)) for rank in range(3)] == [[0, 1, 2], [3, 4], [5, 6]]
    assert [list(Share(rank, 3).of(1)) for rank in range(3)] == [[0], [], []]


@pytest.mark.parametrize("more", [(), TAUGHT], ids=["published", "taught"])
def test_a_job_that_is_resumed_has_the_numbers_of_one_that_was_not(train, tiny, tmp_path, more):
    """With dropout, whose draws are each rank's own; and with another number of ranks it goes on, too."""
    flags = ("--batch_size", "2", "--dropout", "0.5", *more)
    whole = train("whole", *flags, "--num_iters", "6")
    fixed = ("--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", "cut")
    stopped = StartedRanks(
        [*without_length(flags), *fixed, *flags, "--num_iters", "6"],
        tmp_path / "cut",
        own_hook={0: Hook(4, number=signal.SIGTERM)},
    ).ended()
    assert stopped[0].code == 1 and "interrupted at step 4 of 6" in stopped[0].err
    cut = tmp_path / "out" / "cut"
    shutil.copytree(cut, tmp_path / "out" / "other")
    goes_on = ("--output_dir", str(tmp_path / "out"), "--resume", "--exp_name")
    ended = run_ranks([*goes_on, "cut"], tmp_path / "on")
    assert [end.code for end in ended.values()] == [0, 0], ended
    assert_same_numbers(numbers(cut), numbers(whole), tolerance=0)
    assert not more or numbers(cut)["lessons.taught"].any()
    ended = run_ranks([*goes_on, "other"], tmp_path / "of other", count=1)
    assert ended[0].code == 0, ended
    assert "the run had 2 ranks (now 1 rank)" in ended[0].out
    results = [json.loads((tmp_path / "out" / name / "results.json").read_text()) for name in ("cut", "other")]
    assert results[0]["changed"] == [] and "from step 5 on: the run had 2 ranks" in results[1]["changed"][0]


@pytest.fixture
def failing(tiny, tmp_path):
    """failing(count=..., own_flags=...): how the ranks of a job end that can't be, or that one of them leaves."""

    def call(*flags, **more):
        fixed = ("--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", "x")
        return run_ranks([*without_length(()), *fixed, "--rank_timeout", "5", *flags], tmp_path / "ends", **more)

    return call


def told(ends, *, by=0):
    """The one line that one rank prints; all have ended, and in time."""
    assert ends[by].code in (1, 2) and all(end.code in (0, 1, 2, -signal.SIGKILL) for end in ends.values()), ends
    assert all(end.seconds < 50 for end in ends.values())
    lines = [(rank, line) for rank, end in ends.items() for line in end.err.splitlines() if "main.py" in line]
    assert [rank for rank, _ in lines] == [by], ends
    assert not any("Traceback" in end.err for end in ends.values())
    return lines[0][1]


def test_a_batch_that_does_not_divide(failing, tmp_path):
    assert "--batch_size 3: is the number of videos of all ranks together" in told(failing("--batch_size", "3"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("agent", [False, True])
def test_other_options_on_another_rank(failing, agent):
    line = told(failing(own_flags={1: ["--lr", "1"]}, agent=agent))
    assert "rank 1 (on " in line and "--lr 1.0, rank 0 with --lr 0.01" in line


def test_a_rank_without_its_device(failing):
    line = told(failing(own_flags={1: ["--device", "cuda"]}))
    assert "rank 1 (on " in line and "--device cuda: no CUDA GPU" in line


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"device": "cuda, H100"}, "has device cuda, H100, rank 0 cpu, AVX2; ranks must be of one kind"),
        ({"torch": "2.11"}, "has torch 2.11, rank 0 2.13; ranks must be of one kind"),
        ({"options": {}}, "was started with no --lr, rank 0 with --lr 1; give all ranks the same flags"),
    ],
)
def test_ranks_must_be_of_one_kind(other, said):
    first = {"host": "a", "options": {"lr": 1}, "device": "cpu, AVX2", "torch": "2.13"}
    check_same(first, {**first, "host": "b"}, 2)
    with pytest.raises(InputError, match=re.escape(f"rank 2 (on b) {said}")):
        check_same(first, {**first, "host": "b", **other}, 2)


def test_a_rank_that_never_arrives(failing):
    assert "of 3 ranks, 2 did not arrive within 5 s" in told(failing(count=3, absent=[2]))


def test_rank_0_never_arrives(failing):
    assert "rank 1: rank 0 can't be reached" in told(failing(absent=[0]), by=1)


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (Hook(3, number=signal.SIGKILL), "has ended, or hangs"),
        (Hook(3, number=signal.SIGSTOP), "has ended, or hangs"),
        (Hook(3, error="rgb/v.npy: holds NaN"), "rgb/v.npy: holds NaN"),
    ],
)
def test_a_rank_that_dies_hangs_or_fails_is_named(failing, hook, reason):
    started = failing("--num_epochs", "3", "--batch_size", "3", own_hook={2: hook}, count=3, stopped=[2])
    line = told(started)
    assert "rank 2 (on " in line and reason in line


def test_a_rank_that_is_stuck_is_named(failing):
    """It shows signs of life, but the others wait for it: so many times --rank_timeout at most."""
    hook = {0: Hook(99, stuck_after=1), 1: Hook(3, hangs=True)}
    ends = failing("--num_epochs", "3", own_hook=hook, stopped=[1])
    line = told(ends)
    assert "rank 1 (on " in line and "hangs: the others have waited for it for 5 s" in line


def test_broken_features_on_a_rank_end_a_run_saved(failing, train, tmp_path):
    """At the step before, whose save may take longer than ranks wait; it goes on to the numbers of an undisturbed run."""
    flags = ("--batch_size", "2", "--dropout", "0.5", "--num_iters", "6")
    whole = train("whole", *flags)
    hooks = {0: Hook(99, slow_saves=8), 1: Hook(3, error="rgb/v.npy: holds NaN")}
    line = told(failing(*flags, own_hook=hooks))
    assert "rgb/v.npy: holds NaN; saved at step 2: fix it and continue with --resume" in line
    ends = run_ranks(("--output_dir", str(tmp_path / "out"), "--exp_name", "x", "--resume"), tmp_path / "on")
    assert [end.code for end in ends.values()] == [0, 0], ends
    assert_same_numbers(numbers(tmp_path / "out" / "x"), numbers(whole), tolerance=0)


def test_a_signal_to_another_rank_than_0_changes_nothing(train, tiny, tmp_path):
    """torchrun passes signals on to all ranks of a machine; rank 0 decides."""
    fixed = (
        "--data_path",
        str(tiny.path),
        "--output_dir",
        str(tmp_path / "out"),
        "--exp_name",
        "x",
        "--num_iters",
        "3",
    )
    ends = run_ranks([*without_length(()), *fixed], tmp_path / "ends", own_hook={1: Hook(2, number=signal.SIGTERM)})
    assert [end.code for end in ends.values()] == [0, 0], ends


@pytest.mark.parametrize("step", [0, 5])
def test_the_state_that_all_begin_with(tiny, monkeypatch, step):
    """Teacher and lessons too, which a rank that joins a resumed run can't know; moments where there are any."""
    flags = {"num_segments": 24, "feature_size": FEATURE_SIZE, "hidden_size": 8, "pseudo_source": "classes"}
    options = resolve({**flags, "teacher_decay": 0.9, "w_self": 1.0})
    videos, sent = load_tiny_set(tiny.path).train, []
    for rank in (0, 1):
        torch.manual_seed(rank)
        objective, optimizer = build_training(build_model(options, 3, seed=rank), options, torch.device("cpu"))
        lessons = ProposalLessons.of(objective.model, videos, options)
        optimizer.make_moments()
        moments = [value for p in objective.model.parameters() for value in optimizer.state[p].values()]
        state = [*objective.teacher.tensors, *objective.mask.buffers(), *objective.model.parameters(), lessons.taught]
        with torch.no_grad():
            for value in (*state, *moments):
                value.fill_(rank + 1)

        def exchange(tensors, rank=rank):
            if rank:
                for own, value in zip(tensors, sent, strict=True):
                    own.copy_(value)
            else:
                sent.extend(value.clone() for value in tensors)

        monkeypatch.setattr("ranks.training.broadcast", exchange)
        share_state(objective, optimizer, waiting_for_none(), step=step, lessons=lessons)
    assert all((value == 1).all() for value in state)
    assert all((value == (1 if step else 2)).all() for value in moments)


def waiting_for_none():
    return SimpleNamespace(pulse=SimpleNamespace(waiting=contextlib.nullcontext))


def test_what_other_data_are(tiny):
    """Other times of files are not."""
    found = in_short(data_digest(load_tiny_set(tiny.path), rows=4))
    for path in tiny.path.rglob("*.npy"):
        os.utime(path, (1, 1))
    held_out = hold_out(load_tiny_set(tiny.path), share=0.3, seed=1)
    assert in_short(data_digest(load_tiny_set(tiny.path), rows=4)) == found
    before = in_short(data_digest(held_out, rows=4))
    for path in tiny.path.rglob("*.npy"):
        os.utime(path, (2, 2))
    assert in_short(data_digest(hold_out(load_tiny_set(tiny.path), share=0.3, seed=1), rows=4)) == before != found
    file = tiny.feature("train", "rgb", "train_0")
    np.save(file, np.load(file) + 1)
    assert in_short(data_digest(load_tiny_set(tiny.path), rows=4)) != found


def test_draws_of_dropout_differ_by_rank_and_step():
    seeds = {dropout_seed(seed, rank, step) for seed in (1, 2) for rank in (1, 2) for step in (0, 1)}
    assert len(seeds) == 8 and dropout_seed(1, 1, 0) in seeds


@pytest.mark.parametrize(
    ("shape", "rows", "goes"),
    [((512, 512**2), 32, True), ((20, 512**2), 6, True), ((20, 512**2), 96, False), ((200, 512**2), 96, True)],
)
def test_what_goes_as_rows(shape, rows, goes):
    assert goes_as_rows(torch.empty(shape, device="meta"), rows=rows) is goes


def test_a_rank_predicts_its_share_of_the_batches(tiny, monkeypatch):
    groups, gathered = [], []

    def predict(self, of_rank):
        groups.extend(of_rank)
        return {}

    monkeypatch.setattr("test.Evaluator.predict_groups", predict)
    monkeypatch.setattr("torch.distributed.gather_object", lambda own, parts, to: gathered.append(own))
    options = resolve({"feature_size": FEATURE_SIZE, "hidden_size": 8, "num_segments": 24, "test_batch_size": 1})
    network = build_model(options, 3)
    ranks = SimpleNamespace(rank=1, count=3, pulse=SimpleNamespace(waiting=contextlib.nullcontext))
    evaluator = shared_evaluator(network, load_tiny_set(tiny.path), options, ranks)
    evaluator.predict_share()
    assert len(evaluator.groups) == 4 and len(groups) in (1, 2)
    assert gathered == [(fingerprint(network), {})]


def test_a_rank_whose_weights_drift_is_named(failing):
    line = told(failing("--num_epochs", "3", own_hook={1: Hook(3, drifts=True)}))
    assert "rank 1 (on " in line and "has other weights than rank 0" in line


class SilentStore:
    """A store whose machine is gone: nothing fails, and no answer comes."""

    def set(self, key, value):
        pass

    def check(self, keys):
        threading.Event().wait()


def test_a_store_that_does_not_answer_ends_a_rank(monkeypatch, capfd):
    ended = queue.SimpleQueue()
    monkeypatch.setattr(pulse, "GRACE", 0.2)
    monkeypatch.setattr(os, "_exit", ended.put)
    watch = pulse.Pulse(SilentStore(), rank=1, hosts=("a", "b"), seconds=0.5)
    with watch.waiting():
        assert ended.get(timeout=20) == 1
    with pytest.raises(TrainingError, match=r"rank 0 \(on a\) or its machine can't be reached"):
        watch.check()
    watch.close()
    assert "rank 0 (on a) or its machine can't be reached: no answer for 0.5 s" in capfd.readouterr().err


def test_a_job_without_its_rank_0_ends(failing):
    assert "rank 0 (on " in told(failing("--num_epochs", "3", own_hook={0: Hook(3, number=signal.SIGKILL)}), by=1)


@pytest.mark.parametrize("flags", [["--predict", "x"], ["--inference_only"], ["--check_data"], ["--report"]])
def test_what_works_in_one_process_alone(tmp_path, flags):
    assert f"{flags[0]}: works in one process" in told(run_ranks(flags, tmp_path / "ends"))


def test_compiled_steps_are_not_shared(failing):
    assert "--compile: works in one process" in told(failing("--compile"))


def test_as_torchrun_starts_it(tiny, tmp_path):
    place = ("--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", "x")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", str(ROOT / "main.py")]
    done = subprocess.run(
        [*command, *without_length(()), *place, "--num_iters", "2"], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ranks: 2") == 1 and (tmp_path / "out" / "x" / "results.json").exists()
