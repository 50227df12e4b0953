"""Training: one step, the loop around it, when to evaluate, save and resume (docs/method.md, sections 3 and 4).

trainer = Trainer(model, mask, objective, optimizer, data, ...)
trainer.resume(checkpoint)             # only to continue a run
trainer.run(evaluate)                  # evaluate(model) -> Evaluation
"""

import contextlib
import copy
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dataset import Batch, Dataset, steps_per_epoch, train_batches
from eval.report import percent
from formats.result_file import write_detections
from layers.wide_adam import WideAdam
from losses import (
    ActionnessTargets,
    AdaptiveMask,
    LossConfig,
    PseudoLabelConfig,
    actionness_targets,
    sal_losses,
    weighted_total,
)
from model import SAL
from run.checkpoint import Checkpoint, load_model, save_checkpoint
from run.compiling import compile_or_explain, trial_batches
from run.curves import CurveWriter
from run.experiment import Experiment
from test import Evaluation
from utils.errors import InputError, TrainingError
from utils.memory import is_out_of_memory

MOST_UNREAD = 10  # steps after which their losses are looked at, whatever else is due


@dataclass(frozen=True)
class TrainConfig:
    num_segments: int = 750  # T
    short_videos: str = "stretch"
    batch_size: int = 2
    drop_last: bool = False
    num_epochs: int | None = 100
    num_iters: int | None = None  # steps, in the place of epochs
    seed: int = 1
    num_workers: int = 1
    evaluation_steps: int = 10  # between evaluations
    eval_from_epoch: int = 2  # counted from 1
    save_epochs: int = 1  # between writes of last.pt
    log_steps: int = 10
    average_tious: tuple[str, ...] = ("0.1:0.5", "0.1:0.7")  # the last one chooses the best model
    verbose: bool = False


@dataclass(frozen=True)
class StepResult:
    """What a training step leaves to look at, on the device."""

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
        loss_config: LossConfig,
        label_config: PseudoLabelConfig,
        weights: dict[str, float],
    ) -> None:
        self.model, self.mask = model, mask
        self.loss_config, self.label_config, self.weights = loss_config, label_config, weights

    def __call__(self, features: Tensor, labels: Tensor) -> StepResult:
        output = self.model(features)
        targets = actionness_targets(output, self.mask, self.label_config)
        losses = sal_losses(output, labels, targets, self.loss_config)
        losses["total"] = weighted_total(losses, self.weights)
        return StepResult(tuple(losses), torch.stack(list(losses.values())), targets)


def train_step(objective: Callable[[Tensor, Tensor], StepResult], optimizer: WideAdam, batch: Batch) -> StepResult:
    """Forward, targets, losses, backward, update; no update when the total is not finite.

    Nothing in here asks the device for a value, so that the host runs ahead of it.
    """
    optimizer.zero_grad()
    result = objective(batch.features, batch.labels)
    total = result.losses[-1]
    total.backward()
    optimizer.found_inf = (~torch.isfinite(total.detach())).float()
    optimizer.step()
    # A copy, since a compiled objective computes its next result in the same place.
    return dataclasses.replace(result, losses=result.losses.detach().clone())


def compile_objective(
    objective: Objective, batch_sizes: Sequence[int], num_segments: int
) -> Callable[[Tensor, Tensor], StepResult]:
    """The objective, forward and backward, compiled for batches of these sizes; as it is when that fails."""
    model, device = objective.model, objective.model.fc.weight.device
    channels = model.config.feature_size * len(model.config.streams)

    def trial(compiled: Callable[[Tensor, Tensor], StepResult]) -> None:
        statistics = copy.deepcopy(objective.mask.state_dict())
        model.train()
        try:
            for features in trial_batches(batch_sizes, num_segments, channels, device):
                labels = torch.ones(len(features), model.config.num_classes, device=device)
                compiled(features, labels).losses[-1].backward()
                model.zero_grad()
        finally:
            objective.mask.load_state_dict(statistics)
            model.zero_grad()

    return compile_or_explain(objective.__call__, trial, device, what="the training step")


