"""An experiment's folder: where its files are, which experiment is the latest, who may write, and how results are written.

output_dir/exp_name/{options.json, results.json, detections_best.json, best.pt, last.pt, curves.jsonl, tensorboard/,
                     timelines.npz, report.html, inference/}

    with contextlib.ExitStack() as locks:           # what is locked stays so until the block ends
        experiment, options, checkpoint = begin_training(flags, locks)
        experiment.start()                          # once all input has been checked
"""

import contextlib
import errno
import itertools
import os
import pathlib
import re
import shlex
import time
from collections.abc import Mapping
from typing import Any

from formats.curve_file import CURVES
from formats.names import is_text
from formats.result_file import write_detections
from formats.run_results import QUEUE_LOGS
from formats.timelines import TIMELINES
from options import Options, RunOptions, check_unchanged, resolve, unresolved
from run.checkpoint import Checkpoint, load_checkpoint
from run.lock import FolderLock, InUse
from run.weights import name_classes, shape_flags
from utils.atomic import remove_leftovers, write_json
from utils.errors import InputError, TrainingError
from utils.segments import Segments

REPORT = "report.html"

# Options that say where a set is and how it lies on disk.
OF_THE_DATA = ("data_path", "layout", "ground_truth")


class Experiment:
    """The files in one experiment's folder, by name."""

    def __init__(self, folder: pathlib.Path, lock: FolderLock | None = None) -> None:
        """`lock` is that of the folder; reading and inference go without."""
        self.folder, self.lock = folder, lock

    @property
    def options(self) -> pathlib.Path:
        return self.folder / "options.json"

    @property
    def results(self) -> pathlib.Path:
        return self.folder / "results.json"

    @property
    def detections(self) -> pathlib.Path:
        return self.folder / "detections_best.json"

    @property
    def best(self) -> pathlib.Path:
        return self.folder / "best.pt"

    @property
    def last(self) -> pathlib.Path:
        return self.folder / "last.pt"

    @property
    def timelines(self) -> pathlib.Path:
        return self.folder / TIMELINES

    @property
    def inference(self) -> pathlib.Path:
        return self.folder / "inference"

    def start(self) -> None:
        """Make the locked folder ready for a run from step 0, once all input has been checked.

        An earlier run there is kept under another name, so that no two runs mix. Files of a run that ended before it saved
        anything are written over; nothing is removed but half-written ones.
        """
        assert self.lock
        if self.last.exists() or self.best.exists():
            kept = self._set_aside(self.lock)
            print(f"{self.folder}: the earlier run is kept in {kept}")
        self.lock.keep()
        self.remove_unfinished()

    def _set_aside(self, lock: FolderLock) -> pathlib.Path:
        """Rename the folder to the first of NAME.old, NAME.old-2, ... that is free, and lock a new one in its place."""
        with contextlib.ExitStack() as locks:
            inference = locks.enter_context(FolderLock(self.inference)) if self.inference.is_dir() else None
            for number in itertools.count(1):
                kept = self.folder.with_name(f"{self.folder.name}.old" + (f"-{number}" if number > 1 else ""))
                if os.path.lexists(kept):
                    continue
                try:
                    lock.renew(kept)
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                        raise
                    continue  # another process has just taken that name
                if inference:
                    inference.folder = kept / self.inference.name
                return kept
        raise AssertionError("unreachable")

    def follow(self) -> None:
        """Write where the locked folder is now, if that has been renamed. Raises TrainingError when it is another process's."""
        if self.lock:
            before = self.folder
            try:
                self.lock.follow()
            except (InUse, OSError) as error:
                raise TrainingError(f"{error}; nothing more is written") from None
            self.folder = self.lock.folder
            if self.folder != before:
                print(f"note: {before} has been renamed: the run goes on in {self.folder}")

    def lock_inference(self, locks: contextlib.ExitStack) -> None:
        """Lock the folder that `write_inference` writes into. Raises InUse when another process has it."""
        locks.enter_context(FolderLock(self.inference))

    def remove_unfinished(self) -> None:
        """Remove the temporary files of a run that was killed while writing; they can be large."""
        of_checkpoints = (self.options, self.results, self.detections, self.best, self.last)
        for name in (*(file.name for file in of_checkpoints), CURVES, TIMELINES, REPORT):
            remove_leftovers(self.folder, name)

    def write_options(self, options: dict[str, Any]) -> None:
        write_json(self.options, options, indent=2)

    def write_results(self, results: dict[str, Any]) -> None:
        write_json(self.results, results, indent=2)

    def write_inference(
        self, detections: Segments, results: dict[str, Any], *, videos: tuple[str, ...], classes: tuple[str, ...]
    ) -> None:
        """Write into the locked folder, where a killed call may have left half a file."""
        for name in ("detections.json", "results.json", TIMELINES, REPORT):
            remove_leftovers(self.inference, name)
        for name in (TIMELINES, REPORT):  # of an earlier call
            (self.inference / name).unlink(missing_ok=True)
        write_detections(self.inference / "detections.json", detections, videos, classes)
        write_json(self.inference / "results.json", results, indent=2)


def begin_training(
    flags: Mapping[str, Any], locks: contextlib.ExitStack
) -> tuple[Experiment, Options, Checkpoint | None]:
    """Name and lock a new experiment, or the one to resume, with its options and its last.pt. Nothing is written yet.

    Raises InputError, also when another process has the experiment, or flags would change what it computes.
    """
    if not flags.get("resume"):
        options = resolve(flags)
        return new_experiment(options.run, locks, data_path=options.data.data_path), options, None
    experiment = find_experiment(unresolved(flags).run, needs="last.pt")
    experiment.lock = locks.enter_context(FolderLock(experiment.folder))  # before reading what a run may be writing
    checkpoint = load_checkpoint(experiment.last)
    check_unchanged(flags, checkpoint.options or {})
    saved = checkpoint.options or {}
    kept: dict[str, Any] = {
        name: saved[name] for name in ("threads", "products") if name in saved
    }  # others would move last bits
    return experiment, resolve({**kept, **flags, "exp_name": experiment.folder.name}, checkpoint.options), checkpoint


