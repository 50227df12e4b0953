"""Writer of feature sets in the "thumos" layout, which no reader takes for complete too early.

write_set(path, videos, annotations, streams=("rgb", "flow"), origin="converted from SRC")

The first file written is `.unfinished`, which readers refuse; it is removed once gt.json, the last file, is in place. An
interrupted run continues where it stopped when started again; existing arrays are compared with their source.
"""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from command_line.progress import progress
from formats.annotations import VideoAnnotation
from formats.feature_files import FeatureFiles
from formats.layouts import UNFINISHED
from formats.names import SPLITS, is_file_name
from formats.regular_files import check_regular
from utils.atomic import locked, remove_leftovers, write_file, write_text
from utils.errors import InputError
from utils.memory import format_bytes

SPARE_BYTES = 50_000_000  # disk space for everything except the features


def write_set(
    path: pathlib.Path,
    videos: Mapping[str, Sequence[FeatureFiles]],
    annotations: Mapping[str, VideoAnnotation],
    *,
    streams: tuple[str, ...],
    origin: str,
) -> int:
    """Write `videos`, {split: features of its videos}; return how many arrays an earlier run had written.

    Every array is read back and compared with its source. `annotations` has an entry for every video. Raises InputError when
    the folder holds something else, the disk is too small, or an array can't be read or written.
    """
    work = [(split, files) for split, members in videos.items() for files in members]
    _check_names([files.video_id for _, files in work])
    database = {f.video_id: annotation_entry(split, annotations[f.video_id]) for split, f in work}
    texts = {f"split_{s}.txt": "".join(f"{files.video_id}\n" for files in videos[s]) for s in SPLITS}
    texts["gt.json"] = (
        json.dumps({"database": database}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )  # the last one
    if _is_complete(path, texts, work, streams):
        return len(work) * len(streams)
    _check_target(path, origin, sum(files.nbytes for _, files in work))
    with _claimed(path, origin):
        earlier, written = 0, set()
        for file, array in _arrays(path, work, streams):
            earlier += _write_array(file, array)
            written.add(file)
        for file in path.glob("features/*/*/*.npy"):
            if file not in written:  # left by an earlier run with other options
                file.unlink()
        for name, text in texts.items():
            if text:
                write_text(path / name, text)
            else:  # a set for inference alone has no training videos
                (path / name).unlink(missing_ok=True)
        (path / UNFINISHED).unlink()
    return earlier


def _arrays(
    path: pathlib.Path, work: Sequence[tuple[str, FeatureFiles]], streams: tuple[str, ...]
) -> Iterator[tuple[pathlib.Path, NDArray[np.floating]]]:
    """Every file of the set and its array."""
    for split, files in progress(work, desc=f"writing {path}", unit="video"):
        features = files.load()
        for s, stream in enumerate(streams):
            first = s * files.feature_size
            array = np.ascontiguousarray(features[:, first : first + files.feature_size])
            yield path / "features" / split / stream / f"{files.video_id}.npy", array


def _is_complete(
    path: pathlib.Path,
    texts: Mapping[str, str],
    work: Sequence[tuple[str, FeatureFiles]],
    streams: tuple[str, ...],
) -> bool:
    """Whether this very set is there already, written by a run that may have been killed right after its last step."""
    if (path / UNFINISHED).exists():
        return False
    for name, text in texts.items():
        file = path / name
        if (file.read_bytes() if file.is_file() else b"") != text.encode():
            return False
    return all(file.is_file() and _holds(file, array) for file, array in _arrays(path, work, streams))


def _check_target(path: pathlib.Path, origin: str, needed: int) -> None:
    """Check that the folder is new, empty or what an earlier attempt at the same set left, and that its disk has room."""
    marker = path / UNFINISHED
    try:
        remove_leftovers(path, UNFINISHED)  # of a run that was killed while it claimed the folder
        if marker.exists():
            check_regular(marker)
        before = os.fsdecode(marker.read_bytes()) if marker.exists() else None
        if before is None and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(f"{path}: exists and is not an unfinished set; remove it or name another folder")
        if before not in (None, origin):
            raise InputError(f"{path}: an unfinished set {before}; remove it or name another folder")
        written = sum(file.stat().st_size for file in path.glob("features/*/*/*.npy"))
        free = shutil.disk_usage(next(p for p in (path, *path.absolute().parents) if p.exists())).free
    except OSError as error:
        raise InputError(f"{path}: can't be used ({error.strerror}); check the path") from None
    if needed + SPARE_BYTES > free + written:
        raise InputError(
            f"{path}: the set takes {format_bytes(needed)}, {format_bytes(free)} are free; name another disk"
        )


@contextlib.contextmanager
def _claimed(path: pathlib.Path, origin: str) -> Iterator[None]:
    """Mark the folder as unfinished, and keep others from writing to it during the block."""
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(locked(path.resolve()))
        except OSError as error:
            raise InputError(f"{path}: can't be used ({error.strerror}); check the path") from None
        if held is False:
            raise InputError(f"{path}: another run is writing it; wait for that, or name another folder")
        for folder in (path, *path.glob("features/*/*")):  # of a run that was killed while it wrote
            remove_leftovers(folder)
        write_file(path / UNFINISHED, lambda file: file.write(os.fsencode(origin)))
        yield


def _check_names(names: Sequence[str]) -> None:
    """Check that names can be those of files and lines of a split file. Raises InputError for one that can't."""
    for name in names:
        if not is_file_name(name):
            raise InputError(f"video {name!r}: its name can't be a file name; rename it in the ground truth")


def _write_array(path: pathlib.Path, array: NDArray[np.floating]) -> bool:
    """Write the array unless the file already holds it; return whether it did."""
    if path.exists() and _holds(path, array):
        return True
    write_file(path, lambda file: np.save(file, array))
    if not _holds(path, array):
        raise InputError(f"{path}: differs from what was written when read back; check the disk")
    return False


def _holds(path: pathlib.Path, array: NDArray[np.floating]) -> bool:
    check_regular(path)
    try:
        stored: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):  # written by another program, or damaged since
        return False
    return stored.dtype == array.dtype and np.array_equal(stored, array)


def annotation_entry(split: str, annotation: VideoAnnotation) -> dict[str, Any]:
    """A video as gt.json states it."""
    instances = [{"label": i.label, "segment": [i.start, i.end]} for i in annotation.instances]
    entry: dict[str, Any] = {"subset": split, "annotations": instances}
    if annotation.labels > {i.label for i in annotation.instances}:
        entry["labels"] = sorted(annotation.labels)
    return entry | {key: v for key in ("duration", "fps") if (v := getattr(annotation, key)) is not None}
