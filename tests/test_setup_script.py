"""scripts/setup.sh: which Python runs the program, and when a new environment is made for it."""

import pathlib
import shutil
import subprocess
import sys

import pytest
from support.paths import ROOT

PINS = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line)
REPORT = dict(line.split("==") for line in (ROOT / "requirements-report.txt").read_text().splitlines() if "==" in line)
EVERYTHING = PINS | REPORT
TOOLS = ("bash", "dirname", "cat", "cmp", "rm", "mkdir", "sh")


def test_it_is_no_script_of_its_own():
    for arguments in ([], ["--help"], ["requirements.txt"]):
        command = ["bash", str(ROOT / "scripts" / "setup.sh"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stdout) == (2, "") and "scripts/train.sh" in done.stderr


class Machine:
    """A clone whose programs say which Python runs them, and Pythons that have the packages they are given."""

    def __init__(self, folder):
        self.root, self.bin = folder / "clone", folder / "bin"
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for path in ROOT.glob("requirements*.txt"):
            shutil.copy(path, self.root)
        (self.root / "experiments").mkdir()
        for name in ("main", "experiments/seeds", "experiments/sweep", "experiments/ablation"):
            program = self.root / f"{name}.py"
            program.write_text("import os, sys; print(os.environ['NAME'], *sys.argv[1:])\n")
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.python(self.bin / "python3", "system", {})

    def python(self, path, name, packages):
        """A Python with these packages, {name: version}; it makes environments with all pinned ones, but none of its own."""
        site = path.parent / f"site-{name}"
        for package, version in packages.items():
            info = site / f"{package.replace('-', '_')}-{version}.dist-info"
            info.mkdir(parents=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        venv = f'if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; cp_python "$3"; echo "venv by {name}"; exit 0; fi'
        venv = venv.replace("cp_python", f"cat {path.parent}/made > $3/bin/python; /bin/chmod +x $3/bin/python; :")
        pip = 'if [ "$1 $2" = "-m pip" ]; then exit 0; fi'
        run = f'NAME={name} PYTHONPATH="{site}" exec {sys.executable} -S "$@"'
        (path.parent / "made").write_text(f"#!/bin/sh\n{pip}\n{run.replace(f'NAME={name}', 'NAME=.venv')}\n")
        path.write_text(f"#!/bin/sh\n{venv}\n{pip}\n{run}\n")
        path.chmod(0o755)
        return path

    def call(self, *flags, script="inference.sh", **environment):
        command = ["bash", str(self.root / "scripts" / script), *flags]
        env = {"PATH": str(self.bin), **{name: str(value) for name, value in environment.items()}}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_without_anything_an_environment_is_made_once(machine):
    first = machine.call("--lr", "3")
    assert first.stdout.splitlines() == [
        "setup: installing requirements.txt into .venv (once; takes a few minutes)",
        "venv by system",
        ".venv --inference_only --lr 3",
    ]
    second = machine.call()
    assert (second.stdout, second.stderr) == (".venv --inference_only\n", "")


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_active_environment_with_torch_is_used(machine, tmp_path, variable):
    python = machine.python(tmp_path / "env" / "bin" / "python", "active", EVERYTHING)
    done = machine.call(**{variable: tmp_path / "env"})
    assert (done.returncode, done.stdout) == (0, "active --inference_only\n")
    assert done.stderr == f"setup: using {python}, which has the packages\n"
    assert not (machine.root / ".venv").exists()


def test_the_python_on_the_path_with_torch_is_used(machine):
    """As on Colab."""
    machine.python(machine.bin / "python3", "colab", EVERYTHING)
    assert machine.call().stdout == "colab --inference_only\n"


def test_an_environment_without_the_reports_packages_is_used_all_the_same(machine, tmp_path):
    python = machine.python(tmp_path / "env" / "bin" / "python", "active", PINS)
    done = machine.call(VIRTUAL_ENV=tmp_path / "env")
    assert (done.returncode, done.stdout) == (0, "active --inference_only\n")
    assert done.stderr.splitlines() == [
        f"setup: using {python}, which has the packages",
        f"setup: reports of runs need more; to have them: {python} -m pip install {' '.join(REPORT)}",
    ]


def test_an_environment_that_is_made_gets_the_reports_packages_or_says_so(machine):
    """pip is told of both files; where the second fails, the program runs without reports."""
    machine.python(machine.bin / "python3", "system", {})
    made, calls = machine.bin / "made", machine.root / "calls"
    pip = f'if [ "$1 $2" = "-m pip" ]; then echo "$@" >> {calls}; case "$*" in *report*) exit 1;; esac; exit 0; fi'
    made.write_text(made.read_text().replace('if [ "$1 $2" = "-m pip" ]; then exit 0; fi', pip))
    done = machine.call()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, ".venv --inference_only")
    installed = [line.split()[-1] for line in calls.read_text().splitlines() if " install " in line]
    assert [path.rpartition("/")[2] for path in installed] == ["requirements.txt", "requirements-report.txt"]
    assert "could not install requirements-report.txt" in done.stderr and "without a report" in done.stderr


def test_other_versions_are_named_and_local_labels_are_none(machine, tmp_path):
    packages = {**EVERYTHING, "torch": f"{PINS['torch']}+cu130", "numpy": "2.3.1"}
    machine.python(tmp_path / "env" / "bin" / "python", "active", packages)
    (line,) = machine.call(VIRTUAL_ENV=tmp_path / "env").stderr.splitlines()
    assert line.endswith(f"which has the packages (numpy 2.3.1 instead of {PINS['numpy']})")


def test_an_environment_that_lacks_little_is_told_what(machine, tmp_path):
    packages = {name: version for name, version in PINS.items() if name != "tensorboard"}
    python = machine.python(tmp_path / "env" / "bin" / "python", "active", packages)
    done = machine.call(CONDA_PREFIX=tmp_path / "env")
    assert f"to use it: {python} -m pip install tensorboard\n" in done.stderr
    assert done.stdout.splitlines()[-1] == ".venv --inference_only"


def test_an_environment_without_torch_is_passed_over(machine, tmp_path):
    machine.python(tmp_path / "env" / "bin" / "python", "active", {"numpy": "2.0"})
    done = machine.call(VIRTUAL_ENV=tmp_path / "env", CONDA_PREFIX=tmp_path / "none")
    assert done.stdout.splitlines()[-1] == ".venv --inference_only" and done.stderr == ""


def test_what_is_set_up_stays_in_use(machine, tmp_path):
    """An environment that is activated later changes no results; SAL_PYTHON chooses it."""
    machine.call()
    python = machine.python(tmp_path / "env" / "bin" / "python", "active", EVERYTHING)
    assert machine.call(VIRTUAL_ENV=tmp_path / "env").stdout == ".venv --inference_only\n"
    assert machine.call(SAL_PYTHON=python).stdout == "active --inference_only\n"


def test_sal_python_without_torch_makes_the_environment(machine, tmp_path):
    python = machine.python(tmp_path / "other" / "python3.12", "other", {})
    machine.python(machine.bin / "python3", "colab", EVERYTHING)
    lines = machine.call(SAL_PYTHON=python).stdout.splitlines()
    assert lines[1:] == ["venv by other", ".venv --inference_only"]


@pytest.mark.parametrize("name", ["no/such/python", "false"])
def test_sal_python_that_is_none(machine, name):
    (machine.bin / "false").symlink_to(shutil.which("false"))
    done = machine.call(SAL_PYTHON=name)
    assert done.returncode == 2 and done.stderr == (
        f"setup: '{name}' is not Python 3.11 or newer; install one, or name it in SAL_PYTHON\n"
    )


def test_an_old_python_is_passed_over(machine, monkeypatch):
    old = machine.root / "scripts" / "packages.py"
    old.write_text(old.read_text().replace("OLDEST = (3, 11)", "OLDEST = (4, 0)"))
    machine.python(machine.bin / "python3", "old", PINS)
    assert machine.call().stdout.splitlines()[-1] == ".venv --inference_only"


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("script", ["train.sh", "inference.sh", "check_data.sh", "seeds.sh", "sweep.sh", "ablation.sh"])
def test_help_is_not_worth_a_download(machine, script, flag):
    done = machine.call(flag, script=script)
    assert done.stdout.startswith("system ") and done.stdout.endswith(f"{flag}\n")
    assert not (machine.root / ".venv").exists()


def test_tests_want_what_tests_need(machine, tmp_path):
    """An environment for running the program has no pytest."""
    machine.python(tmp_path / "env" / "bin" / "python", "active", EVERYTHING)
    done = machine.call(script="run_tests.sh", VIRTUAL_ENV=tmp_path / "env")
    assert "installing requirements-dev.txt into .venv" in done.stdout and "pytest" in done.stderr


def test_every_script_passes_on_its_arguments():
    scripts = [path for path in (ROOT / "scripts").glob("*.sh") if path.name != "setup.sh"]
    assert scripts and all('/setup.sh" requirements' in path.read_text() for path in scripts)
    assert all(' "$@"\n' in path.read_text().partition("/setup.sh")[2] for path in scripts)


def test_pins_are_read_through_other_files(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import packages

    pins = packages.pins(pathlib.Path(ROOT / "requirements-dev.txt"))
    assert PINS.items() <= pins.items() and {"pytest", "h5py"} <= pins.keys() and all(pins.values())
