"""Preparation of a set in the "thumos" layout, ready to train on, from your own features and a table of labels.

python -m data_tools.prepare --features DIR --labels labels.csv --out DATA [--annotations segments.csv]

DIR holds rgb/VIDEO.npy and flow/VIDEO.npy, or VIDEO.npy with both side by side (.npz, .pt too). Training only needs video-level
labels. Segments, where somebody marked them, only serve to measure mAP on the test videos.
"""

import pathlib
import shlex
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from data_tools.label_tables import VideoLabels, read_labels, read_segments
from data_tools.set_writer import write_set
from formats.annotations import VideoAnnotation
from formats.array_files import STREAMS, plain_shape
from formats.feature_files import FeatureFiles, Located, open_streams
from formats.feature_folders import features_in
from formats.names import SPLITS, splits_of
from formats.problems import raise_problem
from formats.regular_files import check_regular
from options import FLAGS, DataOptions, resolve
from utils.console import run_tool
from utils.errors import InputError
from utils.flags import Parser

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
    parser.add_options(("modal", "feature_size"))
    flags = vars(parser.parse_args(arguments))
    streams = resolve({name: flags[name] for name in ("modal", "feature_size") if name in flags}).data.streams
    folder, table, out = flags["features"], flags["labels"], flags["out"]
    located = _features(folder, table=table, out=out)
    labels = read_labels(table)
    _check_videos(labels, located, table=table, folder=folder)
    segments = read_segments(flags["annotations"], labels, table) if "annotations" in flags else {}
    names = _splits(labels, table=table, flags=flags, marked=segments)
    first = next(iter(labels))
    feature_size = flags.get("feature_size") or _feature_size(located[first], streams)
    progress = tqdm(labels, desc="inspecting features", unit="video", disable=None)
    files = {v: FeatureFiles(v, located[v], streams=streams, feature_size=feature_size) for v in progress}
    annotations = {
        video: VideoAnnotation(subset="", instances=tuple(segments.get(video, ())), weak_labels=frozenset(entry.labels))
        for video, entry in labels.items()
    }
    origin = f"prepared from {folder.resolve()} and {table.resolve()}"
    write_set(out, {s: [files[v] for v in names[s]] for s in SPLITS}, annotations, streams=streams, origin=origin)
    lengths = {video: len(features) for video, features in files.items()}
    print(_summary(out, names=names, labels=labels, segments=segments, lengths=lengths))
    unnamed = sorted(located.keys() - labels.keys())
    if unnamed:
        print(f"left out: {len(unnamed)} videos with features that {table} does not name, such as '{unnamed[0]}'")
    training_lengths = [lengths[video] for video in names["train"]]
    print(_next_command(out, streams=streams, feature_size=feature_size, lengths=training_lengths))


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
    for place in (folder.resolve(), table.resolve()):
        if place.is_relative_to(out.resolve()):
            raise InputError(f"--out {out}: holds {place}, which the set is made from; name another folder")
    videos = features_in(folder, raise_problem)
    if not videos:
        wanted = " or ".join(f"{stream}/VIDEO.npy" for stream in STREAMS)
        raise InputError(f"--features {folder}: holds no features; expected {wanted}, or VIDEO.npy with both")
    return videos


def _check_videos(
    labels: Mapping[str, VideoLabels],
    located: Mapping[str, Located],
    *,
    table: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    missing = [video for video in labels if video not in located]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        has_suffix = pathlib.PurePath(missing[0]).stem in located
        fix = "write names without the file's suffix" if has_suffix else "get them or remove the line"
        raise InputError(
            f"{table} line {labels[missing[0]].line}: no features for video '{missing[0]}'{more} in {folder}; {fix}"
        )


def _splits(
    labels: Mapping[str, VideoLabels], *, table: pathlib.Path, flags: Mapping[str, Any], marked: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """The splits that the table states; else random ones, with videos with segments first in test."""
    groups = {entry.subset for entry in labels.values()}
    if groups == {""}:
        fraction, seed = flags.get("test_fraction", TEST_FRACTION), flags.get("seed", SEED)
        if not 0 < fraction < 1:
            raise InputError(f"--test_fraction {fraction:g}: must be between 0 and 1")
        if seed < 0:
            raise InputError(f"--seed {seed}: must be 0 or more")
        _check_labelled(labels, table, labels)
        return split_videos({v: entry.labels for v, entry in labels.items()}, fraction, seed, first=marked)
    if "" in groups:
        video = next(v for v, entry in labels.items() if not entry.subset)
        raise InputError(
            f"{table} line {labels[video].line}: video '{video}' has no subset, but others do; give it one"
        )
    if "test_fraction" in flags:
        raise InputError(f"--test_fraction: {table} says which videos are for test; drop the flag or its column subset")
    split_of = splits_of(groups)
    names = {s: tuple(v for v, entry in labels.items() if split_of[entry.subset] == s) for s in SPLITS}
    for split in SPLITS:
        if not names[split]:
            raise InputError(f"{table}: its column subset names no {split} video; name some, or drop the column")
    _check_labelled(labels, table, names["train"])
    known = {label for video in names["train"] for label in labels[video].labels}
    for video in names["test"]:
        for label in labels[video].labels:
            if label not in known:
                where = f"{table} line {labels[video].line}: test video '{video}'"
                raise InputError(
                    f"{where} has the label '{label}', which no training video has; fix the spelling or remove it"
                )
    return names


def _check_labelled(labels: Mapping[str, VideoLabels], table: pathlib.Path, videos: Iterable[str]) -> None:
    for video in videos:
        if not labels[video].labels:
            raise InputError(
                f"{table} line {labels[video].line}: video '{video}' has no label; give it one or remove the line"
            )


def _feature_size(located: Located, streams: tuple[str, ...]) -> int:
    """Channels per stream in this video, which the others must have too. Raises InputError when that is ambiguous."""
    arrays = open_streams(located)
    array = arrays.get("joint") or next(iter(arrays.values()))
    shape = plain_shape(array.header()[0])
    if len(shape) != 2:
        raise InputError(f"{array}: shape {shape}, expected [snippets, channels]; extract it again")
    default = DataOptions.feature_size
    if "joint" not in arrays:
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


def _summary(
    out: pathlib.Path,
    *,
    names: Mapping[str, Sequence[str]],
    labels: Mapping[str, VideoLabels],
    segments: Mapping[str, Sequence[object]],
    lengths: Mapping[str, int],
) -> str:
    classes = {label for entry in labels.values() for label in entry.labels}
    lines = [
        f"{out}: {len(names['train'])} training and {len(names['test'])} test videos, {len(classes)} classes, "
        f"{min(lengths.values())} to {max(lengths.values())} snippets"
    ]
    marked = [video for video in names["test"] if video in segments]
    if not marked:
        lines.append("no test video has segments: training and inference work, but mAP will not be computed")
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


def _next_command(out: pathlib.Path, *, streams: tuple[str, ...], feature_size: int, lengths: Sequence[int]) -> str:
    """The command that trains, with T about as long as the longer training videos and no longer than the recipe's."""
    default = DataOptions()
    snippets = int(np.clip(np.quantile(lengths, 0.9), 32, default.num_segments))
    flags = [f"--data_path {shlex.quote(str(out))}", f"--num_segments {snippets}"]
    if feature_size != default.feature_size:
        flags.append(f"--feature_size {feature_size}")
    if len(streams) == 1:
        flags.append(f"--modal {streams[0]}")
    return f"next: bash scripts/train.sh {' '.join(flags)} (and --snippet_frames, --snippet_stride, --fps of your features)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
