"""A container's limits, which the machine's own figures do not show: control groups of versions 1 and 2."""

import pathlib
from collections.abc import Iterator

GROUPS = pathlib.Path("/sys/fs/cgroup")
OWN_GROUPS = pathlib.Path("/proc/self/cgroup")  # lines NUMBER:CONTROLLERS:PATH; version 2 has one, without controllers


def free_memory() -> int | None:
    """Bytes that the groups of this process can still allocate, those of cached files included; None without a limit."""
    return min((free for folder in _folders("memory") if (free := _free_memory(folder)) is not None), default=None)


def cpu_quota() -> float | None:
    """CPUs' worth of time that the groups of this process may use; None without a limit."""
    return min((quota for folder in _folders("cpu") if (quota := _cpu_quota(folder)) is not None), default=None)


def _folders(controller: str) -> Iterator[pathlib.Path]:
    """The folders of the groups that this process is in, each after the groups inside it: a limit holds for all below.

    Inside a container its group may be the root of what is mounted, whatever path the system states.
    """
    places = [(GROUPS, "/"), (GROUPS / controller, "/")]
    try:
        for line in OWN_GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", controller) or controller in controllers.split(","):
                places.append((GROUPS / controller if controllers else GROUPS, path))
    except (OSError, ValueError):
        pass
    for root, path in places:
        group = pathlib.PurePosixPath(path)
        if ".." not in group.parts:
            yield from (root / inside.relative_to("/") for inside in (group, *group.parents))


def _free_memory(folder: pathlib.Path) -> int | None:
    for limit, used, prefix in (
        ("memory.max", "memory.current", ""),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        try:
            allowed = int((folder / limit).read_text())  # "max" is no number
            taken = int((folder / used).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            reclaimable = (int(stat.get(f"{prefix}{kind}", 0)) for kind in ("inactive_file", "active_file"))
            return allowed - taken + sum(reclaimable)
        except (OSError, ValueError):
            continue
    return None


def _cpu_quota(folder: pathlib.Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()  # "max" is no number
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
