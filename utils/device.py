"""The device that --device names."""

import torch

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
    return torch.device("cuda", int(index or 0))
