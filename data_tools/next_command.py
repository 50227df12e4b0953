"""The command that trains on a prepared set as it stands, or that infers where nothing is for training.

print(next_command(out, names=names, lengths=lengths, feature_size=1024, flags={"modal": "rgb"}))
"""

import math
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from data_tools.fitting import fitting_extra, fitting_segments
from options import ActionnessOptions, DataOptions, EvaluationOptions, OptimisationOptions
from utils.snippet_grid import DEFAULT_FPS

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "scripts"
INSTALLED = {"train": "sal-train", "inference": "sal-train --inference_only"}
GRID_FLAGS = ("snippet_frames", "snippet_stride", "fps")


def next_command(
    out: pathlib.Path,
    *,
    names: Mapping[str, Sequence[str]],
    lengths: Mapping[str, int],
    feature_size: int,
    flags: Mapping[str, Any],
    skip: bool,
    timed: bool = False,
) -> str:
    """The command, on a line of its own, and why it has these flags.

    `names` are the videos of both splits, `flags` were typed, `skip` says that the set is refused without --skip_unusable,
    `timed` that it states the frame rates of its videos.
    T is about as long as the longer training videos and no longer than the recipe's. Of a smaller T, the recipe's fixed number
    of further pseudo labels would be too large a share: it keeps its share. Long epochs are evaluated once each.
    """
    data, extra, batch = DataOptions(), ActionnessOptions.pseudo_extra, OptimisationOptions.batch_size
    given: dict[str, Any] = {"data_path": out}
    if not names["train"]:
        return f"next: {_script('inference')} {_as_flags(given)}\nfor the last experiment; --exp_name names another"
    snippets = min(fitting_segments([lengths[video] for video in names["train"]]), data.num_segments)
    given["num_segments"] = snippets
    why = [f"T = {snippets} fits the videos' lengths"]
    if snippets != data.num_segments:
        given["pseudo_extra"] = fitting_extra(snippets)
        why.append(f"--pseudo_extra is the published {extra} of {data.num_segments} snippets as a share")
    steps = math.ceil(len(names["train"]) / batch)
    if steps > EvaluationOptions.detection_inf_step:
        given["detection_inf_step"] = steps
        why.append("--detection_inf_step is one evaluation an epoch")
    if feature_size != data.feature_size:
        given["feature_size"] = feature_size
    given |= {name: flags[name] for name in ("modal", *GRID_FLAGS) if name in flags}
    command = f"next: {_script('train')} {_as_flags(given)}" + " --skip_unusable" * skip
    lines = [command, "; ".join(why)]
    if not timed and not any(name in flags for name in GRID_FLAGS):
        lines.append(
            f"seconds are those of {data.grid.frames} frames a snippet at {DEFAULT_FPS:g} frames per second: if your features "
            "have others, add --snippet_frames, --snippet_stride, --fps"
        )
    return "\n".join(lines)


def _script(name: str) -> str:
    """A script of this folder as it is typed in the working folder; or the command that an installation has in its place."""
    path = SCRIPTS / f"{name}.sh"
    if not path.exists():
        return INSTALLED[name]
    here = pathlib.Path.cwd()
    return f"bash {shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))}"


def _as_flags(values: Mapping[str, object]) -> str:
    return " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in values.items())
