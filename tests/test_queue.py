"""A queue of runs: what is done is not made again, what has begun goes on, and what fails does not stop the others."""

import json
import os
import signal
import subprocess
import sys

import pytest
from support.disk import contents
from support.paths import ROOT
from support.queues import refused, wait_for
from support.tiny import FEATURE_SIZE, TINY_FLAGS

import main
from command_line.flags import as_words
from eval.table_runs import TableRun
from experiments import ablation, job, running, seeds, workers
from experiments.ablation_table import change_of
from experiments.parts import PARTS, upward, without_one
from options import parse_flags, resolve
from run.lock import FolderLock
from utils.errors import InputError


def names(calls):
    return sorted(call["name"] for call in calls)


def test_every_seed_is_run_once_and_tabulated(queues, capsys):
    words = ["--seeds", "1", "2", "3", *queues.flags, "--name", "base", "--lr", "1e-4"]
    assert seeds.main(words) == 0
    assert names(queues.calls()) == ["base-seed1", "base-seed2", "base-seed3"]
    out = capsys.readouterr().out
    assert "base-seed2: last 33.0 %, best 33.0 % average mAP 0.5" in out
    # (0.32, 0.33, 0.34): mean 0.33, sd 0.01, and 4.303 sd / sqrt 3 on either side
    assert "base last 3 33.0 ± 1.0 33.0 ± 1.0" in " ".join(out.split())
    assert "base, last: 33.00 [30.52, 35.48] over 3 seeds" in out and "protocol sal" in out
    folder = queues.path / "out" / "base"
    assert "| base | last | 3 |  | 33.0 ± 1.0 | 33.0 ± 1.0 |" in (folder / "table.md").read_text()
    assert "base & last & 3 &  & 33.0 $\\pm$ 1.0" in (folder / "table.tex").read_text()
    before = contents(folder)
    assert seeds.main(words) == 0
    assert queues.calls() == [] and contents(folder) == before
    assert seeds.main([*words, "--seeds", "1", "2", "3", "4"]) == 0
    assert names(queues.calls()) == ["base-seed4"]


def test_flags_that_change_no_result_make_no_other_run(queues):
    assert seeds.main(["--seeds", "1", *queues.flags]) == 0
    assert seeds.main(["--seeds", "1", *queues.flags, "--threads", "2", "--num_workers", "0", "--verbose"]) == 0
    assert len(queues.calls()) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--lr", "0.5"], "--lr 0.0001, not 0.5"),
        (["--no_mask"], "--no_mask False, not True"),
        (["--modal", "rgb"], "--modal all, not rgb"),
    ],
)
def test_a_folder_of_another_run_is_refused_before_the_first_run(queues, capsys, flags, said):
    assert seeds.main(["--seeds", "2", *queues.flags]) == 0
    queues.calls()
    line = refused(capsys, seeds, "--seeds", "1", "2", *queues.flags, *flags)
    assert said in line and "seeds-seed2" in line
    assert queues.calls() == []


def test_runs_and_queues_share_no_folder(queues, capsys, tiny, tmp_path):
    (queues.path / "out" / "base").mkdir(parents=True)
    (queues.path / "out" / "base" / "options.json").write_text("{}")
    line = refused(capsys, seeds, "--seeds", "1", *queues.flags, "--name", "base")
    assert "base: is the folder of a run" in line and "another --name" in line
    (tmp_path / "runs" / "q" / "logs").mkdir(parents=True)
    place = ["--data_path", str(tiny.path), "--output_dir", str(tmp_path / "runs"), "--exp_name", "q", *TINY_FLAGS]
    line = refused(capsys, main, *place)
    assert "q: holds the runs of a queue" in line and "another --exp_name" in line


def test_other_data_are_another_run(queues, capsys):
    assert seeds.main(["--seeds", "2", *queues.flags]) == 0
    (queues.path / "more").mkdir()
    line = refused(capsys, seeds, "--seeds", "2", *queues.flags, "--data_path", queues.path / "more")
    assert f"--data_path {queues.path / 'data'}, not {queues.path / 'more'}" in line


def test_a_run_that_fails_does_not_stop_the_others(queues, capsys):
    queues.plan(**{"seeds-seed1": "fail"})
    assert seeds.main(["--seeds", "1", "2", *queues.flags]) == 1
    out = capsys.readouterr().out
    assert "seeds-seed1: failed: main.py: error: seeds-seed1 can't be made; do something else" in out
    assert str(queues.path / "out" / "seeds" / "logs" / "seeds-seed1.log") in out
    assert "1 run of 2 not finished: 'seeds-seed1'" in out and "seeds-seed2" in out
    assert (
        "not finished, so not in the table: 'seeds-seed1'" in (queues.path / "out" / "seeds" / "table.md").read_text()
    )
    queues.plan()
    queues.calls()
    assert seeds.main(["--seeds", "1", "2", *queues.flags]) == 0
    assert names(queues.calls()) == ["seeds-seed1"]


