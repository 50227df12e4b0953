"""What is odd about videos: several streams, times out of order, sizes that change or are absurd, names that are no text."""

import itertools
import os
import types
from fractions import Fraction

import av
import numpy as np
import pytest
from support.videos import number_of, picture, write_sound, write_streams, write_video

from video import containers, decode
from video.containers import UnusableVideo, stated_seconds
from video.decode import FrameReader, inspect_video
from video.frame_times import LONGEST_GAP, FrameClock

FRAMES = [picture(i) for i in range(28)]


def read(path, short_side=48):
    reader = FrameReader(path, fps=25, short_side=short_side)
    return list(reader), reader


def numbers(path):
    return [number_of(frame) for frame in read(path)[0]]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.mov"])
def test_sound_that_goes_on_after_the_picture_is_no_part_of_it(tmp_path, name):
    path = write_video(tmp_path / name, FRAMES, sound=9)
    frames, reader = read(path)
    assert len(frames) == 28 and reader.notes == []
    assert inspect_video(path).seconds == pytest.approx(28 / 25)


@pytest.mark.parametrize("tag", ["", "soon", "99:99", "00:00:00.000", "-1:00:00", "00:00:\u0664\u0665.0"])
def test_a_length_that_is_not_stated_in_numbers(tag):
    stream = types.SimpleNamespace(duration=None, time_base=Fraction(1, 25), metadata={"DURATION": tag})
    container = types.SimpleNamespace(duration=4_000_000, streams=[stream])
    assert stated_seconds(container, stream, surely=True) == 4
    container.streams.append(None)
    assert stated_seconds(container, stream, surely=True) is None
    assert stated_seconds(container, stream) == 4
    container.duration = -1
    assert stated_seconds(container, stream) is None


def test_the_larger_of_two_pictures_is_taken(tmp_path):
    small = [picture(20, (32, 32))] * 28
    assert numbers(write_streams(tmp_path / "a.avi", [small, FRAMES])) == list(range(28))


def test_a_cover_is_no_video(tmp_path):
    cover = picture(27, (640, 480))
    assert numbers(write_streams(tmp_path / "a.mp4", [FRAMES], cover=cover)) == list(range(28))
    with pytest.raises(UnusableVideo, match="sound without a picture"):
        inspect_video(write_sound(tmp_path / "song.mp4", cover=cover))


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.avi"), ("libx264", "a.mp4"), ("libx264", "a.h264")])
def test_frames_that_are_stored_in_another_order_than_they_are_shown(tmp_path, codec, name):
    """An AVI has no times of showing, a raw stream none at all."""
    frames, reader = read(write_video(tmp_path / name, FRAMES, codec=codec))
    assert [number_of(frame) for frame in frames] == list(range(28))
    assert len(reader.notes) == (name == "a.h264")


def test_a_size_that_changes_in_the_middle(tmp_path):
    first = write_video(tmp_path / "1.ts", FRAMES, codec="libx264")
    second = write_video(tmp_path / "2.ts", [picture(i, (160, 64)) for i in range(28)], codec="libx264")
    path = tmp_path / "a.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    frames, reader = read(path)
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert [number_of(frame) for frame in frames] == [*range(28), *range(28)]
    assert reader.notes == ["its times jump (1 x): the next frame is taken to be 0.040 s after the one before"]


def test_sound_that_begins_in_the_middle(tmp_path):
    """So late that libav has not seen it when it opens the file, as in recordings of broadcasts."""
    silent = write_video(tmp_path / "1.ts", FRAMES, codec="mpeg2video").read_bytes()
    loud = write_video(tmp_path / "2.ts", FRAMES, codec="mpeg2video", sound=1).read_bytes()
    nothing = (b"\x47\x1f\xff\x10" + bytes(184)) * 30_000  # packets that fill 5.6 MB
    path = tmp_path / "a.ts"
    path.write_bytes(silent + nothing + loud + nothing + silent)
    with av.open(str(path)) as file:
        assert len(file.streams) == 1
    frames, reader = read(path)
    assert [number_of(frame) for frame in frames] == [*range(28)] * 3
    assert len(reader.notes) == 1 and reader.notes[0].startswith("its times jump (2 x)")


def test_frames_that_are_turned_otherwise_than_the_first(tmp_path, monkeypatch):
    turns = itertools.count(1)
    monkeypatch.setattr(decode, "_quarter_turns", lambda frame: next(turns))
    frames, _ = read(write_video(tmp_path / "a.mp4", FRAMES))
    assert {frame.shape for frame in frames} == {(64, 48, 3)}


def test_more_pixels_than_a_machine_holds(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mkv", FRAMES)
    monkeypatch.setattr(containers, "LARGEST_FRAME", 64 * 48 - 1)
    with pytest.raises(UnusableVideo, match="64 x 48 pixels are too many"):
        inspect_video(path)


def test_a_size_that_grows_beyond_it_in_the_middle(tmp_path, monkeypatch):
    first = write_video(tmp_path / "1.ts", FRAMES, codec="libx264").read_bytes()
    second = write_video(tmp_path / "2.ts", [picture(i, (160, 64)) for i in range(28)], codec="libx264").read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(first + second)
    monkeypatch.setattr(containers, "LARGEST_FRAME", 80 * 64)
    frames, reader = read(path)
    assert [number_of(frame) for frame in frames][:24] == list(range(24)) and len(frames) <= 28
    assert "packets can't be decoded" in reader.notes[0]


@pytest.mark.parametrize("name", ["labels.txt", "read.nfo", "a.idf", "a.xbin"])
def test_text_is_not_drawn(tmp_path, name):
    """Of some endings libav makes a video of a terminal that prints the file."""
    path = tmp_path / name
    path.write_text("video,label\n" * 900)
    with pytest.raises(UnusableVideo, match="not a video"):
        inspect_video(path)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mp4", "ffconcat version 1.0\nfile b.ts\n"),
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nb.ts\n#EXT-X-ENDLIST\n"),
        ("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
    ],
)
def test_files_that_another_file_names_are_never_opened(tmp_path, monkeypatch, name, text, seen):
    """They might be pipes, which wait for ever. Libav refuses playlists, too, where their start is not seen for what it is."""
    write_video(tmp_path / "b.ts", FRAMES, codec="mpeg2video")
    (tmp_path / name).write_text(text)
    if not seen:
        monkeypatch.setattr(containers, "PLAYLIST_STARTS", ())
    with pytest.raises(UnusableVideo, match="a playlist, not a video" if seen else "not a video, or not"):
        inspect_video(tmp_path / name)


