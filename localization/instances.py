"""From the network's sequences to the action instances of all videos: proposals, NMS, and what the options leave of them.

detections = localize(predictions, options.localization, grid=options.data.grid)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from localization.clipping import clip_to_video
from localization.nms import nms
from localization.proposals import generate_proposals
from localization.selection import select_detections
from options import LocalizationOptions
from utils.errors import InputError
from utils.segments import Segments
from utils.snippet_grid import SnippetGrid

# Rows of predicted classes that are localized at once: enough to be fast, few enough for the cache, and to trace a death.
BLOCK_ROWS = 128
BLOCK_SNIPPETS = 512 * 750  # of these rows together: memory does not grow with T

# What to do about numbers beyond those of floats.
TOO_EXTREME = (
    "are all weights finite, and --gamma, --nms_offset, --outer_margin, --fps and --snippet_stride of a sensible size?"
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The network's output for one video."""

    num_snippets: int  # before resampling
    fps: float  # frame rate of its features
    duration: float | None = None  # seconds, as its ground truth states it
    class_scores: NDArray[np.float32]  # [C], sum to 1
    classes: NDArray[np.int64]  # [P] predicted classes
    sequences: NDArray[np.float32]  # [P,T] their combined sequences


def localize(
    predictions: Sequence[Prediction],
    options: LocalizationOptions,
    *,
    grid: SnippetGrid,
    begin: Callable[[Sequence[int]], object] = lambda _: None,
) -> Segments:
    """Detections by video, class, and descending score; a video is its position among the predictions.

    `begin` is called with the positions of each block of videos before it is localized.

    Raises InputError when a number in it overflows.
    """
    try:
        with np.errstate(over="raise", invalid="raise"):
            detections = _localize(predictions, options, grid=grid, begin=begin)
    except FloatingPointError as error:
        raise InputError(f"localization: {error}; {TOO_EXTREME}") from None
    if not all(np.isfinite(numbers).all() for numbers in (detections.start, detections.end, detections.score)):
        raise InputError(f"localization: a score or a time is not finite; {TOO_EXTREME}")
    if options.clip_detections:
        detections = clip_to_video(detections, [p.duration for p in predictions])
    return select_detections(detections, options)


def _localize(
    predictions: Sequence[Prediction],
    options: LocalizationOptions,
    *,
    grid: SnippetGrid,
    begin: Callable[[Sequence[int]], object],
) -> Segments:
    parts = []
    for block in _blocks(predictions):
        begin(block)
        rows = [(v, column) for v in block for column in range(len(predictions[v].classes))]
        video = np.array([v for v, _ in rows])
        label = np.array([predictions[v].classes[column] for v, column in rows])
        proposals = generate_proposals(
            np.concatenate([predictions[v].sequences for v in block]),
            class_scores=np.array([predictions[v].class_scores[c] for v, c in zip(video, label, strict=True)]),
            num_snippets=np.array([predictions[v].num_snippets for v in video]),
            fps=np.array([predictions[v].fps for v in video], np.float64),
            options=options,
            grid=grid,
        )
        kept, scores = nms(proposals.row, proposals.start, proposals.end, proposals.score, options=options)
        row = proposals.row[kept]
        parts.append(
            Segments(
                video=video[row],
                label=label[row],
                start=proposals.start[kept],
                end=proposals.end[kept],
                score=scores,
            )
        )
    detections = Segments.concatenate(parts)
    return detections.take(np.argsort(detections.video, kind="stable"))


def _blocks(predictions: Sequence[Prediction]) -> Iterator[list[int]]:
    """Positions of the predictions in blocks of about BLOCK_ROWS rows, each with sequences of one length."""
    lengths = [p.sequences.shape[1] for p in predictions]
    order = sorted(range(len(predictions)), key=lengths.__getitem__)
    for length, equal in groupby(order, key=lengths.__getitem__):
        enough = min(BLOCK_ROWS, BLOCK_SNIPPETS // length)
        block, rows = list[int](), 0
        for v in equal:
            block.append(v)
            rows += len(predictions[v].classes)
            if rows >= enough:
                yield block
                block, rows = [], 0
        if block:
            yield block
