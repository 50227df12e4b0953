"""The commands about result files that `python -m eval` has beside eval.detection: diagnose and compare.

    python -m eval diagnose --ground_truth gt.json --detections detections.json [--ties original] [--json]
    python -m eval compare --ground_truth gt.json A.json B.json [--draws 2000] [--seed 0] [--json]

What they print is explained in docs/diagnosis.md.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from command_line.parser import CommandParser
from command_line.progress import Progress
from eval.arguments import RESULT_FILE, add_file_flags, add_output_flags, pair_options
from eval.diagnosis import (
    ACTIVITYNET,
    DEPTH,
    KINDS,
    THUMOS14,
    Buckets,
    ErrorSummary,
    diagnose,
    mean_summary,
    sentence,
    usual_buckets,
)
from eval.files import FilePair, read_pair
from eval.notes import Note, notes_on
from eval.protocols import PROTOCOLS
from eval.statistics import CONFIDENCE, DRAWS, Difference, Estimate, Estimates, paired_bootstrap
from formats.durations import read_durations
from formats.matching_names import VIDEO_FOLDS, match_names
from formats.names import amount, plural
from options import EvaluationOptions
from utils.errors import InputError
from utils.ranges import parse_grid
from utils.segments import Floats, Segments
from utils.text_table import table

PROTOCOL = PROTOCOLS["sal"].name  # by which detections are matched here
BUCKETS = {"thumos14": THUMOS14, "activitynet": ACTIVITYNET}
MOST_DRAWS = 1_000_000


def print_diagnosis(arguments: Sequence[str]) -> None:
    parser = _parser("diagnose", "What kinds of errors a result file has, and what each is worth.")
    parser.add_argument("--detections", required=True, type=pathlib.Path, help=RESULT_FILE)
    parser.add_argument(
        "--tious",
        default="0.5",
        help="tIoU thresholds, first:last:step; numbers are means over them. The diagnosis is defined for 0.5 on THUMOS'14 and "
        "0.5:0.95:0.05 on ActivityNet (default: %(default)s)",
    )
    parser.add_argument(
        "--ties",
        choices=("own", "original"),
        default="own",
        help="which of several instances of the same tIoU an error is about: one of the detection's own label, or the first, "
        "as in the authors' program (default: own)",
    )
    parser.add_argument(
        "--buckets",
        choices=tuple(BUCKETS),
        help="where instances are cut by coverage, length and number (default: by --tious)",
    )
    parser.add_argument(
        "--durations",
        type=pathlib.Path,
        metavar="FILE",
        help="{video: seconds} in JSON, for videos whose duration the ground truth does not state",
    )
    args = parser.parse_args(arguments)
    tious = parse_grid(args.tious)
    pair = read_pair(args.ground_truth, args.detections, pair_options(args))
    durations = _durations(pair, args.durations)
    buckets = BUCKETS[args.buckets] if args.buckets else usual_buckets(tious)
    summary = mean_summary(
        [
            diagnose(
                pair.truth,
                pair.detections,
                tiou=tiou,
                num_classes=len(pair.classes),
                durations=durations,
                ties=args.ties,
                buckets=buckets,
            )
            for tiou in tious
        ]
    )
    notes = [*notes_on(pair), *_without_duration(pair, durations)]
    if args.json:
        content = {
            "sentence": sentence(summary),
            "protocol": PROTOCOL,
            "tious": tious,
            "ties": args.ties,
            "buckets": dataclasses.asdict(buckets),
            "compared": {plural(what): count for what, count in _counts(pair).items()},
            "notes": [{"key": note.key, **note.as_plain()} for note in notes],
            **summary.as_plain(),
        }
        print(json.dumps(content, indent=2, allow_nan=False))
        return
    print(sentence(summary))
    where = f"tIoU {args.tious}" if len(tious) == 1 else f"mean over tIoU {args.tious}"
    entering = f"the best {DEPTH} G of each class, {sum(summary.counts.values()):,.0f}, enter"
    print(f"protocol {PROTOCOL}, {where}: {_compared(pair)}; {entering}")
    for note in notes:
        print(note.text(most=None if args.verbose else 3))
    print(f"\n{_kinds_table(summary)}\n\n{_profile_table(summary)}\n\n{_traits_table(summary, buckets)}")


def print_comparison(arguments: Sequence[str]) -> None:
    parser = _parser("compare", "The difference of two result files, B - A, with its interval over test videos.")
    parser.add_argument("first", type=pathlib.Path, metavar="A.json", help=RESULT_FILE)
    parser.add_argument("second", type=pathlib.Path, metavar="B.json", help="the one to compare with it")
    parser.add_argument(
        "--tious", default=EvaluationOptions.tious, help="tIoU thresholds, first:last:step (default: %(default)s)"
    )
    parser.add_argument(
        "--draws", default=DRAWS, type=int, help="how often to draw as many videos as there are (default: %(default)s)"
    )
    parser.add_argument("--seed", default=0, type=int, help="of the draws (default: %(default)s)")
    args = parser.parse_args(arguments)
    if not 2 <= args.draws <= MOST_DRAWS:
        raise InputError(f"--draws {args.draws}: give 2 to {MOST_DRAWS:,}; {DRAWS:,} are usual")
    if args.seed < 0:
        raise InputError(f"--seed {args.seed}: give a whole number from 0")
    tious = parse_grid(args.tious)
    pairs = [read_pair(args.ground_truth, file, pair_options(args)) for file in (args.first, args.second)]
    if pairs[0].videos != pairs[1].videos:
        raise InputError(f"{args.first} and {args.second} lack different videos; compare them without --missing skip")
    first, second, num_videos = _of_the_same_videos(*pairs)
    classes = pairs[0].classes
    with Progress(total=args.draws, desc="drawing videos", unit="draw", leave=False) as shown:

        def step() -> None:
            shown.update()
            if shown.is_due:
                shown.report()

        found = paired_bootstrap(
            pairs[0].truth,
            first,
            second,
            num_classes=len(classes),
            num_videos=num_videos,
            tious=tious,
            draws=args.draws,
            seed=args.seed,
            step=step,
        )
    drawn = f"{found.draws:,} draws of {amount(num_videos, 'video')}"
    if args.json:
        content = {
            "verdict": _verdict(found.average),
            "protocol": PROTOCOL,
            "confidence": CONFIDENCE,
            "draws": found.draws,
            "seed": args.seed,
            "compared": [{plural(what): count for what, count in _counts(pair).items()} for pair in pairs],
            "notes": [[{"key": note.key, **note.as_plain()} for note in notes_on(pair)] for pair in pairs],
            "difference": _plain(found, classes),
            "first": _plain(found.first, classes),
            "second": _plain(found.second, classes),
        }
        print(json.dumps(content, indent=2, allow_nan=False))
        return
    print(f"{_verdict(found.average)} ({CONFIDENCE:.0%} interval, {drawn}, the same for both)")
    print(f"protocol {PROTOCOL}, tIoU {args.tious}, subset {args.subset}")
    for name, file, pair in zip("AB", (args.first, args.second), pairs, strict=True):
        print(f"{name} is {file}: {_compared(pair)}")
        for note in notes_on(pair):
            print(note.text(most=None if args.verbose else 3))
    print(f"\n{_differences_table(found)}\n\n{_class_differences_table(found, classes)}")


def _parser(command: str, description: str) -> CommandParser:
    parser = CommandParser(f"python -m eval {command}", description)
    add_file_flags(parser)
    add_output_flags(parser)
    return parser


def _counts(pair: FilePair) -> dict[str, int]:
    return {
        "video": len(pair.videos),
        "instance": len(pair.truth),
        "class": len(np.unique(pair.truth.label)),
        "detection": len(pair.detections),
    }


def _compared(pair: FilePair) -> str:
    return ", ".join(amount(count, what) for what, count in _counts(pair).items())


def _durations(pair: FilePair, file: pathlib.Path | None) -> Floats:
    """Seconds of `pair.videos` [V], those of the ground truth first; NaN where neither states them."""
    more = read_durations(file) if file else {}
    name_of = {known: name for name, known in match_names(more, pair.videos, folds=VIDEO_FOLDS).known.items()}
    return np.array(
        [
            pair.annotations[video].duration or (more[name_of[video]] if video in name_of else np.nan)
            for video in pair.videos
        ]
    )


def _without_duration(pair: FilePair, durations: Floats) -> list[Note]:
    videos = tuple(video for video, seconds in zip(pair.videos, durations, strict=True) if np.isnan(seconds))
    what = "without a duration, their instances are in no bucket of coverage (--durations gives them)"
    return [Note(key="no_duration", what=what, videos=videos)] if videos else []


def _kinds_table(summary: ErrorSummary) -> str:
    rows = []
    for kind in (*KINDS, *(name for name in summary.fix_gains if name not in KINDS)):
        count = summary.counts.get(kind, summary.missed)
        gains = [_signed(gains[kind]) if kind in gains else "" for gains in (summary.removal_gains, summary.fix_gains)]
        rows.append([kind, f"{count:,.0f}", *gains])
    rows.append(["mAP_N %", f"{100 * summary.average_map_n:.1f}", "", ""])
    return table(["kind", "count", "if removed", "if fixed"], rows)


def _profile_table(summary: ErrorSummary) -> str:
    """In percent of the detections of each rank."""
    rows = []
    for rank, counts in summary.profile.items():
        total = sum(counts.values())
        rows.append([rank, f"{total:,.0f}", *(f"{100 * n / total:.1f}" if total else "-" for n in counts.values())])
    return table(["% of rank", "detections", *KINDS], rows)


def _traits_table(summary: ErrorSummary, buckets: Buckets) -> str:
    rows = []
    for trait, sizes in summary.bucket_sizes.items():
        edges = (0, *getattr(buckets, trait), math.inf)
        for (size, count), low, high in zip(sizes.items(), edges[:-1], edges[1:], strict=True):
            numbers = [_percent(by[trait][size]) for by in (summary.sensitivity, summary.false_negatives)]
            rows.append([trait, size, f"{low:g}", "" if high == math.inf else f"{high:g}", f"{count:,.0f}", *numbers])
    return table(["trait", "bucket", "above", "up to", "instances", "mAP_N %", "not found %"], rows, names=2)


def _of_the_same_videos(first: FilePair, second: FilePair) -> tuple[Segments, Segments, int]:
    """The detections of both, coded by the same videos, those that the ground truth lacks included, and how many these are."""
    position = {name: i for i, name in enumerate(dict.fromkeys([*first.position_of, *second.position_of]))}
    coded = []
    for pair in (first, second):
        of = np.array([position[name] for name in pair.position_of], np.int64)
        coded.append(replace(pair.detections, video=of[pair.detections.video]))
    return coded[0], coded[1], len(position)


def _verdict(difference: Estimate) -> str:
    interval = f"{_signed(difference.value)} [{_signed(difference.low)}, {_signed(difference.high)}] average mAP"
    if difference.is_clear:
        return f"B is {'better' if difference.value > 0 else 'worse'} than A: {interval}"
    return f"no clear difference of B from A: {interval}"


def _differences_table(found: Difference) -> str:
    names = [*(f"{tiou:g}" for tiou in found.tious), "average"]
    each = [(*estimates.by_tiou, estimates.average) for estimates in (found.first, found.second, found)]
    rows = []
    for name, one, other, difference in zip(names, *each, strict=True):
        between = [_signed(difference.value), _interval(difference, signed=True)]
        rows.append([name, _percent(one.value), _interval(one), _percent(other.value), _interval(other), *between])
    return table(["mAP %", "A", "BCa interval", "B", "BCa interval", "B - A", "interval"], rows)


def _class_differences_table(found: Difference, classes: Sequence[str]) -> str:
    rows = [
        [
            name,
            _percent(one.value),
            _percent(other.value),
            _signed(difference.value),
            _interval(difference, signed=True),
        ]
        for name, one, other, difference in zip(
            classes, found.first.by_class, found.second.by_class, found.by_class, strict=True
        )
        if not math.isnan(difference.value)
    ]
    return table(["AP per class %", "A", "B", "B - A", "interval"], rows)


def _plain(estimates: Estimates, classes: Sequence[str]) -> dict[str, Any]:
    """For JSON: None for NaN."""

    def plain(estimate: Estimate) -> dict[str, float | None]:
        return {name: None if math.isnan(v) else v for name, v in dataclasses.asdict(estimate).items()}

    by_tiou = zip(estimates.tious, estimates.by_tiou, strict=True)
    by_class = zip(classes, estimates.by_class, strict=True)
    return {
        "mAP": {f"{tiou:g}": plain(estimate) for tiou, estimate in by_tiou},
        "average_mAP": plain(estimates.average),
        "per_class_AP": {name: plain(e) for name, e in by_class if not math.isnan(e.value)},
    }


def _percent(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:.1f}"


def _signed(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{100 * fraction:+.2f}"


def _interval(estimate: Estimate, *, signed: bool = False) -> str:
    form = _signed if signed else _percent
    return "-" if math.isnan(estimate.low) else f"[{form(estimate.low)}, {form(estimate.high)}]"
