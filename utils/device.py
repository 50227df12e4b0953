"""The device that --device names, and bringing tensors home from it."""

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from utils.errors import InputError


def pick_device(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:INDEX. Raises InputError when there is no such device here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (":" in name and not index.isdecimal()):
        raise InputError(f"--device {name}: must be auto, cpu, cuda or cuda:INDEX")
    if not torch.cuda.is_available():
        raise InputError(f"--device {name}: no CUDA GPU is available here; use --device cpu")
    if int(index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: there are {torch.cuda.device_count()} CUDA GPUs, counted from 0")
    device = torch.device("cuda", int(index or 0))
    torch.cuda.set_device(device)  # what names no device, a pinned buffer or an event, belongs to this one
    return device


def fetch(*tensors: Tensor) -> Callable[[], tuple[NDArray[Any], ...]]:
    """Start copying tensors to the host; the returned function waits for that and gives the arrays."""
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
    arrived = None
    if tensors[0].is_cuda:
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(tensors[0].device))

    def wait() -> tuple[NDArray[Any], ...]:
        if arrived:
            arrived.synchronize()
        return tuple(copy.numpy() for copy in copies)

    return wait
