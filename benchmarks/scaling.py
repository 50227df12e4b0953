"""How time and memory grow with the work: snippets, batch size, classes, videos.

    python -m benchmarks.scaling [--device auto|cpu|cuda] [--json FILE] [--plot FILE] [--quick]

Prints the tables of docs/performance-details.md, with the exponent of each curve: the slope of time against size, both in
logarithms. An exponent of one means that twice as much takes twice as long.
"""

import argparse
import dataclasses
import gc
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks import inputs, ours
from benchmarks.inputs import FULL, QUICK, Sizes
from benchmarks.rows import TIOUS
from benchmarks.run import machine_info
from benchmarks.timing import Budget, measure
from command_line.console import run_tool
from run.device import pick_device
from run.provenance import git_commit
from utils.atomic import write_text
from utils.segments import Segments

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGET, QUICK_BUDGET = Budget(min_runs=3, max_runs=9, seconds=3.0), Budget(min_runs=1, max_runs=1, seconds=0.0)
POOL = 32  # videos whose post-processing is timed together
SHORT = 50  # snippets, as on ActivityNet
MEDIUM = 100


@dataclass(frozen=True, kw_only=True)
class Curve:
    name: str
    axis: str
    fixed: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """The exponent over the whole range, by least squares."""
        return float(np.polyfit(np.log(self.sizes), np.log(self.seconds), 1)[0])

    @property
    def last_exponent(self) -> float:
        """The exponent between the two largest sizes. Extrapolate with this one: small sizes may be all overhead."""
        x, y = np.log(self.sizes[-2:]), np.log(self.seconds[-2:])
        return float((y[1] - y[0]) / (x[1] - x[0]))


def main(argv: Sequence[str] | None = None) -> int:
    return run_tool("benchmarks.scaling", report_scaling, sys.argv[1:] if argv is None else argv)


def report_scaling(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (default: %(default)s)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE", help="draw the curves there, as a PNG")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once each: only shows that it runs")
    args = parser.parse_args(argv)
    device = pick_device(args.device)
    curves = []
    for curve in measured_curves(device, quick=args.quick):
        curves.append(curve)
        print(curve_table(curve), flush=True)
    streams = [stream_set(videos) for videos in ((3, 30) if args.quick else (100, 1_000, 20_000))]
    print(stream_table(streams))
    if args.json:
        report = {
            "curves": [{**dataclasses.asdict(c), "exponent": c.exponent} for c in curves],
            "streaming": streams,
            "machine": machine_info(device),
            "git_commit": git_commit(),
        }
        write_text(args.json, json.dumps(report, indent=2) + "\n")
    if args.plot:
        plot(curves, args.plot)


def measured_curves(device: torch.device, *, quick: bool) -> Iterator[Curve]:
    base = QUICK if quick else FULL
    budget = QUICK_BUDGET if quick else BUDGET
    classes_text = f"C {base.num_classes}"

    def curve(
        name: str,
        axis: str,
        fixed: str,
        sizes: tuple[int, ...],
        work_of: Callable[[int], Callable[[], object]],
        per: int = 1,
    ) -> Curve:
        seconds = []
        for size in sizes:
            seconds.append(measure(work_of(size), device, budget).seconds / per)
            gc.collect()
        return Curve(name=name, axis=axis, fixed=fixed, sizes=sizes, seconds=tuple(seconds))

    def step(**changes: int) -> Callable[[], object]:
        sizes = dataclasses.replace(base, **changes)
        features, labels = (
            inputs.features(sizes.batch_size, sizes, device),
            inputs.labels(sizes.batch_size, sizes, device),
        )
        return ours.TrainingStep(ours.build_model(sizes, device), features, labels).whole

    def test_forward(num_segments: int) -> Callable[[], object]:
        sizes = dataclasses.replace(base, num_segments=num_segments)
        forward = ours.TestForward(ours.build_model(sizes, device))
        features = inputs.features(sizes.test_batch_size, sizes, device)
        return torch.inference_mode()(lambda: forward(features))

    def localize(num_segments: int) -> Callable[[], object]:
        predictions = repeated_predictions(dataclasses.replace(base, num_segments=num_segments, videos=POOL), POOL)
        return lambda: ours.postprocess(predictions)

    snippets = (48, 96) if quick else (100, 200, 400, 750, 1500, 3000)
    yield curve("training step", "T", f"B {base.batch_size}, {classes_text}", snippets, lambda t: step(num_segments=t))
    per = base.test_batch_size
    yield curve("test forward, a video", "T", f"batches of {per}, {classes_text}", snippets, test_forward, per)
    yield curve("post-processing, a video", "T", f"{POOL} videos at once", snippets, localize, POOL)
    short = base.num_segments if quick else SHORT
    batches = (1, 2) if quick else (1, 2, 4, 8, 16, 32, 64)
    yield curve(
        "training step", "B", f"T {short}, {classes_text}", batches, lambda b: step(num_segments=short, batch_size=b)
    )
    medium = base.num_segments if quick else MEDIUM
    classes = (20, 40) if quick else (20, 50, 100, 200)
    yield curve(
        "training step",
        "C",
        f"T {medium}, B {base.batch_size}",
        classes,
        lambda c: step(num_segments=medium, num_classes=c),
    )
    videos = (12, 24) if quick else (100, 1_000, 5_000, 20_000)
    sizes = base
    yield curve(
        "post-processing", "videos", f"T {sizes.num_segments}, {classes_text}", videos, lambda v: work_on(sizes, v)[0]
    )
    yield curve("mAP", "videos", f"{len(TIOUS)} tIoU, {classes_text}", videos, lambda v: work_on(sizes, v)[1])
    yield curve("mAP", "C", f"{sizes.videos} videos, {len(TIOUS)} tIoU", classes, lambda c: map_of_classes(sizes, c))


