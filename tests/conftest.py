"""What the tests share: small networks, a tiny data set on disk, tiny flags that train on it, and main.py called in-process."""

import json
import pathlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import main
from dataset import HostStore, Split, Video
from losses import AdaptiveMask
from model import SAL
from options import Options
from train import Objective

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
SHARED = ROOT.parent / "shared"  # real data that is not part of the project; tests that use it skip where it is absent
sys.path.insert(0, str(GOLDEN))  # for recipe.py

FEATURE_SIZE = 6
CLASSES = ("Dive", "Jump", "Throw")
TINY_FLAGS = [
    *("--num_segments", "24", "--feature_size", str(FEATURE_SIZE), "--hidden_size", "8", "--pseudo_extra", "2"),
    *("--num_epochs", "3", "--detection_inf_step", "4", "--device", "cpu", "--lr", "0.01"),
]


def build_model(options: Options, classes: int, seed: int = 0) -> SAL:
    torch.manual_seed(seed)
    data = options.data
    return SAL(options.model, num_classes=classes, streams=data.streams, feature_size=data.feature_size)


def build_objective(options: Options, classes: int) -> Objective:
    mask = AdaptiveMask(options.actionness, num_classes=classes)
    parts = {"losses": options.losses, "actionness": options.actionness, "fusion": options.fusion}
    return Objective(build_model(options, classes), mask, **parts)


def host_split(videos: Iterable[Video]) -> Split:
    """A split whose features are in memory, or in their files."""
    videos = tuple(videos)
    return Split(videos=videos, store=HostStore(videos, torch.device("cpu")))


@dataclass
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


@pytest.fixture
def tiny(tmp_path: pathlib.Path) -> TinySet:
    """7 training videos train_0 .. train_6 and 4 test videos test_0 .. test_3; test_3 has no action."""
    generator = np.random.default_rng(0)
    data = TinySet(tmp_path / "tiny")
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


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """run(data_path, *flags): main.py with the tiny flags, results under tmp_path/out."""
    torch.set_num_threads(1)  # tensors are tiny: threads would only wait for each other

    def call(data_path: pathlib.Path | str, *flags: str) -> Outcome:
        capsys.readouterr()
        fixed = ["--data_path", str(data_path), "--output_dir", str(tmp_path / "out"), *TINY_FLAGS]
        code = main.main([*fixed, *flags])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
