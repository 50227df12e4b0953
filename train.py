"""Training: one step, the loop around it, when to evaluate, save and resume (docs/method.md, sections 3 and 4).

trainer = Trainer(objective, optimizer, data, ...)
trainer.resume(checkpoint)             # only to continue a run
trainer.run(evaluate)                  # evaluate() -> Evaluation
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from utils.console import not_a_program

    not_a_program("train.py", run="bash scripts/train.sh or python main.py")

import contextlib
import dataclasses
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dataset import Batch, Dataset, steps_per_epoch, train_batch_sizes, train_batches
from formats.result_file import write_detections
from layers.wide_adam import WideAdam
from layers.wide_linear import gradient_of
from losses import ActionnessTargets, AdaptiveMask, actionness_targets, sal_losses, weighted_total
from model import SAL
from options import (
    ActionnessOptions,
    DataOptions,
    EvaluationOptions,
    FusionOptions,
    LossOptions,
    OptimisationOptions,
    RunOptions,
)
from run.checkpoint import Checkpoint, check_classes, load_model, save_checkpoint
from run.compiling import TRIALS, check_same, compile_or_explain, trial_batches, unchanged, without_dropout
from run.curves import CurveWriter, evaluation_curves
from run.experiment import Experiment
from run.history import EvaluationRecord, History
from run.interrupt import Interrupt
from test import Evaluation
from utils.errors import InputError, TrainingError
from utils.memory import is_out_of_memory
from utils.progress import Progress

MOST_EPOCH_LINES = 200  # of a run, where there is no terminal
MOST_PENDING = 10  # steps after which losses are read, even if nothing else is due


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The losses and targets of a training step, on the device."""

    names: tuple[str, ...]  # of the losses
    losses: Tensor  # [len(names)], unweighted terms, and the total last
    targets: ActionnessTargets


class Objective:
    """features [B,T,D], labels [B,C] -> StepResult whose losses[-1] is to be minimised. Updates the mask's statistics."""

    def __init__(
        self,
        model: SAL,
        mask: AdaptiveMask,
        *,
        losses: LossOptions,
        actionness: ActionnessOptions,
        fusion: FusionOptions,
    ) -> None:
        self.model, self.mask = model, mask
        self.losses, self.actionness, self.fusion = losses, actionness, fusion

    def __call__(self, features: Tensor, labels: Tensor) -> StepResult:
        output = self.model(features)
        targets = actionness_targets(output, self.mask, self.actionness)
        losses = sal_losses(output, labels, targets, losses=self.losses, fusion=self.fusion)
        losses["total"] = weighted_total(losses, self.losses.weights)
        return StepResult(names=tuple(losses), losses=torch.stack(list(losses.values())), targets=targets)


ComputeStep = Callable[[Tensor, Tensor], StepResult]  # an Objective, possibly compiled


def train_step(compute: ComputeStep, optimizer: WideAdam, batch: Batch) -> StepResult:
    """Forward, targets, losses, backward, update; no update when the total is not finite.

    Nothing here asks the device for a value, so that the host can run ahead of it.
    """
    optimizer.zero_grad()
    result = forward_backward(compute, batch.features, batch.labels)
    optimizer.found_inf = (~torch.isfinite(result.losses[-1].detach())).float()
    optimizer.step()
    # A copy, since a compiled objective writes its next result to the same memory.
    return dataclasses.replace(result, losses=result.losses.detach().clone())


def forward_backward(compute: ComputeStep, features: Tensor, labels: Tensor) -> StepResult:
    """Losses and gradients. The whole result is held until `backward` is done: CUDA graphs allow no less of it in a replay."""
    result = compute(features, labels)
    result.losses[-1].backward()
    return result


