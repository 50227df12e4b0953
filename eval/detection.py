"""Detection mAP: interpolated average precision per class and tIoU, VOC style (docs/method.md, section 6).

    result = evaluate_detections(ground_truth, detections, num_classes=20, tious=(0.1, 0.2))

    python -m eval.detection --ground_truth gt.json --detections detections.json --subset test [--json]
    python CLONE/eval/detection.py ...                                          # the same, in any folder

The computation works on plain arrays; the command's files, notes and flags are in docs/evaluation.md. No torch anywhere.
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("eval.detection")  # loading the rest takes a moment

from collections.abc import Sequence

from command_line.console import run_tool
from eval.average_precision import DetectionResult, per_class_ap
from eval.matching import NO_INSTANCE, match_detections
from eval.printed import print_evaluation
from utils.errors import InputError
from utils.segments import Segments


def evaluate_detections(
    ground_truth: Segments, detections: Segments, *, num_classes: int, tious: Sequence[float]
) -> DetectionResult:
    """Compare detections with ground truth, both coded by the same videos and classes.

    Raises InputError when there is no ground truth.
    """
    if len(ground_truth) == 0:
        raise InputError("no ground-truth segments to evaluate against")
    is_hit = match_detections(ground_truth, detections, tious=tious) != NO_INSTANCE
    ap = per_class_ap(is_hit, ground_truth, detections, num_classes=num_classes)
    return DetectionResult(tious=tuple(tious), per_class_ap=ap)


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 2 invalid input."""
    return run_tool("eval.detection", print_evaluation, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
