"""Progress where there is no terminal: a line every half a minute, none for short work."""

import io
import re
import sys

import pytest

from command_line import progress as module
from command_line.progress import Progress, duration, progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_line_every_half_a_minute():
    clock, out = Clock(), io.StringIO()
    with Progress(total=100, desc="reading \x1b[2J", unit="video", out=out, clock=clock) as shown:
        for _ in range(100):
            clock.now += 1
            shown.update()
            if shown.is_due:
                shown.show(loss="0.5", name="a\nb")
                shown.report()
    assert out.getvalue().splitlines() == [
        "reading \\x1b[2J: video 30 of 100, loss 0.5, name a b, 1 s per video, 70 s left",
        "reading \\x1b[2J: video 60 of 100, loss 0.5, name a b, 1 s per video, 40 s left",
        "reading \\x1b[2J: video 90 of 100, loss 0.5, name a b, 1 s per video, 10 s left",
    ]


def test_time_left_of_a_continued_run_does_not_count_what_was_done_before():
    clock, out = Clock(), io.StringIO()
    with Progress(total=1000, desc="training", unit="step", initial=900, out=out, clock=clock) as shown:
        shown.report()
        clock.now += 20
        shown.update(10)
        shown.report()
    assert out.getvalue().splitlines() == [
        "training: step 900 of 1,000",
        "training: step 910 of 1,000, 2 s per step, 3 min left",
    ]


@pytest.mark.parametrize(("seconds", "lines"), [(30.0, 0), (0.0, 3)], ids=["short", "long"])
def test_items_pass_through(monkeypatch, capsys, seconds, lines):
    monkeypatch.setattr(module, "SECONDS", seconds)
    assert list(progress(iter("abc"), desc="reading", unit="video", total=3)) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("reading: video") == lines


def test_on_a_terminal_a_bar_and_no_lines(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "SECONDS", 0.0)
    with Progress(total=2, desc="training", unit="step") as shown:
        shown.update()
        shown.show(loss="0.5")
        assert not shown.is_due
        shown.write("a line")
    assert capsys.readouterr().out == "a line\n"
    assert "training:  50%" in terminal.getvalue() and "loss=0.5" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (5900, "98 min"), (6000, "1 h 40 min"), (90_000, "25 h 00 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_run_without_a_terminal_says_how_it_goes(tiny, run):
    """Step, loss, seconds per step and the time left after every epoch, and every evaluation."""
    out = run(tiny.path, "--exp_name", "x", "--num_epochs", "6").out
    lines = re.findall(r"training: step (\d+) of 24, epoch \d, loss [\d.]+, [\d.e-]+ s per step, \d+ s left\n", out)
    assert lines == ["4", "8", "12", "16", "20", "24"]
    assert re.findall(r"^step (\d+) \(epoch \d\): average mAP", out, re.MULTILINE) == ["8", "12", "16", "20", "24"]


def test_many_short_epochs_do_not_fill_the_log(tiny, run):
    seldom = ("--detection_inf_step", "1000", "--save_epochs", "1000", "--log_steps", "1000")
    out = run(tiny.path, "--exp_name", "x", "--num_epochs", "300", "--batch_size", "7", *seldom).out
    assert out.count("training: step") == 150


def test_the_bar_of_a_run_shows_the_best_of_all_evaluations_at_its_end(tiny, run, monkeypatch):
    shown = []

    class Bar(Progress):
        def __init__(self, **options):
            super().__init__(**options)
            self.bar = self  # which keeps what is set

        def update(self, count=1):
            self.done += count

        def set_postfix(self, numbers):
            shown.append(numbers)

        def clear(self):
            pass

        refresh = close = clear

    monkeypatch.setattr("train.Progress", Bar)
    outcome = run(tiny.path, "--exp_name", "x")
    assert outcome.code == 0
    best = next(line.split()[-1] for line in outcome.out.splitlines() if line.startswith("best "))
    assert best in shown[-1]["best"] and shown[-1]["loss"]
