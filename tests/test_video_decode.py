"""Videos of every kind become upright frames at a steady rate; what is no video is told in a line."""

import itertools
import os
import pathlib
import random

import av
import numpy as np
import pytest
from support.paths import SHARED
from support.videos import number_of, picture, write_sound, write_video

from video.containers import UnusableVideo
from video.decode import FrameReader, inspect_video

CLIPS = SHARED / "data" / "video"


def numbers(path, fps=25.0, short_side=48):
    reader = FrameReader(path, fps=fps, short_side=short_side)
    return [number_of(frame) for frame in reader], reader


def nearest(times, fps, end):
    """Which frame is shown at each k / fps: the nearest in time, the earlier of two."""
    shown = []
    for k in itertools.count():
        if k and k / fps >= end - 1e-6:
            return shown
        distances = [round(abs(time - k / fps), 6) for time in times]
        shown.append(distances.index(min(distances)))


@pytest.mark.parametrize("source", [10, 12, 24, 25, 30, 50, 60])
@pytest.mark.parametrize("fps", [25.0, 10.0])
def test_the_nearest_frame_stands_for_every_moment(tmp_path, source, fps):
    path = write_video(tmp_path / "a.mp4", [picture(i) for i in range(27)], fps=source)
    shown, reader = numbers(path, fps)
    expected = nearest([i / source for i in range(27)], fps, 27 / source)
    assert shown == expected
    assert reader.notes == [] and reader.source_frames == 27
    assert reader.seconds == len(expected) / fps


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mov", "a.ts"])
def test_every_frame_of_25_comes_through_whatever_the_container(tmp_path, name):
    """Matroska counts milliseconds; its times jitter."""
    codec = "mpeg2video" if name == "a.ts" else "mpeg4"
    path = write_video(tmp_path / name, [picture(i) for i in range(28)], codec=codec)
    assert numbers(path)[0] == list(range(28))


def test_a_variable_frame_rate(tmp_path):
    times = [0, 0.04, 0.1, 0.5, 0.52, 0.54, 1.4, 1.44]
    path = write_video(tmp_path / "a.mkv", [picture(i) for i in range(8)], times=times)
    shown, _ = numbers(path)
    assert shown[: len(nearest(times, 25, 1.44))] == nearest(times, 25, 1.44)


@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (90, 1), (180, 2), (270, 3), (-90, 3)])
def test_a_turned_video_is_made_upright(tmp_path, rotation, turns):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :16] = 240  # a bright bar on the left
    path = write_video(tmp_path / "a.mp4", [image] * 3, rotation=rotation)
    (frame, *_) = FrameReader(path, fps=25, short_side=48)
    expected = np.rot90(image, turns)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 16
    info = inspect_video(path)
    assert (info.height, info.width) == expected.shape[:2] and info.rotation == 90 * turns


@pytest.mark.parametrize(("size", "shape"), [((64, 48), (32, 43)), ((48, 64), (43, 32)), ((62, 50), (32, 40))])
def test_the_shorter_side_gets_its_length(tmp_path, size, shape):
    path = write_video(tmp_path / "a.mp4", [picture(3, size)] * 2)
    (frame, *_) = FrameReader(path, fps=25, short_side=32)
    assert frame.shape == (*shape, 3) and frame.dtype == np.uint8 and number_of(frame) == 3


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name"),
    [
        ("ffv1", "yuv444p", "a.mkv"),
        ("ffv1", "gray", "a.mkv"),
        ("ffv1", "yuv420p10le", "a.mkv"),
        ("ffv1", "bgra", "a.mkv"),
    ],
)
def test_formats_of_pixels_and_odd_sizes(tmp_path, codec, pix_fmt, name):
    path = write_video(tmp_path / name, [picture(i, (51, 37)) for i in range(5)], codec=codec, pix_fmt=pix_fmt)
    shown, _ = numbers(path, short_side=37)
    assert shown == list(range(5))


def test_sound_beside_the_picture_is_ignored(tmp_path):
    path = write_video(tmp_path / "a.mp4", [picture(i) for i in range(10)], sound=1)
    assert numbers(path)[0] == list(range(10))


def test_a_stream_without_times_or_length(tmp_path):
    """Raw MPEG-4: no container, so nothing states when a frame is shown, or how long it all is."""
    path = write_video(tmp_path / "a.m4v", [picture(i) for i in range(20)])
    assert numbers(path)[0] == list(range(20))


def test_what_a_file_states(tmp_path):
    path = write_video(tmp_path / "a.mp4", [picture(i) for i in range(20)], fps=10)
    info = inspect_video(path)
    assert (info.width, info.height, info.fps, info.codec) == (64, 48, 10, "mpeg4")
    assert info.seconds == pytest.approx(2)


def test_a_file_that_is_cut_short_gives_what_is_there(tmp_path):
    whole = write_video(
        tmp_path / "a.mkv", [picture(i) for i in range(100)], codec="ffv1", options={"g": "1"}
    ).read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    shown, reader = numbers(path)
    assert 20 < len(shown) < 80 and shown == [i % 28 for i in range(len(shown))]
    assert any("cut short" in note for note in reader.notes), reader.notes


