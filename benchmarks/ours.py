"""Every call that the benchmark makes into the project, in one place.

    model = build_model(sizes, device)
    step = TrainingStep(model, features, labels); step.forward(); step.backward(); step.optimise()
    predictions = predict_videos(model, features); detections = postprocess([as_prediction(v) for v in videos])

rows.py knows the project through these functions alone.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.inputs import Sizes, TestSet, VideoSequences
from dataset import Batch, HostStore, Split, Video, inference_batches, inference_groups, random_indices, uniform_indices
from eval.detection import evaluate_detections
from eval.statistics import WeightedEvaluation
from layers.dropout import Dropout
from layers.snippets import Snippets
from layers.temporal_conv import taps_first, temporal_conv
from layers.wide_adam import WideAdam
from layers.wide_linear import deferred_gradient, gradient_of, wide_linear
from localization.instances import Prediction, localize
from localization.nms import nms
from losses import AdaptiveMask
from model import SAL, combined_sequence
from options import resolve
from run.checkpoint import to_published
from run.graphs import GraphedStep, Record
from test import class_scores, predict
from train import Objective, StepResult, train_step
from utils.segments import Segments
from utils.snippet_grid import DEFAULT_FPS

RECIPE = resolve({})  # THUMOS'14

Detection = tuple[int, float, float, float]  # class, start, end, score


def build_model(sizes: Sizes, device: torch.device) -> SAL:
    torch.manual_seed(0)
    options = dataclasses.replace(RECIPE.model, hidden_size=sizes.hidden_size)
    streams, size = RECIPE.data.streams, sizes.feature_size
    return SAL(options, num_classes=sizes.num_classes, streams=streams, feature_size=size).to(device)


def parameters(model: SAL) -> dict[str, Tensor]:
    """The parameters by published name, as the plain formulation has them."""
    return to_published(dict(model.named_parameters()))


def set_dropout(model: SAL, dropout: float) -> None:
    """Sets the dropout: two formulations can be compared only without it."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.p = dropout


def new_mask(model: SAL, device: torch.device) -> AdaptiveMask:
    return AdaptiveMask(RECIPE.actionness, num_classes=model.num_classes).to(device)


def new_optimizer(model: SAL) -> WideAdam:
    adam = RECIPE.optimisation
    betas = (adam.beta1, adam.beta2)
    return WideAdam(model.parameters(), lr=adam.lr, betas=betas, weight_decay=adam.weight_decay)


class TrainingStep:
    """A training step on one batch, in parts or whole."""

    def __init__(self, model: SAL, features: Tensor | Snippets, labels: Tensor) -> None:
        self.model = model.train()
        self.batch = _batch(features, labels)
        self.mask = new_mask(model, labels.device)
        self.optimizer = new_optimizer(model)
        self.objective = Objective(
            model, self.mask, losses=RECIPE.losses, actionness=RECIPE.actionness, fusion=RECIPE.fusion
        )
        self.result: StepResult | None = None

    @property
    def losses(self) -> dict[str, Tensor]:
        """The losses of the last forward by name, the total included."""
        assert self.result is not None
        return dict(zip(self.result.names, self.result.losses, strict=True))

    def take(self, features: Snippets) -> None:
        """Go on with another batch of as many videos."""
        self.batch = self.batch._replace(features=features)

    def forward(self) -> None:
        self.result = self.objective(self.batch.features, self.batch.labels)

    def backward(self) -> None:
        self.optimizer.zero_grad()
        self.losses["total"].backward()

    def optimise(self) -> None:
        self.optimizer.step()

    def whole(self) -> StepResult:
        return train_step(self.objective, self.optimizer, self.batch)

    def graphed(self, record: Record[StepResult] | None = None) -> GraphedStep[StepResult]:
        """The whole step as one CUDA graph; `record` stands in for that."""

        def step(batch: Batch) -> StepResult:
            return train_step(self.objective, self.optimizer, batch)

        return GraphedStep(step, model=self.model, mask=self.mask, optimizer=self.optimizer, record=record)

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of the last backward by published name."""
        gradients = {name: gradient_of(p) for name, p in parameters(self.model).items()}
        return {name: gradient for name, gradient in gradients.items() if gradient is not None}


class WideLayer:
    """The widest layer's weight [H,H*H] with a batch of inputs x [B,H*H] and gradients of its outputs g [B,H]."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        h, batch = sizes.hidden_size, sizes.batch_size
        torch.manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(h, h * h, device=device) / h)
        self.x, self.g = (torch.randn(batch, width, device=device) / h for width in (h * h, h))

    def forward(self) -> Tensor:
        with torch.no_grad():
            return wide_linear(self.x, self.weight, None)

    def plain_forward(self) -> Tensor:
        return torch.mm(self.x, self.weight.detach().t())

    def updater(self) -> Callable[[], Tensor]:
        """What updates the weight from the factors of its gradient, and returns it."""
        adam = RECIPE.optimisation
        optimizer = WideAdam([self.weight], lr=adam.lr, betas=(adam.beta1, adam.beta2), weight_decay=adam.weight_decay)

        def update() -> Tensor:
            deferred = deferred_gradient(self.weight)
            assert deferred is not None
            deferred.factors.append((self.g, self.x))
            optimizer.step()
            return self.weight.detach()

        return update

    def plain_updater(self) -> Callable[[], Tensor]:
        """The same by a gradient in memory and torch's fused Adam."""
        adam = RECIPE.optimisation
        betas = (adam.beta1, adam.beta2)
        optimizer = torch.optim.Adam([self.weight], lr=adam.lr, betas=betas, weight_decay=adam.weight_decay, fused=True)

        def update() -> Tensor:
            self.weight.grad = torch.mm(self.g.t(), self.x)
            optimizer.step()
            return self.weight.detach()

        return update


