"""A sweep's file: flags of every run, the values of which every combination is run, and the seeds of each.

flags: {data_path: data/x, num_epochs: 10}      # of every run
values: {lr: [1e-4, 3e-4], w_bg: [1, 10]}       # every combination
seeds: [0, 1, 2]                                # of each; without it one, the recipe's

sweep = read_sweep(pathlib.Path("sweep.yaml"), allowed={"lr", "w_bg", ...})
sweep.variants()            # {"lr=0.0001-w_bg=1.0": {"lr": 1e-4, "w_bg": 1.0}, ...}
"""

import itertools
import math
import pathlib
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from command_line.flags import Parser, as_words
from command_line.suggestions import closest, did_you_mean, shortened
from formats.regular_files import check_regular
from options import ALIASES, FLAGS
from utils.errors import InputError

MOST_BYTES = 1_000_000
MOST_RUNS = 10_000
LONGEST_NAME = 150  # of a combination
KEYS = ("flags", "values", "seeds")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    flags: dict[str, Any]  # of every run, {flag name: value}
    values: dict[str, list[Any]]
    seeds: list[int]  # empty: not given

    def variants(self) -> dict[str, dict[str, Any]]:
        """{name: flags} of every combination, the last flag's values next to each other; "" without values."""
        variants: dict[str, dict[str, Any]] = {}
        for combination in itertools.product(*self.values.values()):
            own = dict(zip(self.values, combination, strict=True))
            plain = name = _name_of(own)
            for number in itertools.count(2):  # texts that differ in signs alone
                if name not in variants:
                    break
                name = f"{plain}-v{number}"
            variants[name] = own
        return variants


def _name_of(flags: Mapping[str, Any]) -> str:
    parts = [f"{name}={'+'.join(value) if isinstance(value, list | tuple) else value}" for name, value in flags.items()]
    return re.sub(r"[^\w.+=-]+", "_", "-".join(parts), flags=re.ASCII)[:LONGEST_NAME]


def read_sweep(path: pathlib.Path, *, allowed: Collection[str]) -> Sweep:
    """Raises InputError naming the file and the key for what is no sweep, unknown keys, and values that a flag does not take.

    `allowed` are the names of flags that it may set.
    """
    content = _read(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: expected {', '.join(KEYS)}, such as values: {{lr: [1e-4, 3e-4]}}")
    for key in content:
        if key not in KEYS:
            meant = did_you_mean(closest(str(key), KEYS))
            raise InputError(f"{path}: {shortened(str(key))}: is none of {', '.join(KEYS)}{meant}")
    flags = _mapping(content.get("flags"), f"{path}: flags")
    values = _mapping(content.get("values"), f"{path}: values")
    for name in flags.keys() & values.keys():
        raise InputError(f"{path}: {name}: stands under flags and under values; leave it in one of them")
    sweep = Sweep(
        flags={name: _value(name, value, f"{path}: flags", allowed) for name, value in flags.items()},
        values={name: _values(name, listed, f"{path}: values", allowed) for name, listed in values.items()},
        seeds=_seeds(content["seeds"], path) if "seeds" in content else [],
    )
    count = math.prod(map(len, sweep.values.values())) * max(1, len(sweep.seeds))
    if count > MOST_RUNS:
        raise InputError(f"{path}: asks for {count:,} runs; {MOST_RUNS:,} are the most, give fewer values or seeds")
    return sweep


def _values(name: str, listed: Any, where: str, allowed: Collection[str]) -> list[Any]:
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{where}, {shortened(str(name))}: expected a list of values, such as [1, 2]")
    values = [_value(name, value, where, allowed) for value in listed]
    for i, value in enumerate(values):
        if value in values[:i]:
            raise InputError(f"{where}, {name}: {listed[i]} is given twice")
    return values


def _value(name: Any, value: Any, where: str, allowed: Collection[str]) -> Any:
    """The value as the command line would give it: 1e-4, which is a text in YAML, is a number there."""
    if name not in allowed:
        meant = did_you_mean(closest(str(name), allowed, ALIASES))
        raise InputError(f"{where}, {shortened(str(name))}: is no flag that a sweep can set{meant}")
    where, flag = f"{where}, {name}", FLAGS.flags[name]
    if flag.kind is bool and type(value) is not bool:
        raise InputError(f"{where}: {_shown(value)} is neither true nor false")
    if flag.kind is not bool and type(value) is bool:
        raise InputError(f"{where}: {_shown(value)} is no value of it; in YAML, a yes or no that is a text has quotes")
    several = flag.kind == tuple[str, ...]
    texts = value if several and isinstance(value, list) else [value]
    if not texts or not all(type(text) in (str, int, float, bool) for text in texts):
        raise InputError(f"{where}: {_shown(value)} is no value of it; write a number or a text")
    parser = Parser("", "", FLAGS)
    parser.add_options([name])
    try:
        typed = vars(parser.parse_args(as_words({name: [str(text) for text in texts] if several else value})))
        read = tuple(typed[name]) if several else typed.get(name, value)  # --no_x is not typed where x is wanted
        FLAGS.check(FLAGS.build({name: read}))
    except InputError as error:
        raise InputError(f"{where}: {str(error).removesuffix('; --help lists the flags')}") from None
    return read


def _shown(value: Any) -> str:
    return "nothing" if value is None else shortened(str(value).lower() if type(value) is bool else str(value))


def _seeds(listed: Any, path: pathlib.Path) -> list[int]:
    if not isinstance(listed, list) or not listed or not all(type(seed) is int for seed in listed):
        raise InputError(f"{path}: seeds: expected a list of whole numbers, such as [0, 1, 2]")
    for i, seed in enumerate(listed):
        if seed in listed[:i]:
            raise InputError(f"{path}: seeds: {seed} is given twice; each run needs a seed of its own")
    return listed


def _mapping(value: Any, where: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected names of flags and values, such as {{lr: 1e-4}}")
    return value


def _read(path: pathlib.Path) -> Any:
    """The content of a YAML file: plain values alone, no key twice."""
    try:
        check_regular(path)
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: is larger than {MOST_BYTES:,} bytes; is it a sweep's file?")
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not text in UTF-8; is it a YAML file?") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deep; fix the file") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: is not valid YAML ({problem or error}); fix the file") from None
    except ValueError as error:  # such as a day that no month has
        raise InputError(f"{path}: has a value that is none ({error}); fix the file") from None


class _Loader(yaml.SafeLoader):
    """Plain values alone. A key that is there twice is an error, of which YAML would keep the last; so are aliases.

    A few lines of aliases can stand for more values than any memory holds.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not read; write the value out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: list[Any] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is there twice", key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep=deep)


def check_overlap(sweep: Sweep, typed: Sequence[str], path: pathlib.Path) -> None:
    """Raise InputError for a flag that the file and the command line both give."""
    for name in typed:
        if name in sweep.flags or name in sweep.values:
            raise InputError(f"--{name}: {path} gives it too; leave it in one place")
