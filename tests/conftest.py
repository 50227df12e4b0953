"""Fixtures: a tiny data set, what is in it, and main.py called in-process."""

import copy
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from support.disk import complaint, contents
from support.layouts import Content, content_of
from support.queues import FAKE_MAIN, Place
from support.tiny import TinySet, tiny_flags, write_tiny_set

import main
from experiments import job, workers


@pytest.fixture
def tiny(tmp_path: pathlib.Path) -> TinySet:
    """The tiny set, in a folder that the test may spoil."""
    return write_tiny_set(tmp_path / "tiny")


@pytest.fixture(scope="session")
def tiny_content(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """What is in the tiny set, read once."""
    return content_of(write_tiny_set(tmp_path_factory.mktemp("content") / "tiny"))


@pytest.fixture
def content(tiny_content: Content) -> Content:
    """What is in the tiny set, in a copy that the test may spoil."""
    return copy.deepcopy(tiny_content)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """An empty folder for a set."""
    path = tmp_path / "other"
    path.mkdir()
    return path


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
        fixed = ["--data_path", str(data_path), "--output_dir", str(tmp_path / "out"), *tiny_flags(flags)]
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


@pytest.fixture
def queues(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Queues whose runs a stand-in for main.py makes, in no time."""
    monkeypatch.setattr(job, "MAIN", FAKE_MAIN)
    monkeypatch.setattr(workers, "POLL", 0.02)
    monkeypatch.setenv("FAKE_MAIN", str(tmp_path / "does.json"))
    monkeypatch.setenv("FAKE_CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (tmp_path / "data").mkdir()
    made = Place(tmp_path)
    made.plan()
    return made
