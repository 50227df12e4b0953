"""The check of a data set before training: a report that a person can act on, and an exit code.

    report = check_data(path, options.data)
    print(report.text(entire=False)); sys.exit(report.exit_code)              # 0 fine, 1 warnings, 2 errors

It applies the rules of training, but continues after problems that training refuses. Every array is read once, and only a few
videos are in memory; of each video its mean per channel is kept, 4 KB per stream of 1024 channels.
"""

import errno
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from command_line.progress import progress
from data_tools.check.annotations import annotation_findings
from data_tools.check.consistency import consistency_findings
from data_tools.check.features import feature_findings
from data_tools.check.findings import SHOWN, Finding, exit_code, render, summarize, summarize_by_kind
from data_tools.check.recipe import recipe_findings
from data_tools.check.statistics import MeasuredVideo, measure_video, pooled
from data_tools.check.times import TimedVideo, duration_findings
from data_tools.next_command import training_command
from data_tools.recipe import SetProfile, profile_of, recipe_for
from formats.feature_set import FeatureSet
from formats.inspection import inspect_features
from formats.names import SPLITS, amount
from formats.opening import open_feature_set
from formats.problems import DataError, Kind, Problem
from options import DataOptions, Options, check_training, resolve
from recipes import AUTO
from utils.errors import InputError
from utils.prefetch import prefetch
from utils.snippet_grid import SnippetGrid, frame_rate
from utils.text_table import table

OF_THE_CHECK = {"check_data", "list", "verbose", "num_workers"}  # flags that say how to check, not how to train


@dataclass(frozen=True, kw_only=True)
class DataReport:
    findings: tuple[Finding, ...]
    tables: tuple[str, ...]  # what is in the set

    @property
    def exit_code(self) -> int:
        return exit_code(self.findings)

    def text(self, *, entire: bool) -> str:
        """The report; `entire` with every example of every finding."""
        return "\n\n".join([*self.tables, render(self.findings, shown=None if entire else SHOWN)])


def check_data(
    path: pathlib.Path, options: DataOptions, *, flags: Mapping[str, Any] = MappingProxyType({})
) -> DataReport:
    """Check the entire set, and whether the recipe fits it. Raises InputError when it can't be understood at all.

    With --skip_unusable, what training would leave out is a warning. `flags` were typed: the numbers that training with them
    would have are judged.
    """
    reported: list[Problem] = []
    feature_set = open_feature_set(path, options, report=reported.append)
    videos, broken = _measure(feature_set, options)
    timed = _timed(feature_set, videos, options.fps)
    grid = options.grid
    profile = _profile(feature_set, videos, options)
    judged = recipe_for(profile, flags).options(flags) if profile else resolve(flags)
    findings = (
        *consistency_findings(feature_set, reported, options),
        *_broken_features(broken, skip_unusable=options.skip_unusable),
        *feature_findings(videos),
        *duration_findings(list(timed.values()), grid=grid),
        *annotation_findings(list(timed.values()), grid=grid),
    )
    refused = exit_code(findings) == 2
    command, advised = (None, None) if refused or not profile else _command(profile, flags)
    findings = (*findings, *recipe_findings(videos, judged, advised=advised))
    classes = amount(len(feature_set.classes), "class")
    where = f"{path}: layout {feature_set.layout}, {classes}, ground truth {feature_set.ground_truth}"
    tables = (
        _splits_table(feature_set, videos, timed=timed, grid=grid),
        _streams_table(videos, options.streams),
        _class_table(feature_set),
    )
    return DataReport(findings=findings, tables=(where, *tables, *([command] if command else [])))


def _profile(feature_set: FeatureSet, videos: Sequence[MeasuredVideo], options: DataOptions) -> SetProfile | None:
    """What the training videos are like that can be used; None if there are none."""
    known = feature_set.annotations
    lengths = {v.video_id: v.num_snippets for v in videos if v.split == "train" and v.video_id in known}
    return profile_of(lengths, known, options, feature_size=options.feature_size) if lengths else None


def _command(profile: SetProfile, flags: Mapping[str, Any]) -> tuple[str, Options | None]:
    """The command to train with, by the recipe that was typed or the one that fits, and why; its options, if it can."""
    taken = recipe_for(profile, {"recipe": AUTO, **flags})
    given = {name: value for name, value in flags.items() if name not in OF_THE_CHECK}
    try:
        options = taken.options(given)
        check_training(given, options)
    except InputError as error:
        return f"next: --recipe {taken.name} can't train with these flags: {error}; omit it", None
    return "\n".join([training_command(given, taken), "; ".join(taken.reasons)]).rstrip(), options


