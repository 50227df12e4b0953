"""The recogniser that is slid over videos: by hand, from scores that say exactly what happens when."""

import pathlib

import numpy as np
import pytest
from support.disk import Exploit

from options import resolve
from report.recording import timelines_of
from utils.errors import InputError
from video.feature_set import ExtractedVideo
from video.options import RecogniserOptions
from video.recognise import likely_classes, recognise

CLASSES = ("nothing", "run", "jump", "row")
OPTIONS = resolve({"soft_nms": False})
SNIPPET = 16 / 25  # seconds
SURE = 30.0  # a logit beside which the others are nothing


def video(folder, labels, *, name="clip", seconds=None, sure=SURE):
    """A video whose snippets are of these classes [T], or of the logits given [T,C]."""
    labels = np.asarray(labels)
    logits = sure * np.eye(len(CLASSES))[labels] if labels.ndim == 1 else labels
    path = folder / f"{name}.npy"
    np.save(path, logits.astype(np.float16))
    return ExtractedVideo(
        name=name,
        source=pathlib.Path(f"{name}.mp4"),
        features={},
        logits=path,
        seconds=len(logits) * SNIPPET if seconds is None else seconds,
        fps=25.0,
        num_snippets=len(logits),
    )


def found_in(*videos, options=OPTIONS, **recogniser):
    return recognise(
        videos,
        CLASSES,
        RecogniserOptions(**recogniser),
        grid=options.data.grid,
        localization=options.localization,
    )


def rows(recognised):
    return [(name, *row) for name, found in recognised.predictions.entries() for row in found]


def test_one_action_in_the_middle_is_found_where_it_is(tmp_path):
    """Snippets 4 to 7 of 12 jump: from 2.56 to 5.12 s, told to half a snippet, since scores are interpolated between them."""
    found = rows(found_in(video(tmp_path, [0] * 4 + [2] * 4 + [0] * 4)))
    jump = [row for row in found if row[1] == "jump"]
    assert len(jump) == 1
    (_, _, start, end, score) = jump[0]
    assert start == pytest.approx(4 * SNIPPET, abs=SNIPPET) and end == pytest.approx(8 * SNIPPET, abs=SNIPPET)
    # Inside about 1, outside about 0; and gamma times the class score, which is a third of the snippets.
    assert 0.8 < score <= 1 + 0.2 / 3
    assert {row[1] for row in found} == {"jump", "nothing"}  # what fills the rest of the video is a class as well


def test_what_fills_the_video_is_one_detection_of_all_of_it(tmp_path):
    ((name, label, start, end, score),) = rows(found_in(video(tmp_path, [3] * 10)))
    assert (name, label, start) == ("clip", "row", 0.0)
    assert end == pytest.approx(10 * SNIPPET) and score == pytest.approx(1 + 0.2 * 1, abs=1e-6)


def test_a_video_of_one_snippet_ends_where_it_ends(tmp_path):
    ((_, label, start, end, _),) = rows(found_in(video(tmp_path, [1], seconds=0.3)))
    assert (label, start, end) == ("run", 0.0, 0.3)


def test_what_is_shorter_than_a_snippet_is_left_out(tmp_path):
    """The first snippet runs, the others row: between them the run is above some thresholds, for a part of a snippet."""
    found = rows(found_in(video(tmp_path, [1] + [3] * 9), class_share=0.0))
    assert found and all(end - start >= SNIPPET - 1e-5 for _, _, start, end, _ in found)
    assert {row[1] for row in found} == {"row"}


def test_videos_keep_their_own_detections_best_first(tmp_path):
    found = rows(found_in(video(tmp_path, [3] * 5, name="b"), video(tmp_path, [1] * 3 + [2] * 9, name="a")))
    assert [row[0] for row in found] == sorted((row[0] for row in found), key=["b", "a"].index)
    scores = [row[4] for row in found if row[0] == "a"]
    assert scores == sorted(scores, reverse=True) and len(scores) > 1


def test_the_best_are_chosen_after_what_is_too_short(tmp_path):
    options = resolve({"soft_nms": False, "top": 1, "min_score": 0.5})
    assert len(rows(found_in(video(tmp_path, [1] + [3] * 9), class_share=0.0, options=options))) == 1


@pytest.mark.parametrize(
    ("scores", "options", "expected"),
    [
        ([0.8, 0.1, 0.05, 0.05], {}, [0]),
        ([0.2, 0.5, 0.1, 0.2], {}, [0, 1, 2, 3]),  # a fifth of the best score is enough
        ([0.2, 0.5, 0.1, 0.2], {"most_classes": 2}, [0, 1]),  # of equal ones the first
        ([0.2, 0.5, 0.1, 0.2], {"class_share": 0.3}, [0, 1, 3]),
        ([0.2, 0.5, 0.1, 0.2], {"class_share": 1.0}, [1]),
        ([0.25, 0.25, 0.25, 0.25], {"most_classes": 1}, [0]),
        ([0.0, 0.9, 0.1, 0.0], {"class_share": 0.0, "most_classes": 1000}, [0, 1, 2, 3]),
    ],
)
def test_the_classes_that_are_looked_for(scores, options, expected):
    assert likely_classes(np.array(scores, np.float32), RecogniserOptions(**options)).tolist() == expected


def test_what_is_recorded_are_the_probabilities(tmp_path):
    logits = np.log(np.array([[0.5, 0.25, 0.125, 0.125], [0.125, 0.625, 0.125, 0.125]]))
    recognised = found_in(video(tmp_path, logits), most_classes=2)
    timelines = timelines_of(recognised.recorded, ("clip",), CLASSES, grid=OPTIONS.data.grid)
    (sequences,) = timelines.sequences
    assert sequences.parts == () and sequences.streams == {}
    np.testing.assert_allclose(sequences.cas, [[0.5, 0.125], [0.25, 0.625]], atol=1e-3)
    np.testing.assert_allclose(timelines.class_scores, [[0.3125, 0.4375, 0.125, 0.125]], atol=1e-3)
    assert timelines.step.tolist() == [SNIPPET] and timelines.predicted.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: np.save(path, np.zeros((3, 5))),
        lambda path: np.save(path, np.full((10, 4), np.nan)),
        lambda path: np.save(path, np.array([Exploit(path.parent / "harmed")], object), allow_pickle=True),
        lambda path: path.write_bytes(b""),
    ],
)
def test_damaged_scores_are_named(damage, tmp_path):
    broken = video(tmp_path, [1] * 10)
    damage(broken.logits)
    with pytest.raises(InputError, match=r"clip\.npy"):
        found_in(broken)
    assert not (tmp_path / "harmed").exists()
