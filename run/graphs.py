"""--cuda_graph: a whole training step (forward, targets, losses, backward, Adam) as one CUDA graph.

    take_step = GraphedStep(step, model=model, mask=mask, optimizer=optimizer)      # step(batch) is an eager step
    result = take_step(batch)

An eager step is some six hundred launches, each of which costs the host more time than the GPU needs for most of them; a graph
is one. It holds the addresses of everything that a step reads and writes, so batches are copied to where the graph reads them.
The numbers are those of the eager step, random ones included.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from dataset import Batch
from layers.snippets import Snippets
from layers.wide_adam import WideAdam

WARM_UPS = 3  # eager steps before a capture: what is made on first use must not be made in a graph


class Result(Protocol):
    """What a step returns: a dataclass with losses on the device."""

    @property
    def losses(self) -> Tensor: ...


R = TypeVar("R", bound=Result)
# From work to its result, and to what computes that anew in the same memory.
Record = Callable[[Callable[[], R]], tuple[R, Callable[[], None]]]


def has_graphs(device: torch.device) -> bool:
    """Whether steps on this device can be graphs."""
    return device.type == "cuda"


class GraphedStep(Generic[R]):
    """A step that is captured once for every size of batch and replayed from then on; it stays eager if that fails.

    `losses` of a result are a copy; its other tensors hold until the next step. `.grad` is empty after a step.

    The optimiser's numbers and the parameters' addresses are fixed in a graph: other numbers, such as a group's learning rate,
    or an optimiser state that was loaded are captured anew; new values of a parameter are to be written in place, as a schedule
    writes its learning rate. So is the mode of the network: call `train()` before a step.
    """

    def __init__(
        self,
        step: Callable[[Batch], R],
        *,
        model: nn.Module,
        mask: nn.Module,
        optimizer: WideAdam,
        record: Record[R] | None = None,
    ) -> None:
        """`record` stands in for a CUDA graph in tests."""
        self.step, self.optimizer = step, optimizer
        self.parameters, self.statistics = list(model.parameters()), list(mask.buffers())
        self.device = self.parameters[0].device
        self.record: Record[R] = record or CudaRecorder()
        self.captured: dict[Any, tuple[Batch, R, Callable[[], None]]] = {}
        self.failed = False
        optimizer.register_load_state_dict_post_hook(lambda _: self.captured.clear())

    def __call__(self, batch: Batch) -> R:
        key = (*(value.shape for value in _tensors(batch)), _numbers(self.optimizer))
        if not self.failed and key not in self.captured:
            self._capture(key, batch)
        if self.failed:
            return self.step(batch)
        inputs, result, replay = self.captured[key]
        for ours, theirs in zip(_tensors(inputs), _tensors(batch), strict=True):
            ours.copy_(theirs)
        replay()
        increment_version(self.parameters)  # as the optimiser does
        return replace(result, losses=result.losses.clone())  # type: ignore[type-var]

    def _capture(self, key: Any, batch: Batch) -> None:
        """Warm up and capture, changing nothing that a run computes with; say why if it fails."""
        inputs = _like(batch)
        self.optimizer.make_moments()  # in memory of their own, not in a graph's
        try:
            with self._undone():
                inputs.labels.fill_(torch.nan)  # no update, since no loss is finite
                with _side_stream(self.device):
                    for _ in range(WARM_UPS):
                        self.step(inputs)
                self.optimizer.zero_grad()
                self.captured[key] = (inputs, *self.record(lambda: self.step(inputs)))
        except Exception as error:  # a driver, a library or memory can fail in any way
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            print(f"note: --cuda_graph: the training step runs without a graph: {type(error).__name__}: {reason}")
            self.failed = True
            self.captured.clear()

    @contextlib.contextmanager
    def _undone(self) -> Iterator[None]:
        """Restore at the end what a step without an update changes: the mask's statistics, gradients, the random generators."""
        before = [value.clone() for value in self.statistics]
        try:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                yield
        finally:
            for value, old in zip(self.statistics, before, strict=True):
                value.copy_(old)
            self.optimizer.zero_grad()


class CudaRecorder:
    """Captures into graphs that share their working memory, since they never run at the same time."""

    def __init__(self) -> None:
        self.last: torch.cuda.CUDAGraph | None = None  # held, since memory without a graph can't be shared any more

    def __call__(self, work: Callable[[], R]) -> tuple[R, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # Threads that prepare batches go on pinning memory, which would end a capture in the default mode.
        pool = self.last.pool() if self.last else None
        with (
            torch.cuda.stream(torch.cuda.current_stream()),  # comes back to it: a capture that fails stays on its own
            torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"),
        ):
            result = work()
        self.last = graph
        return result, graph.replay


def _numbers(optimizer: WideAdam) -> tuple[Any, ...]:
    """The numbers of every group of parameters that a graph has fixed, and whether a schedule has taken their place."""
    groups, scheduled = optimizer.param_groups, optimizer.scheduled_lr is not None
    return tuple((group["lr"], scheduled, *group["betas"], group["eps"], group["weight_decay"]) for group in groups)


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    """What a step reads of a batch: its features laid out, as a GPU has them, labels, and what snippets are taught."""
    return batch.features.dense(), batch.labels, *(() if batch.taught is None else (batch.taught,))


def _like(batch: Batch) -> Batch:
    """A batch with tensors of its own, for a graph to read from."""
    features, labels, *taught = (value.clone() for value in _tensors(batch))
    return batch._replace(features=Snippets.of(features), labels=labels, taught=taught[0] if taught else None)


@contextlib.contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """A stream of its own on a GPU, as a warm-up for a capture needs it."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)
