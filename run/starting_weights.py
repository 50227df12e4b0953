"""--init_from: training starts from a checkpoint's weights, whose classes may be others than the data's.

    initial = starting_checkpoint(options.run)                  # None without --init_from
    print(take_over(model, initial, classes=data.classes))      # what was taken over, and which classes start fresh

All layers but the two classifiers are taken over whole. Of the classifiers, the rows of classes that both know are; the others
keep the model's random weights.
"""

import pathlib
from dataclasses import asdict, dataclass
from typing import Any

import torch

from formats.names import shown
from model import SAL
from options import RunOptions
from run.checkpoint import Checkpoint, flags_to_check, load_checkpoint, to_published
from run.weights import name_classes, num_classes, shape_flags
from utils.errors import InputError

CLASSIFIERS = ("snippet_classifier", "video_classifier")


@dataclass(frozen=True, kw_only=True)
class StartingWeights:
    """What training starts from, as lists of class names."""

    file: str
    taken_over: tuple[str, ...]  # the data's classes that the file knows
    fresh: tuple[str, ...]  # those that it does not
    unused: tuple[str, ...]  # the file's that the data lack
    named: bool  # whether the file names its classes at all

    def __str__(self) -> str:
        if not self.named:
            return (
                f"starting from {self.file}: all layers but the classifiers; it names no classes, --classes FILE would"
            )
        parts = [
            f"classes taken over: {_count_and_names(self.taken_over)}",
            f"starting fresh: {_count_and_names(self.fresh)}",
        ]
        parts += [f"not used: {_count_and_names(self.unused)}"] if self.unused else []
        return f"starting from {self.file}: {'; '.join(parts)}"

    def as_plain(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Initial:
    """The file of --init_from and its content."""

    path: pathlib.Path
    checkpoint: Checkpoint


def starting_checkpoint(options: RunOptions) -> Initial | None:
    """Read the file of --init_from; None without that flag. Raises InputError."""
    if not options.init_from:
        return None
    path = pathlib.Path(options.init_from)
    if not path.exists():
        raise InputError(f"--init_from {path}: no such file; give a checkpoint, such as another experiment's best.pt")
    return Initial(path=path, checkpoint=name_classes(load_checkpoint(path), options.classes, path))


@torch.no_grad()
def take_over(model: SAL, initial: Initial, *, classes: tuple[str, ...]) -> StartingWeights:
    """Copy a checkpoint's weights into a new model for `classes`. Raises InputError when its layers have other shapes."""
    path, checkpoint = initial.path, initial.checkpoint
    own = model.state_dict()
    _check_shapes(own, checkpoint, path)
    known = checkpoint.classes or ()
    common = [name for name in classes if name in known]
    rows, from_rows = [classes.index(name) for name in common], [known.index(name) for name in common]
    for name, value in checkpoint.model.items():
        if name.rpartition(".")[0] in CLASSIFIERS:
            own[name][rows] = value[from_rows].to(own[name])
        else:
            own[name].copy_(value)
    return StartingWeights(
        file=str(path),
        taken_over=tuple(common),
        fresh=tuple(name for name in classes if name not in known),
        unused=tuple(name for name in known if name not in classes),
        named=bool(known),
    )


def _check_shapes(own: dict[str, torch.Tensor], checkpoint: Checkpoint, path: pathlib.Path) -> None:
    """Raise InputError unless all weights fit, whatever the number of classes."""
    count = num_classes(checkpoint, path)
    given, wanted = shape_flags(checkpoint.model), shape_flags(own)
    differing = [f"--{name} {value}" for name, value in given.items() if value != wanted.get(name, value)]
    if differing:
        raise InputError(
            f"--init_from {path}: a network of another shape; give {' '.join(differing)}, as it was trained with"
        )
    missing = sorted(own.keys() - checkpoint.model.keys())
    left_over = sorted(checkpoint.model.keys() - own.keys())
    if missing or left_over:
        names = missing + left_over
        advice = flags_to_check(list(to_published(dict.fromkeys(names)))) or ["use another"]
        raise InputError(f"--init_from {path}: not this network's weights: {', '.join(names[:4])}; {advice[0]}")
    for name, value in checkpoint.model.items():
        shape = own[name].shape
        if name.rpartition(".")[0] in CLASSIFIERS:
            shape = torch.Size([count, *shape[1:]])
        if value.shape != shape:
            raise InputError(
                f"--init_from {path}: {name} has shape {list(value.shape)}, needed is {list(shape)}; use another"
            )


def _count_and_names(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({shown(names, most=5)})" if names else "none"
