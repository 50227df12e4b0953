"""Preparation of a set in the "thumos" layout, ready to train on, from your own features and a table of labels.

python -m data_tools.prepare --features DIR --labels labels.csv --out DATA [--annotations segments.csv]

DIR holds rgb/VIDEO.npy and flow/VIDEO.npy, or VIDEO.npy with both side by side, or any other form in docs/data.md, HDF5 too.
Training only needs video-level labels. Segments, where somebody marked them, only serve to measure mAP on the test videos.
Videos without labels make a set for inference alone.
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("data_tools.prepare")  # loading the rest takes a moment

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from command_line.console import run_tool
from command_line.flags import Parser
from command_line.progress import progress
from data_tools.check.annotations import annotation_findings
from data_tools.check.times import TimedVideo
from data_tools.label_tables import VideoLabels, read_labels, read_segments, refuse
from data_tools.next_command import GRID_FLAGS, next_command
from data_tools.set_writer import write_set
from formats.annotations import VideoAnnotation, labels_of
from formats.array_files import STREAMS, StoredArray, plain_shape
from formats.feature_files import FeatureFiles, Located, open_streams
from formats.feature_folders import features_in
from formats.inspection import cut_lines
from formats.layouts import listing
from formats.names import SPLITS, fold_video, known_name, shown, splits_of, unlabelled_group
from formats.problems import DataError, Problem, raise_problem
from formats.regular_files import check_regular
from formats.spelling import similar_to, spelling_warnings
from formats.unlabelled import features_in_any_form
from options import FLAGS, DataOptions, resolve
from utils.errors import InputError
from utils.snippet_grid import frame_rate

DATA_FLAGS = ("modal", "feature_size", "skip_unusable", *GRID_FLAGS)
TEST_FRACTION, SEED = 0.3, 0  # of the draw, where the table names no subsets


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 interrupted, 2 invalid input."""
    return run_tool("data_tools.prepare", prepare, arguments, interrupted="interrupted; the same command continues")


def prepare(arguments: Sequence[str]) -> None:
    parser = Parser("data_tools.prepare", "Makes a set to train on from features and a table of labels.", FLAGS)
    path = pathlib.Path
    parser.add_argument(
        "--features", type=path, required=True, metavar="DIR", help="rgb/ and flow/ inside, or joint files"
    )
    parser.add_argument(
        "--labels", type=path, required=True, metavar="CSV", help="columns video,label[;label] and optionally subset"
    )
    parser.add_argument("--out", type=path, required=True, metavar="DATA", help="folder to write")
    parser.add_argument(
        "--annotations", type=path, metavar="CSV", help="video,label,start,end in seconds, to measure mAP with"
    )
    parser.add_argument(
        "--test_fraction", type=float, metavar="X", help=f"share of the videos to test on (default: {TEST_FRACTION})"
    )
    parser.add_argument("--seed", type=int, metavar="N", help=f"seed for drawing the test videos (default: {SEED})")
    parser.add_options(DATA_FLAGS)
    flags = vars(parser.parse_args(arguments))
    options = resolve({name: flags[name] for name in DATA_FLAGS if name in flags}).data
    streams, folder, table, out = options.streams, flags["features"], flags["labels"], flags["out"]
    stored = _features(folder, table=table, out=out)
    labels = read_labels(table)
    located = {video: stored[name] for video in labels if (name := known_name(video, stored)) is not None}
    segments = read_segments(flags["annotations"], labels, table) if "annotations" in flags else {}
    lost = [video for video in labels if video not in located]
    if not options.skip_unusable or len(lost) == len(labels):
        _refuse_lost(lost, labels, stored, table=table, folder=folder)
    labels = {video: entry for video, entry in labels.items() if video in located}
    segments = {video: instances for video, instances in segments.items() if video in located}
    names = _splits(labels, table=table, flags=flags, marked=segments)
    used = [video for split in SPLITS for video in names[split]]
    feature_size = flags.get("feature_size") or _feature_size([located[video] for video in used], streams)
    files, unequal = _inspect(
        {video: located[video] for video in used},
        streams=streams,
        feature_size=feature_size,
        skip_unusable=options.skip_unusable,
    )
    left = {split: tuple(video for video in members if video in files) for split, members in names.items()}
    for split in SPLITS:
        if names[split] and not left[split]:
            raise InputError(
                f"{table}: no {split} video is left, all have streams of different length; extract them again"
            )
    names = left
    used = [video for video in used if video in files]
    annotations = {
        video: VideoAnnotation(
            subset="", instances=tuple(segments.get(video, ())), weak_labels=frozenset(labels[video].labels)
        )
        for video in used
    }
    origin = f"prepared from {folder.resolve()} and {table.resolve()}"
    write_set(out, {s: [files[v] for v in names[s]] for s in SPLITS}, annotations, streams=streams, origin=origin)
    lengths = {video: len(features) for video, features in files.items()}
    print(_summary(out, names=names, labels=labels, segments=segments, lengths=lengths))
    cut = [video for video, features in files.items() if features.cut]
    for line in (
        *_skipped("missing features", lost),
        *_skipped("streams of different length", unequal),
        *_left_out(labels, located, stored, [*used, *unequal], table),
        *cut_lines(cut),
        *_warnings(annotations, names, lengths, options),
    ):
        print(line)
    untrained = labels_of(annotations, names["test"]) - labels_of(annotations, names["train"])
    print(next_command(out, names=names, lengths=lengths, feature_size=feature_size, flags=flags, skip=bool(untrained)))


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


