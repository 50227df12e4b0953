"""The SAL network: multilevel semantic learning (MSL) and the actionness branches of AAL.

    model = SAL(options.model, num_classes=20, streams=("rgb", "flow"), feature_size=1024)
    output = model(features)            # features [B,T,D], RGB channels first, flow second

Letters: B videos, T snippets, D feature channels, H hidden channels, C classes. Everything inside is snippet-major
([B,T,H], not [B,H,T]), so that nothing needs a transposition (layers/temporal_conv.py).
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers.dropout import dropout
from layers.mixup import add_partner
from layers.second_order import SMALLEST_NORM, SecondOrderPooling, SymmetricHalf, bilinear_pool, signed_sqrt_
from layers.temporal_conv import taps_first, temporal_conv
from layers.wide_linear import WideLinear, wide_linear
from options import ModelOptions


@dataclass(frozen=True)
class SalOutput:
    """What one forward pass computes. The dicts have one entry per stream.

    The last two fields serve the losses alone and are empty in test.
    """

    cas: Tensor  # [B,T,C] class activation sequence, logits
    actionness: Tensor  # [B,T] fused actionness, in (0,1)
    stream_actionness: dict[str, Tensor]  # [B,T] each, in (0,1)
    video_logits: Tensor  # [B,C] from second-order video semantics
    stream_video_logits: dict[str, Tensor] = field(default_factory=dict)  # [B,C] each
    mixed_actionness: dict[str, Tensor] = field(default_factory=dict)  # [B,T] each, of the mixed-up features

    @property
    def cas_bg(self) -> Tensor:
        """[B,T,C] cas where actionness is low; for the background loss."""
        return self.cas * (1 - self.actionness).unsqueeze(2)


def second_order_pooling(x: Tensor, *, eps: float) -> Tensor:
    """Second-order video semantics Q (MSL): [B,T,H] -> [B,H*H], unit length.

    Bilinear pooling of the snippets with themselves, then the signed square root (`eps` inside) and L2 normalisation.
    """
    q: Tensor = SecondOrderPooling.apply(x, eps)
    return q


def folded_second_order_pooling(x: Tensor, half: SymmetricHalf, *, eps: float) -> Tensor:
    """The same for layers folded onto half of the symmetric Q: [B,T,H] -> [B,H(H+1)/2], row i's entries j >= i."""
    rooted = signed_sqrt_(half.take(bilinear_pool(x)), eps)
    return rooted / half.norm(rooted).clamp_min(SMALLEST_NORM)


def propagate_semantics(encoded: Tensor, semantics: Tensor, actionness: Tensor) -> Tensor:
    """Add the video's semantics [B,H] to its snippets [B,T,H], as much as each snippet is action [B,T]."""
    return encoded + actionness.unsqueeze(2) * semantics.unsqueeze(1)


@dataclass(frozen=True)
class FoldedLayers:
    """fc1 and fc as test uses them: on the half of the symmetric Q that holds all of it, in one product."""

    half: SymmetricHalf
    weight: Tensor  # [H+C,H(H+1)/2], fc1's rows first
    bias: Tensor  # [H+C]