@pytest.mark.parametrize(("name", "known", "unknown"), [("a.avi", b"FMP4", b"ZQZQ"), ("a.mkv", b"V_MPEG4", b"V_ZZZZ4")])
def test_a_codec_that_nobody_knows(tmp_path, name, known, unknown):
    path = write_video(tmp_path / name, FRAMES)
    path.write_bytes(path.read_bytes().replace(known, unknown))
    with pytest.raises(UnusableVideo, match="a codec that is not known here; convert it"):
        inspect_video(path)


@pytest.mark.parametrize("name", [b"bad\xff.mp4", b"two\nlines.mp4", b"\x1b[2J.mp4", b"  .mp4"])
def test_names_that_are_no_text(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    write_video(tmp_path / "a.mp4", FRAMES).rename(path)
    assert numbers(path) == list(range(28))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise av.error.PermissionError(13, "Permission denied", "a.mp4")

    path = write_video(tmp_path / "a.mp4", FRAMES)
    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(UnusableVideo, match=r"a.mp4: can't be read \(Permission denied\)"):
        inspect_video(path)


def test_a_download_that_broke_off(tmp_path):
    """Its index comes first, so that it is known how long it should be."""
    path = write_video(tmp_path / "a.mp4", FRAMES * 4, container={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    frames, reader = read(path)
    assert 28 < len(frames) < 100
    assert f"ends after {len(frames) / 25:.1f} s of the 4.5 s that it states: it is cut short" in reader.notes


def test_a_reader_reads_again_and_closes_what_it_opened(tmp_path):
    path = write_video(tmp_path / "a.mp4", FRAMES * 20)
    reader = FrameReader(path, fps=25, short_side=48)
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        frames = iter(reader)
        assert number_of(next(frames)) == 0
        assert reader.source_frames < 40, "frames are decoded as they are asked for"
        frames.close()
    assert len(os.listdir("/proc/self/fd")) == opened
    assert len(list(reader)) == len(list(reader)) == reader.source_frames == 560


def frame(pts, dts=None):
    return types.SimpleNamespace(pts=pts, dts=dts, time_base=Fraction(1, 100))


@pytest.mark.parametrize(
    ("ticks", "times", "words"),
    [
        ([700, 704, 708], [0, 0.04, 0.08], []),  # the first frame's time is 0, whatever it is called
        ([-8, -4, 0], [0, 0.04, 0.08], []),
        ([0, 4, 4, 8], [0, 0.04, 0.04, 0.08], []),  # twice the same
        ([0, 8, 4, 12], [0, 0.08, 0.08, 0.12], []),  # a little backward
        ([0, 4, 8, 0, 4], [0, 0.04, 0.08, 0.08, 0.08], []),
        ([900, 904, 0, 4], [0, 0.04, 0.08, 0.12], ["jump (1 x)"]),  # a new count
        ([0, 4, 10**9, 10**9 + 4], [0, 0.04, 0.08, 0.12], ["jump (1 x)"]),
        ([0, 5900, 5904], [0, 59, 59.04], []),  # a minute may be still
        ([0, 6100, 6104], [0, 0.04, 0.08], ["jump (1 x)"]),
        ([None, None, None, None], [0, 0.04, 0.08, 0.12], ["3 of 4 frames state no time"]),
        ([0, None, 8, 12], [0, 0.04, 0.08, 0.12], []),
    ],
)
def test_times_are_made_to_rise(ticks, times, words):
    clock = FrameClock(Fraction(25))
    assert [clock.time(frame(pts)) for pts in ticks] == pytest.approx(times)
    lines = list(clock.lines())
    assert len(lines) == len(words) and all(word in line for word, line in zip(words, lines, strict=True))


def test_times_that_stand_still_are_replaced():
    clock = FrameClock(Fraction(25))
    times = [clock.time(frame(0)) for _ in range(100)]
    assert times[-1] > 3 and times == sorted(times)
    assert "frames state no time of their own" in next(clock.lines())


def test_no_times_make_a_video_endless():
    clock = FrameClock(Fraction(25))
    draw = np.random.default_rng(0)
    times = [clock.time(frame(int(draw.integers(-(2**62), 2**62)))) for _ in range(1000)]
    assert times == sorted(times) and np.diff(times).max() <= LONGEST_GAP


@pytest.mark.parametrize("rate", [None, Fraction(0), Fraction(-5), Fraction(10**6), Fraction(1, 10**6)])
def test_absurd_rates_are_passed_over(rate):
    clock = FrameClock(rate)
    assert [clock.time(frame(None)) for _ in range(3)] == pytest.approx([0, 0.04, 0.08])


def test_sound_alone_stays_what_it_is(tmp_path):
    with pytest.raises(UnusableVideo, match="sound without a picture"):
        inspect_video(write_sound(tmp_path / "a.m4a"))
