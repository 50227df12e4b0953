"""Size of a report's page, and how long it takes to open in Chromium and to switch videos.

    python -m benchmarks.report_page [--detections FILE --ground_truth FILE] [--videos 210] [--snippets 750] [--classes 20]
                                     [--detections_per_video 150] [--repeats 3] [--keep FOLDER]

The sequences are drawn at random, smooth as a network's; so are detections and truth, unless files are given. Needs playwright.
"""

import argparse
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from command_line.console import run_tool
from formats.ground_truth import read_annotations
from formats.result_file import read_detections
from formats.timelines import Sequence32, Timelines, VideoSequences
from options import resolve
from report.judged import judge
from report.page import write_report
from report.reading import ReportedRun
from utils.errors import InputError
from utils.segments import Floats, Segments

CHROMIUM_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
Made = TypeVar("Made")
READY = "html[data-ready=true]"  # no function: the page's policy forbids to evaluate one
OPENED = "performance.getEntriesByName('ready')[0].startTime"
SWITCH = """async () => {
  const before = performance.now();
  document.getElementById('next').click();
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  return performance.now() - before;
}"""
SWITCHES = 8


def synthetic_run(
    *,
    videos: Sequence[str],
    classes: Sequence[str],
    seconds: Floats,
    truth: Segments,
    detections: Segments,
    snippets: int,
    name: str = "synthetic",
) -> ReportedRun:
    """A run with random sequences; a video's predicted classes are those detected in it."""
    random = np.random.default_rng(0)
    labels = np.zeros((len(videos), len(classes)), bool)
    labels[truth.video, truth.label] = True
    predicted = np.zeros_like(labels)
    predicted[detections.video, detections.label] = True

    def smooth(rows: int) -> Sequence32:
        steps = random.normal(size=(rows, snippets)).astype(np.float32)
        return np.asarray(1 / (1 + np.exp(-np.cumsum(steps, axis=1) / 4)), np.float32)

    def sequences(video: int) -> VideoSequences:
        present = np.flatnonzero(labels[video] | predicted[video])
        fused, rgb, flow, mask = smooth(4)
        return VideoSequences(
            classes=present,
            cas=smooth(len(present)),
            combined=smooth(len(present)),
            actionness=fused,
            streams={"rgb": rgb, "flow": flow},
            pseudo_label=(fused > 0.6).astype(np.float32),
            mask=mask,
        )

    scores = random.random((len(videos), len(classes))) ** 8 + 5 * labels
    timelines = Timelines(
        videos=tuple(videos),
        classes=tuple(classes),
        seconds=seconds,
        first=np.zeros(len(videos)),
        step=seconds / snippets,
        labels=labels,
        predicted=predicted,
        class_scores=(scores / scores.sum(1, keepdims=True)).astype(np.float32),
        truth=truth,
        sequences=[sequences(v) for v in range(len(videos))],
    )
    return ReportedRun(
        name=name,
        folder=pathlib.Path(name),
        results=dict.fromkeys(("mAP", "average_mAP", "video_accuracy", "per_class_AP")),
        options=resolve({}),
        timelines=timelines,
        detections=detections,
        curves=pd.DataFrame({"step": np.zeros(0, np.int64), "name": np.zeros(0, object), "value": np.zeros(0)}),
        notes=(),
    )


def random_run(
    *, videos: int, classes: int, snippets: int, detections_per_video: int, name: str = "synthetic"
) -> ReportedRun:
    """Videos of 60 to 300 seconds with up to four instances of a class or two, and detections around them and elsewhere."""
    random = np.random.default_rng(1)
    seconds = random.uniform(60, 300, videos)
    truth, detections = [], []
    for v in range(videos):
        label = random.integers(classes, size=2)
        for start in random.uniform(0, seconds[v] * 0.9, random.integers(1, 5)):
            truth.append((v, int(label[0]), start, start + random.uniform(2, 20), 1.0))
        for i, (start, score) in enumerate(zip(*random.random((2, detections_per_video)), strict=True)):
            begin = start * seconds[v] * 0.95
            detections.append((v, int(label[i % 2]), begin, begin + random.uniform(1, 25), score**3))
    return synthetic_run(
        videos=[f"video_{v:05d}" for v in range(videos)],
        classes=[f"class {c}" for c in range(classes)],
        seconds=seconds,
        truth=Segments.from_rows(truth),
        detections=Segments.from_rows(detections),
        snippets=snippets,
        name=name,
    )


