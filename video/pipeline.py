"""From one video file to its features: decoding, flow and networks work at the same time, in memory that the video's length
does not change.

    extractor = Extractor({"rgb": network}, options, machine)
    extracted = extractor(path, advance=shown.update)
    extracted.features["rgb"]       # [T,1024]

A thread decodes, threads compute flow, one makes snippets of the frames, and the caller's runs the networks. Each is ahead of
the next by a few items, and then waits for it.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from run.device import Machine
from video.ahead import ahead
from video.decode import FrameReader
from video.flow import FlowEstimator
from video.i3d import CHANNELS, I3DOutput
from video.options import CROP, VideoOptions
from video.snippets import Snippet, snippets

FRAMES_AHEAD = 32  # decoded: 10 MB at 340 x 256

Network = Callable[[Tensor], I3DOutput]
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """What the networks say of one video's T snippets."""

    features: Mapping[str, NDArray[np.float32]]  # {stream: [T,1024]}
    logits: NDArray[np.float32]  # [T,C] of the RGB network
    seconds: float  # of what was decoded
    notes: tuple[str, ...]  # what was wrong with the file, in words

    @property
    def num_snippets(self) -> int:
        return len(self.logits)


class Extractor:
    """The networks, ready to run on videos."""

    def __init__(self, networks: Mapping[str, Network], options: VideoOptions, machine: Machine) -> None:
        """`networks` are by stream, "rgb" and perhaps "flow", on the machine's device."""
        self.networks, self.options, self.machine = dict(networks), options, machine

    def __call__(self, path: pathlib.Path, *, advance: Callable[[int], object] = lambda _: None) -> Extracted:
        """Extract a file; `advance` is told the number of snippets of every batch. Raises UnusableVideo."""
        sampling = self.options.sampling
        reader = FrameReader(path, fps=sampling.fps, short_side=sampling.short_side)
        outputs: dict[str, list[I3DOutput]] = {stream: [] for stream in self.networks}
        with contextlib.ExitStack() as closing:
            flow = closing.enter_context(self._estimator()) if "flow" in self.networks else None
            frames = closing.enter_context(contextlib.closing(ahead(reader, items=FRAMES_AHEAD)))
            cut = snippets(frames, flow, length=sampling.snippet_frames, stride=sampling.grid.stride, crop=CROP)
            stacked = map(_stacked, _batches(cut, self.options.network.snippet_batch))
            batches = closing.enter_context(contextlib.closing(ahead(stacked, items=1)))
            for batch in batches:
                for stream, network in self.networks.items():
                    outputs[stream].append(self._run(network, batch[stream]))
                advance(len(batch["rgb"]))
        features = {stream: _array([output.features for output in of]) for stream, of in outputs.items()}
        logits = _array([output.logits for output in outputs["rgb"]])
        return Extracted(features=features, logits=logits, seconds=reader.seconds, notes=tuple(reader.notes))

    def seconds_per_snippet(self) -> float:
        """Measure what the networks take: the second of two batches."""
        length, batch = self.options.sampling.snippet_frames, self.options.network.snippet_batch
        for _ in range(2):
            start = time.perf_counter()
            for stream, network in self.networks.items():
                clips = torch.zeros(batch, length, CROP, CROP, CHANNELS[stream])
                self._run(network, clips).features.cpu()  # which waits for a GPU
            seconds = time.perf_counter() - start
        return seconds / batch

    def _estimator(self) -> FlowEstimator:
        flow = self.options.flow
        return FlowEstimator(flow.flow, bound=flow.flow_bound, workers=self.machine.threads)

    @torch.inference_mode()
    def _run(self, network: Network, clips: Tensor) -> I3DOutput:
        """A batch [B,L,H,W,C], bytes of RGB or flow in [-1,1], on the way as it is, then scaled."""
        clips = clips.to(self.machine.device, non_blocking=True)
        values = clips.to(torch.float32)
        return network((values.div_(127.5).sub_(1) if clips.dtype == torch.uint8 else values).permute(0, 4, 1, 2, 3))


def _stacked(batch: list[Snippet]) -> dict[str, Tensor]:
    streams = {"rgb": np.stack([snippet.rgb for snippet in batch])}
    if batch[0].flow is not None:
        streams["flow"] = np.stack([snippet.flow for snippet in batch if snippet.flow is not None])
    return {stream: torch.from_numpy(values) for stream, values in streams.items()}


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _array(parts: list[Tensor]) -> NDArray[np.float32]:
    array: NDArray[np.float32] = torch.cat(parts).float().cpu().numpy()
    return array
