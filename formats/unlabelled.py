"""Features without labels: the videos in any files and folders a user names, to predict on.

    found = find_videos([pathlib.Path("new/")], options.data)       # {video: its files}, and what a ground truth there states
    features_in_any_form(path, report)                              # {video: its files} of a folder that has no layout

A file is one video, or one stream of it: VIDEO_rgb.npy, or VIDEO.npy in a folder rgb/, or any other form that sets have
(formats/feature_folders.py). The other stream is looked for where it belongs, beside the first. Labels are ignored; frame rates
and durations in a ground truth are used.
"""

import os
import pathlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from formats.annotations import VideoAnnotation, parse_positive
from formats.array_files import STREAMS, SUFFIXES, StoredArray, stream_of
from formats.feature_files import Located
from formats.feature_folders import DEEPEST, beside, features_in
from formats.feature_set import Storage, StoredFeatures, StoredSet
from formats.ground_truth import ground_truth_file, read_json
from formats.hdf5 import SUFFIXES as HDF5_SUFFIXES
from formats.hdf5 import arrays_in_hdf5, hdf5_files
from formats.layouts import AUTO, LAYOUTS, UNFINISHED, listing, recognise
from formats.names import SPLITS, known_name
from formats.problems import DataError, Kind, Problem, Report, raise_problem
from options import DataOptions
from utils.errors import InputError

Videos = dict[str, Located]
Neighbours = dict[
    pathlib.Path, tuple[dict[Any, str], dict[str, Located]]
]  # folder -> {file: its video} and {video: files}


@dataclass(frozen=True, kw_only=True)
class FoundVideos:
    videos: Mapping[str, Located]  # in the order found
    annotations: Mapping[str, VideoAnnotation]  # of some of them; only frame rates and durations count
    notes: tuple[str, ...] = ()  # what in the folders was not read

    def stated(self, video: str) -> VideoAnnotation:
        """What a ground truth states of a video; nothing if none does."""
        name = known_name(video, self.annotations)
        return VideoAnnotation(subset="") if name is None else self.annotations[name]


class FolderLayout:
    """A folder of feature files that no layout of a set describes: in any form of formats/feature_folders.py, or HDF5 files.

    It can't be a set to train on: nothing in it says what its videos show.
    """

    name = "folder"
    looked_for = f"feature files ({', '.join((*SUFFIXES, *HDF5_SUFFIXES))}), or rgb/ and flow/ with such files"

    def fits(self, path: pathlib.Path) -> bool:
        return bool(hdf5_files(path) or features_in(path, lambda _: None))

    def read(self, path: pathlib.Path, *, allow_pickle: bool, report: Report) -> StoredSet:
        videos, expected = features_in_any_form(path, report), str(path / "{video}.npy")
        return StoredSet(storage=Storage.undivided(StoredFeatures(videos=videos, expected=expected, joint=True)))


def features_in_any_form(path: pathlib.Path, report: Report) -> Videos:
    """{video: its files} of a folder of feature files, HDF5 files among them; `report` gets videos that have two."""
    videos: Videos = {}
    for part in _parts_of_folder(path, report):
        _add(videos, part, report)
    return videos


def find_videos(paths: Sequence[pathlib.Path], options: DataOptions, *, report: Report = raise_problem) -> FoundVideos:
    """Find the videos in files, folders and data sets; arrays are not read yet.

    `report` gets the problems of single videos. Raises InputError naming a path in which there are none.
    """
    videos: Videos = {}
    annotations: dict[str, VideoAnnotation] = {}
    neighbours: Neighbours = {}
    plain: list[pathlib.Path] = []
    ground_truths = [pathlib.Path(options.ground_truth)] if options.ground_truth else []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        if path.is_dir():
            layout, stored = read_folder(path, options, report)
            stored_in = (
                p for split in SPLITS for v in stored.storage.by_split[split].videos.values() for p in v.values()
            )
            if layout == FolderLayout.name or all(isinstance(place, pathlib.Path) for place in stored_in):
                plain.append(path)
            for split in SPLITS if stored.storage.divided else SPLITS[:1]:
                _add(videos, stored.storage.by_split[split].videos, report)
            annotations |= stored.annotations or {}
            if not options.ground_truth:
                ground_truths += _ground_truth_in(path)
        elif path.is_file():
            _add(videos, _videos_of_file(path, neighbours), report)
        else:
            raise InputError(f"{path}: neither a file nor a folder; check the path")
    if not videos:
        raise InputError(f"{', '.join(map(str, paths))}: no features of any video; check the path")
    for file in ground_truths:
        annotations |= _stated_in(file, videos, required=bool(options.ground_truth), report=report)
    notes = tuple(note for path in plain for note in _not_read(path, videos))
    return FoundVideos(videos=videos, annotations=annotations, notes=notes)


