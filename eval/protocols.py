"""The field's evaluators as data: what each does to the same result file before it calls a number mAP.

    outcome = evaluate_by(PROTOCOLS["thumos"], ground_truth, detections, num_classes=20, tious=(0.1, 0.2), snippets=clock)
    outcome.result.map, len(outcome.truth), len(outcome.detections)

docs/evaluation.md has them side by side, with what they make of one file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from eval.average_precision import AP_RULES, ELEVEN_POINT, INTERPOLATED, RAW, DetectionResult, per_class_ap
from eval.matching import NO_INSTANCE, equal_pairs, match_detections, match_instances, overlapping_pairs
from utils.errors import InputError
from utils.segments import Indices, Segments
from utils.snippet_grid import SnippetGrid

MILLISECOND = 1e-3
TOUCH = 1e-6  # snippets that must be shared at least: times in seconds are not quite the snippets they came from


class Unit(StrEnum):
    SECONDS = "seconds"
    SNIPPETS = "snippets"


class Matching(StrEnum):
    BEST_FREE = "a detection takes its best free instance"
    FIRST_FREE = "a detection takes the first free instance"
    LARGEST_OVERLAP = "an instance takes the free detection of the largest overlap"


class Ambiguous(StrEnum):
    UNKNOWN = "ambiguous intervals are unknown"
    DELETED = "detections that touch an ambiguous interval are deleted"
    FORGIVEN = "false positives that touch an ambiguous interval are forgiven"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    name: str
    does: str  # in one sentence
    unit: Unit = Unit.SECONDS  # ground truth in snippets is rounded to whole ones
    rounds_detections: bool = False  # to whole snippets, too
    matching: Matching = Matching.BEST_FREE
    ap: str = INTERPOLATED  # one of AP_RULES
    duplicate_gap: float | None = None  # an instance whose ends lie this near to those of another is dropped; seconds
    shortest_instance: float | None = None  # shorter ones are dropped; seconds
    shortest_detection: float | None = None  # shorter ones are dropped; of the unit
    ambiguous: Ambiguous = Ambiguous.UNKNOWN
    drops_unannotated_videos: bool = False  # the detections in videos without ground truth
    stops_at_unfound_class: bool = False  # the whole mAP is 0 when a class has no detections


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        protocol.name: protocol
        for protocol in (
            Protocol(
                name="sal",
                does="ActivityNet's evaluator (BaS-Net, SAL): times in seconds, each detection takes its best free "
                "instance, area under the interpolated curve",
            ),
            Protocol(
                name="snippet",
                does="CO2-Net, DELU, P-MIL and PVLR: as sal, the ground truth rounded to snippets; drops detections in "
                "videos without ground truth and those that touch an ambiguous interval",
                unit=Unit.SNIPPETS,
                ambiguous=Ambiguous.DELETED,
                drops_unannotated_videos=True,
            ),
            Protocol(
                name="wtalc",
                does="W-TALC: as snippet, detections rounded too and those under 2 snippets dropped; each takes the first "
                "free instance; raw precision at hits; the whole mAP is 0 when a class has no detections",
                unit=Unit.SNIPPETS,
                rounds_detections=True,
                matching=Matching.FIRST_FREE,
                ap=RAW,
                shortest_detection=2,
                ambiguous=Ambiguous.DELETED,
                drops_unannotated_videos=True,
                stops_at_unfound_class=True,
            ),
            Protocol(
                name="actionformer",
                does="ActionFormer and OpenTAD: as sal, without instances that are given twice (both ends within 1e-3 s) "
                "or last under 1e-3 s",
                duplicate_gap=MILLISECOND,
                shortest_instance=MILLISECOND,
            ),
            Protocol(
                name="thumos",
                does="THUMOS'14's toolkit: each instance takes the free detection that overlaps it most, whatever its "
                "score; false positives that touch an ambiguous interval are forgiven; 11-point AP",
                matching=Matching.LARGEST_OVERLAP,
                ap=ELEVEN_POINT,
                ambiguous=Ambiguous.FORGIVEN,
            ),
            Protocol(
                name="thumos-updated",
                does="the toolkit's later version: as thumos, raw precision at hits",
                matching=Matching.LARGEST_OVERLAP,
                ap=RAW,
                ambiguous=Ambiguous.FORGIVEN,
            ),
        )
    }
)
# What may be asked for by one word.
CHOICES: Mapping[str, tuple[Protocol, ...]] = MappingProxyType(
    {
        **{name: (PROTOCOLS[name],) for name in ("sal", "snippet", "wtalc", "actionformer")},
        "thumos": (PROTOCOLS["thumos"], PROTOCOLS["thumos-updated"]),
        "all": tuple(PROTOCOLS.values()),
    }
)


@dataclass(frozen=True, kw_only=True)
class SnippetClock:
    """The snippets that times are counted in, by the protocols that do so."""

    grid: SnippetGrid
    fps: float

    def positions(self, segments: Segments) -> Segments:
        start, end = (self.grid.positions(seconds, self.fps) for seconds in (segments.start, segments.end))
        return replace(segments, start=start, end=end)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a protocol made of a result file; counts that depend on the tIoU are those at the lowest."""

    protocol: Protocol
    result: DetectionResult
    truth: Segments  # that was compared, in the protocol's unit
    detections: Segments  # likewise
    entering: Indices  # their positions among the detections that were given
    ambiguous: int  # detections that were deleted, or false positives that were forgiven
    unfound_classes: tuple[int, ...]  # those with instances and without detections
    hits: int
    surplus: int  # detections that overlap an instance of their class enough and are no hits

    @property
    def lost(self) -> int:
        """How many instances last no time in the protocol's unit, so that nothing can find them."""
        return int((self.truth.end <= self.truth.start).sum())


