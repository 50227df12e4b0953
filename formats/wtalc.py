"""The layout that W-TALC published its features in, and many methods after it took over:

    NAME-I3D-JOINTFeatures.npy          one array of objects: [L,2048] a video
    NAME-Annotations/{videoname,subset,labels,labels_all,segments,duration,classlist,extracted_fps}.npy

Everything is aligned by position. `labels` names the class of every segment, `labels_all` the classes of the video.
"""

import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from formats.annotations import (
    EmptySegment,
    Instance,
    Report,
    VideoAnnotation,
    is_ambiguous,
    parse_positive,
    parse_segment,
)
from formats.array_files import MemoryArray, StoredArray, UnusableArray
from formats.pickled import read_pickled
from formats.subsets import group_of, splits_of
from formats.thumos14 import LEFT_OUT_REASON, is_left_out
from utils.errors import InputError
from utils.memory import check_fits

UNMARKED_REASON = "test videos without segments"
FEATURES, ANNOTATIONS = "-I3D-JOINTFeatures.npy", "-Annotations"


@dataclass(frozen=True)
class WtalcSet:
    annotations: dict[str, VideoAnnotation]
    arrays: dict[str, StoredArray]
    dropped: dict[str, str]  # test videos and why they are not evaluated


def read_wtalc(path: pathlib.Path, name: str, *, allow_pickle: bool, report: Report) -> WtalcSet:
    """The set NAME in a folder. Raises InputError, or gives it to `report` where it is about one video."""
    folder = path / f"{name}{ANNOTATIONS}"

    def column(file: str, *, required: bool = False) -> list[Any] | None:
        place = folder / f"{file}.npy"
        if not required and not place.exists():
            return None
        return _entries(place, read_pickled(place, allowed=allow_pickle))

    names = _texts(folder / "videoname.npy", column("videoname", required=True))
    if not names:
        raise InputError(f"{folder / 'videoname.npy'}: names no video")
    columns = {
        "subset": column("subset", required=True),
        "labels": column("labels", required=True),
        **{file: column(file) for file in ("labels_all", "segments", "duration", "extracted_fps")},
    }
    features_file = path / f"{name}{FEATURES}"
    if features_file.exists():
        size = features_file.stat().st_size
        check_fits(size, torch.device("cpu"), what=f"{features_file}: takes", instead="it can only be read as a whole")
    features = _entries(features_file, read_pickled(features_file, allowed=allow_pickle))
    for file, values in (*columns.items(), (str(features_file), features)):
        if values is not None and len(values) != len(names):
            place = file if file == str(features_file) else folder / f"{file}.npy"
            raise InputError(
                f"{place}: {len(values)} entries for the {len(names)} videos of {folder / 'videoname.npy'}; "
                "the files are aligned by position, so all must have as many"
            )
    classlist = column("classlist")
    classes = None if classlist is None else set(_texts(folder / "classlist.npy", classlist))

    annotations: dict[str, VideoAnnotation] = {}
    arrays: dict[str, StoredArray] = {}
    for i, video in enumerate(names):
        entry = {file: None if values is None else values[i] for file, values in columns.items()}
        if video in annotations:
            report(InputError(f"{folder / 'videoname.npy'}: video '{video}' is listed twice; remove one"))
            continue
        try:
            annotations[video] = _annotation(folder, i, video, entry, classes, report)
        except InputError as error:
            report(error)
            continue
        arrays[video] = _features(f"{features_file} entry {i} ('{video}')", features[i])
    return WtalcSet(annotations, arrays, _dropped(annotations))


def _annotation(
    folder: pathlib.Path, position: int, video: str, entry: dict[str, Any], classes: set[str] | None, report: Report
) -> VideoAnnotation:
    where = f"{folder}: entry {position} ('{video}')"
    of_segments = _texts(f"{where}, labels.npy", entry["labels"])
    of_video = _texts(f"{where}, labels_all.npy", entry["labels_all"]) if entry["labels_all"] is not None else []
    labels = {label for label in (*of_segments, *of_video) if not is_ambiguous(video, label)}
    unknown = labels - classes if classes is not None else set()
    if unknown:
        raise InputError(
            f"{where}: label '{min(unknown)}' is not in {folder / 'classlist.npy'}; the two must name the same classes"
        )
    segments = _items(f"{where}, segments.npy", entry["segments"])
    if segments and len(segments) != len(of_segments):
        raise InputError(f"{where}: {len(segments)} segments with {len(of_segments)} labels; mend either")
    instances = []
    for j, (label, segment) in enumerate(zip(of_segments, segments, strict=False)):
        if is_ambiguous(video, label):
            continue
        try:
            times = [_text_or_number(value) for value in _items(f"{where}, segment {j}", segment)]
            instances.append(Instance(label, *parse_segment(f"{where}, segment {j}", times)))
        except EmptySegment as error:
            report(error)
    return VideoAnnotation(
        _text(f"{where}, subset.npy", entry["subset"]),
        tuple(instances),
        frozenset(labels),
        _number(f"{where}, duration.npy:", entry["duration"]),
        _number(f"{where}, extracted_fps.npy:", entry["extracted_fps"]),
    )


def _dropped(annotations: dict[str, VideoAnnotation]) -> dict[str, str]:
    """Test videos that are not evaluated: those known to be wrong, and, where others have segments, those without."""
    split = splits_of({group for entry in annotations.values() if (group := group_of(entry.subset))})
    tested = {v: entry for v, entry in annotations.items() if split.get(group_of(entry.subset) or "") == "test"}
    dropped = {video: LEFT_OUT_REASON for video in tested if is_left_out(video)}
    if any(entry.instances for entry in tested.values()):
        for video, entry in tested.items():
            if not entry.instances:
                dropped.setdefault(video, UNMARKED_REASON)
    return dropped


def _features(where: str, values: Any) -> StoredArray:
    """Arrays of equal length are easily saved as one array of objects, each of them a number."""
    try:
        array = np.asarray(values)
        return MemoryArray(where, array.astype(np.float32) if array.dtype == object else array)
    except (TypeError, ValueError):
        return UnusableArray(where, "no array of numbers")


def _entries(path: pathlib.Path, array: NDArray[Any]) -> list[Any]:
    if array.ndim == 0:
        raise InputError(
            f"{path}: a single {type(array.item()).__name__}, expected an array with an entry for every video"
        )
    return list(array)


def _items(where: str, values: Any) -> list[Any]:
    """Of a list or an array; none where there is nothing."""
    if values is None:
        return []
    if not isinstance(values, list | tuple | np.ndarray) or np.ndim(values) == 0:
        raise InputError(f"{where}: expected a list, found {str(values)[:40]!r}")
    return list(values)


def _texts(where: object, values: Any) -> list[str]:
    """Names in a list or an array, a single one included."""
    if isinstance(values, np.ndarray):
        values = values.ravel().tolist()
    return [_text(where, value) for value in (values if isinstance(values, list | tuple) else [values])]


def _text(where: object, value: Any) -> str:
    """Python 2 and numpy leave bytes."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{where}: {value!r} is no text") from None
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: expected a name, found {str(value)[:60]!r}")
    try:
        value.encode("utf-8")
    except (UnicodeError, SystemError):  # a damaged file can hold numbers that are no characters
        raise InputError(f"{where}: holds text that is none") from None
    return str(value)


def _text_or_number(value: Any) -> Any:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _number(where: str, value: Any) -> float | None:
    """A number above 0; None where there is none."""
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    elif isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return parse_positive(where, value)