def _not_read(path: pathlib.Path, videos: Videos) -> Iterator[str]:
    """A note on the feature files in a folder, and in the folders in it, that belong to no video found."""
    places = (getattr(place, "path", place) for located in videos.values() for place in located.values())
    used = {os.path.realpath(str(place)) for place in places}
    left = []
    for folder, inner, names in os.walk(path):
        deep = len(pathlib.Path(folder).relative_to(path).parts) == DEEPEST
        inner[:] = [] if deep else sorted(name for name in inner if not name.startswith("."))
        files = (os.path.join(folder, name) for name in sorted(names) if not name.startswith("."))
        kind = (*SUFFIXES, *HDF5_SUFFIXES)
        left += [file for file in files if file.lower().endswith(kind) and os.path.realpath(file) not in used]
    if left:
        shown = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
        yield f"{path}: not read: {shown}; to predict on these too, name them or their folders"


def read_folder(path: pathlib.Path, options: DataOptions, report: Report) -> tuple[str, StoredSet]:
    """Read a folder in the layout it has, or else as a folder of feature files; returns the layout's name too."""
    plain, known = FolderLayout(), not path.is_dir() or (path / UNFINISHED).exists()
    if options.layout != AUTO or known or any(layout.fits(path) for layout in LAYOUTS):
        layout = recognise(path, options.layout)
        return layout.name, layout.read(path, allow_pickle=options.allow_pickle, report=report)
    if not plain.fits(path):
        raise InputError(f"{path}: no features; looked for {plain.looked_for}, or a data set; found {listing(path)}")
    return plain.name, plain.read(path, allow_pickle=options.allow_pickle, report=report)


def all_features(storage: Storage) -> StoredFeatures:
    """The features of both splits in one place; of a name in both, those of the test split."""
    if not storage.divided:
        return storage.by_split["test"]
    both = {**storage.by_split["train"].videos, **storage.by_split["test"].videos}
    return replace(storage.by_split["test"], videos=both)


def _ground_truth_in(path: pathlib.Path) -> list[pathlib.Path]:
    """The ground truth in a folder, if there is one."""
    try:
        file = ground_truth_file(path)
    except InputError:  # several JSON files: nothing needs them
        return []
    return [file] if file.exists() else []


def _stated_in(
    file: pathlib.Path, videos: Container[str], *, required: bool, report: Report
) -> dict[str, VideoAnnotation]:
    """Frame rates and durations of these videos in a ground truth, whose entries need hold nothing else.

    A file that is not one is an error if it is `required` or called gt.json; otherwise it has another purpose.
    """
    try:
        content = read_json(file)
        database = content.get("database") if isinstance(content, dict) else None
        if not isinstance(database, dict):
            raise InputError(f'{file}: expected {{"database": {{video: {{"fps", "duration"}}}}}}; fix the file')
    except InputError:
        if required or file.name == "gt.json":
            raise
        return {}
    stated = {}
    for video, entry in database.items():
        if not isinstance(entry, dict) or known_name(video, videos) is None:
            continue
        where = f"{file}: video '{video}'"
        try:
            duration, fps = (parse_positive(entry.get(key), where=where, name=key) for key in ("duration", "fps"))
            stated[video] = VideoAnnotation(subset="", duration=duration, fps=fps)
        except DataError as error:
            report(error.problem.of(video))
    return stated


