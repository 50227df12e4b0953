"""Shares of a work, as --shard I/N names them: N processes, on any machines, do one each, without a word between them.

parse_share("3/8") == Share(3, 8)
"""

import re
from typing import NamedTuple

from utils.errors import InputError
from utils.printable import one_line


class Share(NamedTuple):
    """Share `number` of `of`, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Share(1, 1)


def parse_share(text: str) -> Share:
    """Read I/N. Raises InputError unless 1 <= I <= N."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"'{one_line(text, 40)}' must be I/N, share I of N, such as 1/8 to 8/8")
    return Share(int(match[1]), int(match[2]))
