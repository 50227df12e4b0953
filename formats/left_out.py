"""Reasons for leaving videos, segments and classes out. They become text only where somebody reads them.

reason = Reason(cause=Cause.UNLABELLED_SUBSET, detail="test")
print(f"left out, {reason}: 4")        # left out, subset test has no labels: 4
"""

from dataclasses import dataclass
from enum import StrEnum

from formats.problems import Kind


class Cause(StrEnum):
    """The causes that are no problem of the set; {detail} is what the text depends on."""

    COMMON_PRACTICE = "left out of THUMOS'14 by common practice"
    WITHOUT_SEGMENTS = "test videos without segments"
    NOT_LISTED = "not listed in {detail}"
    LISTED_ALONE = "listed in {detail}, but not in the ground truth"
    UNKNOWN_SUBSET = "subset '{detail}' is neither training, validation nor test"
    IN_NO_SPLIT = "annotated videos in no split"
    UNUSED_SPLIT = "listed in {detail}, which is neither trained nor tested on"
    UNLABELLED_SUBSET = "subset {detail} has no labels"
    CUT_STREAM = "the end of the longer stream of videos whose streams differ by 1 or 2 snippets"
    UNTRAINED_CLASS = "classes of which no training video is left"


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A cause, or the kind of problem because of which --skip_unusable leaves something out."""

    cause: Cause | Kind
    detail: str = ""  # the subset or file, where the cause is one

    def __str__(self) -> str:
        return self.cause.format(detail=self.detail)
