"""The origin of a result: options, seed, device, versions and the git commit."""

import pathlib
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from run.device import Machine

PACKAGES = ("torch", "numpy", "scipy", "pandas")


def provenance(
    options: Mapping[str, Any], machine: Machine, *, layout: str, left_out: Mapping[str, int]
) -> dict[str, Any]:
    """The origin that every result file states besides its numbers; `options` are flat, {flag name: value}."""
    return {
        "data": {"name": pathlib.Path(options["data_path"]).name, "path": options["data_path"]},
        "recipe": options["dataset"],
        "seed": options["seed"],
        "device": str(machine.device),
        "precision": machine.precision,
        "threads": machine.threads,
        "products": machine.products,
        "versions": versions(),
        "git_commit": git_commit(),
        "options": dict(options),
        "layout": layout,
        "left_out": dict(left_out),
    }


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
