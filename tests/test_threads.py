"""--threads: how many there are by default, that a run keeps its number, and what is said on a busy machine."""

import json
import os
import subprocess
import sys

import pytest
import torch
from support.paths import ROOT

from options import RunOptions
from run.device import choose_machine, default_threads
from utils import cgroup, processors
from utils.processors import usable_cpus


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cpus(monkeypatch):
    """cpus(bound): a machine on which this process is bound to that many, without a container."""
    monkeypatch.setattr(processors, "cpu_quota", lambda: None)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return lambda bound: monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)), raising=False)


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (3.0, 3), (2.5, 2), (0.5, 1), (64.0, 8)])
def test_the_cpus_that_may_be_used(cpus, monkeypatch, quota, expected):
    cpus(8)
    monkeypatch.setattr(processors, "cpu_quota", lambda: quota)
    assert usable_cpus() == expected


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("cpu.max", "200000 100000", 2.0),
        ("cpu.max", "max 100000", None),
        ("job/cpu.max", "50000 100000", 0.5),
        ("cpu/cpu.cfs_quota_us", "150000", 1.5),
        ("cpu/cpu.cfs_quota_us", "-1", None),
        ("cpu/job/cpu.cfs_quota_us", "400000", 4.0),
        ("cpu.max", "nonsense", None),
        ("cpu.max", "5 0", None),
    ],
)
def test_the_share_of_a_container(monkeypatch, tmp_path, file, text, expected):
    path = tmp_path / "groups" / file
    path.parent.mkdir(parents=True)
    path.write_text(text + "\n")
    (path.parent / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "own").write_text("3:cpu,cpuacct:/job/step\n0::/job\n")
    monkeypatch.setattr(cgroup, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cgroup, "OWN_GROUPS", tmp_path / "own")
    assert cgroup.cpu_quota() == expected


def test_the_default_depends_on_the_machine_and_the_environment(cpus, monkeypatch):
    torch.set_num_threads(4)
    for bound, expected in ((1, 1), (3, 3), (8, 4)):
        cpus(bound)
        assert default_threads() == expected
    cpus(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert default_threads() == 4


def test_a_number_is_taken(cpus):
    assert choose_machine(RunOptions(device="cpu", threads=3)).threads == 3
    assert torch.get_num_threads() == 3


def test_a_run_keeps_its_number(tiny, run, tmp_path, monkeypatch):
    """Another would move last bits: --resume takes the experiment's own, inference the machine's."""
    taken = []

    def call(*flags):
        outcome = run(tiny.path, "--exp_name", "x", *flags)
        assert outcome.code == 0, outcome.err
        return outcome.out

    def stated(name):
        return json.loads((tmp_path / "out" / "x" / name).read_text())["threads"]

    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    assert ", threads: 2)" in call("--threads", "2")
    assert stated("options.json") == stated("results.json") == 2
    same, another = call("--resume"), call("--resume", "--threads", "3")
    assert ", threads: 2)" in same and "its numbers may differ" not in same
    assert ", threads: 3)" in another and "the run had --threads 2 (now 3): its numbers may differ" in another
    call("--inference_only")
    assert stated("inference/results.json") == torch.get_num_threads()
    assert [count for count in taken if count > 1] == [2, 2, 3]


@pytest.mark.parametrize(
    "flags", [["--threads", "0"], ["--threads", "1025"], ["--threads", "many"], ["--threads", "-1"]]
)
def test_no_number_of_threads(tiny, refused_with, flags):
    assert "--threads" in refused_with(tiny.path, *flags)


@pytest.mark.parametrize(("load", "threads", "said"), [(6.1, 2, True), (6.1, 1, False), (2.0, 2, False)])
def test_a_busy_machine_is_mentioned(cpus, monkeypatch, load, threads, said):
    cpus(2)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    line = "note: the load is 6.1 on 2 CPUs: --threads 1 may be faster than 2"
    assert choose_machine(RunOptions(device="cpu", threads=threads)).busy == (line if said else "")


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_told_otherwise(given, expected):
    """It has to be said before torch is there."""
    code = (
        "import os, sys, main; main.main(['--lr', 'x']); print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == f"{expected} False\n", done.stderr
