"""A tiny data set on disk, and flags that train on it in a second."""

import json
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dataset import Dataset, load_dataset
from options import DataOptions

FEATURE_SIZE = 6
CLASSES = ("Dive", "Jump", "Throw")
TINY_FLAGS = [
    *("--num_segments", "24", "--feature_size", str(FEATURE_SIZE), "--hidden_size", "8", "--pseudo_extra", "2"),
    *("--num_epochs", "3", "--detection_inf_step", "4", "--device", "cpu", "--lr", "0.01"),
    "--no-write_report",
]
_EXTRA = TINY_FLAGS.index("--pseudo_extra")


def tiny_flags(flags: Sequence[str]) -> list[str]:
    """TINY_FLAGS for a run with these, too: without what pseudo labels of class evidence do not read."""
    of_classes = {"stable", "classes", "--pseudo_source=classes"} & set(flags)
    return TINY_FLAGS[:_EXTRA] + TINY_FLAGS[_EXTRA + 2 :] if of_classes else TINY_FLAGS


@dataclass(frozen=True)
class TinySet:
    """A data set in the "thumos" layout that tests may spoil."""

    path: pathlib.Path

    def feature(self, split: str, stream: str, video: str) -> pathlib.Path:
        return self.path / "features" / split / stream / f"{video}.npy"

    @property
    def gt(self) -> pathlib.Path:
        return self.path / "gt.json"

    def edit_gt(self, edit: Callable[[dict], object]) -> None:
        """Read gt.json, let `edit` change its database, write it back."""
        content = json.loads(self.gt.read_text())
        edit(content["database"])
        self.gt.write_text(json.dumps(content))


def write_tiny_set(path: pathlib.Path) -> TinySet:
    """7 training videos train_0 .. train_6 and 4 test videos test_0 .. test_3; test_3 has no action."""
    generator = np.random.default_rng(0)
    data = TinySet(path)
    database = {}
    for split, count in (("train", 7), ("test", 4)):
        names = [f"{split}_{i}" for i in range(count)]
        for i, name in enumerate(names):
            length = int(generator.integers(10, 60))
            label = i % len(CLASSES)
            first, last = length // 3, length // 3 + 5
            for s, stream in enumerate(("rgb", "flow")):
                features = generator.random((length, FEATURE_SIZE)) * 0.3
                features[first:last, label * 2 + s] += 2.0
                file = data.feature(split, stream, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                np.save(file, features.astype(np.float32 if i % 2 else np.float16))
            segment = [str(first * 0.64), str(last * 0.64)] if i % 2 else [first * 0.64, last * 0.64]
            notes = [{"label": CLASSES[label], "segment": segment}]
            database[name] = {"subset": split, "annotations": [] if name == "test_3" else notes}
        (data.path / f"split_{split}.txt").write_text("\n".join(names) + "\n")
    data.gt.write_text(json.dumps({"database": database}))
    return data


def load_tiny_set(path: pathlib.Path, **options: object) -> Dataset:
    """A set with the tiny set's number of channels, in memory unless `options` say otherwise."""
    chosen = DataOptions(**{"feature_size": FEATURE_SIZE, "cache": "ram", **options})
    return load_dataset(path, chosen, device=torch.device("cpu"))
