"""A feature set in any layout, as the same records: who is in which split, what they are labelled, where their features are.

feature_set = open_feature_set(path, layout="auto", ground_truth="", allow_pickle=False)
for problem in problems(feature_set, streams): ...              # what is wrong with it as a whole
"""

import pathlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from formats.annotations import EmptySegment, Report, VideoAnnotation, raise_it, read_annotations
from formats.layouts import SPLITS, Storage, other_names, recognise, stored_features, wtalc_names
from formats.subsets import group_of, splits_of
from formats.thumos14 import LEFT_OUT_REASON, is_left_out
from formats.wtalc import ANNOTATIONS, FEATURES, UNMARKED_REASON, read_wtalc
from utils.errors import InputError

SKIPPABLE = ("without features", "in no split")  # kinds of problems that --skip_unusable leaves out


@dataclass(frozen=True)
class FeatureSet:
    layout: str
    ground_truth: str  # where annotations are from, for messages
    annotations: dict[str, VideoAnnotation]
    names: dict[str, tuple[str, ...]]  # split -> its videos
    sources: dict[str, str]  # split -> what says so, for messages
    storage: Storage
    dropped: dict[str, str]  # videos of the ground truth that are in no split for a reason, and the reason
    classes: tuple[str, ...]  # every label of a video in a split, sorted, whether there are features of it or not


class Problem(NamedTuple):
    kind: str
    message: str  # names the file, the video and what to do
    video: str = ""


def open_feature_set(
    path: pathlib.Path, *, layout: str, ground_truth: str, allow_pickle: bool, report: Report = raise_it
) -> FeatureSet:
    """Looks at names and annotations; features stay unread. Raises InputError when the set as a whole can't be understood.

    `report` gets what is wrong with single videos and annotations.
    """
    layout = recognise(path, layout)
    if layout == "wtalc":
        return _open_wtalc(path, ground_truth, allow_pickle, report)
    storage = stored_features(path, layout, report)
    file = pathlib.Path(ground_truth) if ground_truth else _ground_truth_file(path)
    annotations = read_annotations(file, report)
    names, sources, dropped = _splits(path, str(file), annotations, report)
    classes = _classes(annotations, names)
    return FeatureSet(layout, str(file), annotations, names, sources, storage, dropped, classes)


def problems(feature_set: FeatureSet, streams: tuple[str, ...], splits: tuple[str, ...] = SPLITS) -> Iterator[Problem]:
    """Every way in which names, labels and files contradict each other; files are looked for in `splits` alone."""
    annotations, names, gt = feature_set.annotations, feature_set.names, feature_set.ground_truth
    for video in sorted(set(names["train"]) & set(names["test"])):
        sources = " and ".join(pathlib.PurePath(feature_set.sources[split]).name for split in SPLITS)
        message = f"{gt}: video '{video}' is in both {sources}; remove it from one"
        yield Problem("in both splits", message, video)
    for split in SPLITS:
        for video in names[split]:
            yield from _video_problems(feature_set, split, video)
    yield from _unclear_names(feature_set)
    listed = {video for split in SPLITS for video in names[split]} | feature_set.dropped.keys()
    for video, entry in annotations.items():
        if entry.labels and video not in listed:
            message = f"{gt}: annotated video '{video}' is in no split file; list it there or remove it from {gt}"
            yield Problem("in no split", message, video)
    learnable = _labels(annotations, names["train"])
    for video in names["test"]:
        unknown = annotations[video].labels - learnable if video in annotations else ()
        for label in sorted(unknown):
            yield Problem(
                "label without training",
                f"{gt}: test video '{video}' has the label '{label}', which no training video has; "
                "mend the spelling or remove it",
                video,
            )
    yield from _missing_features(feature_set, streams, splits)


def _missing_features(feature_set: FeatureSet, streams: tuple[str, ...], splits: tuple[str, ...]) -> Iterator[Problem]:
    missing = [
        (name, video)
        for split in splits
        for video in feature_set.names[split]
        for name in feature_set.storage.missing(split, video, streams)
    ]
    for i, (name, video) in enumerate(missing):
        more = f", and {len(missing) - 1} more are missing" if i == 0 and len(missing) > 1 else ""
        yield Problem(
            "without features",
            f"{name}: no such feature file{more}; get it, or leave such videos out with --skip_unusable",
            video,
        )


def extra_features(feature_set: FeatureSet) -> list[tuple[str, str]]:
    """(split, video) of features that are not used there and have no reason not to be."""
    videos, names = feature_set.storage.videos, feature_set.names
    shared = videos["train"] is videos["test"]
    hidden = {v for v, entry in feature_set.annotations.items() if not entry.labels}  # of a secret test set, say
    extra = []
    for split in SPLITS[:1] if shared else SPLITS:
        named = {*(names["train"] + names["test"] if shared else names[split]), *hidden, *feature_set.dropped}
        named |= {other for video in named for other in other_names(video)}
        extra += [(split, video) for video in sorted(videos[split].keys() - named)]
    return extra


