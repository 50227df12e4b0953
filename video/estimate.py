"""How long an extraction will take, measured before it starts: optical flow of an hour of video can take days.

print(estimate(entries, extractor))
"""

import contextlib
import math
import time
from collections.abc import Sequence
from itertools import islice

from command_line.progress import duration
from formats.names import amount
from video.containers import UnusableVideo
from video.decode import FrameReader
from video.flow import seconds_per_pair
from video.manifest import Entry
from video.options import VideoOptions
from video.pipeline import Extractor

DECODED = 100  # frames that decoding is measured by


def expected_snippets(entry: Entry, options: VideoOptions) -> int:
    """Snippets of a video, by the length that its file states; 1 if it states none."""
    sampling = options.sampling
    return max(1, math.floor(sampling.grid.snippets(entry.seconds or 0, sampling.fps) + 1e-6))


def estimate(entries: Sequence[Entry], extractor: Extractor) -> str:
    """The amount of video, and the seconds that each part of the work takes on this machine, in a line.

    On a GPU the networks run beside the rest; on a CPU all share its cores.
    """
    options, machine = extractor.options, extractor.machine
    sampling = options.sampling
    timed = [entry for entry in entries if entry.seconds]
    seconds = sum(entry.seconds or 0 for entry in timed)
    frames, snippets = seconds * sampling.fps, sum(expected_snippets(entry, options) for entry in timed)
    each = extractor.seconds_per_snippet()
    networks, others = each * snippets, _decoding(entries[0], options) * frames
    parts = [
        f"networks {duration(networks)}, {each:.3f} s a snippet on {machine.device}",
        f"decoding {duration(others)}",
    ]
    if "flow" in extractor.networks:
        method = options.flow.flow
        pair = seconds_per_pair(method, *_size(entries, sampling.short_side), machine.threads)
        parts.append(f"flow {duration(pair * frames)}, {pair:.3f} s a pair of frames with --flow {method}")
        others += pair * frames
    total = max(networks, others) if machine.device.type == "cuda" else networks + others
    unknown = len(entries) - len(timed)
    more = f", besides {amount(unknown, 'video')} of unknown length" if unknown else ""
    return (
        f"to do: {amount(len(timed), 'video')}, {duration(seconds)} of video, {snippets:,} snippets{more}; "
        f"about {duration(total)} ({'; '.join(parts)})"
    )


def _decoding(entry: Entry, options: VideoOptions) -> float:
    """Seconds to decode and resize a frame, by the first ones of a video; 0 if there are none."""
    sampling = options.sampling
    reader = FrameReader(entry.source.path, fps=sampling.fps, short_side=sampling.short_side)
    start, count = time.perf_counter(), 0
    with contextlib.suppress(UnusableVideo):
        for _ in islice(reader, DECODED):
            count += 1
    return (time.perf_counter() - start) / count if count else 0.0


def _size(entries: Sequence[Entry], short_side: int) -> tuple[int, int]:
    """Height and width of the frames that flow is computed on, the mean of the videos'."""
    areas = [entry.width * entry.height / min(entry.width, entry.height) ** 2 for entry in entries]
    return short_side, round(short_side * sum(areas) / len(areas))
