"""Output that fails ends no command and changes no exit code; what is printed can't control the terminal."""

import io
import os
import subprocess
import sys

import pytest
from support.paths import ROOT
from support.tiny import TINY_FLAGS

from command_line.console import run_tool
from command_line.output import GuardedStream, guarded_output
from run.checkpoint import load_checkpoint
from utils.errors import InputError, TrainingError
from utils.printable import LONGEST, one_line, printable

# Prints more than any buffer holds, in every way, then tells through its exit code and a file that it came to its end.
TOOL = """
import pathlib, sys
from command_line.console import run_tool
from utils.errors import InputError
from command_line.progress import progress
def tool(arguments):
    for i in progress(range(3000), desc="working", unit="item"):
        print("x" * 100)
        print("y" * 100, file=sys.stderr)
    sys.stdout.write("z")
    pathlib.Path(arguments[0]).write_text("done")
    if arguments[1:]:
        raise InputError("a mistake")
    return 7
sys.exit(run_tool("tool", tool, sys.argv[1:]))
"""
SINKS = {
    "closed pipes": "2>&1 | true",
    "head": "| head -n 1",
    "no stdout": ">&-",
    "no stderr": "2>&-",
    "neither": ">&- 2>&-",
    "no stdin either": "<&- >&- 2>&-",
    "full disk": "> /dev/full 2>&1",
    "full disk for errors": "2> /dev/full",
}


@pytest.mark.parametrize("mistake", [False, True], ids=["fine", "mistake"])
@pytest.mark.parametrize("sink", SINKS)
def test_a_command_comes_to_its_end_wherever_its_output_goes(tmp_path, sink, mistake):
    script = f'"$0" -c "$1" "$2" {"mistake" * mistake} {SINKS[sink]}; exit ${{PIPESTATUS[0]}}'
    command = ["bash", "-c", script, sys.executable, TOOL, str(tmp_path / "end")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == (2 if mistake else 7)
    assert (tmp_path / "end").read_text() == "done"
    for text in ("Traceback", "Exception ignored", "Errno"):
        assert text not in done.stdout + done.stderr


def test_training_survives_the_end_of_its_reader(tiny, tmp_path):
    """As with `| head -1` or a tee that dies: it ends as if nothing had happened, and says nothing."""
    flags = ["--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", "x", *TINY_FLAGS]
    command = ["bash", "-c", '"$@" 2>"$0" | head -n 1; exit ${PIPESTATUS[0]}', str(tmp_path / "errors")]
    done = subprocess.run(
        [*command, sys.executable, "main.py", *flags], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    assert (tmp_path / "errors").read_text() == ""
    assert load_checkpoint(tmp_path / "out" / "x" / "last.pt").training["step"] == 12


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_name_can_be_printed_in_any_encoding(encoding):
    code = "import sys; from command_line.output import guarded_output\nwith guarded_output(): "
    code += "print('é 跳水 \\udce9', file=sys.stderr); print('跳')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0
    shown = {"ascii": "\\xe9 \\u8df3\\u6c34", "latin-1": "é \\u8df3\\u6c34", "utf-8": "é 跳水"}[encoding]
    assert done.stderr.decode(encoding) == f"{shown} \\udce9\n"


class Broken(io.StringIO):
    """A stream that fails at its first write."""

    def __init__(self, error):
        super().__init__()
        self.error, self.writes = error, 0

    def write(self, text):
        self.writes += 1
        raise self.error

    def isatty(self):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"), ValueError("closed")]
)
def test_a_stream_that_failed_is_left_alone(error):
    stream = Broken(error)
    guarded = GuardedStream(stream)
    for _ in range(3):
        print("text", file=guarded, flush=True)
    guarded.writelines(["a", "b"])
    assert stream.writes == 1 and not guarded.isatty()


def test_a_reader_that_is_slow_loses_a_text_and_no_more():
    stream = Broken(BlockingIOError(11, "Resource temporarily unavailable"))
    guarded = GuardedStream(stream)
    guarded.write("a")
    guarded.write("b")
    assert stream.writes == 2


def test_streams_are_as_before_afterwards(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    before = sys.stdout

    def fails():
        with guarded_output():
            print("lost", file=sys.stderr)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert sys.stdout is before and sys.stderr is None


# Names

HOSTILE = {
    "clears the screen": ("a\x1b[2J", r"a\x1b[2J"),
    "sets the title": ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
    "C1": ("\x9b31m", r"\x9b31m"),
    "goes back over the line": ("fine\rbad", r"fine\rbad"),
    "deletes": ("bad\b\b\b\x7f", r"bad\x08\x08\x08\x7f"),
    "turns the direction": ("\u202etxt.exe\u2066", r"\u202etxt.exe\u2066"),
    "no text": ("\0\udcff", r"\x00\udcff"),
    "other lines": ("a\u2028b\x85c\x0bd", r"a\u2028b\x85c\x0bd"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_controls_a_terminal_is_shown_as_text(kind, capsys):
    name, shown = HOSTILE[kind]
    assert printable(name) == shown
    assert run_tool("tool", lambda _: print(f"class {name}"), []) == 0
    assert capsys.readouterr().out == f"class {shown}\n"


def test_what_is_no_danger_stays():
    text = "tab\tbreak\nWindows\r\némile 跳水 🏊 a\u0308 back\\slash"
    assert printable(text) == text


@pytest.mark.parametrize("kind", [InputError, TrainingError])
def test_an_error_is_one_line_of_a_length_that_people_read(kind, capsys):
    name = "\x1b[2J" + "x\n" * 100_000

    def tool(_):
        raise kind(f"gt.json: label '{name}' is no class; fix it")

    run_tool("tool", tool, [])
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) <= LONGEST and "\x1b" not in line
    assert "gt.json: label '\\x1b[2Jx x" in line and line.endswith("is no class; fix it") and "..." in line


@pytest.mark.parametrize("length", [0, 9, 10, 11, 1000])
def test_lines_are_cut_in_the_middle(length):
    line = one_line("a" * length, 10)
    assert line == ("a" * length if length <= 10 else "aaaa...aaa")


def test_a_hostile_label_in_training_and_check(tiny, run):
    """From the ground truth to the table of classes, and to an error."""
    label = "Dive\x1b[2J\u202e"
    rename = {"Dive": label}

    def edit(database):
        for entry in database.values():
            for note in entry["annotations"]:
                note["label"] = rename.get(note["label"], note["label"])

    tiny.edit_gt(edit)
    outputs = [run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--verbose"), run(tiny.path, "--check_data")]
    assert outputs[0].code == 0 and "Dive\\x1b[2J" in outputs[0].out and "Dive\\x1b[2J" in outputs[1].out
    for output in outputs:
        assert "\x1b" not in output.out + output.err and "\u202e" not in output.out + output.err
