"""Ground truth in JSON, in one form for this project's files, the official ActivityNet files and those of ActionFormer.

annotations = read_annotations(ground_truth_file(folder))          # {video: VideoAnnotation}

{"database": {video: {"subset", "annotations": [{"label", "segment": [s, e]}], "labels"?, "duration"?, "fps"?}}}

"labels" are a video's labels where nobody marked segments. A label_id is checked against its label; anything else is ignored.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from formats.annotations import Instance, VideoAnnotation, parse_positive, parse_segment
from formats.names import is_text
from formats.problems import DataError, Kind, Problem, Report, raise_problem
from formats.regular_files import check_regular
from formats.thumos14_quirks import is_ambiguous
from utils.errors import InputError

FORM = '{"database": {video: {"subset", "annotations": [{"label", "segment": [start, end]}]}}}'


def ground_truth_file(path: pathlib.Path) -> pathlib.Path:
    """gt.json of a folder, or its only JSON file. Raises InputError when there are several."""
    default = path / "gt.json"
    candidates = sorted({*path.glob("*.json"), *path.glob("annotations/*.json")})
    if default.exists() or not candidates:
        return default
    if len(candidates) > 1:
        shown = ", ".join(str(file.relative_to(path)) for file in candidates[:4])
        raise InputError(f"{path}: which of {shown} is the ground truth? Name it with --ground_truth")
    return candidates[0]


def read_json(path: pathlib.Path, *, duplicate_keys: bool = True) -> Any:
    """Read a JSON file. Raises InputError naming the file when it is missing, unreadable or malformed.

    `duplicate_keys` False refuses objects that repeat a key, of which JSON keeps the last.
    """
    try:
        check_regular(path)
        data = path.read_bytes()
        text = data.decode(json.detect_encoding(data))  # UTF-8, or the UTF-16 that some programs write
        return json.loads(text, object_pairs_hook=None if duplicate_keys else _without_duplicates)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    except RecursionError:
        raise InputError(f"{path}: not valid JSON (nested too deep); fix the file") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); fix the file") from None


def read_annotations(
    path: pathlib.Path, report: Report = raise_problem, *, keep_empty: bool = False
) -> dict[str, VideoAnnotation]:
    """Read {video: annotation}. Times may be numbers or strings. Raises InputError when the file has another form.

    `report` gets the problems of single videos; if it returns, the entry is left out. An empty segment still counts for its
    video's labels. With `keep_empty` segments that end at or before their start are instances too, and no problem.
    """
    content = read_json(path, duplicate_keys=False)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        raise InputError(f"{path}: no videos; expected {FORM}; {_content_summary(content)}")
    annotations = {}
    for video, entry in database.items():
        try:
            if not is_text(video):
                what, where = "its name is not valid text", f"{path}: video {video!a}"
                raise DataError(Problem(kind=Kind.MALFORMED_ENTRY, where=where, what=what, fix="rename it"))
            where = f"{path}: video '{video}'"
            annotations[video] = _video_annotation(
                entry, where=where, video=video, report=report, keep_empty=keep_empty
            )
        except DataError as error:
            report(error.problem.of(video))
    for problem in _label_id_problems(path, database):
        report(problem)
    return annotations


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"one object has the key '{next(k for k in keys if keys.count(k) > 1)}' twice")
    return content


def _content_summary(content: Any) -> str:
    if not isinstance(content, dict):
        return f"found a {type(content).__name__}"
    inside = content.get("database", content)
    where = 'in "database" ' if "database" in content else ""
    if not isinstance(inside, dict):
        return f'found a {type(inside).__name__} as "database"'
    keys = ", ".join(f'"{key[:40]}"' for key in list(inside)[:6])
    return f"found {where}the keys {keys}" if keys else f"found {where}nothing"


def _video_annotation(entry: Any, *, where: str, video: str, report: Report, keep_empty: bool) -> VideoAnnotation:
    """Parse one entry. Raises DataError when it can't be understood; `report` gets problems within it."""
    notes = entry.get("annotations") if isinstance(entry, dict) else None
    if not isinstance(notes, list) or not isinstance(entry.get("subset"), str):
        keys = f", found the keys {', '.join(map(str, entry))}" if isinstance(entry, dict) and entry else ""
        what = f'expected {{"subset": "...", "annotations": [...]}}{keys}'
        raise DataError(Problem(kind=Kind.MALFORMED_ENTRY, where=where, what=what, fix="fix or remove it"))
    weak = entry.get("labels", [])
    if not isinstance(weak, list) or not all(isinstance(label, str) and label and is_text(label) for label in weak):
        what = '"labels" must be a list of class names'
        raise DataError(Problem(kind=Kind.INVALID_LABEL, where=where, what=what, fix="fix or remove it"))

    def number(key: str) -> float | None:
        try:
            return parse_positive(entry.get(key), where=where, name=key)
        except DataError as error:
            report(error.problem.of(video))
            return None

    labels, instances = set(weak), []
    for i, note in enumerate(notes):
        place = f"{where}, annotation {i}"
        try:
            label = _label(note, where=place)
            if is_ambiguous(video, label):
                continue
            labels.add(label)
            start, end = parse_segment(note.get("segment"), where=place, ordered=not keep_empty)
            instances.append(Instance(label=label, start=start, end=end))
        except DataError as error:
            report(error.problem.of(video))
    return VideoAnnotation(
        subset=entry["subset"],
        instances=tuple(instances),
        weak_labels=frozenset(labels),
        duration=number("duration"),
        fps=number("fps"),
    )


def _label(note: Any, *, where: str) -> str:
    if not isinstance(note, dict) or not isinstance(note.get("label"), str) or not note["label"]:
        what = 'expected {"label": "...", "segment": [start, end]} with a label'
        raise DataError(Problem(kind=Kind.INVALID_LABEL, where=where, what=what, fix="fix or remove it"))
    label: str = note["label"]
    if not is_text(label):
        what = f"label {label!a} is not valid text"
        raise DataError(Problem(kind=Kind.INVALID_LABEL, where=where, what=what, fix="fix it"))
    return label


def _label_id_problems(path: pathlib.Path, database: dict[str, Any]) -> Iterator[Problem]:
    """Contradictions between labels and label_ids, ActionFormer's numbers of the classes."""
    id_of: dict[str, int] = {}
    label_of: dict[int, str] = {}
    for video, entry in database.items():
        notes = entry.get("annotations") if isinstance(entry, dict) else None
        for note in notes if isinstance(notes, list) else ():
            if not isinstance(note, dict) or not isinstance(note.get("label_id"), int):
                continue
            label, label_id = note.get("label"), note["label_id"]
            if not isinstance(label, str):
                continue
            if id_of.setdefault(label, label_id) != label_id or label_of.setdefault(label_id, label) != label:
                yield Problem(
                    kind=Kind.LABEL_ID,
                    where=f"{path}: video '{video}'",
                    what=f"label '{label}' with label_id {label_id}, but elsewhere '{label}' has {id_of[label]} and {label_id} "
                    f"is '{label_of.get(label_id, label)}'",
                    fix="fix one of them",
                    video=video,
                )
