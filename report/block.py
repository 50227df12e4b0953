"""A run's videos as one block of bytes in a page, of which each video is decoded when it is looked at.

run = encode_run(judged, name=judged.run.name, limits=Limits())
run.header      # plain, for JSON: names, what is where, what was cut
run.block       # base64 text

A record is 12 bytes aligned, and so begins at a whole group of four letters: a page decodes it alone. In it, little-endian:

    float32  start, end, score of n detections, best first; start, end of g instances; scores of s classes
    uint16   label of n detections; label of g instances; the s classes, TRUE_LABEL added to the video's own; the
             classes shown; the p of them that have sequences
    uint8    kind and hit of n detections; missed of g instances; [R,T] sequences, 0 .. 1 as 0 .. 255

The R rows are those of VideoSequences.rows, of the p classes. Before the records stand TABLE's columns,
float32, a value for each video, then uint32 counts of the detections of each kind [V,K], and the classes of each video.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.diagnosis import KINDS
from formats.timelines import PARTS, VideoSequences
from report.groups import present_classes
from report.judged import Judged
from report.timeline import shown_classes
from utils.segments import Indices

ALIGNMENT = 12  # of a record, in bytes: whole float32, and whole groups of three bytes
UNKNOWN = 255  # the kind of a detection where nobody knows the truth
TRUE_LABEL = 0x8000
SCORED_CLASSES = 10  # of a video, the best ones; true ones come besides
TABLE = (  # of float32, which holds whole numbers to 2**24 exactly; offsets are in units of ALIGNMENT
    *("offset", "size", "seconds", "first", "step", "snippets", "ap", "false_positives"),
    *("found", "detections", "instances", "scored", "shown", "sequences"),
)


@dataclass(frozen=True)
class Limits:
    """What a page holds at most, of all its runs together."""

    detections: int = 150_000
    sequence_bytes: int = 6_000_000

    def shared(self, runs: int) -> "Limits":
        return Limits(self.detections // runs, self.sequence_bytes // runs)


@dataclass(frozen=True, kw_only=True)
class EncodedRun:
    header: dict[str, Any]
    block: str


def encode_run(judged: Judged, *, name: str, limits: Limits) -> EncodedRun:
    """Encode what the explorer shows of a run under a `name`.

    Over the limits, each video keeps its best detections, as many as fit the run, and sequences become means of several
    snippets; the header says so in "most_detections" and "pooled", None and 1 where all is there.
    """
    timelines, detections = judged.run.timelines, judged.run.detections
    found = np.bincount(detections.video, minlength=len(timelines.videos))
    most = most_per_video(found, limits.detections)
    order = np.lexsort((-detections.score, detections.video))
    first = np.cumsum(found) - found
    order = order[np.arange(len(order)) - np.repeat(first, found) < most]
    by_video = np.split(order, np.cumsum(np.minimum(found, most))[:-1]) if len(found) else []
    true = _positions(timelines.truth.video, len(timelines.videos))
    pooled = max(1, -(-sum(s.rows.size for s in timelines.sequences) // limits.sequence_bytes))
    records = [
        _record(judged, video, int(found[video]), kept, instances, pooled)
        for video, (kept, instances) in enumerate(zip(by_video, true, strict=True))
    ]
    table = np.array([columns for columns, _ in records], np.float32).reshape(-1, len(TABLE))
    kinds = np.zeros((len(timelines.videos), len(KINDS)), np.uint32)
    known = judged.kind >= 0
    np.add.at(kinds, (detections.video[known], judged.kind[known]), 1)
    present = present_classes(judged)
    counts, listed = present.sum(1).astype(np.uint32), np.nonzero(present)[1].astype(np.uint16)
    parts = [table.T.tobytes(), kinds.tobytes(), counts.tobytes(), listed.tobytes()]
    start = -(-sum(map(len, parts)) // ALIGNMENT) * ALIGNMENT
    sizes = np.array([len(data) for _, data in records], np.int64) // ALIGNMENT
    table[:, TABLE.index("offset")] = start // ALIGNMENT + np.cumsum(sizes) - sizes
    table[:, TABLE.index("size")] = sizes
    parts[0] = table.T.tobytes()
    head = b"".join(parts)
    block = b"".join([head.ljust(start, b"\0"), *(data for _, data in records)])
    scores = detections.score.astype(np.float32)  # as the page has them
    streams = list(timelines.sequences[0].streams) if timelines.sequences else []
    header = {
        "name": name,
        "videos": timelines.videos,
        "classes": timelines.classes,
        "streams": streams,
        "parts": timelines.sequences[0].parts if timelines.sequences else PARTS,
        "known": judged.known,
        "tiou": judged.tiou,
        "head": start,
        "listed": len(listed),
        "scores": [float(scores.min(initial=0)), float(scores.max(initial=0))],
        "most_detections": most if (found > most).any() else None,
        "pooled": pooled,
    }
    return EncodedRun(header=header, block=base64.b64encode(block).decode("ascii"))


def most_per_video(found: Indices, total: int) -> int:
    """The largest number m with sum(min(found, m)) <= total, for the numbers of detections found in each video [V].

    >>> most_per_video(np.array([1, 5, 9]), 9)
    4
    """
    low, high = 0, int(found.max(initial=0))
    while low < high:
        middle = -(-(low + high) // 2)
        low, high = (middle, high) if int(np.minimum(found, middle).sum()) <= total else (low, middle - 1)
    return low


def _positions(video: Indices, num_videos: int) -> list[Indices]:
    """Where each video's segments are."""
    order = np.argsort(video, kind="stable")
    return np.split(order, np.cumsum(np.bincount(video, minlength=num_videos))[:-1]) if num_videos else []


