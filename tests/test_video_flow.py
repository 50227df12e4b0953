"""Optical flow: what OpenCV computes, in order, by threads; and the snippets that are made of frames."""

import itertools
import threading
import types
import weakref

import cv2
import numpy as np
import pytest

from utils.errors import InputError
from video import flow as flow_module
from video.flow import FlowEstimator, seconds_per_pair
from video.snippets import centre, snippets


def scene(count, shift=1, size=(48, 64)):
    """[H,W,3] frames of a random texture that moves `shift` pixels to the right from one to the next."""
    coarse = np.random.default_rng(3).integers(0, 256, (12, 40), np.uint8)
    wide = cv2.resize(coarse, (size[1] * 4, size[0]), interpolation=cv2.INTER_CUBIC)
    starts = [size[1] * 2 - i * shift for i in range(count)]
    return [np.repeat(wide[:, start : start + size[1], None], 3, 2) for start in starts]


def gray(frame):
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def reference(method, frames, bound):
    """One pair after the other, each by an estimator of its own."""
    found = []
    for first, second in itertools.pairwise(frames):
        made = (
            cv2.optflow.DualTVL1OpticalFlow_create()
            if method == "tvl1"
            else cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        )
        motion = made.calc(gray(first), gray(second), None)
        found.append(np.minimum(np.maximum(motion, -bound), bound) / bound)
    return [*found, found[-1]]


@pytest.mark.parametrize("method", ["tvl1", "dis"])
@pytest.mark.parametrize("workers", [1, 3])
def test_flow_is_that_of_one_pair_after_the_other(method, workers):
    frames = scene(9)
    with FlowEstimator(method, bound=20, workers=workers) as flow:
        pairs = list(flow.pairs(iter(frames)))
    assert all(shown is frame for (shown, _), frame in zip(pairs, frames, strict=True))
    for (_, found), expected in zip(pairs, reference(method, frames, 20), strict=True):
        assert found.dtype == np.float32 and found.shape == (48, 64, 2)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("method", ["tvl1", "dis"])
def test_what_moves_two_pixels_to_the_right(method):
    with FlowEstimator(method, bound=10, workers=1) as flow:
        (_, motion), _ = flow.pairs(scene(2, shift=2))
    inner = motion[8:-8, 8:-8]
    assert np.median(inner[..., 0]) == pytest.approx(2 / 10, abs=0.02)
    assert np.median(inner[..., 1]) == pytest.approx(0, abs=0.02)


def test_flow_is_clipped():
    with FlowEstimator("dis", bound=0.5, workers=1) as flow:
        (_, motion), _ = flow.pairs(scene(2, shift=4))
    assert motion.max() == 1 and motion.min() >= -1 and np.median(motion[8:-8, 8:-8, 0]) == 1


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 1), (2, 2)])
def test_few_frames(count, expected):
    with FlowEstimator("dis", bound=20, workers=2) as flow:
        pairs = list(flow.pairs(scene(count)))
    assert len(pairs) == expected
    if count == 1:
        assert not pairs[0][1].any()
    if count == 2:
        assert pairs[0][1] is pairs[1][1]


def flow_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("flow")]


def test_a_source_that_fails_and_a_consumer_that_stops_leave_no_threads():
    def failing():
        yield from scene(5)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"), FlowEstimator("dis", bound=20, workers=2) as flow:
        list(flow.pairs(failing()))
    with FlowEstimator("dis", bound=20, workers=2) as flow:
        next(flow.pairs(scene(9)))
        assert flow_threads()
    assert not flow_threads()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_that_fails_is_heard_after_the_pairs_before(workers, monkeypatch):
    class Failing:
        def calc(self, first, *_):
            if first[0, 0] == 4:
                raise ValueError("pair 4")
            return np.zeros((6, 8, 2), np.float32)

    monkeypatch.setattr(flow_module, "_estimator", lambda method: Failing())
    frames, seen = [np.full((6, 8, 3), i, np.uint8) for i in range(9)], []
    with FlowEstimator("dis", bound=20, workers=workers) as flow:
        shown = (seen.append(int(frame[0, 0, 0])) for frame, _ in flow.pairs(frames))
        with pytest.raises(ValueError, match="pair 4"):
            list(shown)
    assert seen == [0, 1, 2, 3] and not flow_threads()


