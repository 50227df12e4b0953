"""Detections are cut where their video begins and ends."""

import json

import numpy as np
import pytest
from support.disk import contents

from formats.result_file import write_detections
from localization.clipping import clip_to_video
from localization.instances import Prediction, localize
from options import LocalizationOptions, resolve
from utils.atomic import write_json
from utils.errors import InputError
from utils.segments import Segments
from utils.snippet_grid import SnippetGrid

GRID = SnippetGrid(frames=16, stride=16)


def rows(segments):
    return list(zip(segments.video.tolist(), segments.start.tolist(), segments.end.tolist(), strict=True))


def test_by_hand():
    found = Segments.from_rows(
        [
            (0, 0, -1.0, 2.0, 0.9),
            (0, 0, 3.0, 12.0, 0.8),
            (0, 0, 10.0, 12.0, 0.7),  # begins at the end
            (0, 0, -2.0, 0.0, 0.6),  # ends at the beginning
            (1, 0, 3.0, 12.0, 0.5),  # nobody knows how long that video is
            (1, 0, -1.0, 1.0, 0.4),
        ]
    )
    clipped = clip_to_video(found, [10.0, None])
    assert rows(clipped) == [(0, 0.0, 2.0), (0, 3.0, 10.0), (1, 3.0, 12.0), (1, 0.0, 1.0)]
    assert clipped.score.tolist() == [0.9, 0.8, 0.5, 0.4]


def test_nothing_to_clip():
    assert len(clip_to_video(Segments.from_rows([]), [])) == 0


def prediction(duration=None, **changes):
    """One class, all of 100 snippets above every threshold: a detection of the whole video, 64 s."""
    given = {"num_snippets": 100, "fps": 25.0, "class_scores": np.ones(1, np.float32), "classes": np.array([0])}
    return Prediction(**{**given, **changes}, sequences=np.ones((1, 20), np.float32), duration=duration)


@pytest.mark.parametrize(("clip", "ends"), [(True, [60.5, 64.0]), (False, [64.0, 64.0])])
def test_localize_cuts_by_default(clip, ends):
    options = LocalizationOptions(clip_detections=clip)
    found = localize([prediction(60.5), prediction()], options, grid=GRID)
    assert [found.end[found.video == v].max() for v in (0, 1)] == ends
    assert LocalizationOptions() == LocalizationOptions(clip_detections=True)


def test_snippets_that_leave_gaps_begin_before_the_video():
    """Snippets of 16 frames every 32: the first one's share of the time begins 8 frames before the video."""
    grid = SnippetGrid(frames=16, stride=32)
    found, published = (
        localize([prediction()], LocalizationOptions(clip_detections=clip), grid=grid) for clip in (True, False)
    )
    assert (found.start.min(), published.start.min()) == (0, -8 / 25)


@pytest.mark.parametrize(
    ("options", "changes", "says"),
    [
        ({"gamma": 1e39}, {"class_scores": np.zeros(1, np.float32)}, "--gamma"),
        ({"nms_offset": 1.7e308}, {}, "--nms_offset"),
        ({}, {"fps": 1e-308}, "--fps"),
        ({}, {"class_scores": np.full(1, np.nan, np.float32)}, "weights"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_number_that_is_not_finite_ends_in_one_line(options, changes, says):
    with pytest.raises(InputError, match=says):
        localize([prediction(**changes)], LocalizationOptions(**options), grid=GRID)


@pytest.mark.parametrize("margin", [1e18, 1e30, 3e38])
def test_a_margin_wider_than_the_video_is_all_of_it(margin):
    sequences = np.random.default_rng(0).random((1, 20)).astype(np.float32)
    given = {"num_snippets": 100, "fps": 25.0, "class_scores": np.ones(1, np.float32), "classes": np.array([0])}
    video = [Prediction(**given, sequences=sequences)]
    wide, wider = (localize(video, LocalizationOptions(outer_margin=m), grid=GRID) for m in (1e6, margin))
    assert wide.score.tolist() == wider.score.tolist() and len(wide)


def latest_ends(folder):
    results = json.loads(next(folder.rglob("detections*.json")).read_text())["results"]
    return max(detection["segment"][1] for entries in results.values() for detection in entries)


def test_a_run_cuts_unless_told_otherwise(tiny, run, tmp_path):
    tiny.edit_gt(lambda database: [entry.update(duration=9.5) for entry in database.values()])
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "1").code == 0
    assert latest_ends(tmp_path / "out" / "x") == 9.5
    flags = ("--inference_only", "--model_file", str(tmp_path / "out" / "x" / "best.pt"))
    assert run(tiny.path, *flags, "--exp_name", "y", "--no-clip_detections").code == 0
    assert latest_ends(tmp_path / "out" / "y") > 9.5


def test_options_from_before_this_one_cut():
    assert resolve({"inference_only": True}, {"num_segments": 100}).localization.clip_detections


# Numbers that are no JSON


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_no_json_are_never_written(tmp_path, number):
    path = tmp_path / "file.json"
    path.write_text("the old one")
    segments = Segments.from_rows([(0, 0, 0.0, 1.0, number)])
    for write in (lambda: write_json(path, {"a": [number]}), lambda: write_detections(path, segments, ("v",), ("A",))):
        with pytest.raises(InputError, match=r"file\.json"):
            write()
    assert contents(tmp_path) == {"file.json": b"the old one"}