def test_a_killed_run_is_said_to_be_killed(queues, capsys):
    for does in ("fail", "die"):  # the log of the second begins after that of the first
        queues.plan(**{"seeds-seed1": does})
        assert seeds.main(["--seeds", "1", *queues.flags]) == 1
    assert "seeds-seed1: failed: was killed (SIGKILL, perhaps by the system, out of memory)" in capsys.readouterr().out


def test_a_run_that_has_begun_goes_on_with_its_own_threads(queues, capsys):
    folder = queues.path / "out" / "seeds" / "seeds-seed1"
    folder.mkdir(parents=True)
    (folder / "last.pt").touch()
    assert seeds.main(["--seeds", "1", "2", *queues.flags, "--jobs", "2"]) == 0
    found = {call["name"]: call for call in queues.calls()}
    out = capsys.readouterr().out
    assert "seeds-seed1: goes on, on CPU" in out and "seeds-seed2: begins on CPU" in out
    assert found["seeds-seed1"]["resume"] and found["seeds-seed1"]["threads"] is None
    assert not found["seeds-seed2"]["resume"] and found["seeds-seed2"]["threads"] >= 1


def test_a_run_of_another_process_is_left_to_it(queues, capsys):
    queues.plan(**{"seeds-seed1": "fail"})
    with FolderLock(queues.path / "out" / "seeds" / "seeds-seed1"):
        assert seeds.main(["--seeds", "1", "2", *queues.flags]) == 1
    out = capsys.readouterr().out
    assert "seeds-seed1: left to another process" in out and f"process {os.getpid()}" in out
    assert "1 run of 2 not finished: 'seeds-seed1'" in out


def test_a_run_that_another_queue_finishes_meanwhile_is_in_the_table(queues, monkeypatch, capsys):
    """The other one has written its table before: that of this one, made while a run was missing, must not stand."""
    words = ["--seeds", "1", "2", *queues.flags]
    queues.plan(**{"seeds-seed1": "fail"})
    write, written = running.write_text, []

    def write_text(path, text):
        if not written:
            queues.plan()
            monkeypatch.setattr(running, "write_text", write)
            assert seeds.main(words) == 0  # the other queue, from its beginning to its end
        written.append(path.name)
        write(path, text)

    monkeypatch.setattr(running, "write_text", write_text)
    assert seeds.main(words) == 0
    table = queues.path / "out" / "seeds" / "table.md"
    assert written[0] == "table.md" and "| seeds | last | 2 |" in table.read_text()
    assert "not finished" not in table.read_text() + table.with_suffix(".tex").read_text()
    assert "not finished" not in capsys.readouterr().out


@pytest.mark.parametrize("recipe", ["auto", "stable", "published"])
def test_seeds_say_once_which_recipe_they_take(queues, tiny, capsys, recipe):
    words = ["--seeds", "1", "2", *queues.flags, "--data_path", str(tiny.path), "--feature_size", str(FEATURE_SIZE)]
    assert seeds.main([*words, "--recipe", recipe]) == 0
    out, took = capsys.readouterr().out, recipe != "published"
    assert out.count("recipe stable: --num_segments 54 ") == out.count("why: 7 training videos of 16 to 59 ") == took
    assert names(queues.calls()) == ["seeds-seed1", "seeds-seed2"]
    assert seeds.main([*words, "--recipe", recipe]) == 0  # nothing is left to train
    assert "recipe stable:" not in capsys.readouterr().out


def test_seeds_refuse_what_the_recipe_that_is_taken_does_not_read(queues, tiny, capsys):
    words = ["--seeds", "1", "2", *queues.flags, "--data_path", str(tiny.path), "--feature_size", str(FEATURE_SIZE)]
    assert seeds.main([*words, "--recipe", "auto", "--pseudo_extra", "3"]) == 2
    assert "--pseudo_extra is only read with --pseudo_source actionness" in capsys.readouterr().err
    assert queues.calls() == []


def test_a_table_of_no_run_is_none(queues, capsys):
    assert seeds.main(["--seeds", "1", *queues.flags, "--table"]) == 1
    assert "1 run of 1 not finished" in capsys.readouterr().out
    assert not (queues.path / "out").exists()
    assert seeds.main(["--seeds", "1", *queues.flags]) == 0
    assert seeds.main(["--seeds", "1", "2", *queues.flags, "--table"]) == 0


