r"""Text that is safe to print. Names in data sets may hold anything, such as sequences that make a terminal do things.

printable("a\x1b[2Jb")            # a\x1b[2Jb, in plain characters
one_line(message)                 # the same without line breaks, and cut to a length that people read
"""

import re

LONGEST = 2000  # characters of a line
ENDING = 600  # of them at its end, where a message says what to do

# Control characters except tab and line break; separators of lines and paragraphs; what turns the direction of text, so that
# a name reads as another one; halves of characters, which no encoding writes.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)"
)


def printable(text: str) -> str:
    """Write control characters as Python's repr does, and leave everything else, tabs and line breaks included."""
    return _UNSAFE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


def one_line(text: str, longest: int = LONGEST) -> str:
    """`text` without line breaks, printable; the middle of a longer one is replaced by "..."."""
    line = printable(" ".join(text.splitlines()))
    if len(line) <= longest:
        return line
    ending = min(ENDING, longest // 3)
    return f"{line[: longest - ending - 3]}...{line[-ending:]}"
