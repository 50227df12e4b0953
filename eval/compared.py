"""How much was compared: the counts that every command names beside its numbers.

counts = compared(num_videos, truth, detections)
in_words(counts), as_plain(counts)                    # "2 videos, 4 instances ...", {"videos": 2, "instances": 4 ...}
"""

from collections.abc import Mapping

import numpy as np

from formats.names import amount, plural
from utils.segments import Segments


def compared(num_videos: int, truth: Segments, detections: Segments) -> dict[str, int]:
    """{word for one of them: how many}."""
    return {
        "video": num_videos,
        "instance": len(truth),
        "class": len(np.unique(truth.label)),
        "detection": len(detections),
    }


def in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(amount(count, what) for what, count in counts.items())


def as_plain(counts: Mapping[str, int]) -> dict[str, int]:
    """For JSON."""
    return {plural(what): count for what, count in counts.items()}
