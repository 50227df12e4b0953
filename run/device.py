"""The device and number format of a run: --device, --precision, and bringing tensors back to the host.

--precision is the number format of the large matrix products. Weights, moments and losses are always float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from model import SAL
from options import RunOptions
from utils.errors import InputError
from utils.memory import check_fits

AMPERE = (8, 0)  # first compute capability with TF32 and bfloat16


# float32 arrays of the model's size. Test: the weights, and half of them folded. Training adds two moments and, on a GPU or
# compiled, the gradients, which are otherwise never stored in full; on a CPU, the best weights until they are saved.
INFERENCE_COPIES, MOMENT_COPIES, GRADIENT_COPIES, BEST_COPIES = 1.5, 2.0, 1.0, 1.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The device and number format that a run computes with."""

    device: torch.device
    precision: str  # fp32, tf32 or bf16
    dtype: torch.dtype  # of the wide convolutions and the pooling


def choose_machine(options: RunOptions) -> Machine:
    """Resolve --device and --precision. Raises InputError when this machine does not have them."""
    device = pick_device(options.device)
    precision = choose_precision(options.precision, device)
    return Machine(device=device, precision=precision, dtype=apply_precision(precision))


def check_model_fits(make_model: Callable[[], SAL], machine: Machine, *, training: bool, compiled: bool) -> None:
    """Raise InputError when the model will not fit, before anything is allocated.

    A system that overcommits memory would kill the process later, without a word.
    """
    with torch.device("meta"):
        model = make_model()
    copies = INFERENCE_COPIES
    if training:
        full_gradients = compiled or machine.device.type == "cuda"
        copies += MOMENT_COPIES + (GRADIENT_COPIES if full_gradients else 0)
        copies += BEST_COPIES if machine.device.type == "cpu" else 0
    needed = int(copies * sum(parameter.nbytes for parameter in model.parameters()))
    what = f"--hidden_size {model.options.hidden_size}: the model needs"
    check_fits(needed, machine.device, what=what, instead="lower it or free memory")


def pick_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda or cuda:INDEX into a device. Raises InputError when this machine does not have it."""
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
    torch.cuda.set_device(device)  # for anything that names no device, such as pinned buffers and events
    return device


def fetch(*tensors: Tensor) -> Callable[[], tuple[NDArray[Any], ...]]:
    """Start copying tensors to the host; the returned function waits for the copies and returns them as arrays."""
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


def choose_precision(name: str, device: torch.device) -> str:
    """Resolve --precision to fp32, tf32 or bf16. "auto" is tf32 where the device has it, as in the published runs, else fp32.

    Raises InputError when the device does not have it.
    """
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= AMPERE
    if name == "auto":
        return "tf32" if has_tf32 else "fp32"
    if name == "tf32" and not has_tf32:
        raise InputError(
            f"--precision tf32: {device} has no TF32, unlike NVIDIA GPUs from Ampere on; give --precision fp32"
        )
    if name == "bf16" and device.type == "cuda" and not has_tf32:
        raise InputError(f"--precision bf16: {device} has no bfloat16; give --precision fp32")
    return name


def apply_precision(precision: str) -> torch.dtype:
    """Set how CUDA multiplies float32 matrices; returns the dtype of the model's wide convolutions and pooling."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
