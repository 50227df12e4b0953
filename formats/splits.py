"""The videos of each split, and the test videos that are left out: the same rules for every layout.

splits = read_splits(path, annotations=annotations, ground_truth="gt.json", report=report)

The files split_train.txt and split_test.txt, with one video name per line, say which split a video is in; without them the
subsets of the ground truth do. Left out are

- the videos that common practice leaves out of THUMOS'14, unless a split file lists them;
- if some test videos have segments, every test video with labels but without segments, even one that split_test.txt lists:
  nothing says where its actions are, so that every detection in it would count as wrong. Test videos without labels stay: every
  detection in them is wrong.
"""

import pathlib
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from formats.annotations import VideoAnnotation
from formats.left_out import Cause, Reason
from formats.names import SPLITS, group_of, known_name, splits_of
from formats.problems import Kind, Problem, Report
from formats.regular_files import check_regular
from formats.thumos14_quirks import LEFT_OUT
from utils.errors import InputError

Annotations = Mapping[str, VideoAnnotation]


@dataclass(frozen=True, kw_only=True)
class Splits:
    names: dict[str, tuple[str, ...]]  # split -> its videos
    sources: dict[str, str]  # split -> the file that lists its videos, for messages
    dropped: dict[str, Reason]  # annotated video in no split -> why


def read_splits(path: pathlib.Path, *, annotations: Annotations, ground_truth: str, report: Report) -> Splits:
    """Read the splits of the set in folder `path`. Raises InputError if one has no videos; `report` gets names listed twice."""
    files = {split: path / f"split_{split}.txt" for split in SPLITS}
    if any(file.exists() for file in files.values()):
        splits = _from_files(files, annotations, report)
    else:
        splits = _from_subsets(annotations, ground_truth)
    unmarked = _unmarked(annotations, splits.names["test"])
    return Splits(
        names={**splits.names, "test": tuple(video for video in splits.names["test"] if video not in unmarked)},
        sources=splits.sources,
        dropped={**splits.dropped, **dict.fromkeys(unmarked, Reason(cause=Cause.WITHOUT_SEGMENTS))},
    )


def _unmarked(annotations: Annotations, test: Iterable[str]) -> set[str]:
    """The test videos that can't be evaluated, if others can."""
    tested = {video: annotations[video] for video in test if video in annotations}
    if not any(entry.instances for entry in tested.values()):
        return set()
    return {video for video, entry in tested.items() if entry.labels and not entry.instances}


def _left_out_by_practice(annotations: Annotations, *, listed: Container[str] = ()) -> dict[str, Reason]:
    reason = Reason(cause=Cause.COMMON_PRACTICE)
    return {video: reason for video in LEFT_OUT if video in annotations and video not in listed}


def _from_files(files: Mapping[str, pathlib.Path], annotations: Annotations, report: Report) -> Splits:
    names = {split: _read_split_file(files[split], annotations, report) for split in SPLITS}
    return Splits(
        names=names,
        sources={split: str(file) for split, file in files.items()},
        dropped=_left_out_by_practice(annotations, listed={video for split in SPLITS for video in names[split]}),
    )


def _read_split_file(path: pathlib.Path, annotations: Annotations, report: Report) -> tuple[str, ...]:
    """The names in a split file, as the ground truth spells them."""
    try:
        check_regular(path)
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: can't be read ({reason}); expected one video name per line") from None
    stripped = [line.strip() for line in lines if line.strip()]
    names = [known_name(name, annotations) or name for name in stripped]
    if not names:
        raise InputError(f"{path}: names no video; expected one video name per line")
    for name, count in Counter(names).items():
        if count > 1:
            what = f"video '{name}' is listed twice"
            report(Problem(kind=Kind.LISTED_TWICE, where=str(path), what=what, fix="remove one", video=name))
    return tuple(dict.fromkeys(names))


def _from_subsets(annotations: Annotations, ground_truth: str) -> Splits:
    dropped = _left_out_by_practice(annotations)
    members: dict[str, list[str]] = {}
    for video, entry in annotations.items():
        group = group_of(entry.subset)
        if video in dropped:
            continue
        if group is None:
            dropped[video] = Reason(cause=Cause.UNKNOWN_SUBSET, detail=entry.subset)
        else:
            members.setdefault(group, []).append(video)
    unlabelled = _subset_without_labels(annotations, members, ground_truth)
    if unlabelled:
        reason = Reason(cause=Cause.UNLABELLED_SUBSET, detail=unlabelled)
        dropped |= dict.fromkeys(members.pop(unlabelled), reason)
    split_of = splits_of(members.keys())
    names: dict[str, tuple[str, ...]] = dict.fromkeys(SPLITS, ())
    for group, videos in members.items():
        names[split_of[group]] += tuple(videos)
    for split in SPLITS:
        if not names[split]:
            known = ", ".join(sorted({f"'{entry.subset}'" for entry in annotations.values()}))
            raise InputError(
                f"{ground_truth}: no {split} videos: its subsets are {known}, and there is no split_{split}.txt; "
                "add one or the other"
            )
    return Splits(names=names, sources={split: f"{ground_truth} ({split})" for split in SPLITS}, dropped=dropped)


def _subset_without_labels(annotations: Annotations, members: Mapping[str, list[str]], ground_truth: str) -> str | None:
    """Validation or test, if it has no labels and there is a training subset. Raises InputError when both have labels."""
    if not members.keys() >= {"train", "validation", "test"}:
        return None
    labelled = {group for group, videos in members.items() if any(annotations[video].labels for video in videos)}
    if {"validation", "test"} <= labelled:
        raise InputError(
            f"{ground_truth}: validation and test videos are both labelled; say what to test on in a split_train.txt and "
            "split_test.txt beside the features, one video name per line"
        )
    return "validation" if "test" in labelled else "test"
