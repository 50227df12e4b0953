"""The ways in which feature sets lie on disk, told apart by looking at the folder.

layout = recognise(path, "auto")            # thumos, activitynet, wtalc or hdf5
storage = stored_features(path, layout)     # where each video's features are

    thumos        features/{train,test}/{rgb,flow}/VIDEO.npy, or joint features/{train,test}/VIDEO.npy; or without {train,test}
    activitynet   the same without features/: {train,validation|val|test}/VIDEO.npy, or {rgb,flow}/ inside
    wtalc         NAME-I3D-JOINTFeatures.npy with NAME-Annotations/ (formats/wtalc.py)
    hdf5          one .h5 or .hdf5 file: VIDEO -> [L,D], or VIDEO/{rgb,flow}

Files may be .npy, .npz, .pt or .pth; folders of a split may have any name that formats/subsets.py knows.
"""

import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

from formats.annotations import Report
from formats.array_files import STREAMS, SUFFIXES, arrays_in_hdf5
from formats.feature_files import Located
from formats.subsets import group_of, splits_of
from formats.wtalc import ANNOTATIONS, FEATURES
from utils.errors import InputError

LAYOUTS = ("thumos", "activitynet", "wtalc", "hdf5")
LOOKED_FOR = {
    "thumos": "features/train/ and features/test/",
    "activitynet": "train/ and validation/, val/ or test/",
    "wtalc": f"NAME{FEATURES} and NAME{ANNOTATIONS}/",
    "hdf5": "one .h5 or .hdf5 file",
}
SPLITS = ("train", "test")
UNFINISHED = ".unfinished"  # a file of this name lies in sets that are being written


@dataclass(frozen=True)
class Storage:
    """What features there are, whether anything names them or not. Splits that are not told apart share one mapping."""

    videos: Mapping[str, Mapping[str, Located]]  # split -> video -> arrays
    homes: Mapping[str, str]  # split -> where a missing file should be; "{stream}" and "{video}" stand for these
    joint: Mapping[str, bool]  # split -> whether streams lie side by side in one array

    def find(self, split: str, video: str) -> Located:
        """Empty when there is nothing. A leading "v_" may be there or not."""
        videos = self.videos[split]
        return next((videos[name] for name in (video, *other_names(video)) if name in videos), {})

    def missing(self, split: str, video: str, streams: tuple[str, ...]) -> list[str]:
        """Names of the files that should be there for these streams and are not."""
        located = self.find(split, video)
        if "joint" in located:
            return []
        wanted = ["joint"] if self.joint[split] and not located else [s for s in streams if s not in located]
        home = self.homes[split]
        if located and "{stream}" not in home:
            home += " stream '{stream}'"
        return [home.replace("{stream}", s).replace("{video}", video) for s in wanted]


def other_names(video: str) -> tuple[str, ...]:
    """ActivityNet's videos are called by their YouTube id, with or without "v_" before it; an id may itself begin so."""
    return (f"v_{video}", video.removeprefix("v_")) if video.startswith("v_") else (f"v_{video}",)


def recognise(path: pathlib.Path, layout: str) -> str:
    """The layout of a folder; `layout` is "auto", or the one that it must have. Raises InputError saying what was looked for
    and what was found."""
    if not path.is_dir():
        raise InputError(
            f"--data_path {path}: no such folder; give the folder that holds the features and their gt.json"
        )
    if (path / UNFINISHED).exists():
        raise InputError(
            f"{path}: is not whole, its conversion was interrupted; run the same command again to finish it"
        )
    there = [name for name, look in _LOOKS.items() if look(path)]
    if layout in there:
        return layout
    if layout != "auto":
        hint = f"; it looks like {' and '.join(there)}" if there else ""
        raise InputError(
            f"--layout {layout}: looked for {LOOKED_FOR[layout]} in {path}, found {_listing(path)}{hint}; "
            "check --data_path, or leave --layout away"
        )
    if len(there) > 1:
        raise InputError(f"{path}: looks like {' and '.join(there)}; say which with --layout")
    if not there:
        wanted = "; ".join(f"{name}: {what}" for name, what in LOOKED_FOR.items())
        raise InputError(f"{path}: no layout known here. Looked for {wanted}. Found {_listing(path)}; see the README")
    return there[0]


