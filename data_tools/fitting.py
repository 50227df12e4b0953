"""The recipe's numbers for videos shorter than THUMOS'14's: what check_data advises, and the command that prepare prints."""

from collections.abc import Sequence

import numpy as np

from options import ActionnessOptions, DataOptions

SHORTEST_T = 32


def usual_length(lengths: Sequence[int]) -> int:
    """The snippets that nine tenths of the videos do not exceed."""
    return int(np.quantile(lengths, 0.9))


def fitting_segments(lengths: Sequence[int]) -> int:
    """T: about as long as the longer videos."""
    return max(usual_length(lengths), SHORTEST_T)


def fitting_extra(num_segments: int) -> int:
    """--pseudo_extra for this T: the published share of it, since the published number would be too large a share."""
    return round(ActionnessOptions.pseudo_extra * num_segments / DataOptions.num_segments)
