"""Every call that the benchmark makes into the project's own code, in one place.

    model = build_model(sizes, device)
    step = TrainingStep(model, features, labels); step.forward(); step.backward(); step.optimise()
    predictions = predict_videos(model, features); found = postprocess([as_prediction(v) for v in videos])

The rows in rows.py know the project by these functions alone.
"""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.inputs import Sizes, VideoSequences
from dataset import Batch, Split, Video, random_indices, test_batches, test_groups, uniform_indices
from eval.detection import evaluate_detections
from layers.temporal_conv import taps_first, temporal_conv
from layers.wide_adam import WideAdam
from layers.wide_linear import gradient_factors, wide_gradient
from localization.nms import NmsConfig, nms
from localization.proposals import ProposalConfig
from losses import AdaptiveMask
from model import SAL, combined_sequence
from options import Options
from test import PredictConfig, Prediction, class_scores, localize, predict
from train import Objective, StepResult, train_step
from utils.segments import Segments

RECIPE = Options()  # THUMOS'14

Detection = tuple[int, float, float, float]  # class, start, end, score


def build_model(sizes: Sizes, device: torch.device) -> SAL:
    torch.manual_seed(0)
    options = dataclasses.replace(RECIPE, feature_size=sizes.feature_size, hidden_size=sizes.hidden_size)
    return SAL(options.model_config(sizes.num_classes)).to(device)


def set_dropout(model: SAL, dropout: float) -> None:
    """Without dropout two formulations can be compared."""
    model.config = dataclasses.replace(model.config, dropout=dropout)


def new_mask(model: SAL, device: torch.device) -> AdaptiveMask:
    return RECIPE.adaptive_mask(model.config.num_classes).to(device)


def new_optimizer(model: SAL) -> WideAdam:
    betas = (RECIPE.beta1, RECIPE.beta2)
    return WideAdam(model.parameters(), lr=RECIPE.lr, betas=betas, weight_decay=RECIPE.weight_decay)


class TrainingStep:
    """One batch's step, in parts or whole."""

    def __init__(self, model: SAL, features: Tensor, labels: Tensor) -> None:
        self.model = model.train()
        names = tuple(str(i) for i in range(len(features)))
        self.batch = Batch(features, labels, names, (features.shape[1],) * len(features))
        self.mask = new_mask(model, features.device)
        self.optimizer = new_optimizer(model)
        self.objective = Objective(
            model,
            self.mask,
            loss_config=RECIPE.loss_config(),
            label_config=RECIPE.pseudo_label_config(),
            weights=RECIPE.loss_weights,
        )
        self.result: StepResult | None = None

    @property
    def losses(self) -> dict[str, Tensor]:
        """Of the last forward, by name; the total with them."""
        assert self.result is not None
        return dict(zip(self.result.names, self.result.losses, strict=True))

    def forward(self) -> None:
        self.result = self.objective(self.batch.features, self.batch.labels)

    def backward(self) -> None:
        self.optimizer.zero_grad()
        self.losses["total"].backward()

    def optimise(self) -> None:
        self.optimizer.step()

    def whole(self) -> StepResult:
        return train_step(self.objective, self.optimizer, self.batch)

    def gradients(self) -> dict[str, Tensor]:
        """Of the last backward, by parameter name."""
        named = dict(self.model.named_parameters())
        wide = {name: wide_gradient(p) for name, p in named.items() if gradient_factors(p)}
        return {name: p.grad for name, p in named.items() if p.grad is not None} | wide


def as_kept(weight: Tensor) -> Tensor:
    """A convolution's weight [H,D,k] as the model lays it out in memory."""
    return taps_first(weight)


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[B,T,D] x [H,D,k] -> [B,T,H]"""
    return temporal_conv(x, weight, bias)


def as_video(features: NDArray[np.float32]) -> Video:
    """Joint features [L,D] -> a video that lies in memory."""
    return Video("made", np.zeros(0, np.float32), features)


def shared_videos(pool: NDArray[np.float32], lengths: NDArray[np.int64]) -> Split:
    """Videos that are all the first snippets of one long one [L,D]: a whole test set's features would fill the memory."""
    return Split(Video(str(i), np.zeros(0, np.float32), pool[:n]) for i, n in enumerate(lengths.tolist()))


def resample(video: Video, num_segments: int, generator: np.random.Generator | None, out: NDArray[np.float32]) -> None:
    """-> out [T,D]; without a generator uniform, as in test."""
    count = video.num_snippets
    indices = random_indices(count, num_segments, generator) if generator else uniform_indices(count, num_segments)
    video.sample(indices, out)


def predict_videos(model: SAL, features: Tensor) -> list[Prediction]:
    """One test batch [B,T,D]."""
    count, t = features.shape[:2]
    batch = Batch(features, features.new_zeros(count, 0), ("",) * count, (t,) * count)
    return predict(model, [batch], config=PredictConfig())


class TestForward:
    """The network's part of a test batch [B,T,D]: outputs, combined sequences, class scores."""

    __test__ = False  # not a test, whatever pytest makes of its name

    def __init__(self, model: SAL) -> None:
        self.model = model.eval()
        self.layers = model.fold()

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        config = PredictConfig()
        output = self.model.infer(features, self.layers)
        sequences = combined_sequence(output, config.fusion)
        return class_scores(output, sequences, config), sequences


def predict_set(model: SAL, videos: Split, sizes: Sizes, device: torch.device) -> list[Prediction]:
    """Resampling, batching and the network."""
    t, short = sizes.num_segments, RECIPE.short_videos
    groups = test_groups(videos, num_segments=t, batch_size=sizes.test_batch_size, short_videos=short)
    workers = RECIPE.num_workers
    batches = test_batches(videos, groups, num_segments=t, num_workers=workers, device=device, short_videos=short)
    return predict(model, batches, config=PredictConfig())


def predicted(prediction: Prediction) -> tuple[Tensor, Tensor, list[int]]:
    """Class scores [C], sequences [T,P] and the P classes of a prediction."""
    return (
        torch.as_tensor(prediction.class_scores),
        torch.as_tensor(prediction.sequences.T),
        list(prediction.classes.tolist()),
    )


def as_prediction(video: VideoSequences) -> Prediction:
    classes = np.flatnonzero(video.class_scores >= PredictConfig().class_th)
    sequences = np.ascontiguousarray(video.sequences[:, classes].T)
    return Prediction(video.num_snippets, video.class_scores, classes, sequences)


def postprocess(predictions: list[Prediction]) -> Segments:
    return localize(predictions, proposals=ProposalConfig(), suppression=NmsConfig())


def suppress(
    start: NDArray[np.float64], end: NDArray[np.float64], score: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One class's soft NMS -> positions and scores, best first."""
    return nms(np.zeros(len(start), np.int64), start, end, score, NmsConfig())


def map_of(truth: Segments, detections: Segments, num_classes: int, tious: tuple[float, ...]) -> NDArray[np.float64]:
    """mAP per tIoU [K]."""
    return evaluate_detections(truth, detections, num_classes=num_classes, tious=tious).map
