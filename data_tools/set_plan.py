"""The plan of a set: which videos it has in which split, from their features and a table of labels.

tables = read_tables(flags)                                     # raises InputError with every line that is wrong
plan = plan_set(stored, tables, options.data, flags, folder=folder)
plan.by_split, plan.annotations                                 # what is written
print(plan.report(out, flags))                                  # what it holds, what was left out, the command to train
"""

import argparse
import pathlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from command_line.progress import progress
from data_tools.check.annotations import annotation_findings
from data_tools.check.times import TimedVideo
from data_tools.label_tables import VideoLabels, read_labels, read_segments, refuse
from data_tools.next_command import GRID_FLAGS, next_command
from data_tools.recipe import profile_of
from formats.annotations import Instance, VideoAnnotation, labels_of
from formats.array_files import STREAMS, StoredArray, plain_shape
from formats.feature_files import FeatureFiles, Located, open_streams
from formats.inspection import cut_lines
from formats.names import SPLITS, amount, fold_video, known_name, shown, splits_of, unlabelled_group
from formats.problems import DataError, Problem
from formats.spelling import similar_to, spelling_warnings
from options import DataOptions
from utils.errors import InputError
from utils.snippet_grid import frame_rate

TEST_FRACTION, SEED = 0.3, 0  # of the draw, where the table names no subsets