class Trainer:
    """The state of a run and the loop over its steps. Everything that influences training is in its checkpoint."""

    def __init__(
        self,
        model: SAL,
        mask: AdaptiveMask,
        objective: Callable[[Tensor, Tensor], StepResult],
        optimizer: WideAdam,
        data: Dataset,
        *,
        config: TrainConfig,
        device: torch.device,
        experiment: Experiment,
        options: dict[str, Any],
        provenance: dict[str, Any],
    ) -> None:
        self.model, self.mask, self.objective, self.optimizer, self.data = model, mask, objective, optimizer, data
        self.config, self.device, self.experiment = config, device, experiment
        self.options, self.provenance = options, provenance
        # Steps whose losses are still on the device: number, videos, losses.
        self.unread: list[tuple[int, tuple[str, ...], Tensor]] = []
        self.loss_names: tuple[str, ...] = ()
        self.checked_step = -1  # when the weights were last found finite
        self.steps_per_epoch = steps_per_epoch(len(data.train), config.batch_size, config.drop_last)
        if self.steps_per_epoch == 0:
            raise InputError(f"--batch_size {config.batch_size}: --drop_last leaves none of {len(data.train)} videos")
        self.total_steps = config.num_iters or (config.num_epochs or 0) * self.steps_per_epoch
        self.step = 0
        self.best: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None
        self.history: list[dict[str, Any]] = []
        self.seconds = {"training": 0.0, "evaluation": 0.0}

    def run(self, evaluate: Callable[[SAL], Evaluation]) -> None:
        """Train from the current step to the last.

        Raises TrainingError when a loss is not finite, when memory runs out, or on an interrupt.
        """
        batches = train_batches(
            self.data.train,
            num_segments=self.config.num_segments,
            batch_size=self.config.batch_size,
            drop_last=self.config.drop_last,
            seed=self.config.seed,
            first_step=self.step,
            last_step=self.total_steps,
            num_workers=self.config.num_workers,
            device=self.device,
            short_videos=self.config.short_videos,
        )
        with (
            _Interrupt() as interrupt,
            CurveWriter(self.experiment.tensorboard, first_step=self.step + 1) as curves,
            tqdm(total=self.total_steps, initial=self.step, desc="training", unit="step", disable=None) as bar,
            contextlib.closing(batches),
        ):
            try:
                self._run(batches, evaluate, curves, bar, interrupt)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise TrainingError(
                    f"out of memory on {self.device} after step {self.step}; {self._kept()}; --resume may be given a lower "
                    "--test_batch_size or --cache mmap, a new run a lower --batch_size, --num_segments or --hidden_size"
                ) from error

    def _run(
        self,
        batches: Iterator[Batch],
        evaluate: Callable[[SAL], Evaluation],
        curves: CurveWriter,
        bar: "tqdm[Any]",
        interrupt: "_Interrupt",
    ) -> None:
        if self.step > 0 and self._evaluation_due() and [entry["step"] for entry in self.history][-1:] != [self.step]:
            self._evaluate(evaluate, curves, bar)  # the one that failed
        start = time.perf_counter()
        while self.step < self.total_steps:
            with self._saved_if_data_break():
                batch = next(batches)
            self.model.train()
            result = train_step(self.objective, self.optimizer, batch)
            self.unread.append((self.step, batch.video_ids, result.losses))
            self.loss_names = result.names
            self.step += 1
            bar.update()
            done, stopping = self.step == self.total_steps, interrupt.requested
            logging = self.step % self.config.log_steps == 0
            evaluating = self._evaluation_due()
            saving = done or stopping or self.step % (self.config.save_epochs * self.steps_per_epoch) == 0
            if not (logging or evaluating or saving or len(self.unread) == MOST_UNREAD):
                continue
            # Here the host waits for the device. From one such step to the next: the waiting for batches and the saving of
            # checkpoints are in the seconds.
            losses = self._read_losses()
            seconds, start = time.perf_counter() - start, time.perf_counter()
            self.seconds["training"] += seconds
            bar.set_postfix(loss=f"{losses[-1]['total']:.3f}", best=self._best_percent())
            if logging:
                self._log_step(curves, losses[-1], result.targets, seconds / len(losses))
            if evaluating:
                self._evaluate(evaluate, curves, bar)
                start = time.perf_counter()
            if saving:
                self.save()
            if stopping and not done:
                raise TrainingError(f"interrupted at step {self.step} of {self.total_steps}; {self._continue_with()}")

    @contextlib.contextmanager
    def _saved_if_data_break(self) -> Iterator[None]:
        """Features that are streamed can turn out to be broken, or vanish, hours after the start: what was trained is kept."""
        try:
            yield
        except (InputError, OSError) as error:
            if is_out_of_memory(error) or self.step == 0:
                raise
            if self.unread:
                self._read_losses()
            self.save()
            reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise InputError(f"{reason}; saved at step {self.step}: mend it and {self._continue_with()}") from None

    def _continue_with(self) -> str:
        folder = self.experiment.folder
        return f"continue with --resume --exp_name {folder.name} --output_dir {folder.parent}"

    def save(self) -> None:
        """last.pt, complete, and results.json."""
        self._check_weights()
        save_checkpoint(self.experiment.last, self._checkpoint(self._training_state()))
        self._write_results()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take up the state that `save` left. Raises InputError when the file is not of such a run."""
        state, path = checkpoint.training, self.experiment.last
        if "optimizer" not in state:
            raise InputError(f"{path}: holds no training state; --resume needs the last.pt of a run")
        if state["videos"] != [video.video_id for video in self.data.train]:
            raise InputError(
                f"{path}: trained on other videos than split_train.txt lists now; give the same --data_path"
            )
        load_model(self.model, checkpoint.model, path)
        self.optimizer.load_state_dict(state["optimizer"])
        self.mask.load_state_dict(state["mask"])
        self.step, self.best, self.last = state["step"], state["best"], state["last"]
        self.history, self.seconds = state["history"], state["seconds"]
        torch.set_rng_state(state["random"]["cpu"])
        if self.device.type == "cuda" and state["random"]["cuda"] is not None:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)

    def _read_losses(self) -> list[dict[str, float]]:
        """The losses of the steps since the last reading. Raises TrainingError at the first that is not finite."""
        values = torch.stack([losses for _, _, losses in self.unread]).tolist()
        losses = [dict(zip(self.loss_names, row, strict=True)) for row in values]
        for (step, videos, _), terms in zip(self.unread, losses, strict=True):
            if not math.isfinite(terms["total"]):
                shown = ", ".join(f"{name} {term:g}" for name, term in terms.items())
                raise TrainingError(
                    f"loss not finite at step {step + 1} (epoch {step // self.steps_per_epoch + 1}), videos "
                    f"{', '.join(videos)}: {shown}; {self._kept()}; try a lower --lr"
                )
        self.unread.clear()
        return losses

    def _kept(self) -> str:
        return "last.pt is whole" if self.experiment.last.exists() else "no last.pt was written yet"

    def _check_weights(self) -> None:
        """A finite loss may still have made an update that is not: neither evaluate nor save that."""
        if self.checked_step == self.step:
            return
        sums = torch.stack([parameter.detach().sum() for parameter in self.model.parameters()])
        for (name, _), value in zip(self.model.named_parameters(), sums.tolist(), strict=True):
            if not math.isfinite(value):
                raise TrainingError(f"weights of {name} not finite after step {self.step}; try a lower --lr")
        self.checked_step = self.step

    def _evaluation_due(self) -> bool:
        after = (self.config.eval_from_epoch - 1) * self.steps_per_epoch
        regular = self.step > after and self.step % self.config.evaluation_steps == 0
        return regular or self.step == self.total_steps

    def _evaluate(self, evaluate: Callable[[SAL], Evaluation], curves: CurveWriter, bar: "tqdm[Any]") -> None:
        self._check_weights()
        with self._saved_if_data_break():
            evaluation = evaluate(self.model)
        self.seconds["evaluation"] += evaluation.seconds
        self.last = self._summary(evaluation)
        score, shown = self._score(self.last)
        self.history.append(
            {
                "step": self.step,
                "epoch": self.last["epoch"],
                "average_mAP": self.last["average_mAP"] and score,
                "video_accuracy": evaluation.video_accuracy,
            }
        )
        improved = self.best is None or score > self._score(self.best)[0]
        if improved:
            self.best = self.last
            videos = tuple(video.video_id for video in self.data.test)
            save_checkpoint(self.experiment.best, self._checkpoint({"step": self.step, "best": self.best}))
            write_detections(self.experiment.detections, evaluation.detections, videos, self.data.classes)
        self._write_results()
        self._log_evaluation(curves, evaluation)
        if improved or self.config.verbose:
            place = f"step {self.step} (epoch {self.last['epoch']})"
            bar.write(f"{place}: {shown}" + (", the best so far" if improved else ""))

    def _score(self, summary: dict[str, Any]) -> tuple[float, str]:
        """What the best evaluation is chosen by, and how to say it: the average mAP, without segments to compare with the
        video accuracy, without labels the latest."""
        accuracy, span = summary["video_accuracy"], self.config.average_tious[-1]
        texts = [] if accuracy is None else [f"video accuracy {percent(accuracy)}"]
        if summary["average_mAP"] is not None:
            score: float = summary["average_mAP"][span]
            return score, ", ".join([f"average mAP {span} {percent(score)}", *texts])
        return (summary["step"] if accuracy is None else accuracy), ", ".join(texts) or "nothing to compare with"

    def _summary(self, evaluation: Evaluation) -> dict[str, Any]:
        """One evaluation for results.json; fractions."""
        return {
            "step": self.step,
            "epoch": math.ceil(self.step / self.steps_per_epoch),
            **evaluation.summary(self.config.average_tious),
            "per_class_AP": evaluation.result and evaluation.result.ap_by_class(self.data.classes),
        }

    def _write_results(self) -> None:
        if self.last is not None:
            self.experiment.write_results(
                {
                    "best": self.best,
                    "last": self.last,
                    "seconds": self.seconds,
                    "steps": self.step,
                    "history": self.history,
                    **self.provenance,
                }
            )

    def _checkpoint(self, training: dict[str, Any]) -> Checkpoint:
        return Checkpoint(self.model.state_dict(), self.options, self.data.classes, training)

    def _training_state(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {
            "step": self.step,
            "best": self.best,
            "last": self.last,
            "history": self.history,
            "seconds": self.seconds,
            "videos": [video.video_id for video in self.data.train],
            "optimizer": self.optimizer.state_dict(),
            "mask": self.mask.state_dict(),
            "random": {"cpu": torch.get_rng_state(), "cuda": cuda},
        }

    def _log_step(
        self, curves: CurveWriter, losses: dict[str, float], targets: ActionnessTargets, seconds: float
    ) -> None:
        values = {f"loss/{name}": term for name, term in losses.items()}
        values["actionness/mask_mean"] = targets.weight.mean().item()
        values["actionness/pseudo_label_share"] = targets.label.mean().item()
        values["actionness/confidence_mean"] = self.mask.mean.item()
        values["actionness/confidence_variance"] = self.mask.var.item()
        values["optimisation/learning_rate"] = self.optimizer.param_groups[0]["lr"]
        values["seconds/step"] = seconds
        curves.add(values, self.step)

    def _log_evaluation(self, curves: CurveWriter, evaluation: Evaluation) -> None:
        assert self.last is not None
        values = {"seconds/evaluation": evaluation.seconds}
        if evaluation.video_accuracy is not None:
            values["video_accuracy"] = evaluation.video_accuracy
        if evaluation.result:
            values |= {f"mAP/{tiou}": value for tiou, value in self.last["mAP"].items()}
            averages = self.last["average_mAP"].items()
            values |= {f"average_mAP/{span.replace(':', '-')}": value for span, value in averages}
        curves.add(values, self.step)

    def _best_percent(self) -> str:
        return "-" if self.best is None else self._score(self.best)[1].split(",")[0]


class _Interrupt:
    """While active, Ctrl-C and SIGTERM ask the loop to stop after its step; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Interrupt":
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
