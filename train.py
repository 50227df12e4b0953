"""Training: one step, the loop around it, when to evaluate, save and resume (docs/method.md, sections 3 and 4).

trainer = Trainer(model, mask, optimizer, data, ...)
trainer.resume(checkpoint)             # only to continue a run
trainer.run(evaluate)                  # evaluate() -> Evaluation
"""

import contextlib
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dataset import Batch, Dataset, steps_per_epoch, train_batches
from losses import LossConfig, sal_losses, weighted_total
from model import SAL
from test import Evaluation
from utils.actionness import ActionnessTargets, AdaptiveMask, PseudoLabelConfig, actionness_targets
from utils.checkpoint import Checkpoint, load_model, save_checkpoint
from utils.curves import CurveWriter
from utils.errors import InputError, TrainingError
from utils.experiment import Experiment, provenance
from utils.result_file import write_detections


@dataclass(frozen=True)
class TrainConfig:
    num_segments: int = 750  # T
    batch_size: int = 2
    drop_last: bool = False
    num_epochs: int = 100
    seed: int = 1
    num_workers: int = 0
    evaluation_steps: int = 10  # between evaluations
    eval_from_epoch: int = 2  # counted from 1
    save_epochs: int = 1  # between writes of last.pt
    log_steps: int = 10
    average_tious: tuple[str, ...] = ("0.1:0.5", "0.1:0.7")  # the last one chooses the best model
    verbose: bool = False


@dataclass(frozen=True)
class StepResult:
    """What a training step leaves to look at; scalars on the device."""

    losses: dict[str, Tensor]  # unweighted terms, and "total"
    targets: ActionnessTargets


def train_step(
    model: SAL,
    mask: AdaptiveMask,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    loss_config: LossConfig,
    label_config: PseudoLabelConfig,
    weights: dict[str, float],
) -> StepResult:
    """Forward, targets, losses, backward, update; no update when the total is not finite."""
    model.train()
    output = model(batch.features)
    targets = actionness_targets(output, mask, label_config)
    losses = sal_losses(output, batch.labels, targets, loss_config)
    total = weighted_total(losses, weights)
    if torch.isfinite(total):
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return StepResult({**{name: term.detach() for name, term in losses.items()}, "total": total.detach()}, targets)


