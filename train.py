"""Training: one step, the loop around it, when to evaluate, save and resume (docs/method.md, sections 3 and 4).

trainer = Trainer(objective, optimizer, data, ...)
trainer.resume(checkpoint)             # only to continue a run
trainer.run(evaluator)
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from command_line.console import not_a_program

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

from command_line.progress import Progress
from dataset import WHOLE_BATCH, Batch, Dataset, Share, train_batch_sizes, train_batches
from formats.names import amount
from layers.rank_adam import unusable
from layers.snippets import Snippets
from layers.weight_average import WeightAverage
from layers.wide_adam import WideAdam
from layers.wide_linear import gradient_of
from losses import ALONE, ActionnessTargets, AdaptiveMask, Company, actionness_targets, sal_losses, weighted_total
from model import SAL, SalOutput
from options import (
    CALL_FLAGS,
    NEUTRAL_FLAGS,
    SELECTIONS,
    ActionnessOptions,
    DataOptions,
    EvaluationOptions,
    FusionOptions,
    LossOptions,
    OptimisationOptions,
    Options,
    RunOptions,
    resolve,
)
from run.checkpoint import Checkpoint, check_classes, load_model
from run.compiling import (
    SMALL_SHARE_OF_GRADIENTS,
    TRIALS,
    check_same,
    compile_or_explain,
    trial_batches,
    unchanged,
    without_dropout,
)
from run.curves import CurveWriter, evaluation_curves, final_numbers
from run.data_digest import data_digest
from run.evaluating import Evaluated, Evaluations, Predictor, worker_count
from run.experiment import Experiment
from run.graphs import GraphedStep, has_graphs
from run.history import LONGEST_NOTE, EvaluationRecord, History
from run.interrupt import Interrupt
from run.resuming import best_model_notes, check_data, condition_notes, rows_looked_at
from run.saving import BestModel, Saver, on_host
from run.state_dicts import MOST_WEIGHT
from run.training_state import (
    check_average,
    check_buffers,
    check_optimizer,
    check_random_state,
    damage_named,
    plain_count,
    plain_dict,
)
from self_training import ProposalLessons
from utils.errors import InputError, TrainingError
from utils.memory import is_out_of_memory
from utils.printable import one_line

MOST_EPOCH_LINES = 200  # of a run, where there is no terminal
MOST_PENDING = 10  # steps after which losses are read, even if nothing else is due


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The losses and targets of a training step, on the device."""

    names: tuple[str, ...]  # of the losses
    losses: Tensor  # [len(names)], unweighted terms, and the total last
    targets: ActionnessTargets | None


class Objective:
    """(features [B,T,D], labels [B,C]) -> StepResult whose losses[-1] is to be minimised. Updates the mask's statistics."""

    def __init__(
        self,
        model: SAL,
        mask: AdaptiveMask,
        *,
        losses: LossOptions,
        actionness: ActionnessOptions,
        fusion: FusionOptions,
        teacher: WeightAverage[SAL] | None = None,
        borders: bool = False,
    ) -> None:
        """`teacher`, which the caller keeps up to date, is what targets are made of; None: the model itself.

        `borders`: whether snippets may be taught not to be of a class, too.
        """
        self.model, self.mask, self.ablation, self.teacher = model, mask, model.ablation, teacher
        self.losses, self.actionness, self.fusion, self.borders = losses, actionness, fusion, borders

    def __call__(
        self,
        features: Tensor | Snippets,
        labels: Tensor,
        taught: Tensor | None = None,
        *,
        partner: Tensor | Snippets | None = None,
        company: Company = ALONE,
    ) -> StepResult:
        output = self.model(features, partner)
        targets = actionness_targets(
            self.teaching(features, output),
            self.mask,
            self.actionness,
            labels=labels,
            ablation=self.ablation,
            company=company,
        )
        losses = sal_losses(
            output,
            labels,
            targets,
            losses=self.losses,
            fusion=self.fusion,
            ablation=self.ablation,
            taught=taught,
            borders=self.borders,
        )
        losses["total"] = weighted_total(losses, self.losses.weights)
        return StepResult(names=tuple(losses), losses=torch.stack(list(losses.values())), targets=targets)

    @torch.no_grad()
    def teaching(self, features: Tensor | Snippets, output: SalOutput) -> SalOutput:
        """The output that targets are made of: the teacher's, in test mode, or the network's own."""
        if self.teacher is None:
            return output
        reads_actionness = self.actionness.pseudo_source == "actionness"
        return self.teacher.network.sequences(features, with_actionness=reads_actionness)


