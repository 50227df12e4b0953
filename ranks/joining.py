"""The processes that train together, as each of them sees the others: rank 0 gives commands, the others follow them.

ranks = join(flags)             # None unless torchrun has started more than one process
ranks.close()
"""

import contextlib
import datetime
import json
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from dataset import Share
from options import FLAGS, unresolved
from ranks.meeting import POLL, meet, store_of
from ranks.place import Place
from ranks.pulse import OVER, Pulse
from utils.printable import one_line

# Of a collective: only a fault of the program lasts so long, since ranks that end or hang are noticed much earlier.
LONGEST_WAIT = datetime.timedelta(hours=1)
LONGEST_COMMAND = datetime.timedelta(days=30)  # that rank 0 may be busy alone
KEPT = 100  # commands in the store: between that many there are collectives, so all ranks have read the earlier ones
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
        """Wait for what rank 0 wants next: long, while it saves. Raises TrainingError when rank 0 has ended."""
        key = f"command/{self.commands}"
        with self.pulse.waiting():
            self.store.wait([key], LONGEST_COMMAND)  # or until the pulse ends this process
            command: dict[str, Any] = json.loads(self.store.get(key))
        self.commands += 1
        return command

    def close(self, failure: str | None = None, *, is_mistake: bool = False) -> None:
        """Leave the others; `failure` says why, None that the work is done. The end of rank 0 is theirs, too."""
        with contextlib.suppress(RuntimeError):
            if self.rank == 0:
                if failure is not None:
                    self.store.set(OVER, "")
                self._command("end")
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
    options = unresolved(flags)
    FLAGS.check(options)
    seconds = options.run.rank_timeout
    met = meet(place, flags, seconds=seconds)
    pulse = Pulse(store_of(place, seconds), rank=place.rank, hosts=met.hosts, seconds=seconds)
    ranks = Ranks(place, met.store, pulse, met.device)
    try:
        with pulse.waiting():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if met.device.type == "cuda" else "gloo",
                store=dist.PrefixStore("group", met.store),
                rank=place.rank,
                world_size=place.count,
                timeout=LONGEST_WAIT,
            )
    except BaseException as error:
        ranks.close(one_line(str(error) or type(error).__name__, longest=300))
        raise
    return ranks
