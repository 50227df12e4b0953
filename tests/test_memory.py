"""What is said when memory is short: before a run, and in the middle of it."""

import errno

import numpy as np
import pytest
import torch

import train
from dataset import load_dataset
from options import DataOptions
from utils import memory
from utils.errors import InputError
from utils.memory import check_fits, format_bytes, free_bytes, is_out_of_memory

CPU = torch.device("cpu")


def test_real_failures_of_allocation_are_recognised():
    for allocate in (lambda: torch.empty(10**15), lambda: np.empty(10**17), lambda: bytearray(10**17)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not is_out_of_memory(OSError(errno.ENOENT, "No such file", "x"))
    assert not is_out_of_memory(RuntimeError("shapes do not match")) and not is_out_of_memory(ValueError())


def test_free_bytes_are_those_of_the_machine():
    free = free_bytes(CPU)
    assert free is None or 2**20 < free < 2**50


def container(folder, limit, used, cached):
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 1\n")


@pytest.mark.parametrize(("limit", "expected"), [("max", 4096), (3000, 3000 - 2000 + 501), (10**9, 4096)])
def test_a_container_may_have_less(monkeypatch, tmp_path, limit, expected):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:       4 kB\n")
    container(tmp_path, limit, 2000, 500)
    monkeypatch.setattr(memory, "_MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert free_bytes(CPU) == expected


def test_a_system_that_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_MEMORY_INFO", tmp_path / "none")
    assert free_bytes(CPU) is None
    check_fits(10**30, CPU, what="this needs", instead="give up")


def test_check_fits(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    check_fits(1000, CPU, what="this needs", instead="give less")
    with pytest.raises(InputError, match=r"^this needs 1,001 bytes on cpu, 1,000 bytes are free; give less$"):
        check_fits(1001, CPU, what="this needs", instead="give less")


def test_format_bytes():
    assert format_bytes(1_500_000_000) == "1.5 GB (1,500,000,000 bytes)"
    assert format_bytes(999_999) == "999,999 bytes"


@pytest.mark.parametrize(("cache", "advice"), [("device", "give --cache ram or mmap"), ("ram", "give --cache mmap")])
def test_features_that_do_not_fit(tiny, monkeypatch, cache, advice):
    """A set of float16 and float32 files; on a device a split is one tensor, here of float32."""
    monkeypatch.setattr("utils.memory.free_bytes", lambda device: 100)
    needed = 4 * sum(np.load(f).size for f in tiny.path.glob("features/*/*/*.npy"))
    halves = sum(np.load(f).size for f in tiny.path.glob("features/*/*/*.npy") if np.load(f).dtype == np.float16)
    needed -= 2 * halves * (cache == "ram")
    with pytest.raises(InputError, match=f"need {needed:,} bytes .*, 100 bytes are free; {advice}"):
        load_dataset(tiny.path, DataOptions(feature_size=6, cache=cache), device=CPU)
    load_dataset(tiny.path, DataOptions(feature_size=6, cache="mmap"), device=CPU)


@pytest.mark.parametrize("hidden", ["1000000", "40000"])
def test_a_model_that_does_not_fit(tiny, run, tmp_path, hidden):
    """The first is more than any machine has; the second a system would begin to give, and then kill the process."""
    outcome = run(tiny.path, "--hidden_size", hidden)
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert f"--hidden_size {hidden}: the model needs " in outcome.err and " are free; lower it" in outcome.err
    assert not (tmp_path / "out").exists()


ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 5 bytes"),
    "numpy": MemoryError("Unable to allocate 5 bytes"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_out_of_memory_during_a_run(tiny, run, tmp_path, monkeypatch, error):
    original, calls = train.train_step, []

    def fails(*args, **kwargs):
        calls.append(1)
        if len(calls) == 7:
            raise error
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", fails)
        outcome = run(tiny.path, "--exp_name", "x")
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    for words in (
        "out of memory on cpu after step 6",
        "last.pt is intact",
        "a lower --batch_size",
        "--test_batch_size",
    ):
        assert words in outcome.err
    assert run(tiny.path, "--exp_name", "x", "--resume").code == 0


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_out_of_memory_in_inference(tiny, run, monkeypatch, error):
    assert run(tiny.path, "--num_epochs", "1").code == 0

    def fails(*args, **kwargs):
        raise error

    monkeypatch.setattr("test.predict", fails)
    outcome = run(tiny.path, "--inference_only")
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert "out of memory" in outcome.err and "--test_batch_size" in outcome.err
