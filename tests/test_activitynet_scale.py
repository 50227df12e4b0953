"""The synthetic set of ActivityNet's size has the official form and is reproducible; its benchmark reports every number."""

import errno
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.disk import contents

from benchmarks import activitynet_scale as scale
from benchmarks import activitynet_set
from data_tools.synthetic import DrawnInstance, Timeline, draw_world
from dataset import load_dataset
from options import DataOptions
from utils.errors import InputError

SIZE = activitynet_set.SetSize(videos=(14, 9), classes=6, channels=8)
FLAGS = ["--videos", "14", "9", "--classes", "6", "--channels", "8", "--iterations", "6", "--device", "cpu"]
MAIN_FLAGS = ["--hidden_size", "8", "--batch_size", "4", "--cache", "mmap"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a small set."""
    path = tmp_path_factory.mktemp("scale") / "set"
    assert activitynet_set.ensure_set(path, SIZE) > 0
    return path


@pytest.fixture(scope="module")
def measured(written):
    """The command's exit code, numbers and folder, run once on the small set."""
    file = written.parent / "numbers.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # tensors are tiny: threads would only wait for each other
        code = scale.main(["--path", str(written), "--json", str(file), *FLAGS, *MAIN_FLAGS])
    return code, json.loads(file.read_text()), written.parent


def test_official_form(written):
    content = json.loads((written / "activity_net.v1-3.min.json").read_text())
    assert set(content) == {"version", "taxonomy", "database"} and "generated" in content["version"]
    assert all(set(n) == {"nodeId", "nodeName", "parentId", "parentName"} for n in content["taxonomy"])
    names = {n["nodeId"]: n["nodeName"] for n in content["taxonomy"]}
    assert all(names.get(n["parentId"]) == n["parentName"] for n in content["taxonomy"])
    subsets: dict[str, list] = {}
    for video, entry in content["database"].items():
        assert set(entry) == {"subset", "duration", "resolution", "url", "annotations"} and not video.startswith("v_")
        assert all(set(note) == {"segment", "label"} for note in entry["annotations"])
        ends = [0.0, *(second for note in entry["annotations"] for second in note["segment"]), entry["duration"] + 0.01]
        assert ends == sorted(ends)
        subsets.setdefault(entry["subset"], []).append(entry)
    assert {subset: len(entries) for subset, entries in subsets.items()} == {
        "training": 14,
        "validation": 9,
        "testing": 4,
    }
    assert not any(entry["annotations"] for entry in subsets["testing"])
    assert all(entry["annotations"] for subset in ("training", "validation") for entry in subsets[subset])


def test_program_reads_it(written):
    options = DataOptions(feature_size=8, cache="ram", layout="activitynet")
    data = load_dataset(written, options, device=torch.device("cpu"))
    assert (len(data.train), len(data.test), len(data.classes)) == (14, 9, 6)
    assert data.left_out == {"subset test has no labels": 4}
    for video in (*data.train, *data.test):
        assert video.features.dtype == np.float16 and video.features.shape[1] == 16
        assert video.num_snippets == int(data.annotations[video.video_id].duration * 25 / 16)
        assert (video.features >= 0).all() and 0.2 < (video.features == 0).mean() < 0.8


def test_same_set_from_the_same_seed(written, tmp_path):
    assert activitynet_set.ensure_set(written, SIZE) is None  # it exists
    assert activitynet_set.ensure_set(tmp_path / "again", SIZE) is not None
    assert contents(tmp_path / "again") == contents(written)
    other = replace(SIZE, seed=1)
    assert activitynet_set.draw_videos(other) != activitynet_set.draw_videos(SIZE)


def test_action_shows_in_the_features():
    """What tells action from background in a video tells it in another one of its class, more than in one of another group."""
    size = activitynet_set.SetSize(videos=(20, 1), classes=20)
    world = draw_world(np.random.default_rng(0), size.description)

    def contrast(seed: int, label: int) -> np.ndarray:
        """[D] action less background, of a video with action from snippet 50 to 100."""
        timeline = Timeline(seconds=96.0, num_snippets=150, instances=(DrawnInstance(label=label, start=50, end=100),))
        features = activitynet_set.draw_joint_features(np.random.default_rng(seed), world, timeline).astype(float)
        return features[50:100].mean(0) - np.concatenate([features[:50], features[100:]]).mean(0)

    rows = [contrast(6 * label + i, label) for label in (0, 19) for i in range(6)]
    same = np.corrcoef(rows)[np.triu_indices(6, 1)].mean()
    different = np.corrcoef(rows)[:6, 6:].mean()
    assert same > 0.15 and different < same / 2


def test_statistics_are_like_the_real_ones():
    size = activitynet_set.SetSize(videos=(2000, 1000), classes=200)
    database = activitynet_set.ground_truth(activitynet_set.draw_videos(size), size)["database"]
    entries = [entry for entry in database.values() if entry["annotations"]]
    durations = np.array([entry["duration"] for entry in entries])
    assert 110 < durations.mean() < 130 and durations.min() >= 5 and durations.max() <= 240
    assert 0.05 < (durations * 25 / 16 < 50).mean() < 0.2
    assert abs(np.mean([len(entry["annotations"]) for entry in entries]) - 1.5) < 0.15
    cover = [sum(e - s for s, e in (n["segment"] for n in entry["annotations"])) for entry in entries] / durations
    assert abs(cover.mean() - 0.5) < 0.05 and 0.1 < (cover > 0.85).mean() < 0.3
    several = np.mean([len({note["label"] for note in entry["annotations"]}) > 1 for entry in entries])
    assert 0 < several < 0.05 and len({n["label"] for entry in entries for n in entry["annotations"]}) == 200


@pytest.mark.parametrize("taken_by", ["foreign", "other set", "file"])
def test_other_folders_are_refused(taken_by, written, tmp_path):
    path = tmp_path / "taken"
    if taken_by == "foreign":
        path.mkdir()
        (path / "holiday.txt").write_text("mine")
    elif taken_by == "file":
        path.write_text("mine")
    else:
        activitynet_set.ensure_set(path, activitynet_set.SetSize(videos=(6, 1), classes=6, channels=8))
    before = contents(tmp_path)
    with pytest.raises(InputError, match="name another folder"):
        activitynet_set.ensure_set(path, SIZE)
    assert contents(tmp_path) == before


def test_whole_or_not_at_all(monkeypatch, tmp_path):
    saved = []

    def save(path, array):
        saved.append(path)
        if len(saved) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(np, "save", save)
    assert scale.main(["--path", str(tmp_path / "set"), *FLAGS, *MAIN_FLAGS]) == 2
    assert len(saved) == 3 and list(tmp_path.iterdir()) == []


def test_small_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(activitynet_set.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match="name another disk"):
        activitynet_set.ensure_set(tmp_path / "set", SIZE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags", [["--videos", "5", "5"], ["--iterations", "0"], ["--no_such_flag", "1"], ["--batch_size", "-1"]]
)
def test_mistakes_are_seen_before_anything_is_written(flags, tmp_path, capsys):
    assert scale.main(["--path", str(tmp_path / "set"), *FLAGS, *MAIN_FLAGS, *flags]) == 2
    assert flags[0] in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_numbers(measured):
    code, report, folder = measured
    assert code == 0 and sorted(file.name for file in folder.iterdir()) == [
        "numbers.json",
        "set",
    ]  # no checkpoint stays
    trained, untrained = report["trained"], report["untrained"]
    assert (trained["train_videos"], trained["test_videos"], trained["steps"], trained["batch_size"]) == (14, 9, 6, 4)
    lengths = {
        split: [len(np.load(file)) for file in (folder / "set" / split).iterdir()] for split in ("train", "validation")
    }
    assert trained["train_shorter_than_T"] == sum(length < 50 for length in lengths["train"])
    assert trained["test_shorter_than_T"] == sum(length < 50 for length in lengths["validation"])
    assert trained["snippets_mean"] == pytest.approx(np.mean(lengths["train"] + lengths["validation"]))
    for name in ("load_seconds", "training_seconds", "milliseconds_per_step", "evaluation_seconds", "whole_seconds"):
        assert trained[name] > 0
    assert trained["milliseconds_per_test_video"] == pytest.approx(1e3 * trained["evaluation_seconds"] / 9)
    assert set(trained["losses"]) == {"mil", "bg", "act", "mix", "mutual", "so", "total"} and trained["cache"] == "mmap"
    assert all(len(values) == 1 for values in trained["losses"].values())  # of the last of six steps
    for network in (trained, untrained):
        assert 50 << 20 < network["resident_bytes"] < 4 << 30 and network["evaluation_seconds"] > 0
        assert all(0 <= network[name] <= 1 for name in ("average_mAP", "mAP_at_0.5", "video_accuracy"))
    assert report["peak_bytes"] == trained["resident_bytes"] and report["limit_bytes"] == 12 << 30
    assert report["set"]["bytes"] == sum(file.stat().st_size for file in (folder / "set").glob("*/*.npy"))
    assert report["machine"]["cpu"] and report["set"]["classes"] == 6


def test_table_and_limit(measured, monkeypatch, tmp_path, capsys):
    report = measured[1]
    shown = dict(line.split(" | ")[:2] for line in scale.table(report).splitlines()[2:])
    assert shown["| generation"] == "exists" and shown["| accuracy"].endswith("%")
    assert shown["| a training step"] == f"{report['trained']['milliseconds_per_step']:,.0f} ms"
    assert shown["| peak memory: training and evaluation"] == f"{report['peak_bytes'] / 2**30:.2f} GiB"
    for peak, code in ((12 << 30, 0), ((12 << 30) + 1, 1)):
        monkeypatch.setattr(scale, "measure", lambda *_, peak=peak: {**report, "peak_bytes": peak})
        assert scale.main(["--path", str(tmp_path / "set"), *FLAGS]) == code
        assert "12.00 GiB" in capsys.readouterr().out


def test_a_failed_run_ends_with_its_code(written, tmp_path, monkeypatch):
    report = tmp_path / "measured.json"
    wrong = ["--dataset", "activitynet1.3", "--data_path", str(written), "--feature_size", "8", "--batch_size", "400"]
    assert scale.main([scale.CHILD, str(report), *wrong, *MAIN_FLAGS[:2], "--output_dir", str(tmp_path / "out")]) == 2
    seen = json.loads(report.read_text())
    assert seen["resident_bytes"] > 0 and [len(split) for split in seen["lengths"]] == [14, 9]
    monkeypatch.setattr(scale.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 2}))
    with pytest.raises(SystemExit) as stopped:
        scale.main(["--path", str(written), *FLAGS, *MAIN_FLAGS])
    assert (
        stopped.value.code == 2 and [file.name for file in written.parent.iterdir() if file.name.startswith(".")] == []
    )
