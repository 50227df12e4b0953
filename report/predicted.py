"""What a report says about predictions, where nobody has stated the truth: what was found in which video, and by what.

opening, others = prediction_sections(judged)
"""

from collections.abc import Iterator

import numpy as np

from formats.names import amount
from report.judged import Judged
from report.links import explore_link
from report.markup import NOTHING, Cell, Cells, count, facts, paragraph, table, text
from report.section import Section
from report.sections import changed_options, preset_of

MOST_LISTED = 300  # videos in the table; the explorer has all
METHOD = "SAL, trained on what happens in videos, never on when."


def prediction_sections(judged: Judged) -> tuple[list[Section], list[Section]]:
    """Those before and those after the explorer."""
    return [_found(judged)], [_made(judged)]


def _found(judged: Judged) -> Section:
    run = judged.run
    videos = len(run.timelines.videos)
    found = f"{amount(len(run.detections), 'detection')} in {amount(videos, 'video')}"
    parts = [
        paragraph(text(run.results.get("method", METHOD))),
        paragraph(text(f"{found} without ground truth: nothing is measured.")),
        *(paragraph(text(note)) for note in run.notes),
    ]
    caption = "The best detection of each video" + (f"; the first {MOST_LISTED}" if videos > MOST_LISTED else "")
    header = ["video", "seconds", "best class", "from (s)", "to (s)", "score", "detections"]
    parts.append(table(caption, header, _rows(judged), sortable=True))
    return Section(key="found", title="What was found", html="".join(parts))


def _rows(judged: Judged) -> Iterator[Cells]:
    timelines, detections = judged.run.timelines, judged.run.detections
    best_first = np.lexsort((-detections.score, detections.video))
    counts = np.bincount(detections.video, minlength=len(timelines.videos)).tolist()
    ends = np.cumsum(counts).tolist()
    for v, name in enumerate(timelines.videos[:MOST_LISTED]):
        link = explore_link(video=v)
        best: list[Cell | str] = [NOTHING] * 4
        if counts[v]:
            i = int(best_first[ends[v] - counts[v]])
            numbers = (detections.start[i], detections.end[i], detections.score[i])
            shown = [
                Cell(shown=f"{value:.{digits}f}", sort=float(value))
                for value, digits in zip(numbers, (1, 1, 3), strict=True)
            ]
            best = [timelines.classes[detections.label[i]], *shown]
        seconds = float(timelines.seconds[v])
        yield [
            Cell(shown=name, link=link),
            Cell(shown=f"{seconds:.1f}", sort=seconds),
            *best,
            count(counts[v], target=link),
        ]


def _made(judged: Judged) -> Section:
    run = judged.run
    changed = changed_options(judged)
    options = (
        table(f"What differs from the preset {preset_of(run.options)}", ["option", "preset", "here"], changed)
        if changed
        else paragraph(f"No option differs from the preset {text(preset_of(run.options))}.")
    )
    return Section(key="made", title="How it was made", html=facts(_facts(judged)) + options)


def _facts(judged: Judged) -> Iterator[tuple[str, object]]:
    results = judged.run.results
    if "model_file" in results:
        yield "model", results["model_file"]
    yield "classes", f"{len(judged.run.timelines.classes):,}"
    for reason, left_out in results.get("left_out", {}).items():
        yield "left out", f"{reason}: {left_out}"
    for name, value in results.get("extraction", {}).items():
        yield name, value
    for name in ("device", "precision"):
        if name in results:
            yield name, results[name]
    versions = results.get("versions", {})
    if versions:
        yield "versions", ", ".join(f"{name} {value}" for name, value in versions.items())
    yield "commit", results.get("git_commit") or NOTHING