def compile_objective(objective: Objective, batch_sizes: Sequence[int], num_segments: int) -> ComputeStep:
    """Compile the objective, forward and backward, for batches of these sizes; return it as it is if that fails.

    A trial comes first: with dropout as in training, and without, where loss and gradients must be the uncompiled ones.
    """
    model = objective.model

    def run(compute: ComputeStep, features: Tensor) -> StepResult:
        model.zero_grad()
        labels = torch.ones(len(features), model.num_classes, device=features.device)
        return forward_backward(compute, features, labels)

    def numbers(compute: ComputeStep, features: Tensor) -> dict[str, Tensor]:
        with unchanged(model, objective.mask):
            losses = run(compute, features).losses.detach().clone()
            gradients = {name: gradient_of(parameter) for name, parameter in model.named_parameters()}
        zero = losses.new_zeros(())  # of a parameter that the loss does not reach
        return {
            "the loss": losses,
            **{f"the gradient of {name}": zero if value is None else value for name, value in gradients.items()},
        }

    def trial(compiled: ComputeStep) -> None:
        with unchanged(model, objective.mask):
            model.train()
            with without_dropout(model):
                features = next(trial_batches(model, batch_sizes=batch_sizes, num_segments=num_segments))
                expected = numbers(objective.__call__, features)
                for _ in range(TRIALS):
                    check_same(numbers(compiled, features), expected, model)
            for features in trial_batches(model, batch_sizes=batch_sizes, num_segments=num_segments):
                run(compiled, features)

    device = next(model.parameters()).device
    return compile_or_explain(objective.__call__, trial, device, what="the training step")


