"""Test: predict -> localize -> evaluate, three steps over plain records. Nothing here knows about training.

predictions = predict(model, batches, fusion=options.fusion, localization=options.localization)
detections = localize(predictions, options.localization, grid=options.data.grid)
evaluation = Evaluator(model, data, ...)()              # all three, with mAP and video accuracy (eval/judging.py)
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from command_line.console import not_a_program

    not_a_program("test.py", run="bash scripts/inference.sh or python main.py --inference_only")

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from command_line.progress import progress
from dataset import Batch, Dataset, Split, inference_batch_sizes, inference_batches, inference_groups
from eval.judging import Evaluation, Judge
from formats.annotations import ground_truth_segments
from layers.snippets import Snippets
from localization.instances import Prediction
from losses import video_cross_entropy
from model import SAL, SalOutput, combined_sequence, topk_mean
from options import DataOptions, EvaluationOptions, FusionOptions, LocalizationOptions, Options
from run.compiling import check_same, compile_or_explain, trial_batches
from run.device import fetch
from utils.errors import InputError
from utils.snippet_grid import topk_count


def class_logits(output: SalOutput, combined: Tensor, *, fusion: FusionOptions, beta: float) -> Tensor:
    """[B,C]: the top-k class logits and the second-order video logits, if there are any, mixed by beta."""
    topk_logits = topk_mean(output.cas, combined, topk_count(fusion.mil_ratio, output.cas.shape[1]))
    return topk_logits if output.video_logits is None else beta * topk_logits + (1 - beta) * output.video_logits


def class_scores(output: SalOutput, combined: Tensor, *, fusion: FusionOptions, beta: float) -> Tensor:
    """S [B,C]: the softmax of `class_logits`."""
    return class_logits(output, combined, fusion=fusion, beta=beta).softmax(1)


def predicted_classes(scores: NDArray[np.float32], *, threshold: float) -> NDArray[np.int64]:
    """[C] -> the classes with a score >= threshold; the best class if there are none."""
    chosen = np.flatnonzero(scores >= threshold)
    return chosen if len(chosen) else np.array([scores.argmax()])


@torch.inference_mode()
def predict(
    network: "Network",
    batches: Iterable[Batch],
    *,
    fusion: FusionOptions,
    localization: LocalizationOptions,
    observe: "Observer | None" = None,
) -> list[Prediction]:
    """Return one Prediction per video, in order, with the current weights. Puts the network into evaluation mode.

    `observe` is called with every batch and the network's output for it.
    """
    network.eval()
    predictions: list[Prediction] = []
    collect: Callable[[], list[Prediction]] | None = None
    for batch in batches:
        output = network(batch.features)
        if observe:
            observe(batch, output)
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


@torch.inference_mode()
def video_loss(
    model: SAL,
    videos: Split,
    *,
    data_options: DataOptions,
    fusion: FusionOptions,
    localization: LocalizationOptions,
    evaluation: EvaluationOptions,
    eps: float,
) -> float:
    """Cross entropy, in nats, of the class logits of uniformly resampled videos against their labels, the mean over videos.

    Segments are not looked at. Puts the model into evaluation mode. Raises InputError naming a video where it is not finite.
    """
    model.eval()
    groups = inference_groups(videos, data_options, batch_size=evaluation.test_batch_size)
    batches = inference_batches(videos, groups, data_options)
    logits, labels = list[Tensor](), list[Tensor]()
    for batch in progress(batches, total=len(groups), desc="held-out videos", unit="batch", leave=False):
        output = model(batch.features)
        combined = combined_sequence(output, fusion.weights)
        logits.append(class_logits(output, combined, fusion=fusion, beta=localization.beta))
        labels.append(batch.labels)
    every = torch.cat(logits)
    finite = every.log_softmax(1).isfinite().all(1).tolist()
    if not all(finite):
        name = videos.names[[v for group in groups for v in group][finite.index(False)]]
        raise InputError(f"held-out video '{name}': the network's output is not finite; try a lower --lr")
    return video_cross_entropy(every, torch.cat(labels), eps=eps).item()


def named_outputs(output: SalOutput) -> dict[str, Tensor]:
    """What the network says in test, by name."""
    streams = {f"the {stream} actionness": value for stream, value in output.stream_actionness.items()}
    video_logits = {} if output.video_logits is None else {"the video logits": output.video_logits}
    return {"the cas": output.cas, **video_logits, **streams}


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
Observer = Callable[[Batch, SalOutput], object]


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
        self.model, self.data, self.data_options = model, data, data_options
        self.fusion, self.localization = fusion, localization
        batch_size = evaluation.test_batch_size
        if compiled:
            sizes = inference_batch_sizes(data.test, data_options, batch_size=batch_size)
            self.network: Network = CompiledSAL(model, batch_sizes=sizes, num_segments=data_options.num_segments)
        else:
            self.network = model
        self.groups = inference_groups(data.test, data_options, batch_size=batch_size)
        self.judge = Judge(
            truth=ground_truth_segments(data.annotations, data.test.names, data.classes),
            labels=np.stack([video.labels for video in data.test]) > 0,
            videos=data.test.names,
            classes=data.classes,
            grid=data_options.grid,
            localization=localization,
            evaluation=evaluation,
        )

    @classmethod
    def of(cls, model: SAL, data: Dataset, options: Options) -> Self:
        """With the options of a run."""
        return cls(
            model,
            data,
            data_options=options.data,
            fusion=options.fusion,
            localization=options.localization,
            evaluation=options.evaluation,
            compiled=options.run.compile,
        )

    def __call__(self) -> Evaluation:
        start = time.perf_counter()
        evaluation = self.judge(self.predict())
        return replace(evaluation, seconds=time.perf_counter() - start)

    def predict(self) -> list[Prediction]:
        """One prediction per video, in the order of the split."""
        by_position = self.predict_groups(self.groups)
        return [by_position[v] for v in range(len(by_position))]

    def predict_groups(self, groups: Sequence[list[int]]) -> dict[int, Prediction]:
        """{position in the split: prediction} of these batches."""
        batches = inference_batches(self.data.test, groups, self.data_options)
        shown = progress(batches, total=len(groups), desc="evaluating", unit="batch", leave=False)
        predictions = predict(self.network, shown, fusion=self.fusion, localization=self.localization)
        return dict(zip([v for group in groups for v in group], predictions, strict=True))
