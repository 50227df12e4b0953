"""What names, lists and files say against each other, and what is special about a set that is known.

    for finding in set_findings(feature_set, reported, streams=("rgb", "flow"), dataset="thumos14"): ...

The rules are those of training: `problems` and what `open_feature_set` reports.
"""

import re
from collections.abc import Iterator, Sequence

from data_tools.check.findings import Finding, alike, found
from formats.annotations import EmptySegment
from formats.feature_set import SKIPPABLE, FeatureSet, extra_features, problems
from formats.layouts import SPLITS
from formats.thumos14 import LEFT_OUT, LEFT_OUT_REASON
from utils.errors import InputError

# The kinds of `problems`, in the plural.
_TITLES = {
    "in both splits": "videos in both splits",
    "in no split": "annotated videos in no split",
    "label without training": "test labels that never occur in training",
    "without features": "missing features",
    "without annotation": "videos in a split without annotation",
    "subset against split": "subsets that contradict the split files",
    "training without label": "training videos without labels",
    "two names of a video": "names of one video",
    "two files of a video": "two files of one video",
}

NUM_CLASSES = {"thumos14": 20, "activitynet1.2": 100, "activitynet1.3": 200}  # by --dataset


def set_findings(
    feature_set: FeatureSet,
    reported: Sequence[InputError],
    *,
    streams: tuple[str, ...],
    dataset: str,
    skip_unusable: bool = False,
) -> Iterator[Finding]:
    """`reported` is what `open_feature_set` said of single entries. With `skip_unusable`, what training would leave out is a
    warning."""
    yield from _broken_entries(reported, skip_unusable)
    yield from _contradictions(feature_set, streams, reported, skip_unusable)
    yield from _beside_the_splits(feature_set)
    yield from _left_out(feature_set)
    yield from _for_the_recipe(feature_set, dataset)


def _broken_entries(reported: Sequence[InputError], skip_unusable: bool) -> Iterator[Finding]:
    """What `open_feature_set` reported of single videos and annotations."""
    yield from found(
        "warning" if skip_unusable else "error",
        "segments that end at or before their start",
        [str(error) for error in reported if isinstance(error, EmptySegment)],
        advice="left out, with --skip_unusable" if skip_unusable else "or leave them out with --skip_unusable",
    )
    yield from alike(
        "error", "entries that can't be used", [str(e) for e in reported if not isinstance(e, EmptySegment)]
    )


def _contradictions(
    feature_set: FeatureSet, streams: tuple[str, ...], reported: Sequence[InputError], skip_unusable: bool
) -> Iterator[Finding]:
    unread = {name for error in reported for name in re.findall(r"video '([^']*)'", str(error))}
    by_kind: dict[str, list[str]] = {}
    for problem in problems(feature_set, streams):
        message = problem.message
        if problem.kind == "without annotation" and problem.video in unread:
            continue  # it has one, and what is wrong with it is said already
        if problem.kind == "without features":
            message = message.partition(": no such feature file")[0] + _found_elsewhere(feature_set, problem.video)
        by_kind.setdefault(problem.kind, []).append(message)
    for kind, messages in by_kind.items():
        skipped = skip_unusable and kind in SKIPPABLE
        advice = {
            "without features": "get them, or leave such videos out with --skip_unusable",
            "in no split": "or leave them out with --skip_unusable",
        }.get(kind, "")
        yield from found(
            "warning" if skipped else "error",
            _TITLES.get(kind, kind),
            messages,
            advice="left out, with --skip_unusable" if skipped else advice,
        )


def _found_elsewhere(feature_set: FeatureSet, video: str) -> str:
    """Where else there are features of a video that lacks some."""
    storage = feature_set.storage
    for split, other in (("train", "test"), ("test", "train")):
        if video in feature_set.names[split] and not storage.find(split, video) and storage.find(other, video):
            return f" (but in the {other} split there is {_place(feature_set, other, video)})"
    return ""


def _place(feature_set: FeatureSet, split: str, video: str) -> str:
    return str(next(iter(feature_set.storage.find(split, video).values())))


def _beside_the_splits(feature_set: FeatureSet) -> Iterator[Finding]:
    places = [_place(feature_set, split, v) for split, v in extra_features(feature_set) if v not in LEFT_OUT]
    yield from found(
        "warning",
        "features that no split names",
        list(dict.fromkeys(places)),
        advice="they are not used: list the videos in a split and annotate them, or remove the files",
    )


def _left_out(feature_set: FeatureSet) -> Iterator[Finding]:
    listed = {video: split for split in SPLITS for video in feature_set.names[split]}
    yield from found(
        "warning",
        "test videos that published results leave out",
        [f"{feature_set.sources[listed[v]]}: '{v}' ({why})" for v, why in LEFT_OUT.items() if v in listed],
        advice="remove them, so that results compare with others",
    )
    known = feature_set.dropped.keys() | {video for _, video in extra_features(feature_set)}
    yield from found(
        "note",
        f"not used: {LEFT_OUT_REASON}",
        [f"'{video}' ({why})" for video, why in LEFT_OUT.items() if video in known],
        advice="nothing: results are comparable without them",
    )
    others = {video: reason for video, reason in feature_set.dropped.items() if video not in LEFT_OUT}
    for reason in sorted(set(others.values())):
        yield from found("note", f"not used: {reason}", [f"'{v}'" for v, why in others.items() if why == reason])


def _for_the_recipe(feature_set: FeatureSet, dataset: str) -> Iterator[Finding]:
    expected, count = NUM_CLASSES.get(dataset), len(feature_set.classes)
    if expected not in (None, count):
        yield from found(
            "note",
            f"--dataset {dataset} has {expected} classes",
            [f"here there are {count}"],
            advice="fine for a set of your own; else classes are missing, or are spelt in several ways",
        )
    tested = [feature_set.annotations.get(video) for video in feature_set.names["test"]]
    if not any(entry and entry.instances for entry in tested):
        yield from found(
            "note",
            "no test video has segments",
            [f"{feature_set.ground_truth}: {len(tested):,} test videos"],
            advice="mAP will not be computed; video accuracy needs labels alone",
        )
