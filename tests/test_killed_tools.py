"""prepare and convert, killed before any of their operations on files: the same command goes on, and nothing else stays."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from support.disk import contents
from support.paths import ROOT
from support.tiny import CLASSES, FEATURE_SIZE

from data_tools import convert, prepare
from utils.atomic import locked

# Runs a command in children of one process that has imported everything: each is killed before another operation.
KILLER = """
import os, sys
from data_tools import convert, prepare

def killed_before(operation, target):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"):
            if any(target in os.fsdecode(a) for a in arguments if isinstance(a, (str, bytes, os.PathLike))):
                count += 1
                if count > operation:
                    os._exit(9)
    sys.addaudithook(hook)

def child(operation, target, tool, arguments):
    pid = os.fork()
    if not pid:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        if operation is not None:
            killed_before(operation, target)
        os._exit(tool.main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

parent, name, *arguments = sys.argv[1:]
tool = {"prepare": prepare, "convert": convert}[name]
for operation in range(1000):
    target = os.path.join(parent, f"set{operation}")
    call = [a.replace("TARGET", target) for a in arguments]
    code = child(operation, target, tool, call)
    if code == 0:
        break
    again = child(None, target, tool, call)
    print(operation, code, again)
"""


def killed_everywhere(folder, *command):
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(folder), *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[1:] for row in rows] == [["9", "0"]] * len(rows)
    return len(rows)


@pytest.fixture
def small(tiny):
    """The tiny set with one video a split: fewer operations to be killed before."""
    for split in ("train", "test"):
        (tiny.path / f"split_{split}.txt").write_text(f"{split}_0\n")
    tiny.edit_gt(lambda database: [database.pop(v) for v in list(database) if not v.endswith("_0")])
    return tiny


def test_convert_killed_anywhere_goes_on(small, tmp_path):
    sets = tmp_path / "sets"
    sets.mkdir()
    flags = ["--feature_size", FEATURE_SIZE, "--modal", "rgb"]
    tries = killed_everywhere(sets, "convert", small.path, "TARGET", *flags)
    assert tries > 20
    whole = contents(sets / f"set{tries}")
    assert {"gt.json", "split_train.txt", "split_test.txt"} < whole.keys() and not any("tmp" in name for name in whole)
    for i in range(tries):
        assert contents(sets / f"set{i}") == whole, f"killed before operation {i}"


def test_prepare_killed_anywhere_goes_on(small, tmp_path):
    sets, table = tmp_path / "sets", tmp_path / "labels.csv"
    sets.mkdir()
    table.write_text(f"video,label\ntrain_0,{CLASSES[0]}\ntrain_1,{CLASSES[0]}\n")
    features = small.path / "features" / "train"
    tries = killed_everywhere(
        sets, "prepare", "--features", features, "--labels", table, "--out", "TARGET", "--modal", "rgb"
    )
    whole = contents(sets / f"set{tries}")
    assert "gt.json" in whole and not any("tmp" in name for name in whole)
    for i in range(tries):
        assert contents(sets / f"set{i}") == whole, f"killed before operation {i}"


def test_a_folder_that_another_run_is_writing_is_refused(small, tmp_path, capsys):
    target = tmp_path / "new"
    target.mkdir()
    call = [str(small.path), str(target), "--feature_size", str(FEATURE_SIZE)]
    with locked(target) as held:
        assert held
        assert convert.main(call) == 2
    assert f"{target}: another run is writing it" in capsys.readouterr().err
    assert convert.main(call) == 0


def test_names_are_checked_before_anything_is_written(small, tmp_path, capsys):
    """Names that would be two lines of a split file, or no text at all."""
    features, table = tmp_path / "features", tmp_path / "labels.csv"
    for name in ("a\nb", "a\x1b[31m", os.fsdecode(b"caf\xe9"), "y" * 240):
        shutil.rmtree(features, ignore_errors=True)
        features.mkdir()
        for video in ("x", name):
            shutil.copy(small.feature("train", "rgb", "train_0"), features / f"{video}.npy")
        rows = f'video,label\nx,A\n"{name}",A\n'
        table.write_bytes(os.fsencode(rows))
        flags = ["--features", features, "--labels", table, "--out", tmp_path / "out", "--modal", "rgb"]
        code = prepare.main(list(map(str, [*flags, "--feature_size", FEATURE_SIZE])))
        err = capsys.readouterr().err
        assert code == 2 and err.count("\n") == 1 and "\x1b" not in err
        assert not pathlib.Path(tmp_path / "out").exists()
