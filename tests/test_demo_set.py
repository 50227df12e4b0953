"""The built-in synthetic set: whole, the same every time, and with the difficulties it promises."""

import hashlib
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.disk import contents

from data_tools import demo_set
from dataset import load_dataset
from formats.annotations import class_names
from formats.ground_truth import read_annotations
from options import DataOptions
from utils.errors import InputError


@pytest.fixture
def small_channels(monkeypatch):
    monkeypatch.setattr(demo_set, "DEMO", replace(demo_set.DEMO, channels=16))


def test_it_is_the_same_every_time(tmp_path, small_channels):
    for name in ("a", "b"):
        demo_set.ensure_demo_set(tmp_path / name)
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert sum(content is not None for content in first.values()) == 3 + 2 * 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_the_published_set(tmp_path, monkeypatch):
    """The figures in README are those of exactly this set."""
    totals = {"rgb": 0.0, "flow": 0.0}

    def add(file, array):
        totals[file.parent.name] += float(array.sum(dtype=np.float64))

    monkeypatch.setattr(np, "save", add)  # instead of 60 MB on disk
    demo_set.ensure_demo_set(tmp_path / "demo")
    digest = hashlib.sha256((tmp_path / "demo" / "gt.json").read_bytes()).hexdigest()
    assert digest == "f89c3515e73a7e99eddc4192431425d63e92f28c8dd370decd7dfafeed776ffc"
    assert totals == {"rgb": pytest.approx(1391526.88, rel=1e-6), "flow": pytest.approx(1262012.22, rel=1e-6)}


def test_it_is_written_once(tmp_path, small_channels):
    demo_set.ensure_demo_set(tmp_path / "demo")
    stamp = (tmp_path / "demo" / "gt.json").stat().st_mtime_ns
    demo_set.ensure_demo_set(tmp_path / "demo")
    assert (tmp_path / "demo" / "gt.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_interrupted_leaves_nothing(tmp_path, small_channels, monkeypatch, failure):
    original, calls = np.save, []

    def fails(*args):
        calls.append(1)
        if len(calls) == 30:
            raise failure
        original(*args)

    monkeypatch.setattr(np, "save", fails)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        demo_set.ensure_demo_set(tmp_path / "demo")
    assert list(tmp_path.iterdir()) == []
    if isinstance(failure, OSError):
        assert "No space left" in str(caught.value) and str(tmp_path / "demo") in str(caught.value)


def test_difficulties(tmp_path, small_channels):
    demo_set.ensure_demo_set(tmp_path / "demo")
    options = DataOptions(feature_size=16, cache="mmap")
    data = load_dataset(tmp_path / "demo", options, device=torch.device("cpu"))
    assert (len(data.train), len(data.test)) == (60, 40)
    lengths = [video.num_snippets for video in data.videos]
    assert min(lengths) < 50 and max(lengths) > 200  # T is 100
    annotations = read_annotations(tmp_path / "demo" / "gt.json")
    assert class_names(annotations) == tuple(sorted(demo_set.DEMO.classes))
    for videos in (data.train, data.test):
        assert all(sum(v.labels[c] for v in videos) >= 5 for c in range(6))
    assert sum(v.labels.sum() == 2 for v in data.train) >= 5
    durations = []
    for video in data.videos:
        spans = [(i.start, i.end) for i in annotations[video.video_id].instances]
        assert spans[0][0] >= 0 and spans[-1][1] <= video.num_snippets * 0.64 + 1e-9
        assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(spans))
        durations += [end - start for start, end in spans]
    assert min(durations) < 2 and max(durations) > 7


def test_the_subsets_of_gt_json_are_the_splits(tmp_path, small_channels):
    demo_set.ensure_demo_set(tmp_path / "demo")
    database = json.loads((tmp_path / "demo" / "gt.json").read_text())["database"]
    for split in ("train", "test"):
        names = (tmp_path / "demo" / f"split_{split}.txt").read_text().split()
        assert names == [name for name, entry in database.items() if entry["subset"] == split]


def test_files_are_those_of_two_stream_i3d(tmp_path, monkeypatch):
    """1024 channels per stream, float16; a few videos are enough to see it."""
    monkeypatch.setattr(demo_set, "VIDEOS", {"train": 2, "test": 1})
    np.random.seed(1)  # not used
    demo_set.ensure_demo_set(tmp_path / "a")
    np.random.seed(2)
    demo_set.ensure_demo_set(tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for split, names in (("train", ["demo_train_000", "demo_train_001"]), ("test", ["demo_test_000"])):
        for name in names:
            rgb, flow = (np.load(tmp_path / "a/features" / split / s / f"{name}.npy") for s in ("rgb", "flow"))
            assert rgb.shape == flow.shape and rgb.shape[1] == 1024
            assert rgb.dtype == flow.dtype == np.float16
            assert np.isfinite(rgb).all() and rgb.min() >= 0 and not np.array_equal(rgb, flow)


def test_lengths_lie_on_both_sides_of_t(tmp_path, small_channels):
    demo_set.ensure_demo_set(tmp_path)  # an empty folder will do
    for split in ("train", "test"):
        lengths = [len(np.load(file, mmap_mode="r")) for file in (tmp_path / "features" / split / "rgb").iterdir()]
        assert sum(length < 100 for length in lengths) >= 5 and sum(length > 100 for length in lengths) >= 5


def test_a_users_own_set_is_left_alone(tmp_path):
    (tmp_path / "gt.json").write_text("mine")
    demo_set.ensure_demo_set(tmp_path)
    assert contents(tmp_path) == {"gt.json": b"mine"}


def test_a_folder_with_other_files_is_refused(tmp_path, small_channels):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "notes").write_text("mine")
    with pytest.raises(InputError, match="--data_path"):
        demo_set.ensure_demo_set(tmp_path / "demo")
    assert contents(tmp_path) == {"demo": None, "demo/notes": b"mine"}


def test_what_a_killed_run_left_goes_when_the_set_is_asked_for(tmp_path, small_channels):
    for _ in ("made", "there"):
        (tmp_path / ".demo.0a1b2c3d.tmp" / "filled").mkdir(parents=True)
        demo_set.ensure_demo_set(tmp_path / "demo")
        assert [p.name for p in tmp_path.iterdir()] == ["demo"]


def test_two_runs_at_once_write_one_set(tmp_path, small_channels, monkeypatch):
    """Another process puts the set in place while this one is writing."""
    demo_set.ensure_demo_set(tmp_path / "other")
    write = demo_set._write

    def outrun(path):
        write(path)
        (tmp_path / "other").replace(tmp_path / "demo")

    monkeypatch.setattr(demo_set, "_write", outrun)
    demo_set.ensure_demo_set(tmp_path / "demo")
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]
