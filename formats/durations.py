"""Lengths of videos in a JSON file, {video: seconds}, for a ground truth that does not state them.

durations = read_durations(path)
"""

import pathlib

from formats.annotations import parse_positive
from formats.ground_truth import read_json
from utils.errors import InputError
from utils.printable import one_line


def read_durations(path: pathlib.Path) -> dict[str, float]:
    """Raises InputError naming the file, or the entry that is not a length."""
    content = read_json(path, duplicate_keys=False)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected {{video: seconds}}")
    durations = {}
    for video, value in content.items():
        where = f"{path}: video '{one_line(video, longest=100)}'"
        seconds = parse_positive(value, where=where, name="duration")
        if seconds is None:
            raise InputError(f"{where}: has no duration; remove the entry, or give it seconds")
        durations[video] = seconds
    return durations
