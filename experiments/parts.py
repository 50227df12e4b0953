"""The parts of the method that an ablation switches, and its rows: from a baseline upward, and the whole without one each."""

from collections.abc import Iterable
from dataclasses import dataclass

WHOLE = "sal"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the method, which `--no_FLAG` leaves out."""

    flag: str
    name: str
    short: str  # of its column
    needs: str | None = None  # the part that it is computed of, and goes with


# In the order in which they are added.
PARTS = (
    Part(flag="second_order", name="second-order semantics", short="2nd order"),
    Part(flag="propagation", name="propagation", short="propagation", needs="second_order"),
    Part(flag="actionness", name="actionness", short="actionness"),
    Part(flag="mutual", name="mutual learning", short="mutual", needs="actionness"),
    Part(flag="mixup", name="mix-up", short="mix-up", needs="actionness"),
    Part(flag="mask", name="adaptive mask", short="mask", needs="actionness"),
)
SWITCHES = frozenset(f"no_{part.flag}" for part in PARTS)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row of the table."""

    key: str  # of its runs' names
    label: str
    parts: frozenset[str]  # flags of those that it has
    against: str | None  # key of the row that it is compared with
    flags: dict[str, bool]  # every switch, on or off, whatever a recipe says of it


def switches(off: Iterable[Part]) -> dict[str, bool]:
    """The switches that leave out these parts and no others."""
    flags = {part.flag for part in off}
    return {f"no_{part.flag}": part.flag in flags for part in PARTS}


def upward() -> list[Variant]:
    """The baseline, then one part more each; the last is the whole method."""
    variants: list[Variant] = []
    for count in range(len(PARTS) + 1):
        has, lacks = PARTS[:count], PARTS[count:]
        variants.append(
            Variant(
                key="baseline" if not has else f"plus-{has[-1].flag}" if lacks else WHOLE,
                label=f"+ {has[-1].name}{'' if lacks else ' (SAL)'}" if has else "baseline",
                parts=frozenset(part.flag for part in has),
                against=variants[-1].key if variants else None,
                flags=switches(lacks),
            )
        )
    return variants


def without_one() -> list[Variant]:
    """The whole method without one part each, and without what is computed of it."""
    return [
        Variant(
            key=f"without-{part.flag}",
            label=f"SAL without {part.name}",
            parts=frozenset(other.flag for other in PARTS if part.flag not in (other.flag, other.needs)),
            against=WHOLE,
            flags=switches([part]),
        )
        for part in PARTS
    ]
