"""Labels and segments as people write them down: CSV tables, one line per video or instance.

video,label                 a video's labels; separate several by ";", or give each its own line
video,label,subset          the same, with the split that the video is in: train or test
video,label,start,end       an action instance, in seconds
"""

import csv
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from formats.annotations import Instance, parse_segment
from formats.names import group_of
from formats.regular_files import check_regular
from utils.errors import InputError


@dataclass(kw_only=True)
class VideoLabels:
    labels: list[str] = field(default_factory=list)
    subset: str = ""  # train, validation, test, or "" if the table does not say
    line: int = 0  # line of the table, for messages


def read_labels(path: pathlib.Path) -> dict[str, VideoLabels]:
    """Read {video: its labels}. It may have none, which only makes sense in test. Raises InputError naming file and line."""
    videos: dict[str, VideoLabels] = {}
    for line, row in _rows(path, required=("video", "label"), known=("video", "label", "subset")):
        where = f"{path} line {line}: video '{row['video']}'"
        video = videos.setdefault(row["video"], VideoLabels(line=line))
        subset = group_of(row["subset"]) if row.get("subset") else ""
        if subset is None:
            raise InputError(f"{where}: subset '{row['subset']}' is neither train nor test; fix it")
        if video.subset and subset and video.subset != subset:
            raise InputError(
                f"{where}: subset '{row['subset']}', but '{video.subset}' on line {video.line}; fix either"
            )
        video.subset = video.subset or subset
        for label in filter(None, map(str.strip, row["label"].split(";"))):
            if label in video.labels:
                raise InputError(f"{where}: label '{label}' is repeated; remove one")
            video.labels.append(label)
    return videos


def read_segments(
    path: pathlib.Path, videos: dict[str, VideoLabels], labels: pathlib.Path
) -> dict[str, list[Instance]]:
    """Read {video: its instances}. Raises InputError naming file and line, also if it contradicts the table `labels`."""
    segments: dict[str, list[Instance]] = {}
    columns = ("video", "label", "start", "end")
    for line, row in _rows(path, required=columns, known=columns):
        where = f"{path} line {line}: video '{row['video']}'"
        if row["video"] not in videos:
            raise InputError(f"{where} is not in {labels}; add it there or remove the line")
        if row["label"] not in videos[row["video"]].labels:
            raise InputError(f"{where} has label '{row['label']}', but not in {labels}; fix either")
        start, end = parse_segment([row["start"], row["end"]], where=where)
        instance = Instance(label=row["label"], start=start, end=end)
        segments.setdefault(row["video"], []).append(instance)
    return segments


def _rows(
    path: pathlib.Path, *, required: tuple[str, ...], known: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, {column: text}) for every line that is not blank."""
    try:
        check_regular(path)
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            if not set(required) <= set(header) <= set(known) or len(set(header)) < len(header):
                shown, hint = ",".join(header)[:80], ""
                if len(header) == 1 and any(mark in shown for mark in ";\t"):
                    hint = "; columns are separated by commas"
                elif set(required) <= set(header):
                    hint = f"; the only known columns are {', '.join(known)}"
                raise InputError(f"{path} line 1: expected the columns {','.join(required)}, found '{shown}'{hint}")
            count = 0
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"{path} line {reader.line_num}: {len(row)} columns, the first line has {len(header)}; put names with "
                        "a comma in double quotes"
                    )
                cells = dict(zip(header, map(str.strip, row), strict=True))
                if not cells["video"]:
                    raise InputError(f"{path} line {reader.line_num}: no video name; give one or remove the line")
                count += 1
                yield reader.line_num, cells
            if count == 0:
                raise InputError(f"{path}: no lines after the header; expected one per video")
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num}: not CSV ({error}); fix the line") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save it as CSV UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
