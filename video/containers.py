"""Video files as libav sees them: what may be opened, which stream is the video, and its frames with what is broken left out.

with opened(path) as (container, stream):
    for frame in decoded(container, stream, damage): ...
"""

import contextlib
import pathlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from formats.names import amount
from formats.regular_files import check_regular
from utils.errors import InputError

LARGEST_FRAME = 2**26  # pixels, twice 8K: a few bytes may claim any size, and decoding would fill the memory
# Formats that name other files, which may be pipes or not meant for us: libav would open them at once.
PLAYLISTS = {"concat", "hls", "dash", "imf", "sdp", "lavfi", "webm_dash_manifest"}
PLAYLIST_STARTS = (b"ffconcat", b"#EXTM3U", b"v=0")
FORMATS = {name for names in av.formats_available for name in names.split(",")} - PLAYLISTS
# By files alone, whatever the name looks like ("a%d.jpg"), and the file refers to.
OPENING = {"protocol_whitelist": "file", "format_whitelist": ",".join(sorted(FORMATS)), "pattern_type": "none"}
# What libav draws as a picture: text, by the ending of its name, and pictures of other times.
NO_VIDEOS = {"tty", "bin", "xbin", "adf", "idf", "ico"}


class UnusableVideo(InputError):
    """A file that is no video, or of which nothing can be decoded: the line names it and says what to do."""


@dataclass
class Damage:
    """What could not be decoded of a file."""

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
def opened(path: pathlib.Path) -> Iterator[tuple[Any, Any]]:
    """A container and its video stream. Raises UnusableVideo."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            if file.read(8).startswith(PLAYLIST_STARTS):
                raise UnusableVideo(f"{path}: a playlist, not a video; name the files in it")
        container = av.open(f"file:{path}", options=dict(OPENING), metadata_errors="ignore")
    except UnusableVideo:
        raise
    except InputError as error:
        raise UnusableVideo(str(error)) from None
    except FFmpegError as error:
        what = "can't be read" if isinstance(error, PermissionError) else "not a video, or not a complete one"
        raise UnusableVideo(f"{path}: {what} ({reason(error)}); remove it, or get another copy") from None
    except OSError as error:
        raise UnusableVideo(f"{path}: can't be read ({error.strerror}); check the file") from None
    except (ValueError, UnicodeError) as error:
        raise UnusableVideo(f"{path}: not a video ({type(error).__name__}); remove it, or get another copy") from None
    with container:
        names = set(container.format.name.split(","))
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


def decoded(container: Any, stream: Any, damage: Damage) -> Iterator[av.VideoFrame]:
    """Every frame that can be decoded, in the order of showing; what can't be is counted."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            damage.ended = reason(error)
            return
        except IndexError:
            # PyAV, at the end, over a stream that began in the middle, as in recordings of broadcasts; ours is through by then.
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


def stated_seconds(container: Any, stream: Any, *, surely: bool = False) -> float | None:
    """The stream's length, else the container's, which sound may have made longer: not `surely` the stream's.

    None where neither is stated.
    """
    if stream.duration and stream.duration > 0 and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska's, as most programs write it.
    tag = re.fullmatch(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)", stream.metadata.get("DURATION", ""), re.ASCII)
    if tag and (seconds := 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])):
        return seconds
    if not container.duration or container.duration < 0 or (surely and len(container.streams) > 1):
        return None
    return float(container.duration / av.time_base)


def _check_pixels(path: pathlib.Path, width: int, height: int) -> None:
    if width * height > LARGEST_FRAME:
        raise UnusableVideo(f"{path}: {width} x {height} pixels are too many; make it smaller, at most 8192 x 8192")


def reason(error: FFmpegError) -> str:
    return str(error.strerror or type(error).__name__)
