"""Video files as frames at a steady rate, upright and of one size, one after the other: an hour of video is never in memory.

    info = inspect_video(path)                              # what the file states of itself; raises UnusableVideo
    reader = FrameReader(path, fps=25, short_side=256)
    for frame in reader: ...                                # uint8 [H,W,3], RGB
    reader.notes, reader.seconds                            # once it is through: what was wrong, how long it was

Frame k shows the moment k / fps after the first one, by the frame that is nearest in time, the earlier of two. What can't be
decoded is passed over: the frame before stands for it.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from formats.regular_files import check_regular
from utils.errors import InputError
from video.frame_times import FrameClock

SMALLEST_SIDE = 16  # pixels; less shows nothing
LARGEST_ASPECT = 20.0  # of the longer to the shorter side
MISSING = 1.0  # seconds of the stated length that may be missing without a word
TICK = 1e-6  # seconds; times closer than this are the same
PLAYLISTS = ("concat", "hls", "dash", "sdp", "imf")
Frame = NDArray[np.uint8]


class UnusableVideo(InputError):
    """A file that is no video, or of which nothing can be decoded: the line names it and says what to do."""


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
    with _opened(path) as (container, stream):
        for frame in _decoded(container, stream, _Damage()):
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
                seconds=_stated_seconds(container, stream),
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
        damage = _Damage()
        with _opened(self.path) as (container, stream):
            stated = _stated_seconds(container, stream)
            clock = FrameClock(stream.average_rate or stream.guessed_rate)
            before: tuple[float, _Shown] | None = None  # the frame that is shown until the next one is nearer
            size: tuple[int, int] | None = None
            for frame in _decoded(container, stream, damage):
                if size is None:
                    size = self._size(frame)
                self.source_frames += 1
                time, shown = clock.time(frame), _Shown(self.path, frame, size)
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

    def _size(self, first: av.VideoFrame) -> tuple[int, int]:
        """Width and height of all frames, before they are turned."""
        _check_size(self.path, first.width, first.height)
        scale = self.short_side / min(first.width, first.height)
        return round(first.width * scale), round(first.height * scale)


class _Shown:
    """A decoded frame, which becomes an array when it is first shown: of a high rate many never are."""

    def __init__(self, path: pathlib.Path, frame: av.VideoFrame, size: tuple[int, int]) -> None:
        self.path, self.frame, self.size = path, frame, size
        self.made: Frame | None = None

    def array(self) -> Frame:
        if self.made is None:
            width, height = self.size
            try:
                resized = self.frame.reformat(width, height, "rgb24", interpolation=Interpolation.BILINEAR)
            except FFmpegError as error:
                what = f"its pixels can't be turned into RGB ({_reason(error)})"
                raise UnusableVideo(f"{self.path}: {what}; convert it, for example to H.264") from None
            self.made = np.ascontiguousarray(np.rot90(resized.to_ndarray(), _quarter_turns(self.frame)))
        return self.made


@dataclass
class _Damage:
    packets: int = 0
    frames: int = 0
    ended: str = ""  # why reading stopped before the end

    def lines(self) -> Iterator[str]:
        if self.packets:
            yield f"{self.packets} packets can't be decoded: the frame before stands for what is in them"
        if self.frames:
            yield f"{self.frames} frames are damaged"
        if self.ended:
            yield f"can't be read to its end ({self.ended})"


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[tuple[Any, Any]]:
    """A container and its video stream. Raises UnusableVideo."""
    try:
        check_regular(path)
        # By the protocol of files alone, whatever the name looks like and the file refers to.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="ignore")
    except InputError as error:
        raise UnusableVideo(str(error)) from None
    except FFmpegError as error:
        what = "can't be read" if isinstance(error, PermissionError) else "not a video, or not a complete one"
        raise UnusableVideo(f"{path}: {what} ({_reason(error)}); remove it, or get another copy") from None
    except OSError as error:
        raise UnusableVideo(f"{path}: can't be read ({error.strerror}); check the file") from None
    except (ValueError, UnicodeError) as error:
        raise UnusableVideo(f"{path}: not a video ({type(error).__name__}); remove it, or get another copy") from None
    with container:
        names = set(container.format.name.split(","))
        if names & set(PLAYLISTS):
            raise UnusableVideo(f"{path}: a playlist, not a video; name the files in it")
        if any(name.endswith("_pipe") or name == "image2" for name in names):
            raise UnusableVideo(f"{path}: an image, not a video; remove it")
        streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not streams:
            what = "sound without a picture" if container.streams.audio else "without a video stream"
            raise UnusableVideo(f"{path}: {what}; remove it, or get another copy")
        known = [stream for stream in streams if stream.codec_context is not None]
        if not known:
            raise UnusableVideo(
                f"{path}: its video has a codec that is not known here; convert it, for example to H.264"
            )
        stream = max(known, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))
        stream.thread_type = "AUTO"
        yield container, stream


def _decoded(container: Any, stream: Any, damage: _Damage) -> Iterator[av.VideoFrame]:
    """Every frame that can be decoded, in the order of showing; what can't be is counted."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            damage.ended = _reason(error)
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except FFmpegError:
            damage.packets += 1
            continue
        for frame in frames:
            damage.frames += bool(frame.is_corrupt)
            yield frame


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Counterclockwise, that make the frame upright."""
    return round(frame.rotation / 90) % 4


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """The stream's length, else the container's; None where neither is stated."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration and container.duration > 0 else None


def _check_size(path: pathlib.Path, width: int, height: int) -> None:
    if min(width, height) < SMALLEST_SIDE:
        raise UnusableVideo(f"{path}: {width} x {height} pixels show nothing; {SMALLEST_SIDE} a side are the least")
    if max(width, height) > LARGEST_ASPECT * min(width, height):
        raise UnusableVideo(f"{path}: {width} x {height} pixels are too long and thin; crop it")


def _reason(error: FFmpegError) -> str:
    return str(error.strerror or type(error).__name__)
