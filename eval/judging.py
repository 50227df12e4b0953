"""From the predictions for a test set to its evaluation. Plain arrays all along, so that another process can do it.

judge = Judge(truth=..., labels=..., videos=..., classes=..., grid=..., localization=..., evaluation=...)
evaluation = judge(predictions)
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.classification import video_accuracy
from eval.detection import evaluate_detections
from eval.summary import EvaluationSummary, summarize
from formats.run_results import COMPARED
from localization.instances import Prediction, localize
from options import EvaluationOptions, LocalizationOptions
from utils.segments import Segments
from utils.snippet_grid import SnippetGrid

Names = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    detections: Segments
    summary: EvaluationSummary
    seconds: float  # of work


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What is known of a test set, and how its detections are made and measured. Pickled, it has a few kilobytes a video."""

    truth: Segments
    labels: NDArray[np.bool_]  # [V,C]
    videos: Names  # [V]
    classes: Names  # [C]
    grid: SnippetGrid
    localization: LocalizationOptions
    evaluation: EvaluationOptions

    def __call__(
        self, predictions: Sequence[Prediction], begin: Callable[[Names], object] = lambda _: None
    ) -> Evaluation:
        """One prediction per video, in the order of `videos`. Without annotations a measure is not computed.

        `begin` is called with the names of the videos that come next, and with none before the mAP. Raises InputError when a
        number overflows.
        """
        start = time.perf_counter()
        detections = localize(
            predictions,
            self.localization,
            grid=self.grid,
            begin=lambda block: begin(tuple(self.videos[v] for v in block)),
        )
        begin(())
        result = None
        if len(self.truth):
            tious = self.evaluation.tiou_grid
            result = evaluate_detections(self.truth, detections, num_classes=len(self.classes), tious=tious)
        summary = summarize(
            result,
            video_accuracy=self._video_accuracy(predictions),
            average_tious=self.evaluation.average_tious,
            classes=self.classes,
            compared=dict(zip(COMPARED, (len(self.videos), len(self.truth), len(detections)), strict=True)),
        )
        return Evaluation(detections=detections, summary=summary, seconds=time.perf_counter() - start)

    def _video_accuracy(self, predictions: Sequence[Prediction]) -> float | None:
        labelled = self.labels.any(1)
        if not labelled.any():
            return None
        predicted = np.zeros(self.labels.shape, bool)
        for row, prediction in zip(predicted, predictions, strict=True):
            row[prediction.classes] = True
        return video_accuracy(predicted[labelled], self.labels[labelled])
