"""One process at a time writes into an experiment's folder; no run is lost to another one."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
import torch
from support.disk import complaint, contents
from support.paths import ROOT

import train
from run import lock, saving
from run.checkpoint import load_checkpoint
from run.lock import FILE, OWNER, FolderLock, Holder, InUse
from utils.errors import InputError

TWIN = """
import pathlib, sys, time
from run.lock import FolderLock, InUse
folder, start = pathlib.Path(sys.argv[1]), float(sys.argv[2])
time.sleep(max(0, start - time.time()))
try:
    with FolderLock(folder):
        print("has it", flush=True)
        time.sleep(1.0)
except InUse as error:
    print(error)
"""


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without locks."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def quick(monkeypatch):
    """Who is in the way is asked for only once."""
    monkeypatch.setattr(lock, "LOOKS", 1)


@pytest.mark.parametrize("supported", [True, False], ids=["flock", "no flock"])
def test_a_folder_in_use_is_refused_by_name(tmp_path, request, supported):
    if not supported:
        request.getfixturevalue("no_flock")
    with FolderLock(tmp_path / "x"):
        with pytest.raises(InUse) as caught, FolderLock(tmp_path / "x"):
            pass
        for part in (str(tmp_path / "x"), f"process {os.getpid()} on {socket.gethostname()} since 20", "--exp_name"):
            assert part in str(caught.value)
    with FolderLock(tmp_path / "x"):  # free again
        pass
    assert contents(tmp_path) == {}  # what was made for nothing is gone


def test_of_twins_that_start_at_the_same_instant_one_has_the_folder(tmp_path):
    start = time.time() + 1.0
    command = [sys.executable, "-c", TWIN, str(tmp_path / "deep" / "x"), str(start)]
    twins = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = [twin.communicate(timeout=60)[0] for twin in twins]
    assert sum(answer == "has it\n" for answer in answers) == 1
    (winner,) = (twin.pid for twin, answer in zip(twins, answers, strict=True) if answer == "has it\n")
    assert sum(f"in use by process {winner} on" in answer for answer in answers) == 5
    assert not any(contents(tmp_path).values())  # an empty folder may stay, if one that was refused had made it


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path):
    command = [sys.executable, "-c", TWIN.replace("1.0", "60"), str(tmp_path / "x"), "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "has it\n"
        holder.kill()
        holder.wait()
    assert json.loads((tmp_path / "x" / FILE).read_text())["pid"] == holder.pid
    with FolderLock(tmp_path / "x"):
        assert json.loads((tmp_path / "x" / FILE).read_text())["pid"] == os.getpid()


def a_holder(**changes):
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": lock._start_of(os.getpid())}
    return Holder(**{**holder, "since": "2026-01-01 00:00:00", "command": "main.py", **changes})


STALE = {
    "no such process": ({"pid": 2**22 + 1, "started": "1"}, True),
    "another process of that number": ({"started": "1"}, True),
    "runs": ({}, False),
    "on another host": ({"host": "elsewhere"}, False),
    "nothing known of its start": ({"started": None}, False),
}


@pytest.mark.parametrize("kind", STALE)
def test_without_locks_an_owner_that_has_ended_gives_way(tmp_path, no_flock, quick, kind):
    changes, ended = STALE[kind]
    (tmp_path / OWNER).write_bytes(a_holder(**changes).as_json())
    with contextlib.nullcontext() if ended else pytest.raises(InUse, match=r"remove .*\.lock\.owner"):
        with FolderLock(tmp_path):
            assert json.loads((tmp_path / OWNER).read_text())["pid"] == os.getpid()
        assert contents(tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff" * 9, b"[" * 90_000])
def test_an_owner_that_says_nothing_stays(tmp_path, no_flock, quick, content):
    (tmp_path / OWNER).write_bytes(content)
    with pytest.raises(InUse, match="another process"), FolderLock(tmp_path):
        pass
    assert (tmp_path / OWNER).read_bytes() == content


def test_a_lock_file_removed_by_its_last_holder_is_not_mistaken_for_the_lock(tmp_path, monkeypatch):
    """Opened before it was removed, locked after: another process may have a new file by then."""
    original, removed = fcntl.flock, []

    def flock(descriptor, operation):
        if not removed:
            removed.append((tmp_path / FILE).unlink())
        return original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with FolderLock(tmp_path):
        monkeypatch.undo()
        with pytest.raises(InUse), FolderLock(tmp_path):
            pass


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_was_planted_in_the_place_of_the_lock_is_refused(tmp_path, kind):
    file, target = tmp_path / FILE, tmp_path / "target"
    target.write_text("precious")
    {"fifo": lambda: os.mkfifo(file), "link": lambda: file.symlink_to(target), "folder": file.mkdir}[kind]()
    with pytest.raises((OSError, ValueError), match=r"\.lock"), FolderLock(tmp_path):
        pass
    assert target.read_text() == "precious"


@pytest.mark.parametrize("flags", [[], ["--overwrite"], ["--resume"]], ids=["twin", "overwrite", "resume"])
def test_a_running_experiment_is_left_alone(tiny, run, tmp_path, flags):
    folder = tmp_path / "out" / "x"
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1").code == 0
    with FolderLock(folder):
        (folder / ".last.pt.123.tmp").write_bytes(b"being written")
        before = contents(tmp_path)
        outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1", *flags)
        assert f"{folder}: in use by process {os.getpid()}" in complaint(outcome.code, outcome.err)
        assert contents(tmp_path) == before


def test_a_twin_is_refused_before_the_data_are_read(tiny, run, tmp_path):
    with FolderLock(tmp_path / "out" / "x"):
        outcome = run(tmp_path / "nowhere", "--exp_name", "x")
        assert "in use" in complaint(outcome.code, outcome.err)


def test_a_run_has_its_lock_from_the_start_to_the_end(tiny, run, tmp_path, monkeypatch):
    import train
    from data_tools import opening

    seen = []

    def looking(original):
        def look(*args, **kwargs):
            seen.append((tmp_path / "out" / "x" / FILE).exists())
            return original(*args, **kwargs)

        return look

    monkeypatch.setattr(opening, "load_dataset", looking(opening.load_dataset))
    monkeypatch.setattr(train, "train_step", looking(train.train_step))
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1").code == 0
    assert seen == [True] * 5
    assert not (tmp_path / "out" / "x" / FILE).exists()


def test_inference_while_training_runs_and_never_twice_into_one_folder(tiny, run, tmp_path):
    folder = tmp_path / "out" / "x"
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1").code == 0
    with FolderLock(folder):
        assert run(tiny.path, "--exp_name", "x", "--inference_only").code == 0
    before = contents(tmp_path)
    with FolderLock(folder / "inference"):
        outcome = run(tiny.path, "--exp_name", "x", "--inference_only")
        assert f"{folder / 'inference'}: in use" in complaint(outcome.code, outcome.err)
        outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--overwrite")
        assert f"{folder / 'inference'}: in use" in complaint(outcome.code, outcome.err)
    assert contents(tmp_path) == before


def test_overwriting_never_takes_the_place_of_another_experiment(tiny, run, tmp_path):
    """x.old is a name like any other, and a second --overwrite keeps what the first one kept."""
    out = tmp_path / "out"
    for name in ("x.old", "x"):
        assert run(tiny.path, "--exp_name", name, "--num_epochs", "1").code == 0
    (out / "x" / "notes.txt").write_text("precious")
    earlier = {name: contents(out / name) for name in ("x.old", "x")}
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--overwrite")
    assert outcome.code == 0 and f"the earlier run is kept in {out / 'x.old-2'}" in outcome.out
    assert {name: contents(out / name) for name in ("x.old", "x.old-2")} == {
        "x.old": earlier["x.old"],
        "x.old-2": earlier["x"],
    }
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--overwrite").code == 0
    assert sorted(path.name for path in out.iterdir()) == ["x", "x.old", "x.old-2", "x.old-3"]


def test_a_folder_without_checkpoints_keeps_what_is_in_it(tiny, run, tmp_path):
    folder = tmp_path / "out" / "x"
    (folder / "tensorboard").mkdir(parents=True)
    for name in ("notes.txt", "tensorboard/mine.txt", ".mine.tmp"):
        (folder / name).write_text("precious")
    (folder / ".last.pt.123.tmp").write_bytes(b"of a run that was killed in its first save")
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1").code == 0
    assert all((folder / name).read_text() == "precious" for name in ("notes.txt", "tensorboard/mine.txt", ".mine.tmp"))
    assert not (folder / ".last.pt.123.tmp").exists()


# A folder that is renamed, removed or replaced under its run


def during_a_step(monkeypatch, act, *, call=7):
    """Call `act` before that step of a run of 12, which saves at the ends of epochs, and evaluates after steps 8 and 12."""
    step, calls = train.train_step, []

    def acting(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            act()
        return step(*args, **kwargs)

    monkeypatch.setattr(train, "train_step", acting)


def test_a_run_follows_its_folder(tiny, run, tmp_path, monkeypatch):
    """Another run takes the name at once: neither loses anything to the other."""
    out, flags = tmp_path / "out", ("--save_minutes", "0")
    assert run(tiny.path, "--exp_name", "whole", *flags).code == 0
    theirs = {}

    def take_its_name():
        (out / "x").rename(out / "moved")
        shutil.copytree(out / "whole", out / "x")
        theirs.update(contents(out / "x"))

    during_a_step(monkeypatch, take_its_name)
    outcome = run(tiny.path, "--exp_name", "x", *flags)
    assert outcome.code == 0, outcome.err
    assert outcome.out.count(f"{out / 'x'} has been renamed: the run goes on in {out / 'moved'}") == 1
    assert {
        name: data for name, data in contents(out / "x").items() if name in theirs
    } == theirs  # besides a file of curves
    names = {path.name for path in (out / "moved").iterdir()}
    assert names == {path.name for path in (out / "whole").iterdir()}
    models = [load_checkpoint(out / name / "last.pt").model for name in ("whole", "moved")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_a_folder_that_is_renamed_while_its_run_saves(tiny, run, tmp_path, monkeypatch):
    out, save, calls = tmp_path / "out", saving.save_checkpoint, []

    def renamed(path, checkpoint):
        calls.append(1)
        if len(calls) == 3:
            (out / "x").rename(out / "moved")
            (out / "moved" / ".last.pt.25f9b622.tmp").write_text("half")
            raise InputError("no such file")
        save(path, checkpoint)

    monkeypatch.setattr(saving, "save_checkpoint", renamed)
    outcome = run(tiny.path, "--exp_name", "x", "--save_minutes", "0")
    assert outcome.code == 0, outcome.err
    names = {path.name for path in (out / "moved").iterdir()}
    assert {"best.pt", "last.pt", "results.json"} < names and not any(name.endswith(".tmp") for name in names)


@pytest.mark.parametrize("put", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_put_in_the_place_of_the_lock_file_does_not_end_a_run(tiny, run, tmp_path, monkeypatch, put):
    path = tmp_path / "out" / "x" / FILE

    def replace():
        path.unlink()
        put(path)

    during_a_step(monkeypatch, replace)
    assert run(tiny.path, "--exp_name", "x", "--save_minutes", "0").code == 0
    assert load_checkpoint(path.with_name("last.pt")).training["step"] == 12
    assert run(tiny.path, "--exp_name", "x", "--resume").code == 2


def test_a_run_whose_folder_is_removed_makes_it_again_locked(tiny, run, tmp_path, monkeypatch):
    folder = tmp_path / "out" / "x"
    during_a_step(monkeypatch, lambda: shutil.rmtree(folder))
    assert run(tiny.path, "--exp_name", "x", "--save_minutes", "0").code == 0
    assert {"best.pt", "last.pt", "results.json", "options.json"} <= {path.name for path in folder.iterdir()}
    assert not (folder / FILE).exists()
    assert run(tiny.path, "--exp_name", "x", "--resume").code == 0


def test_a_run_writes_nothing_into_another_folder_of_its_name(tiny, run, tmp_path, monkeypatch):
    folder = tmp_path / "out" / "x"

    def replace():
        shutil.rmtree(folder)
        folder.with_name("other").mkdir()  # of another inode, whatever the file system does with free ones
        folder.mkdir()
        (folder / "notes.txt").write_text("precious")

    during_a_step(monkeypatch, replace)
    outcome = run(tiny.path, "--exp_name", "x", "--save_minutes", "0")
    assert outcome.code == 1 and "is another folder now" in outcome.err and outcome.err.count("\n") == 1
    assert contents(folder) == {"notes.txt": b"precious"}


def test_a_lock_file_that_is_removed_is_made_again(tmp_path):
    with FolderLock(tmp_path / "x") as held:
        (tmp_path / "x" / FILE).unlink()
        held.follow()
        with pytest.raises(InUse), FolderLock(tmp_path / "x"):
            pass
        (tmp_path / "x" / FILE).unlink()
        with FolderLock(tmp_path / "x"), pytest.raises(InUse):
            held.follow()


def test_an_inference_removes_what_a_killed_one_has_left(tiny, run, tmp_path):
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1").code == 0
    folder = tmp_path / "out" / "x" / "inference"
    folder.mkdir()
    for name in (".results.json.25f9b622.tmp", ".detections.json.25f9b622.tmp", ".mine.tmp"):
        (folder / name).write_text("half")
    assert run(tiny.path, "--inference_only", "--exp_name", "x").code == 0
    assert {path.name for path in folder.iterdir()} == {".mine.tmp", "detections.json", "results.json"}


def test_curves_that_cannot_be_written_do_not_end_a_run(tiny, run, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("run.curves.RecordWriter.write", refuse)
    outcome = run(tiny.path, "--exp_name", "x", "--log_steps", "1")
    assert outcome.code == 0 and outcome.out.count("curves can't be written any more (No space left on device)") == 1
    assert (tmp_path / "out" / "x" / "last.pt").exists()


@pytest.mark.parametrize("name", ["--", "-x", "a\nb", "a\x1b[2J", "\u202eabc"])
def test_a_name_that_is_none(refused_with, tiny, name):
    line = refused_with(tiny.path, f"--exp_name={name}")
    assert "--exp_name" in line and "\x1b" not in line and "\u202e" not in line


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("my set", "my_set"),
        ("-x", "x"),
        ("émile", "émile"),
        ("a\x1b[2Jb", "a_2Jb"),
        ("...", "data"),
        ("x" * 200, "x" * 50),
    ],
)
def test_an_experiment_is_named_after_its_data(folder, name):
    from run.experiment import default_name

    assert default_name(f"/data/{folder}/").startswith(f"{name}_2")


def test_results_name_the_data_and_the_preset(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x", "--num_epochs", "1")
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert results["data"] == {"name": "tiny", "path": str(tiny.path)} and results["preset"] == "thumos14"
    assert "recipe" not in results and "recipe_taken" not in results
