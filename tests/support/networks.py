"""Small networks, their outputs, and splits without files."""

from collections.abc import Iterable

import torch

from dataset import Batch, HostStore, Split, Video
from layers.snippets import Snippets
from losses import AdaptiveMask
from model import SAL, SalOutput
from options import Options
from train import Objective


def build_model(options: Options, classes: int, seed: int = 0) -> SAL:
    """A network with the same weights every time."""
    torch.manual_seed(seed)
    data = options.data
    return SAL(
        options.model,
        num_classes=classes,
        streams=data.streams,
        feature_size=data.feature_size,
        ablation=options.ablation,
    )


def build_objective(options: Options, classes: int) -> Objective:
    """Such a network and what it is trained with."""
    mask = AdaptiveMask(options.actionness, num_classes=classes)
    parts = {"losses": options.losses, "actionness": options.actionness, "fusion": options.fusion}
    borders = options.self_training.self_border > 0
    return Objective(build_model(options, classes), mask, **parts, borders=borders)


def build_batch(features: torch.Tensor, labels: torch.Tensor) -> Batch:
    """A batch [B,T,D] with labels [B,C], of videos of T snippets."""
    count, t = features.shape[:2]
    return Batch(
        features=Snippets.of(features),
        labels=labels,
        video_ids=("v",) * count,
        num_snippets=(t,) * count,
        fps=(25.0,) * count,
        durations=(None,) * count,
    )


def host_split(videos: Iterable[Video]) -> Split:
    """A split whose features are in memory, or in their files."""
    videos = tuple(videos)
    return Split(videos=videos, store=HostStore(videos, torch.device("cpu")))


def random_output(b: int = 2, t: int = 16, c: int = 3, streams: tuple[str, ...] = ("rgb", "flow")) -> SalOutput:
    """What a network of `c` classes could say of `b` videos."""
    torch.manual_seed(0)
    actionness = {s: torch.rand(b, t) for s in streams}
    return SalOutput(
        cas=torch.randn(b, t, c),
        actionness=sum(actionness.values()) / len(streams),
        stream_actionness=actionness,
        video_logits=torch.randn(b, c),
        stream_video_logits={s: torch.randn(b, c) for s in streams},
        mixed_actionness={s: torch.rand(b, t) for s in streams},
    )
