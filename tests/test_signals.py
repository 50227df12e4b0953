"""Signals to stop: a run is saved and continues to the same numbers; every other command ends with one line."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
import torch
from support.paths import ROOT
from support.tiny import TINY_FLAGS

import test as evaluating
import train
from command_line.console import run_tool
from eval import judging
from run.checkpoint import load_checkpoint
from run.history import History
from run.interrupt import Interrupt

STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def sighup_counts():
    """The tests may themselves run under nohup, whose children inherit that SIGHUP is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def saved(tmp_path, name):
    return load_checkpoint(tmp_path / "out" / name / "last.pt")


def signal_at(monkeypatch, place, name, *, call, number):
    """Have the process send itself a signal during that call of a function."""
    original, calls = getattr(place, name), []

    def with_signal(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    monkeypatch.setattr(place, name, with_signal)
    return calls


@pytest.fixture
def whole(tiny, run, tmp_path):
    """An uninterrupted run, whose evaluations are after steps 8 and 12."""
    assert run(tiny.path, "--exp_name", "whole").code == 0
    return saved(tmp_path, "whole")


def assert_same_end(whole, parts):
    assert all(torch.equal(whole.model[name], parts.model[name]) for name in whole.model)
    assert whole.training["history"] == parts.training["history"]
    assert whole.training["best"] == parts.training["best"] and parts.training["step"] == 12


@pytest.mark.parametrize(
    ("place", "name", "call", "step", "number"),
    [
        (judging, "localize", 1, 8, signal.SIGTERM),
        (judging, "localize", 2, 12, signal.SIGHUP),
        (evaluating, "combined_sequence", 1, 8, signal.SIGINT),
        (History, "add", 1, 8, signal.SIGTERM),
        (train, "train_step", 12, 12, signal.SIGHUP),
    ],
    ids=["first evaluation", "last evaluation", "batch of an evaluation", "after an evaluation", "last step"],
)
def test_a_run_stopped_around_an_evaluation_continues(
    tiny, run, tmp_path, monkeypatch, whole, place, name, call, step, number
):
    with monkeypatch.context() as patch:
        signal_at(patch, place, name, call=call, number=number)
        outcome = run(tiny.path, "--exp_name", "parts")
    assert outcome.code == 1 and outcome.err.count("\n") == 1
    assert f"interrupted at step {step} of 12; continue with --resume --exp_name parts" in outcome.err
    assert saved(tmp_path, "parts").training["step"] == step
    assert run(tiny.path, "--exp_name", "parts", "--resume").code == 0
    assert_same_end(whole, saved(tmp_path, "parts"))


def test_a_stop_in_the_repeated_evaluation_of_a_continued_run(tiny, run, tmp_path, monkeypatch, whole):
    for number in (signal.SIGTERM, signal.SIGHUP):  # both times in the evaluation after step 8
        with monkeypatch.context() as patch:
            signal_at(patch, judging, "localize", call=1, number=number)
            resumed = ["--resume"] if number == signal.SIGHUP else []
            assert "interrupted at step 8" in run(tiny.path, "--exp_name", "parts", *resumed).err
    assert run(tiny.path, "--exp_name", "parts", "--resume").code == 0
    assert_same_end(whole, saved(tmp_path, "parts"))


def test_an_interrupt_that_other_code_turns_into_its_own_error_is_still_one(tiny, run, tmp_path, monkeypatch):
    def evaluate(*_):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            raise ValueError("from C code") from None

    monkeypatch.setattr(evaluating.Evaluator, "__call__", evaluate)
    outcome = run(tiny.path, "--exp_name", "x")
    assert outcome.code == 1 and "interrupted at step 8 of 12" in outcome.err and outcome.err.count("\n") == 1
    assert saved(tmp_path, "x").training["step"] == 8


def test_the_command_to_continue_can_be_pasted(tiny, run, monkeypatch):
    signal_at(monkeypatch, train, "train_step", call=1, number=signal.SIGTERM)
    assert "--resume --exp_name 'my run; rm x' --output_dir " in run(tiny.path, "--exp_name", "my run; rm x").err


@pytest.mark.parametrize("number", STOPPING, ids=lambda number: number.name)
def test_a_second_signal_ends_at_once_unless_the_terminal_repeats_itself(number):
    with Interrupt() as interrupt:
        os.kill(os.getpid(), number)
        assert interrupt.requested
        with contextlib.nullcontext() if number == signal.SIGHUP else pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_sighup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested
        assert run_tool("tool", lambda _: os.kill(os.getpid(), signal.SIGHUP), []) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", STOPPING, ids=lambda number: number.name)
@pytest.mark.parametrize("error", [None, ValueError("from C code"), OSError(5, "I/O", "file")], ids=str)
def test_any_tool_ends_with_one_line(capsys, number, error):
    handlers = [signal.getsignal(number) for number in STOPPING]

    def tool(_):
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            if error:
                raise error from None
            raise

    assert run_tool("tool", tool, [], interrupted="interrupted; the same command continues") == 1
    name = "" if number == signal.SIGINT else f" ({number.name})"
    assert capsys.readouterr().err == f"tool: interrupted; the same command continues{name}\n"
    assert [signal.getsignal(number) for number in STOPPING] == handlers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("program", "module"), [("main.py", "options"), ("main.py", "torch"), ("data_tools/prepare.py", "numpy")]
)
def test_a_signal_while_a_program_is_loaded_is_one_line(tmp_path, number, program, module):
    """The module is replaced by one that sends the signal while it is imported, and lets nobody catch the answer."""
    (tmp_path / f"{module}.py").write_text(
        f"import os\ntry:\n    os.kill(os.getpid(), {number:d})\nexcept BaseException:\n    raise SystemError\n"
    )
    name = program.removesuffix(".py").replace("/", ".")
    code = f"import runpy, sys; sys.path.insert(1, {str(ROOT)!r}); sys.path.insert(0, {str(tmp_path)!r})\n"
    code += f"sys.argv = [{program!r}, '--data_path', 'x']; runpy.run_module({name!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "interrupted" in done.stderr


def test_a_run_whose_terminal_closes_is_saved(tiny, tmp_path):
    """In a terminal of its own: the bar with the loss and the best so far, then SIGHUP, and writes that fail."""
    flags = ["--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", "x", *TINY_FLAGS]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "main.py", *flags, "--num_epochs", "3000"])
    shown = b""
    try:
        while b"best=" not in shown or not (tmp_path / "out" / "x" / "last.pt").exists():
            shown += os.read(terminal, 65536)
    finally:
        os.close(terminal)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert b"training:" in shown and b"loss=" in shown
    assert saved(tmp_path, "x").training["step"] > 4
    assert not (tmp_path / "out" / "x" / ".lock").exists()
