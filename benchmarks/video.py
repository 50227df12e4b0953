"""Speed of each part of extraction, and of the whole: decoding, optical flow, the networks.

    python -m benchmarks.video [--video FILE] [--device cpu] [--batch 4] [--precision fp32] [--flow dis tvl1]

Without a file a moving texture of 340 x 256 is made, in H.264 where libav can write that. A snippet is 16 frames at 25 frames
per second. The networks have random weights, which take the same time. The share is the least time that the machine's limit
allows, by the operations of the plain network (a multiplication and an addition are two), divided by ours; the limit is the
best of a large matrix product and of a convolution of the network's own shape. Run it where nothing else runs.
"""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from functools import partial

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.run import cpu_model
from benchmarks.timing import Budget, measure, measure_limits, measure_parts
from command_line.console import run_tool
from eval.tables import table
from options import RunOptions
from run.device import choose_machine
from video.decode import FrameReader
from video.flow import FlowEstimator
from video.fused_i3d import FusedI3D
from video.i3d import CHANNELS, I3D
from video.options import CROP, FLOWS, NetworkOptions, SamplingOptions, VideoOptions
from video.pipeline import Extractor

GIGA = 1e9
SIZE = (340, 256)  # width and height of the texture
SECONDS = 16  # of it
TOLERANCE = 1e-4  # of the largest magnitude, for float32; bf16 is not compared
CONVOLUTION = (64, 192, 56)  # channels in and out and the side of the layer with the most operations


