"""Evaluations in worker processes and saves in the background: the files of a run that waits for each, bit for bit."""

import contextlib
import json
import os
import signal
import subprocess
import threading

import pytest
import torch
from support.failing import killed_at
from support.paths import ROOT
from support.tiny import TINY_FLAGS
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import train
from run import background, saving
from run.background import Worker
from run.checkpoint import load_checkpoint
from run.evaluating import worker_count
from utils.errors import InputError

# 12 steps, an evaluation every 2 of them, a save whenever one is due.
FLAGS = ("--detection_inf_step", "2", "--eval_from_epoch", "1", "--save_minutes", "0", "--keep_state")
OFTEN = ("--detection_inf_step", "1", "--eval_from_epoch", "1", "--save_minutes", "9", "--keep_state")
WORKERS = ("--eval_workers", "1")


@pytest.fixture
def background_saves(monkeypatch):
    """What the trainer does on a GPU, on this machine."""
    original = train.Trainer.__init__
    monkeypatch.setattr(train.Trainer, "__init__", lambda *a, **k: original(*a, **k, background_saves=True))


def without(plain, *names):
    """A JSON value without these keys, wherever they are."""
    if isinstance(plain, dict):
        return {key: without(value, *names) for key, value in plain.items() if key not in names}
    return [without(value, *names) for value in plain] if isinstance(plain, list) else plain


def files(folder):
    """What a run has left, but for what depends on the clock and on the number of workers."""
    checkpoints = {}
    for name in ("best.pt", "last.pt"):
        checkpoint = load_checkpoint(folder / name)
        tensors = {f"model.{key}": value for key, value in checkpoint.model.items()}
        training = dict(checkpoint.training)
        optimizer = training.pop("optimizer", None) or {"state": {}}
        tensors |= {f"{key}.{part}": v for key, state in optimizer["state"].items() for part, v in state.items()}
        tensors |= {f"mask.{key}": value for key, value in training.pop("mask", {}).items()}
        random = training.pop("random", {"cpu": None})["cpu"]
        tensors |= {} if random is None else {"random": random}
        plain = without({**training, "classes": checkpoint.classes}, "seconds")
        checkpoints[name] = ({key: value.numpy().tobytes() for key, value in tensors.items()}, plain)
    results = without(json.loads((folder / "results.json").read_text()), "seconds", "options", "command")
    return checkpoints, results, (folder / "detections_best.json").read_bytes()


def points(folder):
    """{(curve, step): value} of evaluations."""
    found = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if not value.tag.startswith(("seconds", "loss", "_hparams_")):
                    found[value.tag, event.step] = value.tensor.float_val[0]
    return found


def lines(outcome):
    return [line for line in outcome.out.splitlines() if line.startswith("step ")]


@pytest.fixture
def whole(tiny, run, tmp_path):
    """whole(flags, number): a run that waits for each evaluation."""

    def call(*flags):
        outcome = run(tiny.path, "--exp_name", "whole", "--eval_workers", "0", *flags)
        assert outcome.code == 0
        return outcome, files(tmp_path / "out" / "whole")

    return call


@pytest.mark.parametrize(("seed", "workers", "flags"), [("1", "1", FLAGS), ("2", "2", OFTEN)])
def test_a_run_with_workers_is_the_run_without(tiny, run, tmp_path, whole, background_saves, seed, workers, flags):
    expected, content = whole("--seed", seed, *flags)
    outcome = run(tiny.path, "--exp_name", "x", "--seed", seed, "--eval_workers", workers, *flags)
    assert outcome.code == 0 and lines(outcome) == lines(expected)
    assert files(tmp_path / "out" / "x") == content
    assert points(tmp_path / "out" / "x") == points(tmp_path / "out" / "whole")
    assert not [path for path in (tmp_path / "out" / "x").iterdir() if path.name.endswith(".tmp")]


def at_submit(monkeypatch, act, *, call):
    """Have act(worker) called just after that job was handed over."""
    original, calls = Worker.submit, []

    def submit(worker, job):
        original(worker, job)
        calls.append(job)
        if len(calls) == 1 + call:  # the first is the function
            act(worker)

    monkeypatch.setattr(Worker, "submit", submit)


@pytest.mark.parametrize(
    ("call", "number", "reason"),
    [(call, signal.SIGKILL, "was killed (SIGKILL)") for call in (1, 3, 6)]
    + [(3, signal.SIGSTOP, "did not answer for 1 seconds and was ended")],
)
def test_a_worker_that_is_killed_or_hangs_costs_time_alone(
    tiny, run, tmp_path, monkeypatch, whole, call, number, reason
):
    expected, content = whole(*OFTEN)
    if number == signal.SIGSTOP:
        monkeypatch.setattr(background, "PATIENCE", 1)
    at_submit(monkeypatch, lambda worker: os.kill(worker.pid, number), call=call)
    outcome = run(tiny.path, "--exp_name", "x", *OFTEN, *WORKERS)
    assert outcome.code == 0 and lines(outcome) == lines(expected)
    (note,) = (line for line in outcome.out.splitlines() if "worker process" in line)
    assert reason in note and "in the training process" in note
    assert files(tmp_path / "out" / "x") == content


