"""--check_data: a clean set, everything that can be wrong with one, and the exit code that goes with it."""

import json
import shutil
import subprocess
import tracemalloc

import numpy as np
import pytest
from support.paths import ROOT, SHARED
from support.tiny import CLASSES, FEATURE_SIZE

import main
from data_tools.check.annotations import annotation_findings
from data_tools.check.consistency import NUM_CLASSES
from data_tools.check.features import feature_findings
from data_tools.check.findings import Finding, exit_code, render, summarize, summarize_by_kind
from data_tools.check.report import check_data
from data_tools.check.statistics import MeasuredVideo, measure, pooled
from data_tools.check.times import TimedVideo, duration_findings, grid_warning
from data_tools.demo_set import ensure_demo_set
from formats.annotations import Instance, VideoAnnotation
from formats.array_files import NpyArray
from formats.problems import Kind, Problem
from options import DataOptions, parse_flags, resolve
from recipes import PRESETS
from utils.errors import InputError
from utils.snippet_grid import SnippetGrid
from utils.text_table import table

GRID = SnippetGrid(16, 16)


@pytest.fixture
def checked(tiny, run):
    """checked(*flags): main.py --check_data on the tiny set."""
    return lambda *flags: run(tiny.path, "--check_data", *flags)


def kinds(outcome, severity):
    """The findings of a severity: {kind: the lines under it}."""
    found = {}
    for block in outcome.out.split("\n\n"):
        first, *lines = block.splitlines()
        if first.startswith(f"{severity}: "):
            found[first.removeprefix(f"{severity}: ")] = "\n".join(lines)
    return found


def only(outcome, severity):
    """The one finding of the worst severity that there is, which must be this one, and the exit code that goes with it."""
    assert outcome.code == {"error": 2, "warning": 1}[severity], outcome.out + outcome.err
    assert outcome.err == ""
    if severity == "warning":
        assert not kinds(outcome, "error")
    ((kind, lines),) = kinds(outcome, severity).items()
    return kind, lines


def edit_feature(tiny, split, stream, video, edit):
    file = tiny.feature(split, stream, video)
    np.save(file, edit(np.load(file)))
    return str(file)


def spoil(*, value, first=0, stop=None, dtype=np.float32):
    """An edit of an array: the rows from `first` to before `stop` get `value`."""

    def edit(array):
        array = array.astype(dtype)
        array[first:stop] = value
        return array

    return edit


