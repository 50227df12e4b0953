"""--min_score and --top: by hand, and against a loop."""

import numpy as np
import pytest

from localization.selection import select_detections
from options import LocalizationOptions
from utils.segments import Segments


def detections_of(videos, scores):
    count = len(videos)
    return Segments(
        np.array(videos, np.int64), np.arange(count), np.arange(count) * 1.0, np.arange(count) + 1.0, np.array(scores)
    )


def kept(detections, **options):
    return select_detections(detections, LocalizationOptions(**options)).label.tolist()


def test_nothing_is_dropped_unless_asked():
    assert kept(detections_of([0, 0, 1], [-0.5, 0.0, 0.2])) == [0, 1, 2]


def test_the_threshold_itself_counts():
    assert kept(detections_of([0, 0, 1], [-0.5, 0.1, 0.2]), min_score=0.1) == [1, 2]


def test_the_best_of_each_video_in_the_given_order():
    assert kept(detections_of([0, 0, 0, 1, 1], [0.1, 0.3, 0.2, -0.2, -0.1]), top=2) == [1, 2, 3, 4]
    assert kept(detections_of([0, 0, 0, 1, 1], [0.1, 0.3, 0.2, -0.2, -0.1]), top=1, min_score=0.0) == [1]


def test_equal_scores_keep_their_order():
    assert kept(detections_of([0, 0, 0], [0.5, 0.5, 0.5]), top=2) == [0, 1]


def test_no_detections():
    assert kept(detections_of([], []), top=1, min_score=0.0) == []


@pytest.mark.parametrize("top", [1, 3, 100])
def test_against_a_loop(top):
    generator = np.random.default_rng(0)
    videos = np.sort(generator.integers(0, 6, 60))
    scores = np.round(generator.normal(size=60), 1)
    expected = []
    for video in range(6):
        mine = [i for i in range(60) if videos[i] == video and scores[i] >= -0.5]
        expected += sorted(sorted(mine, key=lambda i: -scores[i])[:top])
    assert kept(detections_of(videos, scores), top=top, min_score=-0.5) == expected
