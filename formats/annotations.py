"""Ground truth: which actions videos hold and, where somebody marked it, when.

annotations = read_annotations("gt.json")          # {video: VideoAnnotation}

{"database": {video: {"subset", "annotations": [{"label", "segment": [s, e]}], "labels"?, "duration"?, "fps"?}}}

The official ActivityNet files and those of ActionFormer have this form too, with more in it: duration and fps are used, a
label_id is checked, the rest is left alone. "labels" are a video's labels where nobody marked segments.
"""

import json
import math
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from utils.errors import InputError
from utils.segments import Segments

FORM = '{"database": {video: {"subset", "annotations": [{"label", "segment": [start, end]}]}}}'

# With this THUMOS'14 marks what its annotators could not tell. It is no class, and no evaluation counts it.
AMBIGUOUS = "Ambiguous"
THUMOS_PREFIXES = ("video_validation_", "video_test_")


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
    weak_labels: frozenset[str] = frozenset()  # of the video, given apart from any segments
    duration: float | None = None  # seconds
    fps: float | None = None  # frames per second

    @property
    def labels(self) -> frozenset[str]:
        return self.weak_labels | {instance.label for instance in self.instances}


class EmptySegment(InputError):
    """A segment that ends at or before its start."""


Report = Callable[[InputError], None]


def raise_it(error: InputError) -> None:
    raise error


def is_ambiguous(video: str, label: str) -> bool:
    return label == AMBIGUOUS and video.startswith(THUMOS_PREFIXES)


def read_json(path: pathlib.Path, *, twice: bool = True) -> Any:
    """Raises InputError naming the file when it is missing, unreadable or malformed; with `twice` off also when a key stands in
    one object twice, of which JSON keeps the last."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=None if twice else _without_doubles)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); mend the file") from None


def read_annotations(path: pathlib.Path, report: Report = raise_it) -> dict[str, VideoAnnotation]:
    """Segments may be numbers or strings of numbers. Raises InputError when the file has another form.

    `report` gets what is wrong with single videos, naming the file, the video and what to mend; when it returns, the entry is
    left out. An empty segment still counts for its video's labels.
    """
    content = read_json(path, twice=False)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise InputError(f"{path}: no videos; expected {FORM}; {_keys_found(content)}")
    annotations = {}
    for video, entry in database.items():
        try:
            annotations[video] = _video_annotation(path, video, entry, report)
        except InputError as error:
            report(error)
    for problem in _label_id_problems(path, database):
        report(problem)
    return annotations


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


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(k for k in keys if keys.count(k) > 1)}' stands twice in one object")
    return content


def _keys_found(content: Any) -> str:
    if not isinstance(content, dict):
        return f"found a {type(content).__name__}"
    inside = content.get("database", content)
    where = 'in "database" ' if "database" in content else ""
    if not isinstance(inside, dict):
        return f'found a {type(inside).__name__} as "database"'
    keys = ", ".join(f'"{key[:40]}"' for key in list(inside)[:6])
    return f"found {where}the keys {keys}" if keys else f"found {where}nothing"


def _video_annotation(path: pathlib.Path, video: str, entry: Any, report: Report) -> VideoAnnotation:
    where = f"{path}: video '{video}'"
    notes = entry.get("annotations") if isinstance(entry, dict) else None
    if not isinstance(notes, list) or not isinstance(entry.get("subset"), str):
        found = f"; found the keys {', '.join(map(str, entry))}" if isinstance(entry, dict) and entry else ""
        raise InputError(f'{where}: expected {{"subset": "...", "annotations": [...]}}{found}')
    weak = entry.get("labels", [])
    if not isinstance(weak, list) or not all(isinstance(label, str) and label for label in weak):
        raise InputError(f'{where}: "labels" must be a list of class names')

    def number(key: str) -> float | None:
        try:
            return parse_positive(f"{where}: {key}", entry.get(key))
        except InputError as error:
            report(error)
            return None

    labels, instances = set(weak), []
    for i, note in enumerate(notes):
        try:
            label = _label(f"{where}, annotation {i}", note)
            if is_ambiguous(video, label):
                continue
            labels.add(label)
            instances.append(Instance(label, *parse_segment(f"{where}, annotation {i}", note.get("segment"))))
        except InputError as error:
            report(error)
    return VideoAnnotation(
        entry["subset"],
        tuple(instances),
        frozenset(labels),
        number("duration"),
        number("fps"),
    )


def _label(where: str, note: Any) -> str:
    if not isinstance(note, dict) or not isinstance(note.get("label"), str) or not note["label"]:
        raise InputError(f'{where}: expected {{"label": "...", "segment": [start, end]}} with a label')
    label: str = note["label"]
    return label


def parse_positive(where: str, value: Any) -> float | None:
    """A duration or a frame rate; None for none. Raises InputError for anything but a number above 0 of a sensible size."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not (1e-6 < number < 1e9):
        raise InputError(f"{where} {str(value)[:40]} is not a number above 0; mend or remove it")
    return number


def _label_id_problems(path: pathlib.Path, database: dict[str, Any]) -> list[InputError]:
    """Where label and label_id, ActionFormer's number of the class, contradict each other."""
    of_label: dict[str, Any] = {}
    of_number: dict[Any, str] = {}
    problems = []
    for video, entry in database.items():
        notes = entry.get("annotations") if isinstance(entry, dict) else None
        for note in notes if isinstance(notes, list) else ():
            if not isinstance(note, dict) or not isinstance(note.get("label_id"), int):
                continue
            label, number = note.get("label"), note["label_id"]
            if not isinstance(label, str):
                continue
            if of_label.setdefault(label, number) != number or of_number.setdefault(number, label) != label:
                problems.append(
                    InputError(
                        f"{path}: video '{video}': label '{label}' with label_id {number}, but elsewhere '{label}' has "
                        f"{of_label[label]} and {number} is '{of_number.get(number, label)}'; mend either"
                    )
                )
    return problems


def parse_segment(where: str, segment: Any) -> tuple[float, float]:
    """[start, end] in seconds, as numbers or strings. Raises InputError when it is neither, EmptySegment when it ends at or
    before its start."""
    try:
        if not isinstance(segment, list) or any(isinstance(value, bool) for value in segment):
            raise ValueError
        start, end = (float(value) for value in segment)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where}: segment {str(segment)[:80]} is not [start, end] in seconds") from None
    if not (math.isfinite(start) and math.isfinite(end)):
        raise InputError(f"{where}: segment {segment!r} is not finite")
    if end <= start:
        raise EmptySegment(f"{where}: segment {segment!r} ends at or before its start; mend or remove it")
    return start, end
