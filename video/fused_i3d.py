"""I3D as it is run: the same numbers as video/i3d.py, to rounding, in half the time.

network = FusedI3D(I3D(), device=torch.device("cpu"), dtype=torch.float32)

Batch normalisation is folded into the convolutions, the three 1x1x1 convolutions that read one input are one matrix product,
and channels lie side by side in memory, so that the pooling over space takes whole vectors and that over time is a few maxima.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from video.i3d import I3D, LAST_STEPS, MIXED, POOLED_BEFORE, I3DOutput, Triple, Unit3D, pad_same, same_padding

CHANNELS_LAST = torch.channels_last_3d


class FusedI3D:
    """[B,C,L,H,W] in [-1,1] -> I3DOutput, in float32. It takes over the weights of an I3D; no gradients."""

    @torch.no_grad()
    def __init__(self, network: I3D, *, device: torch.device, dtype: torch.dtype) -> None:
        """`dtype` is that of convolutions and activations."""
        self.dtype = dtype
        weights = {}
        for name, unit in network.named_modules():
            if isinstance(unit, Unit3D):
                weights[name] = folded(unit)
        for name in MIXED:
            first = [weights.pop(f"{name}.{branch}") for branch in ("b0", "b1a", "b2a")]
            weights[f"{name}.first"] = torch.cat([w for w, _ in first]), torch.cat([b for _, b in first])
        self.weights = {
            name: (weight.to(device, dtype, memory_format=CHANNELS_LAST), bias.to(device, dtype))
            for name, (weight, bias) in weights.items()
        }
        self.splits = {name: [branches[i] for i in (0, 1, 3)] for name, (_, branches) in MIXED.items()}

    @torch.no_grad()
    def __call__(self, clips: Tensor) -> I3DOutput:
        weight, bias = self.weights["Conv3d_1a_7x7"]
        stem = pad_same(clips, weight.shape[2:], (2, 2, 2)).to(self.dtype, memory_format=CHANNELS_LAST)
        x = F.conv3d(stem, weight, bias, stride=2).relu_()
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self._conv(self._pointwise(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
        for name in MIXED:
            if name in POOLED_BEFORE:
                x = max_pool(x, *POOLED_BEFORE[name])
            x = self._mixed(x, name)
        x = x.float()
        pooled = F.avg_pool3d(x, (min(LAST_STEPS, x.shape[2]), *x.shape[3:]), stride=1)
        weight, bias = self.weights["logits"]
        logits = F.linear(pooled.mean((2, 3, 4)), weight.float().flatten(1), bias.float())
        return I3DOutput(features=x.mean((2, 3, 4)), logits=logits)

    def _mixed(self, x: Tensor, name: str) -> Tensor:
        b0, b1, b2 = self._pointwise(x, f"{name}.first").split(self.splits[name], 1)
        b3 = self._pointwise(max_pool(x, (3, 3, 3), (1, 1, 1)), f"{name}.b3b")
        return torch.cat([b0, self._conv(b1, f"{name}.b1b"), self._conv(b2, f"{name}.b2b"), b3], 1)

    def _pointwise(self, x: Tensor, name: str) -> Tensor:
        """A 1x1x1 convolution and ReLU: a product of the rows of channels."""
        weight, bias = self.weights[name]
        return F.linear(x.permute(0, 2, 3, 4, 1), weight.flatten(1), bias).relu_().permute(0, 4, 1, 2, 3)

    def _conv(self, x: Tensor, name: str) -> Tensor:
        """A 3x3x3 convolution and ReLU."""
        weight, bias = self.weights[name]
        return F.conv3d(x.contiguous(memory_format=CHANNELS_LAST), weight, bias, padding=1).relu_()


def folded(unit: Unit3D) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does what convolution and normalisation do."""
    weight, bias, bn = unit.conv3d.weight, unit.conv3d.bias, unit.bn
    if bn is None:
        assert bias is not None
        return weight, bias
    assert bn.running_mean is not None and bn.running_var is not None
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return weight * scale.view(-1, 1, 1, 1, 1), bn.bias - bn.running_mean * scale


def max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Largest values in windows with TensorFlow's padding, of values that are at least 0. [B,C,T,H,W], channels last."""
    batch, steps = x.shape[0], x.shape[2]
    frames = x.permute(0, 2, 1, 3, 4).flatten(0, 1)  # a view
    sides = [same_padding(*axis) for axis in zip(frames.shape[2:], kernel[1:], stride[1:], strict=True)]
    if all(before == after for before, after in sides):
        frames = F.max_pool2d(frames, kernel[1:], stride[1:], padding=[before for before, _ in sides])
    elif any(before for before, _ in sides):
        frames = F.max_pool2d(F.pad(frames, [*sides[1], *sides[0]]), kernel[1:], stride[1:])
    else:  # as at 224 x 224: the windows at the end hang over, and are cut instead of padded
        frames = F.max_pool2d(frames, kernel[1:], stride[1:], ceil_mode=True)
    x = frames.unflatten(0, (batch, steps))
    return _max_over_time(x, kernel[0], stride[0]).permute(0, 2, 1, 3, 4)


def _max_over_time(x: Tensor, kernel: int, stride: int) -> Tensor:
    """[B,T,..] -> [B,ceil(T/stride),..]"""
    if kernel == 1:
        return x
    count = x.shape[1]
    before, _ = same_padding(count, kernel, stride)
    result = x[:, ::stride].clone()  # the tap that never meets padding
    for tap in range(kernel):
        shift = tap - before
        first = max(0, -(shift // stride))  # of the outputs t for which t * stride + shift lies in x
        last = min(result.shape[1], (count - 1 - shift) // stride + 1)
        if shift and first < last:
            part = x[:, first * stride + shift : (last - 1) * stride + shift + 1 : stride]
            torch.maximum(result[:, first:last], part, out=result[:, first:last])
    return result
