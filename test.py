"""Test: predict -> localize -> evaluate, three steps over plain records. Nothing here knows of training.

predictions = predict(model, batches, config=PredictConfig())
detections = localize(predictions, proposals=ProposalConfig(), suppression=NmsConfig())
evaluation = Evaluator(data, ...)(model)                # all three, with mAP and video accuracy
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dataset import Batch, Dataset, test_batches, test_groups
from eval.classification import video_accuracy
from eval.detection import DetectionResult, evaluate_detections
from formats.annotations import ground_truth_segments
from localization.nms import NmsConfig, nms
from localization.proposals import ProposalConfig, generate_proposals
from model import SAL, FoldedLayers, SalOutput, combined_sequence, topk_count, topk_mean
from run.compiling import compile_or_explain, trial_batches
from run.device import fetch
from utils.ranges import parse_span
from utils.segments import Floats, Segments
from utils.snippet_grid import DEFAULT_FPS

# Rows of predicted classes that go through localization at once: enough to be fast, few enough for the cache.
BLOCK_ROWS = 512


@dataclass(frozen=True)
class PredictConfig:
    """Which classes a video has (docs/method.md, section 5); defaults are the THUMOS'14 recipe."""

    class_th: float = 0.25
    beta: float = 0.35  # weight of the top-k class logits against the second-order ones
    topk_ratio: float = 0.125  # of T
    fusion: dict[str, float] = field(default_factory=lambda: {"cas": 1 / 3, "rgb": 1 / 3, "flow": 1 / 3})


@dataclass(frozen=True)
class Prediction:
    """What the network says of one video."""

    num_snippets: int  # before resampling
    class_scores: NDArray[np.float32]  # [C], sum to 1
    classes: NDArray[np.int64]  # [P] predicted classes
    sequences: NDArray[np.float32]  # [P,T] their combined sequences


@dataclass(frozen=True)
class Evaluation:
    detections: Segments
    result: DetectionResult | None  # None: no test video has segments to compare with
    video_accuracy: float | None  # fraction; None: no test video has labels
    seconds: float

    def summary(self, average_tious: tuple[str, ...]) -> dict[str, Any]:
        """mAP per tIoU, its averages and video accuracy, for a result file; fractions, None what can't be told."""
        result = self.result
        return {
            "mAP": result and result.map_by_tiou(),
            "average_mAP": result and {span: result.average_map(*parse_span(span)) for span in average_tious},
            "video_accuracy": self.video_accuracy,
        }


def class_scores(output: SalOutput, combined: torch.Tensor, config: PredictConfig) -> torch.Tensor:
    """S [B,C]: softmax of the top-k class logits and the second-order video logits, mixed by beta."""
    topk_logits = topk_mean(output.cas, combined, topk_count(config.topk_ratio, output.cas.shape[1]))
    return (config.beta * topk_logits + (1 - config.beta) * output.video_logits).softmax(1)