def begun_queue(words, folders):
    """A queue in a process of its own, whose runs all wait in these folders."""
    code = (
        "import pathlib, sys\n"
        "from experiments import job, seeds\n"
        f"job.MAIN = pathlib.Path({str(job.MAIN)!r})\n"
        "sys.exit(seeds.main(sys.argv[1:]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    wait_for(*(folder / "waiting" for folder in folders))
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_the_runs_save(queues, number):
    queues.plan(**{"seeds-seed1": "wait", "seeds-seed2": "wait"})
    words = ["--seeds", "1", "2", "3", *queues.flags, "--jobs", "2"]
    folders = [queues.path / "out" / "seeds" / f"seeds-seed{seed}" for seed in (1, 2)]
    process = begun_queue(words, folders)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (
        "experiments.seeds: interrupted; the same command goes on from what the runs have saved" in err.splitlines()[-1]
    )
    assert all((folder / "last.pt").exists() for folder in folders)
    queues.plan()
    queues.calls()
    assert seeds.main(words) == 0
    resumed = {call["name"]: call["resume"] for call in queues.calls()}
    assert resumed == {"seeds-seed1": True, "seeds-seed2": True, "seeds-seed3": False}


def test_a_second_interrupt_ends_runs_that_do_not_stop(queues):
    queues.plan(**{"seeds-seed1": "deaf"})
    folder = queues.path / "out" / "seeds" / "seeds-seed1"
    process = begun_queue(["--seeds", "1", *queues.flags], [folder])
    process.send_signal(signal.SIGINT)
    wait_for(folder / "asked")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "waiting").read_text()), 0)


def test_the_runs_stop_saved_when_the_queue_is_killed(queues):
    queues.plan(**{"seeds-seed1": "wait"})
    folder = queues.path / "out" / "seeds" / "seeds-seed1"
    process = begun_queue(["--seeds", "1", *queues.flags], [folder])
    process.kill()
    process.communicate()
    wait_for(folder / "last.pt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "0", "--seeds", "1"], "--jobs 0: give 1 to 1,024"),
        ([], "the following arguments are required: --seeds"),
        (["--seeds"], "--seeds: expected at least one argument"),
        (["--seeds", "1", "2", "1"], "--seeds 1: is given 2 times"),
        (["--seeds", "x"], "--seeds: 'x' is not a whole number"),
        (["--seeds", "-1"], "--seed -1: must lie in [0,4294967296)"),
        (["--seeds", "1", "--lr", "0"], "--lr 0.0: must lie in (0,1e+38]"),
        (["--seeds", "1", "--learning_rate", "1"], "did you mean --lr?"),
        (["--seeds", "1", "--exp_name", "x"], "unrecognized arguments: --exp_name; did you mean --name?"),
        (["--seeds", "1", "--seed", "3"], "unrecognized arguments: --seed; did you mean --seeds?"),
        (["--seeds", "1", "--name", "a/b"], "--name a/b: must be a plain folder name"),
        (["--seeds", "1", "--data_path", "nowhere"], "--data_path nowhere: no such folder"),
        (["--seeds", "1", "--num_epochs", "2", "--num_iters", "3"], "--num_epochs and --num_iters contradict"),
    ],
)
def test_mistakes_are_told_before_the_first_run(queues, capsys, words, said):
    before = contents(queues.path)
    assert said in refused(capsys, seeds, *queues.flags, *words)
    assert contents(queues.path) == before


