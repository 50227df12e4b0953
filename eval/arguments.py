"""The flags of `python -m eval.detection`, and those of its that other commands about result files have too."""

import argparse
import pathlib
from collections.abc import Sequence

from command_line.parser import CommandParser
from eval.files import PairOptions
from eval.measures import check_measures
from eval.protocols import CHOICES
from options import FLAGS, DataOptions, EvaluationOptions
from utils.errors import InputError
from utils.snippet_grid import DEFAULT_FPS

# The spans of tIoU that the field averages THUMOS'14 over.
AVERAGES = ("0.1:0.5", "0.3:0.7", "0.1:0.7")
RESULT_FILE = "result file, ActivityNet format"
# Of the snippets that some protocols count in, the flags of main.py and the values that published evaluators have.
GRID_FLAGS = {"snippet_frames": DataOptions.snippet_frames, "snippet_stride": None, "fps": DEFAULT_FPS}


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("python -m eval.detection", "Detection mAP of a result file.")
    add_file_flags(parser)
    parser.add_argument("--detections", required=True, type=pathlib.Path, help=RESULT_FILE)
    parser.add_argument("--strict", action="store_true", help="refuse videos and classes that the ground truth lacks")
    _add_protocol(parser)
    parser.add_argument(
        "--tious", default=EvaluationOptions.tious, help="tIoU thresholds, first:last:step (default: %(default)s)"
    )
    parser.add_argument(
        "--average",
        nargs="+",
        metavar="FIRST:LAST",
        help=f"ranges of tIoU to average the mAP over (default: {', '.join(AVERAGES)} and all of --tious, those it covers)",
    )
    _add_measures(parser)
    add_output_flags(parser)
    parsed: argparse.Namespace = parser.parse_args(arguments)
    for name in GRID_FLAGS:
        value, allowed = getattr(parsed, name), FLAGS.flags[name].interval
        if value is not None and allowed and value not in allowed:
            raise InputError(f"--{name} {value}: must lie in {allowed}")
    check_measures(parsed)
    return parsed


def add_file_flags(parser: CommandParser) -> None:
    """The ground truth, which of its videos, and what to do about what does not fit: as `pair_options` takes them."""
    parser.add_argument("--ground_truth", required=True, type=pathlib.Path, help="gt.json")
    parser.add_argument("--subset", default="test", help="subset of the ground truth (default: test)")
    parser.add_argument(
        "--split",
        default="auto",
        metavar="FILE",
        help="file with the names of the videos to evaluate, one a line; auto: the split file beside the ground truth that "
        "training would test on, if there is one and it is about the subset; none: all of the subset (default: auto)",
    )
    parser.add_argument(
        "--missing",
        choices=("count", "skip"),
        default="count",
        help="videos that the result file lacks: count their instances as missed, or leave them out (default: count)",
    )
    parser.add_argument(
        "--unknown",
        choices=("count", "skip"),
        default="count",
        help="videos that the ground truth lacks: count their detections as false positives, or leave them out "
        "(default: count)",
    )
    parser.add_argument(
        "--skip_empty",
        action="store_true",
        help="leave out instances and detections that end at or before their start, which else count as missed and as false",
    )


def add_output_flags(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of the table")
    parser.add_argument("--verbose", action="store_true", help="name every video and class in notes, not three")


def pair_options(parsed: argparse.Namespace) -> PairOptions:
    return PairOptions(
        subset=parsed.subset,
        split=parsed.split,
        missing=parsed.missing,
        unknown=parsed.unknown,
        skip_empty=parsed.skip_empty,
    )


def _add_protocol(parser: CommandParser) -> None:
    parser.add_argument(
        "--protocol",
        choices=tuple(CHOICES),
        default="sal",
        help="whose evaluator to follow; thumos: both of its versions; all: side by side (default: %(default)s)",
    )
    parser.add_argument(
        "--ambiguous",
        type=pathlib.Path,
        metavar="FILE",
        help="list of intervals that nobody could classify, a video, a start and an end in seconds on each line "
        "(for snippet, wtalc and thumos)",
    )
    for name, default in GRID_FLAGS.items():
        shown = FLAGS.flags[name].shown if default is None else f"{default:g}"
        parser.add_argument(
            f"--{name}",
            type=float if name == "fps" else int,
            default=default,
            metavar="X" if name == "fps" else "N",
            help=f"{FLAGS.flags[name].help} (for snippet and wtalc; default: {shown})",
        )


def _add_measures(parser: CommandParser) -> None:
    parser.add_argument(
        "--recall",
        nargs="+",
        type=int,
        metavar="N",
        help="print the average recall of the N best detections of each video, whatever their class, and its area",
    )
    parser.add_argument(
        "--operating_point",
        type=float,
        metavar="TIOU",
        help="print the score threshold of the largest F1 at this tIoU, with precision and recall",
    )
    parser.add_argument(
        "--calibration",
        type=float,
        metavar="TIOU",
        help="print the share of hits at this tIoU among detections of like score",
    )
