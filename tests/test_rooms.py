"""The plan of the house: each room imports only from those before it, and no two modules import each other."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import pytest
from support.paths import ROOT

# Left to right: each may import from itself and from those before it.
ROOMS = (
    *(
        "utils",
        "command_line",
        "layers",
        "recipes",
        "options",
        "formats",
        "localization",
        "model",
        "losses",
        "dataset",
        "eval",
    ),
    *(
        "data_tools",
        "run",
        "test",
        "localizer",
        "report",
        "video",
        "self_training",
        "train",
        "ranks",
        "main",
        "experiments",
        "sal",
    ),
)
UTILS_LINES = 600  # ground, not an attic


# What is not the program: the program imports none of it.
OUTSIDE = {"tests", "benchmarks", "reference", "scripts"}
NO_TORCH = ("eval", "localization")  # of what they import in the program, nothing may stand on torch
TORCH_FREE = {"utils", "command_line", "recipes", "options", "formats", "eval", "localization"}


def packages():
    """Every top-level module and folder of modules in the project, whether a room or not."""
    paths = [file.relative_to(ROOT) for file in ROOT.glob("*/**/*.py")]
    folders = {path.parts[0] for path in paths if not path.parts[0].startswith(".")}
    return folders - {"data", "output"} | {file.stem for file in ROOT.glob("*.py")}


def modules():
    """{dotted name: file} of the program; tests, benchmarks and the reference stand outside of it."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    files += [ROOT / f"{room}.py" for room in ROOMS if (ROOT / f"{room}.py").exists()]
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in names.items()}


def imports(file: pathlib.Path):
    """Dotted names of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the room"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(name):
    return name.split(".")[0]


def test_every_room_has_modules_and_every_module_a_room():
    assert {room_of(name) for name in modules()} == set(ROOMS)
    assert packages() - OUTSIDE == set(ROOMS), "a new room: give it a place in ROOMS and in CONTRIBUTING.md"


@pytest.mark.parametrize("name", modules())
def test_imports_run_downwards(name):
    allowed = set(ROOMS[: ROOMS.index(room_of(name)) + 1])
    if room_of(name) in NO_TORCH:
        allowed &= TORCH_FREE
    own = packages() | {"support"}
    wrong = {target for target in imports(modules()[name]) if room_of(target) in own - allowed}
    assert not wrong, f"{name} stands below what it imports, or imports what is no part of the program"


@pytest.mark.parametrize("name", modules())
def test_imports_are_statements(name):
    """An import by name would hide what stands on what."""
    source = modules()[name].read_text()
    assert "importlib.import_module" not in source and "__import__" not in source


def test_no_two_modules_import_each_other():
    known = modules()
    graph = {name: {t for t in imports(file) if t in known and t != name} for name, file in known.items()}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_options_stand_on_utils_alone():
    assert {room_of(target) for target in imports(ROOT / "options.py")} & set(ROOMS) == {
        "utils",
        "command_line",
        "recipes",
    }
    assert not {room_of(target) for target in imports(ROOT / "recipes.py")} & set(ROOMS)


@pytest.mark.parametrize("file", sorted((ROOT / "reference").glob("*.py")), ids=lambda file: file.name)
def test_the_reference_stands_alone(file):
    assert not {target for target in imports(file) if room_of(target) in packages() - {"reference"}}


@pytest.mark.parametrize("room", [room for room in ROOMS if (ROOT / room).is_dir()])
def test_every_room_says_what_it_is_for(room):
    sentence = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
    assert sentence and sentence.endswith(".")


def test_utils_stay_small():
    assert sum(len(file.read_text().splitlines()) for file in (ROOT / "utils").glob("*.py")) < UTILS_LINES


def test_no_test_module_imports_another():
    """What several need is in tests/support, fixtures are in conftest.py."""
    files = list((ROOT / "tests").rglob("*.py"))
    modules = {file.stem for file in (ROOT / "tests").glob("*.py")}
    sideways = {(file.name, target) for file in files for target in imports(file) if room_of(target) in modules}
    assert not sideways


def test_evaluation_and_localization_know_no_torch():
    code = "import sys, eval.judging, localization.instances, run.background"
    code += "; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
