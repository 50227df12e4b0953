"""State dicts as others save them: found inside wrappers, freed of prefixes, and looked at before they are trusted.

keys, state = find_state_dict({"epoch": 3, "state_dict": {"module.fc.weight": ...}}, path)    # ("state_dict",), {...}
prefixes, state = without_prefixes(state, path)                                               # ("module",), {"fc.weight": ...}
check_weights(state, path)
"""

import pathlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from utils.errors import InputError

# What training programs call the weights beside an epoch and an optimiser, the usual names first.
WRAPPERS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params")
MOST_NESTED = 3  # wrappers within wrappers

# What DistributedDataParallel, torch.compile, FSDP and activation checkpointing put into names, at any place.
WRAPPING_MODULES = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# What a module is called that holds the network and nothing else; only ever in front.
HOLDERS = frozenset({"model", "net", "network"})

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Far above what training with weight decay leaves. And with such weights, and features up to 100, everything is still finite in
# float32: a convolution is below 1e6 * 6144 * 100, a product of two below its square, 4e23, and a sum of their roots less.
MOST_WEIGHT = 1e6
MOST_NAMES = 6  # listed in a message


def is_state_dict(content: Any) -> bool:
    """Whether it is a dict of tensors by name, with at least one."""
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def find_state_dict(content: dict[Any, Any], path: pathlib.Path) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The state dict in a file's content, and the keys that lead to it; no keys where it is the content itself.

    Raises InputError listing what the file holds when there is none, or several and none under a usual name.
    """
    if is_state_dict(content):
        return (), content
    found = _inside(content)
    if not found:
        raise InputError(
            f"{path}: neither a checkpoint of this project nor a state dict of tensors; it holds {named(content)}; "
            "save model.state_dict()"
        )
    if len(found) > 1:
        usual = {keys: WRAPPERS.index(keys[-1]) for keys in found if keys[-1] in WRAPPERS}
        if not usual:
            options = named(" > ".join(keys) for keys in found)
            raise InputError(f"{path}: holds several state dicts: {options}; save the one that is meant by itself")
        chosen = min(usual, key=lambda keys: (len(keys), usual[keys]))
        return chosen, found[chosen]
    return next(iter(found.items()))


def _inside(content: Any, depth: int = MOST_NESTED) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """The state dicts that are values of a dict, by the keys that lead to them."""
    if depth == 0 or not isinstance(content, dict):
        return {}
    found: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for key, value in content.items():
        if is_state_dict(value):
            found[(named([key]),)] = value
        else:
            found |= {(named([key]), *keys): state for keys, state in _inside(value, depth - 1).items()}
    return found


def without_prefixes(state: dict[str, Tensor], path: pathlib.Path) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The state dict without what wrapping modules put into its names, and the parts that were removed.

    Raises InputError when two names become one.
    """
    removed: dict[str, None] = {}  # in order, each once
    stripped: dict[str, str] = {}  # new name -> name in the file
    for name in state:
        parts = name.split(".")
        layers = [part for part in parts[:-1] if part not in WRAPPING_MODULES]
        removed.update(dict.fromkeys(part for part in parts[:-1] if part in WRAPPING_MODULES))
        while layers and layers[0] in HOLDERS:
            removed[layers.pop(0)] = None
        short = ".".join([*layers, parts[-1]])
        if short in stripped:
            raise InputError(f"{path}: {stripped[short]} and {name} are both {short}; save one of them")
        stripped[short] = name
    return tuple(removed), {short: state[name] for short, name in stripped.items()}


def check_weights(state: dict[str, Tensor], path: pathlib.Path) -> None:
    """Raise InputError naming the first parameter that cannot be one: not an array of finite floats of a sensible size."""
    for name, tensor in state.items():
        problem = weight_problem(tensor)
        if problem:
            raise InputError(f"{path}: {name} {problem}; use another copy, or save it as a plain float32 tensor")


def weight_problem(tensor: Tensor) -> str | None:
    """What is wrong with a tensor of weights, in words; None if nothing is."""
    if tensor.is_meta:
        return "is a meta tensor, which has no values"
    if tensor.is_nested or tensor.layout is not torch.strided:
        return f"is a {'nested' if tensor.is_nested else str(tensor.layout).removeprefix('torch.')} tensor"
    if tensor.is_quantized or tensor.dtype not in FLOATS:
        return f"is of {str(tensor.dtype).removeprefix('torch.')}, not of float32"
    if is_expanded(tensor):
        return "is an expanded tensor, whose values stand in the file only once"
    return outside(tensor, -MOST_WEIGHT, MOST_WEIGHT)


def is_expanded(tensor: Tensor) -> bool:
    """Whether elements share memory: a small file could then fill all of it."""
    reach = 0  # the largest offset within the dimensions looked at, those with the smallest strides
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def outside(tensor: Tensor, low: float, high: float) -> str | None:
    """Say which value of a float tensor lies outside low .. high, or that one is NaN; None if none does."""
    if tensor.numel() == 0:
        return None
    least, most = (float(value) for value in tensor.detach().aminmax())
    if low <= least and most <= high:
        return None
    if not (abs(least) < float("inf") and abs(most) < float("inf")):
        return "holds NaN or infinity"
    return f"holds {least if least < low else most:g}, beyond {low:g} .. {high:g}"


def named(names: Iterable[Any]) -> str:
    """A few names, and how many more there are."""
    texts = [str(name)[:80] if isinstance(name, str | int) else type(name).__name__ for name in names]
    more = f" and {len(texts) - MOST_NAMES} more" if len(texts) > MOST_NAMES else ""
    return (", ".join(texts[:MOST_NAMES]) or "nothing") + more
