"""The package `sal`: what an installation holds, and that the program works under its other name."""

import importlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import numpy as np
import pytest
from support.paths import ROOT
from support.tiny import FEATURE_SIZE
from support.trained import write_tiny_model

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OUTSIDE = {"tests", "benchmarks", "reference", "sal"}  # packages that the program does without


def setuptools_version():
    try:
        return [int(part) for part in importlib.metadata.version("setuptools").split(".")[:2]]
    except importlib.metadata.PackageNotFoundError:
        return [0]


def program_packages():
    folders = {file.parent.relative_to(ROOT) for file in ROOT.glob("*/**/__init__.py")}
    inside = {folder for folder in folders if folder.parts[0] not in OUTSIDE and not folder.parts[0].startswith(".")}
    return {".".join(folder.parts) for folder in inside if folder.parts[0] not in ("build", "data", "output")}


def test_every_package_of_the_program_is_installed():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert listed == {"sal", "sal.program"} | {f"sal.program.{name}" for name in program_packages()}


def test_every_module_works_under_its_other_name():
    """No import is of a form that can't be renamed, and none is left that would need the short name."""
    import sal  # noqa: F401

    before = set(sys.modules)
    names = [file.stem for file in ROOT.glob("*.py")]
    names += [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for package in program_packages()
        for file in (ROOT / package.replace(".", "/")).glob("*.py")
        if file.stem != "__init__"
    ]
    if not importlib.util.find_spec("triton"):
        names.remove("layers.rank_adam_kernels")
    for name in names:
        assert importlib.import_module(f"sal.program.{name}").__file__ == str(ROOT / f"{name.replace('.', '/')}.py")
    new = {name for name in set(sys.modules) - before if not name.startswith("sal.")}
    assert not {name for name in new if (ROOT / f"{name.replace('.', '/')}.py").exists()}


def test_every_script_is_a_function():
    from sal import commands

    for name, target in PROJECT["project"]["scripts"].items():
        module, function = target.split(":")
        assert module == "sal.commands" and callable(getattr(commands, function)), name


@pytest.mark.parametrize(("name", "module"), [("train", "main"), ("evaluate", "eval.detection")])
def test_a_signal_while_a_command_is_loaded_is_one_line(name, module):
    code = (
        "import os, signal, sys\n"
        "from sal import commands\n"
        "class Signal:\n"
        "    def find_spec(self, found, *_):\n"
        f"        if found == 'sal.program.{module}':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Signal())\n"
        f"commands.{name}()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"sal-{name}: interrupted\n")


def test_the_oldest_packages_allowed_include_the_pinned_ones():
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    oldest = dict(line.split(">=") for line in PROJECT["project"]["dependencies"])
    assert pins.keys() == oldest.keys()
    for name, version in oldest.items():
        assert [int(n) for n in version.split(".")] <= [int(n) for n in pins[name].split(".")[:2]], name


@pytest.mark.skipif(setuptools_version() < [70, 1], reason="needs setuptools 70.1, which writes wheels by itself")
def test_a_wheel_holds_sal_alone_and_works(tmp_path):
    source, wheels, site = tmp_path / "source", tmp_path / "wheels", tmp_path / "site"
    skipped = shutil.ignore_patterns(
        ".*", "tests", "benchmarks", "reference", "docs", "data", "output", "build", "__pycache__"
    )
    shutil.copytree(ROOT, source, ignore=skipped)
    build = "from setuptools import build_meta; build_meta.build_wheel('../wheels')"
    wheels.mkdir()
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=source, capture_output=True, check=True)
    (wheel,) = wheels.glob("sal_wtal-*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    assert {entry.name.split("-")[0] for entry in site.iterdir()} == {"sal", "sal_wtal"}
    assets = {path.name for path in (ROOT / "report" / "assets").iterdir()}
    assert assets and {path.name for path in (site / "sal" / "program" / "report" / "assets").iterdir()} == assets
    assert (site / "sal" / "py.typed").exists() and (site / "sal" / "program" / "run" / "checkpoint.py").exists()
    shutil.rmtree(source)

    (tmp_path / "use.py").write_text(
        "import contextlib, sys\n"
        f"sys.path.insert(0, {str(site)!r})\n"
        "from sal import commands\n"
        "sys.argv = ['x', '--help']\n"
        "for command in (commands.evaluate, commands.train, commands.predict):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        command()\n"
        "assert 'torch' not in sys.modules\n"
        "from sal import Localizer\n"
        f"assert sys.modules[Localizer.__module__].__file__.startswith({str(site)!r})\n"
    )
    done = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == 3


@pytest.mark.parametrize("page", ["docs/predict.md", "README.md"])
def test_the_example_runs_as_it_is_written(tmp_path, monkeypatch, capsys, page):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    examples = [block for block in blocks if "from sal import" in block]
    if not examples:
        pytest.skip("no example there")
    monkeypatch.chdir(tmp_path)
    write_tiny_model(tmp_path / "best.pt")
    generator = np.random.default_rng(0)
    for name in ("VIDEO", "OTHER"):
        np.save(tmp_path / f"{name}.npy", generator.random((30, 2 * FEATURE_SIZE)).astype(np.float32))
    (example,) = examples
    assert len(example.splitlines()) <= 12
    names: dict[str, object] = {}
    exec(compile(example, page, "exec"), names)
    assert "score" in capsys.readouterr().out
