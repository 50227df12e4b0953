"""Labels and segments as people write them down: CSV tables, one line per video or instance.

video,label                 a video's labels; separate several by ";", or give each its own line
video,label,subset          the same, with the split that the video is in: train or test
video,label,start,end       an action instance, in seconds

Columns may be separated by commas, semicolons (then "1,5" is 1.5) or tabs, and have some other usual names; UTF-8 and UTF-16
are read. All wrong lines of a table are listed at once.
"""

import contextlib
import csv
import io
import pathlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from formats.annotations import Instance, parse_segment
from formats.names import group_of, is_plain_text
from formats.problems import DataError
from formats.regular_files import check_regular
from formats.spelling import similar_to
from utils.errors import InputError, first_of

SEPARATORS = (",", ";", "\t")
# Other names of the columns, in lower case, with "_" for spaces and hyphens.
COLUMNS = {
    "video": ("video", "video_id", "video_name", "videoid", "videoname", "name", "file", "filename", "id"),
    "label": ("label", "labels", "class", "classes", "class_name", "category", "action"),
    "subset": ("subset", "split", "set"),
    "start": ("start", "start_time", "t_start", "begin", "start_(s)", "start_seconds"),
    "end": ("end", "end_time", "t_end", "stop", "end_(s)", "end_seconds"),
}
_DECIMAL = re.compile(r"^(-?\d+),(\d+)$")
_COLUMN_OF = {name: column for column, names in COLUMNS.items() for name in names}


@dataclass(kw_only=True)
class VideoLabels:
    labels: list[str] = field(default_factory=list)
    subset: str = ""  # train, validation, test, or "" if the table does not say
    line: int = 0  # line of the table, for messages


def read_labels(path: pathlib.Path) -> dict[str, VideoLabels]:
    """Read {video: its labels}. It may have none, which only makes sense in test. Raises InputError naming file and lines."""
    videos: dict[str, VideoLabels] = {}
    mistakes: list[str] = []
    for line, row in _rows(path, required=("video", "label"), known=("video", "label", "subset"), mistakes=mistakes):
        where = f"{path} line {line}: video '{row['video']}'"
        video = videos.setdefault(row["video"], VideoLabels(line=line))
        subset = group_of(row["subset"]) if row.get("subset") else ""
        if subset is None:
            mistakes.append(f"{where}: subset '{row['subset']}' is neither train nor test; fix it")
        elif video.subset and subset and video.subset != subset:
            mistakes.append(f"{where}: subset '{row['subset']}', but '{video.subset}' on line {video.line}; fix either")
        video.subset = video.subset or subset or ""
        for label in filter(None, map(str.strip, row["label"].split(";"))):
            if label in video.labels:
                mistakes.append(f"{where}: label '{label}' is repeated; remove one")
            video.labels.append(label)
    refuse(mistakes)
    return videos


def read_segments(
    path: pathlib.Path, videos: dict[str, VideoLabels], labels: pathlib.Path
) -> dict[str, list[Instance]]:
    """Read {video: its instances}. Raises InputError naming file and lines, also if it contradicts the table `labels`."""
    segments: dict[str, list[Instance]] = {}
    mistakes: list[str] = []
    columns = ("video", "label", "start", "end")
    for line, row in _rows(path, required=columns, known=columns, mistakes=mistakes):
        where = f"{path} line {line}: video '{row['video']}'"
        if row["video"] not in videos:
            mistakes.append(f"{where} is not in {labels}; add it there or remove the line")
            continue
        if row["label"] not in videos[row["video"]].labels:
            similar = similar_to(row["label"], videos[row["video"]].labels)
            mistakes.append(f"{where} has label '{row['label']}', but not in {labels}{similar}; fix either")
            continue
        try:
            start, end = parse_segment([row["start"], row["end"]], where=where)
        except DataError as error:
            mistakes.append(str(error))
            continue
        segments.setdefault(row["video"], []).append(Instance(label=row["label"], start=start, end=end))
    refuse(mistakes)
    return segments


def refuse(mistakes: Sequence[str]) -> None:
    """Raise InputError with all mistakes, if there are any."""
    if mistakes:
        message, details = first_of(mistakes)
        raise InputError(message, details=details)


def _rows(
    path: pathlib.Path, *, required: tuple[str, ...], known: tuple[str, ...], mistakes: list[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, {column: text}) for every line that is not blank; `mistakes` gets those that can't be used."""
    text = _read(path)
    separator = _separator(text, required)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        header = _header(next(reader, []))
        if len(header) == 1 and header[0].startswith("sep="):  # Excel's note to itself
            header = _header(next(reader, []))
        if not set(required) <= set(header) <= set(known) or len(set(header)) < len(header):
            shown = separator.join(header)[:80]
            hint = f"; the only known columns are {', '.join(known)}" if set(required) <= set(header) else ""
            line = f"{path} line {reader.line_num or 1}"
            raise InputError(f"{line}: expected the columns {','.join(required)}, found '{shown}'{hint}")
        count = 0
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            count += 1
            where = f"{path} line {reader.line_num}"
            while len(row) > len(header) and not row[-1].strip():
                row.pop()
            cells = dict(zip(header, map(str.strip, row), strict=False))
            if separator == ";":  # where the comma is the decimal point, spreadsheets separate by semicolons
                cells |= {name: _DECIMAL.sub(r"\1.\2", cells[name]) for name in ("start", "end") if name in cells}
            if len(row) != len(header):
                mistakes.append(
                    f"{where}: {len(row)} columns, the first line has {len(header)}; put names with "
                    f"a {_SEPARATOR_NAMES[separator]} in double quotes"
                )
            elif not cells["video"]:
                mistakes.append(f"{where}: no video name; give one or remove the line")
            elif not all(map(is_plain_text, cells.values())):
                bad = next(cell for cell in cells.values() if not is_plain_text(cell))
                mistakes.append(f"{where}: {bad!a} holds a line break or another control character; remove it")
            else:
                yield reader.line_num, cells
        if count == 0:
            raise InputError(f"{path}: no lines after the header; expected one per video")
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: not CSV ({error}); fix the line") from None


_SEPARATOR_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}


def _read(path: pathlib.Path) -> str:
    try:
        check_regular(path)
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in data[:2]:  # UTF-16 without its mark: every other byte of Latin letters is 0
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise InputError(f"{path}: neither UTF-8 nor UTF-16 text; save it as CSV UTF-8") from None


def _separator(text: str, required: tuple[str, ...]) -> str:
    """The separator that gives the first line the required columns; a comma if none does."""
    lines = [line for line in text.splitlines()[:2] if not line.lower().startswith("sep=")] or [""]
    with contextlib.suppress(csv.Error):  # which the reader of the entire table names
        for separator in SEPARATORS:
            if set(required) <= set(_header(next(csv.reader(lines[:1], delimiter=separator), []))):
                return separator
    return ","


def _header(cells: Sequence[str]) -> list[str]:
    """The columns' names as this module calls them; what it does not know stays as it is, empty ones at the end go."""
    names = [cell.strip().lower().replace(" ", "_").replace("-", "_") for cell in cells]
    while names and not names[-1]:
        names.pop()
    return [_COLUMN_OF.get(name, name) for name in names]
