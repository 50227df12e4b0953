"""Test: predict -> localize -> evaluate, three steps over plain records. Nothing here knows about training.

predictions = predict(model, batches, fusion=options.fusion, localization=options.localization)
detections = localize(predictions, options.localization, grid=options.data.grid)
evaluation = Evaluator(model, data, ...)()              # all three, with mAP and video accuracy
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from command_line.console import not_a_program

    not_a_program("test.py", run="bash scripts/inference.sh or python main.py --inference_only")

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from command_line.progress import progress
from dataset import Batch, Dataset, inference_batch_sizes, inference_batches, inference_groups
from eval.detection import evaluate_detections
from eval.summary import EvaluationSummary, summarize, video_accuracy
from formats.annotations import ground_truth_segments
from layers.snippets import Snippets
from localization.clipping import clip_to_video
from localization.nms import nms
from localization.proposals import generate_proposals
from localization.selection import select_detections
from model import SAL, SalOutput, combined_sequence, topk_mean
from options import DataOptions, EvaluationOptions, FusionOptions, LocalizationOptions
from run.compiling import check_same, compile_or_explain, trial_batches
from run.device import fetch
from utils.errors import InputError
from utils.segments import Segments
from utils.snippet_grid import SnippetGrid, topk_count

# Rows of predicted classes that are localized at once: enough to be fast, few enough for the cache.
BLOCK_ROWS = 512
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


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    detections: Segments
    summary: EvaluationSummary
    seconds: float


def class_scores(output: SalOutput, combined: Tensor, *, fusion: FusionOptions, beta: float) -> Tensor:
    """S [B,C]: softmax of the top-k class logits and the second-order video logits, mixed by beta."""
    topk_logits = topk_mean(output.cas, combined, topk_count(fusion.mil_ratio, output.cas.shape[1]))
    return (beta * topk_logits + (1 - beta) * output.video_logits).softmax(1)


def predicted_classes(scores: NDArray[np.float32], *, threshold: float) -> NDArray[np.int64]:
    """[C] -> the classes with a score >= threshold; the best class if there are none."""
    chosen = np.flatnonzero(scores >= threshold)
    return chosen if len(chosen) else np.array([scores.argmax()])


@torch.inference_mode()
def predict(
    network: "Network", batches: Iterable[Batch], *, fusion: FusionOptions, localization: LocalizationOptions
) -> list[Prediction]:
    """Return one Prediction per video, in order, with the current weights. Puts the network into evaluation mode."""
    network.eval()
    predictions: list[Prediction] = []
    collect: Callable[[], list[Prediction]] | None = None
    for batch in batches:
        output = network(batch.features)
        combined = combined_sequence(output, fusion.weights)
        scores = class_scores(output, combined, fusion=fusion, beta=localization.beta)
        arrived = fetch(scores, combined.transpose(1, 2).contiguous())
        # A batch's results are read while the next batch is computed: neither the device nor the host waits for the other.
        if collect:
            predictions += collect()
        collect = _collector(arrived, batch, threshold=localization.class_th)
    return predictions + (collect() if collect else [])


def _collector(
    arrived: Callable[[], tuple[NDArray[np.float32], ...]], batch: Batch, *, threshold: float
) -> Callable[[], list[Prediction]]:
    # keeps no reference to the features
    names, lengths, rates, durations = batch.video_ids, batch.num_snippets, batch.fps, batch.durations

    def collect() -> list[Prediction]:
        predictions = []
        for name, scores, sequences, num_snippets, fps, duration in zip(
            names, *arrived(), lengths, rates, durations, strict=True
        ):
            if not (np.isfinite(scores).all() and np.isfinite(sequences).all()):
                raise InputError(
                    f"video '{name}': the network's output is not finite; are its features of the size of those trained on?"
                )
            classes = predicted_classes(scores, threshold=threshold)
            predictions.append(
                Prediction(
                    num_snippets=num_snippets,
                    fps=fps,
                    duration=duration,
                    class_scores=scores.copy(),
                    classes=classes,
                    sequences=sequences[classes],
                )
            )
        return predictions

    return collect


def localize(predictions: Sequence[Prediction], options: LocalizationOptions, *, grid: SnippetGrid) -> Segments:
    """Detections by video, class, and descending score; a video is its position among the predictions.

    Raises InputError when a number in it overflows.
    """
    try:
        with np.errstate(over="raise", invalid="raise"):
            detections = _localize(predictions, options, grid=grid)
    except FloatingPointError as error:
        raise InputError(f"localization: {error}; {TOO_EXTREME}") from None
    if not all(np.isfinite(numbers).all() for numbers in (detections.start, detections.end, detections.score)):
        raise InputError(f"localization: a score or a time is not finite; {TOO_EXTREME}")
    if options.clip_detections:
        detections = clip_to_video(detections, [p.duration for p in predictions])
    return select_detections(detections, options)


def _localize(predictions: Sequence[Prediction], options: LocalizationOptions, *, grid: SnippetGrid) -> Segments:
    parts = []
    for block in _blocks(predictions):
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


def named_outputs(output: SalOutput) -> dict[str, Tensor]:
    """What the network says in test, by name."""
    streams = {f"the {stream} actionness": value for stream, value in output.stream_actionness.items()}
    return {"the cas": output.cas, "the video logits": output.video_logits, **streams}


class CompiledSAL(nn.Module):
    """SAL, compiled for test batches of these sizes and T snippets; uncompiled if that fails, and for any other T."""

    def __init__(self, model: SAL, *, batch_sizes: Sequence[int], num_segments: int) -> None:
        super().__init__()
        self.model, self.num_segments = model, num_segments

        @torch.inference_mode()
        def trial(compiled: Callable[[Tensor], SalOutput]) -> None:
            self.eval()
            for features in trial_batches(model, batch_sizes=batch_sizes, num_segments=num_segments):
                check_same(named_outputs(compiled(features)), named_outputs(model(features)), model)

        device = next(model.parameters()).device
        self.compiled = compile_or_explain(model.forward, trial, device, what="the test forward")

    def forward(self, features: Snippets) -> SalOutput:
        if features.shape[1] == self.num_segments:
            return self.compiled(features.dense())
        output: SalOutput = self.model(features)
        return output


Network = SAL | CompiledSAL


class Evaluator:
    """Evaluator of a model's current weights on the test split. Without annotations a measure is not computed."""

    def __init__(
        self,
        model: SAL,
        data: Dataset,
        *,
        data_options: DataOptions,
        fusion: FusionOptions,
        localization: LocalizationOptions,
        evaluation: EvaluationOptions,
        compiled: bool = False,
    ) -> None:
        self.data, self.data_options, self.fusion = data, data_options, fusion
        self.localization, self.evaluation = localization, evaluation
        batch_size = evaluation.test_batch_size
        if compiled:
            sizes = inference_batch_sizes(data.test, data_options, batch_size=batch_size)
            self.network: Network = CompiledSAL(model, batch_sizes=sizes, num_segments=data_options.num_segments)
        else:
            self.network = model
        self.groups = inference_groups(data.test, data_options, batch_size=batch_size)
        self.truth = ground_truth_segments(data.annotations, data.test.names, data.classes)
        self.labels = np.stack([video.labels for video in data.test]) > 0  # [V,C]

    def __call__(self) -> Evaluation:
        start = time.perf_counter()
        predictions = self._predict()
        detections = localize(predictions, self.localization, grid=self.data_options.grid)
        result = None
        if len(self.truth):
            classes = len(self.data.classes)
            tious = self.evaluation.tiou_grid
            result = evaluate_detections(self.truth, detections, num_classes=classes, tious=tious)
        summary = summarize(
            result,
            video_accuracy=self._video_accuracy(predictions),
            average_tious=self.evaluation.average_tious,
            classes=self.data.classes,
        )
        return Evaluation(detections=detections, summary=summary, seconds=time.perf_counter() - start)

    def _predict(self) -> list[Prediction]:
        """One prediction per video, in the order of the split."""
        batches = inference_batches(self.data.test, self.groups, self.data_options)
        shown = progress(batches, total=len(self.groups), desc="evaluating", unit="batch", leave=False)
        predictions = predict(self.network, shown, fusion=self.fusion, localization=self.localization)
        positions = [v for group in self.groups for v in group]
        by_position = dict(zip(positions, predictions, strict=True))
        return [by_position[v] for v in range(len(predictions))]

    def _video_accuracy(self, predictions: Sequence[Prediction]) -> float | None:
        labelled = self.labels.any(1)
        if not labelled.any():
            return None
        predicted = np.zeros(self.labels.shape, bool)
        for row, prediction in zip(predicted, predictions, strict=True):
            row[prediction.classes] = True
        return video_accuracy(predicted[labelled], self.labels[labelled])
