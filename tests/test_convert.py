"""data_tools.convert: any layout as plain files, whole or not taken for a set, resumable."""

import errno
import json
import os

import numpy as np
import pytest
from support.disk import contents
from support.tiny import FEATURE_SIZE, load_tiny_set

from data_tools import convert
from formats.layouts import UNFINISHED

SIZE = ["--feature_size", str(FEATURE_SIZE)]


@pytest.fixture
def converted(tiny, tmp_path, capsys):
    """converted(*flags): run the converter from the tiny set to tmp_path/new; exit code, stdout, lines of stderr."""

    def call(*flags, source=None, target=None):
        places = [str(source or tiny.path), str(target or tmp_path / "new")]
        code = convert.main([*places, *SIZE, *flags])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return call


def assert_same_set(one, other):
    assert one.classes == other.classes
    for split in ("train", "test"):
        pairs = list(zip(getattr(one, split), getattr(other, split), strict=True))
        for a, b in pairs:
            assert a.video_id == b.video_id and a.fps == b.fps
            assert a.labels.tolist() == b.labels.tolist()
            assert a.features.dtype == b.features.dtype and np.array_equal(a.features, b.features)
            assert one.annotations[a.video_id].instances == other.annotations[b.video_id].instances
        assert pairs


def joint_set(tiny, path):
    """The tiny set with streams side by side, in the activitynet layout."""
    for split, folder in (("train", "train"), ("test", "val")):
        (path / folder).mkdir(parents=True)
        for rgb in (tiny.path / "features" / split / "rgb").iterdir():
            flow = np.load(tiny.feature(split, "flow", rgb.stem))
            np.save(path / folder / rgb.name, np.concatenate([np.load(rgb), flow], axis=1))
    content = json.loads(tiny.gt.read_text())
    for entry in content["database"].values():
        entry.update(duration=40.0, fps=30.0)
    (path / "gt.json").write_text(json.dumps(content))
    return path


def test_the_copy_is_the_same_set(converted, tiny, tmp_path):
    code, out, err = converted()
    assert (code, err) == (0, [])
    assert (
        "7 training and 4 test videos, 3 classes, from thumos; 22 arrays compared with their source, 0 of them" in out
    )
    assert_same_set(load_tiny_set(tiny.path), load_tiny_set(tmp_path / "new"))


def test_a_joint_layout_is_taken_apart(converted, tiny, tmp_path):
    source = joint_set(tiny, tmp_path / "joint")
    assert converted(source=source)[0] == 0
    assert_same_set(load_tiny_set(source), load_tiny_set(tmp_path / "new"))
    assert {file.name for file in (tmp_path / "new" / "features" / "test").iterdir()} == {"rgb", "flow"}
    entry = json.loads((tmp_path / "new" / "gt.json").read_text())["database"]["test_1"]
    assert (entry["duration"], entry["fps"], entry["subset"]) == (40.0, 30.0, "test")


def test_one_stream(converted, tiny, tmp_path):
    assert converted("--modal", "flow")[0] == 0
    one = load_tiny_set(tmp_path / "new", modal="flow")
    assert np.array_equal(one.train.videos[2].features, load_tiny_set(tiny.path, modal="flow").train.videos[2].features)
    assert not (tmp_path / "new" / "features" / "train" / "rgb").exists()


def test_labels_without_segments_stay(converted, tiny, tmp_path):
    tiny.edit_gt(lambda database: database["train_1"].update(annotations=[], labels=["Jump", "Throw"]))
    assert converted()[0] == 0
    assert_same_set(load_tiny_set(tiny.path), load_tiny_set(tmp_path / "new"))


def test_float64_becomes_float32_and_float16_stays(converted, tiny, tmp_path):
    for stream in ("rgb", "flow"):
        file = tiny.feature("train", stream, "train_1")
        np.save(file, np.load(file).astype(np.float64))
    assert converted()[0] == 0
    new = tmp_path / "new" / "features" / "train" / "rgb"
    assert np.load(new / "train_1.npy").dtype == np.float32 and np.load(new / "train_0.npy").dtype == np.float16


