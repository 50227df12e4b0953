"""Two-stream features with video-level labels, in any layout of formats/, and the batches made of them.

    data = load_dataset(path, options.data, device=device)
    for batch in train_batches(data.train, options.data, ...): batch.features      # Snippets [B,T,D] on the device

Features are kept on the device that trains (cache "device"), in memory ("ram"), or in their files ("mmap").
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from command_line.console import not_a_program

    not_a_program("dataset.py", run="python main.py --check_data")

import pathlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from command_line.progress import progress
from formats.annotations import VideoAnnotation, labels_of
from formats.feature_files import FeatureFiles
from formats.inspection import InspectedSet, inspect_set
from formats.left_out import Cause, Reason
from formats.names import SPLITS, amount
from layers.snippets import Part, Placement, Snippets
from options import DataOptions, OptimisationOptions
from utils.errors import InputError
from utils.memory import check_fits, free_bytes
from utils.prefetch import prefetch
from utils.processors import usable_cpus
from utils.segments import Indices
from utils.snippet_grid import frame_rate

_Choice = tuple[list[int], Indices]  # positions of a batch's videos [B], and of their snippets [B,T]
_Prepared = tuple[
    Callable[[], Snippets], Tensor, list["Video"]
]  # of a batch: its features, once called for, and labels

MOST_READERS = 8  # threads that read a set into memory; more would wait for the memory

# With --cache auto, features that need more than this share of a GPU's free memory stay off it: the model needs the rest.
DEVICE_SHARE = 0.5

# Follows the seed of what draws held-out videos: epochs and positions, which follow it elsewhere, are two numbers.
HELD_OUT_STREAM = (0, 0, 1)

# Distinct snippets that are computed together, in test: enough to be fast, few enough that memory does not grow with batches.
PART_ROWS = 2048


@dataclass(frozen=True, kw_only=True)
class Video:
    video_id: str
    labels: NDArray[np.float32]  # [C] multi-hot
    features: NDArray[np.floating] | FeatureFiles  # [L,D], streams side by side
    fps: float  # frame rate the features were extracted at
    duration: float | None = None  # seconds, as the ground truth states it
    files: tuple[pathlib.Path, ...] = ()  # that hold the features

    @property
    def num_snippets(self) -> int:
        return len(self.features)

    def sample(self, indices: Indices, out: NDArray[np.float32]) -> None:
        """Put the snippets at `indices` [T] into out [T,D]."""
        if isinstance(self.features, np.ndarray) and self.features.dtype == out.dtype:
            np.take(self.features, indices, axis=0, out=out, mode="clip")  # other modes make a copy first
        else:
            out[:] = self.features[indices]


class Store(Protocol):
    """The place of a split's features, from which those of a batch reach the device."""

    device: torch.device

    def prepare(self, positions: Sequence[int], indices: Indices) -> Callable[[], Snippets]:
        """Do the part of the work that needs no device, for videos [B] and their snippets [B,T].

        The returned function does the rest: features [B,T,D], float32, on the device.
        """

    def look(self, position: int, indices: Indices) -> NDArray[np.float32]:
        """The snippets at `indices` of one video [n,D], on the host."""


class HostStore:
    """Features in memory or in files. On a CPU a batch has each snippet once, on a GPU all T: its shapes never change."""

    def __init__(self, videos: Sequence[Video], device: torch.device) -> None:
        self.videos, self.device = videos, device

    def prepare(self, positions: Sequence[int], indices: Indices) -> Callable[[], Snippets]:
        videos = [self.videos[position] for position in positions]
        if self.device.type == "cuda":
            features = torch.empty(*indices.shape, videos[0].features.shape[1], pin_memory=True)
            for video, index, out in zip(videos, indices, features.numpy(), strict=True):
                video.sample(index, out)
            return lambda: Snippets.of(features.to(self.device, non_blocking=True))
        parts = [
            _part([videos[i] for i in group], chosen, placed) for group, chosen, placed in distinct_snippets(indices)
        ]
        return lambda: Snippets(tuple(parts))

    def look(self, position: int, indices: Indices) -> NDArray[np.float32]:
        video = self.videos[position]
        features = np.empty((len(indices), video.features.shape[1]), np.float32)
        video.sample(indices, features)
        return features


def distinct_snippets(indices: Indices) -> Iterator[tuple[range, list[Indices], Placement]]:
    """Some neighbours of a batch [B,T] at a time: their distinct snippets, video by video, and where these are placed."""
    distinct = [np.unique(index, return_inverse=True) for index in indices]
    for group in grouped([len(chosen) for chosen, _ in distinct], most=PART_ROWS):
        ends = np.cumsum([len(distinct[i][0]) for i in group])
        first = np.append(0, ends[:-1])
        placement = Placement(np.stack([distinct[i][1] for i in group]) + first[:, None], int(ends[-1]))
        yield group, [distinct[i][0] for i in group], placement


