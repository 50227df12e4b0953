"""What is said when memory is short: before a run, and in the middle of it."""

import errno
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import train
from dataset import load_dataset
from options import DataOptions, resolve
from run import device
from utils import cgroup, memory
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
    """Version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 1\n")


def container_of_version_1(folder, limit, used, cached):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{2**63 - 4096 if limit == 'max' else limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    own = "cache 7\ninactive_file 0\nactive_file 0\n"
    (folder / "memory.stat").write_text(f"{own}total_inactive_file {cached}\ntotal_active_file 1\n")


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """groups(lines of /proc/self/cgroup), with 4096 bytes free on the machine; returns the folder of all groups."""
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:       4 kB\n")
    monkeypatch.setattr(memory, "_MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(cgroup, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cgroup, "OWN_GROUPS", tmp_path / "own")

    def write(own):
        if own is not None:
            (tmp_path / "own").write_text(own)
        return tmp_path / "groups"

    return write


LIMITS = [("max", 4096), (3000, 3000 - 2000 + 501), (10**9, 4096)]


@pytest.mark.parametrize(("limit", "expected"), LIMITS)
@pytest.mark.parametrize("own", [None, "0::/\n", "0::/not/seen/in/here\n", "0::/../../outside\n", "nonsense\n"])
def test_a_container_may_have_less(groups, own, limit, expected):
    container(groups(own), limit, 2000, 500)
    assert free_bytes(CPU) == expected


@pytest.mark.parametrize(("limit", "expected"), LIMITS)
@pytest.mark.parametrize("own", [None, "4:memory:/\n", "4:cpu,memory:/docker/1\n0::/\n"])
def test_a_container_of_version_1_may_have_less(groups, own, limit, expected):
    container_of_version_1(groups(own) / "memory", limit, 2000, 500)
    assert free_bytes(CPU) == expected


@pytest.mark.parametrize(
    ("own", "make", "place"),
    [
        ("0::/user/job/step\n", container, "user/job"),
        ("4:memory:/user/job/step\n0::/\n", container_of_version_1, "memory/user/job"),
    ],
)
def test_a_limit_holds_for_the_groups_inside(groups, own, make, place):
    """A batch system limits a job, and the process is in a step of it."""
    root = groups(own)
    make(root / place / "step", "max", 1, 0)
    make(root / place, 3000, 2000, 500)
    assert free_bytes(CPU) == 1501
    make(root / place / "step", 2500, 2000, 500)
    assert free_bytes(CPU) == 1001


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


@pytest.mark.parametrize("hidden", ["65536", "40000"])
def test_a_model_that_does_not_fit(tiny, run, tmp_path, hidden):
    """The first is more than any machine has; the second a system would begin to give, and then kill the process."""
    outcome = run(tiny.path, "--hidden_size", hidden)
    assert outcome.code == 2 and outcome.err.count("\n") == 1
    assert f"--hidden_size {hidden}: the model needs " in outcome.err and " are free; lower it" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_teacher_is_as_large_as_the_model(monkeypatch):
    """Weights, two moments, the best weights and the teacher's: five times 4 bytes; of a batch it encodes all once."""
    needed = []
    monkeypatch.setattr(device, "check_fits", lambda count, *_, **__: needed.append(count))
    options = resolve({"feature_size": 6, "hidden_size": 8})
    machine = SimpleNamespace(device=CPU, dtype=torch.float32)
    parts = {"num_classes": 3, "training": True, "ablation": options.ablation}
    for teacher in (False, True):
        make = device.network_maker(options.model, options.data, machine, teacher=teacher, **parts)
        sizes = {"data": options.data, "hidden_size": 8, "training": True, "teacher": teacher}
        device.check_batch_fits("batch_size", 2, machine, **sizes)
    weights = sum(p.numel() for p in make().parameters())
    assert needed[0] == 4 * weights * 4 and needed[2] == 5 * weights * 4
    assert needed[3] - needed[1] == 4 * 2 * options.data.num_segments * 8


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