class Trainer:
    """The state of a run and the loop over its steps. Everything that influences training is in its checkpoint."""

    def __init__(
        self,
        model: SAL,
        mask: AdaptiveMask,
        optimizer: torch.optim.Optimizer,
        data: Dataset,
        *,
        config: TrainConfig,
        loss_config: LossConfig,
        label_config: PseudoLabelConfig,
        loss_weights: dict[str, float],
        device: torch.device,
        experiment: Experiment,
        options: dict[str, Any],
    ) -> None:
        self.model, self.mask, self.optimizer, self.data = model, mask, optimizer, data
        self.config, self.device, self.experiment, self.options = config, device, experiment, options
        self.provenance = provenance(options)
        self.loss_config, self.label_config, self.loss_weights = loss_config, label_config, loss_weights
        self.steps_per_epoch = steps_per_epoch(len(data.train), config.batch_size, config.drop_last)
        if self.steps_per_epoch == 0:
            raise InputError(f"--batch_size {config.batch_size}: --drop_last leaves none of {len(data.train)} videos")
        self.total_steps = config.num_epochs * self.steps_per_epoch
        self.step = 0
        self.best: dict[str, Any] | None = None
        self.last: dict[str, Any] | None = None
        self.history: list[dict[str, Any]] = []
        self.seconds = {"training": 0.0, "evaluation": 0.0}

    def run(self, evaluate: Callable[[], Evaluation]) -> None:
        """Train from the current step to the last. Raises TrainingError when a loss is not finite or on an interrupt."""
        batches = train_batches(
            self.data.train,
            num_segments=self.config.num_segments,
            batch_size=self.config.batch_size,
            drop_last=self.config.drop_last,
            seed=self.config.seed,
            first_step=self.step,
            last_step=self.total_steps,
            num_workers=self.config.num_workers,
            pin_memory=self.device.type == "cuda",
        )
        with (
            _Interrupt() as interrupt,
            CurveWriter(self.experiment.tensorboard, first_step=self.step + 1) as curves,
            tqdm(total=self.total_steps, initial=self.step, desc="training", unit="step", disable=None) as bar,
        ):
            start = time.perf_counter()
            for batch in batches:
                result = self._train_step(batch)
                # From step to step: the waiting for batches and the saving of checkpoints are in it.
                seconds = time.perf_counter() - start
                start = time.perf_counter()
                self.seconds["training"] += seconds
                self.step += 1
                if self.step % self.config.log_steps == 0:
                    self._log_step(curves, result, seconds)
                bar.update()
                bar.set_postfix(loss=f"{result.losses['total'].item():.3f}", best_mAP=self._best_percent())
                if self._evaluation_due():
                    self._evaluate(evaluate, curves, bar)
                    start = time.perf_counter()
                done = self.step == self.total_steps
                if done or interrupt.requested or self.step % (self.config.save_epochs * self.steps_per_epoch) == 0:
                    self.save()
                if interrupt.requested and not done:
                    folder = self.experiment.folder
                    raise TrainingError(
                        f"interrupted at step {self.step} of {self.total_steps}; continue with "
                        f"--resume --exp_name {folder.name} --output_dir {folder.parent}"
                    )

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

    def _train_step(self, batch: Batch) -> StepResult:
        result = train_step(
            self.model,
            self.mask,
            self.optimizer,
            batch.to(self.device),
            loss_config=self.loss_config,
            label_config=self.label_config,
            weights=self.loss_weights,
        )
        if not torch.isfinite(result.losses["total"]):
            kept = "last.pt is whole" if self.experiment.last.exists() else "no last.pt was written yet"
            terms = ", ".join(f"{name} {term.item():g}" for name, term in result.losses.items())
            raise TrainingError(
                f"loss not finite at step {self.step + 1} (epoch {self.step // self.steps_per_epoch + 1}), videos "
                f"{', '.join(batch.video_ids)}: {terms}; {kept}; try a lower --lr"
            )
        return result

    def _check_weights(self) -> None:
        """A finite loss may still have made an update that is not: neither evaluate nor save that."""
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter.detach().sum()):
                raise TrainingError(f"weights of {name} not finite after step {self.step}; try a lower --lr")

    def _evaluation_due(self) -> bool:
        after = (self.config.eval_from_epoch - 1) * self.steps_per_epoch
        regular = self.step > after and self.step % self.config.evaluation_steps == 0
        return regular or self.step == self.total_steps

    def _evaluate(self, evaluate: Callable[[], Evaluation], curves: CurveWriter, bar: "tqdm[Any]") -> None:
        self._check_weights()
        evaluation = evaluate()
        self.seconds["evaluation"] += evaluation.seconds
        self.last = self._summary(evaluation)
        chosen = self.config.average_tious[-1]
        self.history.append(
            {
                "step": self.step,
                "epoch": self.last["epoch"],
                "average_mAP": self.last["average_mAP"][chosen],
                "video_accuracy": evaluation.video_accuracy,
            }
        )
        improved = self.best is None or self.last["average_mAP"][chosen] > self.best["average_mAP"][chosen]
        if improved:
            self.best = self.last
            videos = tuple(video.video_id for video in self.data.test)
            save_checkpoint(self.experiment.best, self._checkpoint({"step": self.step, "best": self.best}))
            write_detections(self.experiment.detections, evaluation.detections, videos, self.data.classes)
        self._write_results()
        self._log_evaluation(curves, evaluation)
        if improved or self.config.verbose:
            bar.write(
                f"step {self.step} (epoch {self.last['epoch']}): average mAP {chosen} "
                f"{100 * self.last['average_mAP'][chosen]:.1f} %, video accuracy {100 * evaluation.video_accuracy:.1f} %"
                + (", the best so far" if improved else "")
            )

    def _summary(self, evaluation: Evaluation) -> dict[str, Any]:
        """One evaluation for results.json; fractions."""
        return {
            "step": self.step,
            "epoch": math.ceil(self.step / self.steps_per_epoch),
            **evaluation.summary(self.config.average_tious),
            "per_class_AP": evaluation.result.ap_by_class(self.data.classes),
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

    def _log_step(self, curves: CurveWriter, result: StepResult, seconds: float) -> None:
        values = {f"loss/{name}": term.item() for name, term in result.losses.items()}
        values["actionness/mask_mean"] = result.targets.weight.mean().item()
        values["actionness/pseudo_label_share"] = result.targets.label.mean().item()
        values["actionness/confidence_mean"] = self.mask.mean.item()
        values["actionness/confidence_variance"] = self.mask.var.item()
        values["optimisation/learning_rate"] = self.optimizer.param_groups[0]["lr"]
        values["seconds/step"] = seconds
        curves.add(values, self.step)

    def _log_evaluation(self, curves: CurveWriter, evaluation: Evaluation) -> None:
        assert self.last is not None
        values = {f"mAP/{tiou}": value for tiou, value in self.last["mAP"].items()}
        values |= {f"average_mAP/{span.replace(':', '-')}": value for span, value in self.last["average_mAP"].items()}
        values["video_accuracy"] = evaluation.video_accuracy
        values["seconds/evaluation"] = evaluation.seconds
        curves.add(values, self.step)

    def _best_percent(self) -> str:
        return "-" if self.best is None else f"{100 * self.best['average_mAP'][self.config.average_tious[-1]]:.1f}"


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
