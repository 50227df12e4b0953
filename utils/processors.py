"""The CPUs that this process may use, and how its threads wait for each other."""

import os

from utils.cgroup import cpu_quota


def usable_cpus() -> int:
    """CPUs that this process may use: those it is bound to, or a container's share of their time if that is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return bound if quota is None else max(1, min(bound, int(quota)))


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other; call it before torch is imported. The user's choice stands.

    By default they keep their CPUs busy: when others need these too, each waits for a thread that isn't running.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def load() -> float:
    """Threads that want to run, on the whole machine, averaged over a minute; 0 where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0
