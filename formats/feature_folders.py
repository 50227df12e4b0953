"""Folders of feature files: VIDEO.npy with both streams in it, or a file of each stream.

    features_in(folder, report)                 # {video: its files}
    beside(file)                                # the same of the folder or folders that a file belongs to
    read_folder(folder, report)                 # the same, and where a missing file belongs
    groups = subset_folders(path)               # the folders train/, validation/, test/ ... in `path`
    read_subset_folders(path, groups, report)   # the features of both splits in them

Files may be .npy, .npz, .pt or .pth; folders of a subset may have any name that formats/names.py knows. A file's stream is
told by a folder (rgb/VIDEO.npy, RGB/VIDEO.npy) or by its name (VIDEO_rgb.npy, rgb-VIDEO.npy, rgb/VIDEO_rgb.npy, VIDEO/rgb.npy).
Where a folder holds no files itself, those of the folders in it are taken, one for each class say. Two files for a video and
stream are a problem: nothing is guessed.
"""

import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping

from formats.array_files import STREAMS, SUFFIXES, stream_of
from formats.feature_files import Located
from formats.feature_set import Storage, StoredFeatures
from formats.names import SPLITS, group_of, splits_of
from formats.problems import Kind, Problem, Report

DEEPEST = 3  # folders in folders that are looked into
SEPARATORS = "-_. "  # between a video's name and what else a file's name says

Files = dict[str, pathlib.Path]  # name without suffix -> file


def features_in(folder: pathlib.Path, report: Report) -> dict[str, Located]:
    """{video: files} of a folder with {rgb,flow}/VIDEO.npy, or with VIDEO.npy, or named in the other ways."""
    return dict(_read(folder, report))


def beside(file: pathlib.Path) -> dict[str, Located]:
    """{video: files} of what a file belongs to: its folder, or the folder that holds its stream's and the other's."""
    folder = file.parent
    for inner in (folder, folder.parent):
        streams = stream_folders(inner.parent)
        mine = any(inner in folders for folders in streams.values())
        if mine and (inner == folder or len(streams) == len(STREAMS)):
            folder = inner.parent
            break
    return dict(
        _read(folder, lambda _: None, depth=1)
    )  # more than one file of a video is a problem of those who name it


def read_folder(folder: pathlib.Path, report: Report) -> StoredFeatures:
    return _stored(features_in(folder, report), folders=[folder], root=folder.parent, default=folder)


