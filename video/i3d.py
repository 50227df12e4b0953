"""I3D, the network that features come from: Inception-v1 inflated to three dimensions.

    network = I3D(in_channels=3)                # 3 for RGB, 2 for flow
    output = network(clips)                     # [B,C,L,224,224] in [-1,1]
    output.features, output.logits              # [B,1024], [B,400]

J. Carreira and A. Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017; layers and
padding as in the authors' TensorFlow code. Parameters have the names of the common PyTorch port. This is the plain form, which
says what is computed; video/fused_i3d.py computes the same in half the time.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = {"rgb": 3, "flow": 2}  # of the streams
FEATURES, KINETICS_CLASSES = 1024, 400
LAST_STEPS = 2  # of time, which the logits' pooling takes together
Triple = tuple[int, int, int]

# Channels of the branches of each module: 1x1x1; 1x1x1 and then 3x3x3; the same, narrower; pooling and then 1x1x1.
MIXED = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
# {module: kernel and stride of the pooling before it}
POOLED_BEFORE: dict[str, tuple[Triple, Triple]] = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


class I3DOutput(NamedTuple):
    features: Tensor  # [B,1024] after Mixed_5c, the mean over time and place
    logits: Tensor  # [B,classes]


class I3D(nn.Module):
    """[B,C,L,H,W] in [-1,1] -> I3DOutput. The published size is 224 x 224."""

    def __init__(self, in_channels: int = 3, num_classes: int = KINETICS_CLASSES) -> None:
        super().__init__()
        self.in_channels, self.num_classes = in_channels, num_classes
        self.Conv3d_1a_7x7 = Unit3D(in_channels, 64, kernel=7, stride=2)
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, kernel=3)
        for name, (channels, branches) in MIXED.items():
            self.add_module(name, Mixed(channels, branches))
        self.logits = Unit3D(FEATURES, num_classes, activated=False)

    def forward(self, clips: Tensor) -> I3DOutput:
        x = max_pool(self.Conv3d_1a_7x7(clips), (1, 3, 3), (1, 2, 2))
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        for name in MIXED:
            if name in POOLED_BEFORE:
                x = max_pool(x, *POOLED_BEFORE[name])
            x = self.get_submodule(name)(x)
        pooled = F.avg_pool3d(x, (min(LAST_STEPS, x.shape[2]), *x.shape[3:]), stride=1)
        return I3DOutput(features=x.mean((2, 3, 4)), logits=self.logits(pooled).mean((2, 3, 4)))


class Mixed(nn.Module):
    """An Inception module: four branches beside each other. [B,C,T,H,W] -> [B,C',T,H,W]"""

    def __init__(self, in_channels: int, branches: tuple[int, ...]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = branches
        self.b0 = Unit3D(in_channels, b0)
        self.b1a, self.b1b = Unit3D(in_channels, b1a), Unit3D(b1a, b1b, kernel=3)
        self.b2a, self.b2b = Unit3D(in_channels, b2a), Unit3D(b2a, b2b, kernel=3)
        self.b3b = Unit3D(in_channels, b3b)

    def forward(self, x: Tensor) -> Tensor:
        pooled = max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


class Unit3D(nn.Module):
    """Convolution, batch normalisation, ReLU; not `activated`: a convolution with a bias alone."""

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1, activated: bool = True
    ):
        super().__init__()
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride, bias=not activated)
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3) if activated else None

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.conv3d.kernel_size, self.conv3d.stride
        x = self.conv3d(pad_same(x, kernel, stride))
        return x if self.bn is None else F.relu(self.bn(x))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, for ceil(size / stride) outputs; the odd one comes after. TensorFlow's "SAME".

    >>> same_padding(16, 7, 2)
    (2, 3)
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad the last three axes with zeros."""
    sides = [same_padding(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True)]
    padding = [zeros for side in reversed(sides) for zeros in side]
    return F.pad(x, padding) if any(padding) else x


def max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Largest values in windows, of values that are at least 0: the padding never counts."""
    return F.max_pool3d(pad_same(x, kernel, stride), kernel, stride)
