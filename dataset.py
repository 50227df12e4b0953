"""Two-stream features with video-level labels, in the "thumos" layout, and the batches made of them.

    DATA_PATH/gt.json, split_train.txt, split_test.txt, features/{train,test}/{rgb,flow}/VIDEO.npy     [L,1024] each

    data = load_dataset(path, streams=("rgb", "flow"), feature_size=1024, cache="ram")
    for batch in train_batches(data.train, ...): batch.features      # [B,T,D]

Features are read and checked once, then kept in memory (cache "ram") or memory-mapped ("mmap").
"""

import pathlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from utils.annotations import VideoAnnotation, class_names, read_annotations
from utils.errors import InputError
from utils.resample import random_indices, uniform_indices

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Video:
    video_id: str
    labels: NDArray[np.float32]  # [C] multi-hot
    streams: tuple[NDArray[np.floating], ...]  # [L,channels] each

    @property
    def num_snippets(self) -> int:
        return len(self.streams[0])

    def sample(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """The snippets at `indices` [T], streams side by side: [T,D]."""
        return np.concatenate([stream[indices] for stream in self.streams], axis=1, dtype=np.float32)


@dataclass(frozen=True)
class Dataset:
    classes: tuple[str, ...]
    annotations: dict[str, VideoAnnotation]
    train: tuple[Video, ...]
    test: tuple[Video, ...]


class Batch(NamedTuple):
    features: Tensor  # [B,T,D]
    labels: Tensor  # [B,C]
    video_ids: tuple[str, ...]
    num_snippets: tuple[int, ...]

    def to(self, device: torch.device) -> "Batch":
        return self._replace(
            features=self.features.to(device, non_blocking=True), labels=self.labels.to(device, non_blocking=True)
        )


class SampleKey(NamedTuple):
    """One draw of one video in training: what is drawn depends on this and the seed alone, not on who draws it."""

    epoch: int
    position: int
    video: int


def load_dataset(
    path: pathlib.Path, *, streams: tuple[str, ...], feature_size: int, cache: str, splits: tuple[str, ...] = SPLITS
) -> Dataset:
    """Read and check everything. The class list is every label in gt.json, sorted. Splits not asked for stay empty.

    Raises InputError naming the file, the video and what to do.
    """
    if not path.is_dir():
        raise InputError(f"--data_path {path}: no such folder; give the folder that holds gt.json and features/")
    annotations = read_annotations(path / "gt.json")
    names = {split: _read_split(path / f"split_{split}.txt") for split in SPLITS}
    _check_splits(path, annotations, names)
    classes = class_names(annotations)
    files = {s: [_feature_files(path, s, v, streams) for v in names[s]] for s in splits}
    _check_present([file for split in files.values() for video in split for file in video])
    videos: dict[str, list[Video]] = {split: [] for split in SPLITS}
    work = [(split, video, paths) for split in splits for video, paths in zip(names[split], files[split], strict=True)]
    for split, video, paths in tqdm(work, desc="reading features", unit="video", disable=None):
        arrays = tuple(_read_features(file, feature_size, cache) for file in paths)
        lengths = {len(array) for array in arrays}
        if len(lengths) > 1:
            shapes = ", ".join(f"{file} has {len(array)}" for file, array in zip(paths, arrays, strict=True))
            raise InputError(f"video '{video}': streams of different length in snippets: {shapes}; extract them again")
        labels = np.array([name in annotations[video].labels for name in classes], np.float32)
        videos[split].append(Video(video, labels, arrays))
    return Dataset(classes, annotations, tuple(videos["train"]), tuple(videos["test"]))


def steps_per_epoch(num_videos: int, batch_size: int, drop_last: bool) -> int:
    return num_videos // batch_size if drop_last else -(-num_videos // batch_size)


def train_batches(
    videos: tuple[Video, ...],
    *,
    num_segments: int,
    batch_size: int,
    drop_last: bool,
    seed: int,
    first_step: int,
    last_step: int,
    num_workers: int,
    pin_memory: bool,
) -> Iterator[Batch]:
    """The batches of steps first_step .. last_step-1, every epoch in a new order, with randomly drawn snippets.

    A step's batch depends on the seed and the step alone: not on the workers, nor on where a resumed run takes up.
    """
    keys = _TrainKeys(len(videos), batch_size, drop_last, seed, first_step, last_step)
    loader = DataLoader(
        _TrainSamples(videos, num_segments, seed),
        batch_sampler=keys,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_interrupts,
        multiprocessing_context="fork" if num_workers else None,  # shares the features; other ways would copy them
        # The loader draws its workers' seeds from this generator, and so leaves the global one alone.
        generator=torch.Generator(),
    )
    return iter(loader)


def test_batches(videos: tuple[Video, ...], *, num_segments: int, batch_size: int) -> Iterator[Batch]:
    """Every video once, in order, resampled uniformly."""
    for first in range(0, len(videos), batch_size):
        chosen = videos[first : first + batch_size]
        yield collate([(v, v.sample(uniform_indices(v.num_snippets, num_segments))) for v in chosen])


test_batches.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest makes of its name


def collate(samples: list[tuple[Video, NDArray[np.float32]]]) -> Batch:
    """Videos and their resampled features [T,D] each -> Batch."""
    videos, features = zip(*samples, strict=True)
    return Batch(
        torch.from_numpy(np.stack(features)),
        torch.from_numpy(np.stack([v.labels for v in videos])),
        tuple(v.video_id for v in videos),
        tuple(v.num_snippets for v in videos),
    )


def _ignore_interrupts(_: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach the workers too; only the training process, which still wants its batch, may
    act on them. Workers end with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _TrainSamples(TorchDataset[tuple[Video, NDArray[np.float32]]]):
    def __init__(self, videos: tuple[Video, ...], num_segments: int, seed: int) -> None:
        self.videos, self.num_segments, self.seed = videos, num_segments, seed

    def __getitem__(self, key: SampleKey) -> tuple[Video, NDArray[np.float32]]:
        video = self.videos[key.video]
        generator = np.random.default_rng([self.seed, key.epoch, key.position])
        return video, video.sample(random_indices(video.num_snippets, self.num_segments, generator))


class _TrainKeys:
    """The batch sampler: for every step the keys of its batch."""

    def __init__(
        self, num_videos: int, batch_size: int, drop_last: bool, seed: int, first_step: int, last_step: int
    ) -> None:
        self.num_videos, self.batch_size, self.seed = num_videos, batch_size, seed
        self.first_step, self.last_step = first_step, last_step
        self.steps_per_epoch = steps_per_epoch(num_videos, batch_size, drop_last)

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order_epoch, order = -1, np.zeros(0, np.int64)
        for step in range(self.first_step, self.last_step):
            epoch, index = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order_epoch, order = epoch, np.random.default_rng([self.seed, epoch]).permutation(self.num_videos)
            first = index * self.batch_size
            chosen = order[first : first + self.batch_size].tolist()
            yield [SampleKey(epoch, first + i, video) for i, video in enumerate(chosen)]


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


def _feature_files(path: pathlib.Path, split: str, video: str, streams: tuple[str, ...]) -> list[pathlib.Path]:
    return [path / "features" / split / stream / f"{video}.npy" for stream in streams]


def _check_present(files: list[pathlib.Path]) -> None:
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}: no such feature file{more}; see the README for the layout")


def _read_features(path: pathlib.Path, feature_size: int, cache: str) -> NDArray[np.floating]:
    array = _load_npy(path, mmap=cache == "mmap")
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"{path}: an array of {array.dtype}, expected float32 or float16")
    if array.ndim != 2 or array.shape[1] != feature_size:
        raise InputError(
            f"{path}: shape {array.shape}, expected [snippets, {feature_size}]; see --feature_size and --modal"
        )
    if len(array) == 0:
        raise InputError(f"{path}: no snippets; extract it again or drop the video")
    with np.errstate(over="ignore"):  # batches are float32, where a large float64 is infinite
        finite = np.isfinite(array.astype(np.float32, copy=False)).all(1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise InputError(f"{path}: NaN or infinity in the features of video '{path.stem}', first at snippet {row}")
    return array


def _load_npy(path: pathlib.Path, *, mmap: bool) -> NDArray[Any]:
    """Raises InputError for anything but a whole .npy file without pickled objects."""
    with open(path, "rb") as file:
        start = file.read(6)
    pickled = InputError(f"{path}: holds pickled objects, which could run code; save a plain float array")
    if start[:1] == b"\x80":
        raise pickled
    if start != b"\x93NUMPY":
        raise InputError(f"{path}: not an array in the .npy format; save it with numpy.save")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # a broken header raises whatever Python's own parser does
        if "pickle" in str(error) or "Python objects" in str(error):
            raise pickled from None
        raise InputError(f"{path}: not a whole .npy file ({type(error).__name__}); write it again") from None
    return array
