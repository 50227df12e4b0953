"""python -m run.rewrite OLD.pth NEW.pt: a checkpoint in PyTorch's old format, without checksums, written in the present one.

What is in the file stays as it is; nothing is renamed or converted. Look the result over once, with --inference_only.
"""

import pathlib
import sys
from collections.abc import Sequence

from command_line.console import run_tool
from utils.atomic import write_file
from utils.errors import InputError

USAGE = "python -m run.rewrite OLD.pth NEW.pt"


def rewrite(arguments: Sequence[str]) -> None:
    """Raises InputError when OLD is no checkpoint, or NEW exists."""
    if len(arguments) != 2 or any(argument.startswith("-") for argument in arguments):
        raise InputError(f"usage: {USAGE}")
    source, target = map(pathlib.Path, arguments)
    if target.exists():
        raise InputError(f"{target}: exists; give another name")
    import torch

    from run.checkpoint import load_checkpoint, load_tensors

    load_checkpoint(source)  # refuses what is none
    content = load_tensors(source)
    write_file(target, lambda file: torch.save(content, file))
    print(f"{target}: written; check it with main.py --inference_only --model_file {target}")


if __name__ == "__main__":
    sys.exit(run_tool("run.rewrite", rewrite, sys.argv[1:]))
