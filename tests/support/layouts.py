"""The tiny set in every layout, file format and form of ground truth that is read.

content = content_of(tiny)
write_folders(content, path, base="features", save=FILES["npz rgb and flow"])     # thumos, joint
write_wtalc(content, path, python=2)
write_hdf5(content, path / "all.h5", groups=True)
write_json(path / "gt.json", official_json(content))
"""

import copy
import json
import pathlib
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import h5py
import numpy as np
import torch

from support.tiny import CLASSES, TinySet

STREAMS = ("rgb", "flow")
Streams = Mapping[str, np.ndarray]  # of one video: [L,D] each


@dataclass(frozen=True)
class Content:
    """A data set in memory."""

    videos: dict[str, Streams]
    database: dict[str, Any]  # as in gt.json

    def split(self, video: str) -> str:
        return self.database[video]["subset"]

    def renamed(self, rename: Callable[[str], str], *, database: bool = True, videos: bool = True) -> "Content":
        """The same content with other ids in the ground truth, for the files, or both."""
        return Content(
            {rename(v) if videos else v: streams for v, streams in self.videos.items()},
            {rename(v) if database else v: entry for v, entry in self.database.items()},
        )

    def with_subsets(self, subsets: Mapping[str, str]) -> "Content":
        """The same content with other names for train and test."""
        database = {v: {**entry, "subset": subsets[entry["subset"]]} for v, entry in self.database.items()}
        return replace(self, database=database)


def content_of(tiny: TinySet) -> Content:
    database = json.loads(tiny.gt.read_text())["database"]
    videos = {
        video: {stream: np.load(tiny.feature(entry["subset"], stream, video)) for stream in STREAMS}
        for video, entry in database.items()
    }
    return Content(videos, database)


def joint(streams: Streams) -> np.ndarray:
    return np.concatenate([streams[stream] for stream in STREAMS], axis=1)


# Files of one array or one video


