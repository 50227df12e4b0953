"""How the processes that torchrun has started find each other, and what they must have in common.

    ranks = join(flags)             # None unless torchrun has started more than one process
    ranks.close()

They meet in the store of torchrun, say who they are, and compare what they were started with before anything is read.
"""

import contextlib
import datetime
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from dataset import Share
from options import unresolved
from ranks.place import Place
from ranks.pulse import OVER, Pulse, show_life
from run.device import pick_device
from utils.errors import InputError, TrainingError

# Of a collective: only a fault of the program lasts so long, since ranks that end or hang are noticed much earlier.
LONGEST_WAIT = datetime.timedelta(hours=1)
LONGEST_COMMAND = datetime.timedelta(days=30)  # that rank 0 may be busy alone
KEPT = 100  # commands in the store: between that many there are collectives, so all ranks have read the earlier ones
POLL = 0.02  # seconds between looks for what takes long to come
PARTING = 5.0  # seconds that rank 0 waits at the end until the others have read that it is one


class Ranks:
    """This process among those that train together; rank 0 leads, and it alone reads flags and writes files."""

    def __init__(self, place: Place, store: dist.Store, pulse: Pulse, device: torch.device) -> None:
        self.rank, self.count, self.device = place.rank, place.count, device
        self.store, self.pulse, self.hosts = store, pulse, pulse.hosts
        self.commands = 0  # given or followed

    @property
    def of_machine(self) -> dict[str, Any]:
        """What run.device.choose_machine is to know of this rank."""
        return {"device": self.device, "ranks": self.count}

    def share(self, *, mixes: bool) -> Share:
        """This rank's part of every batch."""
        return Share(rank=self.rank, ranks=self.count, mixes=mixes)

    def say(self, key: str, value: str) -> None:
        """Leave a word for another rank."""
        with self.pulse.waiting():
            self.store.set(key, value)

    def word(self, key: str) -> str:
        """Wait for a word of another rank. Raises TrainingError when a rank has ended."""
        with self.pulse.waiting():
            while not self.store.check([key]):
                self.pulse.check()
                time.sleep(POLL)
            return self.store.get(key).decode()

    def command(self, do: str, **more: Any) -> None:
        """Tell the other ranks what comes next."""
        with self.pulse.waiting():
            self._command(do, **more)

    def _command(self, do: str, **more: Any) -> None:
        self.store.set(f"command/{self.commands}", json.dumps({"do": do, **more}))
        if self.commands >= KEPT:
            self.store.delete_key(f"command/{self.commands - KEPT}")
        self.commands += 1

    def next_command(self) -> dict[str, Any]:
        """Wait for what rank 0 wants next: long, while it saves. Raises TrainingError when rank 0 has failed, or ended."""
        key = f"command/{self.commands}"
        with self.pulse.waiting():
            self.store.wait([key], LONGEST_COMMAND)  # or until the pulse ends this process
            command: dict[str, Any] = json.loads(self.store.get(key))
        self.commands += 1
        if command["do"] == "fail":
            raise TrainingError("rank 0 has failed, and has said why")
        return command

    def close(self, failure: str | None = None, *, is_mistake: bool = False) -> None:
        """Leave the others; `failure` says why, None that the work is done. The end of rank 0 is theirs, too."""
        with contextlib.suppress(RuntimeError):
            if self.rank == 0:
                if failure is not None:
                    self.store.set(OVER, "")
                self._command("end" if failure is None else "fail")
                self._await_parting()
            else:
                if failure is not None:
                    self.store.set(f"failed/{self.rank}", json.dumps({"message": failure, "is_mistake": is_mistake}))
                self.store.set(f"left/{self.rank}", "")
            if failure is None:
                dist.destroy_process_group()
        self.pulse.close()

    def _await_parting(self) -> None:
        """The store may be this process's: it must not end before the others have read what it said."""
        until = time.monotonic() + PARTING
        while time.monotonic() < until and not self.store.check([f"left/{r}" for r in range(1, self.count)]):
            time.sleep(POLL)


def join(flags: Mapping[str, Any]) -> Ranks | None:
    """Meet the other ranks; None where there are none.

    Raises InputError, on rank 0, when one of them does not come, or was started in another way; the others then end silently.
    """
    place = Place.of_environment()
    if place is None:
        return None
    options = unresolved(flags).run
    seconds = options.rank_timeout
    store = _store(place, seconds)
    show_life(store, place.rank, 0)
    try:
        device = _device_of(options.device, place)
    except InputError as error:
        store.set(f"arrived/{place.rank}", json.dumps({"host": socket.gethostname(), "error": str(error)}))
        _accepted(store, place, seconds) if place.rank else _gathered(store, place, seconds)
        raise
    store.set(f"arrived/{place.rank}", json.dumps(_self_description(flags, device)))
    hosts = _accepted(store, place, seconds) if place.rank else _gathered(store, place, seconds)
    pulse = Pulse(_client(place, seconds), rank=place.rank, hosts=hosts, seconds=seconds)
    ranks = Ranks(place, store, pulse, device)
    with pulse.waiting():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", store),
            rank=place.rank,
            world_size=place.count,
            timeout=LONGEST_WAIT,
        )
    return ranks


def _device_of(name: str, place: Place) -> torch.device:
    """A GPU of its own for each rank of a machine, unless --device says cpu."""
    if ":" in name:
        raise InputError(f"--device {name}: every rank has a GPU of its own; give --device cuda, or cpu")
    device = pick_device(name)
    return pick_device(f"cuda:{place.on_machine}") if device.type == "cuda" else device


def _self_description(flags: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """What must be the same everywhere, {what: value}, and the host's name."""
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "host": socket.gethostname(),
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in flags.items()},
        "device": f"{device.type}, {kind}",
        "torch": str(torch.__version__),
    }


def _store(place: Place, seconds: float) -> dist.Store:
    """torchrun's own, or where other launchers set the same variables, one on rank 0."""
    agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return _client(place, seconds, serves=place.rank == 0 and not agents)


def _client(place: Place, seconds: float, *, serves: bool = False) -> dist.Store:
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
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(
            f"rank {place.rank}: rank 0 can't be reached at {place.address}:{place.port} ({reason})"
        ) from None
    return dist.PrefixStore(f"sal/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _gathered(store: dist.Store, place: Place, seconds: float) -> list[str]:
    """On rank 0: wait for all, compare them, and tell them whether it goes on. Returns the hosts' names."""
    others = range(1, place.count)
    try:
        until = time.monotonic() + seconds
        while missing := [rank for rank in others if not store.check([f"arrived/{rank}"])]:
            if time.monotonic() > until:
                named = ", ".join(map(str, missing))
                raise InputError(
                    f"of {place.count} ranks, {named} did not arrive within {seconds:g} s (--rank_timeout); see what their "
                    "own output says"
                )
            time.sleep(POLL)
        found = [json.loads(store.get(f"arrived/{rank}")) for rank in range(place.count)]
        for rank, each in enumerate(found):
            if "error" in each:
                raise InputError(f"rank {rank} (on {each['host']}): {each['error']}")
            _check_same(found[0], each, rank)
    except InputError:
        store.set(OVER, "")
        raise
    hosts = [each["host"] for each in found]
    store.set("hosts", json.dumps(hosts))
    return hosts


def _check_same(first: Mapping[str, Any], other: Mapping[str, Any], rank: int) -> None:
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
    """On the other ranks: wait for rank 0's word. Ends the process where rank 0 says why it does not go on."""
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
