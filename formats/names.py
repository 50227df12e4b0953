"""Names as data sets spell them, of videos (with or without "v_") and of subsets, and the splits that the subsets become.

THUMOS'14 trains on its validation videos and tests on its test videos; ActivityNet trains on training and tests on
validation, since its test labels are secret. So the meaning of "validation" depends on the other subsets.
"""

import re
import unicodedata
from collections.abc import Collection, Container, Iterable, Set

from utils.errors import InputError
from utils.printable import one_line

SPLITS = ("train", "test")
GROUPS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}
# Of files of videos, features and annotations: other endings may tell videos apart.
_EXTENSIONS = (
    *("mp4", "avi", "mkv", "webm", "mov", "m4v", "mpg", "mpeg", "wmv", "flv", "3gp"),
    *("npy", "npz", "pt", "pth", "pkl", "pickle", "h5", "hdf5", "mat", "bin", "csv", "json", "txt"),
)
_EXTENSION = re.compile(rf"(?<=.)(\.({'|'.join(_EXTENSIONS)}))+$", re.IGNORECASE)
_PREFIXES = re.compile("^(v_)+(?=.)")  # one is usual; an id may itself begin so
LONGEST_NAME = 230  # bytes; 255 is usual for a file's, with its suffix and that of a temporary file
_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}


def group_of(subset: str) -> str | None:
    """The group of a subset: train, validation or test; None for any other name. Case does not matter."""
    return _GROUP_OF.get(subset.strip().lower())


def splits_of(groups: Set[str]) -> dict[str, str]:
    """{group: split} for the groups that exist: validation is for training if nothing else is, and for test otherwise."""
    if "train" in groups:
        return {group: "train" if group == "train" else "test" for group in groups}
    return {group: "train" if group == "validation" else "test" for group in groups}


def unlabelled_group(groups: Collection[str], labelled: Collection[str], *, where: str, advice: str) -> str | None:
    """Of three groups, the one that is used for nothing: validation or test, whichever has no labels.

    None if there are fewer groups. Raises InputError when both have labels, with advice on how to say what to test on.
    """
    if not set(groups) >= GROUPS.keys():
        return None
    if {"validation", "test"} <= set(labelled):
        raise InputError(f"{where}: validation and test videos are both labelled; say what to test on{advice}")
    return "validation" if "test" in labelled else "test"


def other_names(video: str) -> tuple[str, ...]:
    """Other names of a video: ActivityNet's are YouTube ids, with or without a leading "v_"; an id may itself begin so."""
    return (f"v_{video}", video.removeprefix("v_")) if video.startswith("v_") else (f"v_{video}",)


def known_name(video: str, names: Container[str]) -> str | None:
    """The name in `names` that means this video: itself, else one that differs only in "v_"; None if there is neither."""
    return next((name for name in (video, *other_names(video)) if name in names), None)


def is_file_name(video: str) -> bool:
    """Whether a video's name can be that of a file and a line of a split file: plain, valid text without control characters."""
    plain = is_plain_text(video) and "/" not in video and video not in ("", ".", "..")
    return plain and len(video.encode()) <= LONGEST_NAME


def is_plain_text(text: str) -> bool:
    """Whether it can be written as UTF-8 and has no control characters, line breaks among them."""
    return not any(unicodedata.category(c) in ("Cc", "Cs") for c in text)


def is_text(text: str) -> bool:
    """Whether it can be the name of a file in UTF-8: without halves of characters and NUL, which JSON may hold."""
    return not any(c == "\0" or unicodedata.category(c) == "Cs" for c in text)


def fold(name: str) -> str:
    """A name of a class without case, spaces, underscores, hyphens and unicode form: equal for two spellings of one name."""
    return "".join(c for c in _nfc(name).casefold() if not c.isspace() and c not in "_-")


def fold_video(name: str, *, case: bool = False) -> str:
    """A video's name without its path, a file's extension, every leading "v_", unicode form and, unless `case`, case."""
    base = _nfc(name).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].strip()
    plain = _EXTENSION.sub("", base if case else _nfc(base.casefold()))
    return _PREFIXES.sub("", plain)


def shown(names: Iterable[str], *, most: int | None = 3) -> str:
    """The first names in quotes, printable and not too long, the others as a count."""
    listed = list(names)
    quoted = [f"'{one_line(name, longest=100)}'" for name in listed[:most]]
    return ", ".join(quoted) + (f" and {len(listed) - len(quoted)} more" if len(quoted) < len(listed) else "")


def amount(count: int, what: str) -> str:
    """ "1 class", "2,000 classes" """
    return f"{count:,} {what if count == 1 else plural(what)}"


def plural(what: str) -> str:
    return what + ("es" if what.endswith("s") else "s")


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)
