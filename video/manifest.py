"""The videos of an extraction with their lengths, the longest first, in a table that the next run need not measure again.

    listed = manifest(sources, pathlib.Path("DATA/manifest.csv"))
    listed.entries      # Entry(source, seconds, width, height)
    share(listed.entries, Share(2, 8))
write_manifest(pathlib.Path("DATA/manifest.csv"), listed.entries)

Every process that reads the same files makes the same list, so shares need no word between machines: share I of N are the
entries I, I + N, I + 2N .. of it. Dealing the longest first gives every share about the same work.
"""

import csv
import io
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from command_line.progress import progress
from command_line.shares import Share
from formats.regular_files import check_regular
from utils.atomic import write_file
from utils.errors import InputError
from video.containers import UnusableVideo
from video.decode import inspect_video
from video.sources import Source

COLUMNS = ("video", "path", "bytes", "modified", "seconds", "width", "height")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A video that can be opened."""

    source: Source
    seconds: float | None  # as the file states; None if it does not
    width: int  # pixels, as shown
    height: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    entries: tuple[Entry, ...]  # the longest first
    problems: tuple[str, ...]  # a line for each file that is no video


def manifest(sources: Sequence[Source], file: pathlib.Path) -> Manifest:
    """Look into every file that the table does not have as it is now."""
    known = _read(file)
    entries, problems = [], []
    for source in progress(sources, desc="looking into videos", unit="video"):
        entry = known.get(source)
        if entry is None:
            try:
                info = inspect_video(source.path)
            except UnusableVideo as error:
                problems.append(str(error))
                continue
            entry = Entry(source=source, seconds=info.seconds, width=info.width, height=info.height)
        entries.append(entry)
    entries.sort(key=_longest_first)
    return Manifest(entries=tuple(entries), problems=tuple(problems))


def write_manifest(file: pathlib.Path, entries: Sequence[Entry]) -> None:
    """Put these videos into the table; others in it stay, as long as their files are there. Raises InputError."""
    known = _read(file)
    names = {entry.source.name for entry in entries}
    others = [e for e in known.values() if e.source.name not in names and e.source.path.exists()]
    table = sorted([*entries, *others], key=_longest_first)
    if set(table) != set(known.values()):
        write_file(file, lambda target: target.write(_text(table).encode("utf-8", "surrogateescape")))


def _longest_first(entry: Entry) -> tuple[float, str]:
    return -(entry.seconds or math.inf), entry.source.name


def share(entries: Sequence[Entry], shard: Share) -> Sequence[Entry]:
    """Share I of N, counted from 1."""
    return entries[shard.number - 1 :: shard.of]


def _read(file: pathlib.Path) -> dict[Source, Entry]:
    """What an earlier run has measured; nothing where the table is absent or damaged, since it can be made again."""
    try:
        check_regular(file)
        rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode("utf-8", "surrogateescape"), newline="")))
        return {entry.source: entry for entry in map(_entry, rows)}
    except (OSError, InputError, ValueError, KeyError, TypeError, csv.Error):
        return {}


def _entry(row: dict[str, str]) -> Entry:
    source = Source(
        name=row["video"], path=pathlib.Path(row["path"]), size=int(row["bytes"]), modified=int(row["modified"])
    )
    seconds = float(row["seconds"]) if row["seconds"] else None
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(seconds)
    return Entry(source=source, seconds=seconds, width=int(row["width"]), height=int(row["height"]))


def _text(entries: Sequence[Entry]) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for entry in entries:
        of, seconds = entry.source, "" if entry.seconds is None else entry.seconds
        table.writerow([of.name, of.path, of.size, of.modified, seconds, entry.width, entry.height])
    return text.getvalue()