def subset_folders(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """{group: its folders in `path`}, else those in folders of streams, rgb/train/. There may be both val/ and validation/."""
    groups: dict[str, list[pathlib.Path]] = {}
    in_streams = (
        inner for folders in stream_folders(path).values() for folder in folders for inner in _folders(folder)
    )
    for candidates in (_folders(path), in_streams):
        for folder in candidates if not groups else ():
            group = group_of(folder.name)
            if group:
                groups.setdefault(group, []).append(folder)
    return groups


def read_subset_folders(path: pathlib.Path, groups: dict[str, list[pathlib.Path]], report: Report) -> Storage:
    """Read the features of both splits; `groups` come from subset_folders(path)."""
    split_of = splits_of(groups.keys())
    folders: dict[str, list[pathlib.Path]] = {split: [] for split in SPLITS}
    for group in sorted(groups, key=lambda group: group == "test"):  # validation before test
        folders[split_of[group]] += groups[group]
    return Storage(by_split={split: _read_folders(folders[split], path, path / split, report) for split in SPLITS})


def features_folder(path: pathlib.Path) -> pathlib.Path:
    """The folder features/ of a set, in upper or lower case."""
    names = sorted(inner.name for inner in path.iterdir() if inner.name.lower() == "features")
    return path / (names[-1] if names else "features")


def what_is_there(features: StoredFeatures, video: str) -> str:
    """The name of something else that is stored, most like this video's; "" where there is nothing."""
    known = {str(place) for place in features.find(video).values()}
    if not features.folders:
        return next((f"'{name}'" for name in features.videos), "")
    other = ""
    for folder in features.folders:
        for place, inner, names in os.walk(folder):
            inner.sort(reverse=True)  # rgb before flow, train before test
            if len(pathlib.Path(place).relative_to(folder).parts) == DEEPEST:
                inner.clear()
            for file in (os.path.join(place, name) for name in sorted(names)):
                if video.lower() in os.path.basename(file).lower() and file not in known:
                    return file
                other = other or file
    return other


def _stream(folder: pathlib.Path, root: pathlib.Path) -> str | None:
    """The stream of a split's folder, where folders of streams come first in `root`."""
    return None if folder.parent == root else stream_of(folder.parent.name)[1]


def _read_folders(
    folders: list[pathlib.Path], root: pathlib.Path, default: pathlib.Path, report: Report
) -> StoredFeatures:
    """The features of one split. Without folders, `default` is where they belong."""
    videos: dict[str, Located] = {}
    by_stream: dict[str, list[Files]] = {}
    for folder in reversed(folders):  # so that the first folder overrides the others
        stream = _stream(folder, root)
        if stream:
            by_stream.setdefault(stream, []).append(_files(folder, report))
        else:
            videos |= features_in(folder, report)
    merged = {stream: {k: v for files in by_stream[stream] for k, v in files.items()} for stream in by_stream}
    return _stored(videos | _of_streams(merged), folders=folders, root=root, default=default)


def _stored(
    videos: Mapping[str, Located], *, folders: list[pathlib.Path], root: pathlib.Path, default: pathlib.Path
) -> StoredFeatures:
    divided = any(stream_folders(folder) for folder in folders) or any("joint" not in v for v in videos.values())
    joint = bool(folders) and not divided
    folder = folders[0] if folders else default
    if _stream(folder, root):
        folder = folder.parent.parent / "{stream}" / folder.name
    elif not joint:
        folder /= "{stream}"
    expected = folder / f"{{video}}{_suffix(videos)}"
    return StoredFeatures(
        videos=videos,
        expected=str(expected),
        joint=joint,
        places=_places(videos),
        lone=_lone(videos),
        folders=tuple(folders),
        note=_note(videos, [folder for folder in folders if not _stream(folder, root)]),
    )


def _note(videos: Mapping[str, Located], folders: Iterable[pathlib.Path]) -> str:
    """Where the features were found, if not at folder/VIDEO.npy or folder/STREAM/VIDEO.npy; else ""."""
    video, located = next(iter(videos.items()), ("", {}))
    usual = {parent for folder in folders for parent in (folder, *(folder / stream for stream in STREAMS))}
    files = [file for file in located.values() if isinstance(file, pathlib.Path)]
    if all(file.stem == video and file.parent in usual for file in files):
        return ""
    return f"features of '{video}' found in {' and '.join(map(str, files))}"


def _lone(videos: Mapping[str, Located]) -> dict[str, Located]:
    """{video: its only file} of files whose names tell a stream, VIDEO_rgb.npy, but may be the video's whole name."""
    lone: dict[str, Located] = {}
    for name, located in videos.items():
        video, stream = stream_of(name)
        if stream and video and "joint" in located and video not in lone:
            lone[video] = {stream: located["joint"]}
    return lone


def _places(videos: Mapping[str, Located]) -> dict[str, str]:
    """Where a missing file of each stream belongs, as those that are there tell, if all are in one folder."""
    names: dict[str, str] = {}
    folders: dict[str, set[str]] = {}
    for video, located in videos.items():
        for stream, file in located.items():
            folder, name = os.path.split(str(file))
            folders.setdefault(stream, set()).add(folder)
            names.setdefault(stream, name.replace(video, "{video}", 1))
    return {stream: os.path.join(*folders[stream], names[stream]) for stream in names if len(folders[stream]) == 1}


def _read(folder: pathlib.Path, report: Report, *, depth: int = 0) -> dict[str, Files]:
    """{video: {stream or "joint": file}}."""
    streams = stream_folders(folder)
    if streams:
        return _of_streams(
            {stream: _merged([_files(f, report) for f in streams[stream]], report) for stream in streams}
        )
    files = _own_files(folder, report)
    if depth and files and {name.lower() for name in files} <= set(STREAMS):
        return {folder.name: {name.lower(): file for name, file in files.items()}}
    if files or depth == DEEPEST:
        return _by_their_names(files, report)
    videos: dict[str, Files] = {}
    for inner in _folders(folder):
        for video, located in _read(inner, report, depth=depth + 1).items():
            if video in videos:
                _two_files(video, next(iter(videos[video].values())), next(iter(located.values())), report)
            else:
                videos[video] = located
    return videos


def _by_their_names(files: Files, report: Report) -> dict[str, Files]:
    """{video: its files}, where files of both streams may tell theirs by their names.

    Files beside those of a video, such as VIDEO_fps.npy, are left out where all others are pairs.
    """
    streams: dict[str, Files] = {}
    for name, file in files.items():
        video, stream = stream_of(name)
        if stream and video:
            first = streams.setdefault(video, {}).setdefault(stream, file)
            if first != file:
                _two_files(video, first, file, report)
    pairs = {v: {s: found[s] for s in STREAMS} for v, found in streams.items() if len(found) == len(STREAMS)}
    for video in pairs.keys() & files.keys():
        _two_files(video, files[video], pairs[video][STREAMS[0]], report)
    others = [name for name in files if stream_of(name)[0] not in pairs]
    if all(any(start in pairs for start in _starts(name)) for name in others):
        return pairs
    return pairs | {name: {"joint": files[name]} for name in others}


def _starts(name: str) -> Iterator[str]:
    """What a name begins with, up to each separator."""
    return (name[:i] for i, letter in enumerate(name) if letter in SEPARATORS)


def _of_streams(streams: Mapping[str, Files]) -> dict[str, Files]:
    """{video: its files} of files by stream, whose names may tell the stream again, rgb/VIDEO_rgb.npy."""
    known = {
        stream: {*files, *(stream_of(name)[0] for name in files if stream_of(name)[1] == stream)}
        for stream, files in streams.items()
    }
    videos: dict[str, Files] = {}
    for stream in (stream for stream in STREAMS if stream in streams):
        files = streams[stream]
        others = [names for other, names in known.items() if other != stream]
        every = all(stream_of(name)[1] == stream for name in files)
        for name, file in files.items():
            video, told = stream_of(name)
            again = told == stream and video and video not in files and not any(name in names for names in others)
            if not (again and (every or any(video in names for names in others))):
                video = name
            videos.setdefault(video, {})[stream] = file
    return videos


def stream_folders(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """{stream: folders of its name}, in upper or lower case; or both of a pair like i3d_rgb/ and i3d_flow/."""
    folders = _folders(folder)
    named = {stream: [inner for inner in folders if inner.name.lower() == stream] for stream in STREAMS}
    if not any(named.values()):
        told = {inner: stream_of(inner.name) for inner in folders if stream_of(inner.name)[1]}
        if len(told) == len(STREAMS) and len({rest for rest, _ in told.values()}) == 1:
            named = {stream: [inner for inner in told if told[inner][1] == stream] for stream in STREAMS}
    return {stream: inner for stream, inner in named.items() if inner}


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    return [folder / name for name in names]


def _files(folder: pathlib.Path, report: Report, *, depth: int = 0) -> Files:
    """The feature files of a folder, or if it has none, of the folders in it."""
    files = _own_files(folder, report)
    if files or depth == DEEPEST:
        return files
    return _merged([_files(inner, report, depth=depth + 1) for inner in _folders(folder)], report)


def _own_files(folder: pathlib.Path, report: Report) -> Files:
    """The feature files of a folder itself."""
    files: Files = {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.is_dir())
    for name in names:
        video, suffix = os.path.splitext(name)
        if suffix.lower() not in SUFFIXES or name.startswith("."):
            continue
        if video in files:
            what = f"the folder also holds {files[video].name}"
            fix = "remove one of them"
            report(Problem(kind=Kind.TWO_FILES, where=str(folder / name), what=what, fix=fix, video=video))
            continue
        files[video] = folder / name
    return files


def _merged(parts: Iterable[Files], report: Report) -> Files:
    files: Files = {}
    for part in parts:
        for name, file in part.items():
            if files.setdefault(name, file) != file:
                _two_files(name, files[name], file, report)
    return files


def _two_files(video: str, first: pathlib.Path, second: pathlib.Path, report: Report) -> None:
    what, fix = f"is a second file of video '{video}' beside {first}", "remove one of them"
    if first.parent != second.parent:
        fix += ", or, if they are its streams, name the folders rgb and flow"
    report(Problem(kind=Kind.TWO_FILES, where=str(second), what=what, fix=fix, video=video))


def _suffix(videos: Mapping[str, Located]) -> str:
    """The suffix of the first file, which a missing file is expected to have too."""
    for located in videos.values():
        for place in located.values():
            if isinstance(place, pathlib.Path):
                return place.suffix
    return SUFFIXES[0]
