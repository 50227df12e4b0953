"""A run's folder, read for its report: results, options, timelines, detections and curves that fit each other.

run = read_run(pathlib.Path("output/first"))        # or output/first/inference, or predictions/NAME
"""

import os
import pathlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from eval.detection import evaluate_detections
from eval.tables import percent
from formats.curve_file import CURVES, damaged_lines, read_points
from formats.ground_truth import read_json
from formats.names import amount, shown
from formats.result_file import read_detections
from formats.run_results import COMPARED, RESULTS, is_prediction, read_results, selected_of
from formats.timelines import TIMELINES, Timelines, read_timelines
from options import Options, check_saved, resolve
from utils.errors import InputError
from utils.segments import Segments

INFERENCE = "inference"
DETECTIONS = "detections.json"  # of inference and of predictions
SAME_MAP = 1e-3  # ties of scores move it by less from one processor to another


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A training run, the inference of one, or predictions on videos without truth."""

    name: str  # of the folder, or EXPERIMENT/inference
    folder: pathlib.Path
    results: dict[str, Any]  # results.json, as formats.run_results checks it
    options: Options
    timelines: Timelines
    detections: Segments  # of the selected model, coded by the timelines' videos and classes
    curves: pd.DataFrame  # columns step (int), name (str), value (float); empty without curves.jsonl
    notes: tuple[str, ...]  # what a reader should know of how it was read

    @property
    def is_inference(self) -> bool:
        """Whether it is of --inference_only: one evaluation, no curves."""
        return "best" not in self.results and not self.is_prediction

    @property
    def is_prediction(self) -> bool:
        """Whether it is of videos without truth: nothing is measured."""
        return is_prediction(self.results)


def detections_file(folder: pathlib.Path, results: dict[str, Any]) -> pathlib.Path:
    """The file of detections beside a results.json."""
    return folder / ("detections_best.json" if "best" in results else DETECTIONS)


def read_run(folder: pathlib.Path, timelines: Timelines | None = None) -> ReportedRun:
    """Read the folder of a run. Raises InputError naming what is missing, malformed, or of other videos or classes.

    `timelines` are those that have just been recorded; None: they are in the folder.
    """
    results = read_results(folder, measured=False)
    found = detections_file(folder, results)
    _check_there(found, timelines)
    timelines = timelines or read_timelines(folder / TIMELINES)
    run = ReportedRun(
        name=_name_of(folder),
        folder=folder,
        results=results,
        options=read_options(folder, results),
        timelines=timelines,
        detections=_coded(found, timelines),
        curves=pd.DataFrame(read_points(folder / CURVES), columns=["step", "name", "value"]).astype(
            {"step": np.int64, "name": object, "value": np.float64}
        ),
        notes=(),
    )
    return replace(run, notes=(*_curve_notes(run), *_contradictions(run)))


def model_of(folder: pathlib.Path, results: dict[str, Any]) -> pathlib.Path:
    """The checkpoint that a run's results are of. One stated relative to a folder that is not this one is looked for beside."""
    path = pathlib.Path(results.get("model_file") or folder / "best.pt")
    beside = folder.parent / path.name
    return beside if not path.exists() and not path.is_absolute() and beside.exists() else path


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


def _check_there(found: pathlib.Path, timelines: Timelines | None) -> None:
    """Raise InputError when detections, or timelines that are not at hand, are missing."""
    folder = found.parent
    advice = {
        found.name: f"copy {found.name} back, or run main.py --inference_only, whose folder {INFERENCE} has its own report",
        TIMELINES: f"main.py --report {folder} makes {TIMELINES} from the checkpoint and its data",
    }
    if folder.name == INFERENCE:
        advice[found.name] = f"main.py --inference_only makes {found.name} again"
    elif found.name == DETECTIONS:
        advice = dict.fromkeys(advice, "make the predictions again")
    if timelines:
        del advice[TIMELINES]
    missing = [name for name in advice if not (folder / name).exists()]
    if missing:
        what = " and no ".join(missing)
        raise InputError(f"{folder}: has {RESULTS}, but no {what}; {'; '.join(advice[name] for name in missing)}")


def _curve_notes(run: ReportedRun) -> list[str]:
    path = run.folder / CURVES
    if run.is_inference or run.is_prediction:
        return []
    if not path.exists():
        return [f"no {CURVES}: a run of an earlier version has no curves here"]
    lost = damaged_lines(path)
    what = f"{amount(len(lost), 'damaged line')}, left out of the curves; the first is line {lost[0]}" if lost else ""
    return [f"{CURVES}: {what}"] if lost else []


def _contradictions(run: ReportedRun) -> list[str]:
    """In words, where results.json says something else than the other files: they are of different runs, or were changed."""
    stated = _stated(run)
    timelines, found = run.timelines, detections_file(run.folder, run.results).name
    counts = (len(timelines.videos), len(timelines.truth), len(run.detections))
    notes = [
        f"{stated['compared'][what]} {what} in {RESULTS}, {count} in {found if what == 'detections' else TIMELINES}"
        for what, count in zip(COMPARED, counts, strict=True)
        if stated.get("compared") and stated["compared"][what] != count
    ]
    said, computed = stated.get("mAP") or {}, {}
    if len(timelines.truth):
        tious, classes = run.options.evaluation.tiou_grid, len(timelines.classes)
        result = evaluate_detections(timelines.truth, run.detections, num_classes=classes, tious=tious)
        computed = result.map_by_tiou()
    if bool(said) != bool(computed):
        no, other = (RESULTS, TIMELINES) if computed else (TIMELINES, RESULTS)
        notes.append(f"ground truth in {other}, none in {no}")
    differences = {tiou: abs(said[tiou] - computed[tiou]) for tiou in computed if said.get(tiou) is not None}
    if differences:
        tiou = max(differences, key=lambda tiou: differences[tiou])
        if differences[tiou] > SAME_MAP:
            notes.append(
                f"mAP at tIoU {tiou} is {percent(said[tiou])} in {RESULTS}, "
                f"{percent(computed[tiou])} by {found} and the ground truth in {TIMELINES}"
            )
    return [f"these files are not of one run: {'; '.join(notes)}"] if notes else []


def _stated(run: ReportedRun) -> dict[str, Any]:
    """What results.json says of what the other files hold."""
    if run.is_prediction:
        counts = (len(run.results["videos"]), 0, run.results["detections"])
        return {"compared": dict(zip(COMPARED, counts, strict=True))}
    return run.results if run.is_inference else dict(run.results[selected_of(run.results)])


def _coded(path: pathlib.Path, timelines: Timelines) -> Segments:
    """The detections in a file, coded by the timelines' videos and classes. Raises InputError for others."""
    found = read_detections(path)
    columns = {}
    for what, names, known in (("video", found.videos, timelines.videos), ("label", found.labels, timelines.classes)):
        position = {name: i for i, name in enumerate(known)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise InputError(
                f"{path}: {what} {shown(unknown)}: not in {TIMELINES} beside it; fix the entry, or if it is right, {TIMELINES} "
                "is of other data: remove it, and --report makes it again"
            )
        codes = np.array([position[name] for name in names], np.int64)
        columns[what] = codes[getattr(found.detections, what)]
    return replace(found.detections, **columns)


def _name_of(folder: pathlib.Path) -> str:
    place = pathlib.Path(os.path.realpath(folder))
    return f"{place.parent.name}/{place.name}" if place.name == INFERENCE else place.name
