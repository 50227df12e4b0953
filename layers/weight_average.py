"""An exponential moving average of a network's weights, as a network of its own: a steadier teacher than the one that learns.

teacher = WeightAverage(model, decay=0.99)
optimizer.step(); teacher.update(skipped=optimizer.found_inf)       # after each step
with torch.no_grad():
    output = teacher.network(features)                              # in test mode
"""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

# Update n, counted from 0, keeps (1 + n) / (10 + n) of the average if that is less than the decay: the first weights, which
# are random, are soon forgotten.
WARM_UP = 10


class WeightAverage(Generic[Network]):
    """`network` is a copy of the model that is never trained, only averaged into; it begins with the model's weights."""

    def __init__(self, model: Network, *, decay: float) -> None:
        self.model, self.decay = model, decay
        self.network: Network = copy.deepcopy(model).eval().requires_grad_(False)
        # On the device, as Adam counts its steps, so that a CUDA graph counts too.
        self.updates = torch.zeros((), device=next(model.parameters()).device)

    @torch.no_grad()
    def update(self, *, skipped: Tensor) -> None:
        """Move towards the model's weights, or stay: where `skipped`, a scalar on the device, is 1, the model made no step."""
        taken = 1 - skipped
        share = ((WARM_UP - 1) / (WARM_UP + self.updates)).clamp_min(1 - self.decay) * taken
        for average, weight in zip(self.network.parameters(), self.model.parameters(), strict=True):
            average.lerp_(weight, share)
        self.updates += taken

    @torch.no_grad()
    def start_over(self, *, updates: int) -> None:
        """Take the model's weights as they are, as if they were the average of so many updates."""
        for average, weight in zip(self.network.parameters(), self.model.parameters(), strict=True):
            average.copy_(weight)
        self.updates.fill_(updates)

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that makes it what it is."""
        return [*self.network.parameters(), self.updates]

    def state_dict(self) -> dict[str, dict[str, Tensor] | Tensor]:
        return {"weights": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, dict[str, Tensor] | Tensor]) -> None:
        """In place, since a CUDA graph knows the addresses."""
        self.network.load_state_dict(state["weights"])  # type: ignore[arg-type]
        self.updates.copy_(state["updates"])  # type: ignore[arg-type]
