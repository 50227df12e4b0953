"""--check_data on what no single video shows: a frame rate that is wrong for all, a recipe that does not fit; entire lists."""

import shlex

import numpy as np
import pytest
from support.paths import SHARED
from support.tiny import FEATURE_SIZE

import main
from data_tools.check.annotations import annotation_findings
from data_tools.check.recipe import recipe_findings
from data_tools.check.statistics import MeasuredVideo, measure
from data_tools.check.times import TimedVideo, duration_findings, grid_warning
from data_tools.recipe import evaluation_step, fitting_segments, training_length
from formats.annotations import Instance, VideoAnnotation
from formats.thumos14_quirks import LEFT_OUT
from formats.wtalc import _annotation, _read_columns
from options import ActionnessOptions, DataOptions, Options, parse_flags
from utils.snippet_grid import SnippetGrid

GRID = SnippetGrid(frames=16, stride=16)


def timed(rows, *, fps=25.0, instances=()):
    """Videos of (duration, snippets)."""
    return [
        TimedVideo(
            video_id=str(i),
            annotation=VideoAnnotation(subset="test", duration=duration, instances=tuple(instances)),
            num_snippets=int(length),
            fps=fps,
        )
        for i, (duration, length) in enumerate(rows)
    ]


# Frame rates


@pytest.mark.parametrize("lengths", [range(4, 13), [6] * 9, [10] * 3, range(8, 30)])
@pytest.mark.parametrize("rate", [20, 30, 29.97, 15])
def test_a_wrong_rate_is_noticed_however_short_the_videos_are(lengths, rate):
    videos = timed([(n * 16 / rate, n) for n in lengths])
    assert grid_warning(videos, GRID), lengths
    assert list(duration_findings(videos, grid=GRID))
    assert grid_warning(timed([(n * 16 / rate, n) for n in lengths], fps=rate), GRID) is None


