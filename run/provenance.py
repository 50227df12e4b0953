"""The origin of a result: options, seed, device, versions and the git commit, and what its last bits depend on."""

import contextlib
import pathlib
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from command_line.flags import as_typed
from formats.names import amount
from options import LAST_BIT_FLAGS
from run.device import Machine

OF_A_GPU = {"cuda_graph", "deterministic"}  # flags of LAST_BIT_FLAGS
PACKAGES = ("torch", "numpy", "scipy", "pandas")


def provenance(
    options: Mapping[str, Any], machine: Machine, *, layout: str, left_out: Mapping[str, int]
) -> dict[str, Any]:
    """The origin that every result file states besides its numbers; `options` are flat, {flag name: value}."""
    return {
        "data": {"name": pathlib.Path(options["data_path"]).name, "path": options["data_path"]},
        "preset": options["dataset"],
        "seed": options["seed"],
        "device": str(machine.device),
        "processor": processor(machine.device),
        "precision": machine.precision,
        "threads": machine.threads,
        "products": machine.products,
        "ranks": machine.ranks,
        "versions": versions(),
        "git_commit": git_commit(),
        "last_bits": last_bits(options, machine),
        "options": dict(options),
        "layout": layout,
        "left_out": dict(left_out),
    }


def last_bits(options: Mapping[str, Any], machine: Machine) -> str:
    """What must be the same for a second call to give the same numbers to the last bit, in words."""
    on_gpu = machine.device.type == "cuda"
    values = {**options, "threads": machine.threads, "products": machine.products, "precision": machine.precision}
    names = [name for name in ("precision", *sorted(LAST_BIT_FLAGS)) if on_gpu or name not in OF_A_GPU]
    flags = ", ".join(f"--{name} {as_typed(values[name])}" for name in names)
    same = (
        "to the last bit" if not on_gpu or machine.deterministic else "but for last bits, since --deterministic is off"
    )
    where = (
        f"on the same processor ({machine.device}, {processor(machine.device)}) in {amount(machine.ranks, 'process')}"
    )
    return (
        f"The same seed, data and other options give the same numbers, {same}, {where}, with the same versions and {flags}. "
        "--num_workers, --cache, --eval_workers, and stopping and resuming there change none of them."
    )


def processor(device: torch.device) -> str:
    """The GPU's name; or the CPU's, by which BLAS chooses its way, and the instructions that torch takes there."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = list[str]()
    with contextlib.suppress(OSError):  # a system without it
        lines = pathlib.Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.machine())}, {torch.backends.cpu.get_cpu_capability()}"


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def git_commit() -> str | None:
    """The commit of this source tree, with "+changes" when tracked files differ from it; None outside its own checkout."""
    root = pathlib.Path(__file__).resolve().parent.parent
    commit = _git(root, "rev-parse", "HEAD")
    if not commit or _git(root, "rev-parse", "--show-prefix") != "":
        return None
    return commit + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: pathlib.Path, *arguments: str) -> str | None:
    """The output of git; None if it fails. Without its optional locks, git leaves the user's index alone."""
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
