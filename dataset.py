"""Two-stream features with video-level labels, in the "thumos" layout, and the batches made of them.

    DATA_PATH/gt.json, split_train.txt, split_test.txt, features/{train,test}/{rgb,flow}/VIDEO.npy     [L,1024] each

    data = load_dataset(path, streams=("rgb", "flow"), feature_size=1024, cache="ram", device=device)
    for batch in train_batches(data.train, ...): batch.features      # [B,T,D] on the device

Features stay on the device that trains (cache "device"), in memory ("ram"), or in their files ("mmap").
"""

import pathlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from utils.annotations import VideoAnnotation, class_names, read_annotations
from utils.arrays import Indices
from utils.errors import InputError
from utils.feature_files import FeatureFiles
from utils.memory import check_fits, free_bytes
from utils.prefetch import prefetch
from utils.resample import random_indices, uniform_indices

SPLITS = ("train", "test")
_Choice = tuple[list[int], Indices]  # positions of a batch's videos [B], and their snippets [B,T]
_Key = TypeVar("_Key")

# With --cache auto, features that take more than this share of the free memory of a GPU stay off it: the model needs the rest.
DEVICE_SHARE = 0.5


@dataclass(frozen=True)
class Video:
    video_id: str
    labels: NDArray[np.float32]  # [C] multi-hot
    features: NDArray[np.floating] | FeatureFiles  # [L,D], streams side by side

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
) -> Dataset:
    """Read and check everything. The class list is every label in gt.json, sorted. Splits not asked for stay empty.

    Values are checked as they are read: now, or with cache "mmap" when they are first needed. Raises InputError naming the
    file, the video and what to do, or the bytes that a cache needs and those that are free.
    """
    if not path.is_dir():
        raise InputError(f"--data_path {path}: no such folder; give the folder that holds gt.json and features/")
    annotations = read_annotations(path / "gt.json")
    names = {split: _read_split(path / f"split_{split}.txt") for split in SPLITS}
    _check_splits(path, annotations, names)
    classes = class_names(annotations)
    paths = {s: [_feature_files(path, s, v, streams) for v in names[s]] for s in splits}
    _check_present([file for split in paths.values() for video in split for file in video])
    work = [(split, video, files) for split in splits for video, files in zip(names[split], paths[split], strict=True)]
    videos: dict[str, list[Video]] = {split: [] for split in SPLITS}
    for split, name, files in tqdm(work, desc="looking at features", unit="video", disable=None):
        labels = np.array([label in annotations[name].labels for label in classes], np.float32)
        videos[split].append(Video(name, labels, FeatureFiles(files, feature_size)))
    cache = _choose_cache(cache, list(videos.values()), device)
    kept = {split: _keep(videos[split], cache, device) for split in SPLITS}
    return Dataset(classes, annotations, kept["train"], kept["test"], cache)


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
        videos = [Video(v.video_id, v.labels, _loaded(v.features)) for v in progress]
    split = Split(videos)
    if cache == "device" and videos:
        split.on_device = DeviceFeatures(split, device)
    return split


def _loaded(features: NDArray[np.floating] | FeatureFiles) -> NDArray[np.floating]:
    return features if isinstance(features, np.ndarray) else features.load()


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
) -> Generator[Batch]:
    """The batches of steps first_step .. last_step-1, every epoch in a new order, with randomly drawn snippets.

    A step's batch depends on the seed and the step alone: not on the workers, nor on where a resumed run takes up.
    """

    def draw(key: _SampleKey) -> Indices:
        generator = np.random.default_rng([seed, key.epoch, key.position])
        return random_indices(videos[key.video].num_snippets, num_segments, generator)

    def choose(keys: list[_SampleKey]) -> _Choice:
        return [key.video for key in keys], np.stack([draw(key) for key in keys])

    return _batches(
        videos,
        _train_keys(len(videos), batch_size, drop_last, seed, first_step, last_step),
        choose,
        num_workers,
        device,
    )


def test_batches(
    videos: Split, *, num_segments: int, batch_size: int, num_workers: int, device: torch.device
) -> Generator[Batch]:
    """Every video once, in order, resampled uniformly."""

    def choose(first: int) -> _Choice:
        chosen = range(first, min(first + batch_size, len(videos)))
        return list(chosen), np.stack([uniform_indices(videos[v].num_snippets, num_segments) for v in chosen])

    return _batches(videos, range(0, len(videos), batch_size), choose, num_workers, device)


test_batches.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest makes of its name


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


def _read_split(path: pathlib.Path) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: can't be read ({reason}); expected one video name a line") from None
    if not names:
        raise InputError(f"{path}: names no video")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{path}: video '{name}' is listed twice; remove one")
        seen.add(name)
    return names


def _check_splits(
    path: pathlib.Path, annotations: dict[str, VideoAnnotation], names: dict[str, tuple[str, ...]]
) -> None:
    gt = path / "gt.json"
    both = set(names["train"]) & set(names["test"])
    if both:
        raise InputError(
            f"{path}: video '{min(both)}' is in both split_train.txt and split_test.txt; remove it from one"
        )
    for split, videos in names.items():
        for video in videos:
            if video not in annotations:
                raise InputError(f"{path / f'split_{split}.txt'}: video '{video}' is not in {gt}; add it or remove it")
            other = next(s for s in SPLITS if s != split)
            subset = annotations[video].subset
            if subset.lower() == other:
                raise InputError(
                    f"{gt}: video '{video}' has subset '{subset}' but is listed in split_{split}.txt; mend either"
                )
    listed = set(names["train"]) | set(names["test"])
    for video, entry in annotations.items():
        if entry.instances and video not in listed:
            raise InputError(
                f"{gt}: annotated video '{video}' is in no split file; list it there or remove it from {gt}"
            )
    for video in names["train"]:
        if not annotations[video].labels:
            raise InputError(
                f"{gt}: training video '{video}' has no labels; annotate it or drop it from split_train.txt"
            )
    if not any(annotations[video].labels for video in names["test"]):
        raise InputError(f"{gt}: no test video has annotations, so there is nothing to evaluate against")
    learnable = {label for video in names["train"] for label in annotations[video].labels}
    for video in names["test"]:
        unknown = annotations[video].labels - learnable
        if unknown:
            raise InputError(
                f"{gt}: test video '{video}' has the label '{min(unknown)}', which no training video has; "
                "mend the spelling or remove it"
            )


def _feature_files(path: pathlib.Path, split: str, video: str, streams: tuple[str, ...]) -> tuple[pathlib.Path, ...]:
    return tuple(path / "features" / split / stream / f"{video}.npy" for stream in streams)


def _check_present(files: list[pathlib.Path]) -> None:
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}: no such feature file{more}; see the README for the layout")
