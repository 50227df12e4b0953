"""Names, labels and files of a feature set that contradict each other.

for problem in contradictions(feature_set, streams=("rgb", "flow")): ...
unused_features(feature_set)        # features that no split names
"""

import pathlib
from collections.abc import Iterator

from formats.annotations import labels_of
from formats.array_files import stream_of
from formats.feature_folders import what_is_there
from formats.feature_set import FeatureSet
from formats.names import SPLITS, group_of, other_names
from formats.problems import Kind, Problem
from formats.spelling import similar_to


def contradictions(
    feature_set: FeatureSet, *, streams: tuple[str, ...], splits: tuple[str, ...] = SPLITS
) -> Iterator[Problem]:
    """Find all contradictions; files, and labels that training lacks, are looked for only in `splits`."""
    yield from _in_both_splits(feature_set)
    for split in SPLITS:
        for video in feature_set.names[split]:
            yield from _against_annotation(feature_set, split, video)
    yield from _unclear_names(feature_set)
    if "train" in splits:
        yield from _labels_without_training(feature_set)
    yield from _missing_features(feature_set, streams, splits)


def unused_features(feature_set: FeatureSet) -> list[tuple[str, str]]:
    """(split, video) of features that no split names, without a reason for leaving them out."""
    storage, names = feature_set.storage, feature_set.names
    unlabelled = {v for v, entry in feature_set.annotations.items() if not entry.labels}  # such as a secret test set's
    unused = []
    for split in SPLITS if storage.divided else SPLITS[:1]:
        named = {*(names[split] if storage.divided else names["train"] + names["test"])}
        known = named | unlabelled | feature_set.dropped.keys()
        known |= {other for video in known for other in other_names(video)}
        features = storage.by_split[split]
        lone = known & features.lone.keys()
        known |= {name for name in features.videos if stream_of(name)[0] in lone}
        unused += [(split, video) for video in sorted(features.videos.keys() - known)]
    return unused


def _in_both_splits(feature_set: FeatureSet) -> Iterator[Problem]:
    sources = " and ".join(pathlib.PurePath(feature_set.sources[split]).name for split in SPLITS)
    for video in sorted(set(feature_set.names["train"]) & set(feature_set.names["test"])):
        yield Problem(
            kind=Kind.IN_BOTH_SPLITS,
            where=feature_set.ground_truth,
            what=f"video '{video}' is in both {sources}",
            fix="remove it from one",
            video=video,
        )


def _against_annotation(feature_set: FeatureSet, split: str, video: str) -> Iterator[Problem]:
    """Contradictions between a video in a split and its annotation."""
    ground_truth, source = feature_set.ground_truth, feature_set.sources[split]
    entry = feature_set.annotations.get(video)
    if entry is None:
        yield Problem(
            kind=Kind.WITHOUT_ANNOTATION,
            where=source,
            what=f"video '{video}' is not in {ground_truth}",
            fix=f"add it there or remove it here, {Kind.WITHOUT_ANNOTATION.advice}",
            video=video,
        )
        return
    (other,) = set(SPLITS) - {split}
    if group_of(entry.subset) == other:
        yield Problem(
            kind=Kind.SUBSET_AGAINST_SPLIT,
            where=ground_truth,
            what=f"video '{video}' has subset '{entry.subset}' but is listed in {pathlib.PurePath(source).name}",
            fix="fix either",
            video=video,
        )
    if split == "train" and not entry.labels:
        yield Problem(
            kind=Kind.TRAINING_WITHOUT_LABEL,
            where=ground_truth,
            what=f"training video '{video}' has no labels",
            fix=f"annotate it or drop it from {source}",
            video=video,
        )


def _unclear_names(feature_set: FeatureSet) -> Iterator[Problem]:
    """Files that could belong to two videos, or two files of one, because of a "v_" before the name."""
    for split in SPLITS:
        listed, stored = set(feature_set.names[split]), feature_set.storage.by_split[split].videos
        for video in feature_set.names[split]:
            files = [name for name in (video, *other_names(video)) if name in stored]
            others = [name for name in other_names(video) if name in listed]
            if others and len(files) < 2 and video.startswith("v_"):
                yield Problem(
                    kind=Kind.TWO_NAMES,
                    where=feature_set.ground_truth,
                    what=f"'{video}' and '{others[0]}' have the same features",
                    fix="remove either",
                    video=video,
                )
            elif len(files) > 1 and not others:
                first, second = (next(iter(stored[name].values())) for name in files[:2])
                yield Problem(
                    kind=Kind.TWO_FILES,
                    where=f"{first} and {second}",
                    what=f"both belong to '{video}'",
                    fix="remove either",
                    video=video,
                )


def _labels_without_training(feature_set: FeatureSet) -> Iterator[Problem]:
    """Every class that only test videos have, once."""
    known = labels_of(feature_set.annotations, feature_set.names["train"])
    untrained: dict[str, str] = {}
    for video in feature_set.names["test"]:
        for label in sorted(labels_of(feature_set.annotations, [video]) - known):
            untrained.setdefault(label, video)
    for label, video in untrained.items():
        yield Problem(
            kind=Kind.LABEL_WITHOUT_TRAINING,
            where=feature_set.ground_truth,
            what=f"test video '{video}' has the label '{label}', which no training video has{similar_to(label, known)}",
            fix="fix the spelling or remove it",
        )


def _missing_features(feature_set: FeatureSet, streams: tuple[str, ...], splits: tuple[str, ...]) -> Iterator[Problem]:
    missing = [
        (name, split, video)
        for split in splits
        for video in feature_set.names[split]
        for name in feature_set.storage.missing(split, video, streams)
    ]
    for i, (name, split, video) in enumerate(missing):
        there = what_is_there(feature_set.storage.by_split[split], video) if i == 0 else ""
        streams_there = [stream for stream in feature_set.storage.find(split, video) if stream in streams]
        flag = f"give --modal {streams_there[0]}, " if streams_there else ""
        yield Problem(
            kind=Kind.WITHOUT_FEATURES,
            where=name,
            what=f"no such feature file{f' (there is {there})' if there else ''}",
            fix=f"get it, {flag}{Kind.WITHOUT_FEATURES.advice}",
            video=video,
        )
