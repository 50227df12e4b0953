"""A training step that several ranks share: each takes its videos, all make the same update, that of the whole batch.

    step = SharedStep(objective, optimizer, ranks)
    result = step(batch)            # of this rank's videos; losses are those of the whole batch

A video is mixed up with the one before it in the whole batch: where another rank has that one, this rank convolves its features
too, and takes its pseudo label and its mask weight from that rank. The mask's statistics are those of the snippets of all
ranks. Dropout is drawn by each rank; with dropout off everything is what one process computes, but for the last bits of sums.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist

from dataset import Batch
from layers.wide_adam import WideAdam
from losses import take_part_in_targets
from ranks.exchange import Companions, Traced, exchange_gradients
from ranks.joining import Ranks
from train import Objective, StepResult


class SharedStep:
    """Called with a rank's part of a batch. What it leaves, weights, moments and the mask's statistics, is the same on all."""

    def __init__(self, objective: Objective, optimizer: WideAdam, ranks: Ranks, *, num_segments: int) -> None:
        self.objective, self.optimizer, self.ranks, self.num_segments = objective, optimizer, ranks, num_segments
        self.parameters = list(objective.model.parameters())
        self.share = ranks.share(mixes=objective.ablation.mixup)
        self.traced: Traced | None = None

    def __call__(self, batch: Batch) -> StepResult:
        with self._undone_on_failure():
            return self._step(batch)

    @contextlib.contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        """Where another rank fails, leave what a step changes before its update as it was, so that the run can be saved."""
        statistics, cuda = list(self.objective.mask.buffers()), self.ranks.device.type == "cuda"
        before, random = [value.clone() for value in statistics], torch.get_rng_state()
        on_gpu = torch.cuda.get_rng_state(self.ranks.device) if cuda else None
        try:
            yield
        except Exception:
            for value, old in zip(statistics, before, strict=True):
                value.copy_(old)
            torch.set_rng_state(random)
            if on_gpu is not None:
                torch.cuda.set_rng_state(on_gpu, self.ranks.device)
            raise

    def _step(self, batch: Batch) -> StepResult:
        own, videos = len(batch.video_ids), len(batch.step_videos)
        company = Companions(self.share, videos, self.ranks.pulse.waiting)
        self.optimizer.zero_grad()
        result = None
        if own:
            result = self.objective(batch.features, batch.labels, batch.taught, partner=batch.partner, company=company)
            (result.losses[-1] * (own / videos)).backward()
        else:
            take_part_in_targets(
                self.objective.mask,
                self.num_segments,
                self.objective.actionness,
                ablation=self.objective.ablation,
                company=company,
                device=self.ranks.device,
            )
        traced = self.traced = self.traced or self._trace(result, own)
        losses = torch.zeros(len(traced.names), device=self.ranks.device)
        if result:
            losses = result.losses.detach() * (own / videos)
        with self.ranks.pulse.waiting():
            losses = exchange_gradients(self.parameters, traced, losses, company.counts)
        self.optimizer.found_inf = (~torch.isfinite(losses[-1])).float()
        self.optimizer.step()
        if self.objective.teacher:
            self.objective.teacher.update(skipped=self.optimizer.found_inf)
        return StepResult(names=traced.names, losses=losses, targets=result.targets if result else None)

    def _trace(self, result: StepResult | None, videos: int) -> Traced:
        """Rank 0's, which always has videos."""
        found = [Traced.of(result.names, self.parameters, videos=videos) if result else None]
        with self.ranks.pulse.waiting():
            dist.broadcast_object_list(found, 0)
        assert found[0]
        return found[0]
