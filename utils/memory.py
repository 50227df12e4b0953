"""Free memory, and the errors when it is not enough."""

import errno
import pathlib
import sys
from typing import TYPE_CHECKING

from utils.cgroup import free_memory
from utils.errors import InputError

if TYPE_CHECKING:
    import torch

_MEMORY_INFO = pathlib.Path("/proc/meminfo")


def free_bytes(device: "torch.device | None") -> int | None:
    """Bytes that a program can still allocate on a device, None for the host; None where the system does not say."""
    if device and device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        lines = dict(line.split(":") for line in _MEMORY_INFO.read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    in_container = free_memory()
    return free if in_container is None else min(free, in_container)


def check_fits(needed: int, device: "torch.device | None", *, what: str, instead: str) -> None:
    """Raise InputError with the needed and the free bytes, and what to do instead, when `needed` bytes are not free."""
    free = free_bytes(device)
    if free is not None and needed > free:
        raise InputError(
            f"{what} {format_bytes(needed)} on {device or 'cpu'}, {format_bytes(free)} are free; {instead}"
        )


def format_bytes(count: int) -> str:
    """Format a size for people, with the exact number: "1.5 GB (1,500,000,000 bytes)"."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= size:
            return f"{count / size:.1f} {unit} ({count:,} bytes)"
    return f"{count:,} bytes"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: in Python, numpy, torch on either device, or the system, as for a memory map."""
    torch = sys.modules.get("torch")  # its errors cannot occur before it is loaded
    return (
        isinstance(error, MemoryError)
        or (torch is not None and isinstance(error, torch.OutOfMemoryError))
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    )
