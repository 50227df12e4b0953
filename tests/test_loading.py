"""The features' values are read once, and the benchmark of loading runs."""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from benchmarks import loading
from dataset import load_dataset
from formats.array_files import NpyArray
from options import DataOptions
from run.data_digest import data_digest


@pytest.mark.parametrize("cache", ["ram", "device"])
def test_values_are_read_once(tiny, monkeypatch, cache):
    read: Counter[str] = Counter()
    for name in ("rows", "blocks"):
        plain = getattr(NpyArray, name)
        monkeypatch.setattr(
            NpyArray, name, lambda self, *a, plain=plain: (read.update([str(self)]), plain(self, *a))[1]
        )
    options = DataOptions(data_path=str(tiny.path), feature_size=6, cache=cache)
    data = load_dataset(tiny.path, options, device=torch.device("cpu"))
    data_digest(data)
    assert set(read.values()) == {1} and len(read) == len(list((tiny.path / "features").rglob("*.npy")))


def test_blocks_are_the_array(tmp_path, monkeypatch):
    monkeypatch.setattr("formats.array_files.BLOCK_BYTES", 100)
    array = np.arange(70, dtype=np.float32).reshape(10, 7)
    np.save(tmp_path / "a.npy", array)
    blocks = [block.copy() for block in NpyArray(tmp_path / "a.npy").blocks()]
    assert [len(block) for block in blocks] == [3, 3, 3, 1] and np.array_equal(np.concatenate(blocks), array)


def test_headers_are_read_by_threads_at_once(tmp_path):
    """Python 3.11's parser keeps its depth for all threads together: without a lock some headers fail with SystemError."""
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    array, interval = NpyArray(tmp_path / "a.npy"), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            headers = list(pool.map(lambda _: array.header(), range(1000)))
    finally:
        sys.setswitchinterval(interval)
    assert set(headers) == {((2, 3), np.dtype(np.float32))}


def test_the_benchmark_runs(tmp_path, capsys):
    assert loading.main(["--path", str(tmp_path / "set"), "--quick"]) == 0
    assert "the first step is done" in capsys.readouterr().out
