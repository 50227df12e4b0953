"""Evaluations that several ranks share: each predicts some batches of test videos, rank 0 localizes and measures.

Batches are those of one process, whole, and dealt out by their length: every number is computed as one process computes it, so
the result files are the same to the byte.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from dataset import Dataset
from localization.instances import Prediction
from model import SAL
from options import Options
from ranks.joining import Ranks
from test import Evaluator
from utils.errors import TrainingError


def dealt_out(costs: Sequence[float], ranks: int) -> list[list[int]]:
    """Positions of batches for each rank: the costliest first, each to the rank that has least. In ascending order."""
    shares, loads = [list[int]() for _ in range(ranks)], [0.0] * ranks
    for position in sorted(range(len(costs)), key=lambda i: -costs[i]):
        rank = loads.index(min(loads))
        shares[rank].append(position)
        loads[rank] += costs[position]
    return [sorted(share) for share in shares]


class SharedEvaluator(Evaluator):
    """On rank 0: an Evaluator whose predictions all ranks make. The others call `predict_share` when they are told to."""

    ranks: Ranks

    def predict_groups(self, groups: Sequence[list[int]]) -> dict[int, Prediction]:
        """{position in the split: prediction}, of all ranks."""
        self.ranks.command("predict")
        parts = self._exchanged(groups)
        assert parts
        return {position: prediction for part in parts for position, prediction in part.items()}

    def predict_share(self) -> None:
        """On other ranks than 0: predict this rank's share, and hand it over."""
        self._exchanged(self.groups)

    def _exchanged(self, groups: Sequence[list[int]]) -> list[dict[int, Prediction]] | None:
        """Every rank's predictions on rank 0; None on the others. Raises TrainingError when a rank's weights have drifted."""
        costs = [cost_of(self.data, group, self.data_options.num_segments) for group in groups]
        share = dealt_out(costs, self.ranks.count)[self.ranks.rank]
        own = fingerprint(self.model), super().predict_groups([groups[i] for i in share])
        parts: list[Any] | None = [None] * self.ranks.count if self.ranks.rank == 0 else None
        with self.ranks.pulse.waiting():
            dist.gather_object(own, parts, 0)
        if parts is None:
            return None
        for rank, (weights, _) in enumerate(parts):
            if weights != own[0]:
                raise TrainingError(
                    f"rank {rank} (on {self.ranks.hosts[rank]}) has other weights than rank 0, though it has made the same "
                    "updates; use machines of one kind, or test its memory"
                )
        return [predictions for _, predictions in parts]


def shared_evaluator(model: SAL, data: Dataset, options: Options, ranks: Ranks) -> SharedEvaluator:
    """With the options of a run."""
    evaluator = SharedEvaluator.of(model, data, options)
    evaluator.ranks = ranks
    return evaluator


def fingerprint(model: nn.Module) -> int:
    """The sum of all weights' bits: the same in any order, another one where a weight differs."""
    return sum(int(p.detach().view(torch.int32).sum(dtype=torch.int64)) for p in model.parameters())


def cost_of(data: Dataset, group: Sequence[int], num_segments: int) -> int:
    """Distinct snippets in a batch of test videos: what predicting them costs."""
    return sum(min(data.test.videos[v].num_snippets, num_segments) for v in group)