def build_training(model: SAL, options: Options, device: torch.device) -> tuple[Objective, WideAdam]:
    """What a network on a device is trained with, by the options."""
    adam = options.optimisation
    mask = AdaptiveMask(options.actionness, num_classes=model.num_classes).to(device)
    teacher = WeightAverage(model, decay=options.actionness.teacher_decay) if options.has_teacher else None
    objective = Objective(
        model,
        mask,
        losses=options.losses,
        actionness=options.actionness,
        fusion=options.fusion,
        teacher=teacher,
        borders=options.self_training.self_border > 0,
    )
    betas = (adam.beta1, adam.beta2)
    return objective, WideAdam(model.parameters(), lr=adam.lr, betas=betas, weight_decay=adam.weight_decay)


# An Objective, possibly compiled: of features, labels and what snippets are taught.
ComputeStep = Callable[[Tensor | Snippets, Tensor, Tensor | None], StepResult]


def train_step(
    compute: ComputeStep, optimizer: WideAdam, batch: Batch, *, teacher: WeightAverage[SAL] | None = None
) -> StepResult:
    """Forward, targets, losses, backward, update, also of the teacher; no update when the total is not finite.

    Nothing here asks the device for a value, so that the host can run ahead of it.
    """
    optimizer.zero_grad()
    result = forward_backward(compute, batch.features, batch.labels, batch.taught)
    optimizer.found_inf = (~torch.isfinite(result.losses[-1].detach())).float()
    optimizer.step()
    if teacher:
        teacher.update(skipped=optimizer.found_inf)
    # A copy, since a compiled objective writes its next result to the same memory.
    return dataclasses.replace(result, losses=result.losses.detach().clone())


def schedule_lr(optimizer: WideAdam, options: OptimisationOptions, *, step: int, total_steps: int) -> None:
    """Before a step, counted from 0: set the learning rate, if it changes at all."""
    if options.lr_schedule != "constant":
        optimizer.schedule_lr(options.lr_at(step, total_steps))


def forward_backward(
    compute: ComputeStep, features: Tensor | Snippets, labels: Tensor, taught: Tensor | None
) -> StepResult:
    """Losses and gradients. The whole result is held until `backward` is done: CUDA graphs allow no less of it in a replay."""
    result = compute(features, labels, taught)
    result.losses[-1].backward()
    return result


