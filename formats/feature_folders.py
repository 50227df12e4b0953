"""Folders of feature files, one file per video: VIDEO.npy with both streams in it, or rgb/VIDEO.npy and flow/VIDEO.npy.

    features_in(folder, report)                 # {video: its files}
    read_folder(folder, report)                 # the same, and where a missing file belongs
    groups = subset_folders(path)               # the folders train/, validation/, test/ ... in `path`
    read_subset_folders(path, groups, report)   # the features of both splits in them

Files may be .npy, .npz, .pt or .pth; folders of a subset may have any name that formats/names.py knows.
"""

import os
import pathlib
from collections.abc import Mapping

from formats.array_files import STREAMS, SUFFIXES
from formats.feature_files import Located
from formats.feature_set import Storage, StoredFeatures
from formats.names import SPLITS, group_of, splits_of
from formats.problems import Kind, Problem, Report


def features_in(folder: pathlib.Path, report: Report) -> dict[str, Located]:
    """{video: files} of a folder with {rgb,flow}/VIDEO.npy, or with VIDEO.npy."""
    streams = _stream_folders(folder)
    if not streams:
        return {video: {"joint": file} for video, file in _files(folder, report).items()}
    videos: dict[str, dict[str, pathlib.Path]] = {}
    for stream in streams:
        for video, file in _files(folder / stream, report).items():
            videos.setdefault(video, {})[stream] = file
    return dict(videos)


def read_folder(folder: pathlib.Path, report: Report) -> StoredFeatures:
    videos = features_in(folder, report)
    return _stored(videos, folder=folder, joint=not _stream_folders(folder))


def subset_folders(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """{group: its folders in `path`}; there may be both val/ and validation/."""
    groups: dict[str, list[pathlib.Path]] = {}
    for folder in sorted(path.iterdir()) if path.is_dir() else ():
        group = group_of(folder.name)
        if group and folder.is_dir():
            groups.setdefault(group, []).append(folder)
    return groups


def read_subset_folders(path: pathlib.Path, groups: dict[str, list[pathlib.Path]], report: Report) -> Storage:
    """Read the features of both splits; `groups` come from subset_folders(path)."""
    split_of = splits_of(groups.keys())
    folders: dict[str, list[pathlib.Path]] = {split: [] for split in SPLITS}
    for group in sorted(groups, key=lambda group: group == "test"):  # validation before test
        folders[split_of[group]] += groups[group]
    return Storage(by_split={split: _read_folders(folders[split], path / split, report) for split in SPLITS})


def _read_folders(folders: list[pathlib.Path], default: pathlib.Path, report: Report) -> StoredFeatures:
    """The features of one split. Without folders, `default` is where they belong."""
    videos: dict[str, Located] = {}
    for folder in reversed(folders):  # so that the first folder overrides the others
        videos |= features_in(folder, report)
    joint = bool(folders) and not any(_stream_folders(folder) for folder in folders)
    return _stored(videos, folder=folders[0] if folders else default, joint=joint)


def _stored(videos: Mapping[str, Located], *, folder: pathlib.Path, joint: bool) -> StoredFeatures:
    expected = (folder if joint else folder / "{stream}") / f"{{video}}{_suffix(videos)}"
    return StoredFeatures(videos=videos, expected=str(expected), joint=joint)


def _stream_folders(folder: pathlib.Path) -> list[str]:
    return [stream for stream in STREAMS if (folder / stream).is_dir()]


def _files(folder: pathlib.Path, report: Report) -> dict[str, pathlib.Path]:
    """{video: file} of a folder."""
    files: dict[str, pathlib.Path] = {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        video, suffix = os.path.splitext(name)
        if suffix not in SUFFIXES or name.startswith("."):
            continue
        if video in files:
            what = f"the folder also holds {files[video].name}"
            fix = "remove one of them"
            report(Problem(kind=Kind.TWO_FILES, where=str(folder / name), what=what, fix=fix, video=video))
            continue
        files[video] = folder / name
    return files


def _suffix(videos: Mapping[str, Located]) -> str:
    """The suffix of the first file, which a missing file is expected to have too."""
    for located in videos.values():
        for place in located.values():
            if isinstance(place, pathlib.Path):
                return place.suffix
    return SUFFIXES[0]
