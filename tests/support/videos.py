"""Small video files, made by PyAV, whose frames tell their number by their brightness."""

import pathlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition

STEP = 8  # of brightness from one frame to the next
SIZE = (64, 48)
SOUND_RATE = 16000  # samples per second


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """[H,W,3] the frame of this number, plain, its brightness the number's; numbers repeat after 28."""
    return np.full((size[1], size[0], 3), 16 + STEP * (number % 28), np.uint8)


def number_of(frame: np.ndarray) -> int:
    """Which frame it is."""
    return round((float(frame.mean()) - 16) / STEP)


def write_video(
    path: pathlib.Path,
    frames: Sequence[np.ndarray],
    *,
    fps: int = 25,
    times: Sequence[float] | None = None,  # seconds of each frame; None: steadily
    codec: str = "mpeg4",
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    sound: float = 0,  # seconds of it
    options: dict[str, str] | None = None,  # of the codec
    container: dict[str, str] | None = None,  # options of the container
) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = _picture_stream(file, frames[0], codec, fps, pix_fmt, options)
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = file.add_stream("aac", rate=SOUND_RATE) if sound else None
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[i]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if audio:
            _mux_silence(file, audio, sound)
    return path


def write_streams(
    path: pathlib.Path, streams: Sequence[Sequence[np.ndarray]], *, cover: np.ndarray | None = None
) -> pathlib.Path:
    """A file of several videos of equally many frames, side by side, perhaps with the picture that players show in lists."""
    with av.open(str(path), "w") as file:
        made = [_picture_stream(file, frames[0], "mpeg4", 25, "yuv420p", None) for frames in streams]
        if cover is not None:
            _mux_cover(file, cover)
        for images in zip(*streams, strict=True):
            for stream, image in zip(made, images, strict=True):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in made:
            file.mux(stream.encode())
    return path


def write_sound(path: pathlib.Path, *, cover: np.ndarray | None = None) -> pathlib.Path:
    """A file of sound alone, a second of silence, perhaps with the picture of a record."""
    with av.open(str(path), "w") as file:
        audio = file.add_stream("aac", rate=SOUND_RATE)
        if cover is not None:
            _mux_cover(file, cover)
        _mux_silence(file, audio, 1)
    return path


def _picture_stream(file, first, codec, fps, pix_fmt, options):
    stream = file.add_stream(codec, rate=fps, options=options or {})
    stream.height, stream.width = first.shape[:2]
    stream.pix_fmt = pix_fmt
    # Every frame whole: as few bits as possible would blur their numbers.
    stream.bit_rate = 8_000_000
    return stream


def _mux_cover(file, image) -> None:
    stream = file.add_stream("png", rate=1)
    stream.height, stream.width = image.shape[:2]
    stream.pix_fmt, stream.disposition = "rgb24", Disposition.attached_pic
    file.mux([*stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")), *stream.encode()])


def _mux_silence(file, stream, seconds: float) -> None:
    samples = np.zeros((1, round(SOUND_RATE * seconds)), np.float32)
    silence = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    silence.sample_rate = SOUND_RATE
    file.mux(stream.encode(silence))
    file.mux(stream.encode())
