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

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from command_line.console import run_tool
from eval.arguments import AVERAGES, parse_arguments
from eval.average_precision import per_class_ap
from eval.files import PairOptions, read_pair
from eval.matching import NO_INSTANCE, match_detections
from eval.notes import UNKNOWN_CLASSES, UNKNOWN_VIDEOS, Note, notes_on
from eval.tables import map_table, per_class_table
from formats.names import amount, plural
from utils.errors import InputError
from utils.ranges import in_span, parse_grid, parse_span
from utils.segments import Segments


@dataclass(frozen=True, kw_only=True)
class DetectionResult:
    """mAP and AP as fractions, not percent."""

    tious: tuple[float, ...]  # [K]
    per_class_ap: NDArray[np.float64]  # [K,C]; NaN for classes without ground truth

    @property
    def map(self) -> NDArray[np.float64]:
        """mAP per tIoU [K]: the mean over the classes that have ground truth."""
        return np.asarray(np.nanmean(self.per_class_ap, axis=1))

    def average_map(self, low: float = 0.0, high: float = 1.0) -> float:
        """The mean mAP over the tIoUs within low .. high, both included."""
        inside = [in_span(tiou, (low, high)) for tiou in self.tious]
        return float(self.map[inside].mean())

    def map_by_tiou(self) -> dict[str, float]:
        return {f"{t:g}": float(m) for t, m in zip(self.tious, self.map, strict=True)}

    def ap_by_class(self, classes: Sequence[str]) -> dict[str, dict[str, float]]:
        """{class: {tIoU: AP}} of the classes that have ground truth."""
        return {
            name: {f"{t:g}": float(ap) for t, ap in zip(self.tious, column, strict=True)}
            for name, column in zip(classes, self.per_class_ap.T, strict=True)
            if not np.isnan(column).any()
        }


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
    return run_tool("eval.detection", _print_evaluation, arguments)


def _print_evaluation(arguments: Sequence[str]) -> None:
    args = parse_arguments(arguments)
    tious = parse_grid(args.tious)
    spans = average_spans(args.average, tious)
    pair = read_pair(
        args.ground_truth,
        args.detections,
        PairOptions(
            subset=args.subset,
            split=args.split,
            missing=args.missing,
            unknown=args.unknown,
            skip_empty=args.skip_empty,
        ),
    )
    notes = [*notes_on(pair), *_partial_averages(spans, tious)]
    if args.strict:
        _refuse_unknown(notes, args.detections)
    result = evaluate_detections(pair.truth, pair.detections, num_classes=len(pair.classes), tious=tious)
    counts = {
        "video": len(pair.videos),
        "instance": len(pair.truth),
        "class": len(np.unique(pair.truth.label)),
        "detection": len(pair.detections),
    }
    listed = str(pair.chosen.listed_in) if pair.chosen.listed_in else None
    averages = {span: result.average_map(*parse_span(span)) for span in spans}
    per_class = result.ap_by_class(pair.classes)
    if args.json:
        content = {
            "subset": args.subset,
            "listed_in": listed,
            "compared": {plural(what): count for what, count in counts.items()},
            "notes": [{"key": note.key, **note.as_plain()} for note in notes],
            "mAP": result.map_by_tiou(),
            "average_mAP": result.average_map(),
            "average_mAP_by_span": averages,
            "per_class_AP": per_class,
        }
        print(json.dumps(content, indent=2, allow_nan=False))
        return
    which = f"subset {args.subset}" + (f", listed in {listed}" if listed else "")
    print(f"compared, {which}: {', '.join(amount(count, what) for what, count in counts.items())}")
    for note in notes:
        print(note.text(most=None if args.verbose else 3))
    print(f"\n{map_table({'mAP %': (result.map_by_tiou(), averages)})}\n\n{per_class_table(per_class)}")


def average_spans(given: Sequence[str] | None, tious: Sequence[float]) -> tuple[str, ...]:
    """The spans to average over: those given, or the usual ones that the grid covers, and the whole grid.

    Raises InputError for a given span in which the grid has no threshold.
    """
    whole = f"{tious[0]:g}:{tious[-1]:g}"
    if given is None:
        return tuple(dict.fromkeys([span for span in AVERAGES if _covers(tious, span)] + [whole]))
    for span in given:
        if not any(in_span(tiou, parse_span(span)) for tiou in tious):
            raise InputError(f"--average {span}: no threshold of --tious {whole} lies there")
    return tuple(dict.fromkeys(given))


def _covers(tious: Sequence[float], span: str) -> bool:
    """Whether both ends of the span are thresholds of the grid."""
    return all(any(in_span(tiou, (end, end)) for tiou in tious) for end in parse_span(span))


def _partial_averages(spans: Sequence[str], tious: Sequence[float]) -> list[Note]:
    """Notes on averages over less than their name says."""
    return [
        Note(key="partial_average", what=f"the average over {span} is over {inside}, all that --tious has of it")
        for span in spans
        if not _covers(tious, span)
        for inside in [", ".join(f"{tiou:g}" for tiou in tious if in_span(tiou, parse_span(span)))]
    ]


def _refuse_unknown(notes: Sequence[Note], result_file: pathlib.Path) -> None:
    for note in notes:
        if note.key in (UNKNOWN_VIDEOS, UNKNOWN_CLASSES):
            raise InputError(f"{result_file}: --strict: {note.text().removeprefix('note: ')}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
