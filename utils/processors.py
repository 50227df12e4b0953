"""The CPUs that this process may use, and how its threads wait for each other."""

import os

from utils.cgroup import cpu_quota


def usable_cpus() -> int:
    """CPUs that this process may use: those it is bound to, or a container's share of their time if that is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return bound if quota is None else max(1, min(bound, int(quota)))


def settle_in() -> None:
    """Set what OpenMP and torch read from the environment; call it before torch is imported. The user's choice stands.

    OpenMP's threads sleep while they wait for each other. By default they keep their CPUs busy: when others need these too,
    each waits for a thread that isn't running. Large tensors ask Linux for huge pages: mapping them in small ones costs more
    than many an operation on them, and weights of half a gigabyte outgrow the table of small pages.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def load() -> float:
    """Threads that want to run, on the whole machine, averaged over a minute; 0 where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0
