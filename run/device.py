"""The device, number format and threads of a run: --device, --precision, --threads .., and bringing tensors back to the host.

--precision is the number format of the large matrix products. Weights, moments and losses are always float32.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from command_line.suggestions import shortened
from layers.products import Library, fastest_library, use_library
from model import SAL
from options import AblationOptions, DataOptions, ModelOptions, RunOptions
from run.torch_settings import use_deterministic
from utils.errors import InputError
from utils.memory import check_fits
from utils.processors import load, usable_cpus

INDEX_DIGITS = 4  # of a GPU's number, at most
AMPERE = (8, 0)  # first compute capability with TF32 and bfloat16


# float32 arrays of the size of the model: its weights, in test and in training. Training adds two moments and, on a GPU or
# compiled, the gradients, which are otherwise never stored in full; the trial of --compile compares two of them. On a CPU the
# best weights are in memory too, until they are saved; on a GPU, those of evaluations that workers judge, and the best.
INFERENCE_COPIES, MOMENT_COPIES, GRADIENT_COPIES, BEST_COPIES, TEACHER_COPIES = 1.0, 2.0, 1.0, 1.0, 1.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The device, number format and CPU threads that a run computes with."""

    device: torch.device
    precision: str  # fp32, tf32 or bf16
    dtype: torch.dtype  # of the wide convolutions and the pooling
    threads: int  # of torch, on the CPU
    products: Library  # of large products on a CPU
    chosen: bool = False  # whether the user chose it
    ranks: int = 1  # processes that train together
    deterministic: bool = False

    def __str__(self) -> str:
        together = f", ranks: {self.ranks}" if self.ranks > 1 else ""
        return f"{self.device} ({self.precision}, products: {self.products}, threads: {self.threads}{together})"

    def details(self) -> str:
        """A line for --verbose: why large products take the plain way; empty where they do not, or the user chose it."""
        if self.device.type != "cpu" or self.precision != "fp32" or self.products == "onednn" or self.chosen:
            return ""
        reason = (
            "oneDNN is not clearly faster here" if torch.backends.mkldnn.is_available() else "this torch has no oneDNN"
        )
        return f"note: large products are left to torch's BLAS: {reason}"

    @property
    def busy(self) -> str:
        """A line for the user where others keep the CPUs busy; empty where they do not."""
        cpus, wanted = usable_cpus(), load()
        if self.device.type != "cpu" or self.threads == 1 or wanted <= cpus:
            return ""
        return f"note: the load is {wanted:.1f} on {cpus} CPUs: --threads 1 may be faster than {self.threads}"


def choose_machine(options: RunOptions, *, device: torch.device | None = None, ranks: int = 1) -> Machine:
    """Resolve the flags of a machine, and apply them. Raises InputError for what is not here.

    `device` is that of this process where it is one of several `ranks` (ranks/joining.py).
    """
    device = device or pick_device(options.device)
    precision = choose_precision(options.precision, device)
    use_deterministic(options.deterministic, device)
    threads = options.threads or default_threads()
    torch.set_num_threads(threads)
    products = choose_products(options.products, device, precision)
    use_library(products)
    dtype = apply_precision(precision)
    return Machine(
        device=device,
        precision=precision,
        dtype=dtype,
        threads=threads,
        products=products,
        chosen=options.products != "auto",
        deterministic=options.deterministic,
        ranks=ranks,
    )


def choose_products(name: str, device: torch.device, precision: str) -> Library:
    """Resolve --products. Raises InputError when torch was built without oneDNN and it is asked for."""
    if name == "onednn" and not torch.backends.mkldnn.is_available():
        raise InputError("--products onednn: this torch was built without oneDNN; give --products blas or auto")
    if name == "auto":
        return fastest_library(torch.get_num_threads()) if device.type == "cpu" and precision == "fp32" else "blas"
    return "onednn" if name == "onednn" else "blas"


def default_threads() -> int:
    """Torch's own number, but no more than the CPUs that this process may use; what OMP_NUM_THREADS says stands.

    It depends on the machine alone, not on its load: the number of threads moves last bits, and runs are to be repeatable.
    """
    if any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")):
        return torch.get_num_threads()
    return min(torch.get_num_threads(), usable_cpus())


def network_maker(
    model: ModelOptions,
    data: DataOptions,
    machine: Machine,
    *,
    num_classes: int,
    training: bool,
    compiled: bool = False,
    evaluating: int = 0,
    teacher: bool = False,
    ablation: AblationOptions,
) -> Callable[[], SAL]:
    """The function that makes the network, which is known to fit but not made yet. Raises InputError when it will not fit."""
    make_model = functools.partial(
        SAL,
        model,
        num_classes=num_classes,
        streams=data.streams,
        feature_size=data.feature_size,
        compute_dtype=machine.dtype,
        ablation=ablation,
    )
    check_model_fits(make_model, machine, training=training, compiled=compiled, evaluating=evaluating, teacher=teacher)
    return make_model


def check_model_fits(
    make_model: Callable[[], SAL],
    machine: Machine,
    *,
    training: bool,
    compiled: bool,
    evaluating: int = 0,
    teacher: bool = False,
) -> None:
    """Raise InputError when the model will not fit, before anything is allocated.

    `evaluating` workers need weights, too, and so does the teacher.

    A system that overcommits memory would kill the process later, without a word.
    """
    with torch.device("meta"):
        model = make_model()
    copies = INFERENCE_COPIES
    if training:
        full_gradients = 2 if compiled else 1 if machine.device.type == "cuda" else 0
        copies += MOMENT_COPIES + full_gradients * GRADIENT_COPIES
        copies += BEST_COPIES if machine.device.type == "cpu" or evaluating else 0
        copies += BEST_COPIES * (evaluating + 1 if evaluating else 0)
        copies += TEACHER_COPIES if teacher else 0
    needed = int(copies * sum(parameter.nbytes for parameter in model.parameters()))
    what = f"--hidden_size {model.options.hidden_size}: the model needs"
    check_fits(needed, machine.device, what=what, instead="lower it or free memory")


def check_batch_fits(
    flag: str,
    batch_size: int,
    machine: Machine,
    *,
    data: DataOptions,
    hidden_size: int,
    training: bool,
    teacher: bool = False,
) -> None:
    """Raise InputError when a batch of this size, which `flag` sets, will not fit: its features, and what is encoded of them.

    These are the least that it takes.
    """
    streams = len(data.streams)
    encoded = (streams + 1) * (2 if training else 1) + teacher
    snippet = data.feature_size * streams + hidden_size * encoded
    needed = 4 * batch_size * (data.num_segments * snippet + hidden_size**2)  # the last are the semantics, [B,H,H]
    what = f"--num_segments {data.num_segments}, --{flag} {batch_size}: a batch needs"
    check_fits(needed, machine.device, what=what, instead="lower one of them")


def pick_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda or cuda:INDEX into a device. Raises InputError when this machine does not have it."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (":" in name and not (index.isdecimal() and len(index) <= INDEX_DIGITS)):
        raise InputError(f"--device {shortened(name)}: must be auto, cpu, cuda or cuda:INDEX")
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
    """Set how CUDA multiplies float32 matrices, in cuBLAS and cuDNN; returns the dtype of wide convolutions and pooling."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