def test_a_corrupt_middle_is_passed_over(tmp_path):
    path = write_video(tmp_path / "a.avi", [picture(i) for i in range(60)], codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    shown, reader = numbers(path)
    assert 50 < len(shown) <= 60, "an AVI counts its frames: those that are lost take no time"
    assert shown[:20] == list(range(20)) and shown[-5:] == [i % 28 for i in range(55, 60)]
    assert len(reader.notes) == 1 and "1 packet can't be decoded" in reader.notes[0]


def test_times_that_jump_make_no_endless_video(tmp_path):
    times = [0, 0.04, 0.08, 90_000, 90_000.04, 90_000.08]
    path = write_video(tmp_path / "a.mkv", [picture(i) for i in range(6)], times=times)
    shown, reader = numbers(path)
    assert len(shown) == 6 and shown[:3] == [0, 1, 2] and shown[-1] == 5
    assert len(reader.notes) == 1 and reader.notes[0].startswith("its times jump")


def test_what_is_no_video(tmp_path):
    empty, text, cut = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "cut.mp4"
    empty.write_bytes(b"")
    text.write_text("video,label\n")
    cut.write_bytes(
        write_video(tmp_path / "a.mp4", [picture(i) for i in range(9)]).read_bytes()[:-400]
    )  # without its index
    image = tmp_path / "image.mp4"
    with av.open(str(tmp_path / "image.png"), "w", format="image2") as file:
        stream = file.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), format="rgb24")))
        file.mux(stream.encode())
    os.rename(tmp_path / "image.png", image)
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    small = write_video(tmp_path / "small.mkv", [picture(0, (1, 1))] * 3, codec="ffv1", pix_fmt="bgra")
    thin = write_video(tmp_path / "thin.mkv", [picture(0, (640, 16))] * 3, codec="ffv1", pix_fmt="bgra")
    playlist = tmp_path / "list.mp4"
    playlist.write_text("ffconcat version 1.0\nfile a.mp4\n")
    for path, said in [
        (empty, "not a video"),
        (text, "not a video"),
        (cut, "not a complete one"),
        (image, "an image, not a video"),
        (pipe, "a named pipe"),
        (tmp_path, "a folder"),
        (tmp_path / "absent.mp4", "No such file"),
        (write_sound(tmp_path / "sound.mp4"), "sound without a picture"),
        (small, "1 x 1 pixels"),
        (thin, "too long and thin"),
        (playlist, "a playlist"),
    ]:
        for use in (inspect_video, lambda path: list(FrameReader(path, fps=25, short_side=48))):
            with pytest.raises(UnusableVideo) as caught:
                use(path)
            line = str(caught.value)
            assert line.startswith(f"{path}: ") and said in line and "\n" not in line, line


def test_a_video_without_frames(tmp_path):
    path = write_video(tmp_path / "a.avi", [picture(0)] * 2)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(UnusableVideo, match=r"no frame of it can be decoded|not a video"):
        inspect_video(path)


@pytest.mark.parametrize("name", ["with space.mp4", "déjà vu.mp4", "http:..odd?.mp4", "-dash.mp4", "%d.mp4", "a|b.mp4"])
def test_names_that_mean_something_to_others(tmp_path, name):
    path = write_video(tmp_path / "a.mp4", [picture(i) for i in range(5)])
    path = path.rename(tmp_path / name)
    assert numbers(path)[0] == list(range(5))
    relative = pathlib.Path(os.path.relpath(path))
    assert numbers(relative)[0] == list(range(5))


def test_the_library_is_silent(tmp_path, capfd):
    path = write_video(tmp_path / "a.avi", [picture(i) for i in range(30)])
    data = bytearray(path.read_bytes())
    for i in range(len(data) // 3, len(data) - 200, 97):
        data[i] ^= 255
    path.write_bytes(data)
    list(FrameReader(path, fps=25, short_side=48))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mpeg4"), ("a.mkv", "ffv1"), ("a.avi", "mjpeg"), ("a.ts", "mpeg2video")]
)
def test_damage_anywhere_gives_frames_or_a_line(tmp_path, name, codec):
    """Never another exception, and never many more frames than there were."""
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    whole = write_video(tmp_path / name, [picture(i) for i in range(12)], codec=codec, pix_fmt=pix_fmt).read_bytes()
    draw = random.Random(1)
    for _ in range(4000 if os.environ.get("SAL_FUZZ") == "long" else 60):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 3, 30))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.2:
            del data[draw.randrange(len(data)) :]
        path = tmp_path / f"damaged{pathlib.Path(name).suffix}"
        path.write_bytes(data)
        count = 0
        try:
            for frame in FrameReader(path, fps=25, short_side=48):
                assert frame.dtype == np.uint8 and frame.shape[2] == 3
                count += 1
                assert count <= 25 * 60 * 12 + 250, "no gap is longer than a minute, no frame than 10 s"
        except UnusableVideo:
            pass


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not part of the project: ../shared/data/video")
def test_real_clips():
    lengths = {}
    for path in sorted(CLIPS.glob("*.[am][vp][i4]")):
        reader = FrameReader(path, fps=25, short_side=256)
        count = sum(1 for frame in reader if min(frame.shape[:2]) == 256)
        lengths[path.stem] = count
        assert reader.notes == [] and reader.seconds == count / 25
    assert lengths == {
        "arm_wrestling": 250,  # 280 at 28 frames per second
        "v_ApplyEyeMakeup_g01_c01": 164,
        "v_BenchPress_g01_c02": 180,
        "v_Diving_g01_c01": 217,  # 259 at 29.97
    }
