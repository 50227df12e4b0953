"""Ground truth: reading gt.json, {"database": {video: {"subset", "annotations": [{"label", "segment": [s, e]}]}}}.

annotations = read_annotations("gt.json")          # {video: VideoAnnotation}
"""

import json
import math
import pathlib
from dataclasses import dataclass
from typing import Any

from utils.errors import InputError
from utils.segments import Segments


@dataclass(frozen=True)
class Instance:
    """One action instance; times in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class VideoAnnotation:
    subset: str
    instances: tuple[Instance, ...]

    @property
    def labels(self) -> frozenset[str]:
        return frozenset(instance.label for instance in self.instances)


def read_json(path: pathlib.Path) -> Any:
    """Raises InputError naming the file when it is missing, unreadable or malformed."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); mend the file") from None


def read_annotations(path: pathlib.Path) -> dict[str, VideoAnnotation]:
    """Segments may be numbers or strings of numbers. Raises InputError naming the file, the video and what to mend."""
    content = read_json(path)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise InputError(f'{path}: no videos; expected {{"database": {{video: {{"subset", "annotations"}}}}}}')
    return {video: _video_annotation(f"{path}: video '{video}'", entry) for video, entry in database.items()}


def class_names(annotations: dict[str, VideoAnnotation]) -> tuple[str, ...]:
    """Every label that occurs, sorted: positions are the class indices."""
    return tuple(sorted({label for video in annotations.values() for label in video.labels}))


def ground_truth_segments(
    annotations: dict[str, VideoAnnotation], videos: tuple[str, ...], classes: tuple[str, ...]
) -> Segments:
    """The instances of `videos`, coded by position in `videos` and `classes`."""
    label_index = {name: i for i, name in enumerate(classes)}
    return Segments.from_rows(
        [
            (v, label_index[instance.label], instance.start, instance.end, 1.0)
            for v, video in enumerate(videos)
            for instance in annotations[video].instances
        ]
    )


def _video_annotation(where: str, entry: Any) -> VideoAnnotation:
    notes = entry.get("annotations") if isinstance(entry, dict) else None
    if not isinstance(notes, list) or not isinstance(entry.get("subset"), str):
        raise InputError(f'{where}: expected {{"subset": "...", "annotations": [...]}}')
    return VideoAnnotation(
        entry["subset"], tuple(_instance(f"{where}, annotation {i}", n) for i, n in enumerate(notes))
    )


def _instance(where: str, note: Any) -> Instance:
    if not isinstance(note, dict) or not isinstance(note.get("label"), str) or not note["label"]:
        raise InputError(f'{where}: expected {{"label": "...", "segment": [start, end]}} with a label')
    start, end = parse_segment(where, note.get("segment"))
    return Instance(note["label"], start, end)


def parse_segment(where: str, segment: Any) -> tuple[float, float]:
    """[start, end] in seconds, as numbers or strings. Raises InputError when it is neither, or ends before it starts."""
    try:
        if not isinstance(segment, list) or any(isinstance(value, bool) for value in segment):
            raise ValueError
        start, end = (float(value) for value in segment)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: segment {str(segment)[:80]} is not [start, end] in seconds") from None
    if not (math.isfinite(start) and math.isfinite(end)):
        raise InputError(f"{where}: segment {segment!r} is not finite")
    if end <= start:
        raise InputError(f"{where}: segment {segment!r} ends at or before its start; mend or remove it")
    return start, end
