"""What a user should know when a run goes on: other data are refused, and what may move the last bits is said.

All but the last take the "training" part of a last.pt, and raise KeyError, TypeError or ValueError where it is not as saved.
"""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

from command_line.flags import as_typed
from options import LAST_BIT_FLAGS
from run.checkpoint import load_checkpoint
from run.data_digest import compare_digests
from run.experiment import Experiment
from run.training_state import plain_count, plain_dict
from utils.errors import InputError


def rows_looked_at(state: Mapping[str, Any]) -> int | None:
    """The rows of each video that a digest to compare with the run's must look at; None: the run has no digest."""
    if "data" not in state:
        return None
    return plain_count(plain_dict(state["data"], "the digest of the data", ("rows",))["rows"], "rows", least=1)


def check_data(state: Mapping[str, Any], digest: Mapping[str, Any], path: pathlib.Path) -> list[str]:
    """Notes on the data, compared with those of the run. Raises InputError naming what changed."""
    if "data" in state:
        changes, notes = compare_digests(state["data"], digest)
    elif "videos" in state:  # all that earlier versions saved
        changed = state["videos"] != digest["train"]["videos"]
        changes = ["the training videos are others, or in another order"] if changed else []
        notes = [f"{path} has no digest of its data: only the names of the training videos were compared"]
    elif "optimizer" in state:
        raise KeyError("data")
    else:  # no state of a run at all
        return []
    if changes:
        raise InputError(
            f"{path}: the data are not those that the run was trained on: {'; '.join(changes)}; put them back, or start a new "
            f"run under another --exp_name (--init_from {path} keeps the weights)"
        )
    return notes


def condition_notes(
    state: Mapping[str, Any],
    machine: Mapping[str, str],
    *,
    options: Mapping[str, Any],
    before: Mapping[str, Any],
) -> list[str]:
    """Notes on what differs in the machine, and in options that matter for last bits alone; `before` are the run's own."""
    changed = [
        f"--{name} {as_typed(before[name])} (now {as_typed(options[name])})"
        for name in sorted(LAST_BIT_FLAGS)
        if before.get(name) not in (None, options[name])
    ]
    earlier = plain_dict(state.get("machine", machine), "machine")
    earlier = plain_dict({"ranks": "1 rank", **earlier}, "machine", machine)  # earlier versions knew no ranks
    if not all(isinstance(value, str) for value in earlier.values()):
        raise ValueError("the machine is not described by texts")
    changed += [f"{earlier[name]:.40} (now {now})" for name, now in machine.items() if earlier[name] != now]
    if not changed:
        return []
    return [f"the run had {', '.join(changed)}: its numbers may differ from those of a run that was never interrupted"]


def best_model_notes(experiment: Experiment, *, step: int) -> list[str]:
    """Notes on best.pt where it is not of the step of the best evaluation in last.pt."""
    if not experiment.best.exists():
        return [f"{experiment.best} of step {step} is gone; the next model that is kept is written there"]
    ahead = _step_ahead(experiment, step)
    if ahead is None:
        return []
    return [
        f"{experiment.best} is of step {ahead}, later than {experiment.last}: the run was killed while it saved, and writes "
        "that model again when it gets there"
    ]


def _step_ahead(experiment: Experiment, step: int) -> int | None:
    """The step of best.pt if it was written after last.pt, and is of a later step than this one."""
    if experiment.best.stat().st_mtime_ns < experiment.last.stat().st_mtime_ns:
        return None
    with contextlib.suppress(InputError):  # a damaged file is written again, too
        saved = load_checkpoint(experiment.best).training.get("step")
        return saved if isinstance(saved, int) and saved > step else None
    return None
