"""The videos that an evaluation compares, by the rules that training's own evaluations follow (formats/splits.py).

file = split_file(ground_truth, annotations, subset="test")       # the split file beside it, if training would read that
chosen = evaluated_videos(annotations, ground_truth, subset="test", listed_in=file)
"""

import pathlib
from collections.abc import Iterable
from dataclasses import dataclass

from formats.left_out import Cause, Reason
from formats.names import group_of, splits_of
from formats.problems import Problem, raise_problem
from formats.splits import (
    Annotations,
    left_out_by_practice,
    read_split_file,
    split_files,
    splits_of_files,
    unmarked_videos,
)
from utils.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EvaluatedVideos:
    names: tuple[str, ...]
    listed_in: pathlib.Path | None  # the file that lists them
    left_out: dict[str, Reason]  # video of the subset that is not evaluated -> why

    def depends_on(self, video: str) -> bool:
        """Whether the annotations of this video decide something: it is evaluated, or left out because it lacks segments."""
        reason = self.left_out.get(video)
        return video in self.names or (reason is not None and reason.cause is Cause.WITHOUT_SEGMENTS)


def split_file(ground_truth: pathlib.Path, annotations: Annotations, *, subset: str) -> pathlib.Path | None:
    """The split file in the folder of the set that lists the videos of `subset`, if that is one that training tests on.

    It is the file of that name, else the one that training would read, unless that lists videos of other subsets alone.
    """
    folder, group = ground_truth.parent, group_of(subset)
    if folder.name == "annotations":  # a folder of the set's (formats/ground_truth.py)
        folder = folder.parent
    groups = {known for known in (group, *map(group_of, _subsets(annotations))) if known}
    files = split_files(folder)
    split_of = splits_of_files(files.keys())
    tested = [file for file_group, file in files.items() if split_of.get(file_group) == "test"]
    if group is None or splits_of(groups)[group] != "test" or not tested:
        return None
    if group in files:
        return files[group]
    of_subset = set(_of_subset(annotations, subset))
    return tested[0] if not of_subset or of_subset & {*read_split_file(tested[0], annotations, _overlook)} else None


def evaluated_videos(
    annotations: Annotations, ground_truth: pathlib.Path, *, subset: str, listed_in: pathlib.Path | None
) -> EvaluatedVideos:
    """The videos of `subset`, however it is written; or those that a file lists. Raises InputError when there are none."""
    of_subset = _of_subset(annotations, subset)
    if listed_in:
        listed = read_split_file(listed_in, annotations, raise_problem)
        names = tuple(video for video in listed if video in annotations)
        if not names:
            raise InputError(
                f"{listed_in}: {ground_truth} has none of its videos, '{listed[0]}' for one; compare the names"
            )
        reason, others = Reason(cause=Cause.NOT_LISTED, detail=listed_in.name), set(of_subset) - set(listed)
        left_out = {video: reason for video in of_subset if video in others}
        # As --skip_unusable does in training.
        unknown = Reason(cause=Cause.LISTED_ALONE, detail=listed_in.name)
        left_out |= {video: unknown for video in listed if video not in annotations}
    else:
        left_out = {video: reason for video, reason in left_out_by_practice(annotations).items() if video in of_subset}
        names = tuple(video for video in of_subset if video not in left_out)
    if not names:
        known = ", ".join(_subsets(annotations))
        raise InputError(f"--subset {subset}: {ground_truth} has no such videos (it has: {known})")
    unmarked = unmarked_videos(annotations, names)
    left_out |= dict.fromkeys(unmarked, Reason(cause=Cause.WITHOUT_SEGMENTS))
    marked = tuple(video for video in names if video not in unmarked)
    return EvaluatedVideos(names=marked, listed_in=listed_in, left_out=left_out)


def _of_subset(annotations: Annotations, subset: str) -> list[str]:
    return [video for video, entry in annotations.items() if _same_subset(entry.subset, subset)]


def _overlook(_: Problem) -> None:
    """Read on: whoever reads the file to use it reports its problems."""


def _same_subset(name: str, other: str) -> bool:
    """Whether two names of subsets mean the same: "val" is validation, whatever its case."""
    return name == other or (group_of(name) is not None and group_of(name) == group_of(other))


def _subsets(annotations: Annotations) -> Iterable[str]:
    return sorted({entry.subset for entry in annotations.values()})