def evaluate_by(
    protocol: Protocol,
    ground_truth: Segments,
    detections: Segments,
    *,
    num_classes: int,
    tious: Sequence[float],
    snippets: SnippetClock,
    ambiguous: Segments | None = None,
) -> Outcome:
    """Compare detections with ground truth, all in seconds and coded by the same videos and classes.

    Of `ambiguous` only videos and times count. Raises InputError without ground truth, or if the protocol drops all of it.
    """
    if len(ground_truth) == 0:
        raise InputError("no ground-truth segments to evaluate against")
    truth = kept_instances(protocol, ground_truth)
    if len(truth) == 0:
        raise InputError(
            f"protocol {protocol.name} drops every instance of the ground truth: none lasts 1e-3 s; use sal"
        )
    found, marks = detections, Segments.from_rows([]) if ambiguous is None else ambiguous
    if protocol.unit is Unit.SNIPPETS:
        truth, marks = whole(snippets.positions(truth)), whole(snippets.positions(marks))
        found = snippets.positions(found)
        found = whole(found) if protocol.rounds_detections else found
    kept = np.ones(len(found), bool)
    if protocol.drops_unannotated_videos:
        kept &= np.isin(found.video, ground_truth.video)
    if protocol.shortest_detection is not None:
        kept &= found.end - found.start >= protocol.shortest_detection
    touches = kept & touching(found, marks, least=TOUCH if protocol.unit is Unit.SNIPPETS else 0.0)
    if protocol.ambiguous is Ambiguous.DELETED:
        kept &= ~touches
    entering = np.flatnonzero(kept)
    found = found.take(entering)
    is_hit = match(protocol.matching, truth, found, tious=tious) != NO_INSTANCE
    counted = is_hit | ~touches[entering] if protocol.ambiguous is Ambiguous.FORGIVEN else None
    ap = per_class_ap(is_hit, truth, found, num_classes=num_classes, rule=AP_RULES[protocol.ap], counted=counted)
    unfound = np.setdiff1d(truth.label, found.label)
    if protocol.stops_at_unfound_class and len(unfound):
        ap = np.where(np.isnan(ap), np.nan, 0.0)
    lowest = int(np.argmin(tious))
    return Outcome(
        protocol=protocol,
        result=DetectionResult(tious=tuple(tious), per_class_ap=ap),
        truth=truth,
        detections=found,
        entering=entering,
        ambiguous=int((touches & ~kept).sum() if counted is None else (~counted[lowest]).sum()),
        unfound_classes=tuple(unfound.tolist()),
        hits=int(is_hit[lowest].sum()),
        surplus=int((_overlaps(truth, found, tious[lowest]) & ~is_hit[lowest]).sum()),
    )


def match(rule: Matching, ground_truth: Segments, detections: Segments, *, tious: Sequence[float]) -> Indices:
    """Match by a rule -> [K,N]: the position of each detection's instance, or NO_INSTANCE."""
    if rule is Matching.LARGEST_OVERLAP:
        return match_instances(ground_truth, detections, tious=tious)
    return match_detections(ground_truth, detections, tious=tious, first=rule is Matching.FIRST_FREE)


def kept_instances(protocol: Protocol, truth: Segments) -> Segments:
    """The instances without those that are too short for the protocol, or given twice: the first of them stays."""
    if protocol.shortest_instance is not None:
        truth = _where(truth, truth.end - truth.start >= protocol.shortest_instance)
    if protocol.duplicate_gap is None:
        return truth
    seen: dict[tuple[int, int], list[tuple[float, float]]] = {}
    kept = []
    columns = (truth.video, truth.label, truth.start, truth.end)
    for video, label, start, end in zip(*(column.tolist() for column in columns), strict=True):
        others = seen.setdefault((video, label), [])
        again = any(
            abs(start - s) <= protocol.duplicate_gap and abs(end - e) <= protocol.duplicate_gap for s, e in others
        )
        kept.append(not again)
        if not again:
            others.append((start, end))
    return _where(truth, np.array(kept, bool))


def whole(segments: Segments) -> Segments:
    """Segments whose ends are rounded to whole numbers, a half to the even one."""
    return replace(segments, start=np.round(segments.start), end=np.round(segments.end))


def touching(detections: Segments, marks: Segments, *, least: float = 0.0) -> NDArray[np.bool_]:
    """Whether each detection shares more than `least` with one of the marks of its video, whatever its class [N]."""
    marks = marks.take(np.argsort(marks.video, kind="stable"))
    detection, mark = equal_pairs(detections.video, marks.video)
    shared = np.minimum(detections.end[detection], marks.end[mark])
    shared -= np.maximum(detections.start[detection], marks.start[mark])
    touches = np.zeros(len(detections), bool)
    touches[detection[shared > least]] = True
    return touches


def _overlaps(truth: Segments, detections: Segments, tiou: float) -> NDArray[np.bool_]:
    """Whether each detection overlaps an instance of its class by the tIoU [N]."""
    detection, _, _ = overlapping_pairs(truth.take(np.lexsort((truth.video, truth.label))), detections, tiou)
    found = np.zeros(len(detections), bool)
    found[detection] = True
    return found


def _where(segments: Segments, condition: NDArray[np.bool_]) -> Segments:
    return segments.take(np.flatnonzero(condition))