def begin_inference(flags: Mapping[str, Any]) -> tuple[Experiment, pathlib.Path, Options, Checkpoint]:
    """Find the experiment for the results, and the checkpoint's path, options and content. Raises InputError.

    A bare state dict has no options: its shapes say what the network must be. --classes names its classes.
    """
    path, experiment = find_model(unresolved(flags).run)
    checkpoint = name_classes(load_checkpoint(path), flags.get("classes", ""), path)
    saved = checkpoint.options or shape_flags(checkpoint.model)
    if _names_other_data(flags, saved):
        saved = {name: value for name, value in saved.items() if name not in OF_THE_DATA}
    return experiment, path, resolve(flags, saved), checkpoint


def _names_other_data(flags: Mapping[str, Any], saved: Mapping[str, Any]) -> bool:
    """Whether the call is about other data than the model was trained with, whose place and layout then say nothing."""
    if "data_path" in flags:
        return os.path.abspath(flags["data_path"]) != saved.get("data_path")
    return "predict" in flags


def new_experiment(options: RunOptions, locks: contextlib.ExitStack, *, data_path: str) -> Experiment:
    """Name and lock a new experiment; its folder is removed again if nothing is written into it.

    Raises InputError when the named one is in use, or already has checkpoints and may not be overwritten.
    """
    output_dir, name = pathlib.Path(options.output_dir), options.exp_name
    if not is_text(options.output_dir):
        raise InputError(f"--output_dir {output_dir}: not UTF-8, as the files of curves need it; name another folder")
    if not name:
        return _unused_experiment(output_dir / default_name(data_path), locks)
    folder = output_dir / name
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give another --exp_name")
    if (folder / QUEUE_LOGS).is_dir() and not (folder / "options.json").exists():
        raise InputError(f"{folder}: holds the runs of a queue; give another --exp_name")
    experiment = Experiment(folder, locks.enter_context(FolderLock(folder)))
    existing = [path for path in (experiment.last, experiment.best) if path.exists()]
    if existing and not options.overwrite:
        resuming = "--resume to continue it, " if experiment.last in existing else ""
        without = "" if resuming else " (--resume cannot continue it without its last.pt)"
        place = shlex.join(["--exp_name", name, "--output_dir", str(output_dir)])
        raise InputError(
            f"{existing[0]} exists: --exp_name {name} has been trained; "
            f"give {resuming}--overwrite to start over, or another --exp_name{without}",
            hint=f"to continue it: main.py --resume {place}" if resuming else "",
        )
    return experiment


def _unused_experiment(folder: pathlib.Path, locks: contextlib.ExitStack) -> Experiment:
    """Lock a folder that nobody has: this one, or one with a number after its name."""
    for number in itertools.count(1):
        candidate = folder.with_name(f"{folder.name}-{number}") if number > 1 else folder
        try:
            return Experiment(candidate, locks.enter_context(FolderLock(candidate, new=True)))
        except InUse:
            pass
        except FileExistsError:
            if not folder.parent.is_dir():  # no name would be free there
                raise InputError(
                    f"--output_dir {folder.parent}: not a folder, and none can be made; is it a link that leads nowhere?"
                ) from None
    raise AssertionError("unreachable")


def default_name(data_path: str) -> str:
    """A name that tells what is trained on, and when: that of the data's folder, as far as it is plain, and the time."""
    name = re.sub(r"[^\w.-]+", "_", os.path.basename(os.path.realpath(data_path))).strip("._-")[:50]
    return f"{name or 'data'}_{time.strftime('%Y%m%d-%H%M%S')}"


def find_experiment(options: RunOptions, *, needs: str) -> Experiment:
    """Find the named experiment, or the one whose file `needs` was written last. Raises InputError when there is none."""
    output_dir, name = pathlib.Path(options.output_dir), options.exp_name
    if name:
        candidates = [output_dir / name / needs]
    else:
        candidates = sorted(output_dir.glob(f"*/{needs}"), key=lambda path: path.stat().st_mtime)
    if not candidates or not candidates[-1].is_file():
        where = output_dir / (name or "*") / needs
        best = output_dir / name / "best.pt"
        if needs == "last.pt" and name and best.is_file():
            raise InputError(
                f"{where}: no such checkpoint, and best.pt beside it holds no training state; start over with --overwrite, or "
                f"under another --exp_name with --init_from {best}"
            )
        kind = "checkpoint" if needs.endswith(".pt") else "file"
        raise InputError(f"{where}: no such {kind}; train first, or check --output_dir, --exp_name or --model_file")
    return Experiment(candidates[-1].parent)


def find_model(options: RunOptions) -> tuple[pathlib.Path, Experiment]:
    """Find the checkpoint for inference, and the experiment whose folder gets the results.

    That is the one that --exp_name names, else the one that contains the checkpoint, else one named after the file.
    """
    if not options.model_file:
        experiment = find_experiment(options, needs="best.pt")
        return experiment.best, experiment
    path, output_dir = pathlib.Path(options.model_file), pathlib.Path(options.output_dir)
    if options.exp_name:
        return path, Experiment(output_dir / options.exp_name)
    return path, Experiment(path.parent if (path.parent / "options.json").exists() else output_dir / path.stem)