def save_npy(path: pathlib.Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def save_npz(path: pathlib.Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **arrays)


def save_pt(path: pathlib.Path, content: Any, *, old: bool = False) -> None:
    """`old`: as PyTorch wrote before 1.6, not a zip file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=not old)


def tensors(streams: Streams, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    return {stream: torch.from_numpy(array).to(dtype) for stream, array in streams.items()}


def tensor(array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.from_numpy(array).to(dtype)


# How a video is saved in one file: from the path without a suffix and its streams.
FILES: dict[str, Callable[[str, Streams], None]] = {
    "npy": lambda stem, v: save_npy(pathlib.Path(f"{stem}.npy"), joint(v)),
    "npy float16": lambda stem, v: save_npy(pathlib.Path(f"{stem}.npy"), joint(v).astype(np.float16)),
    "npy float64": lambda stem, v: save_npy(pathlib.Path(f"{stem}.npy"), joint(v).astype(np.float64)),
    "npy Fortran order": lambda stem, v: save_npy(pathlib.Path(f"{stem}.npy"), np.asfortranarray(joint(v))),
    "npz rgb and flow": lambda stem, v: save_npz(pathlib.Path(f"{stem}.npz"), v),
    "npz rgb, flow and more": lambda stem, v: save_npz(pathlib.Path(f"{stem}.npz"), {"fps": np.float64(25), **v}),
    "npz compressed": lambda stem, v: save_npz(pathlib.Path(f"{stem}.npz"), v, compressed=True),
    "npz of one array": lambda stem, v: save_npz(pathlib.Path(f"{stem}.npz"), {"feats": joint(v)}),
    "npz float16": lambda stem, v: save_npz(
        pathlib.Path(f"{stem}.npz"), {s: a.astype(np.float16) for s, a in v.items()}
    ),
    "npz float64": lambda stem, v: save_npz(pathlib.Path(f"{stem}.npz"), {"x": joint(v).astype(np.float64)}),
    "pt tensor": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), tensor(joint(v))),
    "pt dict": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), tensors(v)),
    "pt dict of one": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), {"feats": tensor(joint(v))}),
    "pt float16": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), tensor(joint(v), torch.float16)),
    "pt bfloat16": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), tensor(joint(v), torch.bfloat16)),
    "pt dict bfloat16": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), tensors(v, torch.bfloat16)),
    "pt float64": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), tensor(joint(v), torch.float64)),
    "pt parameter": lambda stem, v: save_pt(
        pathlib.Path(f"{stem}.pt"), torch.nn.Parameter(tensor(joint(v), torch.float32))
    ),
    "pt view": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), tensor(np.repeat(joint(v), 2, axis=0))[::2]),
    "pt old format": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), tensor(joint(v)), old=True),
    "pt dict old format": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pt"), tensors(v), old=True),
    "pth": lambda stem, v: save_pt(pathlib.Path(f"{stem}.pth"), tensors(v)),
}

# How one stream is saved in the folder of its name.
STREAM_FILES: dict[str, Callable[[str, np.ndarray], None]] = {
    "npy": lambda stem, a: save_npy(pathlib.Path(f"{stem}.npy"), a),
    "npz": lambda stem, a: save_npz(pathlib.Path(f"{stem}.npz"), {"arr_0": a}),
    "pt": lambda stem, a: save_pt(pathlib.Path(f"{stem}.pt"), tensor(a)),
    "pt bfloat16 old format": lambda stem, a: save_pt(pathlib.Path(f"{stem}.pt"), tensor(a, torch.bfloat16), old=True),
}

# What is kept of a value: the rounding of the narrowest type that a name speaks of.
ROUNDING = {"float16": 1e-3, "bfloat16": 1e-2}


def rounding(name: str) -> float:
    return next((ROUNDING[word] for word in reversed(ROUNDING) if word in name), 0.0)


# Layouts


def write_folders(
    content: Content,
    path: pathlib.Path,
    *,
    base: str = "",
    folders: Mapping[str, str] | None = None,
    save: str = "npy",
    by_stream: bool = False,
    prefix: str = "",
) -> pathlib.Path:
    """The thumos layout with base "features", and else activitynet's; `folders` are the names for train and test."""
    for video, streams in content.videos.items():
        split = content.split(video) if video in content.database else "train"
        folder = path / base / (folders or {}).get(split, split)
        if by_stream:
            for stream, array in streams.items():
                STREAM_FILES[save](str(folder / stream / f"{prefix}{video}"), array)
        else:
            FILES[save](str(folder / f"{prefix}{video}"), streams)
    return path


def write_split_files(content: Content, path: pathlib.Path) -> None:
    for split in ("train", "test"):
        names = [video for video in content.database if content.split(video) == split]
        (path / f"split_{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def write_hdf5(content: Content, file: pathlib.Path, *, groups: bool, dtype: Any = None) -> pathlib.Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as out:
        for video, streams in content.videos.items():
            if groups:
                for stream, array in streams.items():
                    out.create_dataset(f"{video}/{stream}", data=array.astype(dtype or array.dtype))
            else:
                out.create_dataset(video, data=joint(streams).astype(dtype or joint(streams).dtype))
    return file.parent


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Protocol 2 as Python 2 writes it: its str is bytes, and numpy's modules have their old names."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=2)

    def _save_str(self, value: str | bytes) -> None:
        data = value.encode() if isinstance(value, str) else value
        short = len(data) < 256
        head = pickle.SHORT_BINSTRING + bytes([len(data)]) if short else pickle.BINSTRING + struct.pack("<i", len(data))
        self.write(head + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = _save_str

    def save_global(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or value.__name__}\n".encode())
        self.memoize(value)


for _kind in (type, type(save_npy), type(len)):
    Python2Pickler.dispatch[_kind] = Python2Pickler.save_global


def object_array(values: list[Any]) -> np.ndarray:
    """One object a value, whatever their shapes."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def save_objects(path: pathlib.Path, values: list[Any], *, python: int) -> None:
    """A pickled .npy file as either Python writes it."""
    array = object_array(values)
    if python == 3:
        np.save(path, array, allow_pickle=True)
        return
    with open(path, "wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": array.shape}
        np.lib.format.write_array_header_1_0(file, header)
        Python2Pickler(file).dump(array)


def wtalc_columns(content: Content, subsets: Mapping[str, str], fps: float = 25.0) -> dict[str, list[Any]]:
    notes = [entry["annotations"] for entry in content.database.values()]
    labels = [[note["label"] for note in of_video] for of_video in notes]
    return {
        "videoname": list(content.database),
        "subset": [subsets[entry["subset"]] for entry in content.database.values()],
        "labels": labels,
        "labels_all": [sorted(set(of_video)) for of_video in labels],
        "segments": [[[float(t) for t in note["segment"]] for note in of_video] for of_video in notes],
        "duration": [len(content.videos[video]["rgb"]) * 16 / fps for video in content.database],
        "classlist": list(CLASSES),
        "extracted_fps": [fps] * len(notes),
    }


def write_wtalc(
    content: Content,
    path: pathlib.Path,
    *,
    python: int = 2,
    name: str = "Tiny",
    subsets: Mapping[str, str] | None = None,
    fps: float = 25.0,
) -> pathlib.Path:
    """Write the set as W-TALC published its features, pickled by Python 2 or 3."""
    folder = path / f"{name}-Annotations"
    folder.mkdir(parents=True)
    columns = wtalc_columns(content, subsets or {"train": "validation", "test": "test"}, fps)
    for file, values in columns.items():
        if file in ("labels", "labels_all", "segments"):
            save_objects(folder / f"{file}.npy", values, python=python)
        else:
            texts = python == 2 and isinstance(values[0], str)
            np.save(folder / f"{file}.npy", np.array([value.encode() for value in values] if texts else values))
    features = [joint(content.videos[video]).astype(np.float32) for video in content.database]
    save_objects(path / f"{name}-I3D-JOINTFeatures.npy", features, python=python)
    return path


# Ground truth


def write_json(path: pathlib.Path, content: Any) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def own_json(content: Content) -> dict[str, Any]:
    return {"database": copy.deepcopy(content.database)}


def official_json(content: Content, *, hidden: int = 2) -> dict[str, Any]:
    """activity_net.v1-3.min.json: training, validation, and `hidden` videos of the secret test set."""

    def entry(video: str, subset: str, notes: list[Any]) -> dict[str, Any]:
        return {
            "duration": 123.45,
            "subset": subset,
            "resolution": "320x240",
            "url": f"https://www.youtube.com/watch?v={video}",
            "annotations": notes,
        }

    names = {"train": "training", "test": "validation"}
    database = {v: entry(v, names[e["subset"]], e["annotations"]) for v, e in content.database.items()}
    database |= {f"hidden_{i}": entry(f"hidden_{i}", "testing", []) for i in range(hidden)}
    nodes = [{"parentName": "Root", "nodeName": name, "nodeId": i + 1, "parentId": 0} for i, name in enumerate(CLASSES)]
    root = {"parentName": None, "nodeName": "Root", "nodeId": 0, "parentId": None}
    return {"taxonomy": [root, *nodes], "version": "VERSION 1.3", "database": database}


def actionformer_json(content: Content, *, kind: str, fps: float = 30.0) -> dict[str, Any]:
    """`kind` thumos: subsets Validation and Test, with frames; activitynet: training and validation."""
    subsets = {
        "thumos": {"train": "Validation", "test": "Test"},
        "activitynet": {"train": "training", "test": "validation"},
    }[kind]
    database = {}
    for video, entry in content.database.items():
        notes = []
        for note in entry["annotations"]:
            seconds = [float(t) for t in note["segment"]]
            new = {"label": note["label"], "segment": seconds, "label_id": CLASSES.index(note["label"])}
            if kind == "thumos":
                new["segment(frames)"] = [t * fps for t in seconds]
            notes.append(new)
        database[video] = {"subset": subsets[entry["subset"]], "duration": 99.5, "fps": fps, "annotations": notes}
    return {"version": "Thumos14-30fps" if kind == "thumos" else "ActivityNet-v1.3", "database": database}
