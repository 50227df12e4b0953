"""Detections on disk, in the ActivityNet format: {"version", "results": {video: [{"label", "score", "segment"}]}}."""

import json
import math
import pathlib
from typing import Any

from formats.annotations import parse_segment
from formats.ground_truth import read_json
from utils.atomic import write_text
from utils.errors import InputError
from utils.segments import Segments

VERSION = "SAL 1"


def write_detections(
    path: pathlib.Path, detections: Segments, videos: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    """Write an entry for every video, an empty one if it has no detections. Scores and seconds keep all their digits."""
    results: dict[str, list[dict[str, Any]]] = {video: [] for video in videos}
    columns = (detections.video, detections.label, detections.start, detections.end, detections.score)
    for video, label, start, end, score in zip(*(column.tolist() for column in columns), strict=True):
        results[videos[video]].append({"label": classes[label], "score": score, "segment": [start, end]})
    write_text(path, json.dumps({"version": VERSION, "results": results, "external_data": {}}))


def read_detections(
    path: pathlib.Path, videos: tuple[str, ...], classes: tuple[str, ...]
) -> tuple[Segments, tuple[str, ...]]:
    """Read detections in the file's order, coded by `videos` and `classes`; other videos are appended to `videos`.

    Returns the detections and the longer list of videos. Raises InputError for an unknown label or a malformed entry.
    """
    content = read_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise InputError(f'{path}: expected {{"results": {{video: [{{"label", "score", "segment"}}]}}}}; fix the file')
    all_videos = tuple(dict.fromkeys((*videos, *results)))
    video_index = {name: i for i, name in enumerate(all_videos)}
    label_index = {name: i for i, name in enumerate(classes)}
    rows: list[tuple[int, int, float, float, float]] = []
    for video, entries in results.items():
        if not isinstance(entries, list):
            raise InputError(f"{path}: video '{video}': expected a list of detections; fix the entry")
        for i, entry in enumerate(entries):
            where = f"{path}: video '{video}', detection {i}"
            score, label = _score_and_label(where, entry)
            if label not in label_index:
                raise InputError(f"{where}: unknown label '{label}'; the ground truth has no such class")
            start, end = _detected_segment(where, entry.get("segment"))
            rows.append((video_index[video], label_index[label], start, end, score))
    return Segments.from_rows(rows), all_videos


def _score_and_label(where: str, entry: Any) -> tuple[float, str]:
    try:
        score, label = float(entry["score"]), entry["label"]
    except (TypeError, KeyError, ValueError):
        raise InputError(f'{where}: expected {{"label", "score", "segment"}}; fix it') from None
    if not math.isfinite(score) or not isinstance(label, str):
        raise InputError(f"{where}: the score must be a finite number and the label a string; fix either")
    return score, label


def _detected_segment(where: str, segment: Any) -> tuple[float, float]:
    # The usual case first: files hold tens of thousands of detections.
    if isinstance(segment, list) and len(segment) == 2:
        start, end = segment
        if isinstance(start, float) and isinstance(end, float) and -math.inf < start < end < math.inf:
            return start, end
    return parse_segment(segment, where=where)