def predicted_classes(scores: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """[C] -> the classes with a score >= threshold; the best class if there are none."""
    chosen = np.flatnonzero(scores >= threshold)
    return chosen if len(chosen) else np.array([scores.argmax()])


Infer = Callable[[torch.Tensor, FoldedLayers], SalOutput]


@torch.inference_mode()
def predict(
    model: SAL, batches: Iterable[Batch], *, config: PredictConfig, infer: Infer | None = None
) -> list[Prediction]:
    """One Prediction a video, in order. Puts the model into evaluation mode. `infer` is model.infer, compiled perhaps."""
    model.eval()
    layers = model.fold()
    return [prediction for part in _in_flight(infer or model.infer, layers, batches, config) for prediction in part]


def _in_flight(
    infer: Infer, layers: FoldedLayers, batches: Iterable[Batch], config: PredictConfig
) -> Iterator[list[Prediction]]:
    """The predictions of each batch. A batch's results are taken when the next one is on its way: neither the device nor the
    host waits for the other."""
    before: Callable[[], list[Prediction]] | None = None
    for batch in batches:
        output = infer(batch.features, layers)
        combined = combined_sequence(output, config.fusion)
        arrived = fetch(class_scores(output, combined, config), combined.transpose(1, 2).contiguous())
        if before:
            yield before()
        before = _collector(arrived, batch.num_snippets, config.class_th)
    if before:
        yield before()


def _collector(
    arrived: Callable[[], tuple[NDArray[np.float32], ...]], num_snippets: tuple[int, ...], class_th: float
) -> Callable[[], list[Prediction]]:
    def collect() -> list[Prediction]:
        predictions = []
        for scores, sequences, count in zip(*arrived(), num_snippets, strict=True):
            classes = predicted_classes(scores, class_th)
            predictions.append(Prediction(count, scores.copy(), classes, sequences[classes]))
        return predictions

    return collect


def localize(
    predictions: list[Prediction],
    *,
    proposals: ProposalConfig,
    suppression: NmsConfig,
    fps: Floats | float = DEFAULT_FPS,
) -> Segments:
    """Detections by video, class, and descending score; a video is its position among the predictions.

    `fps` is the frame rate of each video's features [V], or of all.
    """
    rates = np.broadcast_to(np.asarray(fps, np.float64), len(predictions))
    parts = []
    for block in _blocks(predictions):
        rows = [(v, column) for v in block for column in range(len(predictions[v].classes))]
        video = np.array([v for v, _ in rows])
        label = np.array([predictions[v].classes[column] for v, column in rows])
        found = generate_proposals(
            np.concatenate([predictions[v].sequences for v in block]),
            np.array([predictions[v].class_scores[c] for v, c in zip(video, label, strict=True)]),
            np.array([predictions[v].num_snippets for v in video]),
            proposals,
            fps=rates[video],
        )
        kept, scores = nms(found.row, found.start, found.end, found.score, suppression)
        row = found.row[kept]
        parts.append(Segments(video[row], label[row], found.start[kept], found.end[kept], scores))
    detections = Segments.concatenate(parts)
    return detections.take(np.argsort(detections.video, kind="stable"))


def _blocks(predictions: list[Prediction]) -> Iterator[list[int]]:
    """Positions of the predictions in blocks of about BLOCK_ROWS rows, with sequences of one length in each."""
    lengths = [p.sequences.shape[1] for p in predictions]
    order = sorted(range(len(predictions)), key=lengths.__getitem__)
    for _, equal in groupby(order, key=lengths.__getitem__):
        block, rows = list[int](), 0
        for v in equal:
            block.append(v)
            rows += len(predictions[v].classes)
            if rows >= BLOCK_ROWS:
                yield block
                block, rows = [], 0
        if block:
            yield block


def compile_infer(model: SAL, batch_sizes: Sequence[int], num_segments: int) -> Infer:
    """model.infer, compiled for batches of these sizes and T snippets; as it is when that fails, and for any other T."""
    device, channels = model.fc.weight.device, model.config.feature_size * len(model.config.streams)

    @torch.inference_mode()
    def trial(compiled: Infer) -> None:
        model.eval()
        layers = model.fold()
        for features in trial_batches(batch_sizes, num_segments, channels, device):
            compiled(features, layers)

    compiled = compile_or_explain(model.infer, trial, device, what="the test forward")

    def infer(features: torch.Tensor, layers: FoldedLayers) -> SalOutput:
        return (compiled if features.shape[1] == num_segments else model.infer)(features, layers)

    return infer


class Evaluator:
    """Evaluates a model on the test split, as often as asked. What nothing was annotated for is not computed."""

    def __init__(
        self,
        data: Dataset,
        *,
        device: torch.device,
        num_segments: int,
        batch_size: int,
        num_workers: int,
        prediction: PredictConfig,
        proposals: ProposalConfig,
        suppression: NmsConfig,
        tious: tuple[float, ...],
        short_videos: str = "stretch",
        infer: Infer | None = None,
    ) -> None:
        self.data, self.device, self.num_segments, self.short_videos = data, device, num_segments, short_videos
        self.num_workers, self.tious, self.infer = num_workers, tious, infer
        self.groups = test_groups(
            data.test, num_segments=num_segments, batch_size=batch_size, short_videos=short_videos
        )
        self.fps = np.array([video.fps for video in data.test])
        self.prediction, self.proposals, self.suppression = prediction, proposals, suppression
        self.truth = ground_truth_segments(data.annotations, tuple(v.video_id for v in data.test), data.classes)
        self.labels = np.stack([v.labels for v in data.test]) > 0

    def __call__(self, model: SAL) -> Evaluation:
        start = time.perf_counter()
        found = predict(model, self._batches(), config=self.prediction, infer=self.infer)
        by_position = dict(zip((v for group in self.groups for v in group), found, strict=True))
        predictions = [by_position[v] for v in range(len(found))]
        detections = localize(predictions, proposals=self.proposals, suppression=self.suppression, fps=self.fps)
        result, accuracy = None, None
        if len(self.truth):
            classes = len(self.data.classes)
            result = evaluate_detections(self.truth, detections, num_classes=classes, tious=self.tious)
        if self.labels.any():
            predicted = np.zeros(self.labels.shape, bool)
            for row, prediction in zip(predicted, predictions, strict=True):
                row[prediction.classes] = True
            labelled = self.labels.any(1)
            accuracy = video_accuracy(predicted[labelled], self.labels[labelled])
        return Evaluation(detections, result, accuracy, time.perf_counter() - start)

    def _batches(self) -> Iterable[Batch]:
        batches = test_batches(
            self.data.test,
            self.groups,
            num_segments=self.num_segments,
            num_workers=self.num_workers,
            device=self.device,
            short_videos=self.short_videos,
        )
        return tqdm(batches, total=len(self.groups), desc="evaluating", unit="batch", disable=None, leave=False)