class SAL(nn.Module):
    """Parameter names and shapes are those of the published checkpoints, so that these load strictly."""

    def __init__(
        self,
        options: ModelOptions,
        *,
        num_classes: int,
        streams: tuple[str, ...],
        feature_size: int,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        """`streams` in the order of their channels in the features, `feature_size` channels each.

        The wide convolutions and the pooling compute in `compute_dtype`, all else in float32.
        """
        super().__init__()
        self.options, self.num_classes, self.streams = options, num_classes, streams
        self.feature_size, self.compute_dtype = feature_size, compute_dtype
        h, c, d = options.hidden_size, num_classes, feature_size
        self.encoder = _conv(d * len(streams), h, options.kernel_size)
        # action_* encodes a stream, cls_* turns that into its actionness.
        for stream in streams:
            self.add_module(f"action_{stream}", _conv(d, h, options.actionness_kernel_size))
            self.add_module(f"cls_{stream}", _conv(h, 1, 1))
        self.cls = _conv(h, c, 1)
        self.fc = WideLinear(h * h, c)
        self.fc1 = WideLinear(h * h, h)
        if self.fc1.weight.is_meta:  # about to be loaded; drawing numbers for nothing would take a second
            return
        nn.init.kaiming_normal_(self.fc1.weight)
        nn.init.zeros_(self.fc1.bias)

    def forward(self, features: Tensor) -> SalOutput:
        """features [B,T,D] -> SalOutput. Raises ValueError when D is not the model's."""
        encoded, pre_activation = self._encode(features)
        stream_encoded = {s: self._activate(z) for s, z in pre_activation.items()}
        stream_actionness = {s: self._actionness(s, e) for s, e in stream_encoded.items()}
        actionness = self._fuse(stream_actionness)

        semantics = self._pool(encoded)  # [B,H*H]
        propagated = propagate_semantics(encoded, self.fc1(semantics), actionness)
        cas = self._apply_conv("cls", propagated)

        stream_video_logits: dict[str, Tensor] = {}
        mixed_actionness: dict[str, Tensor] = {}
        if self.training:
            stream_video_logits = {s: self._video_logits(self._pool(e)) for s, e in stream_encoded.items()}
            mixed_actionness = {s: self._mixed_actionness(s, z) for s, z in pre_activation.items()}
        return SalOutput(
            cas=cas,
            actionness=actionness,
            stream_actionness=stream_actionness,
            video_logits=self._video_logits(semantics),
            stream_video_logits=stream_video_logits,
            mixed_actionness=mixed_actionness,
        )

    @torch.no_grad()
    def fold(self) -> FoldedLayers:
        """The two wide layers for `infer`, as the weights are now; half a second for the published sizes on 2 CPU cores."""
        h, device = self.options.hidden_size, self.fc.weight.device
        half = SymmetricHalf(h, device)
        weight = torch.empty(h + self.num_classes, len(half.position), device=device)
        half.fold(self.fc1.weight, weight[:h])
        half.fold(self.fc.weight, weight[h:])
        return FoldedLayers(half, weight, torch.cat([self.fc1.bias, self.fc.bias]))

    def infer(self, features: Tensor, layers: FoldedLayers) -> SalOutput:
        """`forward` for test: the same outputs within rounding, from half the wide weights and from no more than test needs."""
        encoded, pre_activation = self._encode(features)
        stream_actionness = {s: self._actionness(s, z.relu()) for s, z in pre_activation.items()}
        actionness = self._fuse(stream_actionness)
        half = folded_second_order_pooling(encoded, layers.half, eps=self.options.sqrt_eps)
        sizes = [self.options.hidden_size, self.num_classes]
        semantics, video_logits = wide_linear(half, layers.weight, layers.bias).split(sizes, dim=1)
        cas = self._apply_conv("cls", propagate_semantics(encoded, semantics, actionness))
        return SalOutput(cas=cas, actionness=actionness, stream_actionness=stream_actionness, video_logits=video_logits)

    def _encode(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The wide convolutions: E [B,T,H], and each stream's before its activation."""
        streams, size = self.streams, self.feature_size
        if features.shape[-1] != size * len(streams):
            raise ValueError(f"features have {features.shape[-1]} channels, the model takes {size * len(streams)}")
        features = features.to(self.compute_dtype)
        split = dict(zip(streams, features.split(size, dim=2), strict=True))
        pre_activation = {s: self._apply_conv(f"action_{s}", x) for s, x in split.items()}
        return self._activate(self._apply_conv("encoder", features)), pre_activation

    def _apply_conv(self, name: str, x: Tensor) -> Tensor:
        conv = self.get_submodule(name + ".0")
        assert isinstance(conv, nn.Conv1d) and conv.bias is not None
        return temporal_conv(x, conv.weight.to(x.dtype), conv.bias.to(x.dtype))

    def _activate(self, pre_activation: Tensor) -> Tensor:
        return dropout(F.relu(pre_activation), self.options.dropout, self.training)

    def _pool(self, encoded: Tensor) -> Tensor:
        return second_order_pooling(encoded, eps=self.options.sqrt_eps)

    def _video_logits(self, semantics: Tensor) -> Tensor:
        """[B,H*H] -> [B,C]"""
        logits: Tensor = self.fc(semantics)
        return logits

    def _actionness(self, stream: str, encoded: Tensor) -> Tensor:
        """[B,T,H] -> [B,T]"""
        return torch.sigmoid(self._apply_conv(f"cls_{stream}", encoded.float())).squeeze(2)

    def _mixed_actionness(self, stream: str, pre_activation: Tensor) -> Tensor:
        """Actionness of the mixed-up stream (AAL). The convolution is linear, so the mixed pre-activation is
        Conv(x + roll x) = Conv(x) + roll(Conv(x)) - bias and costs no second convolution."""
        bias = self.get_submodule(f"action_{stream}.0").bias
        assert isinstance(bias, Tensor)
        return self._actionness(stream, self._activate(add_partner(pre_activation) - bias.to(pre_activation.dtype)))

    def _fuse(self, stream_actionness: dict[str, Tensor]) -> Tensor:
        """Fused actionness A [B,T]; with a single stream, that stream's."""
        if len(stream_actionness) == 1:
            return next(iter(stream_actionness.values()))
        rgb = self.options.rgb_fusion
        return (1 - rgb) * stream_actionness["flow"] + rgb * stream_actionness["rgb"]


def topk_mean(values: Tensor, by: Tensor, k: int) -> Tensor:
    """Mean of `values` over the k snippets where `by` is largest, per video and class: [B,T,C] x2 -> [B,C]."""
    index = by.detach().topk(k, dim=1).indices
    return values.gather(1, index).mean(1)


def combined_sequence(output: SalOutput, weights: dict[str, float]) -> Tensor:
    """q [B,T,C]: the CAS's class probabilities and each stream's actionness, as a weighted mean.

    `weights` has "cas", "rgb" and "flow"; those of absent streams are left out and the rest scaled to keep the sum.
    """
    present = {"cas": weights["cas"], **{s: weights[s] for s in output.stream_actionness}}
    rescale = sum(weights.values()) / sum(present.values())
    combined = present["cas"] * rescale * output.cas.softmax(2)
    for stream, actionness in output.stream_actionness.items():
        combined = combined + present[stream] * rescale * actionness.unsqueeze(2)
    return combined


def _conv(channels: int, out: int, kernel_size: int) -> nn.Sequential:
    """A convolution's parameters under the published name ("encoder.0.weight", ...)."""
    conv = nn.Conv1d(channels, out, kernel_size)
    conv.weight = nn.Parameter(taps_first(conv.weight.detach()))
    return nn.Sequential(conv)