@pytest.mark.parametrize("method", ["tvl1", "dis"])
def test_what_an_estimator_saw_before_changes_no_bit(method):
    """Not even a smaller video, after which OpenCV's estimators would use fewer scales."""
    frames, small = scene(3), scene(3, size=(33, 40))
    with FlowEstimator(method, bound=20, workers=1) as flow:
        first, _, again = (list(flow.pairs(source)) for source in (frames, small, frames))
    for (_, motion), (_, repeated) in zip(first, again, strict=True):
        np.testing.assert_array_equal(motion, repeated)


def test_only_a_few_frames_are_read_ahead():
    taken = []

    def counted():
        for frame in scene(1) * 500:
            taken.append(1)
            yield frame

    with FlowEstimator("dis", bound=20, workers=2) as flow:
        next(flow.pairs(counted()))
    assert len(taken) < 10


def test_opencv_keeps_its_number_of_threads():
    before = cv2.getNumThreads()
    with FlowEstimator("dis", bound=20, workers=2):
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before


def test_an_opencv_without_its_contributed_modules(monkeypatch):
    monkeypatch.setattr(flow_module.cv2, "optflow", types.SimpleNamespace())
    with pytest.raises(InputError, match="opencv-contrib-python-headless has it"):
        FlowEstimator("tvl1", bound=20, workers=1)


def test_the_estimate_grows_with_the_picture():
    small, large = (min(seconds_per_pair("dis", 64 * k, 85 * k, 1) for _ in range(5)) for k in (1, 4))
    assert 0 < small < large


def cut_plainly(count, length, stride):
    """Which frames each snippet has."""
    if count < length:
        return [[*range(count), *[count - 1] * (length - count)]] if count else []
    return [list(range(start, start + length)) for start in range(0, count - length + 1, stride)]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 11, 23])
@pytest.mark.parametrize("stride", [1, 3, 4, 5, 9])
def test_snippets_are_the_frames_they_should_be(count, stride):
    frames = [np.full((6, 9, 3), i, np.uint8) for i in range(count)]
    found = list(snippets(iter(frames), None, length=4, stride=stride, crop=4))
    assert [snippet.rgb[:, 0, 0, 0].tolist() for snippet in found] == cut_plainly(count, 4, stride)
    assert all(snippet.rgb.shape == (4, 4, 4, 3) and snippet.flow is None for snippet in found)


def test_snippets_of_flow_go_with_their_frames():
    frames = scene(7, shift=1)
    with FlowEstimator("dis", bound=20, workers=2) as flow:
        found = list(snippets(frames, flow, length=3, stride=3, crop=32))
    motions = reference("dis", frames, 20)
    assert len(found) == 2
    for i, snippet in enumerate(found):
        np.testing.assert_array_equal(snippet.rgb, [frame[8:40, 16:48] for frame in frames[3 * i : 3 * i + 3]])
        np.testing.assert_allclose(snippet.flow, [m[8:40, 16:48] for m in motions[3 * i : 3 * i + 3]], atol=1e-6)


def test_the_centre():
    image = np.arange(7 * 6).reshape(7, 6)
    np.testing.assert_array_equal(centre(image, 4), image[1:5, 1:5])


def test_snippets_are_cut_as_the_frames_come():
    taken = []

    def counted():
        for i in range(1000):
            taken.append(i)
            yield np.zeros((4, 4, 3), np.uint8)

    next(snippets(counted(), None, length=4, stride=4, crop=4))
    assert len(taken) == 4


@pytest.mark.parametrize("stride", [1, 4, 50])
def test_no_more_frames_are_kept_than_one_snippet_has(stride):
    made, most = [], 0

    def counted():
        nonlocal most
        for _ in range(200):
            frame = np.zeros((4, 4, 3), np.uint8)
            made.append(weakref.ref(frame))
            yield frame
            del frame
            most = max(most, sum(one() is not None for one in made))

    for _ in snippets(counted(), None, length=4, stride=stride, crop=4):
        pass
    assert 1 <= most <= 4 + 1
