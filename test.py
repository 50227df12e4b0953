"""Test: predict -> localize -> evaluate, three steps over plain records. Nothing here knows of training.

predictions = predict(model, batches, device=device, config=PredictConfig())
detections = localize(predictions, proposals=ProposalConfig(), suppression=NmsConfig())
evaluation = evaluate(model, data, ...)                # all three, with mAP and video accuracy
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dataset import Batch, Dataset, test_batches
from eval.classification import video_accuracy
from eval.detection import DetectionResult, evaluate_detections
from model import SAL, SalOutput, combined_sequence, topk_count, topk_mean
from utils.annotations import ground_truth_segments
from utils.nms import NmsConfig, nms
from utils.proposals import ProposalConfig, generate_proposals
from utils.ranges import parse_span
from utils.segments import Segments


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
    sequences: NDArray[np.float32]  # [T,P] their combined sequences


@dataclass(frozen=True)
class Evaluation:
    detections: Segments
    result: DetectionResult
    video_accuracy: float  # fraction
    seconds: float

    def summary(self, average_tious: tuple[str, ...]) -> dict[str, Any]:
        """mAP per tIoU, its averages and video accuracy, for a result file; fractions."""
        return {
            "mAP": self.result.map_by_tiou(),
            "average_mAP": {span: self.result.average_map(*parse_span(span)) for span in average_tious},
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


@torch.inference_mode()
def predict(model: SAL, batches: Iterable[Batch], *, device: torch.device, config: PredictConfig) -> list[Prediction]:
    """One Prediction a video, in order. Puts the model into evaluation mode."""
    model.eval()
    predictions = []
    for batch in batches:
        output = model(batch.features.to(device))
        combined = combined_sequence(output, config.fusion)
        scores = class_scores(output, combined, config).cpu().numpy()
        sequences = combined.cpu().numpy()
        for i, num_snippets in enumerate(batch.num_snippets):
            classes = predicted_classes(scores[i], config.class_th)
            predictions.append(Prediction(num_snippets, scores[i], classes, sequences[i][:, classes]))
    return predictions


def localize(predictions: Iterable[Prediction], *, proposals: ProposalConfig, suppression: NmsConfig) -> Segments:
    """Detections of all videos; a video is its position among the predictions."""
    parts = []
    for video, prediction in enumerate(predictions):
        found = generate_proposals(
            prediction.sequences, prediction.class_scores[prediction.classes], prediction.num_snippets, proposals
        )
        for column, label in enumerate(prediction.classes):
            mine = np.flatnonzero(found.column == column)
            kept, scores = nms(found.start[mine], found.end[mine], found.score[mine], suppression)
            kept = mine[kept]
            parts.append(
                Segments(
                    np.full(len(kept), video), np.full(len(kept), label), found.start[kept], found.end[kept], scores
                )
            )
    return Segments.concatenate(parts)


def evaluate(
    model: SAL,
    data: Dataset,
    *,
    device: torch.device,
    num_segments: int,
    batch_size: int,
    prediction: PredictConfig,
    proposals: ProposalConfig,
    suppression: NmsConfig,
    tious: tuple[float, ...],
) -> Evaluation:
    """The whole test split. Raises InputError when none of its videos has ground truth."""
    start = time.perf_counter()
    batches = test_batches(data.test, num_segments=num_segments, batch_size=batch_size)
    count = -(-len(data.test) // batch_size)
    progress = tqdm(batches, total=count, desc="evaluating", unit="batch", disable=None, leave=False)
    predictions = predict(model, progress, device=device, config=prediction)
    detections = localize(predictions, proposals=proposals, suppression=suppression)
    truth = ground_truth_segments(data.annotations, tuple(v.video_id for v in data.test), data.classes)
    result = evaluate_detections(truth, detections, num_classes=len(data.classes), tious=tious)

    predicted = np.zeros((len(predictions), len(data.classes)), bool)
    for row, video_prediction in zip(predicted, predictions, strict=True):
        row[video_prediction.classes] = True
    accuracy = video_accuracy(predicted, np.stack([v.labels for v in data.test]) > 0)
    return Evaluation(detections, result, accuracy, time.perf_counter() - start)
