"""The built-in synthetic set: whole, the same every time, and with the difficulties it promises."""

import itertools
import json

import numpy as np
import pytest

from dataset import load_dataset
from utils import demo_set
from utils.annotations import class_names, read_annotations
from utils.errors import InputError


@pytest.fixture
def small_channels(monkeypatch):
    monkeypatch.setattr(demo_set, "CHANNELS", 16)


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_it_is_the_same_every_time(tmp_path, small_channels):
    for name in ("a", "b"):
        demo_set.ensure_demo_set(tmp_path / name)
    first = files(tmp_path / "a")
    assert first == files(tmp_path / "b")
    assert len(first) == 3 + 2 * 100
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


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
    data = load_dataset(tmp_path / "demo", streams=("rgb", "flow"), feature_size=16, cache="mmap")
    assert (len(data.train), len(data.test)) == (60, 40)
    lengths = [video.num_snippets for video in data.train + data.test]
    assert min(lengths) < 50 and max(lengths) > 200  # T is 100
    annotations = read_annotations(tmp_path / "demo" / "gt.json")
    assert class_names(annotations) == tuple(sorted(demo_set.CLASSES))
    for videos in (data.train, data.test):
        assert all(sum(v.labels[c] for v in videos) >= 5 for c in range(6))
    assert sum(v.labels.sum() == 2 for v in data.train) >= 5
    durations = []
    for video in data.train + data.test:
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
