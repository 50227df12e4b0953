"""The opening of a feature set in any layout: which videos are in which split, their labels, and where their features are.

feature_set, left_out = open_usable_set(path, options.data)        # to train on
feature_set = open_feature_set(path, options.data)                  # as it is; see contradictions(feature_set, ...)

Testing a trained model needs splits=("test",) alone: such a set may lack training videos, labels and ground truth.
"""

import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from formats.annotations import VideoAnnotation, labels_of
from formats.contradictions import contradictions
from formats.feature_set import FeatureSet, Storage
from formats.ground_truth import ground_truth_file, read_annotations
from formats.layouts import recognise
from formats.left_out import Cause, Reason
from formats.names import SPLITS, shown
from formats.problems import DataError, Kind, Problem, Report, raise_problem
from formats.splits import Splits, read_splits, split_files
from formats.unlabelled import all_features, read_folder
from options import DataOptions
from utils.errors import InputError


def open_feature_set(
    path: pathlib.Path, options: DataOptions, *, report: Report = raise_problem, needed: tuple[str, ...] = SPLITS
) -> FeatureSet:
    """Read names and annotations, but no features. Raises InputError when the set as a whole can't be understood.

    `report` gets the problems of single videos and annotations. Splits that are not `needed` may be empty.
    """
    training, ground_truth = "train" in needed, options.ground_truth
    if training:
        layout = recognise(path, options.layout)
        stored = layout.read(path, allow_pickle=options.allow_pickle, report=report)
        layout_name = layout.name
    else:
        layout_name, stored = read_folder(path, options, report)
        if not stored.storage.by_split["test"].videos:  # features/validation/ alone, say: they can only be for testing
            stored = replace(stored, storage=Storage.undivided(all_features(stored.storage)))
    if stored.annotations is not None and not ground_truth:
        annotations, source = stored.annotations, stored.source
    else:
        file = pathlib.Path(ground_truth) if ground_truth else ground_truth_file(path)
        stated = training or ground_truth or file.exists()
        annotations, source = read_annotations(file, report) if stated else {}, str(file)
    if annotations or training or split_files(path):
        found = read_splits(path, annotations=annotations, ground_truth=source, report=report, needed=needed)
    else:
        names: dict[str, tuple[str, ...]] = {"train": (), "test": tuple(sorted(stored.storage.by_split["test"].videos))}
        found = Splits(names=names, sources=dict.fromkeys(SPLITS, str(path)), dropped={})
    if not training:
        annotations = {**annotations, **_unlabelled(annotations, found.names["test"])}
    return FeatureSet(
        layout=layout_name,
        ground_truth=source,
        annotations=annotations,
        names=found.names,
        sources=found.sources,
        storage=stored.storage,
        dropped=found.dropped,
        classes=tuple(sorted(labels_of(annotations, found.names["train"] + found.names["test"]))),
    )


def _unlabelled(annotations: Mapping[str, VideoAnnotation], test: Sequence[str]) -> dict[str, VideoAnnotation]:
    """Entries of the test videos that have none, where no test video has labels: nothing is to be measured then."""
    if labels_of(annotations, test):
        return {}
    return {video: VideoAnnotation(subset="test") for video in test if video not in annotations}


def open_usable_set(
    path: pathlib.Path, options: DataOptions, *, splits: tuple[str, ...] = SPLITS
) -> tuple[FeatureSet, dict[str, int]]:
    """Open a set without contradictions; also return what is left out, as {reason in words: how many}.

    --skip_unusable leaves out videos without features or annotation and empty segments, and keeps test labels that no training
    video has. Only `splits` need features, or any video at all. Raises InputError that lists the problems.
    """
    reported: list[Problem] = []
    try:
        feature_set = open_feature_set(path, options, report=reported.append, needed=splits)
    except InputError:
        _refuse(reported, options)  # rather than what they led to
        raise
    found = list(contradictions(feature_set, streams=options.streams, splits=splits))
    if "train" not in splits:
        tested = set(feature_set.names["test"])
        # A trained model is tested on whatever it is given: labels that training lacks are not the set's mistake.
        found = [p for p in found if p.video in tested and p.kind is not Kind.LABEL_WITHOUT_TRAINING]
    _refuse([*reported, *found], options)
    unusable = {problem.video: Reason(cause=problem.kind) for problem in found if problem.kind.costs_the_video}
    names = {split: tuple(v for v in feature_set.names[split] if v not in unusable) for split in SPLITS}
    for split in splits:
        if not names[split]:
            raise InputError(_nothing_left(feature_set, split, unusable))
    usable = replace(feature_set, names=names, dropped={**feature_set.dropped, **unusable})
    left_out = Counter(Reason(cause=problem.kind) for problem in reported)
    left_out.update(usable.dropped.values())
    if "train" in splits:
        untrained = set(usable.classes) - labels_of(usable.annotations, names["train"])
        left_out[Reason(cause=Cause.UNTRAINED_CLASS)] += len(untrained)
    return usable, {str(reason): count for reason, count in left_out.items() if count}


def _refuse(problems: Iterable[Problem], options: DataOptions) -> None:
    """Raise DataError with the problems that --skip_unusable does not overlook: a video's first, which led to its others."""
    fatal = [problem for problem in problems if not (options.skip_unusable and problem.kind.skippable)]
    firsts = list({problem.video or str(problem): problem for problem in reversed(fatal)}.values())[::-1]
    if firsts:
        raise DataError(firsts[0], others=firsts[1:])


def _nothing_left(feature_set: FeatureSet, split: str, unusable: Mapping[str, Reason]) -> str:
    """Say why no video of a split can be used, and what to compare."""
    listed, stored = feature_set.names[split], feature_set.storage.by_split[split].videos
    source = feature_set.sources[split]
    if any(unusable[video].cause is not Kind.WITHOUT_FEATURES for video in listed):
        return f"{source}: no {split} video is left; name videos that have annotations and features"
    there = f"what is there belongs to {shown(stored)}" if stored else "there are none at all"
    return (
        f"{source}: no {split} video is left; none of them has features, '{listed[0]}' for one; {there}: compare the names, "
        "and check --data_path and --modal"
    )
