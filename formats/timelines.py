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

FORMAT = 2  # 1: all sequences but the mask are always there
TIMELINES = "timelines.npz"  # in a run's folder
PARTS = ("combined", "actionness", "pseudo_label", "mask")  # what a model may not have, beside streams
Sequence32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class VideoSequences:
    """The sequences of one video over its T snippets after resampling, all in [0,1]. What a model does not have is None."""

    classes: Indices  # [P] those predicted or true, ascending
    cas: Sequence32  # [P,T] class activation: the softmax over all classes
    combined: Sequence32 | None = None  # [P,T] what proposals are cut from; None: from `cas` itself
    actionness: Sequence32 | None = None  # [T] fused
    streams: dict[str, Sequence32]  # [T] each, the actionness of "rgb" and "flow", those in use
    pseudo_label: Sequence32 | None = None  # [T] 0 and 1, as training would give it
    mask: Sequence32 | None = None  # [T] the adaptive mask's weight; None where its statistics are not known either

    @property
    def num_snippets(self) -> int:
        """T"""
        return int(self.cas.shape[1])

    @property
    def of_proposals(self) -> Sequence32:
        """What proposals are cut from [P,T]"""
        return self.cas if self.combined is None else self.combined

    @property
    def parts(self) -> tuple[str, ...]:
        """Which of PARTS there are."""
        return tuple(name for name in PARTS if getattr(self, name) is not None)

    @property
    def rows(self) -> Sequence32:
        """Those that are there, one below the other: cas, combined, actionness, streams, pseudo_label, mask. [R,T]"""
        order = (self.cas, self.combined, self.actionness, *self.streams.values(), self.pseudo_label, self.mask)
        return np.vstack([values for values in order if values is not None]).astype(np.float32, copy=False)


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
        "parts": sequences[0].parts if sequences else PARTS,
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
        "snippets": np.array([s.num_snippets for s in sequences], np.int64),
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
    if names["format"] not in (1, FORMAT):
        raise InputError(f"{path}: timelines of format {str(names['format'])[:40]}, but this version reads {FORMAT}")
    videos, classes = tuple(map(str, names["videos"])), tuple(map(str, names["classes"]))
    seconds, first, step = array("times", np.float64)
    labels, predicted = array("labels", np.bool_), array("predicted", np.bool_)
    (video, label), (start, end) = array("truth_indices", np.int64), array("truth_times", np.float64)
    values = array("sequences", np.float16).astype(np.float32)
    streams = [name for name in STREAMS if name in names["streams"]]
    stored = names["parts"] if names["format"] == FORMAT else [*PARTS[:3], *PARTS[3:] * bool(names["mask"])]
    parts = [name for name in PARTS if name in stored]
    sequences, place = [], 0
    for count, shown in zip(array("snippets", np.int64).tolist(), labels | predicted, strict=True):
        present = np.flatnonzero(shown)
        size = (_height(parts, len(present)) + len(streams)) * count
        sequences.append(_sequences(values[place : place + size].reshape(-1, count), present, streams, parts))
        place += size
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


def _height(parts: Sequence[str], classes: int) -> int:
    """The rows of a video, without those of its streams."""
    return classes + sum(classes if name == "combined" else 1 for name in parts)


def _sequences(block: Sequence32, present: Indices, streams: Sequence[str], parts: Sequence[str]) -> VideoSequences:
    """One video's rows [R,T], in the order of VideoSequences.rows, taken apart again."""
    cas, rest = np.split(block, [len(present)])
    combined = None
    if "combined" in parts:
        combined, rest = np.split(rest, [len(present)])
    before = [name for name in ("actionness",) if name in parts]
    after = [name for name in ("pseudo_label", "mask") if name in parts]
    named = dict(zip([*before, *streams, *after], rest, strict=True))
    return VideoSequences(
        classes=present,
        cas=cas,
        combined=combined,
        streams={name: named[name] for name in streams},
        **{name: named[name] for name in (*before, *after)},
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
