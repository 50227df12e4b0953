"""What draws pages and pictures, as functions that another process can call: what they draw with may end its process.

    in_worker(write_page, PageJob(path=path, folders=(folder,), video_dir=None))
    drawn = in_worker(draw_pictures, PicturesJob(timelines=timelines, detections=detections, tiou=0.5))   # {name: PNG}

vl_convert runs Vega in V8, which aborts where it does not get the memory it wants. A training run is not to end for a picture.
"""

import contextlib
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from data_tools.export import safe_name
from formats.timelines import Timelines
from report.judged import judge
from report.page import write_report
from report.pictures import picture, write_picture
from report.reading import ReportedRun, read_run
from run.background import Worker
from utils.atomic import remove_leftovers
from utils.segments import Segments

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class PageJob:
    path: pathlib.Path  # of the page
    folders: tuple[pathlib.Path, ...]  # of runs, with their timelines
    video_dir: pathlib.Path | None
    pictures: int = 0  # of the first run, VIDEO.png of so many videos is written beside the page


@dataclass(frozen=True, kw_only=True)
class PicturesJob:
    timelines: Timelines
    detections: Segments
    tiou: float  # that a hit needs


def write_page(job: PageJob, begin: Callable[[Any], None] = lambda _: None) -> None:
    """Write the report of these runs. Raises InputError."""
    begin("reading")
    runs = [read_run(folder) for folder in job.folders]
    for name in runs[0].timelines.videos[: job.pictures]:
        begin(name)
        write_picture(job.path.with_name(f"{safe_name(name)}.png"), runs[0], name)
    write_page_of(job.path, runs, job.video_dir, begin)


def write_page_of(
    path: pathlib.Path,
    runs: Sequence[ReportedRun],
    video_dir: pathlib.Path | None,
    begin: Callable[[Any], None] = lambda _: None,
) -> None:
    """Write the report of runs that have been read. Raises InputError."""
    begin("judging")
    judged = [judge(run) for run in runs]
    begin("writing")
    remove_leftovers(path.parent, path.name)
    write_report(path, judged, video_dir=video_dir)


def draw_pictures(job: PicturesJob, begin: Callable[[Any], None] = lambda _: None) -> dict[str, bytes]:
    """A PNG of each video's timeline. Raises InputError."""
    drawn = {}
    for v, name in enumerate(job.timelines.videos):
        begin(name)
        drawn[f"timeline/{name}"] = picture(job.timelines, job.detections, v, format="png", tiou=job.tiou)
    return drawn


def in_worker(function: Callable[[Job, Callable[[Any], None]], Result], job: Job) -> Result:
    """Call a function in a process of its own. Raises InputError when it does, WorkerFailed when that process ends."""
    with contextlib.closing(Worker(function)) as worker:
        worker.submit(job)
        return worker.result()
