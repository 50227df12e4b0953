"""The features' values are read once, and the benchmark of loading runs."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from benchmarks import loading
from dataset import load_dataset
from formats.array_files import NpyArray, NpzArray, row_blocks
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


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_one_header_is_parsed_at_a_time(tmp_path, monkeypatch, kind):
    """Python 3.11's parser counts its depth for all threads together: now and then it fails where two are in it."""
    values, busy, parse = np.zeros((2, 3), np.float32), threading.Lock(), np.lib.format.read_array_header_1_0

    def parsing(file, *rest):
        assert busy.acquire(blocking=False)
        time.sleep(0.01)  # long enough for another thread to come in
        busy.release()
        return parse(file, *rest)

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", parsing)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", rgb=values)
    array = NpyArray(tmp_path / "a.npy") if kind == "npy" else NpzArray(tmp_path / "a.npz", key="rgb")
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda _: np.concatenate([*row_blocks(array)]), range(8)))
    assert all(np.array_equal(each, values) for each in read)


def test_the_benchmark_runs(tmp_path, capsys):
    assert loading.main(["--path", str(tmp_path / "set"), "--quick"]) == 0
    assert "the first step is done" in capsys.readouterr().out