def add_table_flags(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """The flags that `plan_set` reads."""
    path = pathlib.Path
    parser.add_argument(
        "--labels",
        type=path,
        required=required,
        metavar="CSV",
        help="columns video,label[;label] and optionally subset",
    )
    parser.add_argument(
        "--annotations", type=path, metavar="CSV", help="video,label,start,end in seconds, to measure mAP with"
    )
    parser.add_argument(
        "--test_fraction", type=float, metavar="X", help=f"share of the videos to test on (default: {TEST_FRACTION})"
    )
    parser.add_argument("--seed", type=int, metavar="N", help=f"seed for drawing the test videos (default: {SEED})")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What the user's tables say of videos."""

    path: pathlib.Path  # of the table of labels, for messages
    labels: Mapping[str, VideoLabels]
    segments: Mapping[str, Sequence[Instance]]

    def renamed(self, names: Mapping[str, str]) -> "Tables":
        """The same of videos that are called otherwise, {name in the tables: name}; without those that `names` lacks."""
        labels = {names[video]: entry for video, entry in self.labels.items() if video in names}
        segments = {names[video]: instances for video, instances in self.segments.items() if video in names}
        return Tables(path=self.path, labels=labels, segments=segments)


def read_tables(flags: Mapping[str, Any]) -> Tables:
    """The tables that --labels and --annotations name. Raises InputError with every line that is wrong."""
    table = flags["labels"]
    labels = read_labels(table)
    segments = read_segments(flags["annotations"], labels, table) if "annotations" in flags else {}
    return Tables(path=table, labels=labels, segments=segments)


@dataclass(frozen=True, kw_only=True)
class SetPlan:
    """The videos of a set that is going to be written."""

    names: Mapping[str, tuple[str, ...]]  # {split: videos}
    files: Mapping[str, FeatureFiles]  # of every video
    annotations: Mapping[str, VideoAnnotation]
    labels: Mapping[str, VideoLabels]
    segments: Mapping[str, Sequence[Instance]]
    options: DataOptions
    feature_size: int
    lines: tuple[str, ...]  # what was left out, warnings

    @property
    def by_split(self) -> dict[str, list[FeatureFiles]]:
        return {split: [self.files[video] for video in members] for split, members in self.names.items()}

    def report(self, out: pathlib.Path, flags: Mapping[str, Any], *, timed: bool = False) -> str:
        """What the set holds, what was left out, and the command that trains on it; `timed`: it states its frame rates."""
        lengths = {video: len(features) for video, features in self.files.items()}
        untrained = labels_of(self.annotations, self.names["test"]) - labels_of(self.annotations, self.names["train"])
        trained = {video: lengths[video] for video in self.names["train"]}
        size = self.feature_size
        command = next_command(
            out,
            profile=profile_of(trained, self.annotations, self.options, feature_size=size) if trained else None,
            flags={name: flags[name] for name in ("modal", *GRID_FLAGS) if name in flags},
            skip=bool(untrained),
            timed=timed,
        )
        summary = _summary(out, names=self.names, labels=self.labels, segments=self.segments, lengths=lengths)
        return "\n".join([summary, *self.lines, command])


def plan_set(
    stored: Mapping[str, Located],
    tables: Tables,
    options: DataOptions,
    flags: Mapping[str, Any],
    *,
    folder: pathlib.Path,
) -> SetPlan:
    """Plan a set of the videos in `stored`, {video: its files} in `folder`, that the tables name. Raises InputError."""
    table, labels = tables.path, tables.labels
    located = {video: stored[name] for video in labels if (name := known_name(video, stored)) is not None}
    lost = [video for video in labels if video not in located]
    if not options.skip_unusable or len(lost) == len(labels):
        _refuse_lost(lost, labels, stored, table=table, folder=folder)
    labels = {video: entry for video, entry in labels.items() if video in located}
    segments = {video: instances for video, instances in tables.segments.items() if video in located}
    names = _splits(labels, table=table, flags=flags, marked=segments)
    used = [video for split in SPLITS for video in names[split]]
    feature_size = flags.get("feature_size") or _feature_size([located[video] for video in used], options.streams)
    files, unequal = _inspect(
        {video: located[video] for video in used},
        streams=options.streams,
        feature_size=feature_size,
        skip_unusable=options.skip_unusable,
    )
    left = {split: tuple(video for video in members if video in files) for split, members in names.items()}
    for split in SPLITS:
        if names[split] and not left[split]:
            raise InputError(
                f"{table}: no {split} video is left, all have streams of different length; extract them again"
            )
    used = [video for video in used if video in files]
    annotations = {
        video: VideoAnnotation(
            subset="", instances=tuple(segments.get(video, ())), weak_labels=frozenset(labels[video].labels)
        )
        for video in used
    }
    lengths = {video: len(features) for video, features in files.items()}
    cut = [video for video, features in files.items() if features.cut]
    lines = (
        *_skipped("missing features", lost),
        *_skipped("streams of different length", unequal),
        *_left_out(labels, located, stored, [*used, *unequal], table),
        *cut_lines(cut),
        *_warnings(annotations, left, lengths, options),
    )
    return SetPlan(
        names=left,
        files=files,
        annotations=annotations,
        labels=labels,
        segments=segments,
        options=options,
        feature_size=feature_size,
        lines=lines,
    )


def split_videos(
    labels: Mapping[str, Sequence[str]], test_fraction: float, seed: int, *, first: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Draw the test videos: about the same share of each class, never a class's last video, those in `first` before others.

    Raises InputError if none can be drawn.
    """
    names = list(labels)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    order.sort(key=lambda video: video not in first)
    total = Counter(label for video_labels in labels.values() for label in video_labels)
    remaining = total.copy()  # for training
    wanted = max(1, round(test_fraction * len(labels)))
    test: set[str] = set()
    for strict in (True, False):  # first in proportion, then any that can be spared
        for video in order:
            fits = all(
                remaining[c] > 1 and (not strict or total[c] - remaining[c] < test_fraction * total[c])
                for c in labels[video]
            )
            if fits and len(test) < wanted and video not in test and labels[video]:
                test.add(video)
                remaining.subtract(labels[video])
    if not test:
        raise InputError("no video can be used for test: every class needs a second video; add some or fix the labels")
    return {"train": tuple(v for v in labels if v not in test), "test": tuple(v for v in labels if v in test)}


def _refuse_lost(
    lost: Sequence[str],
    labels: Mapping[str, VideoLabels],
    stored: Mapping[str, Located],
    *,
    table: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    """Refuse videos without features, naming those that are there under another name, or some that are there."""
    if not lost:
        return
    alike: dict[str, list[str]] = {}
    for name in stored:
        alike.setdefault(fold_video(name), []).append(name)

    def mistake(video: str) -> str:
        similar = alike.get(fold_video(video), [])
        there = f"there are some of {shown(similar)}: write the name so" if similar else f"it has {shown(stored)}"
        fix = "" if similar else "; get them, remove the line, or leave such videos out with --skip_unusable"
        return f"{table} line {labels[video].line}: no features for video '{video}' in {folder}, {there}{fix}"

    refuse([mistake(video) for video in lost])


def _splits(
    labels: Mapping[str, VideoLabels], *, table: pathlib.Path, flags: Mapping[str, Any], marked: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """The splits that the table states; else random ones, with videos with segments first in test.

    Without any label, or with no subset but test, all videos are for inference alone.
    """
    groups = {entry.subset for entry in labels.values()}
    labelled = {entry.subset for entry in labels.values() if entry.labels}
    if groups == {"test"} or (groups == {""} and not labelled):
        return {"train": (), "test": tuple(labels)}
    if groups == {""}:
        fraction, seed = flags.get("test_fraction", TEST_FRACTION), flags.get("seed", SEED)
        if not 0 < fraction < 1:
            raise InputError(f"--test_fraction {fraction:g}: must be between 0 and 1")
        if seed < 0:
            raise InputError(f"--seed {seed}: must be 0 or more")
        _check_labelled(labels, table, labels)
        return split_videos({v: entry.labels for v, entry in labels.items()}, fraction, seed, first=marked)
    refuse(
        [
            f"{table} line {entry.line}: video '{video}' has no subset, but others do; give it one"
            for video, entry in labels.items()
            if not entry.subset
        ]
    )
    if "test_fraction" in flags:
        raise InputError(f"--test_fraction: {table} says which videos are for test; drop the flag or its column subset")
    advice = ": its column subset should have train and test alone"
    unused = unlabelled_group(groups, labelled, where=str(table), advice=advice)
    split_of = splits_of(groups - {unused})
    names = {s: tuple(v for v, entry in labels.items() if split_of.get(entry.subset) == s) for s in SPLITS}
    for split in SPLITS:
        if not names[split]:
            raise InputError(f"{table}: its column subset names no {split} video; name some, or drop the column")
    _check_labelled(labels, table, names["train"])
    return names


def _check_labelled(labels: Mapping[str, VideoLabels], table: pathlib.Path, videos: Iterable[str]) -> None:
    refuse(
        [
            f"{table} line {labels[video].line}: video '{video}' has no label; give it one or remove the line"
            for video in videos
            if not labels[video].labels
        ]
    )


def _skipped(why: str, videos: Sequence[str]) -> Iterator[str]:
    if videos:
        yield f"left out, {why}: {len(videos)}, such as {shown(videos[:1])}"


def _left_out(
    labels: Mapping[str, VideoLabels],
    located: Mapping[str, Located],
    stored: Mapping[str, Located],
    used: Sequence[str],
    table: pathlib.Path,
) -> Iterator[str]:
    unused = sorted(labels.keys() - set(used))
    if unused:
        yield f"left out: {amount(len(unused), 'video')} of subset {labels[unused[0]].subset}, which has no labels"
    places = {str(place) for of_video in located.values() for place in of_video.values()}
    unnamed = sorted(v for v, of_video in stored.items() if not places & set(map(str, of_video.values())))
    if unnamed:
        count, such = amount(len(unnamed), "video"), shown(unnamed[:1])
        yield f"left out: {count} with features that {table} does not name, such as {such}"


def _warnings(
    annotations: Mapping[str, VideoAnnotation],
    names: Mapping[str, Sequence[str]],
    lengths: Mapping[str, int],
    options: DataOptions,
) -> Iterator[str]:
    """What --check_data would say of labels and times."""
    for warning in spelling_warnings(labels_of(annotations, annotations)):
        yield f"warning: {warning}"
    trained = labels_of(annotations, names["train"])
    for label in sorted(labels_of(annotations, names["test"]) - trained) if names["train"] else ():
        yield f"warning: test videos have the label {shown([label])}, which no training video has{similar_to(label, trained)}"
    fps = frame_rate(options.fps, None)
    timed = [
        TimedVideo(video_id=video, annotation=entry, num_snippets=lengths[video], fps=fps)
        for video, entry in annotations.items()
    ]
    for finding in annotation_findings(timed, grid=options.grid):
        if finding.severity == "warning":
            yield f"warning: {finding.title} ({finding.count}), such as {finding.examples[0]}"


def _feature_size(located: Sequence[Located], streams: tuple[str, ...]) -> int:
    """Channels per stream, which all videos must have. Raises InputError when that is ambiguous."""
    (array, shape), *others = [_first_array(video) for video in located]
    if len(shape) != 2:
        raise InputError(f"{array}: shape {shape}, expected [snippets, channels]; extract it again")
    _check_not_transposed(array, [shape, *(other for _, other in others)])
    joint = "joint" in open_streams(located[0])
    default = DataOptions.feature_size
    if not joint:
        return shape[1]
    if len(streams) == 1 and shape[1] in (default, len(STREAMS) * default):
        return default
    if len(streams) == 1:
        raise InputError(
            f"{array}: are its {shape[1]} channels one stream, or both side by side? Give --feature_size {shape[1]} or "
            f"{shape[1] // 2}"
        )
    if shape[1] % len(STREAMS):
        raise InputError(
            f"{array}: {shape[1]} channels are not two streams side by side; give --modal rgb or flow if it is one stream"
        )
    return shape[1] // len(STREAMS)


def _first_array(located: Located) -> tuple[StoredArray, tuple[int, ...]]:
    """A video's first array and its shape."""
    arrays = open_streams(located)
    array = arrays.get("joint") or next(iter(arrays.values()))
    return array, plain_shape(array.header()[0])


def _check_not_transposed(array: StoredArray, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise InputError if the arrays look like [channels, snippets]: all of one length, at different widths.

    Where all have one shape, its numbers decide: widths of features are multiples of 64, lengths seldom are.
    """
    rows, columns = ({shape[axis] for shape in shapes if len(shape) == 2} for axis in (0, 1))
    first, second = shapes[0]
    fixed = len(rows) == len(columns) == 1
    if (len(rows) == 1 and len(columns) > 1) or (fixed and first % 64 == 0 and second % 64 and second < first):
        unless = f", or give --feature_size if {second} is the number of channels" if fixed else ""
        raise InputError(
            f"{array}: shape {shapes[0]}, and every array has {first} rows: they may be transposed, [snippets, channels] is "
            f"wanted; save them the other way round{unless}"
        )


def _inspect(
    located: Mapping[str, Located], *, streams: tuple[str, ...], feature_size: int, skip_unusable: bool
) -> tuple[dict[str, FeatureFiles], list[str]]:
    """Open the features of all videos; also return the videos that `skip_unusable` leaves out.

    Raises DataError with every other problem, or when no video is left.
    """
    files: dict[str, FeatureFiles] = {}
    problems: list[Problem] = []
    for video, places in progress(located.items(), desc="inspecting features", unit="video"):
        try:
            files[video] = FeatureFiles(video, places, streams=streams, feature_size=feature_size)
        except DataError as error:
            problems.append(error.problem.of(video))
    skipped = [problem for problem in problems if skip_unusable and problem.kind.costs_the_video]
    fatal = [problem for problem in problems if problem not in skipped] or ([] if files else problems)
    if fatal:
        raise DataError(fatal[0], others=fatal[1:])
    return files, [problem.video for problem in skipped]


def _summary(
    out: pathlib.Path,
    *,
    names: Mapping[str, Sequence[str]],
    labels: Mapping[str, VideoLabels],
    segments: Mapping[str, Sequence[object]],
    lengths: Mapping[str, int],
) -> str:
    classes = {label for video in lengths for label in labels[video].labels}
    counts = f"{len(names['train']):,} training and {amount(len(names['test']), 'test video')}"
    if not names["train"]:
        counts = f"{amount(len(names['test']), 'video')} for inference alone"
    span = f"{min(lengths.values())} to {max(lengths.values())} snippets"
    lines = [f"{out}: {counts}, {amount(len(classes), 'class')}, {span}"]
    marked = [video for video in names["test"] if video in segments]
    if not marked:
        lines.append("no test video has segments: mAP will not be computed, everything else works")
    else:
        bare = [v for v in names["test"] if v not in segments and labels[v].labels]
        count = amount(sum(len(segments[v]) for v in marked), "segment")
        lines.append(f"{count} in {amount(len(marked), 'test video')} to measure mAP with")
        if bare:
            lines.append(
                f"not evaluated: {amount(len(bare), 'test video')} with labels but no segments, such as '{bare[0]}'"
            )
    return "\n".join(lines)
