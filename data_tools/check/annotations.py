"""Findings about annotations: instances past the end of their video, repeated ones, and the quirks of THUMOS'14.

    for finding in annotation_findings(videos, grid=SnippetGrid(frames=16, stride=16)): ...

Segments that end at or before their start are reported earlier, by the reader of the ground truth.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from data_tools.check.findings import Finding, summarize
from data_tools.check.times import TimedVideo, grid_warning
from formats.annotations import Instance
from formats.thumos14_quirks import ANNOTATED_PAST_THE_END, PARENT_CLASSES, VIDEO_PREFIXES
from utils.snippet_grid import SnippetGrid

TWIN_TOLERANCE = 0.2  # seconds; THUMOS'14 is annotated to tenths


def annotation_findings(videos: Sequence[TimedVideo], *, grid: SnippetGrid) -> Iterator[Finding]:
    yield from _before_the_start(videos)
    if grid_warning(videos, grid) is None:  # otherwise all times are wrong
        yield from _past_the_end(videos, grid)
    yield from _repeated(videos)
    yield from _twins(videos)


def _before_the_start(videos: Sequence[TimedVideo]) -> Iterator[Finding]:
    yield from summarize(
        "warning",
        "annotations that begin before 0",
        [_where(video.video_id, i) for video in videos for i in video.annotation.instances if i.start < 0],
        advice="times count from the video's beginning: no detection begins before it",
    )


def _past_the_end(videos: Sequence[TimedVideo], grid: SnippetGrid) -> Iterator[Finding]:
    """Instances past the end of their video, with a tolerance of a snippet: features seldom reach the last frame."""
    starting: list[str] = []
    ending: list[str] = []
    known: list[str] = []
    for video in videos:
        ends = {"features end": grid.end(video.num_snippets, video.fps)}
        if video.annotation.duration is not None:
            ends["video ends"] = video.annotation.duration
        tolerance = max(grid.frames, grid.stride) / video.fps
        for instance in video.annotation.instances:
            after = {what: end for what, end in ends.items() if instance.end > end + tolerance}
            if not after:
                continue
            limits = " and its ".join(f"{what} at {end:.2f} s" for what, end in after.items())
            line = f"{_where(video.video_id, instance)}, its {limits}"
            if video.video_id in ANNOTATED_PAST_THE_END:
                known.append(line)
            else:
                (starting if instance.start >= min(after.values()) else ending).append(line)
    yield from summarize(
        "warning",
        "annotations that begin past the end",
        starting,
        advice="no detection can match them, and in test each counts as missed: they belong to another version of the "
        "video, or are in frames instead of seconds",
    )
    yield from summarize(
        "warning",
        "annotations that end past the end",
        ending,
        advice="fix the segment, or extract the entire video; see also --fps",
    )
    yield from summarize(
        "note",
        "annotations past the end, as THUMOS'14 was published",
        known,
        advice="leave them, so that results are comparable; training does not use them, in test they count as missed",
    )


def _repeated(videos: Sequence[TimedVideo]) -> Iterator[Finding]:
    yield from summarize(
        "warning",
        "the same annotation more than once",
        [
            f"{_where(video.video_id, instance)}: {count} times"
            for video in videos
            for instance, count in Counter(video.annotation.instances).items()
            if count > 1
        ],
        advice="keep one; in test all but one count as missed",
    )


def _twins(videos: Sequence[TimedVideo]) -> Iterator[Finding]:
    """Instances that THUMOS'14 marks a second time, under a wider class, or should."""
    for child, parent in PARENT_CLASSES.items():
        paired: list[str] = []
        unpaired: list[str] = []
        for video in videos:
            if not video.video_id.startswith(VIDEO_PREFIXES):
                continue
            wider = [instance for instance in video.annotation.instances if instance.label == parent]
            for instance in video.annotation.instances:
                if instance.label == child:
                    (paired if any(_same_time(instance, w) for w in wider) else unpaired).append(
                        _where(video.video_id, instance)
                    )
        yield from summarize(
            "note",
            f"{child} annotated a second time as {parent}",
            paired,
            advice=f"this is THUMOS'14: every {child} is a {parent} too, and both classes are evaluated",
        )
        yield from summarize(
            "warning",
            f"{child} that is not annotated as {parent} too",
            unpaired,
            advice="in THUMOS'14 as published every one is: these annotations were changed",
        )


def _same_time(one: Instance, other: Instance) -> bool:
    return max(abs(one.start - other.start), abs(one.end - other.end)) <= TWIN_TOLERANCE


def _where(video_id: str, instance: Instance) -> str:
    return f"video '{video_id}': '{instance.label}' [{instance.start:g}, {instance.end:g}]"