def failing_judge(monkeypatch, tmp_path, statement):
    """Have workers, and workers alone, import a Judge whose localization does this."""
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import os
from eval import judging
from utils.errors import InputError
original = judging.localize
def localize(predictions, options, *, grid, begin):
    def report(block):
        begin(block)
        {statement}
    return original(predictions, options, grid=grid, begin=report)
judging.localize = localize
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("os.kill(os.getpid(), 9)", "was killed (SIGKILL)"),
        ("raise MemoryError('no room')", "failed (MemoryError: no room)"),
        ("os._exit(5)", "ended with code 5"),
    ],
)
def test_a_death_names_the_videos(tiny, run, tmp_path, monkeypatch, whole, statement, reason):
    _, content = whole(*FLAGS)
    failing_judge(monkeypatch, tmp_path, statement)
    outcome = run(tiny.path, "--exp_name", "x", *FLAGS, *WORKERS)
    assert outcome.code == 0
    place = "at one of the videos 'test_0', 'test_1', 'test_2' and 1 more"
    assert outcome.out.count(f"note: the worker process for the evaluation of step 2 {reason} {place};") == 1
    assert files(tmp_path / "out" / "x") == content


def test_what_a_worker_refuses_stops_the_run_whole(tiny, run, tmp_path, monkeypatch):
    failing_judge(monkeypatch, tmp_path, "raise InputError('localization: overflow; is --gamma sensible?')")
    outcome = run(tiny.path, "--exp_name", "x", *FLAGS, *WORKERS)
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert (
        "localization: overflow; is --gamma sensible?; last.pt is intact: fix it and continue with --resume"
        in outcome.err
    )
    folder = tmp_path / "out" / "x"
    training = load_checkpoint(folder / "last.pt").training
    assert training["step"] == 2 and training["history"] == [] and not (folder / "best.pt").exists()
    monkeypatch.delenv("PYTHONPATH")
    assert run(tiny.path, "--exp_name", "x", *FLAGS, "--resume").code == 0


@pytest.mark.parametrize("step", [2, 5, 12])
@pytest.mark.parametrize("first", [("0", "1"), ("1", "0"), ("1", "1")], ids="-".join)
def test_an_interrupted_run_goes_on_to_the_same_files(
    tiny, run, tmp_path, monkeypatch, whole, background_saves, step, first
):
    _, content = whole(*FLAGS)
    original, calls = train.train_step, []

    def interrupted(*args, **more):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", interrupted)
        outcome = run(tiny.path, "--exp_name", "x", *FLAGS, "--eval_workers", first[0])
    assert outcome.code == 1 and f"interrupted at step {step} of 12" in outcome.err
    assert run(tiny.path, "--exp_name", "x", *FLAGS, "--resume", "--eval_workers", first[1]).code == 0
    assert files(tmp_path / "out" / "x") == content


def test_an_interrupt_while_a_worker_judges_saves_what_came_before(tiny, run, tmp_path, monkeypatch, whole):
    """The worker is stopped in its work until the run waits for it."""
    _, content = whole(*OFTEN)

    def continue_(worker):
        with contextlib.suppress(ProcessLookupError):  # nobody had to wait for it
            os.kill(worker.pid, signal.SIGCONT)

    def stop(worker):
        os.kill(worker.pid, signal.SIGSTOP)
        threading.Timer(0.3, continue_, [worker]).start()
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        at_submit(patch, stop, call=5)
        outcome = run(tiny.path, "--exp_name", "x", *OFTEN, *WORKERS)
    assert outcome.code == 1 and "interrupted at step 5 of 12" in outcome.err
    training = load_checkpoint(tmp_path / "out" / "x" / "last.pt").training
    assert [point["step"] for point in training["history"]] == [1, 2, 3, 4]  # the fifth is made again
    assert run(tiny.path, "--exp_name", "x", *OFTEN, "--resume", *WORKERS).code == 0
    assert files(tmp_path / "out" / "x") == content


def test_a_loss_that_is_not_finite_loses_no_evaluation(tiny, run, tmp_path, monkeypatch):
    original, calls = train.sal_losses, []

    def spoiled(*args, **kwargs):
        losses = original(*args, **kwargs)
        calls.append(1)
        return {name: term * float("nan") if len(calls) == 4 else term for name, term in losses.items()}

    monkeypatch.setattr(train, "sal_losses", spoiled)
    assert "loss not finite at step 4" in run(tiny.path, "--exp_name", "x", *OFTEN, *WORKERS).err
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert [point["step"] for point in results["history"]] == [1, 2, 3]
    assert load_checkpoint(tmp_path / "out" / "x" / "best.pt").training["best"] == results["best"]


