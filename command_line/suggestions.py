"""What a user meant by a name that does not exist, and how much of a long text is worth printing."""

import difflib
from collections.abc import Iterable, Mapping

LONGEST_SHOWN = 80  # characters of what a user typed


def closest(word: str, names: Iterable[str], aliases: Mapping[str, str] | None = None) -> str | None:
    """The name that a mistyped word stands for, or None: spelt with other signs, called so elsewhere, begun, or similar."""
    plain = {_plain(name): name for name in names}
    typed = _plain(word[:LONGEST_SHOWN])
    if typed in plain:
        return plain[typed]
    again = typed.removeprefix("no_no_")  # two no's are none
    if again != typed and again in plain:
        return plain[again]
    habit = _plain((aliases or {}).get(typed, ""))
    if habit in plain:
        return plain[habit]
    begun = [name for name in plain if typed and name.startswith(typed)]
    similar = begun if len(begun) == 1 else difflib.get_close_matches(typed, plain, n=1, cutoff=0.7)
    return plain[similar[0]] if similar else None


def did_you_mean(name: str | None) -> str:
    return f"; did you mean {name}?" if name else ""


def shortened(text: str) -> str:
    """A text of at most LONGEST_SHOWN characters, the middle left out if need be."""
    half = LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]}...{text[-half + 3 :]}"


def _plain(name: str) -> str:
    """A name as letters, digits and single underscores: --Batch-Size is batch_size."""
    return "_".join(name.lower().replace("-", "_").replace(".", "_").split("_")).strip("_")
