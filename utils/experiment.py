"""An experiment's folder: where its files are, which was the last, and how results are written.

output_dir/exp_name/{options.json, results.json, detections_best.json, best.pt, last.pt, tensorboard/}
"""

import json
import pathlib
import shutil
import time
from typing import Any

from utils.atomic import write_text
from utils.errors import InputError
from utils.provenance import git_commit, versions


class Experiment:
    """Names of the files in one experiment's folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.options = folder / "options.json"
        self.results = folder / "results.json"
        self.detections = folder / "detections_best.json"
        self.best = folder / "best.pt"
        self.last = folder / "last.pt"
        self.tensorboard = folder / "tensorboard"
        self.inference = folder / "inference"

    def start_anew(self) -> None:
        """Remove the curves and the inference of an earlier run of that name. Its checkpoints and results stay until
        this run's take their place: until then nothing is lost."""
        for folder in (self.tensorboard, self.inference):
            shutil.rmtree(folder, ignore_errors=True)

    def write_options(self, options: dict[str, Any]) -> None:
        write_text(self.options, json.dumps(options, indent=2) + "\n")

    def write_results(self, results: dict[str, Any]) -> None:
        write_text(self.results, json.dumps(results, indent=2) + "\n")


def new_experiment(output_dir: pathlib.Path, name: str, *, dataset: str, overwrite: bool) -> Experiment:
    """Raises InputError when the named experiment already has checkpoints and `overwrite` is off."""
    name = name or f"{dataset}_{time.strftime('%Y%m%d-%H%M%S')}"
    experiment = Experiment(output_dir / name)
    existing = [path for path in (experiment.last, experiment.best) if path.exists()]
    if existing and not overwrite:
        raise InputError(
            f"{existing[0]} exists: --exp_name {name} has been trained; "
            "give --resume to continue it, --overwrite to start anew, or another --exp_name"
        )
    return experiment


def find_experiment(output_dir: pathlib.Path, name: str, *, needs: str) -> Experiment:
    """The named experiment, or the last one: whose file `needs` was written last. Raises InputError when there is none."""
    if name:
        found = [output_dir / name / needs]
    else:
        found = sorted(output_dir.glob(f"*/{needs}"), key=lambda path: path.stat().st_mtime)
    if not found or not found[-1].is_file():
        where = output_dir / (name or "*") / needs
        raise InputError(f"{where}: no such checkpoint; train first, or check --output_dir, --exp_name or --model_file")
    return Experiment(found[-1].parent)


def provenance(options: dict[str, Any]) -> dict[str, Any]:
    """What every result file carries besides its numbers."""
    return {"seed": options["seed"], "versions": versions(), "git_commit": git_commit(), "options": options}
