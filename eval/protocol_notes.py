"""What follows for the numbers from a protocol's rules, where they touched something in these files.

for note in protocol_notes(outcome, pair.truth, classes=pair.classes): print(note.text())
"""

from collections.abc import Iterator, Sequence

import numpy as np

from eval.notes import Note
from eval.protocols import PROTOCOLS, Ambiguous, Matching, Outcome, SnippetClock, Unit, evaluate_by
from utils.segments import Segments


def protocol_notes(
    outcome: Outcome, truth: Segments, detections: Segments, *, classes: Sequence[str], snippets: SnippetClock
) -> Iterator[Note]:
    """`truth` and `detections`: what the protocol was given, in seconds."""
    protocol, lowest = outcome.protocol, f"tIoU {min(outcome.result.tious):g}"
    if len(outcome.truth) < len(truth):
        yield Note(
            key="dropped_instances",
            what=f"{protocol.name}: instances that are given twice or last under {protocol.shortest_instance:g} s, dropped",
            instances=len(truth) - len(outcome.truth),
        )
    if protocol.unit is Unit.SNIPPETS and outcome.lost:
        what = f"{protocol.name}: instances that round to no snippet, which nothing can find"
        yield Note(key="rounded_to_nothing", what=what, instances=outcome.lost)
    if protocol.unit is Unit.SNIPPETS and not protocol.rounds_detections:
        exact = evaluate_by(
            PROTOCOLS["sal"],
            truth,
            detections.take(outcome.entering),
            num_classes=len(classes),
            tious=outcome.result.tious,
            snippets=snippets,
        )
        gain = outcome.result.map - exact.result.map
        most = int(np.argmax(np.abs(gain)))
        yield Note(
            key="worth_of_rounding",
            what=f"{protocol.name}: rounding the ground truth is worth {100 * gain.mean():+.2f} of the average mAP, "
            f"{100 * gain[most]:+.2f} at tIoU {outcome.result.tious[most]:g}: numbers in snippets and in seconds are not on "
            "one scale",
        )
    if protocol.stops_at_unfound_class and outcome.unfound_classes:
        yield Note(
            key="whole_map_is_zero",
            what=f"{protocol.name}: classes without detections, so the whole mAP is 0",
            classes=tuple(classes[label] for label in outcome.unfound_classes),
        )
    if outcome.ambiguous:
        done = {
            Ambiguous.DELETED: "detections that touch an ambiguous interval, deleted",
            Ambiguous.FORGIVEN: f"false positives at {lowest} that touch an ambiguous interval, forgiven",
        }
        what = f"{protocol.name}: {done[protocol.ambiguous]}"
        yield Note(key="ambiguous_detections", what=what, detections=outcome.ambiguous)
    if protocol.matching is Matching.LARGEST_OVERLAP and outcome.surplus > outcome.hits:
        yield Note(
            key="dense_detections",
            what=f"{protocol.name} says little without hard NMS: besides {outcome.hits} hits, detections overlap an "
            f"instance by {lowest} that took one which overlaps more, and count as false",
            detections=outcome.surplus,
        )