def stored_features(path: pathlib.Path, layout: str, report: Report) -> Storage:
    """For the layouts of folders and HDF5."""
    if layout == "hdf5":
        file = hdf5_files(path)[0]
        videos = arrays_in_hdf5(file)
        home = f"{file} entry '{{video}}'"
        return Storage(dict.fromkeys(SPLITS, videos), dict.fromkeys(SPLITS, home), dict.fromkeys(SPLITS, True))
    base = path / "features" if layout == "thumos" else path
    folders: dict[str, list[pathlib.Path]] = {split: [] for split in SPLITS}
    groups = _group_folders(base)
    if layout == "thumos" and not groups:  # no folder a split
        flat = features_in(base, report)
        joint_files = not stream_folders(base)
        expected = (base if joint_files else base / "{stream}") / f"{{video}}{_common_suffix(flat)}"
        return Storage(
            dict.fromkeys(SPLITS, flat), dict.fromkeys(SPLITS, str(expected)), dict.fromkeys(SPLITS, joint_files)
        )
    split_of = splits_of(groups.keys())
    for group in sorted(groups, key=lambda group: group == "test"):  # validation before test
        folders[split_of[group]] += groups[group]
    found: dict[str, dict[str, Located]] = {}
    homes, joint = {}, {}
    for split in SPLITS:
        found[split] = {}
        for folder in reversed(folders[split]):  # the first folder has the last word
            found[split] |= features_in(folder, report)
        place = folders[split][0] if folders[split] else base / split
        joint[split] = bool(folders[split]) and not any(stream_folders(folder) for folder in folders[split])
        suffix = _common_suffix(found[split])
        homes[split] = str((place if joint[split] else place / "{stream}") / f"{{video}}{suffix}")
    return Storage(found, homes, joint)


def features_in(folder: pathlib.Path, report: Report) -> dict[str, Located]:
    """{video: files} of a folder with {rgb,flow}/VIDEO.npy, or with VIDEO.npy."""
    streams = stream_folders(folder)
    if not streams:
        return {video: {"joint": file} for video, file in _files(folder, report).items()}
    found: dict[str, dict[str, pathlib.Path]] = {}
    for stream in streams:
        for video, file in _files(folder / stream, report).items():
            found.setdefault(video, {})[stream] = file
    return dict(found)


def stream_folders(folder: pathlib.Path) -> list[str]:
    return [stream for stream in STREAMS if (folder / stream).is_dir()]


def wtalc_names(path: pathlib.Path) -> list[str]:
    """Every NAME that the features or the annotations of such a set are there for."""
    features = {file.name.removesuffix(FEATURES) for file in path.glob(f"*{FEATURES}")}
    return sorted(features | {folder.name.removesuffix(ANNOTATIONS) for folder in path.glob(f"*{ANNOTATIONS}")})


def hdf5_files(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(file for file in path.iterdir() if file.suffix in (".h5", ".hdf5") and file.is_file())


def _group_folders(base: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    groups: dict[str, list[pathlib.Path]] = {}
    for folder in sorted(base.iterdir()) if base.is_dir() else ():
        group = group_of(folder.name)
        if group and folder.is_dir():
            groups.setdefault(group, []).append(folder)
    return groups


_LOOKS = {
    "thumos": lambda path: (path / "features").is_dir(),
    "activitynet": lambda path: bool(_group_folders(path)),
    "wtalc": lambda path: bool(wtalc_names(path)),
    "hdf5": lambda path: len(hdf5_files(path)) == 1,
}


def _files(folder: pathlib.Path, report: Report) -> dict[str, pathlib.Path]:
    """{video: file} of a folder."""
    found: dict[str, pathlib.Path] = {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        video, suffix = os.path.splitext(name)
        if suffix not in SUFFIXES or name.startswith("."):
            continue
        if video in found:
            report(InputError(f"{folder / name}: {found[video].name} is there too; remove one of them"))
            continue
        found[video] = folder / name
    return found


def _common_suffix(videos: Mapping[str, Located]) -> str:
    """Of the first file; how a missing one would be called."""
    for located in videos.values():
        for place in located.values():
            if isinstance(place, pathlib.Path):
                return place.suffix
    return SUFFIXES[0]


def _listing(path: pathlib.Path) -> str:
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return shown or "nothing"
