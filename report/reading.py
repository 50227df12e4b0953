"""A run's folder, read for its report: results, options, timelines, detections and curves that fit each other.

run = read_run(pathlib.Path("output/first"))        # or output/first/inference
"""

import os
import pathlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from formats.curve_file import CURVES, read_points
from formats.ground_truth import read_json
from formats.names import shown
from formats.result_file import read_detections
from formats.run_results import RESULTS, read_results
from formats.timelines import TIMELINES, Timelines, read_timelines
from options import Options, check_saved, resolve
from utils.errors import InputError
from utils.segments import Segments

INFERENCE = "inference"


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A training run, or the inference of one."""

    name: str  # of the folder, or EXPERIMENT/inference
    folder: pathlib.Path
    results: dict[str, Any]  # results.json, as formats.run_results checks it
    options: Options
    timelines: Timelines
    detections: Segments  # of the best model, coded by the timelines' videos and classes
    curves: pd.DataFrame  # columns step (int), name (str), value (float); empty without curves.jsonl
    notes: tuple[str, ...]  # what a reader should know of how it was read

    @property
    def is_inference(self) -> bool:
        """Whether it is of --inference_only: one evaluation, no curves."""
        return "best" not in self.results


def detections_file(folder: pathlib.Path, results: dict[str, Any]) -> pathlib.Path:
    """The file of detections beside a results.json."""
    return folder / ("detections_best.json" if "best" in results else "detections.json")


def read_run(folder: pathlib.Path, timelines: Timelines | None = None) -> ReportedRun:
    """Read the folder of a run. Raises InputError naming what is missing, malformed, or of other videos or classes.

    `timelines` are those that have just been recorded; None: they are in the folder.
    """
    results = read_results(folder)
    found = detections_file(folder, results)
    needed = (found,) if timelines else (found, folder / TIMELINES)
    missing = [path.name for path in needed if not path.exists()]
    if missing:
        raise InputError(
            f"{folder}: has {RESULTS}, but no {' and no '.join(missing)}; main.py --report {folder} makes {TIMELINES} from its "
            "best.pt and its data, and main.py --inference_only makes detections"
        )
    timelines = timelines or read_timelines(folder / TIMELINES)
    points = read_points(folder / CURVES)
    notes = () if points or "best" not in results else (f"no {CURVES}: a run of an earlier version has no curves here",)
    return ReportedRun(
        name=_name_of(folder),
        folder=folder,
        results=results,
        options=read_options(folder, results),
        timelines=timelines,
        detections=_coded(found, timelines),
        curves=pd.DataFrame(points, columns=["step", "name", "value"]).astype(
            {"step": np.int64, "name": object, "value": np.float64}
        ),
        notes=notes,
    )


def read_options(folder: pathlib.Path, results: dict[str, Any]) -> Options:
    """The options that a run's results were made with, which its results state. Raises InputError."""
    path, plain = folder / RESULTS, results.get("options")
    if plain is None:
        path = folder / "options.json"
        if not path.exists():
            raise InputError(f"{folder / RESULTS}: states no options, and there is no options.json; use another copy")
        plain = read_json(path)
    if not isinstance(plain, dict):
        raise InputError(f"{path}: expected an object with the options of a run; use another copy")
    try:
        check_saved(plain)
    except InputError as error:
        raise InputError(f"{path}: {error}; use another copy, or the version that wrote it") from None
    return resolve({}, plain)


def _coded(path: pathlib.Path, timelines: Timelines) -> Segments:
    """The detections in a file, coded by the timelines' videos and classes. Raises InputError for others."""
    found = read_detections(path)
    columns = {}
    for what, names, known in (("video", found.videos, timelines.videos), ("label", found.labels, timelines.classes)):
        position = {name: i for i, name in enumerate(known)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise InputError(
                f"{path}: {what} {shown(unknown)}: not in {TIMELINES} beside it, which is of other data; "
                f"remove {TIMELINES}, and --report makes it again"
            )
        codes = np.array([position[name] for name in names], np.int64)
        columns[what] = codes[getattr(found.detections, what)]
    return replace(found.detections, **columns)


def _name_of(folder: pathlib.Path) -> str:
    place = pathlib.Path(os.path.realpath(folder))
    return f"{place.parent.name}/{place.name}" if place.name == INFERENCE else place.name
