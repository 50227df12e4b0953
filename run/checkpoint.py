"""Checkpoints: tensors and plain types in one file, written completely or not at all, loaded with weights_only and strictly.

    save_checkpoint(path, Checkpoint(model=model.state_dict(), options=..., classes=..., training=...))
    checkpoint = load_checkpoint(path)
    load_model(model, checkpoint.model, path)

Two kinds are read: this project's, a dict with "format", and published state dicts, THUMOS'14 and ActivityNet names alike, bare
or as training programs wrap them (run/state_dicts.py). In files, parameters have their published names: the "model" of this
project's files is a published state dict. In memory they have the names of model.py.
"""

import contextlib
import itertools
import pathlib
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from formats.regular_files import check_regular
from formats.torch_pickle import check_torch_pickle
from options import check_saved
from run.state_dicts import check_weights, find_state_dict, is_state_dict, named, without_prefixes
from utils.atomic import write_file
from utils.errors import InputError

FORMAT = 1
KINDS = {"model": dict, "options": dict, "classes": list, "training": dict}  # of what is in a file besides its format
# The layers that flags add and remove.
LAYERS_OF_FLAGS = {
    "--modal": ("action_rgb.", "action_flow.", "cls_rgb.", "cls_flow."),
    "--no_actionness": ("action_rgb.", "action_flow.", "cls_rgb.", "cls_flow."),
    "--no_propagation": ("fc1.",),
    "--no_second_order": ("fc.", "fc1."),
}

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
    notes: tuple[str, ...] = ()  # what a user should know of how the file was read


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
    """Read a file, with its tensors on the CPU.

    Raises InputError when it is missing, damaged, no checkpoint, or one with weights that no training leaves.
    """
    if path.exists():
        check_regular(path)
    else:
        raise InputError(f"{path}: no such checkpoint; check --model_file, --exp_name and --output_dir")
    content = load_tensors(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a checkpoint; save model.state_dict()")
    ours = "format" in content or content.keys() >= KINDS.keys()
    checkpoint = _read_own(content, path) if ours else _read_published(content, path)
    if not has_checksums(path):
        note = f"{path}: in PyTorch's old format, without checksums: damage to its numbers would go unnoticed; "
        note += "python -m run.rewrite FILE NEW writes it in the present one"
        checkpoint = replace(checkpoint, notes=(*checkpoint.notes, note))
    return checkpoint


def _read_own(content: dict[Any, Any], path: pathlib.Path) -> Checkpoint:
    version = content.get("format")
    if type(version) is not int or version != FORMAT:
        shown = str(version)[:40] if isinstance(version, int | str | float) else type(version).__name__
        raise InputError(f"{path}: checkpoint of format {shown}, but this version reads {FORMAT}")
    broken = [name for name, kind in KINDS.items() if not isinstance(content.get(name), kind)]
    if broken or not is_state_dict(content["model"]):
        raise InputError(f"{path}: incomplete checkpoint: {', '.join(broken or ['model'])} is missing or not as saved")
    try:
        check_saved(content["options"])
    except InputError as error:
        raise InputError(f"{path}: {error}; use another copy, or the version that wrote it") from None
    classes = content["classes"]
    if not all(isinstance(name, str) and name for name in classes) or len(set(classes)) < len(classes):
        raise InputError(f"{path}: its classes are not different names; use another copy")
    if content["options"] and not classes:
        raise InputError(f"{path}: its classes are missing; use another copy")
    if any("\ud800" <= character <= "\udfff" for name in classes for character in name):
        raise InputError(f"{path}: its classes are not valid text; use another copy")
    check_weights(content["model"], path)
    model = _renamed_once(content["model"], path)
    bias = model.get("snippet_classifier.bias")
    if classes and bias is not None and bias.shape != (len(classes),):
        raise InputError(f"{path}: names {len(classes)} classes for {bias.numel()} outputs; use another copy")
    return Checkpoint(
        model=model,
        options=content["options"],
        classes=tuple(classes),
        training=content["training"],
    )


def _read_published(content: dict[Any, Any], path: pathlib.Path) -> Checkpoint:
    keys, found = find_state_dict(content, path)
    prefixes, state = without_prefixes(found, path)
    check_weights(state, path)
    parts = [f"weights read from '{' > '.join(keys)}'"] if keys else []
    parts += [f"names read without '{prefix}.'" for prefix in prefixes]
    others = {str(value.dtype).removeprefix("torch.") for value in state.values() if value.dtype != torch.float32}
    parts += [f"weights of {dtype} converted to float32" for dtype in sorted(others)]
    notes = (f"{path}: {', '.join(parts)}",) if parts else ()
    return Checkpoint(model=_renamed_once(state, path), notes=notes)


def _renamed_once(state: dict[str, Tensor], path: pathlib.Path) -> dict[str, Tensor]:
    """By the names of model.py. Raises InputError when the file has one of them twice."""
    renamed = from_published(state)
    if len(renamed) < len(state):
        names = list(from_published({name: name for name in state}).values())
        lost = named(name for name in state if name not in names)
        raise InputError(f"{path}: {lost}: the same parameter stands there under two names; save one of them")
    return renamed


def has_checksums(path: pathlib.Path) -> bool:
    """Whether it is a zip file, PyTorch's format since 1.6, which has a checksum of every tensor."""
    return zipfile.is_zipfile(path)


def load_tensors(path: pathlib.Path) -> Any:
    """Load with weights_only, after verifying the file's checksums, which torch does not. Raises InputError."""
    try:
        if has_checksums(path):
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_torch_pickle(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except (InputError, MemoryError):
        raise
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: not a checkpoint of tensors and plain values ({_unsafe(path) or 'corrupt, or unsafe to load'}); "
            "save model.state_dict() alone where the model is"
        ) from None
    except Exception as error:  # readers can fail in any way on a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        # torch's advice would let the file run code; what a KeyError names is a code of the pickle.
        if "weights_only" in str(error) or isinstance(error, KeyError):
            reason = type(error).__name__
        raise InputError(f"{path}: corrupt or truncated checkpoint ({reason}); use another copy") from None


def _unsafe(path: pathlib.Path) -> str:
    """What a file holds besides tensors and plain values, in words; empty where that is not known."""
    with contextlib.suppress(Exception):  # a damaged file, or one of the old format
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        return f"it also holds {named(names)}, which could run code" if names else ""
    return ""


def _check_archive(path: pathlib.Path) -> None:
    """Raise InputError for a damaged archive, for a program, and for one that is larger in memory than on the disk."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.filename.endswith("/constants.pkl") for member in members):
            raise InputError(f"{path}: a TorchScript program, not weights; save model.state_dict() where the model is")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise InputError(
                f"{path}: a compressed archive, which torch.save does not write; use the file as it was saved"
            )
        damaged = archive.testzip()
    if damaged is not None:
        raise InputError(f"{path}: corrupt checkpoint (checksum of {damaged}); use another copy")


def load_model(model: nn.Module, state: dict[str, Tensor], path: pathlib.Path) -> None:
    """Load strictly. Raises InputError naming missing and left-over parameters, or one of another shape, as in the file."""
    expected, given = to_published(model.state_dict()), to_published(state)
    missing, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{what} {named(keys)}" for what, keys in (("missing", missing), ("left over", unknown)) if keys]
        parts += flags_to_check(missing + unknown)
        raise InputError(f"{path}: not this model's parameters: {'; '.join(parts)}")
    for name, value in given.items():
        if value.shape != expected[name].shape:
            raise InputError(
                f"{path}: {name} has shape {list(value.shape)}, the model needs {list(expected[name].shape)}; "
                "check the classes of the data, --feature_size, --hidden_size and the kernel sizes"
            )
    model.load_state_dict(state)


def flags_to_check(differing: Sequence[str]) -> list[str]:
    """The flags that add and remove these parameters, which have their published names; none where that explains nothing."""
    flags = [flag for flag, layers in LAYERS_OF_FLAGS.items() if any(name.startswith(layers) for name in differing)]
    explained = all(name.startswith(tuple(itertools.chain(*LAYERS_OF_FLAGS.values()))) for name in differing)
    return [f"check {', '.join(flags)}"] if flags and explained else []


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
