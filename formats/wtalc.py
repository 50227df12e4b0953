"""The layout "wtalc", in which W-TALC and many later methods published their features:

    NAME-I3D-JOINTFeatures.npy          one array of objects: [L,2048] per video
    NAME-Annotations/{videoname,subset,labels,labels_all,segments,duration,classlist,extracted_fps}.npy

Everything is aligned by position. `labels` names the class of every segment, `labels_all` the classes of the video.
"""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.annotations import Instance, VideoAnnotation, parse_positive, parse_segment
from formats.array_files import MemoryArray, StoredArray, UnusableArray
from formats.feature_set import Storage, StoredFeatures, StoredSet
from formats.pickled import read_pickled
from formats.problems import DataError, Kind, Problem, Report
from formats.thumos14_quirks import is_ambiguous
from utils.errors import InputError
from utils.memory import check_fits

FEATURES, ANNOTATIONS = "-I3D-JOINTFeatures.npy", "-Annotations"
REQUIRED = ("videoname", "subset", "labels")  # of the annotations' columns
OPTIONAL = ("labels_all", "segments", "duration", "extracted_fps")


class WtalcLayout:
    name = "wtalc"
    looked_for = f"NAME{FEATURES} and NAME{ANNOTATIONS}/"

    def fits(self, path: pathlib.Path) -> bool:
        return bool(_set_names(path))

    def read(self, path: pathlib.Path, *, allow_pickle: bool, report: Report) -> StoredSet:
        name, *more_names = _set_names(path)
        if more_names:
            raise InputError(f"{path}: holds {name} and {more_names[0]}; give each set its own folder")
        features_file, folder = path / f"{name}{FEATURES}", path / f"{name}{ANNOTATIONS}"
        columns = _read_columns(folder, allow_pickle=allow_pickle)
        features = _read_features(features_file, allow_pickle=allow_pickle)
        _check_aligned(folder, columns, features_file, features)
        annotations: dict[str, VideoAnnotation] = {}
        arrays: dict[str, dict[str, StoredArray]] = {}
        for i, video in enumerate(columns.names):
            if video in arrays:
                where, what = str(folder / "videoname.npy"), f"video '{video}' is listed twice"
                report(Problem(kind=Kind.LISTED_TWICE, where=where, what=what, fix="remove one", video=video))
                continue
            arrays[video] = {"joint": _array(features[i], where=f"{features_file} entry {i} ('{video}')")}
            try:
                annotations[video] = _annotation(columns, i, folder=folder, report=report)
            except DataError as error:
                report(error.problem.of(video))
        stored = StoredFeatures(videos=arrays, expected=f"{features_file} entry '{{video}}'", joint=True)
        return StoredSet(storage=Storage.undivided(stored), annotations=annotations, source=str(folder))


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The annotations as the files hold them."""

    names: list[str]  # of the videos
    values: Mapping[str, list[Any] | None]  # file -> one value per video; None if the file is missing
    classes: frozenset[str] | None  # of classlist.npy

    def value(self, file: str, position: int) -> Any:
        values = self.values[file]
        return None if values is None else values[position]


def _set_names(path: pathlib.Path) -> list[str]:
    """Every NAME with features or annotations."""
    features = {file.name.removesuffix(FEATURES) for file in path.glob(f"*{FEATURES}")}
    return sorted(features | {folder.name.removesuffix(ANNOTATIONS) for folder in path.glob(f"*{ANNOTATIONS}")})


def _read_columns(folder: pathlib.Path, *, allow_pickle: bool) -> _Columns:
    def column(file: str) -> list[Any] | None:
        path = folder / f"{file}.npy"
        if file not in REQUIRED and not path.exists():
            return None
        return _entries(path, read_pickled(path, allowed=allow_pickle))

    name_file, class_file = folder / "videoname.npy", folder / "classlist.npy"
    names = _texts(column("videoname"), where=str(name_file))
    if not names:
        raise InputError(f"{name_file}: names no video; get another copy")
    values = {file: column(file) for file in (*REQUIRED[1:], *OPTIONAL)}
    classes = column("classlist")
    return _Columns(
        names=names,
        values=values,
        classes=None if classes is None else frozenset(_texts(classes, where=str(class_file))),
    )


def _read_features(path: pathlib.Path, *, allow_pickle: bool) -> list[Any]:
    if path.exists():
        size = path.stat().st_size
        check_fits(size, None, what=f"{path}: takes", instead="it can only be read all at once, so free memory")
    return _entries(path, read_pickled(path, allowed=allow_pickle))


def _check_aligned(folder: pathlib.Path, columns: _Columns, features_file: pathlib.Path, features: list[Any]) -> None:
    name_file, count = folder / "videoname.npy", len(columns.names)
    files: dict[pathlib.Path, list[Any] | None] = {folder / f"{file}.npy": v for file, v in columns.values.items()}
    for path, values in {**files, features_file: features}.items():
        if values is not None and len(values) != count:
            raise InputError(
                f"{path}: {len(values)} entries for the {count} videos of {name_file}; the files are aligned by position, "
                "so all must have the same number"
            )


def _annotation(columns: _Columns, position: int, *, folder: pathlib.Path, report: Report) -> VideoAnnotation:
    """Parse one entry. Raises DataError when its labels or segments can't be understood; `report` gets empty segments."""
    video = columns.names[position]
    where = f"{folder}: entry {position} ('{video}')"
    entry = {file: columns.value(file, position) for file in columns.values}
    segment_labels = _texts(entry["labels"], where=f"{where}, labels.npy")
    labels = _labels(entry, segment_labels, video=video, where=where)
    unknown = labels - columns.classes if columns.classes is not None else frozenset()
    if unknown:
        class_file = folder / "classlist.npy"
        what = f"label '{min(unknown)}' is not in {class_file}"
        fix = "the two must name the same classes"
        raise DataError(Problem(kind=Kind.UNKNOWN_LABEL, where=where, what=what, fix=fix))
    return VideoAnnotation(
        subset=_text(entry["subset"], where=f"{where}, subset.npy"),
        instances=_instances(entry["segments"], segment_labels, video=video, where=where, report=report),
        weak_labels=labels,
        duration=_number(entry["duration"], where=f"{where}, duration.npy", name="duration"),
        fps=_number(entry["extracted_fps"], where=f"{where}, extracted_fps.npy", name="frame rate"),
    )


