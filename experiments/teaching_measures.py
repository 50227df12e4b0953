"""How right the teaching of actionness is: what it says of the training videos, compared with their segments.

watch = TeachingWatch()
run_training(flags, watch=watch)        # in main.py
watch.looks                             # {measure: value} of every evaluation, in order

For analysis only. Weak supervision knows no segments in training: nothing that is computed here may flow back into it, choose
a model or a number. Everything is in evaluation mode, on the snippets that test would take of the videos.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from command_line.progress import progress
from dataset import Batch, Dataset, Split, inference_batches, inference_groups, inference_indices
from eval.judging import Evaluation
from formats.annotations import ground_truth_segments
from localization.instances import Prediction
from losses import ActionnessTargets, AdaptiveMask, actionness_targets
from model import SalOutput
from options import Options
from run.evaluating import Predictor
from train import Objective
from utils.segments import Floats

Flags = NDArray[np.bool_]
Look = dict[str, float]  # {measure: value}, at one evaluation
STREAMS = ("rgb", "flow")


@dataclass(frozen=True, kw_only=True)
class TaughtVideo:
    """What training would teach of one video, what the network says, and what is true, of T snippets and C classes."""

    action: Flags  # [T,C], whether the snippet's middle lies in a segment of the class
    labels: Flags  # [C], of the video
    pseudo_label: Flags  # [T]
    weight: Floats  # [T], by the mask
    actionness: Floats  # [T], fused
    streams: dict[str, Floats]  # [T] each
    probability: Floats  # [T,C], of classes

    @property
    def of_any_class(self) -> Flags:
        """[T], whether there is action."""
        return np.logical_or.reduce(self.action, axis=1, dtype=bool)


def teaching_measures(videos: Sequence[TaughtVideo]) -> Look:
    """Shares, means and areas, all in 0 .. 1 but for the correlation, in -1 .. 1; NaN where there is nothing to measure.

    Snippets of all videos count alike; areas under the ROC curve are of single videos, the mean over those with both kinds.
    """
    action = np.concatenate([video.of_any_class for video in videos])
    positive = np.concatenate([video.pseudo_label for video in videos])
    weight = np.concatenate([video.weight for video in videos])
    actionness = np.concatenate([video.actionness for video in videos])
    streams = {name: np.concatenate([video.streams[name] for video in videos]) for name in videos[0].streams}
    return {
        "action_share": _mean(action),
        "labelled_share": _mean(positive),
        "positive_precision": _mean(action, weight * positive),
        "background_precision": _mean(~action, weight * ~positive),
        "action_recall": _mean(positive, action),
        "auc_fused": _mean_auc([(video.actionness, video.of_any_class) for video in videos]),
        **{
            f"auc_{stream}": _mean_auc(
                [(video.streams[stream], video.of_any_class) for video in videos if stream in video.streams]
            )
            for stream in STREAMS
        },
        "auc_class": _mean_auc(
            [(video.probability[:, c], video.action[:, c]) for video in videos for c in np.flatnonzero(video.labels)]
        ),
        "actionness_on_action": _mean(actionness, action),
        "actionness_on_background": _mean(actionness, ~action),
        "mask_on_action": _mean(weight, action),
        "mask_on_background": _mean(weight, ~action),
        "stream_correlation": _correlation(list(streams.values())),
    }


def area_under_roc(scores: Floats, truth: Flags) -> float:
    """The probability that a true one of [N] scores higher than one that is not, ties counting half; NaN without both."""
    positive, negative = scores[truth], np.sort(scores[~truth])
    if not len(positive) or not len(negative):
        return math.nan
    lower = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(lower.mean() / 2 / len(negative))


def _mean_auc(pairs: Sequence[tuple[Floats, Flags]]) -> float:
    areas = np.array([area_under_roc(scores, truth) for scores, truth in pairs])
    return _mean(areas[~np.isnan(areas)])


def _mean(values: Flags | Floats, weights: Flags | Floats | None = None) -> float:
    weights = np.ones(len(values)) if weights is None else weights
    return float((values * weights).sum() / weights.sum()) if weights.any() else math.nan


def _correlation(streams: Sequence[Floats]) -> float:
    if len(streams) < 2 or any(values.std() == 0 for values in streams):
        return math.nan
    return float(np.asarray(np.corrcoef(streams))[0, 1])


class TeachingWatch:
    """What a run is given to be looked at, and then what was seen of it."""

    def __init__(self) -> None:
        self.looks = list[Look]()  # of every evaluation, in order
        self.steps_per_epoch = 0

    def __call__(self, evaluator: Predictor, objective: Objective, data: Dataset, options: Options) -> Predictor:
        """The evaluator that the run is to call."""
        self.steps_per_epoch = options.optimisation.steps_per_epoch(len(data.train))
        return LookingEvaluator(evaluator, objective, data, options, looks=self.looks)


class LookingEvaluator:
    """An evaluator that also looks at the training videos each time, and changes nothing but its own notes."""

    def __init__(
        self, evaluator: Predictor, objective: Objective, data: Dataset, options: Options, *, looks: list[Look]
    ) -> None:
        """`looks` gets what is seen."""
        self.evaluator, self.objective, self.options, self.looks = evaluator, objective, options, looks
        self.judge = evaluator.judge
        self.videos, self.action = data.train, snippet_truth(data, data.train, options)

    def __call__(self) -> Evaluation:
        self.looks.append(teaching_measures(self.look()))
        return self.evaluator()

    def predict(self) -> list[Prediction]:
        self.looks.append(teaching_measures(self.look()))
        return self.evaluator.predict()

    @torch.inference_mode()
    def look(self) -> list[TaughtVideo]:
        """The training videos with the weights of now."""
        self.objective.model.eval()
        groups = inference_groups(self.videos, self.options.data, batch_size=self.options.evaluation.test_batch_size)
        batches = inference_batches(self.videos, groups, self.options.data)
        taught = []
        for batch in progress(batches, total=len(groups), desc="training videos", unit="batch", leave=False):
            output = self.objective.model(batch.features)
            targets = targets_of_now(self.objective, batch, output)
            fused = output.actionness
            assert targets and fused is not None, "refused before training: --no_actionness"
            probability = output.cas.softmax(2)
            for i, name in enumerate(batch.video_ids):
                taught.append(
                    TaughtVideo(
                        action=self.action[name],
                        labels=_array(batch.labels[i]) > 0,
                        pseudo_label=_array(targets.label[i]) > 0,
                        weight=_array(targets.weight[i]),
                        actionness=_array(fused[i]),
                        streams={stream: _array(values[i]) for stream, values in output.stream_actionness.items()},
                        probability=_array(probability[i]),
                    )
                )
        return taught


class _MaskAsItIs(AdaptiveMask):
    """A mask whose statistics stay what they are in another."""

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective.actionness, num_classes=objective.model.num_classes)
        self.to(objective.mask.mean.device).load_state_dict(objective.mask.state_dict())

    def forward(self, confidence: Tensor) -> Tensor:
        return self.weight(confidence)


def targets_of_now(objective: Objective, batch: Batch, output: SalOutput) -> ActionnessTargets | None:
    """The targets that training would take from the batch and the network's output, without a step's update of the mask.

    The one place that follows `Objective.__call__`: of what targets are made there, they are made here.
    """
    return actionness_targets(
        objective.teaching(batch.features, output),
        _MaskAsItIs(objective),
        objective.actionness,
        labels=batch.labels,
        ablation=objective.ablation,
    )


def snippet_truth(data: Dataset, videos: Split, options: Options) -> dict[str, Flags]:
    """{video: [T,C]}: of the snippets that test takes, whether their middle lies in a segment of the class."""
    truth = ground_truth_segments(data.annotations, videos.names, data.classes)
    marked = {}
    for v, video in enumerate(videos):
        chosen = inference_indices(
            video.num_snippets, options.data.num_segments, short_videos=options.data.short_videos
        )
        middle = options.data.grid.seconds(chosen + 0.5, video.fps)
        action = np.zeros((len(chosen), len(data.classes)), bool)
        for i in np.flatnonzero(truth.video == v):
            action[:, truth.label[i]] |= (truth.start[i] <= middle) & (middle < truth.end[i])
        marked[video.video_id] = action
    return marked


def _array(values: Tensor) -> Floats:
    array: Floats = values.double().cpu().numpy()
    return array