def _labels(annotations: dict[str, VideoAnnotation], videos: Iterable[str]) -> set[str]:
    return {label for video in videos if video in annotations for label in annotations[video].labels}


def _classes(annotations: dict[str, VideoAnnotation], names: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted(_labels(annotations, names["train"] + names["test"])))


def _unclear_names(feature_set: FeatureSet) -> Iterator[Problem]:
    """Where one file could be of two videos, or two of one, for a "v_" before the name."""
    for split in SPLITS:
        listed, stored = set(feature_set.names[split]), feature_set.storage.videos[split]
        for video in feature_set.names[split]:
            files = [name for name in (video, *other_names(video)) if name in stored]
            others = [name for name in other_names(video) if name in listed]
            if others and len(files) < 2 and video.startswith("v_"):
                message = (
                    f"{feature_set.ground_truth}: '{video}' and '{others[0]}' have the same features; remove either"
                )
                yield Problem("two names of a video", message, video)
            elif len(files) > 1 and not others:
                first, second = (next(iter(stored[name].values())) for name in files[:2])
                yield Problem(
                    "two files of a video", f"{first} and {second}: both are of '{video}'; remove either", video
                )


def _skip_empty_segments(counts: Counter[str]) -> Report:
    """A `report` that counts segments that end at or before their start, and raises anything else."""

    def report(error: InputError) -> None:
        if not isinstance(error, EmptySegment):
            raise error
        counts["segments that end at or before their start"] += 1

    return report


def open_usable_set(
    path: pathlib.Path,
    *,
    streams: tuple[str, ...],
    layout: str,
    ground_truth: str,
    allow_pickle: bool,
    skip_unusable: bool,
    splits: tuple[str, ...] = SPLITS,
) -> tuple[FeatureSet, dict[str, int]]:
    """A set without contradictions, and what of it is left out: {reason: how many}. Raises InputError for the first problem.

    `skip_unusable` leaves out videos without features, annotated videos in no split, and empty segments.
    """
    left_out: Counter[str] = Counter()
    report = _skip_empty_segments(left_out) if skip_unusable else raise_it
    feature_set = open_feature_set(
        path, layout=layout, ground_truth=ground_truth, allow_pickle=allow_pickle, report=report
    )
    unusable: dict[str, str] = {}
    for problem in problems(feature_set, streams, splits):
        if not (skip_unusable and problem.kind in SKIPPABLE):
            raise InputError(problem.message)
        unusable[problem.video] = problem.kind
    names = {split: tuple(v for v in feature_set.names[split] if v not in unusable) for split in SPLITS}
    for split in SPLITS:
        if not names[split]:
            raise InputError(f"{path}: no {split} video is left; none of them has features")
    usable = replace(feature_set, names=names, dropped={**feature_set.dropped, **unusable})
    left_out.update(usable.dropped.values())
    if "train" in splits:
        unlearnt = set(usable.classes) - _labels(usable.annotations, names["train"])
        left_out["classes of which no training video is left"] += len(unlearnt)
    return usable, dict(+left_out)


def _open_wtalc(path: pathlib.Path, ground_truth: str, allow_pickle: bool, report: Report) -> FeatureSet:
    name, *others = wtalc_names(path)
    if others:
        raise InputError(f"{path}: holds {name} and {others[0]}; give each set a folder of its own")
    read = read_wtalc(path, name, allow_pickle=allow_pickle, report=report)
    annotations = read_annotations(pathlib.Path(ground_truth), report) if ground_truth else read.annotations
    where = ground_truth or str(path / f"{name}{ANNOTATIONS}")
    names, sources, dropped = _splits(path, where, annotations, report)
    names = {split: tuple(v for v in names[split] if v not in read.dropped) for split in SPLITS}
    classes = _classes(annotations, names)
    file = str(path / f"{name}{FEATURES}")
    storage = Storage(
        {split: {video: {"joint": array} for video, array in read.arrays.items()} for split in SPLITS},
        dict.fromkeys(SPLITS, f"{file} entry '{{video}}'"),
        dict.fromkeys(SPLITS, True),
    )
    return FeatureSet("wtalc", where, annotations, names, sources, storage, {**dropped, **read.dropped}, classes)


def _ground_truth_file(path: pathlib.Path) -> pathlib.Path:
    """gt.json, or the only JSON file there is."""
    own = path / "gt.json"
    others = sorted({*path.glob("*.json"), *path.glob("annotations/*.json")})
    if own.exists() or not others:
        return own
    if len(others) > 1:
        shown = ", ".join(str(file.relative_to(path)) for file in others[:4])
        raise InputError(f"{path}: which of {shown} is the ground truth? Name it with --ground_truth")
    return others[0]


