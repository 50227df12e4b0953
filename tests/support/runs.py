"""Runs of the fixture `run`: what they have left, compared bit for bit, and how one of them is interrupted."""

import json
import os
import signal

import torch

import train
from run.checkpoint import load_checkpoint


def load(tmp_path, experiment, name="last.pt"):
    """A checkpoint of an experiment that the fixture `run` has made."""
    return load_checkpoint(tmp_path / "out" / experiment / name)


def read_results(tmp_path, experiment):
    return json.loads((tmp_path / "out" / experiment / "results.json").read_text())


def assert_same(a, b, where="checkpoint"):
    """Nested dicts and lists of tensors and plain values, bit for bit; seconds may differ."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a.keys() - {"seconds"}:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif torch.is_tensor(a):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def interrupt_at(monkeypatch, step, number=signal.SIGINT):
    """Have the process send itself a signal during that step."""
    original, count = train.train_step, [0]

    def step_then_signal(*args, **kwargs):
        count[0] += 1
        if count[0] == step:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    monkeypatch.setattr(train, "train_step", step_then_signal)
