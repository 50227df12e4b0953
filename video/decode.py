"""Video files as frames at a steady rate, upright and of one size, one after the other: an hour of video is never in memory.

    info = inspect_video(path)                              # what the file states of itself; raises UnusableVideo
    reader = FrameReader(path, fps=25, short_side=256)
    for frame in reader: ...                                # uint8 [H,W,3], RGB
    reader.notes, reader.seconds                            # once it is through: what was wrong, how long it was

Frame k shows the moment k / fps after the first one, by the frame that is nearest in time, the earlier of two. What can't be
decoded is passed over: the frame before stands for it. Pixels are taken to be square, as in the data sets of the field, and the
rotation and the aspect ratio of the first frame are those of all.
"""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from video.containers import Damage, UnusableVideo, decoded, opened, reason, stated_seconds
from video.frame_times import FrameClock

SMALLEST_SIDE = 16  # pixels; less shows nothing
LARGEST_ASPECT = 20.0  # of the longer to the shorter side
MISSING = 1.0  # seconds of the stated length that may be missing without a word
TICK = 1e-6  # seconds; times closer than this are the same
Frame = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file states of itself, and its first frame shows."""

    path: pathlib.Path
    width: int  # pixels, as shown
    height: int
    rotation: int  # degrees counterclockwise by which stored frames are turned to be upright: 0, 90, 180 or 270
    fps: float | None  # frames per second, on average
    seconds: float | None
    codec: str


def inspect_video(path: pathlib.Path) -> VideoInfo:
    """Open a file and decode its first frame. Raises UnusableVideo."""
    with opened(path) as (container, stream):
        for frame in decoded(container, stream, Damage()):
            turned = _quarter_turns(frame)
            width, height = (frame.height, frame.width) if turned % 2 else (frame.width, frame.height)
            _check_size(path, width, height)
            rate = stream.average_rate
            return VideoInfo(
                path=path,
                width=width,
                height=height,
                rotation=90 * turned,
                fps=float(rate) if rate else None,
                seconds=stated_seconds(container, stream),
                codec=stream.codec_context.name,
            )
    raise UnusableVideo(f"{path}: no frame of it can be decoded; get another copy")


class FrameReader:
    """The frames of a file, `fps` for each second, resized so that the shorter side has `short_side` pixels."""

    def __init__(self, path: pathlib.Path, *, fps: float, short_side: int) -> None:
        self.path, self.fps, self.short_side = path, fps, short_side
        self.notes: list[str] = []  # what was wrong with the file
        self.seconds = 0.0  # that the frames cover
        self.source_frames = 0  # decoded

    def __iter__(self) -> Iterator[Frame]:
        """Raises UnusableVideo when there is not a single frame."""
        self.notes, self.source_frames, count = [], 0, 0
        damage = Damage()
        with opened(self.path) as (container, stream):
            stated = stated_seconds(container, stream, surely=True)
            # An AVI has no times of showing: libav's are a guess.
            clock = FrameClock(stream.average_rate or stream.guessed_rate, decoded=container.format.name == "avi")
            before: tuple[float, _Shown] | None = None  # the frame that is shown until the next one is nearer
            scaler: _Scaler | None = None
            for frame in decoded(container, stream, damage):
                if scaler is None:
                    scaler = _Scaler(self.path, frame, self.short_side)
                self.source_frames += 1
                time, shown = clock.time(frame), _Shown(frame, scaler)
                if before is not None:
                    while count / self.fps <= (before[0] + time) / 2 + TICK:
                        yield before[1].array()
                        count += 1
                before = time, shown
            if before is None:
                raise UnusableVideo(f"{self.path}: no frame of it can be decoded; get another copy")
            end = before[0] + clock.frame_seconds
            while count == 0 or count / self.fps < end - TICK:
                yield before[1].array()
                count += 1
        self.seconds = count / self.fps
        self.notes = [*damage.lines(), *clock.lines()]
        if stated is not None and stated - end > MISSING and not clock.jumps:
            self.notes.append(f"ends after {end:.1f} s of the {stated:.1f} s that it states: it is cut short")


class _Scaler:
    """Makes frames look like the first one, upright: a file may change in its middle, while flow needs two of one size."""

    def __init__(self, path: pathlib.Path, first: av.VideoFrame, short_side: int) -> None:
        _check_size(path, first.width, first.height)
        scale = short_side / min(first.width, first.height)
        self.path, self.turns = path, _quarter_turns(first)
        self.size = round(first.width * scale), round(first.height * scale)  # before they are turned
        # One for all frames: it keeps its tables. In one thread, since flow and networks want the others.
        self.reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> Frame:
        width, height = self.size
        try:
            scaled = self.reformatter.reformat(
                frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1
            )
        except FFmpegError as error:
            what = f"its pixels can't be turned into RGB ({reason(error)})"
            raise UnusableVideo(f"{self.path}: {what}; convert it, for example to H.264") from None
        return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), self.turns))


class _Shown:
    """A decoded frame, which becomes an array when it is first shown: of a high rate many never are."""

    def __init__(self, frame: av.VideoFrame, scaler: _Scaler) -> None:
        self.frame, self.scaler = frame, scaler
        self.made: Frame | None = None

    def array(self) -> Frame:
        if self.made is None:
            self.made = self.scaler(self.frame)
        return self.made


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Counterclockwise, that make the frame upright."""
    return round(frame.rotation / 90) % 4


def _check_size(path: pathlib.Path, width: int, height: int) -> None:
    if min(width, height) < SMALLEST_SIDE:
        raise UnusableVideo(f"{path}: {width} x {height} pixels show nothing; {SMALLEST_SIDE} a side are the least")
    if max(width, height) > LARGEST_ASPECT * min(width, height):
        raise UnusableVideo(f"{path}: {width} x {height} pixels are too long and thin; crop it")
