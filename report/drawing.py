"""What draws pages and pictures, as functions that another process can call: what they draw with may end its process.

    in_worker(write_page, PageJob(path=path, folders=(folder,), video_dir=None))
    pictures = in_worker(draw_pictures, PicturesJob(timelines=timelines, detections=detections))    # {"timeline/VIDEO": PNG}

vl_convert runs Vega in V8, which aborts where it does not get the memory it wants. A training run is not to end for a picture.
"""

import contextlib
import importlib.util
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from formats.timelines import Timelines
from report.judged import judge
from report.page import write_report
from report.pictures import picture
from report.reading import read_run
from run.background import Worker
from utils.atomic import remove_leftovers
from utils.errors import InputError
from utils.segments import Segments

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class PageJob:
    path: pathlib.Path  # of the page
    folders: tuple[pathlib.Path, ...]  # of runs, with their timelines
    video_dir: pathlib.Path | None


@dataclass(frozen=True, kw_only=True)
class PicturesJob:
    timelines: Timelines
    detections: Segments


def write_page(job: PageJob, begin: Callable[[Any], None] = lambda _: None) -> None:
    """Write the report of these runs. Raises InputError."""
    begin("reading")
    runs = [read_run(folder) for folder in job.folders]
    begin("judging")
    judged = [judge(run) for run in runs]
    begin("writing")
    remove_leftovers(job.path.parent, job.path.name)
    write_report(job.path, judged, video_dir=job.video_dir)


def draw_pictures(job: PicturesJob, begin: Callable[[Any], None] = lambda _: None) -> dict[str, bytes]:
    """A PNG of each video's timeline. Raises InputError."""
    drawn = {}
    for v, name in enumerate(job.timelines.videos):
        begin(name)
        drawn[f"timeline/{name}"] = picture(job.timelines, job.detections, v, format="png")
    return drawn


def in_worker(function: Callable[[Job, Callable[[Any], None]], Result], job: Job) -> Result:
    """Call a function in a process of its own. Raises InputError when it does, WorkerFailed when that process ends."""
    with contextlib.closing(Worker(function)) as worker:
        worker.submit(job)
        return worker.result()


def can_draw() -> bool:
    """Whether the package that draws is installed."""
    return importlib.util.find_spec("vl_convert") is not None


def check_can_draw() -> None:
    """Raise InputError when it is not."""
    if not can_draw():
        raise InputError(f"the package that draws is missing: {sys.executable} -m pip install vl-convert-python")
