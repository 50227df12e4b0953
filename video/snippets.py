"""Snippets: the frames that a network sees at once, cut from the middle of the picture.

for snippet in snippets(frames, flow, length=16, stride=16, crop=224): ...     # snippet.rgb [16,224,224,3]

Snippet t has frames t * stride .. t * stride + length - 1. What is left at the end is dropped; a video with fewer frames than
one snippet is one, in which its last frame stays.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from video.flow import FlowEstimator

Frame = NDArray[np.uint8]
Flow = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Snippet:
    rgb: NDArray[np.uint8]  # [L,crop,crop,3]
    flow: NDArray[np.float32] | None  # [L,crop,crop,2] in [-1,1]; None: not asked for


def snippets(
    frames: Iterable[Frame], flow: FlowEstimator | None, *, length: int, stride: int, crop: int
) -> Iterator[Snippet]:
    """Cut frames [H,W,3] of any length into snippets of L frames; only those of one snippet are in memory."""
    pairs: Iterable[tuple[Frame, Flow | None]] = flow.pairs(frames) if flow else ((frame, None) for frame in frames)
    kept: list[tuple[Frame, Flow | None]] = []
    skipped = count = 0  # frames between snippets that are still to be passed over; snippets
    for frame, motion in pairs:
        if skipped:
            skipped -= 1
            continue
        kept.append((centre(frame, crop), None if motion is None else centre(motion, crop)))
        if len(kept) == length:
            yield _snippet(kept)
            count += 1
            skipped = max(0, stride - length)
            kept = kept[stride:]
    if count == 0 and kept:
        yield _snippet(kept + kept[-1:] * (length - len(kept)))


def centre(image: NDArray[Any], crop: int) -> NDArray[Any]:
    """The middle crop x crop pixels of [H,W,..]; of an odd rest, the pixel more is cut off below and on the right."""
    top, left = (image.shape[0] - crop) // 2, (image.shape[1] - crop) // 2
    return image[top : top + crop, left : left + crop]


def _snippet(frames: list[tuple[Frame, Flow | None]]) -> Snippet:
    motions = [motion for _, motion in frames if motion is not None]
    return Snippet(rgb=np.stack([frame for frame, _ in frames]), flow=np.stack(motions) if motions else None)
