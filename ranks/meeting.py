"""How the processes that torchrun has started find each other, and what they must have in common before anything is read.

    met = meet(place, flags, seconds=20)        # raises InputError on rank 0; the others then end silently

They meet in a store, torchrun's own or one on rank 0, and say who they are and what they were started with. Rank 0 compares.
"""

import contextlib
import datetime
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from ranks.place import Place
from ranks.pulse import OVER, show_life
from run.device import pick_device
from utils.errors import InputError

POLL = 0.02  # seconds between looks for what takes long to come


@dataclass(frozen=True, kw_only=True)
class Met:
    """What the ranks have in common."""

    store: dist.Store
    hosts: tuple[str, ...]  # by rank
    device: torch.device  # of this rank


def meet(place: Place, flags: Mapping[str, Any], *, seconds: float) -> Met:
    """Wait for the others, at most so many seconds, and compare what all of them were started with."""
    if place.rank and not _serves(place):
        _await_server(place, seconds)
    store = store_of(place, seconds, serves=_serves(place))
    show_life(store, place.rank)
    device, mistake = None, ""
    try:
        device = _device_of(str(flags.get("device", "auto")), place)
    except InputError as error:
        mistake = str(error)
    store.set(f"arrived/{place.rank}", json.dumps(_self_description(flags, device, mistake)))
    hosts = _accepted(store, place, seconds) if place.rank else _compared(store, place, seconds)
    assert device
    return Met(store=store, hosts=tuple(hosts), device=device)


def store_of(place: Place, seconds: float, *, serves: bool = False) -> dist.Store:
    """A connection to the store, which takes one request at a time. Raises InputError when there is none."""
    try:
        store = dist.TCPStore(
            place.address,
            place.port,
            place.count,
            is_master=serves,
            timeout=datetime.timedelta(seconds=seconds),
            wait_for_workers=False,
        )
    except RuntimeError as error:
        raise _unreachable(place, str(error).strip().splitlines()[0][:200]) from None
    return dist.PrefixStore(f"sal/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _serves(place: Place) -> bool:
    """Whether the store is this process's: torchrun has one, other launchers that set the same variables have none."""
    return place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"


def _await_server(place: Place, seconds: float) -> None:
    """Wait until somebody listens there: torch itself would print pages about each attempt."""
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((place.address, place.port), timeout=seconds).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise _unreachable(place, error.strerror or str(error)) from None
            time.sleep(10 * POLL)


def _unreachable(place: Place, reason: str) -> InputError:
    return InputError(f"rank {place.rank}: rank 0 can't be reached at {place.address}:{place.port} ({reason})")


def _device_of(name: str, place: Place) -> torch.device:
    """A GPU of its own for each rank of a machine, unless --device says cpu."""
    if ":" in name:
        raise InputError(f"--device {name}: every rank has a GPU of its own; give --device cuda, or cpu")
    device = pick_device(name)
    return pick_device(f"cuda:{place.on_machine}") if device.type == "cuda" else device


def _self_description(flags: Mapping[str, Any], device: torch.device | None, mistake: str) -> dict[str, Any]:
    """What must be the same everywhere, {what: value}, with the host's name, and what is wrong here."""
    on_gpu = device is not None and device.type == "cuda"
    kind = torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    return {
        "host": socket.gethostname(),
        "mistake": mistake,
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in flags.items()},
        "device": f"{'cuda' if on_gpu else 'cpu'}, {kind}",
        "torch": str(torch.__version__),
    }


def _compared(store: dist.Store, place: Place, seconds: float) -> list[str]:
    """On rank 0: wait for all, compare them, and tell them whether it goes on. Returns the hosts' names."""
    try:
        until = time.monotonic() + seconds
        while missing := [rank for rank in range(place.count) if not store.check([f"arrived/{rank}"])]:
            if time.monotonic() > until:
                named = ", ".join(map(str, missing))
                raise InputError(
                    f"of {place.count} ranks, {named} did not arrive within {seconds:g} s (--rank_timeout); see what their "
                    "own output says"
                )
            time.sleep(POLL)
        found = [json.loads(store.get(f"arrived/{rank}")) for rank in range(place.count)]
        for rank, each in enumerate(found):
            if each["mistake"]:
                raise InputError(f"rank {rank} (on {each['host']}): {each['mistake']}")
            check_same(found[0], each, rank)
    except BaseException:
        with contextlib.suppress(RuntimeError):
            store.set(OVER, "")
        raise
    hosts = [each["host"] for each in found]
    store.set("hosts", json.dumps(hosts))
    return hosts


def check_same(first: Mapping[str, Any], other: Mapping[str, Any], rank: int) -> None:
    """Raise InputError when another rank was started in another way than rank 0, the first."""
    where = f"rank {rank} (on {other['host']})"
    for name in sorted(first["options"].keys() | other["options"].keys()):
        given = [
            f"--{name} {each['options'][name]}" if name in each["options"] else f"no --{name}"
            for each in (other, first)
        ]
        if given[0] != given[1]:
            raise InputError(
                f"{where} was started with {given[0]}, rank 0 with {given[1]}; give all ranks the same flags"
            )
    for name in ("device", "torch"):
        if first[name] != other[name]:
            raise InputError(f"{where} has {name} {other[name]}, rank 0 {first[name]}; ranks must be of one kind")


def _accepted(store: dist.Store, place: Place, seconds: float) -> list[str]:
    """On the other ranks: wait for rank 0's word. Ends the process where rank 0 does not go on, which says why."""
    until = time.monotonic() + 2 * seconds  # rank 0 waits for others, too
    try:
        while not store.check(["hosts"]):
            if store.check([OVER]):
                raise SystemExit(2)
            if time.monotonic() > until:
                raise InputError(
                    f"rank {place.rank}: rank 0 did not arrive within {2 * seconds:g} s; see what its output says"
                )
            time.sleep(POLL)
        hosts: list[str] = json.loads(store.get("hosts"))
    except RuntimeError:  # its store is gone, and so is rank 0
        raise SystemExit(2) from None
    return hosts
