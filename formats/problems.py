"""Problems of a data set, as records that go from the reader to the error line and to the report of check_data.

raise DataError(Problem(kind=Kind.SHAPE, where=str(path), what="shape (3,)", fix="see --feature_size"))
report(problem)     # raises it, or collects it and lets the reader continue without that entry
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NoReturn

from utils.errors import InputError, first_of


class Kind(StrEnum):
    """The kinds that reports group problems by."""

    # An entry of the ground truth or of a list
    MALFORMED_ENTRY = "malformed entry"
    INVALID_LABEL = "invalid label"
    INVALID_NUMBER = "invalid number"
    INVALID_SEGMENT = "invalid segment"
    EMPTY_SEGMENT = "segments that end at or before their start"
    UNKNOWN_LABEL = "label that is not a class"
    LABEL_ID = "label that contradicts its label_id"
    SEGMENTS_WITHOUT_LABELS = "more segments than labels, or fewer"
    LISTED_TWICE = "listed twice"

    # A feature file
    UNREADABLE = "can't be read"
    DAMAGED = "damaged file"
    PICKLED = "pickled objects"
    CONTENT = "something other than features"
    TYPE = "wrong type of numbers"
    SHAPE = "wrong shape"
    NO_SNIPPETS = "no snippets"
    NOT_FINITE = "NaN or infinity"
    LENGTHS = "streams of different length"
    NO_STREAM = "missing stream"
    CHANGED = "changed during a run"
    TWO_FILES = "two files of a video"

    # Names, labels and files against each other
    IN_BOTH_SPLITS = "in both splits"
    WITHOUT_ANNOTATION = "without annotation"
    WITHOUT_FEATURES = "without features"
    SUBSET_AGAINST_SPLIT = "subset against split"
    TRAINING_WITHOUT_LABEL = "training without label"
    LABEL_WITHOUT_TRAINING = "label without training"
    TWO_NAMES = "two names of a video"

    @property
    def heading(self) -> str:
        """The heading of all problems of this kind."""
        return _HEADINGS.get(self, self.value)

    @property
    def skippable(self) -> bool:
        """Whether --skip_unusable leaves out what has such a problem."""
        return self in _SKIPPABLE

    @property
    def advice(self) -> str:
        """What to do about all problems of this kind, besides the fix of each; empty if there is nothing."""
        return f"or {_SKIPPABLE[self]} with --skip_unusable" if self.skippable else ""

    @property
    def costs_the_video(self) -> bool:
        """Whether what --skip_unusable leaves out is the video."""
        return _SKIPPABLE.get(self) == _WITHOUT_VIDEOS


# Headings that differ from the kind's own text.
_HEADINGS = {
    Kind.IN_BOTH_SPLITS: "videos in both splits",
    Kind.LABEL_WITHOUT_TRAINING: "test labels that never occur in training",
    Kind.WITHOUT_FEATURES: "missing features",
    Kind.WITHOUT_ANNOTATION: "videos in a split without annotation",
    Kind.SUBSET_AGAINST_SPLIT: "subsets that contradict the split files",
    Kind.TRAINING_WITHOUT_LABEL: "training videos without labels",
    Kind.TWO_NAMES: "two names for one video",
    Kind.TWO_FILES: "two files of one video",
}
UNTRAINED_HINT = "--skip_unusable keeps classes that no training video has; their AP counts, and is about 0"
_WITHOUT_VIDEOS = "leave such videos out"
# What --skip_unusable does about a problem of this kind.
_SKIPPABLE = {
    Kind.WITHOUT_FEATURES: _WITHOUT_VIDEOS,
    Kind.WITHOUT_ANNOTATION: _WITHOUT_VIDEOS,
    Kind.LENGTHS: _WITHOUT_VIDEOS,
    Kind.EMPTY_SEGMENT: "leave such segments out",
    Kind.LABEL_WITHOUT_TRAINING: "keep such classes, whose AP counts as about 0,",
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong. As text: "where: what; fix", in one line, even if names in it contain line breaks."""

    kind: Kind
    where: str  # the file, and the place in it
    what: str  # what is wrong
    fix: str  # what to do
    video: str = ""  # the video concerned, if there is one

    def __str__(self) -> str:
        line = " ".join(f"{self.where}: {self.what}; {self.fix}".splitlines())
        return line.encode("utf-8", "backslashreplace").decode()  # names of files may be no text

    def of(self, video: str) -> "Problem":
        """The same problem with its video's name, unknown where it was noticed."""
        return replace(self, video=video)


class DataError(InputError):
    """A problem raised as an error, together with others that were found."""

    def __init__(self, problem: Problem, *, others: Sequence[Problem] = ()) -> None:
        message, details = first_of([str(problem), *map(str, others)], rest=", which --check_data --list shows")
        classes = all(p.kind is Kind.LABEL_WITHOUT_TRAINING for p in (problem, *others))
        super().__init__(message, details=details, hint=UNTRAINED_HINT if classes else "")
        self.problem = problem


Report = Callable[[Problem], None]


def raise_problem(problem: Problem) -> NoReturn:
    """Report a problem by raising it: the reader stops at the first one."""
    raise DataError(problem)
