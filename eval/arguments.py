"""The flags of `python -m eval.detection`."""

import argparse
import pathlib
from collections.abc import Sequence

from command_line.parser import CommandParser
from options import EvaluationOptions

# The spans of tIoU that the field averages THUMOS'14 over.
AVERAGES = ("0.1:0.5", "0.3:0.7", "0.1:0.7")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser("python -m eval.detection", "Detection mAP of a result file.")
    parser.add_argument("--ground_truth", required=True, type=pathlib.Path, help="gt.json")
    parser.add_argument("--detections", required=True, type=pathlib.Path, help="result file, ActivityNet format")
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
    parser.add_argument("--strict", action="store_true", help="refuse videos and classes that the ground truth lacks")
    parser.add_argument(
        "--tious", default=EvaluationOptions.tious, help="tIoU thresholds, first:last:step (default: %(default)s)"
    )
    parser.add_argument(
        "--average",
        nargs="+",
        metavar="FIRST:LAST",
        help=f"ranges of tIoU to average the mAP over (default: {', '.join(AVERAGES)} and all of --tious, those it covers)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of the table")
    parser.add_argument("--verbose", action="store_true", help="name every video and class in notes, not three")
    parsed: argparse.Namespace = parser.parse_args(arguments)
    return parsed
