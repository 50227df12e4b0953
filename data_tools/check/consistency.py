"""Findings about names: contradictions between splits, annotations and files, and differences from a known set.

    for finding in consistency_findings(feature_set, reported, options.data): ...

The rules are those of training: formats/contradictions.py, and the problems that `open_feature_set` reports.
"""

from collections.abc import Iterator, Mapping, Sequence

from data_tools.check.findings import Finding, group_by_kind, summarize, summarize_by_kind
from formats.contradictions import contradictions, unused_features
from formats.feature_set import FeatureSet
from formats.left_out import Cause
from formats.names import SPLITS
from formats.problems import Kind, Problem
from formats.spelling import spelling_warnings
from formats.thumos14_quirks import LEFT_OUT, VIDEO_PREFIXES
from options import DataOptions

_SKIPPED = "--skip_unusable passes over them"

# The classes of each --dataset; None if the recipe is for no particular set.
NUM_CLASSES: Mapping[str, int | None] = {"thumos14": 20, "activitynet1.2": 100, "activitynet1.3": 200, "demo": None}


def consistency_findings(
    feature_set: FeatureSet, reported: Sequence[Problem], options: DataOptions
) -> Iterator[Finding]:
    """Findings from the problems that `open_feature_set` reported, and contradictions.

    With --skip_unusable, what training would leave out is a warning.
    """
    yield from _broken_entries(reported, options.skip_unusable)
    yield from _contradictions(feature_set, reported, streams=options.streams, skip_unusable=options.skip_unusable)
    yield from summarize("warning", "classes that look like one", list(spelling_warnings(feature_set.classes)))
    yield from _unused_features(feature_set, reported)
    yield from _left_out(feature_set)
    yield from _for_the_recipe(feature_set, options.dataset)


def _broken_entries(reported: Sequence[Problem], skip_unusable: bool) -> Iterator[Finding]:
    for kind, group in group_by_kind(problem for problem in reported if problem.kind.skippable).items():
        yield from _of_kind(kind, [str(problem) for problem in group], skip_unusable=skip_unusable, advice=kind.advice)
    others = [problem for problem in reported if not problem.kind.skippable]
    yield from summarize_by_kind("error", "entries that can't be used", others)


def _of_kind(kind: Kind, examples: Sequence[str], *, skip_unusable: bool, advice: str) -> Iterator[Finding]:
    """Yield the finding of problems of one kind: a warning if they are left out."""
    skipped = skip_unusable and kind.skippable
    severity = "warning" if skipped else "error"
    yield from summarize(severity, kind.heading, examples, advice=_SKIPPED if skipped else advice)


def _contradictions(
    feature_set: FeatureSet, reported: Sequence[Problem], *, streams: tuple[str, ...], skip_unusable: bool
) -> Iterator[Finding]:
    broken = _videos_of(reported)
    problems = [
        problem
        for problem in contradictions(feature_set, streams=streams)
        if not (
            problem.kind is Kind.WITHOUT_ANNOTATION and problem.video in broken
        )  # its annotation is broken, not missing
    ]
    for kind, group in group_by_kind(problems).items():
        examples, advice = [str(problem) for problem in group], kind.advice
        if kind is Kind.WITHOUT_FEATURES:
            examples = [problem.where + _place_in_other_split(feature_set, problem.video) for problem in group]
            advice = f"get them, {advice}"
        yield from _of_kind(kind, examples, skip_unusable=skip_unusable, advice=advice)


def _videos_of(problems: Sequence[Problem]) -> set[str]:
    return {problem.video for problem in problems}


def _place_in_other_split(feature_set: FeatureSet, video: str) -> str:
    """A note if the features that this video lacks are in the other split's folder, else ""."""
    storage = feature_set.storage
    for split, other in (("train", "test"), ("test", "train")):
        if video in feature_set.names[split] and not storage.find(split, video) and storage.find(other, video):
            return f" (but in the {other} split there is {_place(feature_set, other, video)})"
    return ""


def _place(feature_set: FeatureSet, split: str, video: str) -> str:
    """The first file of this video."""
    return str(next(iter(feature_set.storage.find(split, video).values())))


def _unused_features(feature_set: FeatureSet, reported: Sequence[Problem]) -> Iterator[Finding]:
    explained = LEFT_OUT.keys() | _videos_of(reported)
    places = [_place(feature_set, split, v) for split, v in unused_features(feature_set) if v not in explained]
    yield from summarize(
        "warning",
        "features that no split names",
        list(dict.fromkeys(places)),
        advice="they are not used: list the videos in a split and annotate them, or remove the files",
    )


def _left_out(feature_set: FeatureSet) -> Iterator[Finding]:
    listed = {video: split for split in SPLITS for video in feature_set.names[split]}
    yield from summarize(
        "warning",
        "test videos that published results leave out",
        [f"{feature_set.sources[listed[v]]}: '{v}' ({why})" for v, why in LEFT_OUT.items() if v in listed],
        advice="remove them, so that results are comparable",
    )
    known = feature_set.dropped.keys() | {video for _, video in unused_features(feature_set)}
    yield from summarize(
        "note",
        f"not used: {Cause.COMMON_PRACTICE}",
        [f"'{video}' ({why})" for video, why in LEFT_OUT.items() if video in known],
        advice="nothing: results are comparable without them",
    )
    unused = {video: reason for video, reason in feature_set.dropped.items() if video not in LEFT_OUT}
    for reason in sorted(set(unused.values()), key=str):
        videos = [f"'{video}'" for video, why in unused.items() if why == reason]
        if reason.cause is Cause.IN_NO_SPLIT:
            advice = "they are not used: list them in a split file or remove them from the ground truth"
            yield from summarize("warning", reason.cause.value, videos, advice=advice)
        else:
            yield from summarize("note", f"not used: {reason}", videos)


def _for_the_recipe(feature_set: FeatureSet, dataset: str) -> Iterator[Finding]:
    expected, count = NUM_CLASSES.get(dataset), len(feature_set.classes)
    named = any(video.startswith(VIDEO_PREFIXES) for video in feature_set.annotations)
    if expected not in (None, count) and (named or dataset != DataOptions.dataset):  # the default recipe is for any set
        yield from summarize(
            "note",
            f"--dataset {dataset} has {expected} classes",
            [f"this set has {count}"],
            advice="fine for your own set; otherwise classes are missing, or spelt in several ways",
        )
    tested = [feature_set.annotations.get(video) for video in feature_set.names["test"]]
    if not any(entry and entry.instances for entry in tested):
        yield from summarize(
            "note",
            "no test video has segments",
            [f"{feature_set.ground_truth}: {len(tested):,} test videos"],
            advice="mAP will not be computed; video accuracy only needs labels",
        )
