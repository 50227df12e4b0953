"""A digest of a data set, so that a resumed run notices other data: small, kept in last.pt, with an entry for every video.

    digest = data_digest(data)                       # {"rows", "classes", "train": {"videos": [...], "labels": ...}, "test"}
    changes, notes = compare_digests(saved, digest)  # in words: what makes the run another, and what is only worth saying

Of the features of a large set, only some rows are looked at. A file's size and time tell of a change elsewhere in it.
"""

import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from command_line.progress import progress
from dataset import Dataset, Split, readers
from formats.annotations import VideoAnnotation
from formats.names import amount, shown
from run.training_state import plain_dict
from utils.prefetch import prefetch

Columns = Mapping[str, Sequence[Any]]  # of a split: "videos", their names, and a value per video in every other column

# In the order in which changes are named; the last two say little where those before them changed.
PARTS = ("labels", "segments", "durations", "frame rates", "lengths", "feature values", "feature files")
EMPTY: Columns = {name: [] for name in ("videos", *PARTS)}
SPLIT_WORDS = {"train": "training", "held_out": "held-out", "test": "test"}
OF_EVERY_SET = ("train", "test")  # videos are held out with --select val alone

# Features that are looked at, in bytes as float32: about a second's work. Of a larger set, every video has its share.
BYTES_LOOKED_AT = 2**29
FEWEST_ROWS = 4  # of each video, whatever their number


def data_digest(data: Dataset, *, rows: int | None = None) -> dict[str, Any]:
    """Plain values, for a checkpoint; `rows` of each video are looked at, None: as many as are soon read.

    Raises InputError when features that are streamed can't be read.
    """
    if rows is None:
        row_bytes = max((4 * video.features.shape[1] for video in data.videos), default=4)
        rows = max(FEWEST_ROWS, BYTES_LOOKED_AT // (row_bytes * max(1, len(data.videos))))
    splits = {"train": data.train, **({"held_out": data.held_out} if data.held_out else {}), "test": data.test}
    return {
        "rows": rows,
        "classes": list(data.classes),
        **{name: _columns(split, data.annotations, rows=rows) for name, split in splits.items()},
    }


def _columns(split: Split, annotations: Mapping[str, VideoAnnotation], *, rows: int) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"videos": list(split.names), **{part: [] for part in PARTS}}
    sampled = prefetch(lambda position: _sampled(split, position, rows), range(len(split)), threads=readers())
    shown = progress(sampled, desc="comparing features", unit="video", total=len(split), leave=False)
    for video, checksum in zip(split, shown, strict=True):
        entry = annotations[video.video_id]
        instances = sorted((i.label, float(i.start), float(i.end)) for i in entry.instances)
        columns["labels"].append(_hash(sorted(entry.labels)))
        columns["segments"].append(_hash(instances))
        columns["durations"].append(entry.duration)
        columns["frame rates"].append(float(video.fps))
        columns["lengths"].append([int(size) for size in video.features.shape])
        columns["feature values"].append(checksum)
        columns["feature files"].append(_hash([_stamp(file) for file in video.files]))
    return columns


def _sampled(split: Split, position: int, rows: int) -> int:
    """A checksum of rows that are spread over a video, the first and the last included, from where they are kept."""
    length = split.videos[position].num_snippets
    chosen = np.unique(np.linspace(0, length - 1, min(rows, length)).astype(np.int64))
    return zlib.crc32(split.store.look(position, chosen).data)


def _stamp(file: pathlib.Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


def _hash(value: object) -> int:
    return zlib.crc32(repr(value).encode("utf-8", "surrogatepass"))


def compare_digests(saved: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What changed, and what is only worth a note, in words. Raises ValueError when `saved` is not as `data_digest` made it."""
    plain_dict(saved, "the digest of the data", ("classes", *OF_EVERY_SET))
    if not isinstance(saved["classes"], list) or not all(isinstance(name, str) for name in saved["classes"]):
        raise ValueError("the classes in the digest of the data are not a list of names")
    changes, notes = list(_class_changes(saved, now)), list[str]()
    for name, word in SPLIT_WORDS.items():
        before, after = _checked(saved.get(name, EMPTY)), now.get(name, EMPTY)
        changes += _video_changes(before["videos"], after["videos"], word)
        old, new = _by_video(before), _by_video(after)
        common = [video for video in after["videos"] if video in old]
        changed = {part: [v for v in common if old[v][part] != new[v][part]] for part in PARTS}
        for part in PARTS[:-1]:
            # Of another length, a video has other rows.
            videos = [v for v in changed[part] if part != "feature values" or v not in changed["lengths"]]
            if videos:
                changes.append(f"{part} of {_counted(videos, word)} changed")
        rewritten = [v for v in changed["feature files"] if v not in changed["feature values"] + changed["lengths"]]
        if rewritten:
            notes.append(
                f"the feature files of {_counted(rewritten, word)} have other sizes or times; the values looked at are the same"
            )
    return changes, notes


def _class_changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for what, one, other in (("classes are gone", saved, now), ("classes are new", now, saved)):
        names = sorted(set(one["classes"]) - set(other["classes"]))
        if names:
            yield f"{what}: {shown(names)}"


def _video_changes(before: Sequence[str], after: Sequence[str], word: str) -> Iterator[str]:
    for state, one, other in (("gone", before, set(after)), ("new", after, set(before))):
        videos = [video for video in one if video not in other]
        if videos:
            yield f"{_counted(videos, word, verb=state)}"
    kept = set(before) & set(after)
    if [v for v in before if v in kept] != [v for v in after if v in kept]:
        yield f"the {word} videos stand in another order"


def _by_video(columns: Columns) -> dict[str, dict[str, Any]]:
    return {video: {part: columns[part][i] for part in PARTS} for i, video in enumerate(columns["videos"])}


def _checked(columns: Any) -> Columns:
    plain_dict(columns, "the digest of a split", ("videos", *PARTS))
    if any(not isinstance(columns[name], list) for name in ("videos", *PARTS)):
        raise ValueError("a column of the data's digest is not a list")
    if len({len(columns[name]) for name in ("videos", *PARTS)}) > 1:
        raise ValueError("the columns of the data's digest differ in length")
    if not all(isinstance(video, str) for video in columns["videos"]):
        raise ValueError("the data's digest names a video that is no text")
    checked: Columns = columns
    return checked


def _counted(videos: Sequence[str], word: str, *, verb: str = "") -> str:
    """ "3 test videos are gone: 'a', 'b', 'c'"; without a verb "3 test videos ('a', 'b', 'c')"."""
    count = amount(len(videos), f"{word} video")
    if not verb:
        return f"{count} ({shown(videos)})"
    return f"{count} {'are' if len(videos) > 1 else 'is'} {verb}: {shown(videos)}"