@dataclass(frozen=True, kw_only=True)
class PendingLosses:
    """The losses of a step that are still on the device: reading them makes the host wait."""

    step: int  # counted from 1
    videos: tuple[str, ...]
    names: tuple[str, ...]
    losses: Tensor  # [len(names)]


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The objects that one call of `Trainer.run` works with."""

    evaluate: Callable[[], Evaluation]
    curves: CurveWriter
    progress: Progress
    interrupt: Interrupt


class Trainer:
    """The state of a run and the loop over its steps. Everything that influences training is in its checkpoint."""

    def __init__(
        self,
        objective: Objective,
        optimizer: WideAdam,
        data: Dataset,
        *,
        experiment: Experiment,
        history: History,
        data_options: DataOptions,
        optimisation: OptimisationOptions,
        evaluation: EvaluationOptions,
        run_options: RunOptions,
        saved_options: Mapping[str, Any],
    ) -> None:
        """Prepare a run from step 0. `saved_options` go into every checkpoint as they are."""
        self.model, self.mask = objective.model, objective.mask
        self.compute: ComputeStep = objective
        self.optimizer, self.data, self.device = optimizer, data, data.train.store.device
        self.experiment, self.history, self.saved_options = experiment, history, dict(saved_options)
        self.data_options, self.run_options = data_options, run_options
        self.optimisation, self.evaluation = optimisation, evaluation
        self.steps_per_epoch = steps_per_epoch(len(data.train), optimisation)
        if self.steps_per_epoch == 0:
            raise InputError(
                f"--batch_size {optimisation.batch_size}: --drop_last leaves none of {len(data.train)} videos"
            )
        self.total_steps = optimisation.total_steps(self.steps_per_epoch)
        if run_options.compile:
            sizes = train_batch_sizes(data.train, optimisation)
            self.compute = compile_objective(objective, sizes, data_options.num_segments)
        self.step = 0
        self.checked_step = -1  # when the weights were last known to be finite
        self.pending: list[PendingLosses] = []

    def run(self, evaluate: Callable[[], Evaluation]) -> None:
        """Train from the current step to the last.

        Raises TrainingError when a loss is not finite, when memory runs out, or on an interrupt.
        """
        batches = train_batches(
            self.data.train,
            self.data_options,
            optimisation=self.optimisation,
            seed=self.run_options.seed,
            first_step=self.step,
            last_step=self.total_steps,
        )
        with (
            Interrupt() as interrupt,
            CurveWriter(self.experiment.tensorboard, first_step=self.step + 1) as curves,
            Progress(
                total=self.total_steps, initial=self.step, desc="training", unit="step", out=sys.stdout
            ) as progress,
            contextlib.closing(batches),
        ):
            try:
                self._loop(
                    batches, RunContext(evaluate=evaluate, curves=curves, progress=progress, interrupt=interrupt)
                )
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise TrainingError(
                    f"out of memory on {self.device} after step {self.step}; {self._last_saved()}; --resume with a lower "
                    "--test_batch_size or --cache mmap, or start a new run with a lower --batch_size, --num_segments or "
                    "--hidden_size"
                ) from error

    def _loop(self, batches: Iterator[Batch], context: RunContext) -> None:
        if self.step > 0 and self._evaluates_now() and not self.history.is_evaluated(self.step):
            self._evaluate(context)  # it failed or was interrupted before the run was resumed
            if context.interrupt.requested or self._saves_now():
                self.save()
            self._stop_if_asked(context.interrupt)
        start = time.perf_counter()
        while self.step < self.total_steps:
            with self._saved_if_data_break():
                batch = next(batches)
            self.model.train()
            result = train_step(self.compute, self.optimizer, batch)
            self.step += 1
            pending = PendingLosses(step=self.step, videos=batch.video_ids, names=result.names, losses=result.losses)
            self.pending.append(pending)
            context.progress.update()
            reporting = context.progress.is_due or self._reports_now()
            saving = context.interrupt.requested or self._saves_now()
            due = self._logs_now() or self._evaluates_now() or saving or reporting
            if not (due or len(self.pending) == MOST_PENDING):
                continue
            # Here the host waits for the device. Seconds run from one such step to the next, waiting for batches and saving
            # checkpoints included.
            losses = self._read_losses()
            seconds, start = time.perf_counter() - start, time.perf_counter()
            self.history.add_seconds(training=seconds)
            epoch = math.ceil(self.step / self.steps_per_epoch)
            numbers = {"epoch": str(epoch), "loss": f"{losses[-1]['total']:.3f}"}
            if context.progress.bar:  # elsewhere every evaluation has a line of its own
                numbers["best"] = self.history.headline()
            context.progress.show(**numbers)
            if reporting:
                context.progress.report()
            if self._logs_now():
                context.curves.add(self._step_curves(losses[-1], result.targets, seconds / len(losses)), self.step)
            # An evaluation is long: a run that is to stop leaves it to the one that continues it.
            if self._evaluates_now() and not context.interrupt.requested:
                self._evaluate(context)
                start = time.perf_counter()
            if saving or context.interrupt.requested:
                self.save()
            self._stop_if_asked(context.interrupt)

    def _stop_if_asked(self, interrupt: Interrupt) -> None:
        """Raise TrainingError on an interrupt, once everything is saved, unless the run is complete."""
        if interrupt.requested and not (self.step == self.total_steps and self.history.is_evaluated(self.step)):
            raise TrainingError(f"interrupted at step {self.step} of {self.total_steps}; {self._continue_with()}")

    def _reports_now(self) -> bool:
        """Whether to print a line where there is no bar, besides those that are due by time: after epochs, if not too many."""
        epochs = math.ceil(self.total_steps / self.steps_per_epoch / MOST_EPOCH_LINES)
        return self.step % (epochs * self.steps_per_epoch) == 0

    def _logs_now(self) -> bool:
        return self.step % self.run_options.log_steps == 0

    def _evaluates_now(self) -> bool:
        """Whether to evaluate: always at the last step, and at regular steps from a given epoch on."""
        begun = self.step > (self.evaluation.eval_from_epoch - 1) * self.steps_per_epoch
        return self.step == self.total_steps or (begun and self.step % self.evaluation.detection_inf_step == 0)

    def _saves_now(self) -> bool:
        return self.step == self.total_steps or self.step % (self.run_options.save_epochs * self.steps_per_epoch) == 0

    def _evaluate(self, context: RunContext) -> None:
        self._check_weights()
        with self._saved_if_data_break(), self._saved_if_interrupted(context.interrupt):
            evaluation = context.evaluate()
        self.history.add_seconds(evaluation=evaluation.seconds)
        epoch = math.ceil(self.step / self.steps_per_epoch)
        record = EvaluationRecord(step=self.step, epoch=epoch, summary=evaluation.summary)
        improved = self.history.add(record)
        if improved:
            save_checkpoint(self.experiment.best, self._checkpoint({"step": self.step, "best": record.as_plain()}))
            videos, classes = self.data.test.names, self.data.classes
            write_detections(self.experiment.detections, evaluation.detections, videos, classes)
        self.history.write(step=self.step)
        context.curves.add({"seconds/evaluation": evaluation.seconds, **evaluation_curves(record.summary)}, self.step)
        if improved or self.run_options.verbose or not sys.stdout.isatty():
            best = ", the best so far" if improved else ""
            context.progress.write(f"step {self.step} (epoch {epoch}): {self.history.describe(record)}{best}")

    @contextlib.contextmanager
    def _saved_if_interrupted(self, interrupt: Interrupt) -> Iterator[None]:
        """Leave an evaluation at the first signal, saved: the run that continues this one repeats it."""
        try:
            with interrupt.at_once():
                yield
        except BaseException:
            if interrupt.requested:  # whatever the interrupt has turned into
                self.save()
                self._stop_if_asked(interrupt)
            raise

    @contextlib.contextmanager
    def _saved_if_data_break(self) -> Iterator[None]:
        """Save before the error when streamed features turn out to be broken, or vanish, hours after the start."""
        try:
            yield
        except (InputError, OSError) as error:
            if is_out_of_memory(error) or self.step == 0:
                raise
            if self.pending:
                self._read_losses()
            self.save()
            reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise InputError(f"{reason}; saved at step {self.step}: fix it and {self._continue_with()}") from None

    def save(self) -> None:
        """Write last.pt, with the complete state, and results.json."""
        self._check_weights()
        save_checkpoint(self.experiment.last, self._checkpoint(self._training_state()))
        self.history.write(step=self.step)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Restore the state that `save` wrote. Raises InputError when the file does not belong to such a run."""
        state, path = checkpoint.training, self.experiment.last
        check_classes(checkpoint, self.data.classes, path)
        if "optimizer" not in state:
            raise InputError(f"{path}: holds no training state; --resume needs the last.pt of a run")
        load_model(self.model, checkpoint.model, path)
        try:
            videos = state["videos"]
            self._restore(state)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(
                f"{path}: its training state is damaged ({reason}); use another copy, or start over with --overwrite"
            ) from None
        if videos != list(self.data.train.names):
            raise InputError(
                f"{path}: trained on other videos than split_train.txt lists now; give the same --data_path"
            )

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.mask.load_state_dict(state["mask"])
        self.step = int(state["step"])
        self.history.restore(state)
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)

    def _checkpoint(self, training: dict[str, Any]) -> Checkpoint:
        return Checkpoint(
            model=self.model.state_dict(), options=self.saved_options, classes=self.data.classes, training=training
        )

    def _training_state(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "step": self.step,
            **self.history.as_plain(),
            "videos": list(self.data.train.names),
            "optimizer": self.optimizer.state_dict(),
            "mask": self.mask.state_dict(),
            "random": {"cpu": torch.get_rng_state(), "cuda": cuda},
        }

    def _read_losses(self) -> list[dict[str, float]]:
        """Read the losses of the steps since the last reading. Raises TrainingError at the first that is not finite."""
        values = torch.stack([pending.losses for pending in self.pending]).tolist()
        losses = [dict(zip(p.names, row, strict=True)) for p, row in zip(self.pending, values, strict=True)]
        for pending, terms in zip(self.pending, losses, strict=True):
            if not math.isfinite(terms["total"]):
                epoch = math.ceil(pending.step / self.steps_per_epoch)
                shown = ", ".join(f"{name} {term:g}" for name, term in terms.items())
                raise TrainingError(
                    f"loss not finite at step {pending.step} (epoch {epoch}), videos {', '.join(pending.videos)}: {shown}; "
                    f"{self._last_saved()}; try a lower --lr"
                )
        self.pending.clear()
        return losses

    def _check_weights(self) -> None:
        """Raise TrainingError if an update left weights that are not finite, which even a finite loss can cause."""
        if self.checked_step == self.step:
            return
        sums = torch.stack([parameter.detach().sum() for parameter in self.model.parameters()])
        for (name, _), value in zip(self.model.named_parameters(), sums.tolist(), strict=True):
            if not math.isfinite(value):
                raise TrainingError(f"weights of {name} not finite after step {self.step}; try a lower --lr")
        self.checked_step = self.step

    def _step_curves(self, losses: Mapping[str, float], targets: ActionnessTargets, seconds: float) -> dict[str, float]:
        return {
            **{f"loss/{name}": term for name, term in losses.items()},
            "actionness/mask_mean": targets.weight.mean().item(),
            "actionness/pseudo_label_share": targets.label.mean().item(),
            "actionness/confidence_mean": self.mask.mean.item(),
            "actionness/confidence_variance": self.mask.var.item(),
            "optimisation/learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds/step": seconds,
        }

    def _last_saved(self) -> str:
        return "last.pt is intact" if self.experiment.last.exists() else "no last.pt was written yet"

    def _continue_with(self) -> str:
        folder = self.experiment.folder
        return "continue with " + shlex.join(
            ["--resume", "--exp_name", folder.name, "--output_dir", str(folder.parent)]
        )