def as_kept(weight: Tensor) -> Tensor:
    """A convolution's weight [H,D,k] as the model lays it out in memory."""
    return taps_first(weight)


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution of x [B,T,D] with a weight [H,D,k]: [B,T,H]."""
    return temporal_conv(x, weight, bias)


def as_video(features: NDArray[np.float32]) -> Video:
    """A video in memory, of joint features [L,D]."""
    return Video(video_id="synthetic", labels=np.zeros(0, np.float32), features=features, fps=DEFAULT_FPS)


def shared_videos(pool: NDArray[np.float32], lengths: NDArray[np.int64], device: torch.device) -> Split:
    """Videos that are the first snippets of one long video [L,D]: the features of a whole test set would fill the memory."""
    videos = tuple(as_video(pool[:length]) for length in lengths.tolist())
    return Split(videos=videos, store=HostStore(videos, device))


def resample(video: Video, num_segments: int, generator: np.random.Generator | None, out: NDArray[np.float32]) -> None:
    """Fills out [T,D]; uniformly without a generator, as in test."""
    video.sample(_indices(video, num_segments, generator), out)


def _indices(video: Video, num_segments: int, generator: np.random.Generator | None) -> NDArray[np.int64]:
    if generator:
        return random_indices(video.num_snippets, num_segments, generator, short_videos=RECIPE.data.short_videos)
    return uniform_indices(video.num_snippets, num_segments)


def predict_videos(model: SAL, features: Tensor) -> list[Prediction]:
    """Predictions of one test batch [B,T,D]."""
    batch = _batch(features, features.new_zeros(len(features), 0))
    return predict(model, [batch], fusion=RECIPE.fusion, localization=RECIPE.localization)


def resampled_batches(videos: Split, sizes: Sizes, *, batch_size: int, training: bool) -> list[Snippets]:
    """The features of these videos, in batches, resampled as in training or in test."""
    generator = np.random.default_rng(0) if training else None
    batches = []
    for first in range(0, len(videos), batch_size):
        positions = list(range(first, min(first + batch_size, len(videos))))
        indices = [_indices(videos.videos[position], sizes.num_segments, generator) for position in positions]
        batches.append(videos.store.prepare(positions, np.stack(indices))())
    return batches


class TestForward:
    """The network's part of a test batch [B,T,D]: outputs, combined sequences, class scores."""

    __test__ = False  # not a test, whatever pytest makes of its name

    def __init__(self, model: SAL) -> None:
        self.network = model.eval()

    def __call__(self, features: Tensor | Snippets) -> tuple[Tensor, Tensor]:
        output = self.network(features)
        sequences = combined_sequence(output, RECIPE.fusion.weights)
        return class_scores(output, sequences, fusion=RECIPE.fusion, beta=RECIPE.localization.beta), sequences


def predict_set(model: SAL, videos: Split, sizes: Sizes) -> list[Prediction]:
    """Predictions of a test set: resampling, batching and the network."""
    options = dataclasses.replace(RECIPE.data, num_segments=sizes.num_segments)
    groups = inference_groups(videos, options, batch_size=sizes.test_batch_size)
    batches = inference_batches(videos, groups, options)
    return predict(model, batches, fusion=RECIPE.fusion, localization=RECIPE.localization)


def predicted(prediction: Prediction) -> tuple[Tensor, Tensor, list[int]]:
    """Class scores [C], sequences [T,P] and the P classes of a prediction."""
    return (
        torch.as_tensor(prediction.class_scores),
        torch.as_tensor(prediction.sequences.T),
        list(prediction.classes.tolist()),
    )


def as_prediction(video: VideoSequences) -> Prediction:
    classes = np.flatnonzero(video.class_scores >= RECIPE.localization.class_th)
    return Prediction(
        num_snippets=video.num_snippets,
        fps=DEFAULT_FPS,
        class_scores=video.class_scores,
        classes=classes,
        sequences=np.ascontiguousarray(video.sequences[:, classes].T),
    )


def postprocess(predictions: list[Prediction]) -> Segments:
    return localize(predictions, RECIPE.localization, grid=RECIPE.data.grid)


def suppress(
    start: NDArray[np.float64], end: NDArray[np.float64], score: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Soft NMS of one class: positions and scores, best first."""
    return nms(np.zeros(len(start), np.int64), start, end, score, options=RECIPE.localization)


def map_of(truth: Segments, detections: Segments, num_classes: int, tious: tuple[float, ...]) -> NDArray[np.float64]:
    """The mAP [K] at each tIoU."""
    return evaluate_detections(truth, detections, num_classes=num_classes, tious=tious).map


def drawable(test_set: TestSet, num_classes: int, tious: tuple[float, ...]) -> WeightedEvaluation:
    videos = len(test_set.durations)
    return WeightedEvaluation(
        test_set.truth, test_set.detections, num_classes=num_classes, num_videos=videos, tious=tious
    )


def drawn_map(evaluation: WeightedEvaluation, weight: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mAP [K] at each tIoU if each video counts as often as its weight says."""
    return np.asarray(np.nanmean(evaluation.per_class_ap(weight), axis=1))


def _batch(features: Tensor | Snippets, labels: Tensor) -> Batch:
    """A batch of videos, said to be as long as T."""
    count, t, _ = features.shape
    names = tuple(str(i) for i in range(count))
    return Batch(
        features=Snippets.of(features),
        labels=labels,
        video_ids=names,
        num_snippets=(t,) * count,
        fps=(DEFAULT_FPS,) * count,
        durations=(None,) * count,
    )