def _record(
    judged: Judged, video: int, found: int, kept: Indices, true: Indices, pooled: int
) -> tuple[list[float], bytes]:
    """The columns of TABLE, without place and size, and the record; `kept` are the best of the `found` detections."""
    timelines, detections, truth = judged.run.timelines, judged.run.detections, judged.run.timelines.truth
    shown = shown_classes(timelines, detections.take(kept), video)
    true_labels = timelines.labels[video]
    scored = _scored(timelines.class_scores[video], true_labels)
    sequences = timelines.sequences[video]
    rows, with_sequences = _rows(sequences, shown)
    floats: Sequence[NDArray[Any]] = (
        *(detections.start[kept], detections.end[kept], detections.score[kept]),
        *(truth.start[true], truth.end[true], timelines.class_scores[video, scored]),
    )
    words = (
        detections.label[kept],
        truth.label[true],
        scored + TRUE_LABEL * true_labels[scored],
        shown,
        with_sequences,
    )
    kind = np.where(judged.kind[kept] < 0, UNKNOWN, judged.kind[kept])
    octets = (kind, judged.hit[kept], judged.missed[true], np.rint(pool(rows, pooled) * 255).ravel())
    data = b"".join(
        np.concatenate(part).astype(dtype).tobytes()
        for part, dtype in ((floats, "<f4"), (words, "<u2"), (octets, "u1"))
    )
    columns = [
        *(0.0, 0.0, timelines.seconds[video], timelines.first[video], timelines.step[video]),
        *(sequences.num_snippets, judged.video_ap[video], judged.false_positives[video]),
        *(found, len(kept), len(true), len(scored), len(shown), len(with_sequences)),
    ]
    return columns, data.ljust(-(-len(data) // ALIGNMENT) * ALIGNMENT, b"\0")


def _scored(scores: NDArray[np.float32], true: NDArray[np.bool_]) -> Indices:
    """The classes whose scores are shown, the largest first."""
    best = np.argsort(-scores, kind="stable")
    return np.array([c for rank, c in enumerate(best) if rank < SCORED_CLASSES or true[c]], np.int64)


def _rows(sequences: VideoSequences, shown: Indices) -> tuple[NDArray[np.float32], Indices]:
    """The rows of the classes that are shown and of everything else [R,T], and which classes those are."""
    kept = np.flatnonzero(np.isin(sequences.classes, shown))
    count = len(sequences.classes)
    of_classes = [kept] if sequences.combined is None else [kept, count + kept]
    others = np.arange(len(of_classes) * count, len(sequences.rows))
    return sequences.rows[np.concatenate([*of_classes, others])], sequences.classes[kept]


def pool(rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Means over `size` columns each, the last over what is left. [R,T] -> [R,ceil(T/size)]"""
    if size == 1:
        return rows
    starts = np.arange(0, rows.shape[1], size)
    lengths = np.diff(np.append(starts, rows.shape[1]))
    return np.asarray(np.add.reduceat(rows, starts, axis=1) / lengths, np.float32)
