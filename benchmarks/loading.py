"""Seconds from the start of main.py to the end of its first training step, with a set of THUMOS'14's size.

    python -m benchmarks.loading --path DIR [--quick]

The set is written to DIR unless it is there: random features, 1.1 GB, as many videos as long as the real ones where their
durations are known. Run it twice: what counts is a set that lies in the system's file cache.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from command_line.console import run_tool
from command_line.progress import Progress
from formats.array_files import STREAMS
from options import DataOptions
from utils.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHILD = "--measured"  # first argument of the process that is measured
VIDEOS = {"train": 200, "test": 210}
SNIPPETS_PER_SECOND = 25 / 16


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if list(argv[:1]) == [CHILD]:
        return measured(float(argv[1]), argv[2:])
    return run_tool("benchmarks.loading", report_loading, argv)


def report_loading(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--path", type=pathlib.Path, required=True, metavar="DIR", help="the set; written if missing")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that it runs")
    args = parser.parse_args(argv)
    if not args.path.exists():
        make_set(args.path, {"train": 3, "test": 2} if args.quick else VIDEOS, channels=8 if args.quick else 1024)
    elif not (args.path / "gt.json").is_file():
        raise InputError(f"--path {args.path}: exists and is no set; name another folder")
    small = ["--feature_size", "8", "--hidden_size", "8", "--num_segments", "32"] if args.quick else []
    with tempfile.TemporaryDirectory() as folder:
        run = ["--data_path", str(args.path.resolve()), "--num_iters", "2", "--output_dir", folder, *small]
        child = [sys.executable, "-m", "benchmarks.loading", CHILD, str(time.time()), *run]
        done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"main.py: {done.stderr.strip()}")
    for name, seconds in json.loads(done.stdout.splitlines()[-1]).items():
        print(f"{seconds:6.2f} s  {name}")


def make_set(path: pathlib.Path, videos: dict[str, int], *, channels: int = DataOptions.feature_size) -> None:
    from benchmarks.inputs import video_durations  # imports torch, which the measured process is to do in its turn

    generator = np.random.default_rng(0)
    lengths = iter(np.maximum(1, video_durations(sum(videos.values())) * SNIPPETS_PER_SECOND).astype(int).tolist())
    database = {}
    for split, count in videos.items():
        names = [f"{split}_{i}" for i in range(count)]
        for stream in STREAMS:
            (path / "features" / split / stream).mkdir(parents=True)
        for name in names:
            length = next(lengths)
            for stream in STREAMS:
                values = generator.random((length, channels), np.float32)
                np.save(path / "features" / split / stream / f"{name}.npy", values)
            database[name] = {"subset": split, "annotations": [{"label": "Action", "segment": [0, 0.5]}]}
        (path / f"split_{split}.txt").write_text("\n".join(names))
    (path / "gt.json").write_text(json.dumps({"database": database}))


def measured(start: float, arguments: Sequence[str]) -> int:
    """Run main.py up to the first step's end, and print when its long parts began, as JSON."""
    import main as program

    seconds: dict[str, float] = {}
    begin, update = Progress.__init__, Progress.update

    def begun(self: Progress, **about: Any) -> None:
        begin(self, **about)
        seconds.setdefault(f"begins: {self.desc}", time.time() - start)

    def updated(self: Progress, count: int = 1) -> None:
        update(self, count)
        if self.desc == "training":
            print(json.dumps(seconds | {"the first step is done": time.time() - start}), flush=True)
            os._exit(0)

    Progress.__init__, Progress.update = begun, updated  # type: ignore[method-assign]
    return program.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