def _part(videos: Sequence[Video], distinct: Sequence[Indices], placement: Placement) -> Part:
    """The distinct snippets of some videos. One video that is used whole is not copied."""
    features = videos[0].features
    whole = len(videos) == 1 and len(features) == placement.num_rows
    if whole and isinstance(features, np.ndarray) and features.dtype == np.float32 and features.flags.carray:
        return Part(torch.from_numpy(features), placement)  # an array that is not writeable, torch would warn of
    rows = np.empty((placement.num_rows, features.shape[1]), np.float32)
    first = 0
    for video, chosen in zip(videos, distinct, strict=True):
        video.sample(chosen, rows[first : first + len(chosen)])
        first += len(chosen)
    return Part(torch.from_numpy(rows), placement)


def grouped(sizes: Sequence[int], *, most: int) -> list[range]:
    """Neighbours in groups whose sizes add up to at most `most`, or that have one member."""
    groups, first, total = list[range](), 0, 0
    for i, size in enumerate(sizes):
        if i > first and total + size > most:
            groups.append(range(first, i))
            first, total = i, 0
        total += size
    return [*groups, range(first, len(sizes))]


class DeviceStore:
    """The features of all videos as rows of one tensor on the device: a batch is a selection of rows."""

    def __init__(self, videos: Sequence[Video], device: torch.device) -> None:
        self.device = device
        dtype = torch.float16 if _all_half(videos) else torch.float32
        lengths = np.array([video.num_snippets for video in videos], np.int64)
        self.first = np.cumsum(lengths) - lengths  # [V] first row of each video
        self.rows = torch.empty(int(lengths.sum()), videos[0].features.shape[1], dtype=dtype, device=device)
        for first, features in zip(self.first.tolist(), _read(videos, desc=f"features to {device}"), strict=True):
            self.rows[first : first + len(features)] = torch.from_numpy(features)

    def prepare(self, positions: Sequence[int], indices: Indices) -> Callable[[], Snippets]:
        if self.device.type == "cuda":
            numbers = torch.from_numpy(indices + self.first[positions, None]).pin_memory()
            return lambda: Snippets.of(self._select(numbers.flatten()).view(*numbers.shape, -1))
        first = self.first[list(positions)]
        parts = [
            (torch.from_numpy(np.concatenate([first[i] + rows for i, rows in zip(group, chosen, strict=True)])), placed)
            for group, chosen, placed in distinct_snippets(indices)
        ]
        return lambda: Snippets(tuple(Part(self._select(numbers), placed) for numbers, placed in parts))

    def _select(self, numbers: Tensor) -> Tensor:
        return self.rows.index_select(0, numbers.to(self.device, non_blocking=True)).float()

    def look(self, position: int, indices: Indices) -> NDArray[np.float32]:
        rows = torch.from_numpy(indices + self.first[position]).to(self.device)
        features: NDArray[np.float32] = self.rows.index_select(0, rows).float().cpu().numpy()
        return features


@dataclass(frozen=True, kw_only=True)
class Split:
    """The videos of a split, and where their features are."""

    videos: tuple[Video, ...]
    store: Store

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[Video]:
        return iter(self.videos)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(video.video_id for video in self.videos)


class ChosenStore:
    """Some videos of a store, by their positions in it."""

    def __init__(self, store: Store, chosen: Sequence[int]) -> None:
        self.store, self.chosen, self.device = store, chosen, store.device

    def prepare(self, positions: Sequence[int], indices: Indices) -> Callable[[], Snippets]:
        return self.store.prepare([self.chosen[position] for position in positions], indices)

    def look(self, position: int, indices: Indices) -> NDArray[np.float32]:
        return self.store.look(self.chosen[position], indices)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    classes: tuple[str, ...]
    annotations: dict[str, VideoAnnotation]
    train: Split
    test: Split
    held_out: Split | None = None  # training videos that are not trained on, but choose the model (`hold_out`)
    cache: str  # where the features are: device, ram or mmap
    layout: str  # how they lie on disk
    left_out: dict[str, int]  # reason -> number of videos or segments left out
    notes: tuple[str, ...] = ()  # what is unusual about the set, and was read as it must be meant

    @property
    def videos(self) -> tuple[Video, ...]:
        return *self.train, *(self.held_out or ()), *self.test