def _labels(entry: Mapping[str, Any], segment_labels: list[str], *, video: str, where: str) -> frozenset[str]:
    """All classes of a video."""
    listed = entry["labels_all"]
    video_labels = [] if listed is None else _texts(listed, where=f"{where}, labels_all.npy")
    return frozenset(label for label in (*segment_labels, *video_labels) if not is_ambiguous(video, label))


def _instances(values: Any, labels: list[str], *, video: str, where: str, report: Report) -> tuple[Instance, ...]:
    segments = _items(values, where=f"{where}, segments.npy")
    if segments and len(segments) != len(labels):
        what = f"{len(segments)} segments with {len(labels)} labels"
        raise DataError(Problem(kind=Kind.SEGMENTS_WITHOUT_LABELS, where=where, what=what, fix="fix either"))
    instances = []
    for i, (label, segment) in enumerate(zip(labels, segments, strict=False)):  # labels alone are fine
        if is_ambiguous(video, label):
            continue
        place = f"{where}, segment {i}"
        try:
            times = [_text_or_number(value) for value in _items(segment, where=place)]
            start, end = parse_segment(times, where=place)
            instances.append(Instance(label=label, start=start, end=end))
        except DataError as error:
            if error.problem.kind is not Kind.EMPTY_SEGMENT:
                raise
            report(error.problem.of(video))
    return tuple(instances)


def _array(values: Any, *, where: str) -> StoredArray:
    """One video's features. numpy saves videos of equal length as one array of objects, each of them a number."""
    try:
        array = np.asarray(values)
        return MemoryArray(where=where, array=array.astype(np.float32) if array.dtype == object else array)
    except (TypeError, ValueError):
        problem = Problem(kind=Kind.CONTENT, where=where, what="not an array of numbers", fix="get another copy")
        return UnusableArray(problem)


def _entries(path: pathlib.Path, array: NDArray[Any]) -> list[Any]:
    if array.ndim == 0:
        raise InputError(
            f"{path}: a single {type(array.item()).__name__}; expected an array with an entry for every video"
        )
    return list(array)


def _malformed(where: str, what: str) -> DataError:
    return DataError(Problem(kind=Kind.MALFORMED_ENTRY, where=where, what=what, fix="fix it or get another copy"))


def _items(values: Any, *, where: str) -> list[Any]:
    """The items of a list or an array; no items for None."""
    if values is None:
        return []
    if not isinstance(values, list | tuple | np.ndarray) or np.ndim(values) == 0:
        raise _malformed(where, f"expected a list, found {str(values)[:40]!r}")
    return list(values)


def _texts(values: Any, *, where: str) -> list[str]:
    """The names in a list or an array, or a single name."""
    if isinstance(values, np.ndarray):
        values = values.ravel().tolist()
    return [_text(value, where=where) for value in (values if isinstance(values, list | tuple) else [values])]


def _text(value: Any, *, where: str) -> str:
    """A name, given as text or as the bytes that Python 2 and numpy write."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise _malformed(where, f"{value!r} is not UTF-8 text") from None
    if not isinstance(value, str) or not value:
        raise _malformed(where, f"expected a name, found {str(value)[:60]!r}")
    try:
        value.encode("utf-8")
    except (UnicodeError, SystemError):  # a damaged file can hold invalid characters
        raise _malformed(where, "holds invalid text") from None
    return str(value)


def _text_or_number(value: Any) -> Any:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _number(value: Any, *, where: str, name: str) -> float | None:
    """Parse a number above 0; None stays None."""
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    elif isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return parse_positive(value, where=where, name=name)
