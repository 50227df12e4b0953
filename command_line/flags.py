"""Options as dataclass fields, and the command-line flags made from them.

    @dataclass(frozen=True)
    class ModelOptions:
        hidden_size: int = option(512, "H, hidden channels", range="[1,inf)")

    @dataclass(frozen=True)
    class Options:
        model: ModelOptions = group("model", ModelOptions)

    table = FlagTable(Options)                  # every option by the name of its flag, "hidden_size"
    parser = Parser("main.py", "What it does.", table); parser.add_options(table.names)
    options = table.build(vars(parser.parse_args(arguments))); table.check(options)

One line declares an option: its type, default, help with the unit, and valid values. Flags are flat, so names are unique across
the groups.
"""

import argparse
import dataclasses
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from command_line.parser import CommandParser
from command_line.suggestions import closest, did_you_mean, shortened
from utils.errors import InputError
from utils.ranges import Interval

Groups = TypeVar("Groups")  # a dataclass of groups of options

Presets = Mapping[str, Mapping[str, Any]]  # recipe name -> the options that differ from the defaults


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    range: str | None = None,
    parse: Callable[[str], object] | None = None,
    shown: str = "",
    metavar: str = "FIRST:LAST",
) -> Any:
    """A field that is a flag.

    `range` is an interval such as "(0,1]". `parse` reads a text, or each of several, and raises InputError for an invalid one.
    `shown` says in --help what the default means, where its value does not; `metavar` what each of several values is.
    """
    interval = Interval.parse(range) if range else None
    meta = {"help": help, "choices": choices, "interval": interval, "parse": parse, "shown": shown}
    meta["metavar"] = metavar
    return field(default=default, metadata=meta)


def group(title: str, kind: type) -> Any:
    """A field that holds a group of options, under this title in --help."""
    return field(default_factory=kind, metadata={"title": title})


@dataclass(frozen=True)
class Flag:
    """One option and the group that declares it."""

    name: str
    group: str  # the field of Options that holds it
    title: str  # the group's title
    kind: Any  # type annotation
    default: Any
    help: str
    choices: Sequence[str] | None
    interval: Interval | None
    parse: Callable[[str], object] | None
    shown: str
    metavar: str


class FlagTable(Generic[Groups]):
    """Every option of a dataclass of groups, by the name of its flag."""

    def __init__(
        self, kind: type[Groups], presets: Presets | None = None, aliases: Mapping[str, str] | None = None
    ) -> None:
        """`aliases` are what other programs call a flag, {their name: ours}: they are not taken, but understood."""
        self.kind = kind
        self.presets, self.aliases = presets or {}, aliases or {}
        self.flags = {flag.name: flag for flag in _flags(kind)}
        unknown = {name for own in self.presets.values() for name in own} - self.flags.keys()
        unknown |= set(self.aliases.values()) - self.flags.keys()
        assert not unknown, f"presets or aliases name options that do not exist: {unknown}"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.flags)

    def build(self, values: Mapping[str, Any]) -> Groups:
        """Options with these values, {flag name: value}, and the defaults for the rest."""
        members: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            members.setdefault(self.flags[name].group, {})[name] = value
        groups = {f.name: f.default_factory for f in dataclasses.fields(self.kind)}  # type: ignore[arg-type]
        return self.kind(**{name: make(**members.get(name, {})) for name, make in groups.items()})  # type: ignore[operator]

    def values(self, options: Groups) -> dict[str, Any]:
        """{flag name: value}"""
        return {name: getattr(getattr(options, flag.group), name) for name, flag in self.flags.items()}

    def check(self, options: Groups) -> None:
        """Raise InputError naming the first flag whose value is not among its choices or within its range."""
        for name, value in self.values(options).items():
            flag = self.flags[name]
            if flag.interval and value is not None and value not in flag.interval:
                raise InputError(f"--{name} {shortened(str(value))}: must lie in {flag.interval}")
            if flag.choices and value not in flag.choices:
                meant = did_you_mean(closest(str(value), flag.choices))
                raise InputError(f"--{name} {value}: must be one of {', '.join(flag.choices)}{meant}")
            if flag.parse:
                for text in value if isinstance(value, tuple) else (value,):
                    _check_text(name, text, flag.parse)


