"""Synthetic inputs of THUMOS'14 scale: features, class sequences, proposals, a test set with ground truth and detections.

    sizes = FULL                          # or QUICK, for a test
    features(2, sizes, device)            # [B,T,D]
    busy_video(sizes)                     # one video's sequences that give some 500 proposals
    test_set(sizes)                       # 210 videos and everything that a test pass computes of them

Seeds are fixed. Counts, lengths and overlaps are those of the data set and of a real result file on it;
tests/test_benchmarks.py compares them where these files exist.
"""

import json
import pathlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_tools.synthetic import SNIPPETS_PER_SECOND
from formats.array_files import STREAMS
from options import DataOptions, EvaluationOptions, ModelOptions, OptimisationOptions
from utils.segments import Segments

DURATIONS = pathlib.Path(__file__).resolve().parent.parent.parent / "shared/data/thumos14/durations.json"
TRAIN_PREFIX, TEST_PREFIX = "video_validation", "video_test"
MOST_VIDEOS = 200  # of a split that stand for it
DURATION_MEDIAN, DURATION_SPREAD = 161.7, 0.84  # of the test videos: seconds, standard deviation of the logarithm
SECOND_CLASS_SHARE = 32 / 210  # of the test videos that have two classes

# Per class, in alphabetical order.
TRUTH_COUNTS = (41, 488, 106, 98, 217, 138, 152, 388, 48, 36, 213, 135, 169, 142, 399, 144, 48, 141, 88, 120)
DETECTION_COUNTS = (
    *(527, 2255, 949, 1670, 1616, 1131, 1130, 2849, 462, 571),
    *(2469, 1650, 2790, 2055, 4531, 1537, 501, 735, 1057, 1102),
)
TRUTH_LENGTH = (3.2, 0.82)  # seconds, median and standard deviation of the logarithm
DETECTION_LENGTH = (3.2, 0.86)
LONGEST = (0.7, 1.0)  # an instance at most, as a share of its stretch of the video
CROWDING = 2.0  # how evenly a class's instances lie over its videos' time (of a Dirichlet distribution)
TRUE_DETECTIONS = 0.3  # share of the detections that lie near a ground truth
JITTER = 0.35  # standard deviation of their ends, in lengths
TOP_SCORE = 0.9

BUSY_BUMPS = 64  # per class in the busy video
IDLE_BUMPS = 13  # false ones per class and video of the test set, besides one per instance
BUMP_WIDTH = (0.3, 0.8)  # share of the room between neighbours
QUANTUM = 2.0**-10  # of the sequences' values
QUANTUM_OFFSET = 2.0**-16


@dataclass(frozen=True, kw_only=True)
class Sizes:
    num_segments: int = DataOptions.num_segments  # T
    batch_size: int = OptimisationOptions.batch_size  # B in training
    test_batch_size: int = EvaluationOptions.test_batch_size
    feature_size: int = DataOptions.feature_size  # per stream
    hidden_size: int = ModelOptions.hidden_size  # H
    num_classes: int = len(TRUTH_COUNTS)  # C
    resampled_snippets: int = 400  # of the video that is resampled
    nms_proposals: int = 2000
    videos: int = 210
    instances: int = sum(TRUTH_COUNTS)
    detections: int = sum(DETECTION_COUNTS)
    typical_videos: int = 16  # that stand for a split's lengths
    scaled_videos: int = 3  # that the plain network sees in the test pass; its time is scaled up from these


FULL = Sizes()
QUICK = Sizes(
    num_segments=48,
    test_batch_size=2,
    feature_size=8,
    hidden_size=16,
    resampled_snippets=60,
    nms_proposals=60,
    videos=6,
    instances=60,
    detections=300,
    typical_videos=4,
    scaled_videos=2,
)


@dataclass(frozen=True, kw_only=True)
class VideoSequences:
    """What the network might say of one video."""

    num_snippets: int  # before resampling
    class_scores: NDArray[np.float32]  # [C]
    sequences: NDArray[np.float32]  # [T,C]


@dataclass(frozen=True, kw_only=True)
class TestSet:
    __test__ = False  # not a test, whatever pytest makes of its name

    durations: NDArray[np.float64]  # [V] seconds
    num_snippets: NDArray[np.int64]  # [V]
    truth: Segments
    detections: Segments
    videos: tuple[VideoSequences, ...]


