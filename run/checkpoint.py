"""Checkpoints: tensors and plain types in one file, written completely or not at all, loaded with weights_only and strictly.

    save_checkpoint(path, Checkpoint(model=model.state_dict(), options=..., classes=..., training=...))
    checkpoint = load_checkpoint(path)
    load_model(model, checkpoint.model, path)

Two kinds are read: this project's, a dict with "format", and published bare state dicts, THUMOS'14 and ActivityNet names alike.
In files, parameters have their published names: the "model" of this project's files is a published state dict. In memory they
have the names of model.py.
"""

import pathlib
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from formats.regular_files import check_regular
from formats.torch_pickle import check_torch_pickle
from utils.atomic import write_file
from utils.errors import InputError

FORMAT = 1

# The layers of model.py and their published names.
PUBLISHED_LAYERS = {
    "encoder.conv": "encoder.0",
    **{f"actionness.{stream}.encoder.conv": f"action_{stream}.0" for stream in ("rgb", "flow")},
    **{f"actionness.{stream}.scorer": f"cls_{stream}.0" for stream in ("rgb", "flow")},
    "snippet_classifier": "cls.0",
    "video_classifier": "fc",
    "video_semantics": "fc1",
}
# The published ActivityNet code calls the encoder base_module.
OUR_LAYERS = {published: ours for ours, published in PUBLISHED_LAYERS.items()} | {"base_module.0": "encoder.conv"}

Value = TypeVar("Value")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The contents of a file. A published state dict has only `model`."""

    model: dict[str, Tensor]  # by the names of model.py
    options: dict[str, Any] | None = None
    classes: tuple[str, ...] | None = None
    # Step and results; in last.pt also the states of optimiser, mask and random generators.
    training: dict[str, Any] = field(default_factory=dict)


def to_published(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename parameters from the names of model.py to the published ones; unknown names stay."""
    return {_renamed(name, PUBLISHED_LAYERS): value for name, value in state.items()}


def from_published(state: Mapping[str, Value]) -> dict[str, Value]:
    """Rename parameters from the published names, THUMOS'14's or ActivityNet's, to those of model.py."""
    return {_renamed(name, OUR_LAYERS): value for name, value in state.items()}


def save_checkpoint(path: pathlib.Path, checkpoint: Checkpoint) -> None:
    """Write the complete file or none. Raises InputError when it can't be written; an older file then stays as it was."""
    content = {
        "format": FORMAT,
        "model": to_published(checkpoint.model),
        "options": checkpoint.options,
        "classes": list(checkpoint.classes or ()),
        "training": checkpoint.training,
    }
    write_file(path, lambda file: torch.save(content, file))


def load_checkpoint(path: pathlib.Path) -> Checkpoint:
    """Read a file, with its tensors on the CPU. Raises InputError when it is missing, damaged or not a checkpoint."""
    if path.exists():
        check_regular(path)
    else:
        raise InputError(f"{path}: no such checkpoint; check --model_file, --exp_name and --output_dir")
    content = _load_tensors(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    if "format" not in content:
        if not _is_state_dict(content):
            raise InputError(f"{path}: neither a checkpoint of this project nor a state dict of tensors")
        return Checkpoint(model=from_published(content))
    if content["format"] != FORMAT:
        raise InputError(f"{path}: checkpoint of format {content['format']}, but this version reads {FORMAT}")
    kinds = {"model": dict, "options": dict, "classes": list, "training": dict}
    broken = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if broken or not _is_state_dict(content["model"]):
        raise InputError(f"{path}: incomplete checkpoint: {', '.join(broken or ['model'])} is missing or not as saved")
    return Checkpoint(
        model=from_published(content["model"]),
        options=content["options"],
        classes=tuple(content["classes"]),
        training=content["training"],
    )


def _load_tensors(path: pathlib.Path) -> Any:
    """Load with weights_only, after verifying the file's checksums, which torch does not."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise InputError(f"{path}: corrupt checkpoint (checksum of {damaged}); use another copy")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_torch_pickle(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except (InputError, MemoryError):
        raise
    except pickle.UnpicklingError:
        raise InputError(f"{path}: not a checkpoint of tensors and plain values (corrupt, or unsafe to load)") from None
    except Exception as error:  # readers can fail in any way on a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: corrupt or truncated checkpoint ({reason})") from None


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def load_model(model: nn.Module, state: dict[str, Tensor], path: pathlib.Path) -> None:
    """Load strictly. Raises InputError naming missing and left-over parameters, or one of another shape, as in the file."""
    expected, given = to_published(model.state_dict()), to_published(state)
    missing, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{what} {', '.join(keys)}" for what, keys in (("missing", missing), ("left over", unknown)) if keys]
        raise InputError(f"{path}: not this model's parameters: {'; '.join(parts)}; check --modal")
    for name, value in given.items():
        if value.shape != expected[name].shape:
            raise InputError(
                f"{path}: {name} has shape {list(value.shape)}, the model needs {list(expected[name].shape)}; "
                "check the classes of the data, --feature_size, --hidden_size and the kernel sizes"
            )
    model.load_state_dict(state)


def load_network(
    make_model: Callable[[], Network],
    checkpoint: Checkpoint,
    path: pathlib.Path,
    *,
    device: torch.device,
) -> Network:
    """Make the model on a device with a checkpoint's weights. Raises InputError when they do not fit it."""
    with torch.device("meta"):
        model = make_model()
    unsaved = dict(model.named_buffers()).keys() - model.state_dict().keys()
    # Without initial values, where the file has all of them: drawing random weights would take a second.
    model = make_model().to(device) if unsaved else model.to_empty(device=device)
    load_model(model, checkpoint.model, path)
    return model


def check_classes(checkpoint: Checkpoint, classes: tuple[str, ...], path: pathlib.Path) -> None:
    """Raise InputError when the checkpoint was trained for classes other than the data's."""
    if checkpoint.classes and checkpoint.classes != classes:
        differing = sorted(set(checkpoint.classes) ^ set(classes))
        raise InputError(
            f"{path}: trained for {len(checkpoint.classes)} other classes than the data's {len(classes)} "
            f"(in one only: {', '.join(differing[:5])}); use the data it was trained for"
        )


def _renamed(parameter: str, layers: Mapping[str, str]) -> str:
    layer, dot, kind = parameter.rpartition(".")
    return layers.get(layer, layer) + dot + kind
