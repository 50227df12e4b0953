"""--precision: the number format of the large matrix products. Weights, moments and losses are always float32."""

import torch

from utils.errors import InputError

PRECISIONS = ("auto", "fp32", "tf32", "bf16")
AMPERE = (8, 0)  # compute capability from which NVIDIA GPUs know TF32 and bfloat16


def choose_precision(name: str, device: torch.device) -> str:
    """fp32, tf32 or bf16. "auto" is tf32 where the device has it, as the published runs had, else fp32.

    Raises InputError when the device does not have it.
    """
    has_tf32 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= AMPERE
    if name == "auto":
        return "tf32" if has_tf32 else "fp32"
    if name == "tf32" and not has_tf32:
        raise InputError(
            f"--precision tf32: {device} has no TF32, NVIDIA GPUs from Ampere on have; give --precision fp32"
        )
    if name == "bf16" and device.type == "cuda" and not has_tf32:
        raise InputError(f"--precision bf16: {device} has no bfloat16; give --precision fp32")
    return name


def apply_precision(precision: str) -> torch.dtype:
    """Set how CUDA multiplies float32 matrices; returns the dtype of the model's wide convolutions and pooling."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