def _features(folder: pathlib.Path, *, table: pathlib.Path, out: pathlib.Path) -> dict[str, Located]:
    if not folder.is_dir():
        raise InputError(f"--features {folder}: no such folder; check the path")
    check_regular(table)
    target = os.path.realpath(out)  # which a loop of links does not break, unlike resolve()
    for place in (folder.resolve(), table.resolve()):
        if place.is_relative_to(target):
            raise InputError(f"--out {out}: holds {place}, which the set is made from; name another folder")
    # VIDEO_rgb.npy without its partner is a stream of VIDEO, unless the table names it in full.
    videos = features_in(folder, raise_problem)
    videos = {**features_in_any_form(folder, (lambda _: None) if videos else raise_problem), **videos}
    if not videos:
        wanted = " and ".join(f"{stream}/VIDEO.npy" for stream in STREAMS)
        raise InputError(
            f"--features {folder}: holds no features; expected {wanted}, or VIDEO.npy with both, or HDF5 files; it has "
            f"{listing(folder)}"
        )
    return videos


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
        yield f"left out: {len(unused)} videos of subset {labels[unused[0]].subset}, which has no labels"
    places = {str(place) for of_video in located.values() for place in of_video.values()}
    unnamed = sorted(v for v, of_video in stored.items() if not places & set(map(str, of_video.values())))
    if unnamed:
        yield f"left out: {len(unnamed)} videos with features that {table} does not name, such as {shown(unnamed[:1])}"


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
    counts = f"{len(names['train'])} training and {len(names['test'])} test videos"
    if not names["train"]:
        counts = f"{len(names['test'])} videos for inference alone"
    span = f"{min(lengths.values())} to {max(lengths.values())} snippets"
    lines = [f"{out}: {counts}, {len(classes)} classes, {span}"]
    marked = [video for video in names["test"] if video in segments]
    if not marked:
        lines.append("no test video has segments: mAP will not be computed, everything else works")
    else:
        bare = [v for v in names["test"] if v not in segments and labels[v].labels]
        lines.append(
            f"{sum(len(segments[v]) for v in marked)} segments in {len(marked)} test videos to measure mAP with"
        )
        if bare:
            lines.append(
                f"{len(bare)} test videos have labels but no segments, such as '{bare[0]}': they are not evaluated"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