class Batch(NamedTuple):
    features: Snippets  # [B,T,D]
    labels: Tensor  # [B,C]
    video_ids: tuple[str, ...]
    num_snippets: tuple[int, ...]  # before resampling
    fps: tuple[float, ...]
    durations: tuple[float | None, ...]  # seconds, as the ground truth states them
    partner: Snippets | None = None  # [1,T,D] what the first video is mixed up with, where that is another rank's
    taught: Tensor | None = None  # [B,T,C] what snippets are to learn of classes (self_training.py)
    step_videos: tuple[str, ...] = ()  # of the step, of all ranks; none in test


def load_dataset(
    path: pathlib.Path,
    options: DataOptions,
    *,
    device: torch.device,
    splits: tuple[str, ...] = SPLITS,
    classes: tuple[str, ...] | None = None,
    inspected: InspectedSet | None = None,
) -> Dataset:
    """Read and check everything. The classes are the labels of all videos in a split, sorted. Other splits stay empty.

    A trained model's `classes` come first, in its order; of the labels, only those of `splits` that it does not know follow.
    `inspected`: what inspect_set has found of these `splits` before, with options that are `inspected_alike`.

    `options.fps` is the frame rate of all features; None takes each video's own from the ground truth, DEFAULT_FPS where it
    has none. `options.skip_unusable` leaves out what would otherwise be refused: videos without features, empty segments.
    Values are checked as they are read: now, or with cache "mmap" when they are first needed. Raises InputError naming the
    file, the video and what to do, or the bytes that a cache needs and those that are free.
    """
    inspected = inspected or inspect_set(path, options, splits=splits)
    feature_set, left_out = inspected.feature_set, dict(inspected.left_out)
    if classes is None:
        classes = feature_set.classes
    else:
        labels = labels_of(feature_set.annotations, [video for split in splits for video in feature_set.names[split]])
        classes = (*classes, *sorted(labels - set(classes)))
    videos = {
        split: [_video(name, files, feature_set.annotations[name], classes, options) for name, files in found.items()]
        for split, found in inspected.files.items()
    }
    if len(videos["train"]) < len(feature_set.names["train"]) and "train" in splits:
        trained = labels_of(feature_set.annotations, [video.video_id for video in videos["train"]])
        left_out[str(Reason(cause=Cause.UNTRAINED_CLASS))] = len(set(classes) - trained)
    cache = _choose_cache(options.cache, list(videos.values()), device)
    made = {split: _make_split(videos[split], cache, device) for split in SPLITS}
    return Dataset(
        classes=classes,
        annotations=feature_set.annotations,
        train=made["train"],
        test=made["test"],
        cache=cache,
        layout=feature_set.layout,
        notes=tuple(dict.fromkeys(note for split in splits if (note := feature_set.storage.by_split[split].note))),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _video(
    name: str, files: FeatureFiles, entry: VideoAnnotation, classes: Sequence[str], options: DataOptions
) -> Video:
    return Video(
        video_id=name,
        labels=np.array([label in entry.labels for label in classes], np.float32),
        features=files,
        fps=frame_rate(options.fps, entry.fps),
        duration=entry.duration,
        files=files.paths,
    )


def _choose_cache(cache: str, splits: list[list[Video]], device: torch.device) -> str:
    """Resolve "auto". Raises InputError when the features do not fit where they are to be kept."""
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
    """Whether all features are float16: only then are they kept so on a device, where a split is one tensor."""
    return {video.features.dtype for video in videos} == {np.dtype(np.float16)}


def _make_split(videos: Sequence[Video], cache: str, device: torch.device) -> Split:
    if cache == "ram":
        loaded = _read(videos, desc="reading features")
        videos = [replace(video, features=features) for video, features in zip(videos, loaded, strict=True)]
    store = DeviceStore(videos, device) if cache == "device" and videos else HostStore(videos, device)
    return Split(videos=tuple(videos), store=store)


def _read(videos: Sequence[Video], *, desc: str) -> Iterator[NDArray[np.floating]]:
    """The features of one video after another, read by threads ahead of the caller."""
    loaded = prefetch(_in_memory, [video.features for video in videos], threads=readers())
    return progress(loaded, desc=desc, unit="video", total=len(videos))


def readers() -> int:
    """The number of threads that go through a set's features."""
    return min(usable_cpus(), MOST_READERS)


def _in_memory(features: NDArray[np.floating] | FeatureFiles) -> NDArray[np.floating]:
    return features if isinstance(features, np.ndarray) else features.load()


def hold_out(data: Dataset, *, share: float, seed: int) -> Dataset:
    """The set with some training videos in `held_out` instead of `train`. Raises what `held_out_positions` does."""
    held = held_out_positions(np.stack([video.labels for video in data.train]) > 0, share=share, seed=seed)
    kept = sorted(set(range(len(data.train))) - set(held))
    return replace(data, train=_chosen(data.train, kept), held_out=_chosen(data.train, held))


def held_out_positions(labels: NDArray[np.bool_], *, share: float, seed: int) -> list[int]:
    """Positions, ascending, of `share` of the videos with labels [V,C], rounded, at least one, drawn by the seed.

    Videos are taken in a random order, but for those without which a class would have none. Raises InputError when too few
    are left.
    """
    wanted, left, held = max(1, round(share * len(labels))), labels.sum(0), list[int]()
    for v in np.random.default_rng([seed, *HELD_OUT_STREAM]).permutation(len(labels)).tolist():
        if len(held) < wanted and (left[labels[v]] > 1).all():
            held.append(v)
            left = left - labels[v]
    if len(held) < wanted:
        advice = "lower it, or give --select last" if held else "give --select last"
        raise InputError(
            f"--val_share {share:g}: of {amount(len(labels), 'training video')} {wanted} would be held out, but "
            f"{len(held)} can be, if every class is to keep one; {advice}"
        )
    return sorted(held)


def _chosen(split: Split, positions: Sequence[int]) -> Split:
    videos = tuple(split.videos[position] for position in positions)
    return Split(videos=videos, store=ChosenStore(split.store, positions))


# Resampling: which of a video's L snippets represent it (docs/method.md, section 1)


def uniform_indices(num_snippets: int, num_segments: int) -> Indices:
    """Test: floor(i * L / T) for i = 0 .. T-1."""
    return np.arange(num_segments) * num_snippets // num_segments


def inference_indices(num_snippets: int, num_segments: int, *, short_videos: str) -> Indices:
    """Test: uniform to T; with short_videos "keep", all L snippets of a video that has fewer."""
    return uniform_indices(num_snippets, min(num_snippets, num_segments) if short_videos == "keep" else num_segments)


def random_indices(
    num_snippets: int, num_segments: int, generator: np.random.Generator, *, short_videos: str
) -> Indices:
    """Training: the i-th uniform over the integers floor(i L / T) .. floor((i+1) L / T), the last over .. L-1.

    The identity when L == T. With short_videos "keep" and L < T: T draws with replacement, in temporal order.
    """
    if short_videos == "keep" and num_snippets < num_segments:
        return np.sort(generator.integers(0, num_snippets, num_segments))
    low = uniform_indices(num_snippets, num_segments)
    if num_snippets == num_segments:
        return low
    return generator.integers(low, np.append(low[1:], num_snippets - 1), endpoint=True)


# Batches


def train_batch_sizes(split: Split, optimisation: OptimisationOptions) -> list[int]:
    """The batch sizes that occur in training."""
    sizes = _batch_sizes(len(split), optimisation.batch_size)
    return sizes[:1] if optimisation.drop_last else sizes


def inference_batch_sizes(split: Split, options: DataOptions, *, batch_size: int) -> list[int]:
    """The batch sizes that occur in test, of videos that are resampled to T snippets."""
    keep = options.short_videos == "keep"
    resampled = sum(not keep or video.num_snippets >= options.num_segments for video in split)
    return _batch_sizes(resampled, batch_size)


def _batch_sizes(videos: int, batch_size: int) -> list[int]:
    """The size of full batches, and of the last one."""
    return [size for size in (min(batch_size, videos), videos % batch_size) if size]


@dataclass(frozen=True)
class Share:
    """The part of every batch that one of several ranks takes: neighbours, of as equal number as there can be."""

    rank: int = 0
    ranks: int = 1
    mixes: bool = True  # whether a video is mixed up with the one before it, which another rank may have

    def counts(self, videos: int) -> list[int]:
        """Videos of a batch that each rank takes; the first ranks take one more where it does not come out even."""
        return [videos // self.ranks + (rank < videos % self.ranks) for rank in range(self.ranks)]

    def of(self, videos: int) -> range:
        """Positions in a batch of those that this rank takes."""
        counts = self.counts(videos)
        first = sum(counts[: self.rank])
        return range(first, first + counts[self.rank])


WHOLE_BATCH = Share()


def train_batches(
    split: Split,
    options: DataOptions,
    *,
    optimisation: OptimisationOptions,
    seed: int,
    first_step: int,
    last_step: int,
    share: Share = WHOLE_BATCH,
) -> Generator[Batch]:
    """The batches of steps first_step .. last_step-1, every epoch in a new order, with randomly drawn snippets.

    A step's batch depends on the seed and the step alone: not on the workers, nor on where a run was resumed, nor on the ranks
    that share it. A rank's part has no videos where there are more ranks than videos.
    """

    def draw(key: _SampleKey) -> Indices:
        generator = np.random.default_rng([seed, key.epoch, key.position])
        length = split.videos[key.video].num_snippets
        return random_indices(length, options.num_segments, generator, short_videos=options.short_videos)

    def choose(keys: list[_SampleKey]) -> _Choice:
        drawn = [draw(key) for key in keys]
        return [key.video for key in keys], np.stack(drawn) if drawn else np.zeros((0, options.num_segments), np.int64)

    prepare = _preparer(split)

    def prepare_share(keys: list[_SampleKey]) -> tuple[_Prepared, _Prepared | None, list[_SampleKey]]:
        own = share.of(len(keys))
        partner = [keys[own.start - 1]] if own and share.ranks > 1 and share.mixes else []
        prepared = prepare(*choose([keys[i] for i in own]))
        return prepared, prepare(*choose(partner)) if partner else None, keys

    keys = _train_keys(len(split), optimisation=optimisation, seed=seed, first_step=first_step, last_step=last_step)
    for prepared, partner, step in prefetch(prepare_share, keys, threads=options.num_workers):
        names = tuple(split.videos[key.video].video_id for key in step)
        yield _delivered(split, prepared)._replace(partner=partner[0]() if partner else None, step_videos=names)


def inference_groups(split: Split, options: DataOptions, *, batch_size: int) -> list[list[int]]:
    """Positions of each batch's videos: in order, or with short_videos "keep" by length, since a batch has one T."""
    t, keep = options.num_segments, options.short_videos == "keep"
    lengths = [min(video.num_snippets, t) if keep else t for video in split]
    order = sorted(range(len(split)), key=lambda v: lengths[v])
    same_length = (list(group) for _, group in groupby(order, key=lambda v: lengths[v]))
    return [group[i : i + batch_size] for group in same_length for i in range(0, len(group), batch_size)]


def inference_batches(split: Split, groups: Iterable[list[int]], options: DataOptions) -> Generator[Batch]:
    """The batches that `inference_groups` made, resampled uniformly."""

    def choose(group: list[int]) -> _Choice:
        lengths = [split.videos[v].num_snippets for v in group]
        indices = [inference_indices(n, options.num_segments, short_videos=options.short_videos) for n in lengths]
        return group, np.stack(indices)

    prepare = _preparer(split)
    for prepared in prefetch(lambda group: prepare(*choose(group)), groups, threads=options.num_workers):
        yield _delivered(split, prepared)


def _preparer(split: Split) -> Callable[[list[int], Indices], _Prepared]:
    """The part of the work on a batch that needs no device, and is done ahead, in threads."""
    store = split.store
    pinned = store.device.type == "cuda"

    def prepare(positions: list[int], indices: Indices) -> _Prepared:
        videos = [split.videos[position] for position in positions]
        labels = torch.from_numpy(np.array([video.labels for video in videos], np.float32))
        features = store.prepare(positions, indices) if positions else lambda: Snippets(())
        return features, labels.pin_memory() if pinned else labels, videos

    return prepare


def _delivered(split: Split, prepared: _Prepared) -> Batch:
    """The batch, on the device."""
    deliver, labels, videos = prepared
    return Batch(
        features=deliver(),
        labels=labels.to(split.store.device, non_blocking=True),
        video_ids=tuple(video.video_id for video in videos),
        num_snippets=tuple(video.num_snippets for video in videos),
        fps=tuple(video.fps for video in videos),
        durations=tuple(video.duration for video in videos),
    )


class _SampleKey(NamedTuple):
    """One draw of one video in training: the snippets drawn depend on it and the seed alone."""

    epoch: int
    position: int
    video: int


def _train_keys(
    num_videos: int, *, optimisation: OptimisationOptions, seed: int, first_step: int, last_step: int
) -> Iterator[list[_SampleKey]]:
    """The keys of every step's batch."""
    steps, batch_size = optimisation.steps_per_epoch(num_videos), optimisation.batch_size
    order_epoch, order = -1, np.zeros(0, np.int64)
    for step in range(first_step, last_step):
        epoch, index = divmod(step, steps)
        if epoch != order_epoch:
            order_epoch, order = epoch, np.random.default_rng([seed, epoch]).permutation(num_videos)
        first = index * batch_size
        chosen = order[first : first + batch_size].tolist()
        yield [_SampleKey(epoch, first + i, video) for i, video in enumerate(chosen)]
