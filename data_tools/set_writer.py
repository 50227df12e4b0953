"""Writer of feature sets in the "thumos" layout, which no reader takes for complete too early.

write_set(path, videos, annotations, streams=("rgb", "flow"), origin="converted from SRC")

The first file written is `.unfinished`, which readers refuse; it is removed once gt.json, the last file, is in place. An
interrupted run continues where it stopped when started again; existing arrays are compared with their source.
"""

import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from formats.annotations import VideoAnnotation
from formats.feature_files import FeatureFiles
from formats.layouts import UNFINISHED
from formats.regular_files import check_regular
from utils.atomic import write_file, write_text
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
    _claim(path, origin, sum(files.nbytes for _, files in work))
    earlier, written = 0, set()
    for split, files in tqdm(work, desc=f"writing {path}", unit="video", disable=None):
        features = files.load()
        for s, stream in enumerate(streams):
            first = s * files.feature_size
            array = np.ascontiguousarray(features[:, first : first + files.feature_size])
            file = path / "features" / split / stream / f"{files.video_id}.npy"
            earlier += _write_array(file, array)
            written.add(file)
    for file in path.glob("features/*/*/*.npy"):
        if file not in written:  # left by an earlier run with other options
            file.unlink()
    for split, members in videos.items():
        write_text(path / f"split_{split}.txt", "".join(f"{files.video_id}\n" for files in members))
    database = {f.video_id: _entry(split, annotations[f.video_id]) for split, f in work}
    write_text(path / "gt.json", json.dumps({"database": database}, indent=1, ensure_ascii=False) + "\n")
    (path / UNFINISHED).unlink()
    return earlier


def _claim(path: pathlib.Path, origin: str, needed: int) -> None:
    """Claim the folder for this run: a new one, or one that an earlier attempt at the same set left."""
    marker = path / UNFINISHED
    try:
        if marker.exists():
            check_regular(marker)
        before = marker.read_text(encoding="utf-8") if marker.exists() else None
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
    for temporary in path.glob("features/*/*/.*.tmp"):  # of a run that was killed while it wrote
        temporary.unlink()
    write_text(marker, origin)


def _check_names(names: Sequence[str]) -> None:
    """Check that names can be those of files. Raises InputError for one that can't."""
    for name in names:
        control = any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)
        if pathlib.PurePath(name).name != name or name == ".." or control or len(name.encode()) > 240:
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


def _entry(split: str, annotation: VideoAnnotation) -> dict[str, Any]:
    instances = [{"label": i.label, "segment": [i.start, i.end]} for i in annotation.instances]
    entry: dict[str, Any] = {"subset": split, "annotations": instances}
    if annotation.labels > {i.label for i in annotation.instances}:
        entry["labels"] = sorted(annotation.labels)
    return entry | {key: v for key in ("duration", "fps") if (v := getattr(annotation, key)) is not None}