_Splits = tuple[dict[str, tuple[str, ...]], dict[str, str], dict[str, str]]


def _splits(path: pathlib.Path, gt: str, annotations: dict[str, VideoAnnotation], report: Report) -> _Splits:
    """From the split files when there are any, else from the subsets of the ground truth: names, sources, dropped.

    Where some test videos have segments, those that have labels alone can not be evaluated: what was found there would count
    as wrong. So they are left out.
    """
    names, sources, dropped = _listed_splits(path, gt, annotations, report)
    tested = {video: annotations[video] for video in names["test"] if video in annotations}
    if any(entry.instances for entry in tested.values()):
        unmarked = {video for video, entry in tested.items() if entry.labels and not entry.instances}
        names["test"] = tuple(video for video in names["test"] if video not in unmarked)
        dropped |= dict.fromkeys(unmarked, UNMARKED_REASON)
    return names, sources, dropped


def _listed_splits(path: pathlib.Path, gt: str, annotations: dict[str, VideoAnnotation], report: Report) -> _Splits:
    files = {split: path / f"split_{split}.txt" for split in SPLITS}
    if any(file.exists() for file in files.values()):
        names = {split: _read_split(files[split], annotations, report) for split in SPLITS}
        listed = {video for split in SPLITS for video in names[split]}
        dropped = {v: LEFT_OUT_REASON for v in annotations if is_left_out(v) and v not in listed}
        return names, {split: str(file) for split, file in files.items()}, dropped
    return _splits_by_subset(gt, annotations)


def _splits_by_subset(gt: str, annotations: dict[str, VideoAnnotation]) -> _Splits:
    members: dict[str, list[str]] = {}
    dropped = {}
    for video, entry in annotations.items():
        group = group_of(entry.subset)
        if is_left_out(video):
            dropped[video] = LEFT_OUT_REASON
        elif group is None:
            dropped[video] = f"subset '{entry.subset}' is neither training, validation nor test"
        else:
            members.setdefault(group, []).append(video)
    labelled = {group for group, videos in members.items() if any(annotations[v].labels for v in videos)}
    groups = set(members)
    if groups >= {"train", "validation", "test"}:
        if {"validation", "test"} <= labelled:
            raise InputError(
                f"{gt}: validation and test videos are both labelled; say what to test on in a split_train.txt and "
                "split_test.txt beside the features, one video name a line"
            )
        hidden = "validation" if "test" in labelled else "test"
        dropped |= dict.fromkeys(members[hidden], f"subset {hidden} has no labels")
        groups -= {hidden}
    split_of = splits_of(groups)
    names: dict[str, tuple[str, ...]] = dict.fromkeys(SPLITS, ())
    for group in groups:
        names[split_of[group]] += tuple(members[group])
    for split in SPLITS:
        if not names[split]:
            known = ", ".join(sorted({f"'{entry.subset}'" for entry in annotations.values()}))
            raise InputError(
                f"{gt}: no {split} videos: its subsets are {known}, and there is no split_{split}.txt; add one or the other"
            )
    return names, {split: f"{gt} ({split})" for split in SPLITS}, dropped


def _known(video: str, annotations: dict[str, VideoAnnotation]) -> str:
    """As the ground truth calls it, with or without "v_"."""
    return next((name for name in (video, *other_names(video)) if name in annotations), video)


def _read_split(path: pathlib.Path, annotations: dict[str, VideoAnnotation], report: Report) -> tuple[str, ...]:
    """The names in a split file, as the ground truth calls these videos."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: can't be read ({reason}); expected one video name a line") from None
    names = [_known(line.strip(), annotations) for line in lines if line.strip()]
    if not names:
        raise InputError(f"{path}: names no video")
    for name, count in Counter(names).items():
        if count > 1:
            report(InputError(f"{path}: video '{name}' is listed twice; remove one"))
    return tuple(dict.fromkeys(names))


def _video_problems(feature_set: FeatureSet, split: str, video: str) -> Iterator[Problem]:
    gt, source = feature_set.ground_truth, feature_set.sources[split]
    entry = feature_set.annotations.get(video)
    if entry is None:
        message = f"{source}: video '{video}' is not in {gt}; add it or remove it"
        yield Problem("without annotation", message, video)
        return
    other = next(s for s in SPLITS if s != split)
    if group_of(entry.subset) == other:
        message = f"{gt}: video '{video}' has subset '{entry.subset}' but is listed in split_{split}.txt; mend either"
        yield Problem("subset against split", message, video)
    if split == "train" and not entry.labels:
        message = f"{gt}: training video '{video}' has no labels; annotate it or drop it from {source}"
        yield Problem("training without label", message, video)
