"""The section of a report that evaluates the same detections by every protocol of the field."""

from eval.protocol_notes import protocol_notes
from eval.protocols import PROTOCOLS, SnippetClock, evaluate_by
from report.judged import Judged
from report.markup import Cells, count, facts, heading, items, paragraph, percent, table
from report.section import Section
from utils.errors import InputError
from utils.ranges import parse_span
from utils.snippet_grid import frame_rate


def protocol_section(judged: Judged, *, target: str) -> Section:
    """mAP by every protocol side by side, what each does, and what follows from its rules here. Needs ground truth.

    `target` is where its numbers lead.
    """
    run, timelines = judged.run, judged.run.timelines
    data, evaluation = run.options.data, run.options.evaluation
    clock = SnippetClock(grid=data.grid, fps=frame_rate(data.fps, None))
    rows: list[Cells] = []
    notes: list[str] = []
    for protocol in PROTOCOLS.values():
        try:
            outcome = evaluate_by(
                protocol,
                timelines.truth,
                run.detections,
                num_classes=len(timelines.classes),
                tious=evaluation.tiou_grid,
                snippets=clock,
            )
        except InputError as error:
            notes.append(f"{protocol.name}: {error}")
            continue
        result = outcome.result
        averages = (result.average_map(*parse_span(span)) for span in evaluation.average_tious)
        rows.append(
            [
                protocol.name,
                *(percent(float(value), target=target) for value in result.map),
                *(percent(value, target=target, strong=True) for value in averages),
                count(len(outcome.truth), target=target),
                count(len(outcome.detections), target=target),
            ]
        )
        found = protocol_notes(outcome, timelines.truth, run.detections, classes=timelines.classes, snippets=clock)
        notes += [note.text().removeprefix("note: ") for note in found]
    header = ["mAP %", *(f"{tiou:g}" for tiou in evaluation.tiou_grid)]
    header += [*(f"average {span}" for span in evaluation.average_tious), "instances", "detections"]
    html = [
        paragraph(
            "The same detections by the evaluators in use. Their numbers are not on one scale: compare a number with one "
            f"of the same protocol alone. A snippet is {data.grid.stride / clock.fps:g} s long, and no interval is taken for "
            "ambiguous: python -m eval.detection has flags for both."
        ),
        table(f"{len(timelines.videos)} videos, mAP in percent by protocol and tIoU", header, rows),
        items(notes),
        heading("What each protocol does"),
        facts((protocol.name, protocol.does) for protocol in PROTOCOLS.values()),
    ]
    return Section(key="protocols", title="Protocols", html="".join(html))
