"""The SAL network: multilevel semantic learning (MSL) and the actionness branches of AAL.

    model = SAL(options.model, num_classes=20, streams=("rgb", "flow"), feature_size=1024)
    output = model(features)            # features [B,T,D] or layers.snippets.Snippets, RGB channels first, flow second

Letters: B videos, T snippets, D feature channels, H hidden channels, C classes. Everything inside is snippet-major
([B,T,H], not [B,H,T]), so that nothing needs a transposition (layers/temporal_conv.py).
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from command_line.console import not_a_program

    not_a_program("model.py", run="python main.py")

from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers.drawing import kaiming_normal_linear
from layers.dropout import Dropout
from layers.mixup import add_partner
from layers.second_order import SecondOrderPooling
from layers.snippets import Snippets
from layers.temporal_conv import TemporalConv
from layers.wide_linear import WideLinear, clear_deferred
from options import AblationOptions, ModelOptions

WHOLE = AblationOptions()  # the whole method


@dataclass(frozen=True, kw_only=True)
class SalOutput:
    """The result of one forward pass. The dicts have one entry per stream. What an ablation leaves out is None or empty.

    The last two fields serve only the losses and are empty in test.
    """

    cas: Tensor  # [B,T,C] class activation sequence, logits
    actionness: Tensor | None  # [B,T] fused actionness, in (0,1)
    stream_actionness: dict[str, Tensor]  # [B,T] each, in (0,1)
    video_logits: Tensor | None  # [B,C] from second-order video semantics
    stream_video_logits: dict[str, Tensor] = field(default_factory=dict)  # [B,C] each
    mixed_actionness: dict[str, Tensor] = field(default_factory=dict)  # [B,T] each, of the mixed-up features

    @property
    def cas_bg(self) -> Tensor:
        """cas [B,T,C] weighted by 1 - actionness, for the background loss."""
        assert self.actionness is not None
        return self.cas * (1 - self.actionness).unsqueeze(2)


def second_order_pooling(x: Tensor, *, eps: float) -> Tensor:
    """Second-order video semantics Q (MSL): [B,T,H] -> [B,H*H], unit length.

    Bilinear pooling of the snippets with themselves, then the signed square root (`eps` inside) and L2 normalisation.
    """
    q: Tensor = SecondOrderPooling.apply(x, eps)
    return q


def propagate_semantics(encoded: Tensor, semantics: Tensor, actionness: Tensor | None) -> Tensor:
    """Add the video's semantics [B,H] to its snippets [B,T,H], weighted by each snippet's actionness [B,T], if there is one."""
    if actionness is None:
        return encoded + semantics.unsqueeze(1)
    return torch.addcmul(encoded, actionness.unsqueeze(2), semantics.unsqueeze(1))


class Encoder(nn.Module):
    """E = Dropout(ReLU(Conv(x))): [B,T,D] -> [B,T,H]."""

    def __init__(self, channels: int, hidden_size: int, *, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.conv = TemporalConv(channels, hidden_size, kernel_size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor | Snippets) -> Tensor:
        return self.activate(self.conv(x))

    def activate(self, convolved: Tensor) -> Tensor:
        """Everything after the convolution: [B,T,H] -> [B,T,H]; in test in the place of the input, which mix-up alone needs."""
        activated: Tensor = self.dropout(F.relu(convolved, inplace=not self.training))
        return activated


class ActionnessBranch(nn.Module):
    """Actionness [B,T], in (0,1), from one stream's features [B,T,D] (AAL).

    Training calls the steps one by one, because the losses need the intermediate results. An encoder needs two parts for this:
    `conv`, a first layer that is linear up to its bias, with `output_for_sum`, and `activate`, everything after it.
    """

    def __init__(self, channels: int, hidden_size: int, *, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.encoder = Encoder(channels, hidden_size, kernel_size=kernel_size, dropout=dropout)
        self.scorer = TemporalConv(hidden_size, 1, 1)

    def forward(self, x: Tensor | Snippets) -> Tensor:
        return self.score(self.activate(self.convolve(x)))

    def convolve(self, x: Tensor | Snippets) -> Tensor:
        """[B,T,D] -> [B,T,H], before the activation: the input of `mixed`."""
        convolved: Tensor = self.encoder.conv(x)
        return convolved

    def activate(self, convolved: Tensor) -> Tensor:
        """[B,T,H] -> [B,T,H], the encoded snippets: everything after the convolution."""
        return self.encoder.activate(convolved)

    def score(self, encoded: Tensor) -> Tensor:
        """[B,T,H] -> [B,T]"""
        return torch.sigmoid(self.scorer(encoded.float())).squeeze(2)

    def mixed(self, convolved: Tensor, before: Tensor | None = None) -> Tensor:
        """Actionness of the mixed-up features x + roll x. The convolution is linear, so it need not run again.

        `before` [1,T,H], convolved too, is the first video's partner where that is another process's.
        """
        return self.score(self.activate(self.encoder.conv.output_for_sum(add_partner(convolved, before))))


class SAL(nn.Module):
    """Features [B,T,D] -> SalOutput. Names and shapes of parameters in files: run/checkpoint.py."""

    def __init__(
        self,
        options: ModelOptions,
        *,
        num_classes: int,
        streams: tuple[str, ...],
        feature_size: int,
        compute_dtype: torch.dtype = torch.float32,
        ablation: AblationOptions = WHOLE,
    ) -> None:
        """`streams` in the order of their channels in the features, `feature_size` channels each.

        The wide convolutions and the pooling compute in `compute_dtype`, all else in float32. What `ablation` leaves out has
        neither parameters nor results.
        """
        super().__init__()
        self.options, self.num_classes, self.streams, self.ablation = options, num_classes, streams, ablation
        self.feature_size, self.compute_dtype = feature_size, compute_dtype
        self.channels = feature_size * len(streams)  # D of the features
        h, c, d, dropout = options.hidden_size, num_classes, feature_size, options.dropout
        taps = options.actionness_kernel_size
        # Optimiser states in checkpoints depend on the order of the parameters, initial weights on the order of the draws.
        self.encoder = Encoder(self.channels, h, kernel_size=options.kernel_size, dropout=dropout)
        with_branch = streams if ablation.actionness else ()
        branches = {stream: ActionnessBranch(d, h, kernel_size=taps, dropout=dropout) for stream in with_branch}
        self.actionness = nn.ModuleDict(branches)
        self.snippet_classifier = TemporalConv(h, c, 1)
        self.video_classifier = WideLinear(h * h, c) if ablation.second_order else None
        self.video_semantics = kaiming_normal_linear(WideLinear, h * h, h) if ablation.propagation else None

    def forward(self, features: Tensor | Snippets, partner: Tensor | Snippets | None = None) -> SalOutput:
        """Run the network. Raises ValueError when the number of channels differs from the model's.

        `partner` [1,T,D] is what the first video is mixed up with where that is not the batch's last (ranks/).
        """
        joint, streams = self.split(features)
        convolved = {s: branch.convolve(streams[s]) for s, branch in self.branches.items()}
        encoded = self.encoder(joint)
        stream_encoded = {s: branch.activate(convolved[s]) for s, branch in self.branches.items()}

        stream_actionness = {s: branch.score(stream_encoded[s]) for s, branch in self.branches.items()}
        actionness = self.fuse(stream_actionness) if stream_actionness else None

        second_order = self._pool(encoded) if self.video_classifier else None
        cas = self._classify_snippets(encoded, second_order, actionness)

        mixed_actionness: dict[str, Tensor] = {}
        if self.training and self.ablation.mixup:
            before = {} if partner is None else self.split(partner)[1]
            convolved_before = {s: self.branches[s].convolve(x) for s, x in before.items()}
            mixed_actionness = {s: b.mixed(convolved[s], convolved_before.get(s)) for s, b in self.branches.items()}
        return SalOutput(
            cas=cas,
            actionness=actionness,
            stream_actionness=stream_actionness,
            mixed_actionness=mixed_actionness,
            **self._classified(second_order, stream_encoded),
        )

    def sequences(self, features: Tensor | Snippets, *, with_actionness: bool) -> SalOutput:
        """What a teacher says of snippets: the cas and, unless neither caller nor cas needs it, actionness."""
        joint, streams = self.split(features)
        encoded = self.encoder(joint)
        stream_actionness: dict[str, Tensor] = {}
        if with_actionness or self.video_semantics:
            stream_actionness = {s: branch(streams[s]) for s, branch in self.branches.items()}
        actionness = self.fuse(stream_actionness) if stream_actionness else None
        second_order = self._pool(encoded) if self.video_semantics else None
        return SalOutput(
            cas=self._classify_snippets(encoded, second_order, actionness),
            actionness=actionness,
            stream_actionness=stream_actionness,
            video_logits=None,
        )

    def _classify_snippets(self, encoded: Tensor, second_order: Tensor | None, actionness: Tensor | None) -> Tensor:
        """The cas [B,T,C] of encoded snippets [B,T,H], Q [B,H*H] propagated to them."""
        propagated = encoded.float()
        if self.video_semantics:
            propagated = propagate_semantics(encoded, self.video_semantics(second_order), actionness)
        cas: Tensor = self.snippet_classifier(propagated)
        return cas

    def _classified(self, second_order: Tensor | None, stream_encoded: dict[str, Tensor]) -> dict[str, Any]:
        """The video logits from Q [B,H*H] of all channels and, in training, from that of each stream [B,T,H]."""
        if second_order is None or self.video_classifier is None:
            return {"video_logits": None}
        if not self.training:
            return {"video_logits": self.video_classifier(second_order)}
        # One pass over the classifier's weights, which are as wide as Q, does for all.
        pooled = torch.cat([second_order, *(self._pool(e) for e in stream_encoded.values())])
        video_logits, *of_streams = self.video_classifier(pooled).split(len(second_order))
        return {"video_logits": video_logits, "stream_video_logits": dict(zip(stream_encoded, of_streams, strict=True))}

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        clear_deferred(self.parameters())

    @property
    def branches(self) -> dict[str, ActionnessBranch]:
        """The actionness branches by stream, typed."""
        return cast(dict[str, ActionnessBranch], dict(self.actionness.items()))

    def split(self, features: Tensor | Snippets) -> tuple[Tensor | Snippets, dict[str, Tensor | Snippets]]:
        """Features [B,T,D] as inputs of the wide convolutions: all channels, and those of each stream."""
        if features.shape[-1] != self.channels:
            raise ValueError(f"features have {features.shape[-1]} channels, the model takes {self.channels}")
        features = features.to(self.compute_dtype)
        return features, dict(
            zip(self.streams, features.split([self.feature_size] * len(self.streams), -1), strict=True)
        )

    def fuse(self, stream_actionness: dict[str, Tensor]) -> Tensor:
        """Fused actionness A [B,T]; with a single stream, its actionness."""
        if len(stream_actionness) == 1:
            return next(iter(stream_actionness.values()))
        rgb = self.options.rgb_fusion
        return (1 - rgb) * stream_actionness["flow"] + rgb * stream_actionness["rgb"]

    def _pool(self, encoded: Tensor) -> Tensor:
        return second_order_pooling(encoded, eps=self.options.sqrt_eps)


def topk_mean(values: Tensor, by: Tensor, k: int) -> Tensor:
    """Mean of `values` over the k snippets where `by` is largest, per video and class: [B,T,C] x2 -> [B,C]."""
    index = by.detach().topk(k, dim=1).indices
    return values.gather(1, index).mean(1)


def combined_sequence(output: SalOutput, weights: dict[str, float]) -> Tensor:
    """q [B,T,C]: the CAS's class probabilities and each stream's actionness, as a weighted mean.

    `weights` has "cas", "rgb" and "flow"; those of absent streams are dropped and the rest scaled to keep the sum.
    """
    present = {"cas": weights["cas"], **{s: weights[s] for s in output.stream_actionness}}
    rescale = sum(weights.values()) / sum(present.values())
    combined = present["cas"] * rescale * output.cas.softmax(2)
    for stream, actionness in output.stream_actionness.items():
        combined = combined + present[stream] * rescale * actionness.unsqueeze(2)
    return combined
