"""Class names that were probably meant to be one: spelt in two ways, or misspelt.

spelling_warnings(classes)                  # "'Long Jump' and 'long_jump' differ only in case, ..."
similar_to("Jmup", {"Jump", "Dive"})        # " (is it 'Jump'?)"
"""

import difflib
import unicodedata
from collections.abc import Iterable, Iterator

from formats.names import fold, shown


def spelt_alike(classes: Iterable[str]) -> list[list[str]]:
    """The groups of classes whose names differ only in case, spaces, underscores, hyphens or Unicode form."""
    groups: dict[str, list[str]] = {}
    for label in sorted(set(classes)):
        groups.setdefault(fold(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def spelling_warnings(classes: Iterable[str]) -> Iterator[str]:
    """A warning for every such group."""
    for group in spelt_alike(classes):
        look = {unicodedata.normalize("NFKC", label) for label in group}
        written = group if len(look) == len(group) else [ascii(label)[1:-1] for label in group]
        names = " and ".join(shown([label]) for label in written)
        yield f"{names} are different classes, but look like one spelt in {len(group)} ways; if so, spell it in one"


def similar_to(label: str, known: Iterable[str]) -> str:
    """A question in brackets if the label looks like a known one spelt in another way or misspelt, else ""."""
    close = [name for name in sorted(known) if fold(name) == fold(label)][:1]
    close = close or difflib.get_close_matches(label, sorted(known), n=1, cutoff=0.7)
    return f" (is it {shown(close)}?)" if close else ""