def features(count: int, sizes: Sizes, device: torch.device) -> Tensor:
    """Features [count,T,D], never negative and half of them zero, as after a ReLU."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(count, sizes.num_segments, len(STREAMS) * sizes.feature_size, generator=generator).relu().to(device)
    )


def labels(count: int, sizes: Sizes, device: torch.device) -> Tensor:
    """Labels [count,C]: one class per video, and a second one for every other video."""
    classes = torch.zeros(count, sizes.num_classes)
    for video in range(count):
        classes[video, video % sizes.num_classes] = 1
        classes[video, (video + video % 2) % sizes.num_classes] = 1
    return classes.to(device)


def long_video(num_snippets: int, sizes: Sizes) -> NDArray[np.float32]:
    """Features [num_snippets,D], the streams side by side."""
    return np.random.default_rng(1).random((num_snippets, len(STREAMS) * sizes.feature_size), np.float32)


def busy_video(sizes: Sizes) -> VideoSequences:
    """A video of two predicted classes, with some 250 proposals each at T 750."""
    generator = np.random.default_rng(2)
    bumps = max(2, BUSY_BUMPS * sizes.num_segments // FULL.num_segments)
    middles = {c: np.sort(generator.uniform(0, sizes.num_segments, bumps)) for c in (0, 1)}
    return _video(generator, sizes, sizes.resampled_snippets, middles)


def nms_proposals(sizes: Sizes) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Start, end and score of one class's proposals; each overlaps many others."""
    generator = np.random.default_rng(3)
    count = sizes.nms_proposals
    start = generator.uniform(0, DURATION_MEDIAN, count)
    return start, start + _lengths(generator, DETECTION_LENGTH, count), generator.random(count)


def test_set(sizes: Sizes) -> TestSet:
    """A test set: durations, ground truth, detections, and what the network might say of every video."""
    generator = np.random.default_rng(4)
    durations = video_durations(sizes.videos)
    classes = _video_classes(sizes)
    truth = _truth(generator, sizes, durations, classes)
    num_snippets = np.maximum(1, (durations * SNIPPETS_PER_SECOND).astype(np.int64))
    videos = []
    for video, own in enumerate(classes):
        middles = {}
        for c in own:
            mine = (truth.video == video) & (truth.label == c)
            inside = (truth.start[mine] + truth.end[mine]) / 2 / durations[video]
            middles[c] = sizes.num_segments * np.sort(np.concatenate([inside, generator.random(IDLE_BUMPS)]))
        videos.append(_video(generator, sizes, int(num_snippets[video]), middles))
    return TestSet(
        durations=durations,
        num_snippets=num_snippets,
        truth=truth,
        detections=_detections(generator, sizes, durations, truth),
        videos=tuple(videos),
    )


test_set.__test__ = False  # type: ignore[attr-defined]  # see TestSet


def typical_lengths(count: int, *, prefix: str) -> NDArray[np.int64]:
    """Snippets [count] of videos that stand for those of a split: its quantiles, the long ones between the short ones."""
    durations = np.sort(video_durations(MOST_VIDEOS, prefix=prefix))
    quantiles = durations[((np.arange(count) + 0.5) / count * len(durations)).astype(int)]
    order = np.argsort(np.abs(2 * np.arange(count) - count + 0.5), kind="stable")  # from the middle outwards
    lengths: NDArray[np.int64] = np.maximum(1, (quantiles[order] * SNIPPETS_PER_SECOND).astype(np.int64))
    return lengths


def video_durations(count: int, *, prefix: str = TEST_PREFIX) -> NDArray[np.float64]:
    """Seconds [count]: those of a split where its file exists, otherwise drawn from the test split's distribution."""
    if DURATIONS.exists():
        known = json.loads(DURATIONS.read_text())
        lengths = [float(known[video]) for video in sorted(known) if video.startswith(prefix)]
        if len(lengths) >= count:
            return np.array(lengths[:count])
    return _lengths(np.random.default_rng(5), (DURATION_MEDIAN, DURATION_SPREAD), count)


def _lengths(generator: np.random.Generator, median_and_spread: tuple[float, float], count: int) -> NDArray[np.float64]:
    median, spread = median_and_spread
    return np.asarray(generator.lognormal(np.log(median), spread, count))


def _video_classes(sizes: Sizes) -> list[list[int]]:
    """The classes of every video: one, and for some a second."""
    two = round(SECOND_CLASS_SHARE * sizes.videos)
    count = sizes.num_classes
    return [[v % count, (v + 1) % count] if v < two else [v % count] for v in range(sizes.videos)]


def _scaled_counts(counts: tuple[int, ...], total: int) -> list[int]:
    """The counts scaled to another total, exactly."""
    ends = np.round(np.cumsum(counts) * total / sum(counts)).astype(int)
    return np.diff(ends, prepend=0).tolist()


