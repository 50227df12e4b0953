"""When a run saves, in which order and where, and what waits in memory until then.

A new best model is copied to memory, and written with the next save, just before last.pt. So best.pt, detections_best.json,
last.pt and results.json are of one moment, whenever a run is killed: what was computed since is computed again on --resume.
In the background the same is written, in the same order, from copies of that moment, while training goes on.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import torch

from formats.result_file import write_detections
from run.checkpoint import Checkpoint, save_checkpoint
from run.experiment import REPORT, Experiment
from utils.errors import InputError
from utils.memory import free_bytes
from utils.segments import Segments

# A regular save waits at least this many times as long as the one before it took: saving is a tenth of the time at most.
SAVING_SHARE = 10

MOST_OF_MEMORY = 0.5  # share of the free memory that copies for a save in the background may take


@dataclass(frozen=True, kw_only=True)
class BestModel:
    """The best evaluation's model and detections, not written yet."""

    checkpoint: Checkpoint  # with its tensors copied, so that training does not change them
    detections: Segments


@dataclass(kw_only=True)
class _Save:
    """What one save writes, in this order."""

    best: BestModel | None  # None, too, once it is written
    last: Checkpoint | None
    results: dict[str, Any] | None


class SaveClock:
    """Whether a regular save is due. `minutes` is the least time between two; 0: every one is due, whatever it costs."""

    def __init__(self, *, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        self.minutes, self._now = minutes, now
        self._ended: float | None = None
        self._took = 0.0

    def is_due(self) -> bool:
        """The first always is."""
        if self._ended is None or self.minutes == 0:
            return True
        return self._now() - self._ended >= max(60 * self.minutes, SAVING_SHARE * self._took)

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Around a save."""
        start = self._now()
        yield
        self._ended = self._now()
        self._took = self._ended - start


class Saver:
    """Writer of a run's files: a new best model first, then last.pt, with the complete state, then results.json.

    A kill between two of them leaves a last.pt from which the run makes all of them again, to the same bits.
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        options: dict[str, Any],
        videos: tuple[str, ...],
        classes: tuple[str, ...],
        minutes: float,
        background: bool,
    ) -> None:
        """`options` are written again where somebody has removed them; `videos` and `classes` name those of detections."""
        self.experiment, self.options, self.videos, self.classes = experiment, options, videos, classes
        self.clock, self.background = SaveClock(minutes=minutes), background
        self.best: BestModel | None = None  # goes with the next save
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="saving")
        self._writing: tuple[_Save, Future[None]] | None = None

    @property
    def has_saved(self) -> bool:
        """Whether there is a last.pt, or soon will be."""
        return self._writing is not None or self.experiment.last.exists()

    def is_due(self) -> bool:
        return self._writing is None and self.clock.is_due()

    def save(self, last: Checkpoint, results: dict[str, Any] | None) -> None:
        """Write everything, or begin to. Raises InputError or TrainingError when this save, or the one before, fails."""
        self.finish()
        if self.best:
            self.best = replace(self.best, checkpoint=_on_host(self.best.checkpoint))
        background = self.background and _has_room(last)
        save = _Save(best=self.best, last=_on_host(last, copy=True) if background else last, results=results)
        self.best = None
        if background:
            self._writing = save, self._thread.submit(self._write, save)
            return
        try:
            self._write(save)
        finally:
            self.best = save.best

    def write_best(self, results: dict[str, Any] | None) -> None:
        """Write what a save would, but for last.pt, if there is a best model to be written, and a last.pt that it goes with."""
        self.finish()
        if self.best and self.experiment.last.exists():
            self._write(_Save(best=self.best, last=None, results=results))
            self.best = None

    def close(self) -> None:
        """Let the save in the background end, whatever becomes of it: while this process has the folder, not later."""
        if self._writing:
            wait([self._writing[1]])

    def check(self) -> None:
        """Raise what a save in the background has failed with."""
        if self._writing and self._writing[1].done():
            self.finish()

    def finish(self) -> None:
        """Wait for the save in the background. Raises what it has failed with; its best model is then to be written yet."""
        if self._writing:
            save, future = self._writing
            wait([future])
            self._writing = None
            self.best = self.best or save.best
            future.result()

    def _write(self, save: _Save) -> None:
        with self.clock.measured():
            self.experiment.follow()
            folder = self.experiment.folder
            try:
                self._write_files(save)
            except InputError:
                self.experiment.follow()
                if self.experiment.folder == folder:
                    raise
                self.experiment.remove_unfinished()  # it was renamed just now
                self._write_files(save)

    def _write_files(self, save: _Save) -> None:
        if not self.experiment.options.exists():  # somebody has emptied or removed the folder
            self.experiment.write_options(self.options)
        if save.best:
            self.experiment.follow()
            for path in (self.experiment.timelines, self.experiment.folder / REPORT):  # of an earlier model
                with contextlib.suppress(OSError):
                    path.unlink()
            save_checkpoint(self.experiment.best, save.best.checkpoint)
            write_detections(self.experiment.detections, save.best.detections, self.videos, self.classes)
            if save.results:  # a run is finished once its last.pt is written, too
                self.experiment.write_results({**save.results, "finished": False})
            save.best = None
        if save.last:
            save_checkpoint(self.experiment.last, save.last)
            self.experiment.follow()  # a large last.pt takes a while
            self._write_results(save)

    def _write_results(self, save: _Save) -> None:
        if save.results:
            self.experiment.write_results(save.results)


def on_host(value: Any, *, copy: bool = False) -> Any:
    """Dicts and lists with their tensors on the CPU, those that are there copied too if `copy` says so."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=copy)
    if isinstance(value, dict):
        return {name: on_host(part, copy=copy) for name, part in value.items()}
    return [on_host(part, copy=copy) for part in value] if isinstance(value, list) else value


def _on_host(checkpoint: Checkpoint, *, copy: bool = False) -> Checkpoint:
    model, training = on_host(checkpoint.model, copy=copy), on_host(checkpoint.training, copy=copy)
    return replace(checkpoint, model=model, training=training)


def _has_room(checkpoint: Checkpoint) -> bool:
    """Whether the host's memory has ample room for a copy."""
    optimizer = checkpoint.training.get("optimizer") or {"state": {}}
    moments = [value for state in optimizer["state"].values() for value in state.values()]
    teacher = (checkpoint.training.get("teacher") or {"weights": {}})["weights"].values()
    needed = sum(tensor.nbytes for tensor in [*checkpoint.model.values(), *moments, *teacher])
    free = free_bytes(torch.device("cpu"))
    return free is None or needed < MOST_OF_MEMORY * free
