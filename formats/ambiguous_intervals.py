"""Lists of the intervals that annotators could not classify: text files with a video, a start and an end on each line.

for video, start, end in read_ambiguous_intervals(path): ...        # seconds

THUMOS'14 comes with such a list for its test videos.
"""

import pathlib

from formats.annotations import parse_segment
from formats.name_lists import read_lines
from utils.errors import InputError
from utils.printable import one_line

FORM = "a video, a start and an end in seconds on each line"


def read_ambiguous_intervals(path: pathlib.Path) -> list[tuple[str, float, float]]:
    """(video, start, end) of every line that is not blank; a video's name may hold spaces.

    Raises InputError, which names the line, for anything else, and DataError for an end that is not after its start.
    """
    intervals = []
    for number, line in enumerate(read_lines(path, where=str(path), expected=FORM), 1):
        if not line:
            continue
        where = f"{path}: line {number}"
        words = line.rsplit(maxsplit=2)
        if len(words) != 3:
            raise InputError(f"{where}: expected {FORM}, not '{one_line(line, longest=80)}'; fix or remove it")
        intervals.append((words[0], *parse_segment(words[1:], where=where)))
    return intervals
