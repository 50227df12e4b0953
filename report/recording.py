"""What a trained network says over the test videos, recorded for the report: sequences, pseudo labels, the mask, class scores.

timelines = record_timelines(network, data, mask=mask, data_options=options.data, ...)
write_timelines(folder / "timelines.npz", timelines)
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from command_line.progress import progress
from dataset import Dataset, inference_batches, inference_groups
from formats.annotations import ground_truth_segments
from formats.timelines import Timelines, VideoSequences
from losses import AdaptiveMask, pseudo_labels, snippet_confidence
from model import combined_sequence
from options import ActionnessOptions, DataOptions, EvaluationOptions, FusionOptions, LocalizationOptions
from test import Network, class_scores, predicted_classes
from utils.segments import Indices


def record_timelines(
    network: Network,
    data: Dataset,
    *,
    mask: AdaptiveMask | None,
    data_options: DataOptions,
    fusion: FusionOptions,
    actionness: ActionnessOptions,
    localization: LocalizationOptions,
    evaluation: EvaluationOptions,
) -> Timelines:
    """Run the network over the test split, in evaluation mode. The mask's statistics stay as they are; None: nobody knows them.

    The classes are the data's, which begin with the network's; of those that it does not know, everything is 0.
    """
    network.eval()
    videos, grid = data.test.videos, data_options.grid
    groups = inference_groups(data.test, data_options, batch_size=evaluation.test_batch_size)
    batches = inference_batches(data.test, groups, data_options)
    shown = progress(batches, total=len(groups), desc="recording timelines", unit="batch", leave=False)
    labels = np.stack([video.labels for video in videos]) > 0
    predicted, scores = np.zeros(labels.shape, bool), np.zeros(labels.shape, np.float32)
    sequences: dict[int, VideoSequences] = {}
    for group, batch in zip(groups, shown, strict=True):
        with torch.inference_mode():
            output = network(batch.features)
            combined = combined_sequence(output, fusion.weights)
            of_videos = _array(
                class_scores(output, combined, fusion=fusion, beta=localization.beta)
            )  # [B, classes known]
            pseudo_label = pseudo_labels(output.actionness, output.cas, actionness)
            weight = mask.weight(snippet_confidence(output.cas)) if mask else None
            cas = output.cas.softmax(2)
        for i, v in enumerate(group):
            scores[v, : of_videos.shape[1]] = of_videos[i]
            predicted[v, predicted_classes(of_videos[i], threshold=localization.class_th)] = True
            classes = np.flatnonzero(labels[v] | predicted[v])
            sequences[v] = VideoSequences(
                classes=classes,
                cas=_of_classes(cas[i], classes),
                combined=_of_classes(combined[i], classes),
                actionness=_array(output.actionness[i]),
                streams={stream: _array(values[i]) for stream, values in output.stream_actionness.items()},
                pseudo_label=_array(pseudo_label[i]),
                mask=None if weight is None else _array(weight[i]),
            )
    lengths = np.array([video.num_snippets for video in videos])
    rates = np.array([video.fps for video in videos])
    segments = np.array([len(sequences[v].actionness) for v in range(len(videos))])
    first = grid.seconds(np.zeros(len(videos)), rates)
    return Timelines(
        videos=data.test.names,
        classes=data.classes,
        seconds=np.array([video.duration or grid.end(video.num_snippets, video.fps) for video in videos], np.float64),
        first=first,
        step=grid.seconds(lengths / segments, rates) - first,
        labels=labels,
        predicted=predicted,
        class_scores=scores,
        truth=ground_truth_segments(data.annotations, data.test.names, data.classes),
        sequences=tuple(sequences[v] for v in range(len(videos))),
    )


def _of_classes(values: Tensor, classes: Indices) -> NDArray[np.float32]:
    """Of one video's [T,C], the sequences of these classes [P,T]; 0 for those that the network does not know."""
    array = _array(values)
    return np.pad(array, ((0, 0), (0, max(0, classes.max() + 1 - array.shape[1])))).T[classes]


def _array(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
