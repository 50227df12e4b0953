"""The evaluations of a run, with the best and the last, and results.json, which records them.

history = History(experiment, average_tious=("0.1:0.5", "0.1:0.7"), provenance=...)
if history.add(EvaluationRecord(step=30, epoch=1, summary=summary)): ...      # the best so far
history.write(step=30, finished=False)
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.summary import EvaluationSummary
from eval.tables import percent
from formats.regular_files import check_regular
from formats.run_results import COMPARED
from options import SELECTIONS, EvaluationOptions
from run.experiment import Experiment
from run.training_state import plain_count, plain_dict, plain_number

LONGEST_NOTE = 1000  # on what was other where a run went on


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord:
    """One evaluation and when it was made; `epoch` counts from 1."""

    step: int
    epoch: int
    summary: EvaluationSummary

    def as_plain(self) -> dict[str, Any]:
        return {"step": self.step, "epoch": self.epoch, **self.summary.as_plain()}

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> "EvaluationRecord":
        """Raises ValueError for what is no evaluation."""
        plain_dict(plain, "an evaluation", ("step", "epoch", "mAP", "average_mAP", "video_accuracy", "per_class_AP"))
        by_class = _optional(plain["per_class_AP"], "per_class_AP")
        for shares in (plain["mAP"], plain["average_mAP"], *by_class.values()):
            for name, share in _optional(shares, "an evaluation").items():
                plain_number(share, f"mAP at {name}", low=0, high=1)
        if plain["video_accuracy"] is not None:
            plain_number(plain["video_accuracy"], "video_accuracy", low=0, high=1)
        if any(
            _optional(ap, "per_class_AP").keys() != _optional(plain["mAP"], "mAP").keys() for ap in by_class.values()
        ):
            raise ValueError("per_class_AP and mAP are of different tIoUs")
        if plain.get("compared") is not None:
            for what, count in plain_dict(plain["compared"], "compared", COMPARED).items():
                plain_count(count, what)
        summary = EvaluationSummary.from_plain(plain)
        return EvaluationRecord(
            step=plain_count(plain["step"], "step"), epoch=plain_count(plain["epoch"], "epoch"), summary=summary
        )


@dataclass(frozen=True, kw_only=True)
class HistoryPoint:
    """The numbers kept from every evaluation; fractions, None for what was not computed."""

    step: int
    epoch: int
    average_mAP: float | None  # over the last span, which chooses the best
    video_accuracy: float | None
    val_loss: float | None = None  # on held-out training videos, nats


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Time spent, over all calls that continued a run."""

    training: float = 0.0
    evaluation: float = 0.0

    def __str__(self) -> str:
        return f"training {self.training:.0f}, evaluation {self.evaluation:.0f}"


