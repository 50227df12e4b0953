"""The list of layouts that a feature set may have on disk, and how a folder's layout is recognised.

layout = recognise(path, AUTO)                                          # a Layout
stored = layout.read(path, allow_pickle=False, report=raise_problem)    # a StoredSet

A new layout is a file with a class like formats/thumos.py, and an entry in LAYOUTS.
"""

import pathlib
from typing import Protocol

from formats.activitynet import ActivitynetLayout
from formats.feature_set import StoredSet
from formats.hdf5 import Hdf5Layout
from formats.problems import Report
from formats.thumos import ThumosLayout
from formats.wtalc import WtalcLayout
from utils.errors import InputError


class Layout(Protocol):
    name: str  # the value of --layout
    looked_for: str  # what identifies a folder of this layout, for messages

    def fits(self, path: pathlib.Path) -> bool:
        """Whether the folder looks like this layout; nothing in it is read."""

    def read(self, path: pathlib.Path, *, allow_pickle: bool, report: Report) -> StoredSet:
        """Read the folder, but not its arrays where the layout allows it.

        `report` gets the problems of single videos. Raises InputError when the set as a whole can't be read.
        """


LAYOUTS: tuple[Layout, ...] = (ThumosLayout(), ActivitynetLayout(), WtalcLayout(), Hdf5Layout())
AUTO = "auto"
UNFINISHED = ".unfinished"  # the name of a file that marks a set as still being written


def check_layout(name: str) -> None:
    """Raise InputError unless there is a layout of this name."""
    known = [layout.name for layout in LAYOUTS]
    if name not in (AUTO, *known):
        raise InputError(f"--layout {name}: no such layout; give {', '.join(known)}, or {AUTO}")


def recognise(path: pathlib.Path, name: str) -> Layout:
    """The layout of this name, or with AUTO the one that the folder looks like.

    Raises InputError that says what was looked for and what was found.
    """
    check_layout(name)
    known = {layout.name: layout for layout in LAYOUTS}
    if not path.is_dir():
        raise InputError(
            f"--data_path {path}: no such folder; give the folder that holds the features and their gt.json"
        )
    if (path / UNFINISHED).exists():
        raise InputError(
            f"{path}: is incomplete, its conversion was interrupted; run the same command again to finish it"
        )
    fitting = [layout for layout in LAYOUTS if layout.fits(path)]
    names = " and ".join(layout.name for layout in fitting)
    if name != AUTO:
        if known[name] in fitting:
            return known[name]
        hint = f"; it looks like {names}" if fitting else ""
        raise InputError(
            f"--layout {name}: looked for {known[name].looked_for} in {path}, found {listing(path)}{hint}; "
            "check --data_path, or omit --layout"
        )
    if len(fitting) > 1:
        raise InputError(f"{path}: looks like {names}; choose one with --layout")
    if not fitting:
        wanted = "; ".join(f"{layout.name}: {layout.looked_for}" for layout in LAYOUTS)
        raise InputError(f"{path}: no known layout. Looked for {wanted}. Found {listing(path)}; see the README")
    return fitting[0]


def listing(path: pathlib.Path) -> str:
    """What a folder holds, for messages."""
    names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return shown or "nothing"
