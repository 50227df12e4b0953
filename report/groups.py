"""Groups of videos that numbers of a report lead to and that the explorer has no choice of its own for.

groups = video_groups(judged)                   # {key: Group}; the page holds them
explore_link(group=missed_key())                # a link to the videos of one
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.diagnosis import MISSED, SIZES
from report.judged import Judged
from utils.segments import Indices

MOST_CONFUSED = 25  # classes of a table of what is taken for what


@dataclass(frozen=True, kw_only=True)
class Group:
    label: str  # what its videos have, after "videos with"
    videos: list[int]  # positions, ascending


def missed_key() -> str:
    return MISSED


def trait_key(trait: str, size: str) -> str:
    return f"{trait}-{size}"


def confusion_key(true: int, best: int) -> str:
    return f"label-{true}-best-{best}"


def video_groups(judged: Judged) -> dict[str, Group]:
    """All groups that have videos."""
    groups = {key: Group(label=label, videos=np.unique(videos).tolist()) for key, label, videos in _all(judged)}
    return {key: group for key, group in groups.items() if group.videos}


def present_classes(judged: Judged) -> NDArray[np.bool_]:
    """The classes [V,C] by which each video is found: those that it is labelled with, predicted or detected."""
    timelines, detections = judged.run.timelines, judged.run.detections
    present = timelines.labels | timelines.predicted
    present[detections.video, detections.label] = True
    present[timelines.truth.video, timelines.truth.label] = True
    return present


def confusions(judged: Judged) -> tuple[list[int], NDArray[np.bool_], Indices]:
    """The classes that a table of what is taken for what has, and the labels [V,C] and best classes [V] that it counts.

    It has no classes where nobody has labelled the videos, or where there would be more than MOST_CONFUSED.
    """
    labels, best = judged.run.timelines.labels, judged.run.timelines.class_scores.argmax(1)
    labelled = labels.any(1)
    used = np.flatnonzero(labels.any(0) | (np.bincount(best[labelled], minlength=labels.shape[1]) > 0)).tolist()
    return (used if labelled.any() and len(used) <= MOST_CONFUSED else []), labels, best


def _all(judged: Judged) -> Iterator[tuple[str, str, Indices]]:
    classes, truth = judged.run.timelines.classes, judged.run.timelines.truth
    if judged.diagnosis:
        yield missed_key(), "instances missed altogether", truth.video[judged.diagnosis.is_missed]
        for trait, bucket in judged.diagnosis.buckets.items():
            for i, size in enumerate(SIZES):
                yield trait_key(trait, size), f"instances of {trait} {size}", truth.video[bucket == i]
    used, labels, best = confusions(judged)
    for true in used:
        for other in used:
            videos = np.flatnonzero(labels[:, true] & (best == other))
            yield confusion_key(true, other), f"label {classes[true]} and best class {classes[other]}", videos
