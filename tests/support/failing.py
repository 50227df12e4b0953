"""Saving that fails at a chosen moment, as if the process died there; and a process that does die."""

import os
import pathlib
import signal
from collections.abc import Callable

import main
from run.checkpoint import Checkpoint, save_checkpoint


def dies_in_last_pt_after(step: int) -> Callable[[pathlib.Path, Checkpoint], None]:
    """In the place of save_checkpoint: raises SystemError at the first last.pt of a later step; best.pt is written before."""

    def save(path: pathlib.Path, checkpoint: Checkpoint) -> None:
        if path.name == "last.pt" and checkpoint.training["step"] > step:
            raise SystemError
        save_checkpoint(path, checkpoint)

    return save


def killed_at(write: int, arguments: list[str]) -> bool:
    """Run main.py in a child that dies, as if by kill -9, when it has written `write` files; True if it came to its end."""
    child = os.fork()
    if child == 0:
        replace, count = os.replace, [0]

        def dies(source: str, target: str) -> None:
            replace(source, target)
            count[0] += 1
            if count[0] == write:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = dies
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os._exit(main.main(arguments))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0
