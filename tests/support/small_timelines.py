"""Runs for reports, made in memory: three classes, two videos or more, a handful of detections."""

import pathlib
from dataclasses import replace

import numpy as np
import pandas as pd

from formats.timelines import Timelines, VideoSequences
from options import resolve
from report.reading import ReportedRun
from utils.segments import Segments

CLASSES = ("Dive", "Jump", "Throw")


def small_timelines(
    *, classes=CLASSES, videos=("first", "second"), mask=True, streams=("rgb", "flow"), truth=True, seed=0, bare=False
):
    """Videos of 10 s in 8 snippets, with a Dive and a Jump each; the second and every other one after it without labels.

    `bare`: with the classes' sequences alone, as of a recogniser.
    """
    random = np.random.default_rng(seed)
    labelled = np.arange(len(videos)) % 2 == 0
    labels = np.zeros((len(videos), len(classes)), bool)
    labels[labelled, :2] = truth
    predicted = np.zeros_like(labels)
    predicted[:, 0] = True
    instances = [row for v in np.flatnonzero(labelled) for row in ((v, 0, 4.0, 6.0, 1.0), (v, 1, 1.0, 2.0, 1.0))]

    def of(shown):
        present = np.flatnonzero(shown)
        if bare:
            return VideoSequences(classes=present, cas=random.random((len(present), 8)).astype(np.float32), streams={})
        return VideoSequences(
            classes=present,
            cas=random.random((len(present), 8)).astype(np.float32),
            combined=random.random((len(present), 8)).astype(np.float32),
            actionness=random.random(8).astype(np.float32),
            streams={name: random.random(8).astype(np.float32) for name in streams},
            pseudo_label=np.array([0, 0, 1, 1, 1, 0, 0, 0], np.float32),
            mask=random.random(8).astype(np.float32) if mask else None,
        )

    scores = random.random((len(videos), len(classes))) + 0.1
    return Timelines(
        videos=tuple(videos),
        classes=tuple(classes),
        seconds=np.full(len(videos), 10.0),
        first=np.zeros(len(videos)),
        step=np.full(len(videos), 1.25),
        labels=labels,
        predicted=predicted,
        class_scores=(scores / scores.sum(1, keepdims=True)).astype(np.float32),
        truth=Segments.from_rows(instances if truth else []),
        sequences=tuple(of(shown) for shown in labels | predicted),
    )


def small_predictions(name="found", *, files=(), folder=pathlib.Path("found"), **shape):
    """Predictions on small_timelines, without truth; `files` are those of the first videos."""
    run = small_run(name, **{"truth": False, **shape})
    paths = [*map(str, files), *[""] * len(run.timelines.videos)]
    videos = {
        video: {"seconds": 10.0, "fps": 25.0} | ({"file": path} if path else {})
        for video, path in zip(run.timelines.videos, paths, strict=False)
    }
    results = {"classes": list(run.timelines.classes), "videos": videos, "detections": len(run.detections)}
    return replace(run, folder=folder, results=results)


def small_run(name="small", *, seed=0, **shape):
    """A run of small_timelines with random detections, six a video, of which those of video 0 include both its instances."""
    timelines = small_timelines(seed=seed, **shape)
    random = np.random.default_rng(seed)
    rows = [
        (v, int(random.integers(2)), start, start + 0.8, score)
        for v in range(len(timelines.videos))
        for start, score in zip(random.uniform(0, 9, 4), random.uniform(0.1, 0.6, 4), strict=True)
    ]
    rows += [
        (v, c, start, end, 0.9) for v in range(len(timelines.videos)) for c, start, end in ((0, 4, 6), (1, 1, 2.1))
    ]
    return ReportedRun(
        name=name,
        folder=pathlib.Path(name),
        results={"mAP": None, "average_mAP": None, "video_accuracy": None, "per_class_AP": None},
        options=resolve({}),
        timelines=timelines,
        detections=Segments.from_rows(rows),
        curves=pd.DataFrame({"step": np.zeros(0, np.int64), "name": np.zeros(0, object), "value": np.zeros(0)}),
        notes=(),
    )
