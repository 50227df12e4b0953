"""What ranks exchange in a training step: values of their videos, and gradients.

A gradient is summed over the ranks (all-reduce), but for those of wide layers: such a gradient is the product of one row for
each video with another, 1.05 MB for a video of H 512 against 537 MB for the whole. Ranks exchange the rows wherever those are
smaller, and each rebuilds the gradient, rows in the order of the videos, as one process has it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from dataset import Share
from layers.wide_linear import DeferredGradient, deferred_gradient
from losses import Company

Waiting = Callable[[], AbstractContextManager[None]]


def gather_rows(values: Tensor, counts: Sequence[int]) -> Tensor:
    """The rows of all ranks [sum of counts,...], in the order of the ranks; `values` [counts[rank],...] are this rank's."""
    most = max(counts)
    if len(values) < most:  # collectives take equal shapes
        values = torch.cat([values, values.new_zeros(most - len(values), *values.shape[1:])])
    gathered = values.new_empty(len(counts) * most, *values.shape[1:])
    dist.all_gather(list(gathered.split(most)), values.contiguous())
    if min(counts) == most:
        return gathered
    return torch.cat([gathered[i * most : i * most + count] for i, count in enumerate(counts)])


class Companions(Company):
    """The videos of a step that several ranks share."""

    def __init__(self, share: Share, videos: int, waiting: Waiting) -> None:
        """`videos` of the step, of which this rank has its share; `waiting` is entered around what others take part in."""
        self.counts, self.positions, self.waiting = share.counts(videos), share.of(videos), waiting

    def everyone(self, values: Tensor) -> Tensor:
        with self.waiting():
            return gather_rows(values, self.counts)

    def own(self, values: Tensor) -> Tensor:
        return values[self.positions.start : self.positions.stop]


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What rank 0's first step has: a rank without videos in its own can't know."""

    names: tuple[str, ...]  # of the losses
    reached: tuple[bool, ...]  # of each parameter, whether the loss reaches it
    rows: tuple[int, ...]  # of each parameter, rows of a deferred gradient for a video; 0: it is not deferred

    @staticmethod
    def of(names: Sequence[str], parameters: Sequence[Tensor], *, videos: int) -> "Traced":
        deferred = [deferred_gradient(parameter) for parameter in parameters]
        rows = [each.rank // videos if each and each.factors else 0 for each in deferred]
        reached = [bool(r) or p.grad is not None for r, p in zip(rows, parameters, strict=True)]
        return Traced(names=tuple(names), reached=tuple(reached), rows=tuple(rows))


def exchange_gradients(parameters: Sequence[Tensor], traced: Traced, losses: Tensor, counts: Sequence[int]) -> Tensor:
    """Make the gradients of all parameters those of the whole step. Returns the sums of the `losses` [n] over the ranks.

    Each rank's gradients and losses are its part of the whole step's: their sum is what one process would have.
    """
    summed = []
    for parameter, reached, rows in zip(parameters, traced.reached, traced.rows, strict=True):
        deferred = deferred_gradient(parameter)
        if rows and deferred and goes_as_rows(parameter, rows=rows * sum(counts)):
            exchange_rows(deferred, [rows * count for count in counts])
        elif reached:
            if deferred and deferred.factors:
                parameter.grad = deferred.form()
                deferred.clear()
            summed.append(parameter)
    return _sum_gradients(summed, losses)


def goes_as_rows(weight: Tensor, *, rows: int) -> bool:
    """Whether the factors of a weight's gradient [N,W], this many rows of N and of W, are smaller than the gradient."""
    return rows * sum(weight.shape) < weight.numel()


def exchange_rows(deferred: DeferredGradient, counts: Sequence[int]) -> None:
    outputs, inputs = deferred.weight.shape
    grads, x = deferred.joined() if deferred.factors else (deferred.weight.new_empty(0, n) for n in (outputs, inputs))
    deferred.factors = [(gather_rows(grads, counts), gather_rows(x, counts))]


def _sum_gradients(parameters: Sequence[Tensor], losses: Tensor) -> Tensor:
    """All-reduce the gradients and the losses as one array; a gradient that is missing counts as 0."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [in_memory_order(parameter.grad) for parameter in parameters if parameter.grad is not None]
    together = torch.cat([*gradients, losses])
    dist.all_reduce(together)
    *sums, losses = together.split([len(gradient) for gradient in gradients] + [len(losses)])
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total)
    return losses


def in_memory_order(x: Tensor) -> Tensor:
    """All elements [n] as they lie in memory, without a copy: collectives take no other layout than this."""
    return x.as_strided((x.numel(),), (1,))


def broadcast(tensors: Sequence[Tensor]) -> None:
    """Give all ranks rank 0's values, in place."""
    for tensor in tensors:
        dist.broadcast(in_memory_order(tensor), 0)