class History:
    """Owner of everything in a run's results file; its state belongs in the run's checkpoint."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        average_tious: Sequence[str],
        provenance: Mapping[str, Any],
        select: str = EvaluationOptions.select,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        """`select` names, as --select does, the evaluation whose model is kept; `recipe` is what was taken from the data."""
        self.experiment, self.provenance, self.select = experiment, provenance, select
        self.recipe = recipe  # name, values, reasons; None for the published one
        self.span = average_tious[-1]
        self.best: EvaluationRecord | None = None
        self.last: EvaluationRecord | None = None
        self.val: EvaluationRecord | None = None  # of the least loss on held-out videos, the first of equal ones
        self.points: list[HistoryPoint] = []
        self.seconds = Seconds()
        self.changed: list[str] = []  # what was other where it went on, and may have moved last bits

    @property
    def evaluations(self) -> dict[str, EvaluationRecord]:
        """Those that have a name in results.json, as far as there are any."""
        named = {"best": self.best, "last": self.last, "val": self.val}
        return {name: record for name, record in named.items() if record}

    @property
    def selected(self) -> EvaluationRecord | None:
        """The one whose model is kept."""
        return self.evaluations.get(SELECTIONS[self.select])

    def add(self, record: EvaluationRecord, *, val_loss: float | None = None) -> bool:
        """Add an evaluation; return whether it is the selected one now."""
        losses = [point.val_loss for point in self.points if point.val_loss is not None]
        if val_loss is not None and val_loss < min(losses, default=math.inf):
            self.val = record
        self.last = record
        self.points.append(
            HistoryPoint(
                step=record.step,
                epoch=record.epoch,
                average_mAP=self._average_map(record),
                video_accuracy=record.summary.video_accuracy,
                val_loss=val_loss,
            )
        )
        if self.best is None or self.score(record) > self.score(self.best):
            self.best = record
        return self.selected is record

    def score(self, record: EvaluationRecord) -> float:
        """The value that ranks evaluations: average mAP, else video accuracy, else the step."""
        average_map, accuracy = self._average_map(record), record.summary.video_accuracy
        if average_map is not None:
            return average_map
        return record.step if accuracy is None else accuracy

    def describe_last(self) -> str:
        """The last evaluation in words: the number that `score` uses first, and which of them are the best so far."""
        assert self.last
        texts = [*self._texts(self.last), *(["the best so far"] if self.last is self.best else [])]
        loss = self.points[-1].val_loss
        if loss is None:
            return ", ".join(texts)
        least = ", the least so far" if self.last is self.val else ""
        return f"{', '.join(texts)}; loss on held-out videos {loss:.4f}{least}"

    def headline(self) -> str:
        """The best score so far in words; "-" before the first."""
        return self._texts(self.best)[0] if self.best else "-"

    def add_seconds(self, *, training: float = 0.0, evaluation: float = 0.0) -> None:
        self.seconds = Seconds(
            training=self.seconds.training + training, evaluation=self.seconds.evaluation + evaluation
        )

    def is_evaluated(self, step: int) -> bool:
        return bool(self.points) and self.points[-1].step == step

    def as_plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint and for results.json."""
        return {
            **dict.fromkeys(SELECTIONS.values()),
            **{name: record.as_plain() for name, record in self.evaluations.items()},
            "seconds": dataclasses.asdict(self.seconds),
            "history": [dataclasses.asdict(point) for point in self.points],
            "changed": list(self.changed),
            **({"recipe_taken": dict(self.recipe)} if self.recipe else {}),
        }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Restore what `as_plain` returned. Raises ValueError, KeyError or TypeError for anything else."""
        self.best, self.last, self.val = (
            None if found is None else EvaluationRecord.from_plain(found)
            for found in (plain["best"], plain["last"], plain.get("val"))  # earlier versions have no val
        )
        self.points = [HistoryPoint(**plain_dict(point, "an entry of the history")) for point in plain["history"]]
        for point in self.points:
            plain_count(point.step, "a step of the history")
            plain_count(point.epoch, "an epoch of the history")
            for value in (point.average_mAP, point.video_accuracy):
                if value is not None:
                    plain_number(value, "a value of the history", low=0, high=1)
            if point.val_loss is not None:
                plain_number(point.val_loss, "a loss of the history", low=0, high=math.inf)
        seconds = plain_dict(plain["seconds"], "seconds", ("training", "evaluation"))
        self.seconds = Seconds(**{name: plain_number(v, name, low=0, high=math.inf) for name, v in seconds.items()})
        self.changed = _notes(plain.get("changed", []))  # earlier versions kept none
        self.recipe = _recipe(plain.get("recipe_taken"))
        self._check_restored()

    def _check_restored(self) -> None:
        """Raise ValueError when the history and its named evaluations contradict each other, or the history and --select."""
        steps = [point.step for point in self.points]
        if steps != sorted(set(steps)) or (self.last.step if self.last else None) != (steps[-1] if steps else None):
            raise ValueError("the history and the last evaluation contradict each other")
        if (self.best is None) != (self.last is None):
            raise ValueError("of the best and the last evaluation, one is missing")
        if any((point.val_loss is not None) != (self.select == "val") for point in self.points):
            raise ValueError("the history and --select contradict each other")
        losses = {point.val_loss: point.step for point in reversed(self.points) if point.val_loss is not None}
        if (self.val.step if self.val else None) != (losses[min(losses)] if losses else None):
            raise ValueError("the history and the evaluation of the least loss contradict each other")
        points = {point.step: point for point in self.points}
        for record in self.evaluations.values():
            point = points[record.step]
            if (self._average_map(record), record.summary.video_accuracy) != (point.average_mAP, point.video_accuracy):
                raise ValueError("the history and its evaluations differ in their numbers")
        forms = [
            [None if part is None else list(part) for part in (s.mAP, s.average_mAP, s.per_class_AP)]
            for s in (record.summary for record in self.evaluations.values())
        ]
        if any(form != forms[0] or len({part is None for part in form}) > 1 for form in forms):
            raise ValueError("the best and the last evaluation are of different tIoUs or classes")

    def write(self, *, step: int, finished: bool) -> None:
        """Write results.json, once there is an evaluation. Raises InputError when the file cannot be written."""
        results = self.results(step=step, finished=finished)
        if results:
            self.experiment.write_results(results)

    def results(self, *, step: int, finished: bool) -> dict[str, Any] | None:
        """What results.json says at this step; None before the first evaluation. `finished`: no step is left."""
        if not self.last:
            return None
        return {"select": self.select, **self.as_plain(), "steps": step, "finished": finished, **self.provenance}

    def is_written(self, *, step: int, finished: bool) -> bool:
        """Whether results.json is of this step and these evaluations: a kill can come between last.pt and it."""
        try:
            check_regular(self.experiment.results)  # a pipe would be waited for
            written = json.loads(self.experiment.results.read_text(encoding="utf-8"))
            stated = written["steps"], written["finished"], written["history"]
            return stated == (step, finished, self.as_plain()["history"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return self.last is None

    def _average_map(self, record: EvaluationRecord) -> float | None:
        return record.summary.average_mAP[self.span] if record.summary.average_mAP else None

    def _texts(self, record: EvaluationRecord) -> list[str]:
        average_map, accuracy = self._average_map(record), record.summary.video_accuracy
        texts = [] if average_map is None else [f"average mAP {self.span} {percent(average_map)}"]
        texts += [] if accuracy is None else [f"video accuracy {percent(accuracy)}"]
        return texts or ["nothing to compare with"]


def _optional(value: Any, name: str) -> dict[Any, Any]:
    """A dict; empty for None."""
    return {} if value is None else plain_dict(value, name)


def _notes(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(note, str) and len(note) <= LONGEST_NOTE for note in value):
        raise ValueError("notes are not a list of texts")
    return list(value)


def _recipe(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    taken = plain_dict(value, "the recipe", ("name", "values", "reasons"))
    values = plain_dict(taken["values"], "the recipe's values")
    flat = all(isinstance(v, str | int | float | None) and len(str(v)) <= LONGEST_NOTE for v in values.values())
    if not isinstance(taken["name"], str) or not flat:
        raise ValueError("the recipe is not a name with plain values")
    return {"name": taken["name"], "values": dict(values), "reasons": _notes(taken["reasons"])}