def wide_set(tiny, *, channels=64, train=12, test=8, seed=0):
    """Replace the tiny set by features that look like I3D's, each stream with its own profile over the channels."""
    shutil.rmtree(tiny.path)
    generator = np.random.default_rng(seed)
    profiles = {stream: generator.gamma(1.0, 0.3, channels) for stream in ("rgb", "flow")}
    database = {}
    for split, count in (("train", train), ("test", test)):
        names = [f"{split}_{i}" for i in range(count)]
        for i, name in enumerate(names):
            length = 1 if i == 1 else int(generator.integers(8, 40))  # some are very short
            for stream, profile in profiles.items():
                file = tiny.feature(split, stream, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                noise = generator.normal(0, 0.2, (length, channels))
                np.save(file, np.maximum(profile + noise, 0).astype(np.float32))
            label = CLASSES[i % 2]
            database[name] = {"subset": split, "annotations": [{"label": label, "segment": [0.1, 0.6]}]}
        (tiny.path / f"split_{split}.txt").write_text("\n".join(names))
    tiny.gt.write_text(json.dumps({"database": database}))
    return ["--feature_size", str(channels)]


def exchange(tiny, split, video):
    rgb, flow = (tiny.feature(split, stream, video) for stream in ("rgb", "flow"))
    between = rgb.with_suffix(".tmp")
    rgb.rename(between)
    flow.rename(rgb)
    between.rename(flow)


# Nothing wrong


def test_a_clean_set(checked, tiny):
    outcome = checked()
    assert (outcome.code, outcome.err) == (0, "")
    assert not kinds(outcome, "error") and not kinds(outcome, "warning")
    assert outcome.out.endswith("0 errors, 0 warnings, 0 notes: exit code 0\n")
    first = outcome.out.splitlines()[0]
    assert first == f"{tiny.path}: layout thumos, 3 classes, ground truth {tiny.gt}"


def test_the_tables_count_videos_and_instances(checked, tiny):
    lengths = [len(np.load(tiny.feature("train", "rgb", f"train_{i}"))) for i in range(7)]
    rows = [line.split() for line in checked().out.splitlines()]
    hours = sum(lengths) * 16 / 25 / 3600
    span = [str(min(lengths)), str(int(np.median(lengths))), str(max(lengths))]
    assert ["train", "float16,", "float32", "7", "7", *span, f"{hours:.2f}", "7"] in rows
    assert ["Dive", "3", "3", "1", "1"] in rows and ["Throw", "2", "2", "1", "1"] in rows
    values = np.concatenate([np.load(tiny.feature("train", "flow", f"train_{i}")).astype("f8") for i in range(7)])
    (row,) = (row for row in rows if row[:2] == ["train", "flow"])
    assert float(row[2]) == pytest.approx(values.mean(), rel=1e-3)
    assert float(row[3]) == pytest.approx(values.std(), rel=1e-3)
    assert row[4:] == ["0.0", "%"]


def test_a_clean_set_of_wide_features_with_very_short_videos(tiny, run):
    for seed in range(5):
        flags = wide_set(tiny, seed=seed)
        assert run(tiny.path, "--check_data", *flags).code == 0


def test_the_demo_set_is_clean_and_is_written_when_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["--check_data", "--dataset", "demo"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("0 errors, 0 warnings, 0 notes: exit code 0\n")
    ensure_demo_set(tmp_path / "data" / "demo")  # which is there


def test_nothing_is_written(checked, tiny, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    checked()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# Sets that can't be understood: one line


@pytest.mark.parametrize("name", ["gt.json", "split_test.txt"])
def test_a_missing_list(checked, tiny, name):
    (tiny.path / name).unlink()
    outcome = checked()
    assert outcome.code == 2 and outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith(f"main.py: error: {tiny.path / name}: ")


def test_no_folder_no_layout_and_no_path(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nowhere", tmp_path / "empty"):
        outcome = run(path, "--check_data")
        assert outcome.code == 2 and str(path) in outcome.err and outcome.err.count("\n") == 1
    assert main.main(["--check_data"]) == 2
    assert "--data_path is missing" in capsys.readouterr().err


@pytest.mark.parametrize("other", ["--inference_only", "--resume"])
def test_flags_that_contradict_it(checked, other):
    outcome = checked(other)
    assert outcome.code == 2 and "--check_data" in outcome.err and other in outcome.err


def test_it_is_a_flag_of_one_call():
    assert resolve({}, {"check_data": True}).run.check_data is False
    assert parse_flags(["--check_data"]) == {"check_data": True}


# Names, lists and files


def test_a_missing_feature_file(checked, tiny):
    for stream in ("rgb", "flow"):
        tiny.feature("test", stream, "test_1").unlink()
    tiny.feature("train", "flow", "train_2").unlink()
    outcome = checked()
    kind, lines = only(outcome, "error")
    rows = [line.split() for line in outcome.out.splitlines()]
    assert ["train", "float16,", "float32", "7", "6"] in [row[:5] for row in rows]
    assert kind == "missing features (3)"
    assert str(tiny.feature("train", "flow", "train_2")) in lines and "--skip_unusable" in lines


def test_features_in_the_other_splits_folder(checked, tiny):
    for stream in ("rgb", "flow"):
        tiny.feature("test", stream, "test_1").rename(tiny.feature("train", stream, "test_1"))
    _, lines = only(checked(), "error")
    assert f"in the train split there is {tiny.feature('train', 'rgb', 'test_1')}" in lines


def test_more_than_three_examples_are_counted(checked, tiny):
    shutil.rmtree(tiny.path / "features" / "train" / "flow")
    kind, lines = only(checked(), "error")
    assert kind == "missing features (7)"
    assert [line.strip() for line in lines.splitlines()][3] == "and 4 more; --list shows all"


def test_what_training_would_leave_out_is_a_warning(checked, tiny):
    tiny.feature("train", "flow", "train_2").unlink()

    def edit(database):
        database["other"] = {"subset": "train", "annotations": [{"label": "Jump", "segment": [1, 2]}]}
        database["train_1"]["annotations"].append({"label": "Jump", "segment": [2, 2]})

    tiny.edit_gt(edit)
    assert checked().code == 2
    outcome = checked("--skip_unusable")
    assert outcome.code == 1
    assert set(kinds(outcome, "warning")) == {
        "missing features",
        "annotated videos in no split",
        "segments that end at or before their start",
    }


def test_extra_files(checked, tiny):
    extra = tiny.feature("train", "rgb", "nobody")
    shutil.copy(tiny.feature("train", "rgb", "train_0"), extra)
    kind, lines = only(checked(), "warning")
    assert kind == "features that no split names" and str(extra) in lines


def test_a_video_in_both_splits(checked, tiny):
    with open(tiny.path / "split_test.txt", "a") as file:
        file.write("train_1\n")
    for stream in ("rgb", "flow"):
        shutil.copy(tiny.feature("train", stream, "train_1"), tiny.feature("test", stream, "train_1"))
    outcome = checked()
    assert outcome.code == 2
    assert "'train_1'" in kinds(outcome, "error")["videos in both splits"]
    assert not kinds(outcome, "warning")  # its features are the same, under the same name


def test_a_label_that_never_occurs_in_training(checked, tiny):
    tiny.edit_gt(lambda database: database["test_0"]["annotations"][0].update(label="Juggle"))
    kind, lines = only(checked(), "error")
    assert kind == "test labels that never occur in training" and "'Juggle'" in lines


def test_a_training_video_without_labels_and_one_without_annotation(checked, tiny):
    def edit(database):
        database["train_6"]["annotations"] = []
        del database["test_2"]

    tiny.edit_gt(edit)
    outcome = checked()
    assert outcome.code == 2
    assert set(kinds(outcome, "error")) == {"training videos without labels", "videos in a split without annotation"}


def test_a_broken_entry_is_said_once(checked, tiny):
    tiny.edit_gt(lambda database: database.update(train_6={"subset": "train"}))
    kind, lines = only(checked(), "error")
    assert kind == "entries that can't be used" and "video 'train_6': expected" in lines


def test_a_duplicate_line_in_a_split_file(checked, tiny):
    with open(tiny.path / "split_test.txt", "a") as file:
        file.write("test_1\n")
    _, lines = only(checked(), "error")
    assert "'test_1' is listed twice" in lines


def test_another_number_of_classes_is_a_note_where_the_set_is_known(checked, tiny):
    """By the names of its videos, or because its --dataset was asked for."""
    assert not kinds(checked(), "note")
    tiny.edit_gt(lambda database: database.update(video_test_0000004={"subset": "test", "annotations": []}))
    assert "this set has 3" in kinds(checked(), "note")["--dataset thumos14 has 20 classes"]
    assert "--dataset activitynet1.3 has 200 classes" in kinds(checked("--dataset", "activitynet1.3"), "note")
    assert not kinds(checked("--dataset", "demo"), "note")


def test_every_recipe_states_its_classes_or_that_it_has_none():
    assert NUM_CLASSES.keys() == PRESETS.keys(), (
        "add the recipe to NUM_CLASSES, with None if it is for no particular set"
    )


def test_every_kind_of_problem_has_a_heading():
    """A new kind needs no entry anywhere: it is reported under its own text."""
    assert all(kind.heading for kind in Kind) and Kind.SHAPE.heading == "wrong shape"
    assert {kind for kind in Kind if kind.skippable} == {kind for kind in Kind if "--skip_unusable" in kind.advice}
    assert Kind.EMPTY_SEGMENT.advice == "or leave such segments out with --skip_unusable"


def test_no_segments_in_test(checked, tiny):
    def edit(database):
        for video, entry in database.items():
            if entry["subset"] == "test":
                database[video] = {"subset": "test", "annotations": [], "labels": ["Jump"]}

    tiny.edit_gt(edit)
    outcome = checked()
    assert outcome.code == 0
    assert "mAP will not be computed" in kinds(outcome, "note")["no test video has segments"]


# Feature files


def test_broken_files_do_not_stop_the_walk(checked, tiny):
    truncated = tiny.feature("train", "rgb", "train_0")
    truncated.write_bytes(truncated.read_bytes()[:150])
    wide = edit_feature(tiny, "train", "rgb", "train_1", lambda array: np.concatenate([array, array], axis=1))
    whole = edit_feature(tiny, "train", "flow", "train_2", lambda array: array.astype(np.int64))
    longer = edit_feature(tiny, "train", "flow", "train_3", lambda array: np.concatenate([array, array]))
    text = tiny.feature("test", "flow", "test_0")
    text.write_text("no array")
    empty = edit_feature(tiny, "test", "rgb", "test_1", lambda array: array[:0])
    pickled = tiny.feature("test", "rgb", "test_2")
    np.save(pickled, np.array([None]), allow_pickle=True)
    folder = tiny.feature("test", "rgb", "test_3")
    folder.unlink()
    folder.mkdir()
    outcome = checked()
    assert (outcome.code, outcome.err) == (2, "")
    for file in (truncated, wide, whole, longer, text, empty, pickled, folder):
        assert str(file) in outcome.out
    assert "8 errors" in outcome.out


def test_many_files_broken_in_the_same_way_are_one_finding(checked, tiny):
    kind, lines = only(checked("--feature_size", "5"), "error")
    assert kind == "features that can't be used (11)" and "and 8 more" in lines and "--feature_size" in lines


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(checked, tiny, value):
    file = edit_feature(tiny, "train", "flow", "train_4", spoil(first=3, stop=5, value=value))
    outcome = checked()
    kind, lines = only(outcome, "error")
    assert kind == "NaN or infinity in features" and not kinds(outcome, "warning")  # such as of snippets of zeros
    assert f"{file}: {2 * FEATURE_SIZE} values, first at snippet 3" in lines


def test_what_overflows_float32_is_infinite(checked, tiny):
    edit_feature(tiny, "train", "flow", "train_4", spoil(value=1e39, dtype=np.float64))
    assert only(checked(), "error")[0] == "NaN or infinity in features"


def test_zero_snippets(checked, tiny):
    file = edit_feature(tiny, "test", "rgb", "test_0", spoil(first=2, stop=4, value=0))
    kind, lines = only(checked(), "warning")
    assert kind == "all-zero snippets" and f"{file}: 2 of" in lines


def test_nothing_but_zeros(checked, tiny):
    file = edit_feature(tiny, "test", "rgb", "test_0", spoil(value=0))
    kind, lines = only(checked(), "warning")
    assert kind == "features that are all zeros" and file in lines


def test_statistics_agree_with_the_plain_formulas():
    generator = np.random.default_rng(0)
    for dtype in (np.float16, np.float32, np.float64):
        values = np.maximum(generator.normal(0, 1, (37, 20)), 0).astype(dtype)
        values[5:8] = 0
        got = measure(values, "x")
        assert (got.not_finite, got.zero_snippets, got.num_snippets, got.dtype) == (0, 3, 37, values.dtype)
        assert got.zeros == pytest.approx((values == 0).mean())
        wide = values.astype(np.float64)
        assert got.mean == pytest.approx(wide.mean(), rel=1e-5)
        assert got.rms == pytest.approx(np.sqrt((wide**2).mean()), rel=1e-5)
        np.testing.assert_allclose(got.profile, wide.mean(0), rtol=1e-4)


def test_statistics_of_extreme_values():
    tiny_values = np.full((3, 4), 1e-30, np.float32)  # whose squares are 0 in float32
    assert measure(tiny_values, "x").zero_snippets == 0
    large = np.full((3, 4), 1e30, np.float32)  # whose squares are infinite
    got = measure(large, "x")
    assert got.not_finite == 0 and got.rms == pytest.approx(1e30) and got.mean == pytest.approx(1e30)
    large[1, 2] = np.nan
    got = measure(large, "x")
    assert (got.not_finite, got.first_not_finite) == (1, 1) and got.mean == pytest.approx(1e30 * 11 / 12)
    assert (got.zeros, got.zero_snippets) == (0, 0)


def test_pooled_is_over_all_values():
    generator = np.random.default_rng(0)
    arrays = [generator.random((n, 5)).astype(np.float32) for n in (3, 50)]
    together = np.concatenate(arrays)
    got = pooled(measure(array, "x") for array in arrays)
    assert got.mean == pytest.approx(together.mean(), rel=1e-5) and got.std == pytest.approx(together.std(), rel=1e-4)
    assert np.isnan(pooled([]).mean)


# Streams


def test_single_videos_with_swapped_streams(tiny, run):
    flags = wide_set(tiny)
    exchange(tiny, "train", "train_4")
    exchange(tiny, "test", "test_1")  # which has a single snippet
    kind, lines = only(run(tiny.path, "--check_data", *flags), "warning")
    assert kind == "rgb and flow look swapped (2)" and "'train_4'" in lines and "'test_1'" in lines


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_whole_split_with_swapped_streams(tiny, run, split):
    """Which of the two is wrong can't be told from the features."""
    flags = wide_set(tiny)
    for file in (tiny.path / "features" / split / "rgb").iterdir():
        exchange(tiny, split, file.stem)
    kind, lines = only(run(tiny.path, "--check_data", *flags), "warning")
    assert kind == "rgb and flow look swapped in the test split" and "8 of 8 videos" in lines


@pytest.mark.parametrize(("count", "channels"), [(40, 16), (50, 512)])
def test_streams_that_nothing_tells_apart_are_not_judged(count, channels):
    """Profiles that are noise: some videos prefer the other stream by chance, and none its own for being part of its mean."""
    generator = np.random.default_rng(0)
    for _ in range(5):
        videos = [
            MeasuredVideo(
                video_id=str(v),
                split=split,
                streams={s: measure(generator.normal(0, 1, (3, channels)), s) for s in ("rgb", "flow")},
            )
            for split in ("train", "test")
            for v in range(count)
        ]
        assert not [finding for finding in feature_findings(videos) if "swapped" in finding.title]


def test_identical_streams(checked, tiny):
    shutil.copy(tiny.feature("train", "rgb", "train_1"), tiny.feature("train", "flow", "train_1"))
    kind, lines = only(checked(), "warning")
    assert kind == "rgb and flow are the same" and str(tiny.feature("train", "flow", "train_1")) in lines


def test_a_video_on_another_scale(checked, tiny):
    file = edit_feature(tiny, "train", "flow", "train_1", lambda array: array * 255)
    kind, lines = only(checked(), "warning")
    assert kind.startswith("features on another scale") and file in lines


def test_a_split_on_another_scale(checked, tiny):
    for i in range(4):
        edit_feature(tiny, "test", "flow", f"test_{i}", lambda array: array * 8)
    kind, lines = only(checked(), "warning")
    assert kind == "the splits are on different scales" and "flow: " in lines and "rgb: " not in lines


def test_streams_on_scales_apart(checked, tiny):
    for split, count in (("train", 7), ("test", 4)):
        for i in range(count):
            edit_feature(tiny, split, "rgb", f"{split}_{i}", lambda array: array * 20)
    kind, _ = only(checked(), "warning")
    assert kind == "the streams are on scales more than 10 times apart"
    assert checked("--modal", "flow").code == 0


def test_the_same_features_under_two_names(checked, tiny):
    for stream in ("rgb", "flow"):
        shutil.copy(tiny.feature("train", stream, "train_1"), tiny.feature("train", stream, "train_5"))
    tiny.edit_gt(lambda database: database["train_5"].update(annotations=database["train_1"]["annotations"]))
    kind, lines = only(checked(), "warning")
    assert kind == "the same features under different names" and "'train_1', 'train_5'" in lines


def test_the_same_features_in_both_splits(checked, tiny):
    for stream in ("rgb", "flow"):
        shutil.copy(tiny.feature("train", stream, "train_0"), tiny.feature("test", stream, "test_0"))
    tiny.edit_gt(lambda database: database["test_0"].update(annotations=database["train_0"]["annotations"]))
    kind, lines = only(checked(), "warning")
    assert kind.startswith("training videos among the test videos") and "'test_0', 'train_0'" in lines


# Annotations


def test_a_segment_that_ends_before_its_start(checked, tiny):
    tiny.edit_gt(lambda database: database["train_1"]["annotations"].append({"label": "Jump", "segment": [4, 3]}))
    kind, lines = only(checked(), "error")
    assert kind == "segments that end at or before their start" and "'train_1'" in lines


def test_a_duplicate_segment(checked, tiny):
    tiny.edit_gt(lambda database: database["test_1"].update(annotations=database["test_1"]["annotations"] * 2))
    kind, lines = only(checked(), "warning")
    assert kind == "the same annotation more than once" and "'test_1'" in lines and "2 times" in lines


def test_annotations_past_the_end_of_the_features(checked, tiny):
    end = len(np.load(tiny.feature("test", "rgb", "test_1"))) * 16 / 25

    def edit(database):
        database["test_1"]["annotations"] += [
            {"label": "Jump", "segment": [end - 1, end + 0.6]},  # within a snippet
            {"label": "Jump", "segment": [end - 1, end + 0.7]},
            {"label": "Jump", "segment": [end, end + 2]},
        ]

    tiny.edit_gt(edit)
    outcome = checked()
    assert outcome.code == 1
    found = kinds(outcome, "warning")
    assert set(found) == {"annotations that end past the end", "annotations that begin past the end"}
    assert f"its features end at {end:.2f} s" in found["annotations that end past the end"]


def test_annotations_past_the_end_of_the_video(checked, tiny):
    length = len(np.load(tiny.feature("test", "rgb", "test_1")))
    duration = (length - 1.5) * 16 / 25

    def edit(database):
        database["test_1"]["duration"] = duration
        database["test_1"]["annotations"].append({"label": "Jump", "segment": [duration - 1, length * 16 / 25]})

    tiny.edit_gt(edit)
    _, lines = only(checked(), "warning")
    assert f"its video ends at {duration:.2f} s" in lines and "features" not in lines.splitlines()[0]


def with_durations(tiny, seconds_a_snippet):
    def edit(database):
        for video, entry in database.items():
            entry["duration"] = seconds_a_snippet * len(np.load(tiny.feature(entry["subset"], "rgb", video)))

    tiny.edit_gt(edit)


def test_durations_that_fit(checked, tiny):
    with_durations(tiny, 16 / 25)
    assert checked().code == 0


def test_one_duration_that_does_not_fit(checked, tiny):
    with_durations(tiny, 16 / 25)
    tiny.edit_gt(lambda database: database["train_3"].update(duration=database["train_3"]["duration"] + 3 * 16 / 25))
    kind, lines = only(checked(), "warning")
    assert kind == "durations and features that differ by more than 2 snippets"
    assert "'train_3'" in lines and "another version" in lines


@pytest.mark.parametrize(("rate", "suggested"), [(30, "--fps 30 "), (29.97, "--fps 30 "), (10, "--fps 10 ")])
def test_durations_that_fit_another_frame_rate(checked, tiny, rate, suggested):
    with_durations(tiny, 16 / rate)
    outcome = checked()
    assert outcome.code == 1
    lines = next(lines for kind, lines in kinds(outcome, "warning").items() if kind.startswith("durations"))
    assert suggested in lines
    assert checked("--fps", str(rate)).code == 0


def test_durations_that_fit_another_stride(checked, tiny):
    with_durations(tiny, 8 / 25)
    outcome = checked()
    lines = next(lines for kind, lines in kinds(outcome, "warning").items() if kind.startswith("durations"))
    assert "--fps 50 or --snippet_stride 8 " in lines
    assert "annotations that end past the end" not in outcome.out.partition("durations")[0]


def timed(*videos):
    """Videos of (duration, snippets) without annotations."""
    return [
        TimedVideo(
            video_id=str(i),
            annotation=VideoAnnotation(subset="test", duration=duration),
            num_snippets=length,
            fps=25.0,
        )
        for i, (duration, length) in enumerate(videos)
    ]


@pytest.mark.parametrize("how", ["whole snippets alone", "padded at the ends", "a snippet begun is a snippet"])
def test_overlapping_snippets_at_the_ends_are_no_contradiction(how):
    """Of 16 frames, 4 apart, 3 more fit into a video that is padded: half a second, as much as one snippet lasts."""
    count = {
        "whole snippets alone": lambda frames: (frames - 16) // 4 + 1,
        "padded at the ends": lambda frames: frames // 4,
        "a snippet begun is a snippet": lambda frames: -(-frames // 4),
    }[how]
    frames = [251 + 37 * i for i in range(40)]
    videos = timed(*((n / 25, count(n)) for n in frames))
    grid = SnippetGrid(frames=16, stride=4)
    assert grid_warning(videos, grid) is None and not list(duration_findings(videos, grid=grid))
    slower = timed(*((n / 30, count(n)) for n in frames))
    assert "--fps 30" in grid_warning(slower, grid)


def test_durations_that_nothing_fits_and_features_of_one_length():
    (finding,) = duration_findings(timed((10, 100), (20, 3), (30, 70), (40, 200)), grid=GRID)
    assert "no single frame rate or stride fits" in finding.advice
    (finding,) = duration_findings(timed((10, 100), (20, 100), (30, 100)), grid=GRID)
    assert "rescaled" in finding.advice
    (finding,) = duration_findings(timed((10, 1)), grid=GRID)  # too short for a stride
    assert finding.count == 1


# THUMOS'14


@pytest.fixture
def thumos(tmp_path):
    """The real names, splits and annotations, with features of the right lengths."""
    real = SHARED / "data" / "thumos14"
    if not real.exists():
        pytest.skip("needs the THUMOS'14 annotations in ../shared")
    path = tmp_path / "thumos"
    path.mkdir()
    for name in ("gt.json", "split_train.txt", "split_test.txt"):
        shutil.copy(real / name, path)
    generator = np.random.default_rng(0)
    for video, duration in json.loads((real / "durations.json").read_text()).items():
        split = "test" if "test" in video else "train"
        for stream in ("rgb", "flow"):
            file = path / "features" / split / stream / f"{video}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, generator.random((int(duration * 25 / 16), FEATURE_SIZE), np.float32))
    return path


def test_thumos_is_fine_and_its_quirks_are_explained(thumos, run):
    outcome = run(thumos, "--check_data")
    assert outcome.code == 0, outcome.out
    notes = kinds(outcome, "note")
    assert set(notes) == {
        "not used: left out of THUMOS'14 by common practice (2)",
        "CliffDiving annotated a second time as Diving (360)",
        "annotations past the end, as THUMOS'14 was published (8)",
    }
    left_out = notes["not used: left out of THUMOS'14 by common practice (2)"]
    assert "video_test_0000270" in left_out and "video_test_0001496" in left_out
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [row[:4] for row in rows if row[:2] in (["train", "float32"], ["test", "float32"])] == [
        ["train", "float32", "200", "200"],
        ["test", "float32", "210", "210"],
    ]


def test_videos_that_others_leave_out(tiny, checked):
    def edit(database):
        database["video_test_0000270"] = database.pop("test_1")
        database["video_test_0001292"] = {"subset": "test", "annotations": []}  # in no split file

    tiny.edit_gt(edit)
    split = tiny.path / "split_test.txt"
    split.write_text(split.read_text().replace("test_1", "video_test_0000270"))
    for stream in ("rgb", "flow"):
        tiny.feature("test", stream, "test_1").rename(tiny.feature("test", stream, "video_test_0000270"))
    outcome = checked()
    kind, lines = only(outcome, "warning")
    assert kind == "test videos that published results leave out"
    assert f"{split}: 'video_test_0000270' (wrongly annotated)" in lines
    assert "video_test_0001292" in kinds(outcome, "note")["not used: left out of THUMOS'14 by common practice"]


def test_a_cliff_dive_that_is_no_dive():
    dives = (
        Instance(label="CliffDiving", start=1, end=2),
        Instance(label="Diving", start=1.1, end=2.1),
        Instance(label="CliffDiving", start=4, end=6),
        Instance(label="Diving", start=4, end=7),
    )
    video = VideoAnnotation(subset="test", instances=dives)
    paired, alone = annotation_findings(
        [TimedVideo(video_id="video_test_0000001", annotation=video, num_snippets=20, fps=25.0)], grid=GRID
    )
    assert (paired.severity, paired.count) == ("note", 1)
    assert (alone.severity, alone.title) == ("warning", "CliffDiving that is not annotated as Diving too")
    assert alone.examples == ("video 'video_test_0000001': 'CliffDiving' [4, 6]",)


def test_other_sets_may_have_these_classes():
    video = VideoAnnotation(subset="test", instances=(Instance(label="CliffDiving", start=1, end=2),))
    assert not list(
        annotation_findings([TimedVideo(video_id="mine", annotation=video, num_snippets=20, fps=25.0)], grid=GRID)
    )


# Other layouts


def joined(tiny, split, video):
    return np.concatenate([np.load(tiny.feature(split, s, video)) for s in ("rgb", "flow")], axis=1)


def videos_of(tiny):
    return [(s, f.stem) for s in ("train", "test") for f in sorted((tiny.path / "features" / s / "rgb").iterdir())]


@pytest.fixture(params=["joint", "hdf5"])
def other_layout(request, tiny):
    """The tiny set with both streams in one array; returns a function that rewrites the array of a video."""
    arrays = {(split, video): joined(tiny, split, video) for split, video in videos_of(tiny)}
    shutil.rmtree(tiny.path / "features")
    if request.param == "joint":
        for (split, video), array in arrays.items():
            (tiny.path / "features" / split).mkdir(parents=True, exist_ok=True)
            np.save(tiny.path / "features" / split / f"{video}.npy", array)
        return lambda split, video, array: np.save(tiny.path / "features" / split / f"{video}.npy", array)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tiny.path / "features.h5", "w") as file:
        for (_, video), array in arrays.items():
            file[video] = array

    def rewrite(split, video, array):
        with h5py.File(tiny.path / "features.h5", "a") as file:
            del file[video]
            file[video] = array

    return rewrite


def test_joint_arrays(other_layout, checked):
    assert checked().code == 0
    assert checked("--modal", "flow").code == 0
    array = np.random.default_rng(0).random((20, 2 * FEATURE_SIZE), np.float32)
    array[3, FEATURE_SIZE + 1] = np.nan  # in flow
    other_layout("train", "train_1", array)
    kind, lines = only(checked(), "error")
    assert kind == "NaN or infinity in features" and "train_1" in lines and "snippet 3" in lines
    assert "NaN" not in checked("--modal", "rgb").out


def as_wtalc(tiny, **changed):
    """Turn the tiny set into one of the wtalc layout. `changed` are values that differ: column={video: value}."""
    database = json.loads(tiny.gt.read_text())["database"]
    columns = {
        "videoname": list(database),
        "subset": [entry["subset"] for entry in database.values()],
        "labels": [[note["label"] for note in entry["annotations"]] for entry in database.values()],
        "segments": [[[float(t) for t in note["segment"]] for note in e["annotations"]] for e in database.values()],
    }
    for name, edits in changed.items():
        column = list(columns[name.removesuffix("_all")])
        for video, value in edits.items():
            column[columns["videoname"].index(video)] = value
        columns[name] = column
    (tiny.path / "Tiny-Annotations").mkdir()
    arrays = [joined(tiny, entry["subset"], video) for video, entry in database.items()]
    for name, column in {**columns, "features": arrays}.items():
        objects = np.empty(len(column), object)
        objects[:] = column
        file = "Tiny-I3D-JOINTFeatures.npy" if name == "features" else f"Tiny-Annotations/{name}.npy"
        np.save(tiny.path / file, objects, allow_pickle=True)
    shutil.rmtree(tiny.path / "features")
    for file in ("gt.json", "split_train.txt", "split_test.txt"):
        (tiny.path / file).rename(tiny.path / f"{file}.old")


def test_wtalc(tiny, checked):
    """Every feature is one of a split's, or of a video that is not evaluated, such as test_3: it has a label and no segment."""
    as_wtalc(tiny, segments={"train_0": [[2.0, 1.0]]}, labels_all={"test_3": ["Jump"]})
    assert "--allow_pickle" in checked().err
    outcome = checked("--allow_pickle")
    kind, lines = only(outcome, "error")
    assert kind == "segments that end at or before their start" and "'train_0'" in lines
    assert "'test_3'" in kinds(outcome, "note")["not used: test videos without segments"]
    assert not kinds(outcome, "warning")


@pytest.mark.parametrize("listed", [False, True])
def test_a_broken_entry_of_wtalc_is_said_once(tiny, checked, listed):
    """Its video has an annotation, and its features count as used, whether a split file names the video or not."""
    as_wtalc(tiny, segments={"test_1": [[2.0]]})
    if listed:
        for split in ("train", "test"):
            (tiny.path / f"split_{split}.txt.old").rename(tiny.path / f"split_{split}.txt")
    outcome = checked("--allow_pickle")
    kind, lines = only(outcome, "error")
    assert kind == "entries that can't be used" and "'test_1'" in lines and not kinds(outcome, "warning")


def test_features_of_wtalc_that_are_not_used(tiny, checked, tmp_path):
    """A video that --ground_truth does not have."""
    database = json.loads(tiny.gt.read_text())["database"]
    del database["train_6"]
    file = tmp_path / "fewer.json"
    file.write_text(json.dumps({"database": database}))
    as_wtalc(tiny)
    kind, lines = only(checked("--allow_pickle", "--ground_truth", str(file)), "warning")
    assert kind == "features that no split names" and "entry 6 ('train_6')" in lines


def test_wtalc_as_published(tmp_path, run):
    """The real annotations, with features of the right lengths: every feature is used, and THUMOS'14's quirks are explained."""
    real = SHARED / "data" / "wtalc" / "Thumos14reduced-Annotations"
    if not real.exists():
        pytest.skip("needs W-TALC's annotations in ../shared")
    place = tmp_path / "wtalc"
    shutil.copytree(real, place / real.name)
    seconds = np.load(real / "duration.npy").ravel()
    generator = np.random.default_rng(0)
    features = np.empty(len(seconds), object)
    features[:] = [generator.random((max(1, int(s * 10 / 16)), 2 * FEATURE_SIZE), np.float32) for s in seconds]
    np.save(place / "Thumos14reduced-I3D-JOINTFeatures.npy", features, allow_pickle=True)
    outcome = run(place, "--check_data", "--allow_pickle")
    assert outcome.code == 0, outcome.out
    assert set(kinds(outcome, "note")) == {
        "not used: left out of THUMOS'14 by common practice (2)",
        "CliffDiving annotated a second time as Diving (360)",
        "annotations past the end, as THUMOS'14 was published (8)",
    }
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [row[:4] for row in rows if row[:2] in (["train", "float32"], ["test", "float32"])] == [
        ["train", "float32", "200", "200"],
        ["test", "float32", "210", "210"],
    ]


# The report


def test_a_report_without_findings_and_with_each_kind():
    assert exit_code([]) == 0
    assert render([]) == "0 errors, 0 warnings, 0 notes: exit code 0"
    note, warning, error = (
        Finding(severity=s, title="k", examples=("e",), advice="a") for s in ("note", "warning", "error")
    )
    assert [exit_code([note]), exit_code([note, warning]), exit_code([warning, error])] == [0, 1, 2]
    text = render([note, warning, error])
    assert text.index("error: k\n    e\n  -> a") < text.index("warning: k") < text.index("note: k")
    assert text.endswith("1 error, 1 warning, 1 note: exit code 2")
    assert not list(summarize("error", "k", []))


def test_problems_of_one_kind_are_one_finding():
    """Whatever their texts look like."""
    shapes = [
        Problem(kind=Kind.SHAPE, where=where, what=f"shape {shape}, bad", fix="see --modal")
        for where, shape in (("/a/x.npy", (3, 5)), ("/b/y y.npy", (4, 7)), ("/a/z.npy", ()))
    ]
    other = Problem(kind=Kind.DAMAGED, where="/a/u.npy", what="not whole", fix="write it again")
    findings = list(summarize_by_kind("error", "k", [*shapes[:1], other, *shapes[1:]]))
    assert [finding.count for finding in findings] == [3, 1]
    assert findings[0].examples[1] == "/b/y y.npy: shape (4, 7), bad; see --modal"


def test_a_table():
    assert table(["a", "b"], [["long", 1], ["x", 23]]) == "a      b\nlong   1\nx     23"


# How it goes about it


def test_every_array_is_read_once(checked, tiny, monkeypatch):
    read = []
    plain = NpyArray.rows
    monkeypatch.setattr(NpyArray, "rows", lambda self, indices: (read.append(self.path), plain(self, indices))[1])
    checked()
    assert sorted(read) == sorted((tiny.path / "features").rglob("*.npy"))


@pytest.mark.parametrize("workers", ["0", "1", "3"])
def test_threads_change_nothing(checked, workers):
    assert checked("--num_workers", workers).out == checked().out


def test_few_videos_are_in_memory(tiny):
    """60 videos of 400 KB a stream."""
    wide_set(tiny, channels=8, train=40, test=20)
    generator = np.random.default_rng(0)
    for file in (tiny.path / "features").rglob("*.npy"):
        np.save(file, generator.random((12_500, 8), np.float32))
    tracemalloc.start()
    check_data(tiny.path, DataOptions(dataset="demo", feature_size=8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * 400_000


def test_check_data_raises_for_a_folder_without_a_set(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        check_data(tmp_path / "x", DataOptions(dataset="demo", feature_size=8, modal="rgb"))


def test_the_script_hands_on_flags_and_exit_code(tmp_path):
    """Run in a folder with a virtual environment whose Python prints its arguments."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "requirements.txt").write_text("none\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / "installed-requirements.txt").write_text("none\n")
    command = ["bash", str(tmp_path / "scripts" / "check_data.sh"), "--fps", "30"]
    done = subprocess.run(command, env={"PATH": "/usr/bin:/bin", "DATA_PATH": "/a b"}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"{tmp_path}/main.py --check_data --data_path /a b --fps 30\n"


def test_training_says_when_the_grid_can_not_be_right(tiny, run):
    """Else every detection would be at the wrong time, and nobody the wiser."""
    lengths = {
        v: len(np.load(next(tiny.path.glob(f"features/*/rgb/{v}.npy"))))
        for v in json.loads(tiny.gt.read_text())["database"]
    }
    tiny.edit_gt(lambda database: [entry.update(duration=lengths[v] * 16 / 25) for v, entry in database.items()])
    assert "warning" not in run(tiny.path, "--num_epochs", "1").out
    tiny.edit_gt(lambda database: [entry.update(fps=60.0) for entry in database.values()])
    out = run(tiny.path, "--num_epochs", "1").out
    assert "warning: the durations of 11 of 11 videos contradict their features: --fps 25" in out
    assert "warning" not in run(tiny.path, "--num_epochs", "1", "--fps", "25").out


def test_features_in_the_other_split_too_are_extra(checked, tiny):
    for stream in ("rgb", "flow"):
        shutil.copy(tiny.feature("train", stream, "train_0"), tiny.feature("test", stream, "train_0"))
    outcome = checked()
    ((kind, lines),) = kinds(outcome, "warning").items()
    assert outcome.code == 1 and kind == "features that no split names" and "test/rgb/train_0.npy" in lines


def test_a_joint_file_says_which_stream(checked, tiny):
    for split, video in videos_of(tiny):
        array = joined(tiny, split, video)
        if video == "train_2":
            array[3, FEATURE_SIZE:] = 0
        np.save(tiny.path / "features" / split / f"{video}.npy", array)
    for split in ("train", "test"):
        for stream in ("rgb", "flow"):
            shutil.rmtree(tiny.path / "features" / split / stream)
    lines = kinds(checked(), "warning")["all-zero snippets"]
    assert "train_2.npy (flow): 1 of" in lines


def test_a_wrong_grid_is_said_once(checked, tiny):
    """Annotations are past the end only because every time is wrong."""
    tiny.edit_gt(lambda database: [entry.update(duration=500.0, fps=300.0) for entry in database.values()])
    assert not [kind for kind in kinds(checked(), "warning") if "past the end" in kind]


def test_a_duration_of_nothing_does_not_lose_the_video(checked, tiny):
    tiny.edit_gt(lambda database: database["train_1"].update(duration=0))
    outcome = checked()
    assert outcome.code == 2 and "duration 0 is not a number above 0" in outcome.out
    assert not kinds(outcome, "warning")
