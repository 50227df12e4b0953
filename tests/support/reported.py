"""The folder of a run as training or --inference_only leaves it, without training: two videos, two classes."""

import json
import pathlib
from typing import Any

import numpy as np

from formats.curve_file import append_point
from formats.timelines import Timelines, VideoSequences, write_timelines
from utils.segments import Segments

CLASSES = ("run", "jump")


def write_run(folder: pathlib.Path, *, inference: bool = False) -> pathlib.Path:
    """Write it, with an mAP of 0.5 at tIoU 0.5: the run of video "a" is found, the jump in "b" is not. Returns the folder."""
    folder.mkdir(parents=True)
    measured = {
        "mAP": {"0.5": 0.5},
        "average_mAP": {"0.5:0.5": 0.5},
        "video_accuracy": 1.0,
        "per_class_AP": {"run": {"0.5": 1.0}, "jump": {"0.5": 0.0}},
    }
    record = {"step": 2, "epoch": 1, **measured}
    point = {"step": 2, "epoch": 1, "average_mAP": 0.5, "video_accuracy": 1.0}
    own = measured if inference else {"best": record, "last": record, "history": [point], "steps": 2}
    options = {"num_segments": 24, "pseudo_extra": 2, "tious": "0.5", "average_tious": ["0.5"]}
    _write(folder / "results.json", {**own, "options": options, "versions": {"torch": "2"}, "data": {"name": "set"}})
    _write(folder / "options.json", options)
    detections = {
        "b": [{"label": "jump", "score": 0.25, "segment": [0.0, 1.0]}],
        "a": [{"label": "run", "score": 0.75, "segment": [1.0, 2.0]}],
    }
    name = "detections.json" if inference else "detections_best.json"
    _write(folder / name, {"version": "SAL 1", "results": detections, "external_data": {}})
    write_timelines(folder / "timelines.npz", _timelines())
    if not inference:
        with open(folder / "curves.jsonl", "ab") as file:
            append_point(file, {"loss/total": 3.0, "mAP/0.5": 0.5}, step=1)
            append_point(file, {"loss/total": 2.0}, step=2)
    return folder


def _timelines() -> Timelines:
    def of(label: int) -> VideoSequences:
        ramp = np.linspace(0, 1, 8, dtype=np.float32)
        return VideoSequences(
            classes=np.array([label]),
            cas=ramp[None],
            combined=ramp[None],
            actionness=ramp,
            streams={"rgb": ramp, "flow": ramp[::-1]},
            pseudo_label=(ramp > 0.5).astype(np.float32),
            mask=ramp,
        )

    present = np.eye(2, dtype=bool)
    return Timelines(
        videos=("a", "b"),
        classes=CLASSES,
        seconds=np.array([4.0, 6.0]),
        first=np.zeros(2),
        step=np.array([0.5, 0.75]),
        labels=present,
        predicted=present,
        class_scores=present.astype(np.float32),
        truth=Segments.from_rows([(0, 0, 1.0, 2.0, 1.0), (1, 1, 3.0, 4.0, 1.0)]),
        sequences=(of(0), of(1)),
    )


def _write(path: pathlib.Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))
