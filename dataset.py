"""Two-stream features with video-level labels, in any layout of formats/layouts.py, and the batches made of them.

    data = load_dataset(path, streams=("rgb", "flow"), feature_size=1024, cache="ram", device=device)
    for batch in train_batches(data.train, ...): batch.features      # [B,T,D] on the device

Features stay on the device that trains (cache "device"), in memory ("ram"), or in their files ("mmap").
"""

import pathlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from formats.annotations import VideoAnnotation
from formats.feature_files import FeatureFiles
from formats.feature_set import open_usable_set
from formats.layouts import SPLITS
from utils.memory import check_fits, free_bytes
from utils.prefetch import prefetch
from utils.segments import Indices
from utils.snippet_grid import DEFAULT_FPS, frame_rate

_Choice = tuple[list[int], Indices]  # positions of a batch's videos [B], and their snippets [B,T]
_Key = TypeVar("_Key")

# With --cache auto, features that take more than this share of the free memory of a GPU stay off it: the model needs the rest.
DEVICE_SHARE = 0.5


@dataclass(frozen=True)
class Video:
    video_id: str
    labels: NDArray[np.float32]  # [C] multi-hot
    features: NDArray[np.floating] | FeatureFiles  # [L,D], streams side by side
    fps: float = DEFAULT_FPS  # frame rate the features were extracted at

    @property
    def num_snippets(self) -> int:
        return len(self.features)

    def sample(self, indices: Indices, out: NDArray[np.float32]) -> None:
        """The snippets at `indices` [T] -> out [T,D]."""
        if isinstance(self.features, np.ndarray) and self.features.dtype == out.dtype:
            np.take(self.features, indices, axis=0, out=out, mode="clip")  # any other mode makes a copy first
        else:
            out[:] = self.features[indices]


class DeviceFeatures:
    """The features of all videos of a split as rows of one tensor, on the device where batches are needed."""

    def __init__(self, videos: tuple[Video, ...], device: torch.device) -> None:
        dtype = torch.float16 if _all_half(videos) else torch.float32
        lengths = np.array([video.num_snippets for video in videos], np.int64)
        self.first = np.cumsum(lengths) - lengths  # [V] first row of each video
        self.rows = torch.empty(int(lengths.sum()), videos[0].features.shape[1], dtype=dtype, device=device)
        progress = tqdm(videos, desc=f"features to {device}", unit="video", disable=None)
        for first, video in zip(self.first.tolist(), progress, strict=True):
            self.rows[first : first + video.num_snippets] = torch.from_numpy(_loaded(video.features))

    def sample(self, rows: Tensor) -> Tensor:
        """Row numbers [B,T] on the host -> [B,T,D]."""
        device = self.rows.device
        index = rows.flatten().to(device, non_blocking=True)
        return self.rows.index_select(0, index).view(*rows.shape, -1).float()


class Split(tuple[Video, ...]):
    """The videos of a split; `on_device` holds their features when these live on the device."""

    on_device: DeviceFeatures | None = None


@dataclass(frozen=True)
class Dataset:
    classes: tuple[str, ...]
    annotations: dict[str, VideoAnnotation]
    train: Split
    test: Split
    cache: str  # where the features are: device, ram or mmap
    layout: str  # how they lie on disk
    left_out: dict[str, int]  # what of the set is not used, and how much of it

    @property
    def videos(self) -> tuple[Video, ...]:
        return *self.train, *self.test


class Batch(NamedTuple):
    features: Tensor  # [B,T,D]
    labels: Tensor  # [B,C]
    video_ids: tuple[str, ...]
    num_snippets: tuple[int, ...]