def real_run(detections: pathlib.Path, ground_truth: pathlib.Path, *, snippets: int) -> ReportedRun:
    """The detections of a result file, in the videos that both files know."""
    found = read_detections(detections)
    annotations = read_annotations(ground_truth)
    videos = [name for name in annotations if name in found.videos]
    classes = sorted({i.label for name in videos for i in annotations[name].instances})
    rows = [
        (v, classes.index(instance.label), instance.start, instance.end, 1.0)
        for v, name in enumerate(videos)
        for instance in annotations[name].instances
    ]
    video = np.array([videos.index(name) if name in videos else -1 for name in found.videos])
    label = np.array([classes.index(name) if name in classes else -1 for name in found.labels])
    coded = Segments(
        video[found.detections.video],
        label[found.detections.label],
        found.detections.start,
        found.detections.end,
        found.detections.score,
    )
    coded = coded.take(np.flatnonzero((coded.video >= 0) & (coded.label >= 0)))
    truth = Segments.from_rows(rows)
    ends = np.zeros(len(videos))
    for segments in (truth, coded):
        np.maximum.at(ends, segments.video, segments.end)
    return synthetic_run(
        videos=videos, classes=classes, seconds=ends + 1, truth=truth, detections=coded, snippets=snippets, name="real"
    )


def measure(path: pathlib.Path, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds until the first timeline stands, once for each opening; seconds of every switch of video."""
    from playwright.sync_api import sync_playwright

    opened, switched = [], []
    with sync_playwright() as playwright:
        for _ in range(repeats):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(CHROMIUM_FLAGS))
            tab = browser.new_page(viewport={"width": 1400, "height": 900})
            tab.goto(path.resolve().as_uri(), wait_until="commit")
            tab.wait_for_selector(READY, state="attached")
            opened.append(tab.evaluate(OPENED) / 1000)
            switched += [tab.evaluate(SWITCH) / 1000 for _ in range(SWITCHES)]
            browser.close()
    return opened, switched


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 2 invalid input."""
    return run_tool("benchmarks.report_page", _print_measurements, arguments)


def _print_measurements(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.report_page", description=__doc__.splitlines()[0])
    parser.add_argument("--detections", type=pathlib.Path, help="result file; with --ground_truth")
    parser.add_argument("--ground_truth", type=pathlib.Path)
    for name, default in (("videos", 210), ("snippets", 750), ("classes", 20), ("detections_per_video", 150)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--repeats", type=int, default=3, help="how often the page is opened, in a new browser each time"
    )
    parser.add_argument("--keep", type=pathlib.Path, help="folder where report.html is left")
    args = parser.parse_args(arguments)
    if (args.detections is None) != (args.ground_truth is None):
        raise InputError("--detections and --ground_truth: give both or neither")
    run = (
        real_run(args.detections, args.ground_truth, snippets=args.snippets)
        if args.detections
        else random_run(
            videos=args.videos,
            classes=args.classes,
            snippets=args.snippets,
            detections_per_video=args.detections_per_video,
        )
    )
    with tempfile.TemporaryDirectory() as temporary:
        path = (args.keep or pathlib.Path(temporary)) / "report.html"
        judged = _timed("judged", lambda: judge(run))
        _timed("written", lambda: write_report(path, [judged]))
        opened, switched = measure(path, args.repeats)
        print(f"{len(run.timelines.videos)} videos of {args.snippets} snippets, {len(run.detections)} detections")
        print(f"file {path.stat().st_size / 1e6:.2f} MB")
        for what, values in (("opens", opened), ("switches", switched)):
            low, middle, high = min(values), statistics.median(values), max(values)
            print(f"{what} in {middle:.3f} s, {low:.3f} to {high:.3f}, n = {len(values)}")


def _timed(what: str, act: Callable[[], Made]) -> Made:
    """Print how long something takes to make, and return it."""
    start = time.perf_counter()
    result = act()
    print(f"{what} in {time.perf_counter() - start:.2f} s")
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
