"""What a trained network says over the test videos, recorded for the report: sequences, pseudo labels, the mask, class scores.

timelines = record(network, data, options, mask=mask)
write_timelines(folder / "timelines.npz", timelines)
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from command_line.progress import progress
from dataset import Batch, Dataset, inference_batches, inference_groups
from formats.annotations import ground_truth_segments
from formats.timelines import Timelines, VideoSequences
from losses import AdaptiveMask, pseudo_labels, snippet_confidence
from model import combined_sequence
from options import Options
from test import Network, class_scores, predicted_classes
from utils.segments import Indices


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
    places = {v: place for place, v in enumerate(range(len(data.test)) if positions is None else positions)}
    videos, grid = [data.test.videos[v] for v in places], options.data.grid
    every = inference_groups(data.test, options.data, batch_size=options.evaluation.test_batch_size)
    groups = [chosen for group in every if (chosen := [v for v in group if v in places])]
    batches: Iterator[Batch] = inference_batches(data.test, groups, options.data)
    if positions is None:
        batches = progress(batches, total=len(groups), desc="recording timelines", unit="batch", leave=False)
    labels = np.stack([video.labels for video in videos]) > 0
    predicted, scores = np.zeros(labels.shape, bool), np.zeros(labels.shape, np.float32)
    sequences: dict[int, VideoSequences] = {}
    for group, batch in zip(groups, batches, strict=True):
        with torch.inference_mode():
            output = network(batch.features)
            combined = combined_sequence(output, options.fusion.weights)
            beta = options.localization.beta
            of_videos = _array(class_scores(output, combined, fusion=options.fusion, beta=beta))  # [B, classes known]
            pseudo_label = pseudo_labels(output.actionness, output.cas, options.actionness)
            weight = mask.weight(snippet_confidence(output.cas)) if mask else None
            cas = output.cas.softmax(2)
        for i, v in enumerate(places[v] for v in group):
            scores[v, : of_videos.shape[1]] = of_videos[i]
            predicted[v, predicted_classes(of_videos[i], threshold=options.localization.class_th)] = True
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
    names = tuple(video.video_id for video in videos)
    lengths = np.array([video.num_snippets for video in videos])
    rates = np.array([video.fps for video in videos])
    segments = np.array([len(sequences[v].actionness) for v in range(len(videos))])
    first = grid.seconds(np.zeros(len(videos)), rates)
    return Timelines(
        videos=names,
        classes=data.classes,
        seconds=np.array([video.duration or grid.end(video.num_snippets, video.fps) for video in videos], np.float64),
        first=first,
        step=grid.seconds(lengths / segments, rates) - first,
        labels=labels,
        predicted=predicted,
        class_scores=scores,
        truth=ground_truth_segments(data.annotations, names, data.classes),
        sequences=tuple(sequences[v] for v in range(len(videos))),
    )


def _of_classes(values: Tensor, classes: Indices) -> NDArray[np.float32]:
    """Of one video's [T,C], the sequences of these classes [P,T]; 0 for those that the network does not know."""
    array = _array(values)
    return np.pad(array, ((0, 0), (0, max(0, classes.max() + 1 - array.shape[1])))).T[classes]


def _array(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
