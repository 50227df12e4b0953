"""The runs of a table, and which of them are one method: those that differ in their seed alone.

runs = [read_table_run(folder) for folder in folders]
methods(runs)           # {"a": [TableRun of seed 0, of seed 1, ..], "b": [..]}
"""

import json
import os
import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from formats.run_results import INFERENCE, OF_A_RUN, RESULTS, VAL, evaluations, read_results
from options import CALL_FLAGS, FLAGS, LAST_BIT_FLAGS, NEUTRAL_FLAGS
from utils.errors import InputError
from utils.ranges import parse_span

_NOT_OF_A_METHOD = CALL_FLAGS | NEUTRAL_FLAGS | LAST_BIT_FLAGS | {"seed"}
# Flags that make no method, and yet may be what runs of one seed were made to differ in; the first are the first to be ignored.
_TELLING = ("output_dir", "device", *sorted(NEUTRAL_FLAGS), *sorted(LAST_BIT_FLAGS), "val_share", "select")


@dataclass(frozen=True, kw_only=True)
class TableRun:
    name: str
    seed: int | None
    data: str
    options: str | None  # those that make the method, as JSON; None where the file states none
    measures: dict[str, dict[str, float]]  # evaluation -> {"0.5": mAP, "avg 0.1:0.7": ...}, fractions
    classes: tuple[str, ...]  # none in an inference
    compared: dict[str, dict[str, int]]  # evaluation -> how many of each of COMPARED; earlier versions stated none
    training_seconds: float | None = None  # of a training run
    others: Mapping[str, str] = field(default_factory=dict)  # the values of _TELLING, as text

    @property
    def is_inference(self) -> bool:
        return INFERENCE in self.measures

    @property
    def states_compared(self) -> bool:
        return self.compared.keys() == self.measures.keys()


def read_table_run(folder: pathlib.Path, *, which: Sequence[str] = OF_A_RUN) -> TableRun:
    """`which` chooses among OF_A_RUN and VAL; the one evaluation of an inference is always read.

    Raises InputError for a folder without usable results, or whose test videos have no annotated segments.
    """
    results = read_results(folder)
    chosen = {name: each for name, each in evaluations(results).items() if name in (*which, INFERENCE)}
    if not chosen:
        raise InputError(f"{folder / RESULTS}: has no {' and '.join(which)}: train with --select val, or leave it out")
    found = {name: evaluation for name, evaluation in chosen.items() if evaluation.get("mAP")}
    if not found:
        raise InputError(f"{folder / RESULTS}: has no mAP, its test videos have no annotated segments; leave it out")
    options = results.get("options")
    older = {name: flag.default for name, flag in FLAGS.flags.items()}  # an earlier version's file lacks newer options
    known = older | (options or {})
    path = pathlib.Path(os.path.abspath(folder))
    first, seed = next(iter(found.values())), (options or results).get("seed")
    seconds = results.get("seconds")
    return TableRun(
        name=f"{path.parent.name}/{path.name}" if path.name == INFERENCE else path.name,
        seed=seed if type(seed) is int else None,
        data=str(results.get("data", {}).get("name", "")),
        options=json.dumps(_of_the_method(known), sort_keys=True) if options else None,
        measures={name: _measures(evaluation, folder / RESULTS) for name, evaluation in found.items()},
        classes=tuple(first.get("per_class_AP") or ()),
        compared={name: evaluation["compared"] for name, evaluation in found.items() if evaluation.get("compared")},
        training_seconds=seconds.get("training") if isinstance(seconds, dict) else None,
        others={name: _as_text(known[name]) for name in _TELLING},
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _of_the_method(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that make a method. Where nothing is held out, --select says only which of a run's models is kept."""
    unused = set() if options.get("select") == VAL else {"select", "val_share"}
    return {name: value for name, value in options.items() if name not in _NOT_OF_A_METHOD | unused}


def _measures(evaluation: Mapping[str, Any], path: pathlib.Path) -> dict[str, float]:
    averages = evaluation.get("average_mAP") or {}
    for name in (*evaluation["mAP"], *averages):
        try:
            parse_span(name)
        except InputError as error:
            raise InputError(f"{path}: {error}; fix it, or evaluate the run again") from None
    named = {**evaluation["mAP"], **{f"avg {span}": value for span, value in averages.items()}}
    return {name: float(value) for name, value in named.items()}


def methods(runs: Sequence[TableRun]) -> dict[str, list[TableRun]]:
    """{method: its runs}. Runs with the same options but for the seed are one, each seed once.

    Where a seed is there twice, the flags that change no result tell the runs apart; where they are the same too, each run is
    alone. Inferences are apart from training runs.
    """
    groups = defaultdict(list)
    for i, run in enumerate(runs):
        alone = run.options is None or run.seed is None
        groups[i if alone else (run.options, run.is_inference)].append(run)
    named: dict[str, list[TableRun]] = {}
    for group in groups.values():
        for told, members in _each_seed_once(group):
            name = _common_name(members)
            if name in named and told:
                name = f"{name} ({told})"
            while name in named:
                name += "'"  # another method of that name
            named[name] = members
    return named


def _each_seed_once(runs: Sequence[TableRun]) -> Iterator[tuple[str, list[TableRun]]]:
    """Runs of the same options in parts that have each seed once, and the flags that tell a part: "threads=8"."""
    flags = _telling(runs)
    parts = defaultdict(list)
    for run in runs:
        parts[tuple(run.others.get(flag, "") for flag in flags)].append(run)
    for values, members in parts.items():
        told = ", ".join(f"{flag}={value}" for flag, value in zip(flags, values, strict=True))
        twice = len({run.seed for run in members}) < len(members)
        yield from [(told, [run]) for run in members] if twice else [(told, members)]


def _telling(runs: Sequence[TableRun]) -> list[str]:
    """Flags that tell runs of one seed apart as well as all of _TELLING do, and none that can be ignored."""

    def told_apart(flags: Sequence[str]) -> int:
        return len({(run.seed, *(run.others.get(flag) for flag in flags)) for run in runs})

    flags, most = list(_TELLING), told_apart(_TELLING)
    for flag in _TELLING:
        rest = [other for other in flags if other != flag]
        if told_apart(rest) == most:
            flags = rest
    return flags


def _common_name(runs: Sequence[TableRun]) -> str:
    """The runs' names without their seeds, else the words and numbers that they begin with, else the first name."""
    if len(runs) == 1:
        return runs[0].name
    ending = f"/{INFERENCE}" if runs[0].is_inference else ""
    names = [run.name.removesuffix(ending) for run in runs]
    return (_without_seeds(names) or _common_words(names) or names[0]) + ending


def _without_seeds(names: Sequence[str]) -> str:
    """What is left of all names without the number at their end, if each has another; empty if they differ in more."""
    found = [re.fullmatch(r"(.*?)[-_. ]+(?:(?:seed|s)[-_. ]*)?([0-9]+)", name, re.I | re.S) for name in names]
    parts = [match.groups() for match in found if match]
    if len(parts) < len(names) or len({stem for stem, _ in parts}) > 1:
        return ""
    return parts[0][0] if len({number for _, number in parts}) == len(parts) else ""


def _common_words(names: Sequence[str]) -> str:
    words = [re.findall(r"[0-9]+|[-_. ]+|[^-_. 0-9]+", name) for name in names]
    common = takewhile(lambda of_each: len(set(of_each)) == 1, zip(*words, strict=False))
    return "".join(of_each[0] for of_each in common).rstrip("-_. ")
