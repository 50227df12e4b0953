"""When a run saves: often enough, seldom enough, and so that a kill at any write leaves files that go on to the same end."""

import json
import os

import pytest
import torch
from support.failing import dies_in_last_pt_after, killed_at
from support.tiny import TINY_FLAGS

import train
from options import SELECTIONS
from run import saving
from run.checkpoint import load_checkpoint
from run.saving import SaveClock

# Evaluations every 3 of 12 steps, the first before the first epoch ends at step 4; there the first model is the best so far.
FLAGS = ("--detection_inf_step", "3", "--eval_from_epoch", "1")


class Clock:
    """A time that tests set."""

    time = 0.0

    def __call__(self):
        return self.time


def test_a_save_waits_for_minutes_and_for_ten_times_its_own_time():
    time = Clock()
    clock = SaveClock(minutes=1, now=time)

    def save(seconds):
        with clock.measured():
            time.time += seconds

    assert clock.is_due()  # the first
    save(2)
    time.time += 59
    assert not clock.is_due()
    time.time += 1
    assert clock.is_due()
    save(100)
    time.time += 999
    assert not clock.is_due()
    time.time += 1
    assert clock.is_due()
    assert SaveClock(minutes=0, now=time).is_due()


def test_minutes_of_0_save_whenever_there_is_something():
    clock = SaveClock(minutes=0)
    for _ in range(3):
        with clock.measured():
            pass
        assert clock.is_due()


def saved_files(run, tiny, monkeypatch, *flags):
    """The names of the files that a run writes, in order, with last.pt's steps."""
    written, replace = [], os.replace

    def noted(source, target):
        replace(source, target)
        name = os.path.basename(target)
        step = load_checkpoint(target).training["step"] if name == "last.pt" else ""
        written.append(f"{name}{step}")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", noted)
        assert run(tiny.path, *flags).code == 0
    return [name for name in written if name.endswith(".pt") or "last.pt" in name]


def test_the_first_best_model_comes_after_a_last_pt(tiny, run, monkeypatch):
    names = saved_files(run, tiny, monkeypatch, *FLAGS)
    assert names[0] == "last.pt3" and names[1] == "best.pt" and names[-1] == "last.pt12"
    assert len(names) == 3  # a minute is not over: neither ends of epochs nor better models are written one by one
    often = saved_files(run, tiny, monkeypatch, *FLAGS, "--save_minutes", "0")
    assert [name for name in often if name != "best.pt"][:3] == ["last.pt3", "last.pt3", "last.pt4"]
    assert "last.pt8" in often and often[-1] == "last.pt12"


def test_the_best_model_is_that_of_its_step(tiny, run, tmp_path):
    """Though it is written later: what waits in memory is a copy."""
    for name, minutes in (("at once", "0"), ("later", "10")):
        assert run(tiny.path, "--exp_name", name, "--save_minutes", minutes, *FLAGS).code == 0
    at_once, later = (load_checkpoint(tmp_path / "out" / name / "best.pt") for name in ("at once", "later"))
    assert at_once.training == later.training
    assert all(torch.equal(at_once.model[name], later.model[name]) for name in later.model)


def test_the_best_model_survives_what_ends_a_run(tiny, run, tmp_path, monkeypatch):
    original, calls = train.sal_losses, []

    def spoiled(*args, **kwargs):
        losses = original(*args, **kwargs)
        calls.append(1)
        return {name: term * float("nan") if len(calls) == 8 else term for name, term in losses.items()}

    with monkeypatch.context() as patch:
        patch.setattr(train, "sal_losses", spoiled)
        assert run(tiny.path, "--exp_name", "x", *FLAGS).code == 1
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    best = load_checkpoint(tmp_path / "out" / "x" / "best.pt").training
    assert best["best"] == results["best"] and [point["step"] for point in results["history"]] == [3, 6]


# Kills


def test_a_best_model_that_is_ahead_of_last_pt_is_said(tiny, run, tmp_path, monkeypatch):
    """Until the run has come to its step again, results.json is of another model."""
    flags = ("--exp_name", "x", "--save_minutes", "0", *FLAGS)
    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_checkpoint", dies_in_last_pt_after(8))
        with pytest.raises(SystemError):
            run(tiny.path, *flags)
    outcome = run(tiny.path, *flags, "--resume")
    assert outcome.code == 0 and outcome.out.count("best.pt is of step 9, later than") == 1
    assert "later than" not in run(tiny.path, *flags, "--resume").out


@pytest.mark.parametrize(
    ("minutes", "epochs", "select"), [("0", "1", "test"), ("1", "3", "test"), ("0", "1", "val"), ("0", "1", "last")]
)
def test_a_kill_at_any_write_goes_on_to_the_same_end(tiny, run, tmp_path, minutes, epochs, select):
    flags = [*FLAGS, "--save_minutes", minutes, "--num_epochs", epochs, "--select", select]
    assert run(tiny.path, "--exp_name", "whole", *flags).code == 0

    def content(name):
        folder = tmp_path / "out" / name
        results = json.loads((folder / "results.json").read_text())
        checkpoints = [load_checkpoint(folder / file) for file in ("best.pt", "last.pt")]
        plain = [results[key] for key in ("best", "last", "val", "history", "steps")]
        return [*plain, (folder / "detections_best.json").read_text()], checkpoints

    expected, models = content("whole")
    fixed = ["--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), *TINY_FLAGS, *flags]
    for write in range(1, 100):
        name = f"killed-{write}"
        if killed_at(write, [*fixed, "--exp_name", name]):
            break
        folder = tmp_path / "out" / name
        again = ["--resume"] if (folder / "last.pt").exists() else []
        assert again or not (folder / "best.pt").exists()
        outcome = run(tiny.path, "--exp_name", name, *flags, *again)
        assert outcome.code == 0, outcome.err
        plain, checkpoints = content(name)
        assert plain == expected
        for one, other in zip(checkpoints, models, strict=True):
            for key in ("step", SELECTIONS[select]):
                assert one.training[key] == other.training[key]
            assert all(torch.equal(one.model[key], other.model[key]) for key in other.model)
    assert write > 6
