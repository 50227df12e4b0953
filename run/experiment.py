"""An experiment's folder: where its files are, which experiment is the latest, and how results are written.

output_dir/exp_name/{options.json, results.json, detections_best.json, best.pt, last.pt, tensorboard/}
"""

import json
import pathlib
import shutil
import time
from collections.abc import Mapping
from typing import Any

from formats.result_file import write_detections
from options import Options, RunOptions, check_unchanged, resolve, unresolved
from run.checkpoint import Checkpoint, load_checkpoint
from utils.atomic import write_text
from utils.errors import InputError
from utils.segments import Segments


class Experiment:
    """The files in one experiment's folder, by name."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

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
    def tensorboard(self) -> pathlib.Path:
        return self.folder / "tensorboard"

    @property
    def inference(self) -> pathlib.Path:
        return self.folder / "inference"

    def claim(self, *, named: bool) -> None:
        """Make the folder, once all input has been checked.

        An earlier run of that name is moved to NAME.old, replacing an older one there, so that no two runs mix. A name that the
        user did not choose gets a number if another run has just taken it.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        name, count = self.folder.name, 1
        while True:
            try:
                self.folder.mkdir()
                return
            except FileExistsError:
                if not named:
                    count += 1
                    self.folder = self.folder.with_name(f"{name}-{count}")
                elif self.last.exists() or self.best.exists():
                    old = self.folder.with_name(f"{name}.old")
                    if old.exists():
                        shutil.rmtree(old)
                    self.folder.rename(old)
                else:  # an earlier run ended before it saved anything
                    shutil.rmtree(self.tensorboard, ignore_errors=True)
                    return

    def remove_unfinished(self) -> None:
        """Remove the temporary files of a run that was killed while writing; they can be large."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()

    def write_options(self, options: dict[str, Any]) -> None:
        write_text(self.options, json.dumps(options, indent=2) + "\n")

    def write_results(self, results: dict[str, Any]) -> None:
        write_text(self.results, json.dumps(results, indent=2) + "\n")

    def write_inference(
        self, detections: Segments, results: dict[str, Any], *, videos: tuple[str, ...], classes: tuple[str, ...]
    ) -> None:
        write_detections(self.inference / "detections.json", detections, videos, classes)
        write_text(self.inference / "results.json", json.dumps(results, indent=2) + "\n")


def begin_training(flags: Mapping[str, Any]) -> tuple[Experiment, Options, Checkpoint | None]:
    """Name a new experiment, or find the one to resume, with its options and its last.pt. Nothing is written yet.

    Raises InputError, also when flags would change what the experiment computes.
    """
    if not flags.get("resume"):
        options = resolve(flags)
        return new_experiment(options.run, dataset=options.data.dataset), options, None
    experiment = find_experiment(unresolved(flags).run, needs="last.pt")
    checkpoint = load_checkpoint(experiment.last)
    check_unchanged(flags, checkpoint.options or {})
    return experiment, resolve({**flags, "exp_name": experiment.folder.name}, checkpoint.options), checkpoint


def begin_inference(flags: Mapping[str, Any]) -> tuple[Experiment, pathlib.Path, Options, Checkpoint]:
    """Find the experiment for the results, and the checkpoint's path, options and content. Raises InputError."""
    path, experiment = find_model(unresolved(flags).run)
    checkpoint = load_checkpoint(path)
    return experiment, path, resolve(flags, checkpoint.options), checkpoint


def new_experiment(options: RunOptions, *, dataset: str) -> Experiment:
    """Name a new experiment; nothing is written yet.

    Raises InputError when the named one already has checkpoints and may not be overwritten.
    """
    name = options.exp_name or f"{dataset}_{time.strftime('%Y%m%d-%H%M%S')}"
    experiment = Experiment(pathlib.Path(options.output_dir) / name)
    if experiment.folder.exists() and not experiment.folder.is_dir():
        raise InputError(f"{experiment.folder}: is not a folder; give another --exp_name")
    existing = [path for path in (experiment.last, experiment.best) if path.exists()]
    if options.exp_name and existing and not options.overwrite:
        resuming = "--resume to continue it, " if experiment.last in existing else ""
        without = "" if resuming else " (--resume cannot continue it without its last.pt)"
        raise InputError(
            f"{existing[0]} exists: --exp_name {name} has been trained; "
            f"give {resuming}--overwrite to start over, or another --exp_name{without}"
        )
    return experiment


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
        raise InputError(f"{where}: no such checkpoint; train first, or check --output_dir, --exp_name or --model_file")
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
