"""Detections and instances as subtitles, which any player shows: WebVTT (.vtt) and Advanced SubStation (.ass).

cues = [Cue(start=1.5, end=4.0, label="Dive", score=0.83), Cue(start=1.4, end=3.9, label="Dive", score=None)]
vtt_text(cues)
ass_text(cues, title="video_test_0000004")

Detections stand at the bottom of the picture, what is true, a cue without a score, at the top. Formats: W3C, WebVTT; Aegisub,
ASS specification. Labels may hold anything: they are shown as text.
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass

from utils.printable import one_line

LONGEST_LABEL = 200  # characters
WORD_JOINER = "\u2060"  # invisible; keeps a backslash from being read with what follows

_ASS_HEAD = """[Script Info]
Title: {title}
ScriptType: v4.00+
PlayResX: 1280
PlayResY: 720
WrapStyle: 0

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Detection,Arial,36,&H00FFFFFF,&H00FFFFFF,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,2,0,2,20,20,20,1
Style: Reference,Arial,36,&H0073DFFF,&H00FFFFFF,&H00000000,&H80000000,0,0,0,0,100,100,0,0,1,2,0,8,20,20,20,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@dataclass(frozen=True, kw_only=True)
class Cue:
    """What is to be read from `start` to `end` seconds."""

    start: float
    end: float
    label: str
    score: float | None  # None for an instance of the ground truth

    @property
    def text(self) -> str:
        """The label on one line, and the score or that it is the truth."""
        label = one_line(self.label, LONGEST_LABEL)
        return f"{label} (reference)" if self.score is None else f"{label} {self.score:.2f}"


def is_visible(cue: Cue) -> bool:
    """Whether it ends after its start and after second 0."""
    return cue.end > max(cue.start, 0)


def visible(cues: Iterable[Cue], *, per_second: int) -> list[tuple[int, int, Cue]]:
    """(start, end, cue) in units of 1 / per_second, by start: those that `is_visible`.

    A start before second 0 becomes 0, and every cue lasts a unit at least.
    """
    placed = [
        (start, max(round(cue.end * per_second), start + 1), cue)
        for cue in cues
        if is_visible(cue)
        for start in [round(max(cue.start, 0) * per_second)]
    ]
    return sorted(placed, key=lambda place: place[:2])


def vtt_text(cues: Iterable[Cue]) -> str:
    """A WebVTT file."""
    blocks = ["WEBVTT"]
    for start, end, cue in visible(cues, per_second=1000):
        place = " line:0" if cue.score is None else ""
        blocks.append(f"{_clock(start, 1000)} --> {_clock(end, 1000)}{place}\n{html.escape(cue.text, quote=False)}")
    return "\n\n".join(blocks) + "\n"


def ass_text(cues: Iterable[Cue], *, title: str) -> str:
    """An Advanced SubStation file."""
    lines = [_ASS_HEAD.format(title=one_line(title, LONGEST_LABEL))]
    for start, end, cue in visible(cues, per_second=100):
        style = "Reference" if cue.score is None else "Detection"
        times = f"{_clock(start, 100).removeprefix('0')},{_clock(end, 100).removeprefix('0')}"
        lines.append(f"Dialogue: 0,{times},{style},,0,0,0,,{_ass_escaped(cue.text)}\n")
    return "".join(lines)


def _ass_escaped(text: str) -> str:
    r"""Text in which no backslash begins a command such as \N, and no brace a block of them, as libass reads it (VLC, mpv)."""
    return text.replace("\\", "\\" + WORD_JOINER).replace("{", "\\{").replace("}", "\\}")


def _clock(units: int, per_second: int) -> str:
    """hh:mm:ss and the fraction: "01:02:03.450" of thousandths."""
    seconds, fraction = divmod(units, per_second)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{fraction:0{len(str(per_second)) - 1}}"
