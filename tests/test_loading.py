"""The features' values are read once, early or not, and the benchmark of loading runs."""

import contextlib
from collections import Counter

import numpy as np
import pytest
import torch

from benchmarks import loading
from dataset import load_dataset
from formats.array_files import NpyArray
from formats.early import open_early
from options import DataOptions
from run.data_digest import data_digest


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("cache", ["ram", "device"])
def test_values_are_read_once(tiny, monkeypatch, cache, early):
    read: Counter[str] = Counter()
    for name in ("rows", "blocks"):
        plain = getattr(NpyArray, name)
        monkeypatch.setattr(
            NpyArray, name, lambda self, *a, plain=plain: (read.update([str(self)]), plain(self, *a))[1]
        )
    options = DataOptions(data_path=str(tiny.path), feature_size=6, cache=cache)
    with contextlib.ExitStack() as stack:
        inspected = open_early(options, stack) if early else None
        assert bool(inspected) == early
        data = load_dataset(tiny.path, options, device=torch.device("cpu"), inspected=inspected)
    data_digest(data)
    assert set(read.values()) == {1} and len(read) == len(list((tiny.path / "features").rglob("*.npy")))


def test_blocks_are_the_array(tmp_path, monkeypatch):
    monkeypatch.setattr("formats.array_files.BLOCK_BYTES", 100)
    array = np.arange(70, dtype=np.float32).reshape(10, 7)
    np.save(tmp_path / "a.npy", array)
    blocks = [block.copy() for block in NpyArray(tmp_path / "a.npy").blocks()]
    assert [len(block) for block in blocks] == [3, 3, 3, 1] and np.array_equal(np.concatenate(blocks), array)


def test_a_broken_set_is_left_to_its_turn(tmp_path):
    with contextlib.ExitStack() as stack:
        assert open_early(DataOptions(data_path=str(tmp_path)), stack) is None
        assert open_early(DataOptions(data_path=str(tmp_path / "none")), stack) is None


def test_the_benchmark_runs(tmp_path, capsys):
    assert loading.main(["--path", str(tmp_path / "set"), "--quick"]) == 0
    assert "the first step is done" in capsys.readouterr().out
