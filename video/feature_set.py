"""A folder of extracted features: what lies where, what is complete, and what all of it was extracted with.

    folder = FeatureSet(pathlib.Path("DATA"), settings)     # Settings: what must be the same for all videos
    folder.claim()                                          # raises InputError where another extraction has been
    if not folder.has(source): folder.write(source, extracted, about)
    folder.videos()                                         # {name: ExtractedVideo}

    DATA/metadata.json                  settings, versions, and all videos once the set is complete
    DATA/features/SPLIT/rgb/NAME.npy    [T,1024], and flow/NAME.npy
    DATA/kinetics/NAME.npy              [T,400] the scores of the RGB network, logits
    DATA/unused/rgb/NAME.npy            those of videos that the table of labels does not name
    DATA/videos/NAME.json               of one video: its file, seconds, snippets; written last, so a video that has it is whole

Until it is complete the folder has the mark that readers of sets refuse.
"""

import json
import math
import os
import pathlib
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.set_writer import annotation_entry
from formats.annotations import VideoAnnotation
from formats.ground_truth import read_json
from formats.layouts import UNFINISHED
from formats.names import SPLITS
from formats.regular_files import check_regular
from run.provenance import git_commit
from utils.atomic import remove_leftovers, write_file, write_json, write_text
from utils.errors import InputError
from video.pipeline import Extracted
from video.sources import Source

