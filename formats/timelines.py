"""What a model says over the videos of a set, beside what is true of them, in one file: what pictures of videos are drawn from.

write_timelines(path, timelines)        # one .npz, half precision, written whole or not at all
timelines = read_timelines(path)        # no pickle; raises InputError for what is not such a file
"""

import json
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.array_files import STREAMS, NpzArray, reading
from utils.atomic import write_file
from utils.errors import InputError
from utils.segments import Floats, Indices, Segments

FORMAT = 1
TIMELINES = "timelines.npz"  # in a run's folder
Sequence32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class VideoSequences:
    """The sequences of one video over its T snippets after resampling, all in [0,1]."""

    classes: Indices  # [P] those predicted or true, ascending
    cas: Sequence32  # [P,T] class activation: the softmax over all classes
    combined: Sequence32  # [P,T] what proposals are cut from
    actionness: Sequence32  # [T] fused
    streams: dict[str, Sequence32]  # [T] each, "rgb" and "flow", those in use
    pseudo_label: Sequence32  # [T] 0 and 1, as training would give it
    mask: Sequence32 | None  # [T] the adaptive mask's weight; None where its statistics are not known

    @property
    def rows(self) -> Sequence32:
        """All of them, one below the other: [2P + 2 + streams + (mask), T]."""
        mask = [] if self.mask is None else [self.mask]
        return np.vstack(
            [self.cas, self.combined, self.actionness, *self.streams.values(), self.pseudo_label, *mask]
        ).astype(np.float32, copy=False)


@dataclass(frozen=True, kw_only=True)
class Timelines:
    """V videos. Snippet t of a video covers first + t * step .. first + (t + 1) * step seconds."""

    videos: tuple[str, ...]  # [V]
    classes: tuple[str, ...]  # [C]
    seconds: Floats  # [V] length of the video, as its ground truth states it, or else by its snippets
    first: Floats  # [V]
    step: Floats  # [V]
    labels: NDArray[np.bool_]  # [V,C] the video's true labels; all False where nobody knows them
    predicted: NDArray[np.bool_]  # [V,C] the classes whose instances were looked for
    class_scores: NDArray[np.float32]  # [V,C] sum to 1
    truth: Segments  # instances, coded by videos and classes; none where nobody has annotated segments
    sequences: Sequence[VideoSequences]  # [V]


def write_timelines(path: pathlib.Path, timelines: Timelines) -> None:
    """Write the complete file or none. Raises InputError when it can't be written."""
    sequences = timelines.sequences
    names = {
        "format": FORMAT,
        "videos": timelines.videos,
        "classes": timelines.classes,
        "streams": list(sequences[0].streams) if sequences else [],
        "mask": bool(sequences) and sequences[0].mask is not None,
    }
    truth = timelines.truth
    arrays: dict[str, Any] = {
        "names": np.frombuffer(json.dumps(names).encode(), np.uint8),
        "times": np.stack([timelines.seconds, timelines.first, timelines.step]),
        "labels": timelines.labels,
        "predicted": timelines.predicted,
        "class_scores": timelines.class_scores.astype(np.float32),
        "truth_indices": np.stack([truth.video, truth.label]).astype(np.int64),
        "truth_times": np.stack([truth.start, truth.end]).astype(np.float64),
        "snippets": np.array([len(s.actionness) for s in sequences], np.int64),
        "sequences": np.concatenate([np.zeros(0), *(s.rows.ravel() for s in sequences)]).astype(np.float16),
    }
    write_file(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def read_timelines(path: pathlib.Path) -> Timelines:
    """Raises InputError when the file is missing, damaged, or not one that `write_timelines` wrote."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    with reading(path, "file of timelines"):
        timelines = _read(path)
    _check(timelines, path)
    return timelines


def _read(path: pathlib.Path) -> Timelines:
    def array(key: str, dtype: type[np.generic]) -> NDArray[Any]:
        stored = NpzArray(path, key=key)
        _, found = stored.header()
        if found != np.dtype(dtype):
            raise TypeError(key)
        return stored.rows(slice(None))

    names = json.loads(array("names", np.uint8).tobytes())
    if names["format"] != FORMAT:
        raise InputError(f"{path}: timelines of format {str(names['format'])[:40]}, but this version reads {FORMAT}")
    videos, classes = tuple(map(str, names["videos"])), tuple(map(str, names["classes"]))
    seconds, first, step = array("times", np.float64)
    labels, predicted = array("labels", np.bool_), array("predicted", np.bool_)
    (video, label), (start, end) = array("truth_indices", np.int64), array("truth_times", np.float64)
    values = array("sequences", np.float16).astype(np.float32)
    streams = [name for name in STREAMS if name in names["streams"]]
    sequences, place = [], 0
    for count, shown in zip(array("snippets", np.int64).tolist(), labels | predicted, strict=True):
        present = np.flatnonzero(shown)
        rows = 2 * len(present) + 2 + len(streams) + bool(names["mask"])
        block = values[place : place + rows * count].reshape(rows, count)
        place += rows * count
        cas, combined, rest = np.split(block, [len(present), 2 * len(present)])
        sequences.append(
            VideoSequences(
                classes=present,
                cas=cas,
                combined=combined,
                actionness=rest[0],
                streams=dict(zip(streams, rest[1:], strict=False)),
                pseudo_label=rest[1 + len(streams)],
                mask=rest[2 + len(streams)] if names["mask"] else None,
            )
        )
    if place != len(values):
        raise ValueError("sequences")
    return Timelines(
        videos=videos,
        classes=classes,
        seconds=seconds,
        first=first,
        step=step,
        labels=labels,
        predicted=predicted,
        class_scores=array("class_scores", np.float32),
        truth=Segments(video=video, label=label, start=start, end=end, score=np.ones(len(video))),
        sequences=tuple(sequences),
    )


def _check(timelines: Timelines, path: pathlib.Path) -> None:
    """Raise InputError when the arrays do not fit each other, or hold what no model says."""
    v, c, truth = len(timelines.videos), len(timelines.classes), timelines.truth
    of_videos = (timelines.seconds, timelines.first, timelines.step, timelines.sequences)
    of_classes = (timelines.labels, timelines.predicted, timelines.class_scores)
    fit = (
        all(len(values) == v for values in of_videos)
        and all(values.shape == (v, c) for values in of_classes)
        and all(i.min(initial=0) >= 0 and i.max(initial=-1) < n for i, n in ((truth.video, v), (truth.label, c)))
    )
    numbers: tuple[NDArray[Any], ...] = (
        timelines.seconds,
        timelines.first,
        timelines.step,
        timelines.class_scores,
        truth.start,
        truth.end,
    )
    finite = all(np.isfinite(values).all() for values in (*numbers, *(s.rows for s in timelines.sequences)))
    if not (fit and finite):
        raise InputError(f"{path}: its parts do not fit each other; it is damaged, or written by another program")
