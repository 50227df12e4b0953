"""What a reader of an evaluation's numbers should know about its two files: what was matched, counted or left out.

for note in notes_on(pair): print(note.text())
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.files import NOT_EVALUATED, FilePair, is_empty
from formats.names import amount, shown
from formats.spelling import spelt_alike

UNKNOWN_VIDEOS, UNKNOWN_CLASSES, EMPTY_INSTANCES = "unknown_videos", "unknown_classes", "empty_instances"


@dataclass(frozen=True, kw_only=True)
class Note:
    key: str  # its name in JSON
    what: str  # what is so, and what follows for the numbers
    videos: tuple[str, ...] = ()  # that it is about
    classes: tuple[str, ...] = ()
    instances: int = 0
    detections: int = 0

    def text(self, *, most: int | None = 3) -> str:
        """One line, with `most` of the names; None: all."""
        counts = {
            "video": len(self.videos),
            "class": len(self.classes),
            "instance": self.instances,
            "detection": self.detections,
        }
        amounts = ", ".join(amount(count, what) for what, count in counts.items() if count)
        names = self.videos + self.classes
        counted = f": {amounts}" if amounts else ""
        return f"note: {self.what}{counted}" + (f" ({shown(names, most=most)})" if names else "")

    def as_plain(self) -> dict[str, Any]:
        """The fields that say something, for JSON."""
        return {name: value for name, value in vars(self).items() if value and name != "key"}


def notes_on(pair: FilePair) -> list[Note]:
    return [*_spellings(pair), *_videos(pair), *_classes(pair), *_segments(pair)]


def _spellings(pair: FilePair) -> Iterator[Note]:
    """Names that were matched though they differ."""
    videos = {found: known for found, known in pair.video_of.items() if found != known}
    if videos:
        yield Note(
            key="respelled_videos",
            what="videos matched under the ground truth's name for them",
            videos=tuple(f"{found} = {known}" for found, known in videos.items()),
        )
    if pair.class_of.respelled:
        yield Note(
            key="respelled_classes",
            what="classes matched under the ground truth's name for them",
            classes=tuple(f"{found} = {known}" for found, known in pair.class_of.respelled.items()),
        )
    similar = tuple(" / ".join(names) for names in spelt_alike(pair.classes))
    if similar:
        yield Note(key="similar_classes", what="spelled alike in the ground truth, evaluated as two", classes=similar)


def _videos(pair: FilePair) -> Iterator[Note]:
    """Videos of one file alone, or not evaluated."""
    if pair.missing:
        counted = pair.options.missing == "count"
        done = "their instances count as missed (--missing skip leaves them out)" if counted else "left out"
        yield Note(
            key="missing_videos",
            what=f"not in the result file, {done}",
            videos=pair.missing,
            instances=sum(len(pair.annotations[video].instances) for video in pair.missing),
        )
    if pair.unknown_videos:
        counted = pair.options.unknown == "count"
        done = "count as false positives (--unknown skip leaves them out)" if counted else "are left out"
        yield Note(
            key=UNKNOWN_VIDEOS,
            what=f"not in the ground truth, their detections {done}",
            videos=pair.unknown_videos,
            detections=_detections_in(pair, pair.unknown_videos),
        )
    reasons = defaultdict(list)
    for video, reason in pair.chosen.left_out.items():
        reasons[str(reason)].append(video)
    of = {known: found for found, known in pair.video_of.items()}
    for why, videos in reasons.items():
        yield Note(
            key="left_out_videos",
            what=f"not evaluated, {why}",
            videos=tuple(videos),
            detections=_detections_in(pair, (of[video] for video in videos if video in of)),
        )
    evaluated = {*pair.chosen.names, *pair.chosen.left_out}
    elsewhere = tuple(found for found, known in pair.video_of.items() if known not in evaluated)
    if elsewhere:
        yield Note(
            key="videos_of_other_subsets",
            what="not evaluated, in other subsets of the ground truth",
            videos=elsewhere,
            detections=_detections_in(pair, elsewhere),
        )


def _detections_in(pair: FilePair, videos: Iterable[str]) -> int:
    """How many detections the result file has in these of its videos."""
    position = {name: i for i, name in enumerate(pair.found.videos)}
    return int(np.isin(pair.found.detections.video, [position[video] for video in videos]).sum())


def _classes(pair: FilePair) -> Iterator[Note]:
    """Labels of detections in evaluated videos that do not enter the mean."""
    labels = pair.found.detections.label[pair.video_positions != NOT_EVALUATED]
    counts = dict(zip(pair.found.labels, np.bincount(labels, minlength=len(pair.found.labels)).tolist(), strict=True))
    with_truth = {pair.classes[label] for label in np.unique(pair.truth.label)}
    no_class: list[str] = []
    unknown: list[str] = []
    unused: list[str] = []
    contested: list[str] = []
    for label in pair.found.labels:
        known = pair.class_of.known.get(label)
        if pair.is_mark(label):
            no_class.append(label)
        elif known is None:
            (contested if label in pair.class_of.contested else unknown).append(label)
        elif known not in with_truth:
            unused.append(label)
    kinds = (
        ("no_class", "no class but a mark of what nobody could classify, not evaluated", no_class),
        (UNKNOWN_CLASSES, "not in the ground truth, do not enter the mean (--strict refuses them)", unknown),
        (
            UNKNOWN_CLASSES,
            "a class that is spelt in more than one way, not counted as it: spell it as the ground truth does",
            contested,
        ),
        ("classes_without_instances", "without instances in these videos, do not enter the mean", unused),
    )
    for key, what, found in kinds:
        if found:
            names = (
                f"{label} may mean {' or '.join(pair.class_of.contested[label])}"
                if label in pair.class_of.contested
                else label
                for label in found
            )
            yield Note(key=key, what=what, classes=tuple(names), detections=sum(counts[label] for label in found))


def _segments(pair: FilePair) -> Iterator[Note]:
    """Instances and detections of no length, and detections past the end."""
    done = "left out" if pair.options.skip_empty else "count as missed (--skip_empty leaves them out)"
    instances = [(v, i) for v in pair.videos for i in pair.annotations[v].instances if is_empty(i)]
    if instances:
        videos = tuple(dict.fromkeys(video for video, _ in instances))
        what = f"instances that end at or before their start, {done}"
        yield Note(key=EMPTY_INSTANCES, what=what, videos=videos, instances=len(instances))
    empty = int((pair.is_empty & (pair.video_positions != NOT_EVALUATED)).sum())
    if empty:
        done = "left out" if pair.options.skip_empty else "count as false positives (--skip_empty leaves them out)"
        what = f"detections that end at or before their start, {done}"
        yield Note(key="empty_detections", what=what, detections=empty)
    durations = [pair.annotations[video].duration or np.inf for video in pair.videos]
    duration = np.array([*durations, *(np.inf for _ in pair.unknown_videos)])
    late = int((pair.detections.start >= duration[pair.detections.video]).sum())
    if late:
        what = "detections that begin after their video's stated end (are their times in seconds?)"
        yield Note(key="late_detections", what=what, detections=late)
