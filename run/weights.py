"""What a checkpoint's weights say of their network, and the names of its classes.

shape_flags(checkpoint.model)                           # {"hidden_size": 512, ...}: what a bare state dict does not state
checkpoint = name_classes(checkpoint, "classes.txt", path)
"""

import pathlib
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from torch import Tensor

from formats.annotations import class_names
from formats.array_files import STREAMS
from formats.ground_truth import read_annotations, read_json
from formats.name_lists import read_names
from formats.names import amount, shown
from options import DataOptions
from run.checkpoint import Checkpoint
from utils.errors import InputError
from utils.printable import one_line

_NUMBERED = re.compile(r"(?P<number>[0-9]{1,6})[\s.,;:)]\s*(?P<name>\S.*)")


def shape_flags(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that the shapes of the weights determine; `state` by the names of model.py. Empty for other networks."""
    streams = [stream for stream in STREAMS if f"actionness.{stream}.encoder.conv.weight" in state]
    joint = state.get("encoder.conv.weight")
    if not streams or joint is None or joint.ndim != 3:
        return {}
    branch = state[f"actionness.{streams[0]}.encoder.conv.weight"]
    if branch.ndim != 3:
        return {}
    return {
        "modal": "all" if len(streams) > 1 else streams[0],
        "feature_size": branch.shape[1],
        "hidden_size": joint.shape[0],
        "kernel_size": joint.shape[2],
        "actionness_kernel_size": branch.shape[2],
    }


def num_classes(checkpoint: Checkpoint, path: pathlib.Path) -> int:
    """C of the network. Raises InputError when the file holds no such network."""
    bias = checkpoint.model.get("snippet_classifier.bias")
    if bias is None or bias.ndim != 1:
        raise InputError(f"{path}: not this model's parameters: missing cls.0.bias; check --model_file")
    return len(bias)


def name_classes(checkpoint: Checkpoint, names_file: str, path: pathlib.Path) -> Checkpoint:
    """The checkpoint with the classes that --classes names. Raises InputError when they contradict it."""
    if not names_file:
        return checkpoint
    names, count = read_class_names(pathlib.Path(names_file)), num_classes(checkpoint, path)
    if len(names) != count:
        raise InputError(f"--classes {names_file}: names {amount(len(names), 'class')}, {path} has {count}")
    if checkpoint.classes and checkpoint.classes != names:
        raise InputError(f"--classes {names_file}: other names than {path} states; omit --classes")
    return replace(checkpoint, classes=names)


def assumed_lines(checkpoint: Checkpoint, data: DataOptions, path: pathlib.Path) -> list[str]:
    """What to tell of a state dict that states nothing but weights: the options that stand in, and the order of its classes."""
    if checkpoint.options:
        return []
    lines = [
        f"{path.name} states no options: those of --dataset {data.dataset} are assumed, T = {data.num_segments} snippets "
        f"(--num_segments), short videos: {data.short_videos}; give the flags that it was trained with"
    ]
    if checkpoint.classes:
        lines.append(f"its classes are taken to be in this order: {one_line(', '.join(checkpoint.classes))}")
    return lines


def assume_classes(checkpoint: Checkpoint, classes: tuple[str, ...], path: pathlib.Path) -> tuple[str, ...]:
    """The data's classes, for a checkpoint that names none. Raises InputError when their number is another."""
    count = num_classes(checkpoint, path)
    if len(classes) != count:
        raise InputError(
            f"{path}: names no classes and has {count}, the data have {len(classes)}; name them in the order of the model's "
            "outputs with --classes FILE"
        )
    return classes


def class_lines(
    classes: tuple[str, ...],
    *,
    known: tuple[str, ...] | None,
    data: tuple[str, ...],
    labels: Set[str],
    path: pathlib.Path,
) -> list[str]:
    """What to tell of a model's `classes` on data with others: an assumed order, and labels that it does not know.

    `known` are those that the checkpoint or --classes names, if any; `data` begins with `classes`; `labels` are those in use.
    Raises InputError when the model knows none of them.
    """
    lines = []
    if not known:
        lines.append(
            f"{path.name} names no classes; the data's classes are taken to be in this order: {', '.join(classes)}; "
            "if it was trained with another, give --classes FILE"
        )
    unknown = data[len(classes) :]
    if unknown and not labels & set(classes):
        raise InputError(
            f"{path}: knows none of the data's {len(unknown)} labels ({shown(unknown)}), but {shown(classes)}; use the model "
            "of these classes, or --predict, which needs no labels"
        )
    if unknown:
        lines.append(f"labels that the model does not know: {len(unknown)} ({shown(unknown, most=5)}); their AP is 0")
    return lines


def read_class_names(path: pathlib.Path) -> tuple[str, ...]:
    """The names in a text file or a JSON list, in the order of the model's outputs; of a ground truth in JSON, sorted.

    Numbers before all names, as in THUMOS'14's list of classes, are left out. Raises InputError, also for numbers out of order.
    """
    if path.suffix.lower() == ".json":
        names = _names_in_json(path)
    elif not path.is_file():
        raise InputError(f"--classes {path}: no such file; expected one with a class name per line")
    else:
        names = _without_numbers(read_names(path, where=f"--classes {path}", of="class"), path)
    if not names:
        raise InputError(f"--classes {path}: names no class; expected one per line, or a ground truth in JSON")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"--classes {path}: '{twice}' is listed twice; every class has its own line")
    return names


def _names_in_json(path: pathlib.Path) -> tuple[str, ...]:
    content = read_json(path)
    if isinstance(content, list) and all(isinstance(name, str) and name.strip() for name in content):
        return tuple(content)
    if not (isinstance(content, dict) and "database" in content):
        raise InputError(f"--classes {path}: neither a list of names nor a ground truth; expected one of them")
    return class_names(read_annotations(path, lambda problem: None))


def _without_numbers(lines: Sequence[str], path: pathlib.Path) -> tuple[str, ...]:
    """The names of lines such as "7 BaseballPitch", if all are of this form."""
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    found = [line for line in numbered if line]
    if len(found) < max(len(lines), 2):
        return tuple(lines)
    numbers = [int(line["number"]) for line in found]
    if numbers != sorted(set(numbers)):
        raise InputError(
            f"--classes {path}: its lines are numbered, but not in ascending order; put them in the model's order"
        )
    return tuple(line["name"] for line in found)
