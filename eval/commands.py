"""The commands about result files that `python -m eval` has beside eval.detection: diagnose and compare.

    python -m eval diagnose --ground_truth gt.json --detections detections.json [--ties original] [--json]
    python -m eval compare --ground_truth gt.json A.json B.json [--draws 2000] [--seed 0] [--json]

What they print is explained in docs/diagnosis.md.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from command_line.parser import CommandParser
from command_line.progress import Progress
from eval.arguments import RESULT_FILE, add_file_flags, add_output_flags, pair_options
from eval.compared import as_plain, compared, in_words
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
from eval.statistics import CONFIDENCE, DRAWS, Difference, Estimate, Estimates, num_steps, paired_bootstrap
from eval.tables import NOTHING, in_percent
from formats.durations import read_durations
from formats.matching_names import VIDEO_FOLDS, match_names
from formats.names import amount
from options import EvaluationOptions
from utils.errors import InputError
from utils.ranges import parse_grid
from utils.segments import Floats, Segments
from utils.text_table import table

PROTOCOL = PROTOCOLS["sal"].name  # by which detections are matched here
BUCKETS = {"thumos14": THUMOS14, "activitynet": ACTIVITYNET}
LEAST_DRAWS, MOST_DRAWS = 100, 1_000_000


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
            **pair.which_as_plain(),
            "tious": tious,
            "ties": args.ties,
            "buckets": dataclasses.asdict(buckets),
            "compared": as_plain(_counts(pair)),
            "notes": [_note_as_plain(note) for note in notes],
            **summary.as_plain(),
        }
        print(json.dumps(content, indent=2, allow_nan=False))
        return
    print(sentence(summary))
    where = f"tIoU {args.tious}" if len(tious) == 1 else f"mean over tIoU {args.tious}"
    entering = f"the best {DEPTH} G of each class, {sum(summary.counts.values()):,.0f}, enter"
    print(f"protocol {PROTOCOL}, {where}, {pair.which}: {in_words(_counts(pair))}; {entering}")
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
    if not LEAST_DRAWS <= args.draws <= MOST_DRAWS:
        raise InputError(f"--draws {args.draws}: give {LEAST_DRAWS} to {MOST_DRAWS:,}; {DRAWS:,} are usual")
    if args.seed < 0:
        raise InputError(f"--seed {args.seed}: give a whole number from 0")
    tious = parse_grid(args.tious)
    pairs = [read_pair(args.ground_truth, file, pair_options(args)) for file in (args.first, args.second)]
    if pairs[0].videos != pairs[1].videos:
        raise InputError(f"{args.first} and {args.second} lack different videos; compare them without --missing skip")
    first, second, num_videos = _of_the_same_videos(*pairs)
    classes = pairs[0].classes
    steps = num_steps(num_videos, draws=args.draws)
    with Progress(total=steps, desc="drawing videos", unit="draw", leave=False) as shown:

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
    without_interval = list(_without_interval(found, classes))
    if args.json:
        content = {
            "verdict": _verdict(found.average),
            "protocol": PROTOCOL,
            **pairs[0].which_as_plain(),
            "confidence": CONFIDENCE,
            "draws": found.draws,
            "seed": args.seed,
            "compared": [as_plain(_counts(pair)) for pair in pairs],
            "notes": [[_note_as_plain(note) for note in notes_on(pair)] for pair in pairs],
            "notes_on_intervals": [_note_as_plain(note) for note in without_interval],
            "difference": _plain(found, classes),
            "first": _plain(found.first, classes),
            "second": _plain(found.second, classes),
        }
        print(json.dumps(content, indent=2, allow_nan=False))
        return
    print(f"{_verdict(found.average)} ({CONFIDENCE:.0%} interval, {drawn}, the same for both)")
    print(f"protocol {PROTOCOL}, tIoU {args.tious}, {pairs[0].which}")
    for name, file, pair in zip("AB", (args.first, args.second), pairs, strict=True):
        print(f"{name} is {file}: {in_words(_counts(pair))}")
        for note in notes_on(pair):
            print(note.text(most=None if args.verbose else 3))
    for note in without_interval:
        print(note.text(most=None if args.verbose else 3))
    print(f"\n{_differences_table(found)}\n\n{_class_differences_table(found, classes)}")


def _parser(command: str, description: str) -> CommandParser:
    parser = CommandParser(f"python -m eval {command}", description)
    add_file_flags(parser)
    add_output_flags(parser)
    return parser


def _counts(pair: FilePair) -> dict[str, int]:
    return compared(len(pair.videos), pair.truth, pair.detections)


def _note_as_plain(note: Note) -> dict[str, Any]:
    return {"key": note.key, **note.as_plain()}


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
            numbers = [in_percent(by[trait][size]) for by in (summary.sensitivity, summary.false_negatives)]
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
    found = _interval(difference, signed=True) if difference.has_interval else "(no interval)"
    interval = f"{_signed(difference.value)} {found} average mAP"
    if difference.is_clear:
        return f"B is {'better' if difference.value > 0 else 'worse'} than A: {interval}"
    return f"no clear difference of B from A: {interval}"


def _without_interval(found: Difference, classes: Sequence[str]) -> Iterator[Note]:
    """Notes on why there is no interval, of differences and of the results' own."""
    named = [*(f"tIoU {tiou:g}" for tiou in found.tious), "average"]
    differences = zip(named, (*found.by_tiou, found.average), strict=True)
    at = [name for name, estimate in differences if not estimate.has_interval]
    of_classes = zip(classes, found.by_class, strict=True)
    of = tuple(name for name, e in of_classes if not math.isnan(e.value) and not e.has_interval)
    if at or of:
        where = f", at {', '.join(at)}" if at else ""
        what = f"differences without an interval, for all draws are the same (too few videos, or no difference){where}"
        yield Note(key="no_interval", what=what, classes=of)
    own = [
        f"{file} at {name}"
        for file, one in (("A", found.first), ("B", found.second))
        for name, estimate in zip(named, (*one.by_tiou, one.average), strict=True)
        if not estimate.has_interval
    ]
    if own:
        why = "few videos a class, few draws, or nothing found"
        what = f"no BCa interval, for all draws are the same or on one side of the value ({why})"
        yield Note(key="no_bca_interval", what=f"{what}: {', '.join(own)}")


