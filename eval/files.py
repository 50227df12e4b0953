"""A ground truth and a result file, brought to the same videos and classes before they are compared.

    pair = read_pair(ground_truth, result_file, PairOptions(subset="test"))
    pair.truth, pair.detections                          # coded by the same videos and classes
    for note in notes_on(pair): print(note.text())       # from eval/notes.py: all that was matched, left out or counted

Names that differ in spelling are matched where that is unambiguous. Whatever does not fit is a note or an InputError, so that
no number is wrong in silence (docs/evaluation.md).
"""

import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from formats.annotations import Instance, VideoAnnotation, class_names, ground_truth_segments
from formats.evaluated import EvaluatedVideos, evaluated_videos, split_file
from formats.ground_truth import read_annotations
from formats.matching_names import CLASS_FOLDS, VIDEO_FOLDS, Matching, match_names
from formats.names import shown
from formats.problems import DataError, Problem
from formats.result_file import ResultFile, read_detections
from formats.splits import Annotations
from formats.thumos14_quirks import is_ambiguous
from utils.errors import InputError
from utils.segments import Indices, Segments

NOT_EVALUATED = -1  # in the place of a video's or a class's position


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """What to compare, and what to do about what does not fit: the flags of the same names (eval/arguments.py)."""

    subset: str = "test"
    split: str = "auto"
    missing: str = "count"
    unknown: str = "count"
    skip_empty: bool = False


@dataclass(frozen=True, kw_only=True)
class FilePair:
    """Both files, and which name of the result file means which of the ground truth."""

    options: PairOptions
    annotations: dict[str, VideoAnnotation]  # with segments that end at or before their start
    chosen: EvaluatedVideos
    found: ResultFile
    video_of: dict[str, str]  # video of the result file -> of the ground truth, as far as it has it
    class_of: Matching  # label of the result file -> class

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return class_names(self.annotations)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The videos to evaluate that the result file lacks."""
        there = set(self.video_of.values())
        return tuple(video for video in self.chosen.names if video not in there)

    @cached_property
    def videos(self) -> tuple[str, ...]:
        """The videos that are compared."""
        skipped = {*self.missing} if self.options.missing == "skip" else set()
        return tuple(video for video in self.chosen.names if video not in skipped)

    @cached_property
    def unknown_videos(self) -> tuple[str, ...]:
        """The videos of the result file that the ground truth lacks, in no subset."""
        return tuple(video for video in self.found.videos if video not in self.video_of)

    @cached_property
    def truth(self) -> Segments:
        """The instances of `videos`."""
        annotations = without_empty(self.annotations) if self.options.skip_empty else self.annotations
        return ground_truth_segments(annotations, self.videos, self.classes)

    @cached_property
    def detections(self) -> Segments:
        """What enters the comparison. The positions of unknown videos follow those of `videos`."""
        return self.of_every_label.take(np.flatnonzero(self.of_every_label.label < len(self.classes)))

    @cached_property
    def of_every_label(self) -> Segments:
        """`detections` and those of labels that are no class here, whose positions follow those of `classes`."""
        video, label = self.video_positions, self.label_positions
        label = np.where(label == NOT_EVALUATED, len(self.classes) + self.found.detections.label, label)
        marks = [i for i, name in enumerate(self.found.labels) if self.is_mark(name)]
        entering = (video != NOT_EVALUATED) & ~np.isin(self.found.detections.label, marks)
        if self.options.skip_empty:
            entering &= ~self.is_empty
        return replace(self.found.detections, video=video, label=label).take(np.flatnonzero(entering))

    def is_mark(self, label: str) -> bool:
        """Whether a label of the result file is no class but a mark of what nobody could classify."""
        unknown = label not in self.class_of.known
        return unknown and any(is_ambiguous(video, label) for video in self.chosen.names)

    @property
    def which(self) -> str:
        """Which of the ground truth's videos are to be evaluated."""
        listed = f", listed in {self.chosen.listed_in}" if self.chosen.listed_in else ""
        return f"subset {self.options.subset}{listed}"

    def which_as_plain(self) -> dict[str, str | None]:
        """`which`, for JSON."""
        listed_in = self.chosen.listed_in
        return {"subset": self.options.subset, "listed_in": str(listed_in) if listed_in else None}

    @cached_property
    def position_of(self) -> dict[str, int]:
        """The positions of `videos`, and after them those of `unknown_videos` if their detections count."""
        unknown = self.unknown_videos if self.options.unknown == "count" else ()
        return {name: i for i, name in enumerate((*self.videos, *unknown))}

    @cached_property
    def video_positions(self) -> Indices:
        """Of each detection in the result file, its video's position, or NOT_EVALUATED."""
        names = [self.video_of.get(video, video) for video in self.found.videos]
        return _look_up(self.position_of, names, self.found.detections.video)

    def marked(self, intervals: Iterable[tuple[str, float, float]]) -> Segments:
        """Intervals (video, start, end) of videos that are compared, coded by these; their names matched as others are."""
        intervals = list(intervals)
        names = match_names(
            (video for video, _, _ in intervals), (*self.annotations, *self.unknown_videos), folds=VIDEO_FOLDS
        )
        rows = [(self.position_of.get(names.known.get(v, ""), NOT_EVALUATED), 0, s, e, 1.0) for v, s, e in intervals]
        return Segments.from_rows([row for row in rows if row[0] != NOT_EVALUATED])

    @cached_property
    def label_positions(self) -> Indices:
        """Of each detection in the result file, its class, or NOT_EVALUATED."""
        position = {name: i for i, name in enumerate(self.classes)}
        names = [self.class_of.known.get(label, "") for label in self.found.labels]
        return _look_up(position, names, self.found.detections.label)

    @cached_property
    def is_empty(self) -> NDArray[np.bool_]:
        """Of each detection in the result file, whether it ends at or before its start."""
        return self.found.detections.end <= self.found.detections.start