def compile_objective(objective: Objective, batch_sizes: Sequence[int], num_segments: int) -> ComputeStep:
    """Compile the objective, forward and backward, for batches of these sizes; return it as it is if that fails.

    A trial comes first: with dropout as in training, and without, where loss and gradients must be the uncompiled ones.
    """
    model, step = objective.model, objective.__call__

    def run(compute: ComputeStep, features: Tensor) -> StepResult:
        model.zero_grad()
        labels = torch.ones(len(features), model.num_classes, device=features.device)
        taught = labels.unsqueeze(1).repeat(1, features.shape[1], 1) if objective.losses.w_self else None
        if taught is not None and objective.borders:
            taught[:, 1::2] = -1
        return forward_backward(compute, features, labels, taught)

    def numbers(compute: ComputeStep, features: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        with unchanged(model, objective.mask):
            losses = run(compute, features).losses.detach().clone()
            gradients = {name: gradient_of(parameter) for name, parameter in model.named_parameters()}
        zero = losses.new_zeros(())  # of a parameter that the loss does not reach
        named = {f"the gradient of {name}": zero if value is None else value for name, value in gradients.items()}
        return {"the loss": losses}, named

    def trial(compiled: ComputeStep) -> None:
        with unchanged(model, objective.mask):
            model.train()
            with without_dropout(model):
                features = next(trial_batches(model, batch_sizes=batch_sizes, num_segments=num_segments))
                expected = numbers(step, features)
                for _ in range(TRIALS):
                    loss, gradients = numbers(compiled, features)
                    check_same(loss, expected[0], model)
                    check_same(gradients, expected[1], model, small_share=SMALL_SHARE_OF_GRADIENTS)
            for features in trial_batches(model, batch_sizes=batch_sizes, num_segments=num_segments):
                run(compiled, features)

    device = next(model.parameters()).device
    compiled = compile_or_explain(step, trial, device, what="the training step")
    return (
        step
        if compiled is step
        else (lambda features, labels, taught: compiled(Snippets.of(features).dense(), labels, taught))
    )


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

    evaluations: Evaluations
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
        held_out_loss: Callable[[], float] | None = None,
        lessons: ProposalLessons | None = None,
        pictures: Callable[[], Mapping[str, bytes]] | None = None,
        background_saves: bool | None = None,
        share: Share = WHOLE_BATCH,
    ) -> None:
        """Prepare a run from step 0. `saved_options` go into every checkpoint as they are.

        `held_out_loss` is that of the model's current weights on held-out videos, which --select val needs.
        `lessons` are what proposals teach, in self-training.
        `pictures` draws {name: PNG} of what the model says now, for TensorBoard.
        `share` is this process's part of every batch; the others' is for `take_step` to bring in (ranks/training.py).
        `background_saves`: whether training goes on while files are written; None: on a GPU, where a copy is cheap.
        """
        self.objective, self.model, self.mask = objective, objective.model, objective.mask
        self.compute: ComputeStep = objective
        self.teacher, self.lessons = objective.teacher, lessons
        self.optimizer, self.data, self.device = optimizer, data, data.train.store.device
        self.experiment, self.history, self.saved_options = experiment, history, dict(saved_options)
        self.data_options, self.run_options, self.pictures = data_options, run_options, pictures
        self.optimisation, self.evaluation, self.held_out_loss = optimisation, evaluation, held_out_loss
        self.share = share
        self.steps_per_epoch = optimisation.steps_per_epoch(len(data.train))
        if self.steps_per_epoch == 0:
            raise InputError(
                f"--batch_size {optimisation.batch_size}: --drop_last leaves none of {len(data.train)} videos"
            )
        self.total_steps = optimisation.total_steps(self.steps_per_epoch)
        if run_options.compile:
            sizes = train_batch_sizes(data.train, optimisation)
            self.compute = compile_objective(objective, sizes, data_options.num_segments)
        self.take_step: Callable[[Batch], StepResult] = self._eager_step
        if run_options.cuda_graph and not run_options.compile and has_graphs(self.device):
            self.take_step = GraphedStep(self._eager_step, model=self.model, mask=self.mask, optimizer=optimizer)
        if run_options.verbose and self.device.type == "cuda" and (reason := unusable(self.device)):
            print(f"note: the gradients of the wide layers are formed before Adam uses them: {reason}")
        self.digest = data_digest(data)
        self.eval_workers = worker_count(run_options.eval_workers, self.device)
        self.saver = Saver(
            experiment,
            options=self.saved_options,
            videos=data.test.names,
            classes=data.classes,
            minutes=run_options.save_minutes,
            background=self.device.type == "cuda" if background_saves is None else background_saves,
        )
        self.step = 0
        self.checked_step = -1  # when the weights were last known to be finite
        self.pending: list[PendingLosses] = []
        self.masks: dict[
            int, dict[str, Tensor]
        ] = {}  # step -> the mask's state, of evaluations that are not counted yet
        self.val_losses: dict[int, float] = {}  # likewise

    @property
    def is_finished(self) -> bool:
        """Whether the last step is taken and evaluated."""
        return self.step == self.total_steps and self.history.is_evaluated(self.step)

    def run(self, evaluator: Predictor) -> None:
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
            share=self.share,
        )
        with (
            Interrupt() as interrupt,
            CurveWriter(self.experiment.folder, first_step=self.step + 1) as curves,
            Progress(
                total=self.total_steps, initial=self.step, desc="training", unit="step", out=sys.stdout
            ) as progress,
            contextlib.closing(batches),
            contextlib.closing(self.saver),
            Evaluations(evaluator, self.model, workers=self.eval_workers) as evaluations,
        ):
            context = RunContext(evaluations=evaluations, curves=curves, progress=progress, interrupt=interrupt)
            try:
                self._loop(batches, context)
            except Exception as error:
                with contextlib.suppress(InputError, TrainingError):  # what ended the run is what its user should read
                    if not is_out_of_memory(error):
                        self._count_finished(context)
                    self.saver.write_best(self.history.results(step=self.step, finished=self.is_finished))
                if not is_out_of_memory(error):
                    raise
                raise TrainingError(
                    f"out of memory on {self.device} after step {self.step}; {self._last_saved()}; --resume with a lower "
                    "--test_batch_size or --cache mmap, or start a new run with a lower --batch_size, --num_segments or "
                    "--hidden_size"
                ) from error

    def _loop(self, batches: Iterator[Batch], context: RunContext) -> None:
        if self.step > 0 and self._evaluates_now() and not self.history.is_evaluated(self.step):
            self._evaluate(context)  # the run ended, was interrupted or was killed before it
            self._count_finished(context)
            self.save()
            self._stop_if_asked(context.interrupt)
        start = time.perf_counter()
        while self.step < self.total_steps:
            with self._saved_if_data_break(context):
                batch = next(batches)
                if self.lessons:
                    batch = self._taught(batch, self.lessons, context)
                self.model.train()
                schedule_lr(self.optimizer, self.optimisation, step=self.step, total_steps=self.total_steps)
                result = self.take_step(batch)
            self.step += 1
            videos = batch.step_videos or batch.video_ids
            pending = PendingLosses(step=self.step, videos=videos, names=result.names, losses=result.losses)
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
            self.saver.check()
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
            evaluating = self._evaluates_now() and not context.interrupt.requested
            if evaluating:
                self._evaluate(context)
            self._count_finished(context, most=context.evaluations.most)
            drawing = self._draws_now() and not context.interrupt.requested
            if drawing:
                self._draw(context)
            if evaluating or drawing:
                start = time.perf_counter()
            if saving or context.interrupt.requested or (self.saver.best and self.saver.is_due()):
                self._count_finished(context)
                self.save()
            self._stop_if_asked(context.interrupt)
        self.saver.finish()
        if rows := {name: record.summary for name, record in self.history.evaluations.items()}:
            context.curves.add_options(_hyperparameters(self.saved_options), final_numbers(rows), self.step)

    def _taught(self, batch: Batch, lessons: ProposalLessons, context: RunContext) -> Batch:
        """The batch with what proposals teach, which a round that begins now makes anew."""
        if lessons.begins_round(self.step, self.total_steps):
            with self._saved_if_interrupted(context):
                lessons.prepare(self.step, self.total_steps)
        return lessons.attach(batch)

    def _eager_step(self, batch: Batch) -> StepResult:
        return train_step(self.compute, self.optimizer, batch, teacher=self.teacher)

    def _stop_if_asked(self, interrupt: Interrupt) -> None:
        """Raise TrainingError on an interrupt, once everything is saved, unless the run is complete."""
        if interrupt.requested and not self.is_finished:
            self.saver.finish()
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
        """Whether to save: always at the last step, and at the ends of epochs unless the save before is too near."""
        regular = self.step % (self.run_options.save_epochs * self.steps_per_epoch) == 0
        return self.step == self.total_steps or (regular and self.saver.is_due())

    def _draws_now(self) -> bool:
        """Whether to draw pictures: every --image_epochs, and at the last step."""
        epochs = self.run_options.image_epochs
        regular = epochs > 0 and self.step % (epochs * self.steps_per_epoch) == 0
        return self.pictures is not None and (regular or self.step == self.total_steps)

    def _draw(self, context: RunContext) -> None:
        """Draw pictures; if that fails, say so and draw no more: they are not what the run is for."""
        assert self.pictures
        try:
            context.curves.add_images(self.pictures(), self.step)
        except Exception as error:
            self.pictures = None
            context.progress.write(f"note: pictures for TensorBoard can't be drawn ({one_line(str(error), 300)})")

    def _evaluate(self, context: RunContext) -> None:
        """Begin an evaluation. `_count_finished` counts it, at once or, if a worker judges it, later."""
        self._check_weights()
        self.masks[self.step] = {name: value.detach().clone() for name, value in self.mask.state_dict().items()}
        with self._saved_if_data_break(context), self._saved_if_interrupted(context):
            if self.held_out_loss:
                start = time.perf_counter()
                self.val_losses[self.step] = self.held_out_loss()
                self.history.add_seconds(evaluation=time.perf_counter() - start)
            context.evaluations.start(self.step)
        if not self.saver.has_saved:
            self.save()  # still without this evaluation, which is made again on --resume: there is no best.pt without a last.pt

    def _count_finished(self, context: RunContext, *, most: int = 0) -> None:
        """Count the evaluations that are complete, in the order of their steps. Waits until at most `most` are not.

        None may be left before a save: on --resume nobody makes those of earlier steps again.
        """
        try:
            for evaluated in context.evaluations.finished(most=most):
                self._count(evaluated, context)
        except InputError as error:
            raise InputError(f"{error}; {self._last_saved()}: fix it and {self._continue_with()}") from None

    def _count(self, evaluated: Evaluated, context: RunContext) -> None:
        step, evaluation, epoch = evaluated.step, evaluated.evaluation, math.ceil(evaluated.step / self.steps_per_epoch)
        self.history.add_seconds(evaluation=evaluation.seconds)
        mask, val_loss = self.masks.pop(step), self.val_losses.pop(step, None)
        record = EvaluationRecord(step=step, epoch=epoch, summary=evaluation.summary)
        selected = self.history.add(record, val_loss=val_loss)
        if context.progress.bar:
            context.progress.show(**context.progress.numbers | {"best": self.history.headline()})
        if selected:
            weights = evaluated.weights or on_host(self.model.state_dict(), copy=True)
            name = SELECTIONS[self.history.select]
            checkpoint = self._checkpoint(weights, {"step": step, name: record.as_plain(), "mask": mask})
            self.saver.best = BestModel(checkpoint=checkpoint, detections=evaluation.detections)
        held_out = {} if val_loss is None else {"held_out/loss": val_loss}
        seconds = {"seconds/evaluation": evaluation.seconds}
        context.curves.add({**seconds, **held_out, **evaluation_curves(record.summary)}, step)
        if evaluated.note:
            context.progress.write(evaluated.note)
        better = record in (self.history.best, self.history.val)
        if better or self.run_options.verbose or not sys.stdout.isatty():
            context.progress.write(f"step {step} (epoch {epoch}): {self.history.describe_last()}")

    @contextlib.contextmanager
    def _saved_if_interrupted(self, context: RunContext) -> Iterator[None]:
        """Leave an evaluation, or the start of a round, at the first signal, saved: the run that goes on repeats it."""
        try:
            with context.interrupt.at_once():
                yield
        except BaseException:
            if context.interrupt.requested:  # whatever the interrupt has turned into
                if self.pending:
                    self._read_losses()
                self._count_finished(context)
                self.save()
                self._stop_if_asked(context.interrupt)
            raise

    @contextlib.contextmanager
    def _saved_if_data_break(self, context: RunContext) -> Iterator[None]:
        """Save before the error when streamed features turn out to be broken, or vanish, hours after the start."""
        try:
            yield
        except (InputError, OSError) as error:
            if is_out_of_memory(error) or self.step == 0:
                raise
            if self.pending:
                self._read_losses()
            self._count_finished(context)
            self.save()
            self.saver.finish()
            reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise InputError(f"{reason}; saved at step {self.step}: fix it and {self._continue_with()}") from None

    def save(self) -> None:
        """Write the best model if it is new, then last.pt, with the complete state, then results.json, or begin to."""
        self._check_weights()
        last = self._checkpoint(self.model.state_dict(), self._training_state())
        self.saver.save(last, self.history.results(step=self.step, finished=self.is_finished))

    def resume(self, checkpoint: Checkpoint) -> None:
        """Restore the state that `save` wrote, and print what a user should know of it.

        Raises InputError when the file does not belong to such a run, or when the data are not those of the run.
        """
        state, path, before = checkpoint.training, self.experiment.last, checkpoint.options or {}
        notes = list(checkpoint.notes)
        with damage_named(path):
            rows = rows_looked_at(state)
            if rows not in (None, self.digest["rows"]):
                self.digest = data_digest(self.data, rows=rows)
            notes += check_data(state, self.digest, path)
            check_classes(checkpoint, self.data.classes, path)
            if "optimizer" not in state:
                raise InputError(f"{path}: holds no training state; --resume needs the last.pt of a run")
            planned = resolve({}, before).optimisation.total_steps(self.steps_per_epoch)
            if self.total_steps < planned:
                raise InputError(
                    f"--resume to {self.total_steps} steps: the experiment has {planned}, and --num_epochs or --num_iters can "
                    "only raise that; give more, omit them, or start another --exp_name"
                )
            load_model(self.model, checkpoint.model, path)
            self._restore(state, planned=planned)
            changed = condition_notes(state, self._machine(), options=self.saved_options, before=before)
            if self.total_steps > planned and self.optimisation.lr_schedule != "constant":
                changed.append(
                    f"the learning rate's {self.optimisation.lr_schedule} was that of {planned} steps, and is now that of "
                    f"{self.total_steps}: numbers differ from those of a run that was this long from the start"
                )
            if self.total_steps > planned and self.lessons:
                changed.append(
                    f"the rounds of self-training were those of {planned} steps, and are now those of {self.total_steps}: "
                    "numbers differ from those of a run that was this long from the start"
                )
            notes += changed
            self.history.changed += [f"from step {self.step + 1} on: {note}"[:LONGEST_NOTE] for note in changed]
        if state["optimizer"] is None and self.step < self.total_steps:
            teacher = ", the teacher with the network's own weights" if self.teacher else ""
            notes.append(
                f"{path} holds no optimiser state, since the run was complete: Adam goes on with fresh moments{teacher} (a run "
                "with --keep_state keeps them)"
            )
        if self.history.selected:
            notes += best_model_notes(self.experiment, step=self.history.selected.step)
        for note in notes:
            print(f"note: {note}")
        if (
            self.total_steps > planned
        ):  # now, so that --resume goes on to the new end without the flag, whenever it is killed
            self.save()
            self.saver.finish()
        elif not self.history.is_written(step=self.step, finished=self.is_finished):
            self.history.write(step=self.step, finished=self.is_finished)

    def _restore(self, state: Mapping[str, Any], *, planned: int) -> None:
        """Raises ValueError, TypeError, KeyError or AttributeError when a value is not as `save` wrote it."""
        self.step = plain_count(state["step"], "step", most=planned)
        self.history.restore(state)
        if self.history.points and self.history.points[-1].step > self.step:
            raise ValueError("its history goes beyond its step")
        if state["optimizer"] is not None:
            parameters = list(self.model.parameters())
            self.optimizer.load_state_dict(check_optimizer(state["optimizer"], self.optimizer.state_dict(), parameters))
        elif self.step < planned:
            raise ValueError("the optimiser's state is missing")
        if self.teacher and state.get("teacher") is not None:
            self.teacher.load_state_dict(check_average(state["teacher"], self.teacher))
        elif self.teacher:
            if state["optimizer"] is not None:
                raise ValueError("the teacher's state is missing")
            self.teacher.start_over(updates=self.step)
        if self.lessons:
            self.lessons.load_state_dict(plain_dict(state, "it", ("lessons",))["lessons"])
        self.mask.load_state_dict(check_buffers(state["mask"], self.mask, low=0.0, high=math.inf))
        random = plain_dict(state["random"], "the random state", ("cpu", "cuda"))
        torch.set_rng_state(check_random_state(random["cpu"], torch.get_rng_state()))
        if random["cuda"] is not None and self.device.type == "cuda":
            current = torch.cuda.get_rng_state(self.device)
            torch.cuda.set_rng_state(check_random_state(random["cuda"], current), self.device)

    def _checkpoint(self, model: dict[str, Tensor], training: dict[str, Any]) -> Checkpoint:
        return Checkpoint(model=model, options=self.saved_options, classes=self.data.classes, training=training)

    def _training_state(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        complete = self.step == self.total_steps and not self.run_options.keep_state
        if (
            not complete
        ):  # a lengthened run can be saved before its first step, and so can parameters that no loss reaches
            self.optimizer.make_moments()
        state = {
            "step": self.step,
            **self.history.as_plain(),
            "data": self.digest,
            "machine": self._machine(),
            "optimizer": None if complete else self.optimizer.state_dict(),
            "mask": self.mask.state_dict(),
            "random": {"cpu": torch.get_rng_state(), "cuda": cuda},
        }
        if self.teacher:
            state["teacher"] = None if complete else self.teacher.state_dict()
        if self.lessons:
            state["lessons"] = self.lessons.state_dict()
        return state

    def _machine(self) -> dict[str, str]:
        """What numbers depend on besides options and data."""
        precision = self.history.provenance.get("precision")
        return {
            "device": self.device.type,
            "precision": str(precision),
            "torch": f"torch {torch.__version__}",
            "ranks": amount(self.share.ranks, "rank"),
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
        """Raise TrainingError if an update left weights that no file may have, which even a finite loss can cause."""
        if self.checked_step == self.step:
            return
        ends = [torch.stack(parameter.detach().aminmax()) for parameter in self.model.parameters()]
        for (name, _), (least, most) in zip(self.model.named_parameters(), torch.stack(ends).tolist(), strict=True):
            if not (math.isfinite(least) and math.isfinite(most)):
                raise TrainingError(f"weights of {name} not finite after step {self.step}; try a lower --lr")
            if max(-least, most) > MOST_WEIGHT:
                raise TrainingError(
                    f"weights of {name} beyond {MOST_WEIGHT:g} after step {self.step}; try a lower --lr"
                )
        self.checked_step = self.step

    def _step_curves(
        self, losses: Mapping[str, float], targets: ActionnessTargets | None, seconds: float
    ) -> dict[str, float]:
        of_targets = {}
        if targets:
            of_targets["actionness/mask_mean"] = targets.weight_of_all.mean().item()
            of_targets["actionness/pseudo_label_share"] = targets.label_of_all.mean().item()
        if self.model.ablation.mask:
            of_targets["actionness/confidence_mean"] = self.mask.mean.item()
            of_targets["actionness/confidence_variance"] = self.mask.var.item()
        return {
            **{f"loss/{name}": term for name, term in losses.items()},
            **of_targets,
            "optimisation/learning_rate": self.optimisation.lr_at(self.step - 1, self.total_steps),
            "seconds/step": seconds,
        }

    def _last_saved(self) -> str:
        return "last.pt is intact" if self.experiment.last.exists() else "no last.pt was written yet"

    def _continue_with(self) -> str:
        folder = self.experiment.folder
        return "continue with " + shlex.join(
            ["--resume", "--exp_name", folder.name, "--output_dir", str(folder.parent)]
        )


def _hyperparameters(options: Mapping[str, Any]) -> dict[str, bool | float | int | str | None]:
    """The options that a run's numbers depend on, as TensorBoard's table takes them."""
    kept = {name: value for name, value in options.items() if name not in CALL_FLAGS | NEUTRAL_FLAGS}
    return {name: " ".join(value) if isinstance(value, list) else value for name, value in kept.items()}