def _parts_of_folder(path: pathlib.Path, report: Report) -> Iterator[Mapping[str, Located]]:
    neighbours: Neighbours = {}
    for video, located in features_in(path, report).items():
        joint = located.get("joint")
        yield _videos_of_file(joint, neighbours) if isinstance(joint, pathlib.Path) else {video: located}
    for file in hdf5_files(path):
        yield _videos_of_file(file, neighbours)


def _videos_of_file(path: pathlib.Path, neighbours: Neighbours) -> Mapping[str, Located]:
    """The videos in a file, with their other stream beside it. Raises InputError for a file of an unknown kind."""
    if path.suffix.lower() in HDF5_SUFFIXES:
        return _videos_of_hdf5(path)
    if path.suffix.lower() not in SUFFIXES:
        expected = ", ".join((*SUFFIXES, *HDF5_SUFFIXES))
        raise InputError(f"{path}: not a feature file; expected {expected}, or a folder")
    file = path.absolute()
    if not any(stream_of(name)[1] for name in (file.stem, file.parent.name, file.parent.parent.name)):
        return {path.stem: {"joint": path}}
    if file.parent not in neighbours:
        found = beside(file)
        neighbours[file.parent] = (
            {place: video for video, located in found.items() for place in located.values()},
            found,
        )
    video_of, found = neighbours[file.parent]
    if file in video_of and "joint" not in found[video_of[file]]:
        return {video_of[file]: found[video_of[file]]}
    video, stream = stream_of(path.stem)
    return {video: {stream: path}} if stream and video else {path.stem: {"joint": path}}


def _videos_of_hdf5(path: pathlib.Path) -> Mapping[str, Located]:
    """The videos in an HDF5 file, and their other streams in rgb.h5 or flow.h5 beside it."""
    name, stream = stream_of(path.stem)
    if stream is None:
        name, stream = stream_of(path.absolute().parent.name)
        return {
            video: _of_stream(arrays, stream if not name else None) for video, arrays in arrays_in_hdf5(path).items()
        }
    videos: dict[str, dict[str, pathlib.Path | StoredArray]] = {}
    told = {file: stream_of(file.stem) for file in hdf5_files(path.parent)}
    partners = {other: file for file, (rest, other) in told.items() if other and rest == name}
    for other, file in {**partners, stream: path}.items():
        for video, arrays in arrays_in_hdf5(file).items():
            videos.setdefault(video, {}).update(_of_stream(arrays, other))
    return {video: {s: located[s] for s in (*STREAMS, "joint") if s in located} for video, located in videos.items()}


def _of_stream(arrays: Mapping[str, StoredArray], stream: str | None) -> Located:
    return {stream: arrays["joint"]} if stream and set(arrays) == {"joint"} else arrays


def _add(videos: Videos, more: Mapping[str, Located], report: Report) -> None:
    """Add videos or further streams of them; `report` gets those that have two files."""
    for video, located in more.items():
        known = dict(videos.get(video, {}))
        clash = [(known[s], place) for s, place in located.items() if s in known and not _same(known[s], place)]
        if not clash and known and ("joint" in known) != ("joint" in located):
            clash = [(next(iter(known.values())), next(iter(located.values())))]
        if clash:
            first, second = clash[0]
            report(
                Problem(
                    kind=Kind.TWO_FILES,
                    where=f"{first} and {second}",
                    what=f"both belong to video '{video}'",
                    fix="give one of them, or rename one",
                    video=video,
                )
            )
            del videos[video]  # nothing says which of them is meant
            continue
        videos[video] = {**known, **located}


def _same(first: pathlib.Path | StoredArray, second: pathlib.Path | StoredArray) -> bool:
    if isinstance(first, pathlib.Path) and isinstance(second, pathlib.Path):
        return first.resolve() == second.resolve()
    return first == second
