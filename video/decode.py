"""Video files as frames at a steady rate, upright and of one size, one after the other: an hour of video is never in memory.

    info = inspect_video(path)                              # what the file states of itself; raises UnusableVideo
    reader = FrameReader(path, fps=25, short_side=256)
    for frame in reader: ...                                # uint8 [H,W,3], RGB
    reader.notes, reader.seconds                            # once it is through: what was wrong, how long it was

Frame k shows the moment k / fps after the first one, by the frame that is nearest in time, the earlier of two. What can't be
decoded is passed over: the frame before stands for it. Pixels are taken to be square, as in the data sets of the field, and the
rotation and the aspect ratio of the first frame are those of all.
"""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from formats.names import amount
from formats.regular_files import check_regular
from utils.errors import InputError
from video.frame_times import FrameClock

SMALLEST_SIDE = 16  # pixels; less shows nothing
LARGEST_ASPECT = 20.0  # of the longer to the shorter side
LARGEST_FRAME = 2**26  # pixels, twice 8K: a few bytes may claim any size, and decoding would fill the memory
MISSING = 1.0  # seconds of the stated length that may be missing without a word
TICK = 1e-6  # seconds; times closer than this are the same
PLAYLISTS = {"concat", "hls", "dash", "sdp", "imf"}
# What libav draws as a picture: text, by the ending of its name, and pictures of other times.
NO_VIDEOS = {"tty", "bin", "xbin", "adf", "idf", "ico"}
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
            stated = _stated_seconds(container, stream, surely=True)
            # An AVI has no times of showing: libav's are a guess.
            clock = FrameClock(stream.average_rate or stream.guessed_rate, decoded=container.format.name == "avi")
            before: tuple[float, _Shown] | None = None  # the frame that is shown until the next one is nearer
            look: _Look | None = None
            for frame in _decoded(container, stream, damage):
                if look is None:
                    look = self._look(frame)
                self.source_frames += 1
                time, shown = clock.time(frame), _Shown(self.path, frame, look)
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

    def _look(self, first: av.VideoFrame) -> "_Look":
        _check_size(self.path, first.width, first.height)
        scale = self.short_side / min(first.width, first.height)
        return _Look(round(first.width * scale), round(first.height * scale), _quarter_turns(first))


class _Look(NamedTuple):
    """What all frames are made to look like: the file's may change in its middle, while flow needs two of one size."""

    width: int  # pixels, before they are turned
    height: int
    turns: int  # quarters, counterclockwise


class _Shown:
    """A decoded frame, which becomes an array when it is first shown: of a high rate many never are."""

    def __init__(self, path: pathlib.Path, frame: av.VideoFrame, look: _Look) -> None:
        self.path, self.frame, self.look = path, frame, look
        self.made: Frame | None = None

    def array(self) -> Frame:
        if self.made is None:
            width, height, turns = self.look
            try:
                resized = self.frame.reformat(width, height, "rgb24", interpolation=Interpolation.BILINEAR)
            except FFmpegError as error:
                what = f"its pixels can't be turned into RGB ({_reason(error)})"
                raise UnusableVideo(f"{self.path}: {what}; convert it, for example to H.264") from None
            self.made = np.ascontiguousarray(np.rot90(resized.to_ndarray(), turns))
        return self.made


@dataclass
class _Damage:
    packets: int = 0
    frames: int = 0
    ended: str = ""  # why reading stopped before the end

    def lines(self) -> Iterator[str]:
        if self.packets:
            yield f"{amount(self.packets, 'packet')} can't be decoded: the frame before stands for what is there"
        if self.frames:
            yield f"damage shows in {amount(self.frames, 'frame')}"
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
        if names & PLAYLISTS:
            raise UnusableVideo(f"{path}: a playlist, not a video; name the files in it")
        if names & NO_VIDEOS:
            raise UnusableVideo(f"{path}: not a video, but {container.format.long_name}; remove it")
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
        _check_pixels(path, stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": str(LARGEST_FRAME)}  # of those that claim more in their middle
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


def _stated_seconds(container: Any, stream: Any, *, surely: bool = False) -> float | None:
    """The stream's length, else the container's, which sound may have made longer: not `surely` the stream's.

    None where neither is stated.
    """
    if stream.duration and stream.duration > 0 and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska's, as most programs write it.
    tag = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)", stream.metadata.get("DURATION", ""), re.ASCII)
    if tag:
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    if not container.duration or container.duration < 0 or (surely and len(container.streams) > 1):
        return None
    return float(container.duration / av.time_base)


def _check_pixels(path: pathlib.Path, width: int, height: int) -> None:
    if width * height > LARGEST_FRAME:
        raise UnusableVideo(f"{path}: {width} x {height} pixels are too many; make it smaller, at most 8192 x 8192")


def _check_size(path: pathlib.Path, width: int, height: int) -> None:
    if min(width, height) < SMALLEST_SIDE:
        raise UnusableVideo(f"{path}: {width} x {height} pixels show nothing; {SMALLEST_SIDE} a side are the least")
    if max(width, height) > LARGEST_ASPECT * min(width, height):
        raise UnusableVideo(f"{path}: {width} x {height} pixels are too long and thin; crop it")


def _reason(error: FFmpegError) -> str:
    return str(error.strerror or type(error).__name__)
