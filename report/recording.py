"""What a trained network says over videos, recorded for the report: sequences, pseudo labels, the mask, class scores.

timelines = record(network, data, options, mask=mask)           # over the test videos
write_timelines(folder / "timelines.npz", timelines)

recorder = Recorder(options, mask)                              # over any others, while they are predicted
model.predictions(found, observe=recorder)
timelines = recorder.timelines(predictions.names, predictions.classes)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from command_line.progress import progress
from dataset import Batch, Dataset, inference_batches, inference_groups
from formats.annotations import ground_truth_segments
from formats.timelines import Timelines, VideoSequences
from losses import AdaptiveMask, snippet_confidence, taught_labels
from model import SalOutput, combined_sequence
from options import Options
from test import Network, class_scores, predicted_classes
from utils.segments import Indices, Segments
from utils.snippet_grid import SnippetGrid


@dataclass(frozen=True, kw_only=True)
class RecordedVideo:
    """What is recorded of one video of C classes."""

    num_snippets: int  # before resampling
    fps: float  # frame rate of its features
    duration: float | None  # seconds, as its ground truth states it
    labels: NDArray[np.bool_]  # [C]
    predicted: NDArray[np.bool_]  # [C]
    class_scores: NDArray[np.float32]  # [C]
    sequences: VideoSequences


class Recorder:
    """Called with batches and the network's output for them, it keeps what the timelines of their videos hold."""

    def __init__(self, options: Options, mask: AdaptiveMask | None) -> None:
        """The mask's statistics stay as they are; None: nobody knows them."""
        self.options, self.mask = options, mask if options.ablation.mask else None
        self.videos: dict[str, RecordedVideo] = {}

    @torch.inference_mode()
    def __call__(self, batch: Batch, output: SalOutput) -> None:
        """Of classes that the batch's labels have and the network does not know, everything is 0."""
        options = self.options
        combined = combined_sequence(output, options.fusion.weights)
        of_videos = _array(
            class_scores(output, combined, fusion=options.fusion, beta=options.localization.beta)
        )  # [B, classes known]
        fused = output.actionness
        weight = self.mask.weight(snippet_confidence(output.cas)) if self.mask else None
        cas, every_label = output.cas.softmax(2), _array(batch.labels) > 0
        every_predicted = np.zeros_like(every_label)
        for found, of_video in zip(every_predicted, of_videos, strict=True):
            found[predicted_classes(of_video, threshold=options.localization.class_th)] = True
        pseudo_label = None
        if fused is not None:
            shown = np.where(every_label.any(1, keepdims=True), every_label, every_predicted)  # some have no labels
            known = torch.from_numpy(shown[:, : cas.shape[2]]).to(cas.device)
            pseudo_label, _ = taught_labels(output, known, options.actionness)
        for i, name in enumerate(batch.video_ids):
            labels, predicted = every_label[i], every_predicted[i]
            scores = np.zeros(labels.shape, np.float32)
            scores[: of_videos.shape[1]] = of_videos[i]
            classes = np.flatnonzero(labels | predicted)
            self.videos[name] = RecordedVideo(
                num_snippets=batch.num_snippets[i],
                fps=batch.fps[i],
                duration=batch.durations[i],
                labels=labels,
                predicted=predicted,
                class_scores=scores,
                sequences=VideoSequences(
                    classes=classes,
                    cas=_of_classes(cas[i], classes),
                    combined=_of_classes(combined[i], classes),
                    actionness=None if fused is None else _array(fused[i]),
                    streams={stream: _array(values[i]) for stream, values in output.stream_actionness.items()},
                    pseudo_label=None if pseudo_label is None else _array(pseudo_label[i]),
                    mask=None if weight is None else _array(weight[i]),
                ),
            )

    def timelines(self, names: Sequence[str], classes: Sequence[str], truth: Segments | None = None) -> Timelines:
        """Those of the videos of these names, with `truth` coded by them and the classes."""
        return timelines_of(self.videos, names, classes, grid=self.options.data.grid, truth=truth)


def timelines_of(
    recorded: Mapping[str, RecordedVideo],
    names: Sequence[str],
    classes: Sequence[str],
    *,
    grid: SnippetGrid,
    truth: Segments | None = None,
) -> Timelines:
    """The timelines of recorded videos, in the order of their names."""
    videos = [recorded[name] for name in names]
    lengths = np.array([video.num_snippets for video in videos])
    rates = np.array([video.fps for video in videos])
    segments = np.array([video.sequences.num_snippets for video in videos])
    first = grid.seconds(np.zeros(len(videos)), rates)
    return Timelines(
        videos=tuple(names),
        classes=tuple(classes),
        seconds=np.array([video.duration or grid.end(video.num_snippets, video.fps) for video in videos], np.float64),
        first=first,
        step=grid.seconds(lengths / segments, rates) - first,
        labels=np.stack([video.labels for video in videos]),
        predicted=np.stack([video.predicted for video in videos]),
        class_scores=np.stack([video.class_scores for video in videos]),
        truth=Segments.from_rows([]) if truth is None else truth,
        sequences=tuple(video.sequences for video in videos),
    )


def record(
    network: Network,
    data: Dataset,
    options: Options,
    *,
    mask: AdaptiveMask | None,
    positions: Sequence[int] | None = None,
) -> Timelines:
    """Run the network over the test split, or its videos at `positions`, in evaluation mode.

    The mask's statistics stay as they are; None: nobody knows them. The classes are the data's, which begin with the network's;
    of those that it does not know, everything is 0.
    """
    network.eval()
    chosen = list(range(len(data.test)) if positions is None else positions)
    wanted = set(chosen)
    every = inference_groups(data.test, options.data, batch_size=options.evaluation.test_batch_size)
    groups = [kept for group in every if (kept := [v for v in group if v in wanted])]
    batches: Iterator[Batch] = inference_batches(data.test, groups, options.data)
    if positions is None:
        batches = progress(batches, total=len(groups), desc="recording timelines", unit="batch", leave=False)
    recorder = Recorder(options, mask)
    for batch in batches:
        with torch.inference_mode():
            output = network(batch.features)
        recorder(batch, output)
    names = tuple(data.test.videos[v].video_id for v in chosen)
    return recorder.timelines(names, data.classes, ground_truth_segments(data.annotations, names, data.classes))


def _of_classes(values: Tensor, classes: Indices) -> NDArray[np.float32]:
    """Of one video's [T,C], the sequences of these classes [P,T]; 0 for those that the network does not know."""
    array = _array(values)
    return np.pad(array, ((0, 0), (0, max(0, classes.max() + 1 - array.shape[1])))).T[classes]


def _array(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
