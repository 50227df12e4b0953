"""The results of --predict: a folder of their own, with detections.json, detections.csv and results.json, and a line per video.

folder = results_folder(options.run.out, paths, model=path)      # before anything is computed; raises InputError
folder = write_predictions(folder, predictions, {"model_file": ...}, named=bool(options.run.out))
"""

import csv
import errno
import functools
import io
import itertools
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from formats.names import amount
from formats.problems import DataError, Kind, Problem
from formats.result_file import Entry, entries_of, write_entries
from formats.timelines import TIMELINES, Timelines, write_timelines
from utils.atomic import whole_folder, write_file, write_json
from utils.errors import InputError
from utils.printable import one_line
from utils.segments import Segments
from utils.snippet_grid import DEFAULT_FPS

LEAVE_OUT = f", {Kind.LENGTHS.advice}"  # some problems say so by themselves
DETECTIONS, TABLE, RESULTS = "detections.json", "detections.csv", "results.json"  # in the folder of results
PREDICTIONS = "predictions"  # the folder of all results, in the working folder
_OF_AN_EXPERIMENT = ("best.pt", "last.pt", "options.json")


def results_folder(out: str, paths: Sequence[pathlib.Path], *, model: pathlib.Path | None) -> pathlib.Path:
    """The folder that --out names, else a new one named after the features. Nothing is written yet.

    Raises InputError when it exists, or belongs to an experiment.
    """
    if out:
        folder = pathlib.Path(out)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"--out {out}: exists, and nothing is overwritten; name a new folder")
        check_place(folder, model)
        return folder
    folder = pathlib.Path(PREDICTIONS) / name_of(paths)
    check_place(folder, model)
    return _next_free(folder)


def _next_free(folder: pathlib.Path) -> pathlib.Path:
    """This folder, or the first of FOLDER-2, FOLDER-3 .. that does not exist."""
    numbered = (folder.with_name(f"{folder.name}-{count}") for count in itertools.count(2))
    return next(free for free in itertools.chain([folder], numbered) if not free.exists())


def name_of(paths: Sequence[pathlib.Path]) -> str:
    """A name for a folder of what is made of these files and folders."""
    absolute = paths[0].absolute()
    name = absolute.stem if absolute.is_file() else absolute.name
    return (name[:100].strip(". ") or "videos") + (f"-and-{len(paths) - 1}-more" if len(paths) > 1 else "")