@pytest.mark.parametrize("command", ["seeds", "sweep", "ablation"])
def test_help_needs_no_package(command):
    file = ROOT / "experiments" / f"{command}.py"
    done = subprocess.run([sys.executable, "-S", file, "--help"], capture_output=True, text=True, cwd=ROOT.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"bash scripts/{command}.sh" in done.stdout and "--slurm" in done.stdout and "--lr" in done.stdout


def test_one_worker_per_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(workers, "usable_cpus", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def gpus(**settings):
        slots = workers.make_slots(**{"jobs": None, "device": "auto", "runs": 9, **settings})
        return [(slot.environment.get("CUDA_VISIBLE_DEVICES"), slot.threads) for slot in slots]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus() == [("0", 3), ("1", 3)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab")
    assert gpus() == [("3", 3), ("GPU-ab", 3)]
    assert gpus(jobs=3) == [("3", 2), ("GPU-ab", 2), ("3", 2)]
    assert gpus(device="cpu") == [(None, None)]
    assert gpus(device="cpu", jobs=2) == [(None, 3)] * 2
    assert gpus(device="cpu", jobs=9) == [(None, 1)] * 9
    assert gpus(device="cpu", jobs=9, runs=2) == [(None, 3)] * 2
    assert gpus(runs=1) == [("3", None)] and gpus(runs=0) == [("3", None)]
    with pytest.raises(InputError, match="--device cuda:1: each worker has a GPU of its own"):
        gpus(device="cuda:1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(InputError, match="--device cuda: there is no GPU here"):
        gpus(device="cuda")


def test_the_rows_of_an_ablation():
    assert [(row.key, sorted(row.parts)) for row in upward()][:3] == [
        ("baseline", []),
        ("plus-second_order", ["second_order"]),
        ("plus-propagation", ["propagation", "second_order"]),
    ]
    assert upward()[-1].key == "sal" and not any(upward()[-1].flags.values())
    for row in (*upward(), *without_one()):
        switches = resolve(row.flags).ablation
        # A recipe's own switches make no row another.
        assert resolve(parse_flags(as_words({"recipe": "stable", **row.flags}))).ablation == switches
        assert {part.flag for part in PARTS if getattr(switches, part.flag)} == row.parts, row.key


def test_an_ablation_is_paired_by_seed(queues, capsys):
    words = ["--seeds", "1", "2", *queues.flags]
    assert ablation.main(words) == 0
    assert names(queues.calls()) == sorted(f"{row.key}-seed{seed}" for row in upward() for seed in (1, 2))
    folder = queues.path / "out" / "ablation"
    text = (folder / "table.md").read_text()
    last, best = text.split("best: mAP by protocol sal")
    assert last.startswith("last: mAP by protocol sal")
    for table in (last, best):
        assert "| baseline |  |  |  |  |  |  | 2 | 32.5 ± 0.7 | 32.5 ± 0.7 |  | 2.0 |" in table
        assert "| + propagation | ✓ | ✓ |  |  |  |  | 2 | 32.5 ± 0.7 | 32.5 ± 0.7 | +0.0 [+0.0, +0.0] | 2.0 |" in table
    latex = (folder / "table.tex").read_text()
    assert "+ propagation & $\\checkmark$ & $\\checkmark$ &  &  &  &  & 2 & 32.5 $\\pm$ 0.7" in latex
    capsys.readouterr()
    assert ablation.main([*words, "--without", "--table"]) == 0
    assert queues.calls() == []
    assert "| SAL without mix-up | ✓ | ✓ | ✓ | ✓ |  | ✓ | 0 | - | - | - | - |" in (folder / "table.md").read_text()
    assert "12 runs of 26 not finished" in capsys.readouterr().out


def test_a_table_says_that_no_row_is_the_recipe(monkeypatch, queues, capsys):
    said = (
        "--recipe stable leaves out propagation, mix-up, adaptive mask, which SAL here has: no row is the recipe as it "
        "stands"
    )
    words = ["--seeds", "1", *queues.flags]
    for recipe in ("stable", "published"):
        assert ablation.main([*words, "--name", recipe, "--recipe", recipe]) == 0
        assert (said in capsys.readouterr().out) == (recipe == "stable")
    monkeypatch.setattr("experiments.ablation_table.RECIPES", {"stable": {"no_mask": True}})  # the row before the last
    assert ablation.main([*words, "--name", "stable", "--recipe", "stable", "--table"]) == 0
    assert "--recipe" not in capsys.readouterr().out


def table_run(seed, value):
    measures = {"last": {"0.5": value, "avg 0.5": value}}
    return TableRun(name=f"r{seed}", seed=seed, data="set", options=None, measures=measures, classes=(), compared={})


def test_the_change_of_a_row_is_of_the_same_seeds():
    first, second, third = upward()[:3]
    runs = {
        first.key: {1: table_run(1, 0.30), 2: table_run(2, 0.36), 3: table_run(3, 0.33)},
        second.key: {1: table_run(1, 0.32), 2: table_run(2, 0.39), 9: table_run(9, 0.90)},
        third.key: {9: table_run(9, 0.85)},
    }
    # +2 and +3: mean 2.5, sd 0.7071, and 12.706 sd / sqrt 2 = 6.353 on either side
    assert change_of(second, runs, "last", "avg 0.5") == "+2.5 [-3.9, +8.9]"
    assert change_of(third, runs, "last", "avg 0.5") == "-5.0"
    assert change_of(first, runs, "last", "avg 0.5") == ""
    assert change_of(upward()[3], runs, "last", "avg 0.5") == "-"
    runs[second.key][2] = table_run(2, 0.3801)  # +2.00 and +2.01: sure
    assert change_of(second, runs, "last", "avg 0.5") == "+2.0 [+1.9, +2.1]*"


def test_a_real_run_is_made_once(tmp_path, tiny, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["--seeds", "1", "--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), *TINY_FLAGS]
    assert seeds.main(words) == 0
    results = json.loads((tmp_path / "out" / "seeds" / "seeds-seed1" / "results.json").read_text())
    assert results["finished"] is True and results["steps"] == 12
    capsys.readouterr()
    assert seeds.main(words) == 0
    out = capsys.readouterr().out
    assert "what it prints" not in out and "seeds-seed1: one run, so no deviation" in out
