"""Runs for reports, made in memory: three classes, two videos or more, a handful of detections."""

import numpy as np

from formats.timelines import Timelines, VideoSequences
from utils.segments import Segments

CLASSES = ("Dive", "Jump", "Throw")


def small_timelines(
    *, classes=CLASSES, videos=("first", "second"), mask=True, streams=("rgb", "flow"), truth=True, seed=0
):
    """Videos of 10 s in 8 snippets, with a Dive and a Jump each; the second and every other one after it without labels."""
    random = np.random.default_rng(seed)
    labelled = np.arange(len(videos)) % 2 == 0
    labels = np.zeros((len(videos), len(classes)), bool)
    labels[labelled, :2] = truth
    predicted = np.zeros_like(labels)
    predicted[:, 0] = True
    instances = [row for v in np.flatnonzero(labelled) for row in ((v, 0, 4.0, 6.0, 1.0), (v, 1, 1.0, 2.0, 1.0))]

    def of(shown):
        present = np.flatnonzero(shown)
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