@pytest.mark.parametrize("after", [0, 1, 5, 21, 22, 23, 24])
@pytest.mark.parametrize("how", ["disk full", "interrupt"])
def test_interrupted_and_taken_up(converted, tiny, tmp_path, monkeypatch, after, how):
    """Whatever was written before: no half set passes for a whole one, and the second run ends as one would have."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if how == "disk full" else KeyboardInterrupt()
    written = 0

    def failing(_):
        nonlocal written
        written += 1
        if written > after + 1:  # the first is the marker
            raise error

    monkeypatch.setattr("os.fsync", failing)
    code, _, err = converted()
    assert (code, len(err)) == ((2 if how == "disk full" else 1), 1)
    new = tmp_path / "new"
    if new.exists():
        assert (new / UNFINISHED).exists()
        code, _, err = converted(source=new, target=tmp_path / "other")
        assert code == 2 and f"{new}: is incomplete" in err[0]
    monkeypatch.undo()
    code, out, _ = converted()
    assert code == 0 and f"{min(after, 22)} of them written by an earlier run" in out
    assert_same_set(load_tiny_set(tiny.path), load_tiny_set(new))
    assert converted(target=tmp_path / "fresh")[0] == 0
    assert contents(new) == contents(tmp_path / "fresh")


def test_what_an_earlier_run_left_is_not_trusted(converted, tiny, tmp_path):
    """A file that was damaged in between, or is of another video, is written again."""
    new = tmp_path / "new"
    assert converted()[0] == 0
    origin = f"converted from {tiny.path.resolve()} (thumos, all)"
    (new / UNFINISHED).write_text(origin)
    (new / "gt.json").unlink()
    rgb = new / "features" / "train" / "rgb"
    (rgb / "train_0.npy").write_bytes((rgb / "train_0.npy").read_bytes()[:-4])
    (rgb / "train_1.npy").write_bytes((rgb / "train_2.npy").read_bytes())
    (rgb / "train_3.npy").write_bytes(b"nonsense")
    (rgb / ".train_4.npy.77.tmp").write_bytes(b"left by a killed run")
    code, out, _ = converted()
    assert code == 0 and "19 of them written by an earlier run" in out
    assert_same_set(load_tiny_set(tiny.path), load_tiny_set(new))
    assert not list(new.rglob("*.tmp"))


def refusal(result):
    code, out, err = result
    assert code == 2 and len(err) == 1 and out == ""
    return err[0]


def test_nothing_else_is_written_over(converted, tiny, tmp_path):
    assert converted()[0] == 0
    before = contents(tmp_path / "new")
    code, out, _ = converted()
    assert code == 0 and "22 of them written by an earlier run" in out  # the same set: nothing to do
    changed = tiny.feature("train", "rgb", "train_0")
    array = np.load(changed)
    np.save(changed, array + 1)
    assert f"{tmp_path / 'new'}: exists and is not an unfinished set" in refusal(converted())
    np.save(changed, array)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    assert "exists and is not an unfinished set" in refusal(converted(target=tmp_path / "mine"))
    assert "exists and is not an unfinished set" in refusal(converted(target=tmp_path / "mine" / "thesis.txt"))
    assert "is inside" in refusal(converted(target=tiny.path / "new"))
    assert contents(tmp_path / "new") == before and (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    (tmp_path / "new" / UNFINISHED).write_text("converted from elsewhere")
    assert "an unfinished set converted from elsewhere" in refusal(converted())


def test_a_broken_source_leaves_no_set(converted, tiny, tmp_path):
    file = tiny.feature("test", "flow", "test_2")
    array = np.load(file)
    array[3] = np.nan
    np.save(file, array)
    assert str(file) in refusal(converted())
    assert not (tmp_path / "new" / "gt.json").exists() and (tmp_path / "new" / UNFINISHED).exists()
    file.unlink()
    assert f"{file}: no such feature file" in refusal(converted())


@pytest.mark.parametrize("name", ["../escape", "a/b", "..", "x" * 300])
def test_names_that_no_file_can_have(converted, tiny, tmp_path, name):
    """A video's name comes from elsewhere: it must not lead out of the folder."""
    h5py = pytest.importorskip("h5py")
    source = tmp_path / "h5"
    source.mkdir()
    with h5py.File(source / "f.h5", "w") as file:
        for video in ("train_0", "test_0", "odd"):
            file[video] = np.ones((9, 2 * FEATURE_SIZE), np.float32)
    note = [{"label": "Dive", "segment": [1, 2]}]
    database = {v: {"subset": s, "annotations": note} for v, s in (("train_0", "train"), ("test_0", "test"))}
    (source / "gt.json").write_text(json.dumps({"database": database}))
    assert converted(source=source)[0] == 0
    database[name] = {"subset": "train", "annotations": note}
    (source / "gt.json").write_text(json.dumps({"database": database}))
    before = contents(tmp_path)
    code, _, err = converted(source=source, target=tmp_path / "other")
    assert code == 2 and len(err) == 1
    assert contents(tmp_path) == before


def test_a_disk_that_is_too_small(converted, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: os.terminal_size((1000, 1000)) and type("U", (), {"free": 1000})
    )
    line = refusal(converted())
    assert "1,000 bytes are free" in line and not (tmp_path / "new").exists()


@pytest.mark.parametrize("flags", [["--layout", "wtalc"], ["--modal", "sound"], ["--lr", "1"], ["--feature_size", "x"]])
def test_wrong_flags(converted, tmp_path, flags):
    assert flags[0] in refusal(converted(*flags)) and not (tmp_path / "new").exists()
