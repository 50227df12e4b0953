"""Fixtures: a tiny data set, and main.py called in-process."""

import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from support.disk import complaint, contents
from support.networks import build_model, build_objective, host_split
from support.paths import GOLDEN, ROOT, SHARED
from support.tiny import CLASSES, FEATURE_SIZE, TINY_FLAGS, TinySet, write_tiny_set

import main

__all__ = ["CLASSES", "FEATURE_SIZE", "GOLDEN", "ROOT", "SHARED", "TINY_FLAGS", "TinySet"]
__all__ += ["build_model", "build_objective", "host_split"]


@pytest.fixture
def tiny(tmp_path: pathlib.Path) -> TinySet:
    """The tiny set, in a folder that the test may spoil."""
    return write_tiny_set(tmp_path / "tiny")


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """run(data_path, *flags): main.py with the tiny flags, results under tmp_path/out."""
    torch.set_num_threads(1)  # tensors are tiny: threads would only wait for each other

    def call(data_path: pathlib.Path | str, *flags: str) -> Outcome:
        capsys.readouterr()
        fixed = ["--data_path", str(data_path), "--output_dir", str(tmp_path / "out"), *TINY_FLAGS]
        code = main.main([*fixed, *flags])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def refused_with(tmp_path: pathlib.Path, run: Callable[..., Outcome]) -> Callable[..., str]:
    """refused_with(data_path, *flags): the line main.py complains with; it must leave the disk as it is."""

    def call(data_path: pathlib.Path | str, *flags: str) -> str:
        before = contents(tmp_path)
        outcome = run(data_path, *flags)
        line = complaint(outcome.code, outcome.err)
        assert outcome.out == ""
        assert contents(tmp_path) == before
        return line

    return call