def read_pair(ground_truth: pathlib.Path, result_file: pathlib.Path, options: PairOptions) -> FilePair:
    """Read both files and match their names.

    Raises InputError for what can't be read, when there is nothing to compare, and when a name may mean several.
    """
    problems: list[Problem] = []
    annotations = read_annotations(ground_truth, problems.append, keep_empty=True)
    usable = without_empty(annotations) if options.skip_empty else annotations
    listed_in = _listed_in(ground_truth, usable, options)
    unread = [problem for problem in problems if problem.video not in annotations]  # nobody knows their subset
    try:
        chosen = evaluated_videos(usable, ground_truth, subset=options.subset, listed_in=listed_in)
    except InputError:
        _refuse(unread)  # rather than what they led to
        raise
    _refuse([*unread, *(p for p in problems if p.video in annotations and chosen.depends_on(p.video))])
    found = read_detections(result_file)
    pair = FilePair(
        options=options,
        annotations=annotations,
        chosen=chosen,
        found=found,
        video_of=_match_videos(found, annotations, ground_truth, result_file),
        class_of=match_names(found.labels, class_names(annotations), folds=CLASS_FOLDS),
    )
    if len(pair.missing) == len(chosen.names):
        raise InputError(f"{result_file}: {_why_nothing_matches(pair)}")
    if len(pair.truth) == 0:
        raise InputError(f"--subset {options.subset}: {ground_truth} has no annotated instances in it")
    return pair


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise DataError(problems[0], others=problems[1:])


def without_empty(annotations: Annotations) -> dict[str, VideoAnnotation]:
    """The annotations without the instances that end at or before their start; these still count for the labels."""
    return {
        video: replace(
            entry,
            instances=tuple(instance for instance in entry.instances if not is_empty(instance)),
            weak_labels=entry.labels,
        )
        for video, entry in annotations.items()
    }


def is_empty(instance: Instance) -> bool:
    return instance.end <= instance.start


def _look_up(position: dict[str, int], names: Iterable[str], indices: Indices) -> Indices:
    """The positions of names[indices]."""
    return np.array([position.get(name, NOT_EVALUATED) for name in names], np.int64)[indices]


def _listed_in(ground_truth: pathlib.Path, annotations: Annotations, options: PairOptions) -> pathlib.Path | None:
    if options.split == "auto":
        return split_file(ground_truth, annotations, subset=options.subset)
    return None if options.split == "none" else pathlib.Path(options.split)


def _match_videos(
    found: ResultFile, annotations: Annotations, ground_truth: pathlib.Path, result_file: pathlib.Path
) -> dict[str, str]:
    """{video of the result file: video of the ground truth}. Raises InputError for a name that may mean several."""
    matching = match_names(found.videos, annotations, folds=VIDEO_FOLDS)
    for name, (first, *others) in matching.contested.items():
        if others:
            what = f"video {shown([name])} may be {shown([first, *others])} of {ground_truth}"
        else:
            what = f"two names of one video, {shown([first])} of {ground_truth}: {shown([name])} and another like it"
        raise InputError(f"{result_file}: {what}; write the names as there, each once")
    return matching.known


def _why_nothing_matches(pair: FilePair) -> str:
    known = [pair.annotations[video].subset for video in pair.video_of.values()]
    if known:
        subsets = ", ".join(sorted(set(known)))
        return f"its videos are in other subsets of the ground truth ({subsets}); give one of them as --subset"
    if not pair.found.videos:
        return "it names no videos; is it a result file?"
    return (
        f"none of its videos is one of --subset {pair.options.subset}; it has {shown(pair.found.videos)}, the ground "
        f"truth {shown(pair.chosen.names)}"
    )