def test_a_full_disk_in_the_background_is_told_as_usual(tiny, run, tmp_path, monkeypatch, background_saves):
    original = saving.save_checkpoint

    def full(path, checkpoint):
        if path.name == "last.pt" and checkpoint.training["step"] > 4:
            raise InputError(f"{path}: can't be written (No space left on device)")
        original(path, checkpoint)

    monkeypatch.setattr(saving, "save_checkpoint", full)
    outcome = run(tiny.path, "--exp_name", "x", *FLAGS)
    assert outcome.code == 2 and "last.pt: can't be written (No space left on device)" in outcome.err
    assert load_checkpoint(tmp_path / "out" / "x" / "last.pt").training["step"] == 4


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("background_save", [False, True])
def test_without_a_last_pt_there_is_no_best_pt(tiny, run, tmp_path, monkeypatch, workers, background_save):
    """Where a disk has room for the smaller of them alone; the same command starts over."""
    original, init = saving.save_checkpoint, train.Trainer.__init__

    def full(path, checkpoint):
        if path.name == "last.pt":
            raise InputError(f"{path}: can't be written (No space left on device)")
        original(path, checkpoint)

    flags = ("--exp_name", "x", *FLAGS, "--eval_workers", workers)
    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_checkpoint", full)
        patch.setattr(train.Trainer, "__init__", lambda *a, **k: init(*a, **k, background_saves=background_save))
        outcome = run(tiny.path, *flags)
    assert outcome.code == 2 and "last.pt: can't be written (No space left on device)" in outcome.err
    assert not {"best.pt", "results.json"} & {path.name for path in (tmp_path / "out" / "x").iterdir()}
    assert run(tiny.path, *flags).code == 0


def test_a_save_in_the_background_is_of_its_moment(tiny, run, monkeypatch, background_saves):
    """The save after step 4 is written after step 6, and is of step 4 all the same."""
    original, step, steps, saved = saving.save_checkpoint, train.train_step, threading.Semaphore(0), []

    def noted(*args, **more):
        steps.release()
        return step(*args, **more)

    def slow(path, checkpoint):
        if path.name == "last.pt" and checkpoint.training["step"] == 4:
            saved.append(all(steps.acquire(timeout=5) for _ in range(6)))
            taught = checkpoint.training["teacher"]["weights"]
            parts = {"model": checkpoint.model, "teacher": taught}
            saved.append({(part, name): v.numpy().tobytes() for part, of in parts.items() for name, v in of.items()})
        original(path, checkpoint)

    monkeypatch.setattr(saving, "save_checkpoint", slow)
    monkeypatch.setattr(train, "train_step", noted)
    for name, epochs in (("x", "3"), ("short", "1")):
        background = name == "x"
        steps = threading.Semaphore(0 if background else 6)
        flags = (*FLAGS, "--detection_inf_step", "6", "--eval_from_epoch", "2", "--num_epochs", epochs)
        flags = (*flags, "--teacher_decay", "0.9", "--keep_state")
        assert run(tiny.path, "--exp_name", name, *flags).code == 0
    assert saved[0] and saved[1] == saved[3]


@pytest.mark.parametrize("room", [0, 1])
def test_the_system_may_have_no_room_for_workers(tiny, run, tmp_path, monkeypatch, whole, room):
    original, started = subprocess.Popen, []

    def fails(*args, **kwargs):
        if "pass_fds" not in kwargs:  # not a worker
            return original(*args, **kwargs)
        if len(started) == room:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(original(*args, **kwargs))
        return started[-1]

    _, content = whole(*FLAGS)
    monkeypatch.setattr("subprocess.Popen", fails)
    outcome = run(tiny.path, "--exp_name", "x", *FLAGS, "--eval_workers", "2")
    note = f"note: --eval_workers 2: the system has started {room} of them (Resource temporarily unavailable)"
    assert outcome.code == 0 and note in outcome.out
    assert files(tmp_path / "out" / "x") == content
    assert all(process.returncode is not None for process in started)


def test_the_number_of_workers():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert worker_count(None, cpu) == 0 and worker_count(None, gpu) >= 1
    assert worker_count(0, gpu) == 0 and worker_count(5, cpu) == 5


def test_a_kill_at_any_write_in_the_background_goes_on_to_the_same_files(tiny, run, tmp_path, background_saves, whole):
    flags = [*FLAGS, "--num_epochs", "1"]
    _, content = whole(*flags)
    fixed = ["--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), *TINY_FLAGS, *flags]
    for write in range(1, 100):
        name = f"killed-{write}"
        folder = tmp_path / "out" / name
        if killed_at(write, [*fixed, "--exp_name", name, "--eval_workers", str(write % 2)]):
            break
        again = ["--resume"] if (folder / "last.pt").exists() else []
        assert again or not (folder / "best.pt").exists()
        assert run(tiny.path, "--exp_name", name, *flags, *again).code == 0
        assert files(folder) == content
    assert write > 5