def repeated_predictions(sizes: Sizes, count: int) -> list[Any]:
    """`count` predictions, of the test set's videos over and over."""
    test_set = inputs.test_set(sizes)
    predictions = [ours.as_prediction(video) for video in test_set.videos]
    return [predictions[i % len(predictions)] for i in range(count)]


def work_on(sizes: Sizes, videos: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Post-processing and mAP of that many videos: those of the test set, over and over."""
    test_set = inputs.test_set(sizes)
    predictions = repeated_predictions(sizes, videos)
    rounds = -(-videos // sizes.videos)
    truth, detections = (repeated(s, sizes.videos, rounds, videos) for s in (test_set.truth, test_set.detections))
    return lambda: ours.postprocess(predictions), lambda: ours.map_of(truth, detections, sizes.num_classes, TIOUS)


def repeated(segments: Segments, videos: int, rounds: int, keep: int) -> Segments:
    """The segments of `videos` videos, repeated `rounds` times for new videos; only the first `keep` videos stay."""
    copies = [dataclasses.replace(segments, video=segments.video + i * videos) for i in range(rounds)]
    together = Segments.concatenate(copies)
    return together.take(np.flatnonzero(together.video < keep))


def map_of_classes(sizes: Sizes, classes: int) -> Callable[[], object]:
    """The mAP of the same detections, spread over more classes."""
    test_set = inputs.test_set(sizes)
    # Every class of every video becomes its own class; these are dealt out in turn.
    pairs = np.unique(test_set.truth.video * sizes.num_classes + test_set.truth.label)

    def spread(segments: Segments) -> Segments:
        pair = np.searchsorted(pairs, segments.video * sizes.num_classes + segments.label)
        return dataclasses.replace(segments, label=pair % classes)

    truth, detections = spread(test_set.truth), spread(test_set.detections)
    assert len(np.unique(truth.label)) == min(classes, len(pairs))
    return lambda: ours.map_of(truth, detections, classes, TIOUS)


def stream_set(videos: int) -> dict[str, Any]:
    """The numbers of benchmarks/streaming.py, run as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.streaming", "--videos", str(videos)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def curve_table(curve: Curve) -> str:
    """The curve as a Markdown table."""
    head = " | ".join(f"{size:,}" for size in curve.sizes)
    body = " | ".join(format_seconds(s) for s in curve.seconds)
    exponents = f"{curve.exponent:.2f} | {curve.last_exponent:.2f}"
    return (
        f"\n| {curve.name} ({curve.fixed}): {curve.axis} = | {head} | exponent | at the end |\n"
        f"|---|{'---:|' * (len(curve.sizes) + 2)}\n| time | {body} | {exponents} |"
    )


def stream_table(streams: Sequence[dict[str, Any]]) -> str:
    """The streaming numbers as a Markdown table."""
    head = " | ".join(f"{s['videos']:,}" for s in streams)
    batch = f"a batch of {FULL.batch_size} (T {FULL.num_segments}), one thread"
    rows = {
        "features": [f"{s['feature_bytes'] / 1e9:.1f} GB" for s in streams],
        "opening the set": [format_seconds(s["seconds_to_open"]) for s in streams],
        batch: [format_seconds(s["seconds_per_batch"]) for s in streams],
        "peak memory of the process": [f"{s['peak_resident_bytes'] / 1e6:.0f} MB" for s in streams],
    }
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return f"\n| --cache mmap: videos = | {head} |\n|---|{'---:|' * len(streams)}\n" + "\n".join(lines)


def format_seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def plot(curves: Sequence[Curve], path: pathlib.Path) -> None:
    """Draw time against size, one panel per axis, as a PNG; legends end with the exponents."""
    from matplotlib.figure import Figure

    titles = {"T": "snippets T", "B": "batch size B", "C": "classes C"}
    axes_names = list(dict.fromkeys(curve.axis for curve in curves))
    figure = Figure(figsize=(3.2 * len(axes_names), 3.8), layout="constrained", dpi=80)
    panels = figure.subplots(1, len(axes_names), squeeze=False)[0]
    for panel, name in zip(panels, axes_names, strict=True):
        for curve in (c for c in curves if c.axis == name):
            panel.loglog(curve.sizes, curve.seconds, "o-", label=f"{curve.name}\n{curve.fixed}: {curve.exponent:.2f}")
        panel.set_xlabel(titles.get(name, name))
        panel.set_ylabel("seconds")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1))  # above the panel
    figure.savefig(path, format="png")


if __name__ == "__main__":
    sys.exit(main())
