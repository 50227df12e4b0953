"""Time and memory of `--cache mmap`: a data set of all-zero feature files, opened and read batch by batch.

    python -m benchmarks.streaming --videos 20000        # prints one JSON object

The files are sparse: they take no room on the disk, but reading them takes as much memory as reading real ones. It runs as a
process of its own, because it measures the peak of its memory.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy

from benchmarks.timing import peak_resident
from dataset import load_dataset, train_batches
from formats.array_files import STREAMS
from options import DataOptions, resolve

SNIPPETS = 300
LABEL = "Action"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--videos", type=int, required=True, help="training videos")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the videos (default: %(default)s)")
    parser.add_argument("--num_workers", type=int, default=1, help="threads (default: %(default)s)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        make_set(path, args.videos)
        print(json.dumps(stream(path, args.epochs, args.num_workers)))
    return 0


def make_set(path: pathlib.Path, videos: int) -> None:
    """Write `videos` training videos and one for test."""
    names = {"train": [f"video_{i}" for i in range(videos)], "test": ["last"]}
    for split, listed in names.items():
        for stream in STREAMS:
            folder = path / "features" / split / stream
            folder.mkdir(parents=True)
            for name in listed:
                with open(folder / f"{name}.npy", "wb") as file:
                    write_zeros(file, (SNIPPETS, DataOptions.feature_size))
        (path / f"split_{split}.txt").write_text("\n".join(listed))
    note = {"annotations": [{"label": LABEL, "segment": [0, 1]}]}
    database = {name: {"subset": split, **note} for split, listed in names.items() for name in listed}
    (path / "gt.json").write_text(json.dumps({"database": database}))


def write_zeros(file: BinaryIO, shape: tuple[int, int]) -> None:
    """Write a float32 .npy file whose values are a hole."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(file, header)
    file.truncate(file.tell() + 4 * shape[0] * shape[1])


def stream(path: pathlib.Path, epochs: int, num_workers: int) -> dict[str, float]:
    """Open the set, read it batch by batch, and measure both."""
    before = peak_resident()
    start = time.perf_counter()
    cpu = torch.device("cpu")
    options = resolve({"cache": "mmap", "num_workers": num_workers})
    data = load_dataset(path, options.data, device=cpu)
    opened = time.perf_counter()
    rows, batches = 0, epochs * (len(data.train) // options.optimisation.batch_size)
    for batch in train_batches(
        data.train,
        options.data,
        optimisation=options.optimisation,
        seed=options.run.seed,
        first_step=0,
        last_step=batches,
    ):
        rows += int(np.prod(batch.features.shape[:2]))
    read = time.perf_counter()
    return {
        "videos": len(data.train),
        "feature_bytes": sum(video.features.nbytes for video in data.train),
        "seconds_to_open": opened - start,
        "seconds_per_batch": (read - opened) / batches,
        "snippets": rows,
        "peak_resident_bytes_before": before,
        "peak_resident_bytes": peak_resident(),
    }


if __name__ == "__main__":
    sys.exit(main())
