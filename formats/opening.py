"""The opening of a feature set in any layout: which videos are in which split, their labels, and where their features are.

feature_set, left_out = open_usable_set(path, options.data)        # to train on
feature_set = open_feature_set(path, options.data)                  # as it is; see contradictions(feature_set, ...)
"""

import pathlib
from collections import Counter
from dataclasses import replace

from formats.annotations import labels_of
from formats.contradictions import contradictions
from formats.feature_set import FeatureSet
from formats.ground_truth import ground_truth_file, read_annotations
from formats.layouts import recognise
from formats.left_out import Cause, Reason
from formats.names import SPLITS
from formats.problems import DataError, Problem, Report, raise_problem
from formats.splits import read_splits
from options import DataOptions
from utils.errors import InputError


def open_feature_set(path: pathlib.Path, options: DataOptions, *, report: Report = raise_problem) -> FeatureSet:
    """Read names and annotations, but no features. Raises InputError when the set as a whole can't be understood.

    `report` gets the problems of single videos and annotations.
    """
    chosen, ground_truth = recognise(path, options.layout), options.ground_truth
    stored = chosen.read(path, allow_pickle=options.allow_pickle, report=report)
    if stored.annotations is not None and not ground_truth:
        annotations, source = stored.annotations, stored.source
    else:
        file = pathlib.Path(ground_truth) if ground_truth else ground_truth_file(path)
        annotations, source = read_annotations(file, report), str(file)
    splits = read_splits(path, annotations=annotations, ground_truth=source, report=report)
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

    --skip_unusable leaves out videos without features, annotated videos in no split, and empty segments. Features are looked
    for only in `splits`. Raises InputError for the first problem.
    """
    left_out: Counter[Reason] = Counter()

    def skip(problem: Problem) -> Reason:
        if not (options.skip_unusable and problem.kind.skippable):
            raise DataError(problem)
        return Reason(cause=problem.kind)

    def report(problem: Problem) -> None:
        left_out[skip(problem)] += 1

    feature_set = open_feature_set(path, options, report=report)
    problems = contradictions(feature_set, streams=options.streams, splits=splits)
    unusable = {problem.video: skip(problem) for problem in problems}
    names = {split: tuple(v for v in feature_set.names[split] if v not in unusable) for split in SPLITS}
    for split in SPLITS:
        if not names[split]:
            raise InputError(f"{path}: no {split} video is left; none of them has features")
    usable = replace(feature_set, names=names, dropped={**feature_set.dropped, **unusable})
    left_out.update(usable.dropped.values())
    if "train" in splits:
        untrained = set(usable.classes) - labels_of(usable.annotations, names["train"])
        left_out[Reason(cause=Cause.UNTRAINED_CLASS)] += len(untrained)
    return usable, {str(reason): count for reason, count in left_out.items() if count}
