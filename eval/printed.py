"""What `python -m eval.detection` prints: mAP by one protocol or by several, further measures, and notes on all of it.

print_evaluation(arguments)
"""

import json
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eval.arguments import AVERAGES, pair_options, parse_arguments
from eval.average_precision import INTERPOLATED
from eval.compared import as_plain, compared, in_words
from eval.files import FilePair, read_pair
from eval.measures import measures
from eval.notes import EMPTY_INSTANCES, UNKNOWN_CLASSES, UNKNOWN_VIDEOS, Note, notes_on
from eval.protocol_notes import protocol_notes
from eval.protocols import CHOICES, Ambiguous, Outcome, Protocol, SnippetClock, evaluate_by
from eval.tables import map_table, per_class_table, protocol_table
from formats.ambiguous_intervals import read_ambiguous_intervals
from formats.names import amount
from utils.errors import InputError
from utils.ranges import in_span, parse_grid, parse_span
from utils.snippet_grid import SnippetGrid

NOT_COMPUTED = "not_computed"  # of a protocol beside others


def print_evaluation(arguments: Sequence[str]) -> None:
    args = parse_arguments(arguments)
    tious = parse_grid(args.tious)
    spans = average_spans(args.average, tious)
    protocols = CHOICES[args.protocol]
    dropped_anyway = all(protocol.drops_unannotated_videos for protocol in protocols)
    intervals = read_ambiguous_intervals(args.ambiguous) if args.ambiguous else []
    given = read_pair(args.ground_truth, args.detections, pair_options(args))
    pair = replace(given, options=replace(given.options, unknown="skip")) if dropped_anyway else given
    notes = [*notes_on(pair), *_partial_averages(spans, tious)]
    if all(protocol.shortest_instance is not None for protocol in protocols):
        notes = [note for note in notes if note.key != EMPTY_INSTANCES]  # they do not count as missed: they are dropped
    if args.strict:
        _refuse_unknown(notes, args.detections)
    marks = pair.marked(intervals)
    grid = SnippetGrid(frames=args.snippet_frames, stride=args.snippet_stride or args.snippet_frames)
    snippets = SnippetClock(grid=grid, fps=args.fps)
    outcomes: list[Outcome] = []
    refused: dict[str, str] = {}
    for protocol in protocols:
        try:
            outcome = evaluate_by(
                protocol,
                pair.truth,
                pair.detections,
                num_classes=len(pair.classes),
                tious=tious,
                snippets=snippets,
                ambiguous=marks,
            )
        except InputError as error:
            if len(protocols) == 1:
                raise
            refused[protocol.name] = str(error)
        else:
            outcomes.append(outcome)
    notes += [Note(key=NOT_COMPUTED, what=f"{name}: not computed, {why}") for name, why in refused.items()]
    notes += _notes_on_intervals(outcomes, listed=args.ambiguous, unused=len(intervals) - len(marks))
    for outcome in _told_apart(outcomes):
        notes += protocol_notes(outcome, pair.truth, pair.detections, classes=pair.classes, snippets=snippets)
    further = list(measures(args, given.truth, given.of_every_label))
    if args.json:
        computed = {outcome.protocol.name: _as_plain(outcome, pair, spans) for outcome in outcomes}
        content = {
            **pair.which_as_plain(),
            "notes": [{"key": note.key, **note.as_plain()} for note in notes],
            **computed[outcomes[0].protocol.name],
            **{measure.key: measure.plain for measure in further},
            "protocols": [
                computed.get(p.name, {"protocol": p.name, "does": p.does, NOT_COMPUTED: refused.get(p.name)})
                for p in protocols
            ],
        }
        print(json.dumps(content, indent=2, allow_nan=False))
        return
    print(_opening(protocols, outcomes, pair))
    for note in notes:
        print(note.text(most=None if args.verbose else 3))
    print(f"\n{_tables(protocols, outcomes, pair, spans)}")
    for measure in further:
        print(f"\n{measure.text}")


def _told_apart(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """One of those that differ in the rule of AP alone: what there is to say of the others is the same."""
    return list({replace(o.protocol, name="", does="", ap=INTERPOLATED): o for o in reversed(outcomes)}.values())[::-1]


def _as_plain(outcome: Outcome, pair: FilePair, spans: Sequence[str]) -> dict[str, Any]:
    """What one protocol says, for JSON."""
    return {
        "protocol": outcome.protocol.name,
        "does": outcome.protocol.does,
        "compared": as_plain(_counts(outcome, pair)),
        "mAP": outcome.result.map_by_tiou(),
        "average_mAP": outcome.result.average_map(),
        "average_mAP_by_span": _averages(outcome, spans),
        "per_class_AP": outcome.result.ap_by_class(pair.classes),
    }


def _counts(outcome: Outcome, pair: FilePair) -> dict[str, int]:
    annotated = len(np.unique(pair.truth.video))
    num_videos = annotated if outcome.protocol.drops_unannotated_videos else len(pair.videos)
    return compared(num_videos, outcome.truth, outcome.detections)


def _averages(outcome: Outcome, spans: Sequence[str]) -> dict[str, float]:
    return {span: outcome.result.average_map(*parse_span(span)) for span in spans}


def _opening(protocols: Sequence[Protocol], outcomes: Sequence[Outcome], pair: FilePair) -> str:
    """What was compared, and how, if not as usual."""
    if len(protocols) > 1:
        return "\n".join([f"compared, {pair.which}", *(f"{p.name}: {p.does}" for p in protocols)])
    (outcome,) = outcomes
    return f"compared by {outcome.protocol.name}, {pair.which}: {in_words(_counts(outcome, pair))}"


def _tables(protocols: Sequence[Protocol], outcomes: Sequence[Outcome], pair: FilePair, spans: Sequence[str]) -> str:
    if len(protocols) > 1:
        computed = {
            o.protocol.name: (list(_counts(o, pair).values()), o.result.map_by_tiou(), _averages(o, spans))
            for o in outcomes
        }
        return protocol_table(
            {p.name: computed.get(p.name) for p in protocols}, list(as_plain(_counts(outcomes[0], pair)))
        )
    (outcome,) = outcomes
    row = outcome.result.map_by_tiou(), _averages(outcome, spans)
    per_class = per_class_table(outcome.result.ap_by_class(pair.classes))
    return f"{map_table({f'{outcome.protocol.name}, mAP %': row})}\n\n{per_class}"


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


def _notes_on_intervals(outcomes: Sequence[Outcome], *, listed: pathlib.Path | None, unused: int) -> Iterator[Note]:
    """Notes on a list of ambiguous intervals that is not given, or not used."""
    asking = [outcome.protocol.name for outcome in outcomes if outcome.protocol.ambiguous is not Ambiguous.UNKNOWN]
    if listed is None and asking:
        what = f"no interval counts as ambiguous without --ambiguous FILE (for {', '.join(asking)})"
        yield Note(key="no_ambiguous_intervals", what=what)
    if listed is not None and not asking:
        yield Note(
            key="unused_ambiguous_intervals", what="--ambiguous changes nothing: this protocol knows no such intervals"
        )
    if unused:
        what = f"{amount(unused, 'interval')} of --ambiguous not used: in videos that are not compared"
        yield Note(key="ambiguous_elsewhere", what=what)


def _refuse_unknown(notes: Sequence[Note], result_file: pathlib.Path) -> None:
    for note in notes:
        if note.key in (UNKNOWN_VIDEOS, UNKNOWN_CLASSES):
            raise InputError(f"{result_file}: --strict: {note.text().removeprefix('note: ')}")
