"""The videos of each split, and the test videos that are left out: the same rules for every layout.

splits = read_splits(path, annotations=annotations, ground_truth="gt.json", report=report)

The files split_train.txt and split_test.txt, with one video name per line, say which split a video is in; without them the
subsets of the ground truth do. A split_val.txt takes the place of the one that is missing. Left out are

- annotated videos that no split file lists;
- the videos that common practice leaves out of THUMOS'14, unless a split file lists them;
- if some test videos have segments, every test video with labels but without segments, even one that split_test.txt lists:
  nothing says where its actions are, so that every detection in it would count as wrong. Test videos without labels stay: every
  detection in them is wrong.
"""

import pathlib
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from formats.annotations import VideoAnnotation
from formats.left_out import Cause, Reason
from formats.name_lists import read_names
from formats.names import GROUPS, SPLITS, group_of, known_name, splits_of, unlabelled_group
from formats.problems import Kind, Problem, Report
from formats.thumos14_quirks import LEFT_OUT
from utils.errors import InputError

Annotations = Mapping[str, VideoAnnotation]


@dataclass(frozen=True, kw_only=True)
class Splits:
    names: dict[str, tuple[str, ...]]  # split -> its videos
    sources: dict[str, str]  # split -> the file that lists its videos, for messages
    dropped: dict[str, Reason]  # annotated video in no split -> why


def split_files(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """{group: its split file} of those that are in a set's folder. Raises InputError when a group has two."""
    files: dict[str, pathlib.Path] = {}
    for group, names in GROUPS.items():
        found = [file for name in names if (file := path / f"split_{name}.txt").exists()]
        if len(found) > 1:
            raise InputError(f"{found[0]} and {found[1].name}: both list {group} videos; remove one")
        files |= dict.fromkeys([group], found[0]) if found else {}
    return files


def splits_of_files(groups: Set[str]) -> dict[str, str]:
    """{group: split} of the groups that have split files; those of train and test leave a third unused."""
    if groups >= {"train", "test"}:
        return {"train": "train", "test": "test"}
    return splits_of(groups)


def read_splits(
    path: pathlib.Path,
    *,
    annotations: Annotations,
    ground_truth: str,
    report: Report,
    needed: Sequence[str] = SPLITS,
) -> Splits:
    """Read the splits of the set in folder `path`; those that are not `needed` may be empty.

    Raises InputError if one that is needed has no videos; `report` gets names listed twice.
    """
    files = split_files(path)
    if files:
        splits = _from_files(path, files, annotations, report, needed=needed)
    else:
        splits = _from_subsets(annotations, ground_truth, needed=needed)
    unmarked = unmarked_videos(annotations, splits.names["test"])
    return Splits(
        names={**splits.names, "test": tuple(video for video in splits.names["test"] if video not in unmarked)},
        sources=splits.sources,
        dropped={**splits.dropped, **dict.fromkeys(unmarked, Reason(cause=Cause.WITHOUT_SEGMENTS))},
    )


def unmarked_videos(annotations: Annotations, test: Iterable[str]) -> set[str]:
    """The test videos with labels but without segments, which can't be evaluated, if others can."""
    tested = {video: annotations[video] for video in test if video in annotations}
    if not any(entry.instances for entry in tested.values()):
        return set()
    return {video for video, entry in tested.items() if entry.labels and not entry.instances}


def left_out_by_practice(annotations: Annotations, *, listed: Container[str] = ()) -> dict[str, Reason]:
    """The videos that common practice leaves out of THUMOS'14, unless a split file lists them."""
    reason = Reason(cause=Cause.COMMON_PRACTICE)
    return {video: reason for video in LEFT_OUT if video in annotations and video not in listed}


def _from_files(
    path: pathlib.Path,
    files: Mapping[str, pathlib.Path],
    annotations: Annotations,
    report: Report,
    *,
    needed: Sequence[str],
) -> Splits:
    split_of = splits_of_files(files.keys())
    file_of = {split: files[group] for group, split in split_of.items()}
    file_of |= {split: path / f"split_{split}.txt" for split in SPLITS if split not in file_of}
    read = {split: file for split, file in file_of.items() if file.exists() or split in needed}
    names = {split: read_split_file(file, annotations, report) for split, file in read.items()}
    names |= {split: () for split in SPLITS if split not in names}
    listed = {video for videos in names.values() for video in videos}
    dropped = left_out_by_practice(annotations, listed=listed)
    for group in files.keys() - split_of.keys():
        reason = Reason(cause=Cause.UNUSED_SPLIT, detail=files[group].name)
        dropped |= dict.fromkeys(set(read_split_file(files[group], annotations, report)) - listed, reason)
    reason = Reason(cause=Cause.IN_NO_SPLIT)
    unlisted = [v for v, entry in annotations.items() if entry.labels and v not in listed and v not in dropped]
    return Splits(
        names=names,
        sources={split: str(file) for split, file in file_of.items()},
        dropped={**dropped, **dict.fromkeys(unlisted, reason)},
    )


def read_split_file(path: pathlib.Path, annotations: Annotations, report: Report) -> tuple[str, ...]:
    """The names in a split file, as the ground truth spells them."""
    listed = read_names(path, where=str(path), of="video")
    names = [known_name(name, annotations) or name for name in listed]
    if not names:
        raise InputError(f"{path}: names no video; expected one video name per line")
    for name, count in Counter(names).items():
        if count > 1:
            what = f"video '{name}' is listed twice"
            report(Problem(kind=Kind.LISTED_TWICE, where=str(path), what=what, fix="remove one", video=name))
    return tuple(dict.fromkeys(names))


def _from_subsets(annotations: Annotations, ground_truth: str, *, needed: Sequence[str]) -> Splits:
    dropped = left_out_by_practice(annotations)
    members: dict[str, list[str]] = {}
    for video, entry in annotations.items():
        group = group_of(entry.subset)
        if video in dropped:
            continue
        if group is None:
            dropped[video] = Reason(cause=Cause.UNKNOWN_SUBSET, detail=entry.subset)
        else:
            members.setdefault(group, []).append(video)
    labelled = {group for group, videos in members.items() if any(annotations[video].labels for video in videos)}
    advice = " in a split_train.txt and split_test.txt beside the features, one video name per line"
    unlabelled = unlabelled_group(members, labelled, where=ground_truth, advice=advice)
    if unlabelled:
        reason = Reason(cause=Cause.UNLABELLED_SUBSET, detail=unlabelled)
        dropped |= dict.fromkeys(members.pop(unlabelled), reason)
    split_of = splits_of(members.keys())
    if "train" not in needed and members.keys() == {"validation"}:
        split_of = {"validation": "test"}  # nothing is trained, so they can only be for testing
    names: dict[str, tuple[str, ...]] = dict.fromkeys(SPLITS, ())
    for group, videos in members.items():
        names[split_of[group]] += tuple(videos)
    for split in needed:
        if not names[split]:
            known = ", ".join(sorted({f"'{entry.subset}'" for entry in annotations.values()}))
            raise InputError(
                f"{ground_truth}: no {split} videos: its subsets are {known}, and there is no split_{split}.txt; "
                "add one or the other"
            )
    return Splits(names=names, sources={split: f"{ground_truth} ({split})" for split in SPLITS}, dropped=dropped)
