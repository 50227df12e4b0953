"""Several ranks of main.py, as torchrun starts them, from a process that has imported the program once."""

import contextlib
import multiprocessing
import os
import pathlib
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from typing import Any

from torch.distributed import TCPStore

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["main", "train", "ranks.training", "support.ranks"])
PATIENCE = 60  # seconds for all ranks to end, far more than they need


@dataclass(frozen=True)
class EndedRank:
    code: int
    out: str
    err: str
    seconds: float


class StartedRanks:
    """Ranks 0 .. count - 1 of one job; ranks of `absent` are not started."""

    def __init__(
        self,
        flags: Sequence[str],
        folder: pathlib.Path,
        *,
        count: int = 2,
        absent: Sequence[int] = (),
        own_flags: Mapping[int, Sequence[str]] | None = None,
        own_hook: Mapping[int, "Hook"] | None = None,
        stopped: Sequence[int] = (),
        agent: bool = False,
    ) -> None:
        """`own_flags` come after the common ones, `own_hook` happens to a rank in a step; `stopped` ones don't end;
        with `agent` the store is this process's, as torchrun has it, and outlives rank 0."""
        folder.mkdir(parents=True, exist_ok=True)
        self.stopped = stopped
        self.folder, self.start, port = folder, time.monotonic(), free_port()
        self.processes: dict[int, ForkServerProcess] = {}
        self.store = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False) if agent else None
        for rank in range(count):
            if rank not in absent:
                environment = {
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                    "WORLD_SIZE": str(count),
                    "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port),
                    "TORCHELASTIC_USE_AGENT_STORE": str(agent),
                }
                arguments = [*flags, *(own_flags or {}).get(rank, ())]
                hook = (own_hook or {}).get(rank)
                process = CONTEXT.Process(target=_run, args=(arguments, environment, str(folder / str(rank)), hook))
                process.start()
                self.processes[rank] = process

    def ended(self) -> dict[int, EndedRank]:
        """Wait for all. Fails when one does not end."""
        ends = {}
        try:
            for rank, process in self.processes.items():
                if rank in self.stopped:
                    continue  # it ends by being killed, below
                process.join(max(0.1, PATIENCE - (time.monotonic() - self.start)))
                assert process.exitcode is not None, f"rank {rank} hangs"
                out, err = (self.folder.joinpath(f"{rank}.{kind}").read_text() for kind in ("out", "err"))
                ends[rank] = EndedRank(process.exitcode, out, err, time.monotonic() - self.start)
        finally:
            for process in self.processes.values():
                with contextlib.suppress(Exception):
                    process.kill()
                    process.join()
        return ends


@dataclass(frozen=True)
class Hook:
    """What happens to a rank in its part of a step: a signal to itself, or an error."""

    step: int  # counted from 1
    number: int = 0
    error: str = ""
    drifts: bool = False  # one of its weights changes
    hangs: bool = False  # it lives, and does nothing more
    slow_saves: float = 0.0  # seconds that its saves take from the start
    stuck_after: int = 0  # in place of ranks.pulse.STUCK, from the start


def run_ranks(flags: Sequence[str], folder: pathlib.Path, **more: object) -> dict[int, EndedRank]:
    return StartedRanks(flags, folder, **more).ended()  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port: int = place.getsockname()[1]
        return port


def _run(arguments: list[str], environment: dict[str, str], output: str, hook: Hook | None) -> None:
    """In the process of a rank: main.py with its output in files."""
    import torch

    import main

    os.environ.update(environment)
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{output}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    torch.set_num_threads(1)
    if hook:
        _hang_in(hook)
    os._exit(_code_of(main.main, arguments))


def _code_of(function: object, arguments: list[str]) -> int:
    import sys
    import traceback

    try:
        code = function(arguments)  # type: ignore[operator]
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0)


def _hang_in(hook: Hook) -> None:
    import torch

    from ranks import pulse
    from ranks.shared_step import SharedStep
    from run.saving import Saver
    from utils.errors import InputError

    original, steps, save = SharedStep.__call__, iter(range(1, 10**9)), Saver.save

    def slowly(self: Saver, *args: Any) -> None:
        time.sleep(hook.slow_saves)
        save(self, *args)

    pulse.STUCK = hook.stuck_after or pulse.STUCK
    Saver.save = slowly  # type: ignore[method-assign]

    def hooked(self: SharedStep, batch: object) -> object:
        if next(steps) == hook.step:
            if hook.drifts:
                with torch.no_grad():
                    self.parameters[-1][0] += 1e-6
                return original(self, batch)  # type: ignore[arg-type]
            if hook.hangs:
                time.sleep(2 * PATIENCE)
            if hook.error:
                raise InputError(hook.error)
            if hook.number:
                os.kill(os.getpid(), hook.number)
        return original(self, batch)  # type: ignore[arg-type]

    SharedStep.__call__ = hooked  # type: ignore[method-assign,assignment]