def _differences_table(found: Difference) -> str:
    names = [*(f"{tiou:g}" for tiou in found.tious), "average"]
    each = [(*estimates.by_tiou, estimates.average) for estimates in (found.first, found.second, found)]
    rows = []
    for name, one, other, difference in zip(names, *each, strict=True):
        between = [_signed(difference.value), _interval(difference, signed=True)]
        rows.append([name, in_percent(one.value), _interval(one), in_percent(other.value), _interval(other), *between])
    return table(["mAP %", "A", "BCa interval", "B", "BCa interval", "B - A", "interval"], rows)


def _class_differences_table(found: Difference, classes: Sequence[str]) -> str:
    rows = [
        [
            name,
            in_percent(one.value),
            in_percent(other.value),
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
    """For JSON: None for NaN and for the ends of an interval that there is not."""

    def plain(estimate: Estimate) -> dict[str, float | None]:
        shown = estimate if estimate.has_interval else replace(estimate, low=math.nan, high=math.nan)
        return {name: None if math.isnan(v) else v for name, v in dataclasses.asdict(shown).items()}

    by_tiou = zip(estimates.tious, estimates.by_tiou, strict=True)
    by_class = zip(classes, estimates.by_class, strict=True)
    return {
        "mAP": {f"{tiou:g}": plain(estimate) for tiou, estimate in by_tiou},
        "average_mAP": plain(estimates.average),
        "per_class_AP": {name: plain(e) for name, e in by_class if not math.isnan(e.value)},
    }


def _signed(fraction: float) -> str:
    return NOTHING if math.isnan(fraction) else f"{100 * fraction:+.2f}"


def _interval(estimate: Estimate, *, signed: bool = False) -> str:
    form = _signed if signed else in_percent
    return NOTHING if not estimate.has_interval else f"[{form(estimate.low)}, {form(estimate.high)}]"