def load_dataset(
    path: pathlib.Path,
    *,
    streams: tuple[str, ...],
    feature_size: int,
    cache: str,
    device: torch.device,
    splits: tuple[str, ...] = SPLITS,
    layout: str = "auto",
    ground_truth: str = "",
    allow_pickle: bool = False,
    skip_unusable: bool = False,
    fps: float | None = None,
) -> Dataset:
    """Read and check everything. The class list is every label of a video in a split, sorted. Splits not asked for stay empty.

    `fps` is the frame rate of all features; None takes each video's own from the ground truth, DEFAULT_FPS where it has none.
    `skip_unusable` leaves out what would otherwise be refused: videos without features, empty segments. Values are checked as
    they are read: now, or with cache "mmap" when they are first needed. Raises InputError naming the file, the video and what
    to do, or the bytes that a cache needs and those that are free.
    """
    feature_set, left_out = open_usable_set(
        path,
        streams=streams,
        layout=layout,
        ground_truth=ground_truth,
        allow_pickle=allow_pickle,
        skip_unusable=skip_unusable,
        splits=splits,
    )
    classes = feature_set.classes
    work = [(split, video) for split in splits for video in feature_set.names[split]]
    videos: dict[str, list[Video]] = {split: [] for split in SPLITS}
    for split, name in tqdm(work, desc="looking at features", unit="video", disable=None):
        entry = feature_set.annotations[name]
        labels = np.array([label in entry.labels for label in classes], np.float32)
        files = FeatureFiles(name, feature_set.storage.find(split, name), streams=streams, feature_size=feature_size)
        videos[split].append(Video(name, labels, files, frame_rate(fps, entry.fps)))
    cache = _choose_cache(cache, list(videos.values()), device)
    kept = {split: _keep(videos[split], cache, device) for split in SPLITS}
    return Dataset(classes, feature_set.annotations, kept["train"], kept["test"], cache, feature_set.layout, left_out)


def _choose_cache(cache: str, splits: list[list[Video]], device: torch.device) -> str:
    """What "auto" means here. Raises InputError when the features do not fit where they are to be."""
    on_device = sum(_elements(videos) * (2 if _all_half(videos) else 4) for videos in splits)
    if cache == "auto":
        free = free_bytes(device) or 0
        cache = "device" if device.type == "cuda" and on_device <= DEVICE_SHARE * free else "ram"
    if cache == "device":
        check_fits(on_device, device, what="--cache device: the features need", instead="give --cache ram or mmap")
    elif cache == "ram":
        needed = sum(video.features.nbytes for videos in splits for video in videos)
        check_fits(needed, torch.device("cpu"), what="the features need", instead="give --cache mmap")
    return cache


def _elements(videos: Iterable[Video]) -> int:
    return sum(video.num_snippets * video.features.shape[1] for video in videos)


def _all_half(videos: Iterable[Video]) -> bool:
    """float16 throughout: then, and only then, features are kept so on a device, where a split is one tensor."""
    return {video.features.dtype for video in videos} == {np.dtype(np.float16)}


def _keep(videos: list[Video], cache: str, device: torch.device) -> Split:
    if cache == "ram":
        progress = tqdm(videos, desc="reading features", unit="video", disable=None)
        videos = [replace(video, features=_loaded(video.features)) for video in progress]
    split = Split(videos)
    if cache == "device" and videos:
        split.on_device = DeviceFeatures(split, device)
    return split


def _loaded(features: NDArray[np.floating] | FeatureFiles) -> NDArray[np.floating]:
    return features if isinstance(features, np.ndarray) else features.load()


def uniform_indices(num_snippets: int, num_segments: int) -> Indices:
    """Test: floor(i * L / T) for i = 0 .. T-1."""
    return np.arange(num_segments) * num_snippets // num_segments


def inference_indices(num_snippets: int, num_segments: int, short_videos: str) -> Indices:
    """Test: uniform to T; with short_videos "keep", all L snippets of a video that has fewer."""
    return uniform_indices(num_snippets, min(num_snippets, num_segments) if short_videos == "keep" else num_segments)


def random_indices(
    num_snippets: int, num_segments: int, generator: np.random.Generator, short_videos: str = "stretch"
) -> Indices:
    """Training: the i-th uniform over the integers floor(i L / T) .. floor((i+1) L / T), the last over .. L-1.

    The identity when L == T. With short_videos "keep" and L < T: T draws with replacement, in the order of time.
    """
    if short_videos == "keep" and num_snippets < num_segments:
        return np.sort(generator.integers(0, num_snippets, num_segments))
    low = uniform_indices(num_snippets, num_segments)
    if num_snippets == num_segments:
        return low
    return generator.integers(low, np.append(low[1:], num_snippets - 1), endpoint=True)


def steps_per_epoch(num_videos: int, batch_size: int, drop_last: bool) -> int:
    return num_videos // batch_size if drop_last else -(-num_videos // batch_size)


