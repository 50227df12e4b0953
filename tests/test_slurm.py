"""The queue on Slurm, with stand-ins for its commands that really run the array's tasks."""

import os
import signal
import sys

import pytest
from support.disk import contents
from support.fake_slurm import write_commands
from support.queues import refused, wait_for

from experiments import job, seeds, slurm

pytest.importorskip("submitit")


@pytest.fixture
def cluster(tmp_path, monkeypatch, queues):
    """A folder in which the stand-ins for Slurm's commands note what they do."""
    folder = tmp_path / "cluster"
    monkeypatch.setenv("PATH", f"{write_commands(folder)}:{os.environ['PATH']}")
    return folder


def test_the_queue_is_an_array_whose_tasks_go_on_after_a_time_out(cluster, queues, capsys):
    queues.plan(**{"seeds-seed2": "wait"})
    words = ["--seeds", "1", "2", "3", *queues.flags]
    assert seeds.main(["--seeds", "1", *queues.flags]) == 0
    queues.calls()
    assert seeds.main([*words, "--slurm", "partition=gpu", "time=600", "gpus_per_node=1"]) == 0
    out = capsys.readouterr().out
    assert "2 runs submitted as Slurm's 77" in out and "--table" in out
    script = (cluster / "script-77").read_text()
    for line in ("--partition=gpu", "--time=600", "--gpus-per-node=1", "--array=0-1%", "--job-name=seeds"):
        assert f"#SBATCH {line}" in script
    folders = [queues.path / "out" / "seeds" / f"seeds-seed{seed}" for seed in (1, 2, 3)]
    wait_for(folders[1] / "waiting")
    queues.plan()
    os.kill(int((cluster / "pid-77_0").read_text()), signal.SIGUSR2)  # as Slurm does 90 s before the time is up
    wait_for(cluster / "ended-77")
    assert (folders[1] / "last.pt").read_text() == "waited for"  # else it would go on beside a run that is still saving
    assert [(call["name"], call["resume"]) for call in queues.calls()] == [
        ("seeds-seed2", False),
        ("seeds-seed2", True),
        ("seeds-seed3", False),
    ]
    assert seeds.main([*words, "--table"]) == 0
    assert "seeds, last: 33.00 [30.52, 35.48] over 3 seeds" in capsys.readouterr().out
    assert queues.calls() == []


def test_a_task_that_fails_says_why(queues):
    queues.plan(**{"a-seed1": "fail"})
    task = slurm.Task(job.make_job("a-seed1", queues.path / "out", {"data_path": "x"}))
    with pytest.raises(slurm.TrainingError, match=r"a-seed1: main\.py: error: a-seed1 can't be made"):
        task()


def test_a_queue_longer_than_an_array_is_several(cluster, queues, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "LARGEST_ARRAY", 2)
    assert seeds.main(["--seeds", "1", "2", "3", *queues.flags, "--slurm"]) == 0
    assert "3 runs submitted as Slurm's 77, 78" in capsys.readouterr().out
    wait_for(cluster / "ended-77", cluster / "ended-78")
    assert sorted(call["name"] for call in queues.calls()) == ["seeds-seed1", "seeds-seed2", "seeds-seed3"]


def test_a_single_run_is_submitted_too(cluster, queues):
    assert seeds.main(["--seeds", "4", *queues.flags, "--slurm"]) == 0
    wait_for(cluster / "ended-77")
    assert [call["name"] for call in queues.calls()] == ["seeds-seed4"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["parition=gpu"], "--slurm parition: is none of"),
        (["gpu"], "--slurm gpu: expected KEY=VALUE"),
        (["partition="], "--slurm partition=: expected KEY=VALUE"),
        (["setup=rm"], "--slurm setup: is none of"),
        (["time=1:00"], "--slurm time=1:00: give minutes"),
        (["--jobs", "2"], "--slurm and --jobs contradict each other"),
        (["--table"], "--slurm and --table contradict each other"),
    ],
)
def test_mistakes_are_told_before_anything_is_submitted(queues, capsys, words, said):
    before = contents(queues.path)
    assert said in refused(capsys, seeds, "--seeds", "1", *queues.flags, "--slurm", *words)
    assert contents(queues.path) == before


def test_what_sbatch_says_is_told(cluster, queues, capsys):
    before = contents(queues.path / "out")
    line = refused(capsys, seeds, "--seeds", "1", "2", *queues.flags, "--slurm", "partition=full")
    assert contents(queues.path / "out") == before
    assert line.endswith("--slurm: sbatch takes no more: sbatch: error: invalid partition specified: full")


def test_without_slurm_or_submitit(queues, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    words = ["--seeds", "1", *queues.flags, "--slurm"]
    assert "there is no srun on the PATH" in refused(capsys, seeds, *words)
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "needs the package submitit; install it" in refused(capsys, seeds, *words)
