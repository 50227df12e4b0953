"""utils.atomic: temporary names that nobody can plant, and leftovers of killed processes, told from what others still write."""

import fcntl
import os
import stat
import subprocess
import sys
import time

import pytest
from support.disk import contents
from support.paths import ROOT

from utils import atomic
from utils.atomic import locked, remove_leftovers, whole_folder, write_file, write_text
from utils.errors import InputError


def test_a_planted_temporary_name_is_never_written_through(tmp_path, monkeypatch):
    """Even if somebody guessed it."""
    victim, path = tmp_path / "victim", tmp_path / "a.json"
    victim.write_text("precious")
    tokens = iter(["planted", "planted"])
    monkeypatch.setattr(atomic.secrets, "token_hex", lambda _: next(tokens))
    (tmp_path / ".a.json.planted.tmp").symlink_to(victim)
    with pytest.raises(InputError, match="File exists"):
        write_text(path, "new")
    assert victim.read_text() == "precious" and not path.exists()
    assert (tmp_path / ".a.json.planted.tmp").is_symlink()


def test_the_names_differ_from_run_to_run(tmp_path):
    names = []
    for _ in range(2):
        write_file(tmp_path / "a", lambda file: names.append(os.path.basename(file.name)))
    assert names[0] != names[1] and str(os.getpid()) not in names[0]


def test_files_have_the_usual_mode(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_leftovers_go_and_other_files_stay(tmp_path):
    (tmp_path / ".a.json.1234.tmp").write_bytes(b"half")  # a process id, as earlier versions wrote it
    (tmp_path / ".a.json.0f0f0f0f.tmp").write_bytes(b"half")
    (tmp_path / ".a.json.abc_0123.tmp").mkdir()
    (tmp_path / ".a.json.abc_0123.tmp" / "filled").write_bytes(b"half")
    (tmp_path / ".b.json.0f0f0f0f.tmp").write_bytes(b"another file's")
    kept = {"a.json": b"whole", ".tmp": b"mine", ".notes.tmp": b"mine", "a.json.tmp": b"mine"}
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / ".a.json.0link.tmp").symlink_to(tmp_path / "a.json")
    os.mkfifo(tmp_path / ".a.json.0pipe.tmp")
    remove_leftovers(tmp_path, "a.json")
    assert (tmp_path / ".b.json.0f0f0f0f.tmp").exists()
    remove_leftovers(tmp_path)
    (tmp_path / ".a.json.0link.tmp").unlink()  # neither is one of ours
    (tmp_path / ".a.json.0pipe.tmp").unlink()
    assert contents(tmp_path) == kept
    remove_leftovers(tmp_path / "nowhere")


def test_what_somebody_still_writes_is_left_alone(tmp_path):
    def during(file):
        file.write(b"whole")
        remove_leftovers(tmp_path)

    write_file(tmp_path / "a", during)
    assert contents(tmp_path) == {"a": b"whole"}
    with whole_folder(tmp_path / "set") as unfinished:
        remove_leftovers(tmp_path)
        (unfinished / "x").write_bytes(b"whole")
    assert contents(tmp_path) == {"a": b"whole", "set": None, "set/x": b"whole"}


def test_another_process_is_respected_until_it_is_killed(tmp_path):
    script = (
        "import pathlib, sys, time\nfrom utils.atomic import write_file\n"
        "def write(file):\n    file.write(b'half'); file.flush(); print('now', flush=True); time.sleep(100)\n"
        "write_file(pathlib.Path(sys.argv[1]), write)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "last.pt")], cwd=ROOT, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"now\n"
        remove_leftovers(tmp_path, "last.pt")
        assert len(list(tmp_path.iterdir())) == 1
        writer.kill()
    remove_leftovers(tmp_path, "last.pt")
    assert not list(tmp_path.iterdir())


def test_a_folder_made_again_removes_what_the_first_try_left(tmp_path):
    (tmp_path / ".demo.abcd0123.tmp" / "filled").mkdir(parents=True)
    with whole_folder(tmp_path / "demo") as unfinished:
        (unfinished / "x").write_bytes(b"")
    assert contents(tmp_path) == {"demo": None, "demo/x": b""}


def test_starting_an_experiment_again_removes_what_a_kill_left(tiny, run, tmp_path):
    """Of a run that was killed in its first save."""
    folder = tmp_path / "out" / "x"
    folder.mkdir(parents=True)
    (folder / ".last.pt.0a1b2c3d.tmp").write_bytes(b"half")
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1").code == 0
    assert not list(folder.glob("*.tmp")) and not list(folder.glob(".*.tmp"))


def test_where_nothing_can_be_locked_age_decides(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    write_text(tmp_path / "a", "whole")
    fresh, old = tmp_path / ".a.0a.tmp", tmp_path / ".a.0b.tmp"
    fresh.write_bytes(b"perhaps still written")
    old.write_bytes(b"left")
    os.utime(old, (time.time() - 2 * atomic.IDLE_SECONDS,) * 2)
    remove_leftovers(tmp_path)
    assert fresh.exists() and not old.exists()
    with locked(tmp_path) as held:
        assert held is None


def test_a_file_taken_for_a_leftover_too_early_is_made_again(tmp_path, monkeypatch):
    """Between its making and its locking."""
    lock, early = atomic._lock, [True]

    def locks(descriptor):
        if early and early.pop():
            for path in tmp_path.glob(".*.tmp"):
                path.unlink()
        return lock(descriptor)

    monkeypatch.setattr(atomic, "_lock", locks)
    write_text(tmp_path / "a", "whole")
    assert contents(tmp_path) == {"a": b"whole"}
