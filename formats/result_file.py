"""Detections on disk, in the ActivityNet format: {"version", "results": {video: [{"label", "score", "segment"}]}}.

write_detections(path, detections, videos, classes)
write_entries(path, entries)                # of one video after another, which need not be in memory together
"""

import json
import math
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from formats.annotations import parse_segment
from formats.ground_truth import read_json
from utils.atomic import NOT_FINITE, write_file
from utils.errors import InputError
from utils.printable import one_line
from utils.segments import Segments

VERSION = "SAL 1"
Row = tuple[str, float, float, float]  # a detection's label, start, end and score; seconds
Entry = tuple[str, Sequence[Row]]  # a video and its detections
FORM = '{"results": {video: [{"label", "score", "segment": [start, end]}]}}'


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """What a result file says, in its own spelling."""

    videos: tuple[str, ...]  # in the file's order, with or without detections
    labels: tuple[str, ...]  # that occur, in the file's order
    detections: Segments  # in the file's order, coded by these; some may end at or before their start


def write_detections(
    path: pathlib.Path, detections: Segments, videos: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    """Write an entry for every video, an empty one if it has no detections. Scores and seconds keep all their digits."""
    write_entries(path, entries_of(detections, videos, classes))


def entries_of(detections: Segments, videos: Sequence[str], classes: Sequence[str]) -> Iterator[Entry]:
    """The detections of one video after another, in the order given; only one video's are Python's objects at a time."""
    if (np.diff(detections.video) < 0).any():
        detections = detections.take(np.argsort(detections.video, kind="stable"))
    ends = np.searchsorted(detections.video, np.arange(len(videos) + 1))
    for video, first, end in zip(videos, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        numbers = (column[first:end].tolist() for column in (detections.start, detections.end, detections.score))
        labels = [classes[label] for label in detections.label[first:end].tolist()]
        yield video, list(zip(labels, *numbers, strict=True))


def write_entries(path: pathlib.Path, entries: Iterable[Entry]) -> None:
    """Write these videos, each of which comes once. Raises InputError for a number that is not finite."""

    def write(file: BinaryIO) -> None:
        between = ""
        file.write(f'{{"version": {json.dumps(VERSION)}, "results": {{'.encode())
        for video, rows in entries:
            found = [{"label": label, "score": score, "segment": [start, end]} for label, start, end, score in rows]
            file.write(f"{between}{json.dumps(video)}: {json.dumps(found, allow_nan=False)}".encode())
            between = ", "
        file.write(b'}, "external_data": {}}')

    try:
        write_file(path, write)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {NOT_FINITE}") from None


def read_detections(path: pathlib.Path) -> ResultFile:
    """Read a result file of this program or of another. Numbers may be strings.

    Raises InputError for a malformed entry, a number that is not finite, and a video that stands there twice.
    """
    content = read_json(path, duplicate_keys=False)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise InputError(f"{path}: expected {FORM}; is it a result file?")
    label_index: dict[str, int] = {}
    rows: list[tuple[int, int, float, float, float]] = []
    for v, (video, entries) in enumerate(results.items()):
        name = one_line(video, longest=100)
        if not isinstance(entries, list):
            raise InputError(f"{path}: video '{name}': expected a list of detections; fix the entry")
        for i, entry in enumerate(entries):
            where = f"{path}: video '{name}', detection {i}"
            score, label = _score_and_label(where, entry)
            start, end = _detected_segment(where, entry.get("segment"))
            rows.append((v, label_index.setdefault(label, len(label_index)), start, end, score))
    return ResultFile(videos=tuple(results), labels=tuple(label_index), detections=Segments.from_rows(rows))


def _score_and_label(where: str, entry: Any) -> tuple[float, str]:
    try:
        score, label = entry["score"], entry["label"]
        number = math.nan if isinstance(score, bool) else float(score)
    except (TypeError, KeyError, ValueError, OverflowError):
        raise InputError(f'{where}: expected {{"label", "score", "segment"}}, the score a number; fix it') from None
    if not math.isfinite(number):
        raise InputError(f"{where}: the score {str(score)[:40]} is not a finite number; fix it")
    if not isinstance(label, str):
        raise InputError(f"{where}: the label {str(label)[:40]} is not the name of a class; write its name")
    return number, label


def _detected_segment(where: str, segment: Any) -> tuple[float, float]:
    # The usual case first: files hold tens of thousands of detections.
    if isinstance(segment, list) and len(segment) == 2:
        start, end = segment
        if isinstance(start, float) and isinstance(end, float) and -1e9 < start < end < 1e9:
            return start, end
    return parse_segment(segment, where=where, ordered=False)
