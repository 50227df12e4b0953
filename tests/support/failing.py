"""Saving that fails at a chosen moment, as if the process died there."""

import pathlib
from collections.abc import Callable

from run.checkpoint import Checkpoint, save_checkpoint


def dies_in_last_pt_after(step: int) -> Callable[[pathlib.Path, Checkpoint], None]:
    """In the place of save_checkpoint: raises SystemError at the first last.pt of a later step; best.pt is written before."""

    def save(path: pathlib.Path, checkpoint: Checkpoint) -> None:
        if path.name == "last.pt" and checkpoint.training["step"] > step:
            raise SystemError
        save_checkpoint(path, checkpoint)

    return save
