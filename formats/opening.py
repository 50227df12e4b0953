"""The opening of a feature set in any layout: which videos are in which split, their labels, and where their features are.

feature_set, left_out = open_usable_set(path, options.data)        # to train on
feature_set = open_feature_set(path, options.data)                  # as it is; see contradictions(feature_set, ...)
"""

import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from formats.annotations import labels_of
from formats.contradictions import contradictions
from formats.feature_set import FeatureSet
from formats.ground_truth import ground_truth_file, read_annotations
from formats.layouts import recognise
from formats.left_out import Cause, Reason
from formats.names import SPLITS, shown
from formats.problems import DataError, Kind, Problem, Report, raise_problem
from formats.splits import read_splits
from options import DataOptions
from utils.errors import InputError


def open_feature_set(
    path: pathlib.Path, options: DataOptions, *, report: Report = raise_problem, needed: tuple[str, ...] = SPLITS
) -> FeatureSet:
    """Read names and annotations, but no features. Raises InputError when the set as a whole can't be understood.

    `report` gets the problems of single videos and annotations. Splits that are not `needed` may be empty.
    """
    chosen, ground_truth = recognise(path, options.layout), options.ground_truth
    stored = chosen.read(path, allow_pickle=options.allow_pickle, report=report)
    if stored.annotations is not None and not ground_truth:
        annotations, source = stored.annotations, stored.source
    else:
        file = pathlib.Path(ground_truth) if ground_truth else ground_truth_file(path)
        annotations, source = read_annotations(file, report), str(file)
    splits = read_splits(path, annotations=annotations, ground_truth=source, report=report, needed=needed)
    return FeatureSet(
        layout=chosen.name,
        ground_truth=source,
        annotations=annotations,
        names=splits.names,
        sources=splits.sources,
        storage=stored.storage,
        dropped=splits.dropped,
        classes=tuple(sorted(labels_of(annotations, splits.names["train"] + splits.names["test"]))),
    )


def open_usable_set(
    path: pathlib.Path, options: DataOptions, *, splits: tuple[str, ...] = SPLITS
) -> tuple[FeatureSet, dict[str, int]]:
    """Open a set without contradictions; also return what is left out, as {reason in words: how many}.

    --skip_unusable leaves out videos without features or annotation and empty segments, and keeps test labels that no training
    video has. Only `splits` need features, or any
    video at all. Raises InputError that lists the problems.
    """
    reported: list[Problem] = []
    try:
        feature_set = open_feature_set(path, options, report=reported.append, needed=splits)
    except InputError:
        _refuse(reported, options)  # rather than what they led to
        raise
    found = list(contradictions(feature_set, streams=options.streams, splits=splits))
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