@pytest.mark.parametrize("rate", [20.0, 30.0])
def test_a_wrong_rate_is_noticed_in_rounded_lengths(rate):
    seconds = np.random.default_rng(0).uniform(2.5, 9, 200)
    videos = timed([(s, s * rate // 16) for s in seconds])
    assert grid_warning(videos, GRID) and "--fps" in grid_warning(videos, GRID)


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rounding", [np.floor, np.ceil, np.round])
def test_lost_ends_are_no_wrong_rate(lost, seed, rounding):
    """Of short videos they are a large share, but the same for all."""
    seconds = np.random.default_rng(seed).uniform(3, 25, 100)
    lengths = np.maximum(rounding(seconds * 25 / 16) - lost * (rounding is not np.ceil), 1)
    assert grid_warning(timed(zip(seconds, lengths, strict=True)), GRID) is None


@pytest.mark.parametrize("stride", [2, 4, 8, 12])
def test_overlapping_snippets_are_no_wrong_rate_and_reach_to_the_end(stride):
    grid = SnippetGrid(frames=16, stride=stride)
    seconds = np.random.default_rng(stride).uniform(3, 60, 50)
    lengths = [(int(s * 25) - 16) // stride + 1 for s in seconds]
    videos = [
        *(
            timed([row], instances=[Instance(label="x", start=0, end=row[0])])[0]
            for row in zip(seconds, lengths, strict=True)
        ),
    ]
    assert grid_warning(videos, grid) is None
    assert not list(annotation_findings(videos, grid=grid))
    late = timed([(None, lengths[0])], instances=[Instance(label="x", start=1, end=seconds[0] + 2)])
    assert [finding.title for finding in annotation_findings(late, grid=grid)] == ["annotations that end past the end"]


def test_a_published_set_with_overlapping_snippets():
    """W-TALC's annotations, with features of overlapping snippets: nothing is past the end but what THUMOS'14 has there."""
    folder = SHARED / "data" / "wtalc" / "Thumos14reduced-Annotations"
    if not folder.exists():
        pytest.skip("needs W-TALC's annotations in ../shared")
    columns = _read_columns(folder, allow_pickle=True)
    grid, videos = SnippetGrid(frames=16, stride=4), []
    for i, name in enumerate(columns.names):
        if name in LEFT_OUT:
            continue
        entry = _annotation(columns, i, folder=folder, report=lambda problem: None)
        length = max(1, int((entry.duration * entry.fps - 16) / 4) + 1)
        videos.append(TimedVideo(video_id=name, annotation=entry, num_snippets=length, fps=entry.fps))
    assert grid_warning(videos, grid) is None
    assert {finding.severity for finding in annotation_findings(videos, grid=grid)} == {"note"}


def test_annotations_before_the_start():
    videos = timed([(10, 15)], instances=[Instance(label="x", start=-1, end=2), Instance(label="x", start=0, end=2)])
    (finding,) = annotation_findings(videos, grid=GRID)
    assert (finding.title, finding.count) == ("annotations that begin before 0", 1)


# The recipe


def measured(lengths):
    return [
        MeasuredVideo(video_id=str(i), split="train", streams={"rgb": measure(np.ones((n, 2), np.float32), "x")})
        for i, n in enumerate(lengths)
    ]


def titles(lengths, actionness=None, **data):
    options = Options(data=DataOptions(**data), actionness=actionness or ActionnessOptions())
    found = recipe_findings(measured(lengths), options, advised=None)
    return [finding.title for finding in found]


def test_t_against_the_lengths():
    assert titles([20, 60, 100]) == ["--num_segments 750 is far more than any video has"]
    assert titles([20, 60, 400]) == []
    assert titles([20, 60, 100], short_videos="keep") == []
    few = ActionnessOptions(pseudo_extra=0)
    assert titles([5000, 9000], few, num_segments=100) == ["--num_segments 100 is far less than any video has"]
    assert titles([700, 9000], few, num_segments=100) == []
    assert titles([], few) == []


@pytest.mark.parametrize("length", [1, 6, 15])
def test_t_that_the_recipe_takes_is_not_far_from_short_videos(length):
    few = ActionnessOptions(pseudo_extra=0)
    assert titles([1, length], few, num_segments=fitting_segments([1, length])) == []
    assert titles([1, length], few, num_segments=64) == ["--num_segments 64 is far more than any video has"]


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ([25], "the video has 25 snippets"),
        ([25, 25], "the videos have 25 snippets"),
        ([1], "the video has 1 snippet"),
        ([20, 30], "the videos have 20 to 30 snippets, 90 % of them at most 29"),
    ],
)
def test_lengths_in_words(lengths, said):
    (far, *_) = recipe_findings(measured(lengths), Options(), advised=None)
    assert far.examples == (said,)


@pytest.mark.parametrize(("segments", "extra", "share"), [(64, 17, "39 %"), (32, 17, "66 %"), (80, 17, "34 %")])
def test_the_share_of_pseudo_labels(segments, extra, share):
    def found(extra):
        options = Options(data=DataOptions(num_segments=segments), actionness=ActionnessOptions(pseudo_extra=extra))
        return list(recipe_findings(measured([segments]), options, advised=None))

    (finding,) = found(extra)
    assert share in finding.examples[0] and "--pseudo_extra " in finding.advice
    assert not found(2)


def test_published_recipes_are_fine():
    assert titles([100, 9000]) == []
    chosen = ActionnessOptions(pseudo_ratio=0.8, pseudo_extra=0)
    assert titles([60, 300], chosen, num_segments=50, short_videos="keep") == []


def test_main_hands_the_recipe_on(tiny, run):
    outcome = run(tiny.path, "--check_data", "--pseudo_extra", "17")
    assert outcome.code == 1 and "83 %: 17 of them are --pseudo_extra" in outcome.out


# Entire lists


@pytest.mark.parametrize("flag", ["--list", "--verbose"])
def test_every_example_on_request(tiny, run, flag):
    for i in range(7):
        file = tiny.feature("train", "flow", f"train_{i}")
        np.save(file, np.ones((99, FEATURE_SIZE), np.float32))
    short, entire = run(tiny.path, "--check_data"), run(tiny.path, "--check_data", flag)
    assert short.code == entire.code == 2
    assert short.out.count("different length") == 3 and "and 4 more; --list shows all" in short.out
    assert all(f"'train_{i}'" in entire.out for i in range(7)) and "more; --list" not in entire.out


def test_the_flag_alone_is_a_mistake(tiny, refused_with):
    line = refused_with(tiny.path, "--list")
    assert "--list is only" in line and "--check_data" in line


def test_no_one_is_told_of_classes_of_a_set_that_they_do_not_have(tiny, run):
    assert "has 20 classes" not in run(tiny.path, "--check_data").out
    assert "has 200 classes" in run(tiny.path, "--check_data", "--dataset", "activitynet1.3").out


def command_of(out):
    """The flags of the command that a report advises."""
    (line,) = (line for line in out.splitlines() if line.startswith("next: bash "))
    return parse_flags(shlex.split(line)[3:])


def test_the_command_to_train_with_and_why(tiny, capsys):
    small = ["--data_path", str(tiny.path), "--feature_size", str(FEATURE_SIZE)]
    assert main.main(["--check_data", *small]) == 1  # T 750
    out = capsys.readouterr().out
    lr, epochs = training_length(4)  # steps of an epoch of 7 videos
    every = evaluation_step(4, 4 * epochs)
    fitted = {"num_segments": 54, "hidden_size": 64, "lr": lr}
    fitted |= {"num_epochs": epochs, "detection_inf_step": every, "class_th": 0.15}
    expected = {"data_path": str(tiny.path), "feature_size": FEATURE_SIZE, "recipe": "stable", **fitted}
    assert command_of(out) == expected
    assert (
        "7 training videos of 16 to 59 snippets of 0.64 s" in out
        and "--recipe stable takes --num_segments 54 for these lengths; this is of training with what was typed, the "
        "command above avoids it"
        in out
    )
    for typed in ([], ["--recipe", "auto"], ["--recipe", "stable"]):
        words = [word for name, value in command_of(out).items() for word in (f"--{name}", str(value))]
        assert main.main([*words, *typed, "--check_data"]) == 0
        assert command_of(capsys.readouterr().out) == expected


@pytest.mark.parametrize("recipe", ["stable", "auto"])
def test_the_numbers_that_the_recipe_takes_are_judged(tiny, capsys, recipe):
    small = ["--check_data", "--data_path", str(tiny.path), "--feature_size", str(FEATURE_SIZE), "--recipe", recipe]
    assert main.main(small) == 0
    capsys.readouterr()
    assert main.main([*small, "--num_segments", "750", "--pseudo_source", "actionness", "--pseudo_extra", "200"]) == 1
    out = capsys.readouterr().out
    assert "--num_segments 750 is far more" in out and "200 of them are --pseudo_extra" in out
    assert command_of(out)["num_segments"] == 750 and "avoids it" not in out  # the command has what was typed


@pytest.mark.parametrize(
    ("flags", "avoided"),
    [
        (["--num_segments", "32"], True),  # its pseudo labels, 66 % of it, are not made with stable
        (["--recipe", "published"], False),
        (["--num_segments", "750"], False),
        (["--num_segments", "32", "--pseudo_extra", "17"], False),  # which the recipe that fits refuses
    ],
)
def test_a_warning_says_whether_the_command_avoids_it(tiny, capsys, flags, avoided):
    small = ["--check_data", "--data_path", str(tiny.path), "--feature_size", str(FEATURE_SIZE)]
    assert main.main([*small, *flags]) == 1
    warned = [block for block in capsys.readouterr().out.split("\n\n") if block.startswith("warning: ")]
    about_t = [block for block in warned if "far more" in block or "pseudo label" in block]
    assert ("the command above avoids it" in about_t[0]) == avoided


def test_a_set_that_training_refuses_has_no_command(tiny, run):
    tiny.feature("train", "rgb", "train_1").write_bytes(b"no array")
    outcome = run(tiny.path, "--check_data")
    assert outcome.code == 2 and "next: " not in outcome.out


@pytest.mark.parametrize("flags", [["--pseudo_extra", "4"], ["--recipe", "stable", "--pseudo_ratio", "0.2"]])
def test_no_command_that_training_would_refuse(tiny, flags, capsys):
    """Of flags that the recipe which fits does not read."""
    main.main(["--check_data", "--data_path", str(tiny.path), "--feature_size", str(FEATURE_SIZE), *flags])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("next:"))
    assert line.startswith(f"next: --recipe stable can't train with these flags: {flags[-2]} is only read with")
