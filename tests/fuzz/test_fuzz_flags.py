"""Any command line is understood or refused in one line, and whatever is accepted can be saved as JSON."""

import itertools
import json

import pytest
from hypothesis import strategies as st
from support.fuzz import called, fresh_folder, fuzz, promised, strict_json
from support.strategies import AMOUNTS, COUNTS, ODD_GRIDS, argument_texts, odd_values
from support.tiny import TINY_FLAGS, TinySet, write_tiny_set

import main
from command_line.console import run_tool
from options import FLAGS, as_plain, check_saved, parse_flags, resolve

# Where main.py would wait or write elsewhere, or what the tests set themselves
OWN_FLAGS = {"data_path", "output_dir", "device", "compile", "dataset", "num_epochs", "num_iters"}


def usual_values(name):
    """Texts of the flag's kind, most of them in its range: what gets past the first check."""
    flag = FLAGS.flags[name]
    if flag.kind is bool:
        return st.just([])
    if flag.kind == tuple[str, ...]:
        return st.lists(st.sampled_from(("0.1:0.5", "0.1:0.7", "0.3", "0.7", *ODD_GRIDS)), min_size=1, max_size=2)
    if flag.choices:
        values = st.sampled_from(flag.choices)
    elif flag.parse:
        values = st.sampled_from(ODD_GRIDS)
    elif flag.kind is str:
        values = argument_texts
    elif flag.kind in (int, int | None):
        values = st.sampled_from(COUNTS).map(str)
    else:
        values = st.sampled_from(AMOUNTS).map(repr) | st.floats(0, 1).map(repr)
    return values.map(lambda value: [value])


@st.composite
def flags(draw, names=FLAGS.names):
    """One flag as typed: with its value behind it or after "=", on or off."""
    name = draw(st.sampled_from(names))
    values = draw(usual_values(name))
    if len(values) == 1:
        return draw(st.sampled_from(([f"--{name}={values[0]}"], [f"--{name}", values[0]])))
    return [f"--{name}" if values or draw(st.booleans()) else f"--no-{name}", *values]


@st.composite
def mistyped_flags(draw):
    """One flag with a value of any kind, or none or several; now and then misspelt."""
    name = draw(st.sampled_from(FLAGS.names))
    spelling = draw(
        st.sampled_from((f"--{name}",) * 4 + (f"--no-{name}", f"--{name[:-1]}", f"-{name}", f"--{name.upper()}"))
    )
    return [spelling, *draw(st.lists(odd_values, max_size=2))]


def command_lines(part, most):
    return st.lists(part, min_size=1, max_size=most).map(lambda parts: list(itertools.chain(*parts)))


any_command_lines = command_lines(
    flags() | flags() | mistyped_flags() | argument_texts.map(lambda text: [text]), most=4
)


@fuzz(500, arguments=any_command_lines | command_lines(flags(), most=3), encoding=st.sampled_from(("utf-8", "ascii")))
def test_any_command_line_is_options_or_one_line(arguments, encoding, empty_folder):
    def parse_and_resolve(arguments):
        strict_json(json.dumps(as_plain(resolve(parse_flags(arguments)))))

    promised(lambda a: run_tool("main.py", parse_and_resolve, a), arguments, empty_folder, encoding=encoding)


@fuzz(
    100,
    saved=st.dictionaries(
        st.sampled_from(FLAGS.names), st.none() | st.booleans() | odd_values | st.integers() | st.floats(), max_size=4
    ),
)
def test_any_saved_options_resolve_or_are_refused(saved, empty_folder):
    """Options as an altered checkpoint could hold them: of any type."""

    def resolve_saved(_):
        check_saved(saved)  # as when a checkpoint is read
        strict_json(json.dumps(as_plain(resolve({}, saved))))

    promised(lambda a: run_tool("main.py", resolve_saved, a), [], empty_folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> TinySet:
    return write_tiny_set(tmp_path_factory.mktemp("flags") / "tiny")


@pytest.fixture(scope="module")
def empty_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("empty")


RUN_FLAGS = tuple(name for name in FLAGS.names if name not in OWN_FLAGS)
run_command_lines = command_lines(flags(RUN_FLAGS), most=2)


def tiny_run(tiny, folder):
    return ["--data_path", str(tiny.path), "--output_dir", str(folder / "out"), *TINY_FLAGS, "--num_epochs", "1"]


@fuzz(60, arguments=run_command_lines, encoding=st.sampled_from(("utf-8", "ascii")))
def test_training_with_odd_flags(tiny, arguments, encoding):
    with fresh_folder() as folder:
        promised(main.main, [*tiny_run(tiny, folder), *arguments], folder, encoding=encoding)


@fuzz(40, arguments=run_command_lines)
def test_checking_data_with_odd_flags(tiny, arguments):
    with fresh_folder() as folder:
        promised(main.main, [*tiny_run(tiny, folder), "--check_data", *arguments], folder)


def test_help_is_plain_text():
    assert called(main.main, ["--help"], encoding="ascii").code == 0