def texture(path: pathlib.Path, seconds: int) -> None:
    """Write a video of a texture that moves by two pixels a frame, 25 frames per second."""
    coarse = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    wide = coarse.repeat(SIZE[1] // 32, 0).repeat(SIZE[0] // 32, 1)
    with av.open(str(path), "w") as file:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = file.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for i in range(25 * seconds):
            frame = np.ascontiguousarray(np.roll(wide, 2 * i, 1)[:, : SIZE[0]])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def convolution_limit(device: torch.device, *, quick: bool) -> float:
    """Operations per second of the network's largest convolution, channels last, the best of eight runs."""
    inner, outer, side = CONVOLUTION
    side = 8 if quick else side
    x = torch.rand(2, inner, 8, side, side, device=device).contiguous(memory_format=torch.channels_last_3d)
    weight = torch.rand(outer, inner, 3, 3, 3, device=device).contiguous(memory_format=torch.channels_last_3d)
    once = Budget(min_runs=1, max_runs=1, warm_up=0)
    with torch.inference_mode():
        work = partial(F.conv3d, x, weight, padding=1)
        work()
        seconds = min(measure(work, device, once).seconds for _ in range(8))
    return 2 * 27 * inner * outer * x.numel() / inner / seconds


def flops_per_snippet(length: int) -> float:
    """Floating-point operations of the plain network of RGB."""
    with torch.device("meta"):
        network, clip = I3D().eval(), torch.empty(1, 3, length, CROP, CROP)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(clip)
    return float(counter.get_total_flops())


def network_rows(extractor: Extractor, network: I3D, *, quick: bool) -> list[tuple[str, str, str, str]]:
    """A batch in the fused and in the plain form, in turns, and the share of the machine's limit."""
    machine, batch = extractor.machine, extractor.options.network.snippet_batch
    length = extractor.options.sampling.snippet_frames
    generator = torch.Generator().manual_seed(0)
    clips = (torch.rand(batch, CHANNELS["rgb"], length, CROP, CROP, generator=generator) * 2 - 1).to(machine.device)
    fused = extractor.networks["rgb"]
    with torch.inference_mode():
        expected, found = network(clips).features, fused(clips).features
        apart = float((found - expected).abs().max() / expected.abs().max())
        budget = Budget(min_runs=1 if quick else 5, max_runs=1 if quick else 9, seconds=0)
        ours, plain = measure_parts([lambda: fused(clips), lambda: network(clips)], machine.device, budget)
    flops = flops_per_snippet(length)
    limit = max(measure_limits(machine.device, quick=quick).flops, convolution_limit(machine.device, quick=quick))
    seconds, plainly = ours.seconds / batch, plain.seconds / batch
    note = (
        f"plain {plainly:.3f} s, ratio {seconds / plainly:.2f}; {flops / GIGA:.1f} GFLOP, {flops / seconds / GIGA:.0f} per s, "
        f"{flops / limit / seconds:.0%} of {limit / GIGA:.0f}; apart {apart:.0e}"
    )
    if machine.precision == "fp32" and apart > TOLERANCE:
        note += " (too far)"
    return [(f"network, batches of {batch}", f"{seconds:.3f}", f"{1 / seconds:.2f}", note)]


def flow_row(
    method: str, frames: Sequence[np.ndarray], sampling: SamplingOptions, workers: int
) -> tuple[str, str, str, str]:
    """Flow of these frames, RGB [H,W,3]."""
    with FlowEstimator(method, bound=20.0, workers=workers) as flow:
        once = Budget(min_runs=1, max_runs=1, seconds=0, warm_up=0)
        pair = measure(lambda: list(flow.pairs(frames)), torch.device("cpu"), once).seconds / (len(frames) - 1)
    seconds = pair * sampling.grid.stride
    hours = pair * sampling.fps
    note = f"{pair:.4f} s a pair of frames; an hour of video: {hours:.1f} h"
    return f"flow, {method}, {workers} threads", f"{seconds:.3f}", f"{1 / seconds:.2f}", note


def rows(flags: argparse.Namespace, video: pathlib.Path) -> list[tuple[str, str, str, str]]:
    machine = choose_machine(RunOptions(device=flags.device, precision=flags.precision))
    options = VideoOptions(network=NetworkOptions(snippet_batch=flags.batch))
    sampling = options.sampling
    reader = FrameReader(video, fps=sampling.fps, short_side=sampling.short_side)
    frames = list(reader)
    count = max(1, int(sampling.grid.snippets(reader.seconds, sampling.fps)))
    budget = Budget(min_runs=1 if flags.quick else 3, max_runs=3, seconds=0)
    decoding = measure(lambda: sum(1 for _ in reader), torch.device("cpu"), budget).seconds
    found = [
        (
            "decoding and resizing",
            f"{decoding / count:.3f}",
            f"{count / decoding:.1f}",
            f"{len(frames) / decoding:.0f} frames/s",
        )
    ]
    for method in flags.flow:
        slow = method == "tvl1" or flags.quick
        found.append(flow_row(method, frames[: 5 if slow else 100], sampling, machine.threads))
    torch.manual_seed(0)
    network = I3D().eval().to(machine.device)
    fused = FusedI3D(network, device=machine.device, dtype=machine.dtype)
    extractor = Extractor({"rgb": fused}, options, machine)
    found += network_rows(extractor, network, quick=flags.quick)
    whole = measure(lambda: extractor(video), machine.device, budget).seconds
    alone = decoding / count
    found.append(
        (
            "the whole, RGB",
            f"{whole / count:.3f}",
            f"{count / whole:.2f}",
            f"{count} snippets; decoding beside it, {alone:.3f} alone",
        )
    )
    if "dis" in flags.flow:
        both = {
            "rgb": fused,
            "flow": FusedI3D(I3D(CHANNELS["flow"]).eval(), device=machine.device, dtype=machine.dtype),
        }
        with_flow = VideoOptions(flow=type(options.flow)(flow="dis"), network=options.network)
        whole = measure(lambda: Extractor(both, with_flow, machine)(video), machine.device, budget).seconds
        found.append(("the whole, RGB and flow, dis", f"{whole / count:.3f}", f"{count / whole:.2f}", ""))
    return found


def main(arguments: Sequence[str]) -> int:
    return run_tool("benchmarks.video", run, arguments)


def run(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--video", type=pathlib.Path, metavar="FILE", help="a video in the place of the texture")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "tf32", "bf16"))
    parser.add_argument("--batch", type=int, default=NetworkOptions.snippet_batch, metavar="N", help="snippets at once")
    parser.add_argument("--flow", nargs="*", default=["dis", "tvl1"], choices=FLOWS, metavar="METHOD")
    parser.add_argument("--quick", action="store_true", help="short: only shows that it runs")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        video = flags.video or pathlib.Path(folder) / "texture.mp4"
        if not flags.video:
            texture(video, 1 if flags.quick else SECONDS)
        found = rows(flags, video)
    print(f"{cpu_model()}, {torch.get_num_threads()} threads, torch {torch.__version__}, av {av.__version__}")
    print(table(("", "s/snippet", "snippets/s", ""), found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
