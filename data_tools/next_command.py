"""The command that trains on a set as it stands, or that infers where nothing is for training.

print(next_command(out, profile=profile_of(...), flags={"modal": "rgb"}))
"""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from command_line.flags import as_words
from data_tools.recipe import SetProfile, TakenRecipe, recipe_for
from options import DataOptions
from recipes import AUTO
from utils.snippet_grid import DEFAULT_FPS

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent / "scripts"
INSTALLED = {"train": "sal-train", "inference": "sal-train --inference_only"}
GRID_FLAGS = ("snippet_frames", "snippet_stride", "fps")


def next_command(
    out: pathlib.Path,
    *,
    profile: SetProfile | None,
    flags: Mapping[str, Any],
    skip: bool = False,
    timed: bool = False,
) -> str:
    """The command, on a line of its own, and why it has these flags.

    `profile` is what the training videos are like, None if there are none; `flags` of main.py were typed, `skip` says that the
    set is refused without --skip_unusable, `timed` that it states the frame rates of its videos.
    """
    if not profile:
        command = f"{_script('inference')} {_joined({'data_path': out})}"
        return f"next: {command}\nfor the last experiment; --exp_name names another"
    given = {name: value for name, value in flags.items() if name not in ("data_path", "skip_unusable")}
    if profile.feature_size != DataOptions.feature_size:
        given["feature_size"] = profile.feature_size
    if skip or flags.get("skip_unusable"):
        given["skip_unusable"] = True
    taken = recipe_for(profile, {"recipe": AUTO, **flags})
    lines = [training_command({"data_path": out, **given}, taken), "; ".join(taken.reasons)]
    data = DataOptions()
    if not timed and not any(name in flags for name in GRID_FLAGS):
        lines.append(
            f"seconds are those of {data.grid.frames} frames a snippet at {DEFAULT_FPS:g} frames per second: if your features "
            "have others, add --snippet_frames, --snippet_stride, --fps"
        )
    return "\n".join(lines)


def training_command(flags: Mapping[str, Any], taken: TakenRecipe) -> str:
    """The line that trains with these flags and what the recipe sets beside them."""
    data = {name: flags[name] for name in ("dataset", "data_path") if name in flags}
    others = {name: value for name, value in flags.items() if name not in (*data, "recipe")}
    return f"next: {_script('train')} {_joined({**data, 'recipe': taken.name, **taken.fitted, **others})}"


def _script(name: str) -> str:
    """A script of this folder as it is typed in the working folder; or the command that an installation has in its place."""
    path = SCRIPTS / f"{name}.sh"
    if not path.exists():
        return INSTALLED[name]
    here = pathlib.Path.cwd()
    return f"bash {shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))}"


def _joined(values: Mapping[str, Any]) -> str:
    return shlex.join(as_words(values))
