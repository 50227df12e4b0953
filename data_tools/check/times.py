"""What annotations say that can't be: about lengths, about times, and twice.

    for finding in annotation_findings(videos, grid=SnippetGrid(16, 16)): ...

Segments that end at or before their start are found earlier, by what reads them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_tools.check.findings import Finding, found
from formats.annotations import THUMOS_PREFIXES, Instance, VideoAnnotation
from formats.thumos14 import ANNOTATED_PAST_THE_END, PARENT_CLASSES
from utils.snippet_grid import SnippetGrid

LENGTH_TOLERANCE = 2.0  # snippets between a duration and its features
FITS = 0.9  # share of the videos that another frame rate or stride must fit, to be suggested
TWIN_TOLERANCE = 0.2  # seconds; THUMOS'14 is annotated to tenths


@dataclass(frozen=True)
class TimedVideo:
    """A video in a split, with features."""

    video_id: str
    annotation: VideoAnnotation
    num_snippets: int
    fps: float


def annotation_findings(videos: Sequence[TimedVideo], *, grid: SnippetGrid) -> Iterator[Finding]:
    yield from _durations([video for video in videos if video.annotation.duration is not None], grid)
    if doubt_of_grid(videos, grid) is None:  # else every time is wrong
        yield from _past_the_end(videos, grid)
    yield from _repeated(videos)
    yield from _twins(videos)


def doubt_of_grid(videos: Sequence[TimedVideo], grid: SnippetGrid) -> str | None:
    """Why the seconds of all detections would be wrong: most of the known durations contradict the features' lengths."""
    known = [video for video in videos if video.annotation.duration is not None]
    wrong = [video for video in known if not _fits(video, grid, video.fps)]
    if 2 * len(wrong) <= len(known):
        return None
    return f"the durations of {len(wrong):,} of {len(known):,} videos contradict their features: {_advice(known, grid)}"


def _durations(videos: Sequence[TimedVideo], grid: SnippetGrid) -> Iterator[Finding]:
    """`videos` have a duration."""
    wrong = [video for video in videos if not _fits(video, grid, video.fps)]
    yield from found(
        "warning",
        f"durations and features that differ by more than {LENGTH_TOLERANCE:g} snippets",
        [
            f"video '{video.video_id}': {video.annotation.duration:g} s at {video.fps:g} frames per second are "
            f"{grid.snippets(_duration(video), video.fps):.1f} snippets, its features have {video.num_snippets}"
            for video in wrong
        ],
        advice=_advice(videos, grid)
        if 2 * len(wrong) > len(videos)
        else "features or durations are of another version of the video: times would be wrong",
    )


def _advice(videos: Sequence[TimedVideo], grid: SnippetGrid) -> str:
    """For most of the videos being wrong: the frame rate or stride that would fit them."""
    if len(videos) > 1 and len({video.num_snippets for video in videos}) == 1:
        return "all features are equally long: they were rescaled, and snippets are no longer of one duration"
    suggestions = []
    rate = np.median([((v.num_snippets - 1) * grid.stride + grid.frames) / _duration(v) for v in videos])
    for fps in (round(rate), round(float(rate), 2)):
        if fps > 0 and _share(_fits(video, grid, fps) for video in videos) >= FITS:
            suggestions.append(f"--fps {fps:g}")
            break
    longer = [video for video in videos if video.num_snippets > 1]
    strides = [(_duration(v) * v.fps - grid.frames) / (v.num_snippets - 1) for v in longer]
    stride = round(float(np.median(strides))) if longer else 0
    if stride > 0 and _share(_fits(v, SnippetGrid(grid.frames, stride), v.fps) for v in videos) >= FITS:
        suggestions.append(f"--snippet_stride {stride} (or --snippet_frames {stride}, if snippets do not overlap)")
    if suggestions:
        return f"{' or '.join(suggestions)} would fit; give what the features were extracted with"
    return "no single frame rate or stride fits: check --fps, --snippet_frames, --snippet_stride and the durations"


def _fits(video: TimedVideo, grid: SnippetGrid, fps: float) -> bool:
    return abs(grid.snippets(_duration(video), fps) - video.num_snippets) <= LENGTH_TOLERANCE


def _duration(video: TimedVideo) -> float:
    assert video.annotation.duration is not None
    return video.annotation.duration


def _share(truths: Iterator[bool]) -> float:
    return float(np.mean(list(truths)))


def _past_the_end(videos: Sequence[TimedVideo], grid: SnippetGrid) -> Iterator[Finding]:
    """With a tolerance of one snippet, since features seldom reach a video's last frame."""
    starting: list[str] = []
    ending: list[str] = []
    known: list[str] = []
    for video in videos:
        ends = {"features end": float(grid.seconds(video.num_snippets, video.fps))}
        if video.annotation.duration is not None:
            ends["video ends"] = video.annotation.duration
        tolerance = grid.stride / video.fps
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
    yield from found(
        "warning",
        "annotations that begin past the end",
        starting,
        advice="nothing can be found there, and in test each counts as missed: they are of another version of the "
        "video, or in frames instead of seconds",
    )
    yield from found(
        "warning",
        "annotations that end past the end",
        ending,
        advice="mend the segment, or extract all of the video; see also --fps",
    )
    yield from found(
        "note",
        "annotations past the end, as THUMOS'14 was published",
        known,
        advice="leave them, so that results compare with others; training does not use them, in test they count as missed",
    )


def _repeated(videos: Sequence[TimedVideo]) -> Iterator[Finding]:
    yield from found(
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
    """THUMOS'14 marks instances of some classes a second time, under a wider class."""
    for child, parent in PARENT_CLASSES.items():
        paired: list[str] = []
        alone: list[str] = []
        for video in videos:
            if not video.video_id.startswith(THUMOS_PREFIXES):
                continue
            wider = [instance for instance in video.annotation.instances if instance.label == parent]
            for instance in video.annotation.instances:
                if instance.label == child:
                    (paired if any(_same_time(instance, w) for w in wider) else alone).append(
                        _where(video.video_id, instance)
                    )
        yield from found(
            "note",
            f"{child} annotated a second time as {parent}",
            paired,
            advice=f"this is THUMOS'14: every {child} is a {parent} too, and both classes are evaluated",
        )
        yield from found(
            "warning",
            f"{child} that is not annotated as {parent} too",
            alone,
            advice="in THUMOS'14 as published every one is: the annotations were changed",
        )


def _same_time(one: Instance, other: Instance) -> bool:
    return max(abs(one.start - other.start), abs(one.end - other.end)) <= TWIN_TOLERANCE


def _where(video_id: str, instance: Instance) -> str:
    return f"video '{video_id}': '{instance.label}' [{instance.start:g}, {instance.end:g}]"