def _truth(
    generator: np.random.Generator, sizes: Sizes, durations: NDArray[np.float64], classes: list[list[int]]
) -> Segments:
    """Instances; those of one class in one video don't overlap: each lies in its own stretch."""
    videos, labels_, starts, ends = [], [], [], []
    for label, count in enumerate(_scaled_counts(TRUTH_COUNTS, sizes.instances)):
        own = [v for v, present in enumerate(classes) if label in present]
        if not own:
            continue
        shares = generator.multinomial(count, generator.dirichlet(CROWDING * durations[own] / durations[own].mean()))
        for video, instances in zip(own, shares, strict=True):
            stretch = durations[video] / max(1, instances)
            # Longest lengths differ too: two instances that a detection overlaps equally would have no order.
            longest = generator.uniform(*LONGEST, instances) * stretch
            length = np.minimum(_lengths(generator, TRUTH_LENGTH, instances), longest)
            start = stretch * np.arange(instances) + generator.random(instances) * (stretch - length)
            videos.append(np.full(instances, video))
            labels_.append(np.full(instances, label))
            starts.append(start)
            ends.append(start + length)
    video_column = np.concatenate(videos)
    return Segments(
        video=video_column,
        label=np.concatenate(labels_),
        start=np.concatenate(starts),
        end=np.concatenate(ends),
        score=np.ones(len(video_column)),
    )


def _detections(
    generator: np.random.Generator, sizes: Sizes, durations: NDArray[np.float64], truth: Segments
) -> Segments:
    """Detections: some near a ground truth, the rest anywhere in a video of the class; scores tell them apart, but badly."""
    parts = []
    for label, count in enumerate(_scaled_counts(DETECTION_COUNTS, sizes.detections)):
        mine = np.flatnonzero(truth.label == label)
        if len(mine) == 0:
            mine = np.arange(len(truth))  # a small set may lack the class: its detections match nothing
        near = generator.choice(mine, count)
        true = generator.random(count) < TRUE_DETECTIONS
        video = np.where(true, truth.video[near], generator.choice(np.unique(truth.video[mine]), count))
        length = truth.end[near] - truth.start[near]
        any_length = np.minimum(_lengths(generator, DETECTION_LENGTH, count), durations[video] / 2)
        any_start = generator.random(count) * (durations[video] - any_length)
        start = np.where(true, truth.start[near] + JITTER * length * generator.standard_normal(count), any_start)
        end = np.where(true, truth.end[near] + JITTER * length * generator.standard_normal(count), start + any_length)
        end = np.maximum(end, start + 1 / SNIPPETS_PER_SECOND)
        score = TOP_SCORE * generator.beta(np.where(true, 2.0, 1.0), 3.0)
        parts.append(Segments(video=video, label=np.full(count, label), start=start, end=end, score=score))
    return Segments.concatenate(parts)


def _video(
    generator: np.random.Generator, sizes: Sizes, num_snippets: int, middles: dict[int, NDArray[np.float64]]
) -> VideoSequences:
    """Sequences with a bump at each of a class's middles, in snippets of T; classes with bumps are predicted."""
    scores = np.full(sizes.num_classes, 0.01, np.float32)
    sequences = np.full((sizes.num_segments, sizes.num_classes), 0.05, np.float32)
    for label, places in middles.items():
        scores[label] = 0.8 / len(middles)
        sequences[:, label] = _bumps(generator, sizes.num_segments, places)
    return VideoSequences(num_snippets=num_snippets, class_scores=scores, sequences=sequences)


def _bumps(generator: np.random.Generator, t: int, middles: NDArray[np.float64]) -> NDArray[np.float64]:
    """A sequence [T] in (0,1): noise near 0, and a rounded, noisy bump around each middle.

    Values are whole quanta, so that float32 differences of neighbours are exact, plus a small offset, so that no point falls on
    a threshold, where the last bit would decide.
    """
    at = np.arange(t)[:, None]
    width = generator.uniform(*BUMP_WIDTH, len(middles)) * t / max(1, len(middles)) / 2
    height = generator.uniform(0.15, 1.0, len(middles))
    shape = height * np.exp(-((np.abs(at - middles) / np.maximum(width, 1.0)) ** 4))
    noise = np.convolve(generator.normal(0, 0.1, t), np.ones(3) / 3, mode="same")
    curve = np.clip(0.04 + shape.max(1, initial=0.0) + noise * (shape.max(1, initial=0.0) + 0.1), 0.01, 0.98)
    return np.asarray(np.floor(curve / QUANTUM) * QUANTUM + QUANTUM_OFFSET)
