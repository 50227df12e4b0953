"""The evaluations of a run: the network predicts at once, its predictions are judged at once or in worker processes.

with Evaluations(evaluator, model, workers=1) as evaluations:
    evaluations.start(step)                                     # then training may change the weights ...
    for evaluated in evaluations.finished(most=1): ...          # ... and the results come later, in the order of the steps

They are the same, whoever judges. A worker that dies or hangs costs time only: its evaluations are judged again, here.
"""

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from eval.judging import Evaluation, Judge, Names
from formats.names import shown
from localization.instances import Prediction
from run.background import Worker, WorkerFailed
from utils.processors import usable_cpus

# Of a GPU: an evaluation of THUMOS'14 takes 0.12 s to judge, about as long as the 30 training steps between three of them.
GPU_WORKERS = 3


class Predictor(Protocol):
    """What predicts with a model's weights of now, and knows how predictions are judged: an Evaluator."""

    judge: Judge

    def predict(self) -> list[Prediction]: ...

    def __call__(self) -> Evaluation: ...


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """An evaluation that is complete."""

    step: int
    evaluation: Evaluation
    weights: dict[str, Tensor] | None  # of that step, on the model's device; None: the model still has them
    note: str = ""  # what a user should know of how it was made


@dataclass(frozen=True, kw_only=True)
class _Judging:
    """An evaluation that a worker judges."""

    step: int
    predictions: list[Prediction]
    weights: dict[str, Tensor]
    seconds: float  # that predicting took
    worker: Worker[list[Prediction], Evaluation]


class Evaluations:
    """Those of a run that are not counted yet, at most one more than there are workers."""

    def __init__(self, evaluator: Predictor, model: nn.Module, *, workers: int) -> None:
        self.evaluator, self.model, self.count = evaluator, model, workers
        self.workers: deque[Worker[list[Prediction], Evaluation]] = deque()  # that get more work
        self._waiting: deque[Evaluated | _Judging] = deque()
        self._processes = contextlib.ExitStack()

    def __enter__(self) -> "Evaluations":
        """Start as many workers as the system has room for; say so if there are fewer."""
        try:
            for _ in range(self.count):
                self.workers.append(self._processes.enter_context(contextlib.closing(Worker(self.evaluator.judge))))
        except OSError as error:
            print(
                f"note: --eval_workers {self.count}: the system has started {len(self.workers)} of them ({error.strerror}); "
                "results are the same"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._processes.close()

    @property
    def most(self) -> int:
        """How many may be incomplete while training goes on."""
        return len(self.workers)

    def start(self, step: int) -> None:
        """Evaluate the weights of now, up to the judging. Raises what predicting raises, without workers what judging does."""
        if not self.workers:
            self._waiting.append(Evaluated(step=step, evaluation=self.evaluator(), weights=None))
            return
        start = time.perf_counter()
        predictions = self.evaluator.predict()
        weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        worker = self.workers[0]
        worker.submit(predictions)
        self.workers.rotate(-1)
        seconds = time.perf_counter() - start
        self._waiting.append(
            _Judging(step=step, predictions=predictions, weights=weights, seconds=seconds, worker=worker)
        )

    def finished(self, *, most: int) -> Iterator[Evaluated]:
        """Those that are complete, in the order of their steps. Waits until at most `most` are not.

        Raises InputError when an evaluation does; those after it are dropped.
        """
        while self._waiting and (len(self._waiting) > most or _is_ready(self._waiting[0])):
            earliest = self._waiting.popleft()
            try:
                yield self._judged(earliest) if isinstance(earliest, _Judging) else earliest
            except BaseException:
                self._waiting.clear()
                raise

    def _judged(self, judging: _Judging) -> Evaluated:
        note = ""
        try:
            evaluation = judging.worker.result()
        except WorkerFailed as failure:
            note = self._do_without(failure, judging.step)
            evaluation = self.evaluator.judge(judging.predictions)
        evaluation = replace(evaluation, seconds=judging.seconds + evaluation.seconds)
        return Evaluated(step=judging.step, evaluation=evaluation, weights=judging.weights, note=note)

    def _do_without(self, failure: WorkerFailed, step: int) -> str:
        """Give the workers no more work; say why, the first time."""
        if not self.workers:
            return ""
        self.workers.clear()
        return (
            f"note: the worker process for the evaluation of step {step} {failure} {_at(failure.where)}; from this one on, "
            "evaluations are made in the training process"
        )


def worker_count(chosen: int | None, device: torch.device) -> int:
    """--eval_workers; by default none on a CPU, which training needs, and on a GPU as many as keep up with it."""
    if chosen is not None:
        return chosen
    return max(1, min(GPU_WORKERS, usable_cpus() - 1)) if device.type == "cuda" else 0


def _is_ready(waiting: Evaluated | _Judging) -> bool:
    return isinstance(waiting, Evaluated) or waiting.worker.is_ready()


def _at(where: Names | None) -> str:
    if where is None:
        return "before it began"
    if not where:
        return "at the mAP"
    return f"at one of the videos {shown(where)}" if len(where) > 1 else f"at video {shown(where)}"
