"""Small video files, made by PyAV, whose frames tell their number by their brightness."""

import pathlib
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np

STEP = 8  # of brightness from one frame to the next
SIZE = (64, 48)


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
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        # Every frame whole: as few bits as possible would blur their numbers.
        stream.bit_rate = 8_000_000
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = file.add_stream("aac", rate=16000) if sound else None
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[i]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if audio:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16000
            file.mux(audio.encode(silence))
            file.mux(audio.encode())
    return path


def write_sound(path: pathlib.Path) -> pathlib.Path:
    """A file of sound alone, a second of silence."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        file.mux(stream.encode(silence))
        file.mux(stream.encode())
    return path