def train_batches(
    videos: Split,
    *,
    num_segments: int,
    batch_size: int,
    drop_last: bool,
    seed: int,
    first_step: int,
    last_step: int,
    num_workers: int,
    device: torch.device,
    short_videos: str = "stretch",
) -> Generator[Batch]:
    """The batches of steps first_step .. last_step-1, every epoch in a new order, with randomly drawn snippets.

    A step's batch depends on the seed and the step alone: not on the workers, nor on where a resumed run takes up.
    """

    def draw(key: _SampleKey) -> Indices:
        generator = np.random.default_rng([seed, key.epoch, key.position])
        return random_indices(videos[key.video].num_snippets, num_segments, generator, short_videos)

    def choose(keys: list[_SampleKey]) -> _Choice:
        return [key.video for key in keys], np.stack([draw(key) for key in keys])

    return _batches(
        videos,
        _train_keys(len(videos), batch_size, drop_last, seed, first_step, last_step),
        choose,
        num_workers,
        device,
    )


def test_groups(videos: Split, *, num_segments: int, batch_size: int, short_videos: str) -> list[list[int]]:
    """Positions of the videos of each batch: in order, or with short_videos "keep" by length, since a batch has one T."""
    lengths = [min(video.num_snippets, num_segments) if short_videos == "keep" else num_segments for video in videos]
    order = sorted(range(len(videos)), key=lambda v: lengths[v])
    same_length = (list(group) for _, group in groupby(order, key=lambda v: lengths[v]))
    return [group[i : i + batch_size] for group in same_length for i in range(0, len(group), batch_size)]


def test_batches(
    videos: Split,
    groups: list[list[int]],
    *,
    num_segments: int,
    num_workers: int,
    device: torch.device,
    short_videos: str,
) -> Generator[Batch]:
    """The batches that `test_groups` made, resampled uniformly."""

    def choose(group: list[int]) -> _Choice:
        indices = [inference_indices(videos[v].num_snippets, num_segments, short_videos) for v in group]
        return group, np.stack(indices)

    return _batches(videos, groups, choose, num_workers, device)


test_groups.__test__ = False  # type: ignore[attr-defined]  # no tests, whatever pytest makes of their names
test_batches.__test__ = False  # type: ignore[attr-defined]


def _batches(
    videos: Split, keys: Iterable[_Key], choose: Callable[[_Key], _Choice], threads: int, device: torch.device
) -> Generator[Batch]:
    """The part of the work that needs no device is done ahead, in threads."""
    store, pinned = videos.on_device, device.type == "cuda"

    def prepare(key: _Key) -> tuple[Tensor, Tensor, list[Video]]:
        positions, indices = choose(key)
        chosen = [videos[p] for p in positions]
        labels = torch.from_numpy(np.stack([video.labels for video in chosen]))
        if store:
            rows = torch.from_numpy(indices + store.first[positions, None])
            return (rows.pin_memory(), labels.pin_memory(), chosen) if pinned else (rows, labels, chosen)
        features = torch.empty(*indices.shape, chosen[0].features.shape[1], pin_memory=pinned)
        for video, index, out in zip(chosen, indices, features.numpy(), strict=True):
            video.sample(index, out)
        return features, labels.pin_memory() if pinned else labels, chosen

    for host, labels, chosen in prefetch(prepare, keys, threads=threads):
        yield Batch(
            store.sample(host) if store else host.to(device, non_blocking=True),
            labels.to(device, non_blocking=True),
            tuple(video.video_id for video in chosen),
            tuple(video.num_snippets for video in chosen),
        )


class _SampleKey(NamedTuple):
    """One draw of one video in training: what is drawn depends on this and the seed alone, not on who draws it."""

    epoch: int
    position: int
    video: int


def _train_keys(
    num_videos: int, batch_size: int, drop_last: bool, seed: int, first_step: int, last_step: int
) -> Iterator[list[_SampleKey]]:
    """For every step the keys of its batch."""
    steps = steps_per_epoch(num_videos, batch_size, drop_last)
    order_epoch, order = -1, np.zeros(0, np.int64)
    for step in range(first_step, last_step):
        epoch, index = divmod(step, steps)
        if epoch != order_epoch:
            order_epoch, order = epoch, np.random.default_rng([seed, epoch]).permutation(num_videos)
        first = index * batch_size
        chosen = order[first : first + batch_size].tolist()
        yield [_SampleKey(epoch, first + i, video) for i, video in enumerate(chosen)]