def _measure(feature_set: FeatureSet, options: DataOptions) -> tuple[list[MeasuredVideo], list[Problem]]:
    """Measure the videos of both splits that have features; also return the problems of those that can't be used."""
    storage, streams = feature_set.storage, options.streams
    work = [
        (split, video)
        for split in SPLITS
        for video in feature_set.names[split]
        if storage.find(split, video) and not storage.missing(split, video, streams)
    ]

    def measure(key: tuple[str, str]) -> MeasuredVideo | Problem:
        split, video = key
        try:
            files = inspect_features(feature_set, split, video, options)
            return measure_video(files, split=split, streams=streams)
        except DataError as error:
            return error.problem.of(video)
        except OSError as error:
            if error.filename is None or error.errno == errno.ENOMEM:
                raise
            return Problem(
                kind=Kind.UNREADABLE,
                where=str(error.filename),
                what=f"can't be read ({error.strerror})",
                fix="check the file and the disk",
                video=video,
            )

    measuring = prefetch(measure, work, threads=options.num_workers)
    results = list(progress(measuring, desc="checking", unit="video", total=len(work)))
    measured = [result for result in results if isinstance(result, MeasuredVideo)]
    return measured, [result for result in results if isinstance(result, Problem)]


def _broken_features(problems: Sequence[Problem], *, skip_unusable: bool) -> Iterator[Finding]:
    """Findings of features that can't be used: errors, or warnings where training leaves the video out."""
    left_out = [problem for problem in problems if skip_unusable and problem.kind.skippable]
    others = [problem for problem in problems if problem not in left_out]
    yield from summarize_by_kind("error", "features that can't be used", others)
    examples = [str(problem) for problem in left_out]
    yield from summarize("warning", "features that can't be used", examples, advice="left out, with --skip_unusable")


def _timed(
    feature_set: FeatureSet, videos: Sequence[MeasuredVideo], fps: float | None
) -> dict[tuple[str, str], TimedVideo]:
    """{(split, name): video} of the annotated ones among `videos`."""
    timed = {}
    for video in videos:
        entry = feature_set.annotations.get(video.video_id)
        if entry:
            timed[video.split, video.video_id] = TimedVideo(
                video_id=video.video_id,
                annotation=entry,
                num_snippets=video.num_snippets,
                fps=frame_rate(fps, entry.fps),
            )
    return timed


def _splits_table(
    feature_set: FeatureSet,
    videos: Sequence[MeasuredVideo],
    *,
    timed: dict[tuple[str, str], TimedVideo],
    grid: SnippetGrid,
) -> str:
    rows = []
    for split in SPLITS:
        names = feature_set.names[split]
        lengths = [video.num_snippets for video in videos if video.split == split]
        span = [min(lengths), f"{np.median(lengths):.0f}", max(lengths)] if lengths else ["-"] * 3
        seconds = sum(float(grid.seconds(v.num_snippets, v.fps)) for (of, _), v in timed.items() if of == split)
        instances = sum(len(feature_set.annotations[v].instances) for v in names if v in feature_set.annotations)
        types = {str(stream.dtype) for v in videos if v.split == split for stream in v.streams.values()}
        stored = ", ".join(sorted(types)) or "-"
        rows.append([split, stored, len(names), len(lengths), *span, f"{seconds / 3600:.2f}", instances])
    header = ["split", "type", "videos", "readable", "snippets min", "median", "max", "hours", "instances"]
    return table(header, rows, names=2)


def _streams_table(videos: Sequence[MeasuredVideo], streams: tuple[str, ...]) -> str:
    rows = []
    for split in SPLITS:
        for name in streams:
            total = pooled(video.streams[name] for video in videos if video.split == split)
            rows.append([split, name, f"{total.mean:.4g}", f"{total.std:.4g}", f"{100 * total.zeros:.1f} %"])
    return table(["split", "stream", "mean", "std", "zeros"], rows, names=2)


def _class_table(feature_set: FeatureSet) -> str:
    counts = []  # videos and instances by class
    for split in SPLITS:
        entries = [feature_set.annotations[v] for v in feature_set.names[split] if v in feature_set.annotations]
        counts.append(Counter(label for entry in entries for label in entry.labels))
        counts.append(Counter(instance.label for entry in entries for instance in entry.instances))
    rows = [[label, *(count[label] for count in counts)] for label in feature_set.classes]
    return table(["class", "training videos", "instances", "test videos", "instances"], rows)
