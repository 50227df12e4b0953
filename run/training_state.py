"""Checks of the values in a last.pt, before any of them is used: a file that hands altered is one line, not a wrong number.

All of them raise ValueError, in a few words. What is not even of the expected form raises TypeError or KeyError as it is taken
apart. `damage_named` turns either into an InputError that names the file.
"""

import contextlib
import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from layers.weight_average import WeightAverage
from run.state_dicts import MOST_WEIGHT, is_expanded, outside
from utils.errors import InputError
from utils.memory import is_out_of_memory

MOMENTS = {"exp_avg": -math.inf, "exp_avg_sq": 0.0}  # of Adam, with their least values
HYPERPARAMETERS = ("lr", "betas", "eps", "weight_decay")
MOST_STEPS = 2**63 - 1


@contextlib.contextmanager
def damage_named(path: pathlib.Path) -> Iterator[None]:
    """Turn the errors of taking an altered state apart into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise InputError(
            f"{path}: its training state is damaged ({reason}); use another copy, or start over with --overwrite"
        ) from None


def plain_dict(value: Any, name: str, keys: Iterable[str] = ()) -> dict[Any, Any]:
    """A dict that has at least these keys."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {described(value)}, not a dict")
    missing = [key for key in keys if key not in value]
    if missing:
        raise ValueError(f"{name} has no {', '.join(missing)}")
    return value


def plain_count(value: Any, name: str, *, least: int = 0, most: int = MOST_STEPS) -> int:
    """A whole number from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} is {described(value)}, not a number from {least} to {most}")
    return value


def plain_number(value: Any, name: str, *, low: float, high: float) -> float:
    """A number from low to high that is not infinite."""
    if type(value) not in (int, float) or not (low <= value <= high and abs(value) < math.inf):
        raise ValueError(f"{name} is {described(value)}, not a number from {low:g} to {high:g}")
    return float(value)


def plain_tensor(value: Any, name: str, *, like: Tensor, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """A finite float32 tensor of the shape of `like`, with values from low to high."""
    if not isinstance(value, Tensor) or value.is_meta or value.is_nested or value.layout is not torch.strided:
        raise ValueError(f"{name} is {described(value)}, not a tensor with values")
    if value.dtype != torch.float32 or value.shape != like.shape or is_expanded(value):
        kind = str(value.dtype).removeprefix("torch.")
        raise ValueError(f"{name} is {kind} {list(value.shape)}, expected float32 {list(like.shape)}")
    most = torch.finfo(torch.float32).max
    problem = outside(value, max(low, -most), min(high, most))
    if problem:
        raise ValueError(f"{name} {problem}")
    return value


def check_optimizer(
    saved: Mapping[str, Any], current: Mapping[str, Any], parameters: Sequence[Tensor]
) -> dict[str, Any]:
    """The state to load: the file's moments, with the optimiser's own settings, which the file must match."""
    plain_dict(saved, "the optimiser's state", ("state", "param_groups"))
    if not isinstance(saved["param_groups"], list):
        raise ValueError("the optimiser's settings are not a list")
    (group,), (own,) = saved["param_groups"], current["param_groups"]
    plain_dict(group, "the optimiser's settings", (*HYPERPARAMETERS, "params"))
    for name in (*HYPERPARAMETERS, "params"):
        if _form(group[name]) != _form(own[name]):
            raise ValueError(f"the optimiser's {name} is not what the options say")
    moments = plain_dict(saved["state"], "the optimiser's state")
    if not all(type(i) is int for i in moments) or sorted(moments) != list(range(len(parameters))):
        raise ValueError(f"the optimiser's state is not of {len(parameters)} parameters")
    for i, parameter in enumerate(parameters):
        plain_dict(moments[i], f"the optimiser's state of parameter {i}", ("step", *MOMENTS))
        plain_tensor(moments[i]["step"], f"step of parameter {i}", like=torch.zeros(()), low=0.0)
        for name, low in MOMENTS.items():
            plain_tensor(moments[i][name], f"{name} of parameter {i}", like=parameter, low=low)
    moments = {i: {name: state[name] for name in ("step", *MOMENTS)} for i, state in moments.items()}
    return {"state": moments, "param_groups": current["param_groups"]}


def check_buffers(saved: Mapping[str, Any], module: nn.Module, *, low: float, high: float) -> dict[str, Tensor]:
    """The state of a module of running statistics."""
    expected = module.state_dict()
    plain_dict(saved, "the state of the mask", expected)
    return {name: plain_tensor(saved[name], name, like=value, low=low, high=high) for name, value in expected.items()}


def check_average(saved: Mapping[str, Any], average: WeightAverage[Any]) -> dict[str, Any]:
    """The state of a running average of weights, as `average` would save it."""
    plain_dict(saved, "the teacher's state", ("weights", "updates"))
    expected = average.network.state_dict()
    weights = plain_dict(saved["weights"], "the teacher's weights", expected)
    return {
        "updates": plain_tensor(saved["updates"], "the teacher's number of updates", like=average.updates, low=0.0),
        "weights": {
            name: plain_tensor(weights[name], f"{name} of the teacher", like=like, low=-MOST_WEIGHT, high=MOST_WEIGHT)
            for name, like in expected.items()
        },
    }


def check_random_state(saved: Any, current: Tensor) -> Tensor:
    """The state of a random generator, of the size that the current one has."""
    if not isinstance(saved, Tensor) or saved.is_meta or saved.layout is not torch.strided or is_expanded(saved):
        raise ValueError(f"a random state is {described(saved)}")
    if saved.dtype != torch.uint8 or saved.shape != current.shape:
        kind = str(saved.dtype).removeprefix("torch.")
        raise ValueError(f"a random state is {kind} {list(saved.shape)}, expected uint8 {list(current.shape)}")
    return saved


def _form(value: Any) -> Any:
    """A value to compare; tensors, which would be compared element by element, are equal to nothing."""
    return list(value) if isinstance(value, list | tuple) else None if isinstance(value, Tensor) else value


def described(value: Any) -> str:
    """A short value as it is; of others the type, since they can be of any size."""
    return f"{value!r:.40}" if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"
