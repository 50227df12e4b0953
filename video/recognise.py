"""The actions that I3D's own classes find: a recogniser of whole clips, slid over the video snippet by snippet. It is not SAL.

    recognised = recognise(extraction.videos, classes, options, grid=grid, localization=localization)
    recognised.predictions, recognised.recorded         # detections, and what timelines show

The probabilities of a snippet stand where SAL has its sequences; proposals, contrast, NMS and clipping are the same. Nothing
was trained to find when an action begins or ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from formats.array_files import reading
from formats.regular_files import check_regular
from formats.timelines import VideoSequences
from localization.instances import Prediction, localize
from localization.selection import select_detections
from options import LocalizationOptions
from report.recording import RecordedVideo
from run.predicting import PredictedVideo, Predictions
from utils.errors import InputError
from utils.segments import Segments
from utils.snippet_grid import SnippetGrid
from video.feature_set import ExtractedVideo
from video.options import RecogniserOptions

METHOD = (
    "A {classes}-class recogniser ({network}) slid over the video, not SAL: nothing was trained to find when. Every snippet is "
    "taken for a clip of one of its classes, also where none of them happens."
)
KINETICS = "I3D, Kinetics-400"
ROUNDING = 1e-6  # seconds


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What the recogniser finds."""

    predictions: Predictions
    recorded: Mapping[str, RecordedVideo]  # by video


def recognise(
    videos: Sequence[ExtractedVideo],
    classes: tuple[str, ...],
    options: RecogniserOptions,
    *,
    grid: SnippetGrid,
    localization: LocalizationOptions,
) -> Recognised:
    """Find the classes of the videos' logits over time. Raises InputError for damaged ones."""
    predictions, recorded = [], {}
    for video in videos:
        probability = _probabilities(video, len(classes))
        scores = probability.mean(0)
        chosen = likely_classes(scores, options)
        chosen = visible_classes(probability, scores, chosen, localization.thresholds[0])
        sequences = np.ascontiguousarray(probability.T[chosen])
        predictions.append(
            Prediction(
                num_snippets=len(probability),
                fps=video.fps,
                duration=video.seconds,
                class_scores=scores,
                classes=chosen,
                sequences=sequences,
            )
        )
        recorded[video.name] = RecordedVideo(
            num_snippets=len(probability),
            fps=video.fps,
            duration=video.seconds,
            labels=np.zeros(len(classes), bool),
            predicted=np.isin(np.arange(len(classes)), chosen),
            class_scores=scores,
            sequences=VideoSequences(classes=chosen, cas=sequences, streams={}),
        )
    found = localize(predictions, replace(localization, min_score=None, top=None), grid=grid)
    found = select_detections(_long_enough(found, videos, grid), localization)
    return Recognised(
        predictions=Predictions(
            videos=tuple(
                PredictedVideo(
                    name=video.name, seconds=video.seconds, fps=video.fps, fps_stated=True, file=video.source
                )
                for video in videos
            ),
            classes=classes,
            warning="",
            detections=found.take(np.lexsort((-found.score, found.video))),
        ),
        recorded=recorded,
    )


def likely_classes(scores: NDArray[np.float32], options: RecogniserOptions) -> NDArray[np.int64]:
    """The classes looked for, ascending: the best of the scores [C] and those with a share of it, `most_classes` of them."""
    best = np.argsort(-scores, kind="stable")[: options.most_classes]
    return np.sort(best[scores[best] >= options.class_share * scores[best[0]]])


def visible_classes(
    probability: NDArray[np.float32], scores: NDArray[np.float32], chosen: NDArray[np.int64], lowest: float
) -> NDArray[np.int64]:
    """Of the classes, those whose probability [T,C] anywhere exceeds the lowest threshold of proposals; else the best one."""
    seen = chosen[probability[:, chosen].max(0) > lowest]
    return seen if len(seen) else chosen[[scores[chosen].argmax()]]


def _long_enough(found: Segments, videos: Sequence[ExtractedVideo], grid: SnippetGrid) -> Segments:
    """Those as long as a snippet, or their whole video: less is nothing but the slope between two of them."""
    least = np.array([min(grid.stride / video.fps, video.seconds) - ROUNDING for video in videos], np.float64)
    return found.take(np.flatnonzero(found.end - found.start >= least[found.video]))


def _probabilities(video: ExtractedVideo, classes: int) -> NDArray[np.float32]:
    """The softmax over the classes of every snippet's logits [T,C]."""
    check_regular(video.logits)
    with reading(video.logits, "file of scores"):
        logits = np.load(video.logits, allow_pickle=False).astype(np.float32)
    if logits.shape != (video.num_snippets, classes) or not np.isfinite(logits).all():
        raise InputError(
            f"{video.logits}: expected {video.num_snippets} x {classes} finite scores; remove it, and it is made again"
        )
    likely = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float32] = likely / likely.sum(1, keepdims=True)
    return probabilities