class Parser(CommandParser):
    """A parser of a table's flags; those that were not typed are absent from the result."""

    def __init__(
        self, prog: str, description: str, table: FlagTable[Any], *, opening: Callable[[], str] | None = None
    ) -> None:
        """`opening` makes the text before the flags, in place of a usage that would list them all."""
        shape = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description, argument_default=argparse.SUPPRESS, formatter_class=shape)
        self.table, self.opening, self.aliases = table, opening, table.aliases

    def add_options(self, names: Iterable[str]) -> None:
        groups: dict[str, Any] = {}
        for name in names:
            flag = self.table.flags[name]
            if flag.title not in groups:
                groups[flag.title] = self.add_argument_group(flag.title)
            words = [f"--{name}"]
            if _switches_off(flag):
                words.append(on_again(name))
            groups[flag.title].add_argument(*words, help=_help(flag, self.table.presets), **_argument(flag))

    def format_help(self) -> str:
        if self.opening:
            self.usage, self.description = f"{self.prog} [FLAG [VALUE]] ...", self.opening()
        return super().format_help()


def _flags(kind: type) -> Iterator[Flag]:
    for holder in dataclasses.fields(kind):
        members: Any = holder.default_factory
        hints = typing.get_type_hints(members)
        for member in dataclasses.fields(members):
            yield Flag(
                name=member.name,
                group=holder.name,
                title=holder.metadata["title"],
                kind=hints[member.name],
                default=member.default,
                **member.metadata,
            )


def on_again(name: str) -> str:
    """The flag that takes back --no_PART, where a preset or a recipe sets that: --PART."""
    return f"--{name.removeprefix('no_')}"


class _SwitchOff(argparse.Action):
    """--no_PART is True, --PART False."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, option_string == self.option_strings[0])


def _switches_off(flag: Flag) -> bool:
    """Whether it leaves out a part, and needs no further no- before it."""
    return flag.kind is bool and flag.name.startswith("no_")


def _argument(flag: Flag) -> dict[str, Any]:
    if flag.kind is bool:
        return {"action": _SwitchOff, "nargs": 0} if _switches_off(flag) else {"action": argparse.BooleanOptionalAction}
    if flag.kind == tuple[str, ...]:
        return {"nargs": "+" if flag.default else "*", "metavar": flag.metavar}
    if flag.choices:
        return {"choices": flag.choices}
    number = next((n for n in (float, int) if flag.kind == n | None), flag.kind)
    return {"type": number, "metavar": {int: "N", float: "X"}.get(number, "TEXT")}


def _help(flag: Flag, presets: Presets) -> str:
    """The help text, with the default and the values that presets set instead."""
    default = flag.shown or as_typed(flag.default)
    values = {preset: as_typed(own[flag.name]) for preset, own in presets.items() if flag.name in own}
    presets_of = {shown: [preset for preset in values if values[preset] == shown] for shown in values.values() if shown}
    parts = [f"default: {default}"] if default else []
    suffix = "; ".join(parts + [f"{', '.join(names)}: {shown}" for shown, names in presets_of.items()])
    return (flag.help + (f" ({suffix})" if suffix else "")).replace("%", "%%")


def as_typed(value: Any) -> str:
    """A value as a user types it; empty for None."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)


def as_words(values: Mapping[str, Any]) -> list[str]:
    """{flag name: value} as a command line that says the same; None is not said."""
    words = []
    for name, value in values.items():
        if isinstance(value, bool):
            off = on_again(name) if name.startswith("no_") else f"--no-{name}"
            words.append(f"--{name}" if value else off)
        elif isinstance(value, list | tuple):
            words += [f"--{name}", *value]
        elif str(value).startswith("-"):  # which would be read as a flag
            words.append(f"--{name}={value}")
        elif value is not None:
            words += [f"--{name}", str(value)]
    return words


def _check_text(name: str, text: str, parse: Callable[[str], object]) -> None:
    try:
        parse(text)
    except InputError as error:
        raise InputError(f"--{name}: {error}") from None
