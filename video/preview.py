"""Copies of videos that browsers play, of those that they don't: small, without sound, in the time of the features.

if not plays(path) and can_encode(): write_preview(path, folder / "VIDEO.mp4", fps=25)
"""

import pathlib
from fractions import Fraction
from typing import BinaryIO, cast

import av
from av.codec.codec import UnknownCodecError
from av.video.stream import VideoStream

from utils.atomic import write_file
from video.decode import FrameReader, inspect_video

ENDINGS = (".mp4", ".m4v", ".webm", ".mov")  # of files that browsers open
CODECS = ("h264", "vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d")  # as decoders are called
ENCODER, PIXELS = "libx264", "yuv420p"
QUALITY = {"crf": "26", "preset": "veryfast"}
SHORT_SIDE = 256  # pixels
RATE_STEPS = 1000  # a frame rate is a whole number of these parts


def plays(path: pathlib.Path) -> bool:
    """Whether browsers play a file. Raises UnusableVideo."""
    return path.suffix.lower() in ENDINGS and inspect_video(path).codec in CODECS


def can_encode() -> bool:
    """Whether this build of FFmpeg has the encoder."""
    try:
        return bool(av.Codec(ENCODER, "w"))
    except UnknownCodecError:
        return False


def write_preview(path: pathlib.Path, out: pathlib.Path, *, fps: float) -> None:
    """Write a copy in H.264 with `fps` frames per second, whose start is second 0 of the features.

    Raises UnusableVideo, or InputError when it can't be written.
    """
    write_file(out, lambda file: _encode(path, file, fps))


def _encode(path: pathlib.Path, file: BinaryIO, fps: float) -> None:
    rate = Fraction(round(fps * RATE_STEPS), RATE_STEPS)
    with av.open(file, "w", format="mp4") as container:
        stream: VideoStream | None = None
        for frame in FrameReader(path, fps=fps, short_side=SHORT_SIDE):
            height, width = (side - side % 2 for side in frame.shape[:2])  # colour has half the pixels of each side
            if stream is None:
                stream = cast(VideoStream, container.add_stream(ENCODER, rate=rate, options=QUALITY))
                stream.width, stream.height, stream.pix_fmt = width, height, PIXELS
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame[:height, :width], format="rgb24")))
        assert stream is not None  # a reader yields a frame, or raises
        container.mux(stream.encode())