METADATA, MANIFEST, RECORDS, LOGITS = "metadata.json", "manifest.csv", "videos", "kinetics"
UNUSED = "unused"  # in the place of a split
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all features of a set have in common; each field is the flag that sets it, but for those of weights."""

    fps: float
    short_side: int
    snippet_frames: int
    snippet_stride: int
    precision: str  # bf16, or float32 for those that differ in last digits
    dtype: str
    flow: str | None  # the method; None: no flow
    flow_bound: float | None
    rgb_weights: str  # SHA-256 of the file
    flow_weights: str | None

    @property
    def streams(self) -> tuple[str, ...]:
        return ("rgb", "flow") if self.flow else ("rgb",)


@dataclass(frozen=True, kw_only=True)
class ExtractedVideo:
    """A video of a set, complete."""

    name: str
    source: pathlib.Path  # its file
    features: Mapping[str, pathlib.Path]  # {stream: .npy of [T,1024]}
    logits: pathlib.Path  # .npy of [T,400], of the RGB network
    seconds: float
    fps: float  # that it was resampled to
    num_snippets: int
    notes: tuple[str, ...] = ()  # what was wrong with the file


def is_labelled(path: pathlib.Path) -> bool:
    """Whether a folder is a set whose ground truth states labels. Raises InputError when that is damaged."""
    file = path / "gt.json"
    content = read_json(file) if file.exists() else None
    database = content.get("database") if isinstance(content, dict) else None
    entries = database.values() if isinstance(database, dict) else ()
    return any(isinstance(entry, dict) and (entry.get("annotations") or entry.get("labels")) for entry in entries)


class FeatureSet:
    """The folder `path`, of features with `settings`."""

    def __init__(
        self, path: pathlib.Path, settings: Settings, about: Mapping[str, Any], *, flag: str = "--out"
    ) -> None:
        """`about` goes into metadata.json beside the settings: versions, the weights' sources and the like.

        `flag` is what names the folder on the command line.
        """
        self.path, self.settings, self.about, self.flag = path, settings, dict(about), flag

    def check(self) -> None:
        """Raise InputError where the folder is something else, or a set of other settings."""
        try:
            if (self.path / METADATA).exists():
                self._check(read_json(self.path / METADATA))
            elif self.path.exists() and not self.path.is_dir():
                raise InputError(f"{self.path}: not a folder; name another one with {self.flag}")
            elif self.path.exists() and any(self._is_foreign(entry.name) for entry in self.path.iterdir()):
                raise InputError(
                    f"{self.path}: exists and is not a set of extracted features; name a new folder with {self.flag}"
                )
        except OSError as error:
            raise InputError(f"{self.path}: can't be read ({error.strerror}); name another folder") from None

    def claim(self) -> None:
        """Make the folder, or check that it is one of these very settings. Of several who make it, the first one's count."""
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / METADATA).exists():
                self.mark_unfinished()
                write_new_json(self.path / METADATA, self._metadata({}))
        except OSError as error:
            raise InputError(f"{self.path}: can't be written ({error.strerror}); name another folder") from None
        self._check(read_json(self.path / METADATA))

    def _is_foreign(self, name: str) -> bool:
        """Whether an entry of the folder is of no extraction; another share may be making the folder at this moment."""
        return name[0] != "." and name not in (METADATA, MANIFEST, RECORDS, LOGITS, "features")

    def mark_unfinished(self) -> None:
        """No reader takes the set for complete from now on."""
        if not (self.path / UNFINISHED).exists():
            write_text(self.path / UNFINISHED, "features are extracted into it")

    def _check(self, metadata: Any) -> None:
        found = metadata.get("settings") if isinstance(metadata, dict) else None
        if not isinstance(found, dict) or metadata.get("format") != FORMAT:
            raise InputError(f"{self.path / METADATA}: not written by this version; name a new folder with {self.flag}")
        for name, value in asdict(self.settings).items():
            if found.get(name) != value:
                is_weights = name.endswith("_weights")
                here, there = (_shown(v, is_weights) for v in (value, found.get(name)))
                raise InputError(
                    f"{self.path}: its features were extracted with --{name} {there}, this call has {here}; sets are "
                    f"not mixed: give the same, or another {self.flag}"
                )

    def has(self, source: Source) -> bool:
        """Whether the features of this very file are complete."""
        record = self._record(source.name)
        if record is None or (record.get("bytes"), record.get("modified")) != (source.size, source.modified):
            return False
        video = self._video(source.name, record)
        return video is not None and all(
            _shape(file)[:1] == (video.num_snippets,) for file in (*video.features.values(), video.logits)
        )

    def write(self, source: Source, extracted: Extracted, about: Mapping[str, Any]) -> None:
        """Write the features of a video, then its record with `about` it; whole or not at all. Raises InputError."""
        dtype = np.dtype(self.settings.dtype)
        split = self._split_of(source.name) or SPLITS[-1]
        for stream in self.settings.streams:
            _save(self._features(split, stream, source.name), extracted.features[stream].astype(dtype))
        _save(self.path / LOGITS / f"{source.name}.npy", extracted.logits.astype(np.float16))
        record = {
            "path": os.path.abspath(source.path),
            "bytes": source.size,
            "modified": source.modified,
            "seconds": extracted.seconds,
            "frames": round(extracted.seconds * self.settings.fps),
            "fps": self.settings.fps,
            "snippets": extracted.num_snippets,
            "notes": list(extracted.notes),
            **about,
        }
        write_json(self.path / RECORDS / f"{source.name}.json", record, indent=1)

    def videos(self) -> dict[str, ExtractedVideo]:
        """Every complete video, by name."""
        found = {}
        for file in sorted((self.path / RECORDS).glob("*.json")):
            record = self._record(file.stem)
            video = self._video(file.stem, record) if record else None
            if video:
                found[video.name] = video
        return found

    def finish(self, names: Mapping[str, tuple[str, ...]], annotations: Mapping[str, VideoAnnotation]) -> None:
        """Make it a set that can be read: the videos of each split in its folder, their labels and lengths in gt.json.

        Videos that `names` does not have keep their features, in unused/.
        """
        self.mark_unfinished()
        database: dict[str, Any] = {}
        records = {}
        for split in SPLITS:
            for name in names[split]:
                record = self._record(name)
                assert record is not None
                self._move(name, split)
                records[name] = record
                database[name] = _entry(split, annotations.get(name), record)
        for name in self.videos().keys() - records.keys():
            self._move(name, UNUSED)
        for split in SPLITS:
            text, file = "".join(f"{name}\n" for name in names[split]), self.path / f"split_{split}.txt"
            if text:
                write_text(file, text)
            else:
                file.unlink(missing_ok=True)
        truth = json.dumps({"database": database}, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(self.path / "gt.json", truth + "\n")
        write_json(self.path / METADATA, self._metadata(records), indent=1)
        for folder in (self.path, *self.path.glob("features/*/*"), self.path / LOGITS, self.path / RECORDS):
            remove_leftovers(folder)
        (self.path / UNFINISHED).unlink(missing_ok=True)

    def _metadata(self, records: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "settings": asdict(self.settings),
            **self.about,
            "git_commit": git_commit(),
            "videos": dict(records),
        }

    def _record(self, name: str) -> dict[str, Any] | None:
        """What is known of a video; None if it has not been extracted."""
        file = self.path / RECORDS / f"{name}.json"
        if not file.exists():
            return None
        try:
            record = read_json(file)
        except InputError:
            return None
        return record if isinstance(record, dict) else None

    def _video(self, name: str, record: Mapping[str, Any]) -> ExtractedVideo | None:
        split = self._split_of(name)
        if split is None:
            return None
        try:
            return ExtractedVideo(
                name=name,
                source=pathlib.Path(record["path"]),
                features={stream: self._features(split, stream, name) for stream in self.settings.streams},
                logits=self.path / LOGITS / f"{name}.npy",
                seconds=_positive(record["seconds"]),
                fps=_positive(record["fps"]),
                num_snippets=int(_positive(record["snippets"])),
                notes=tuple(map(str, record["notes"])),
            )
        except (KeyError, TypeError, ValueError):  # damaged: it is extracted again
            return None

    def _features(self, split: str, stream: str, name: str) -> pathlib.Path:
        folder = self.path / UNUSED if split == UNUSED else self.path / "features" / split
        return folder / stream / f"{name}.npy"

    def _split_of(self, name: str) -> str | None:
        """Where all streams of a video lie: a split, or UNUSED."""
        for split in (*SPLITS, UNUSED):
            if all(self._features(split, stream, name).exists() for stream in self.settings.streams):
                return split
        return None

    def _move(self, name: str, split: str) -> None:
        before = self._split_of(name)
        if before and before != split:
            for stream in self.settings.streams:
                target = self._features(split, stream, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                self._features(before, stream, name).replace(target)


def write_new_json(path: pathlib.Path, content: Any) -> None:
    """Write a JSON file unless there is one: of several processes at once, the first one's stays. Raises InputError."""
    mine = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    write_json(mine, content, indent=1)
    try:
        os.link(mine, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not path.exists():
            os.replace(mine, path)
    finally:
        mine.unlink(missing_ok=True)


def _save(path: pathlib.Path, array: NDArray[Any]) -> None:
    write_file(path, lambda file: np.save(file, array))


def _shape(path: pathlib.Path) -> tuple[int, ...]:
    """The shape of the array in a file; () if there is none."""
    try:
        check_regular(path)
        return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
    except (OSError, ValueError, InputError):
        return ()


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(number)
    return number


def _shown(value: object, is_weights: bool) -> str:
    if value is None:
        return "none"
    return f"a file of SHA-256 {str(value)[:12]}.." if is_weights else str(value)


def _entry(split: str, annotation: VideoAnnotation | None, record: Mapping[str, Any]) -> dict[str, Any]:
    """A video in gt.json."""
    stated = replace(annotation or VideoAnnotation(subset=split), duration=record["seconds"], fps=record["fps"])
    return annotation_entry(split, stated)
