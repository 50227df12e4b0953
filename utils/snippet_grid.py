"""The grid of snippets in time: the one place where snippets become seconds.

A snippet covers `frames` frames, the next begins `stride` frames later, and `fps` is the frame rate of the extraction.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:  # options.py imports this module, and --help should not wait for numpy
    import numpy as np
    from numpy.typing import NDArray

    from utils.segments import Floats

DEFAULT_FPS = 25.0


def frame_rate(given: float | None, stated: float | None) -> float:
    """The frame rate of a video's features: what the user gives, else what its ground truth states, else DEFAULT_FPS."""
    return given or stated or DEFAULT_FPS


def topk_count(ratio: float, num_segments: int) -> int:
    """K = floor(ratio * T), at least 1. A small tolerance keeps 0.8 * 50 at 40."""
    return max(1, int(ratio * num_segments + 1e-9))


@dataclass(frozen=True)
class SnippetGrid:
    frames: int  # that a snippet covers
    stride: int  # from the start of one snippet to the next

    @overload
    def seconds(self, position: float, fps: float) -> float: ...
    @overload
    def seconds(self, position: "NDArray[np.number]", fps: "NDArray[np.floating] | float") -> "Floats": ...
    def seconds(self, position: Any, fps: Any) -> Any:
        """The time of a position on the axis of snippets, where snippet k spans k .. k+1.

        A snippet stands for stride / fps seconds around the middle of the frames it covers. Where snippets neither overlap nor
        leave gaps, this is k * frames / fps, the published formula.
        """
        return (position * self.stride + (self.frames - self.stride) / 2) / fps

    def positions(self, seconds: "Floats", fps: float) -> "Floats":
        """The positions on the axis of snippets of these times: `seconds` the other way round."""
        return (seconds * fps - (self.frames - self.stride) / 2) / self.stride

    def end(self, num_snippets: int, fps: float) -> float:
        """The time at which the last frame of a video's last snippet ends, in seconds."""
        return ((num_snippets - 1) * self.stride + self.frames) / fps

    def snippets(self, duration: float, fps: float) -> float:
        """The number of snippets, perhaps a fraction, of a video that lasts `duration` seconds."""
        return (duration * fps - self.frames) / self.stride + 1