def check_place(folder: pathlib.Path, model: pathlib.Path | None) -> None:
    """Raise InputError when the folder lies in an experiment's, or can't be made."""
    place = pathlib.Path(os.path.realpath(folder))  # which a loop of links does not break, unlike resolve()
    for parent in (place, *place.parents):
        holds = [name for name in _OF_AN_EXPERIMENT if (parent / name).is_file()]
        of_model = model is not None and str(parent) == os.path.dirname(os.path.realpath(model))
        if len(holds) > 1 or (of_model and parent == place):
            raise InputError(f"--out {folder}: {parent} is a trained experiment's folder; name another place")
    existing = next(parent for parent in (place, *place.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(
            f"--out {folder}: can't be made, {existing} is not a folder one may write in; name another place"
        )


class Skipped:
    """A report of problems that leaves their videos out if --skip_unusable allows it, and raises them otherwise."""

    def __init__(self, *, allowed: bool) -> None:
        self.allowed = allowed
        self.problems: list[Problem] = []

    def __call__(self, problem: Problem) -> None:
        fix = problem.fix.removesuffix(LEAVE_OUT)
        if not self.allowed:
            raise DataError(replace(problem, fix=f"{fix}{LEAVE_OUT}"))
        self.problems.append(replace(problem, fix=fix))

    def lines(self) -> list[str]:
        return [f"left out: {one_line(str(problem))}" for problem in self.problems]

    def counts(self) -> dict[str, int]:
        """{kind of problem: how many}, for results.json."""
        return dict(Counter(str(problem.kind.value) for problem in self.problems))


@dataclass(frozen=True, kw_only=True)
class PredictedVideo:
    name: str
    seconds: float  # its length, as a ground truth states it, or else by its snippets
    fps: float  # the frame rate of its features
    fps_stated: bool  # whether a ground truth states that
    cut: int = 0  # snippets of the longer stream that were left out
    file: pathlib.Path | None = None  # the video itself, which a report plays


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Detections in videos without labels; a detection's video and label are positions in `videos` and `classes`."""

    videos: tuple[PredictedVideo, ...]
    classes: tuple[str, ...]
    detections: Segments  # by video, best first
    warning: str | None = None  # why all times may be wrong

    def __str__(self) -> str:
        return f"{amount(len(self.detections), 'detection')} in {amount(len(self.videos), 'video')}"

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(video.name for video in self.videos)

    def entries(self) -> Iterator[Entry]:
        """Every video with its detections, (label, start, end, score)."""
        return entries_of(self.detections, self.names, self.classes)

    def results(self) -> dict[str, Any]:
        """What results.json says of them."""
        videos = {
            video.name: {"seconds": video.seconds, "fps": video.fps}
            | ({"cut": video.cut} if video.cut else {})
            | ({"file": str(video.file.absolute())} if video.file else {})
            for video in self.videos
        }
        return {"classes": list(self.classes), "videos": videos, "detections": len(self.detections)}


def write_predictions(
    folder: pathlib.Path,
    predictions: Predictions,
    origin: Mapping[str, Any],
    *,
    named: bool,
    timelines: Timelines | None = None,
    more: Callable[[pathlib.Path], object] = lambda folder: None,
) -> pathlib.Path:
    """Write detections.json, detections.csv and results.json, or none of them; `origin` goes into the last as it is.

    With `timelines` timelines.npz is written too, and `more` writes into the folder before it gets its name.

    Returns the folder. If another call has just made it, and the user did not name it, that is the next one that is free.
    """
    while True:
        try:
            with whole_folder(folder) as unfinished:
                write_files(unfinished, predictions.entries, {**predictions.results(), **origin})
                if timelines:
                    write_timelines(unfinished / TIMELINES, timelines)
                more(unfinished)
            return folder
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if named:
                raise InputError(f"{folder}: another process has just made it, and nothing is overwritten") from None
            folder = _next_free(folder)


def write_files(folder: pathlib.Path, entries: Callable[[], Iterator[Entry]], results: Mapping[str, Any]) -> None:
    """Write the three files, results.json last; `entries` gives the videos with their detections, twice."""
    write_entries(folder / DETECTIONS, entries())
    write_file(folder / TABLE, lambda file: write_table(file, entries()))
    write_json(folder / RESULTS, results, indent=2)


def write_table(file: BinaryIO, entries: Iterator[Entry]) -> None:
    """Write a line per detection."""
    file.write(b"video,label,start,end,score\n")
    for video, rows in entries:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((video, *row) for row in rows)
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))


def video_lines(predictions: Predictions) -> Iterator[str]:
    """A line per video: its name, length, number of detections, and the best of them."""
    for video, (name, rows) in zip(predictions.videos, predictions.entries(), strict=True):
        best = ""
        if rows:
            label, start, end, score = rows[0]
            best = f", best: {one_line(label)} {start:.1f} to {end:.1f} s, score {score:.3f}"
        yield f"{one_line(name)} ({video.seconds:.1f} s): {amount(len(rows), 'detection')}{best}"


def frame_rate_line(predictions: Predictions, *, given: float | None, typed: bool) -> str:
    """Say which frame rates turn snippets into seconds, and where they come from; a mere assumption is called one.

    `given` is --fps, as typed or as the checkpoint has it.
    """
    if given:
        return f"frame rate: {given:g} frames per second, {'--fps' if typed else 'as the model was trained with'}"
    stated = sorted(video.fps for video in predictions.videos if video.fps_stated)
    assumed = len(predictions.videos) - len(stated)
    parts = []
    if stated:
        span = f"{stated[0]:g}" if stated[0] == stated[-1] else f"{stated[0]:g} to {stated[-1]:g}"
        parts.append(f"{span} frames per second, as a ground truth states for {amount(len(stated), 'video')}")
    if assumed:
        parts.append(
            f"{DEFAULT_FPS:g} frames per second ASSUMED for {amount(assumed, 'video')}; give --fps if it is another"
        )
    return f"frame rate: {'; '.join(parts)}"
