"""The video files that a user names, in files and folders, each under the name that its features will have.

    found = find_sources([pathlib.Path("clips")], inside=pathlib.Path("DATA"))
    found.sources       # Source(name, path, size, modified)
    found.problems      # a line for each file or folder that can't be used

A video is named after its file, without the ending. So two files may not share one name.
"""

import os
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from formats.names import is_file_name
from utils.errors import InputError
from utils.printable import one_line

# Endings by which videos are found in a folder; a file that is named may have any.
SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv"),
    *(".ts", ".mts", ".m2ts", ".vob", ".asf", ".divx", ".gif"),
)


RESULTS = ("detections.json", "results.json")  # a folder with these is one of predictions: its videos are copies


@dataclass(frozen=True, kw_only=True)
class Source:
    """A video file."""

    name: str  # of the video: the file's, without its ending
    path: pathlib.Path
    size: int  # bytes
    modified: int  # nanoseconds since 1970

    @classmethod
    def of(cls, path: pathlib.Path) -> "Source":
        """Raises OSError when the file can't be looked at."""
        status = os.stat(path)
        return cls(name=path.stem, path=path, size=status.st_size, modified=status.st_mtime_ns)


@dataclass(frozen=True, kw_only=True)
class FoundSources:
    sources: tuple[Source, ...]  # by name
    problems: tuple[str, ...]  # a line for each file or folder that can't be used


def find_sources(paths: Sequence[pathlib.Path], *, inside: pathlib.Path) -> FoundSources:
    """Find the videos in files and in folders, whatever their depth; `inside`, the folder of the features, is passed over.

    Raises InputError when a path does not exist, or when nothing is found.
    """
    problems: list[str] = []
    named: dict[str, list[Source]] = defaultdict(list)
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        files = list(_files_in(path, os.path.realpath(inside), problems)) if path.is_dir() else [path]
        if not files:
            problems.append(f"{path}: holds no videos ({', '.join(SUFFIXES[:6])} ..); name another folder, or files")
        for file in files:
            try:
                source = Source.of(file)
            except OSError as error:
                problems.append(f"{file}: can't be read ({error.strerror}); check the file")
                continue
            if is_file_name(source.name):
                named[source.name].append(source)
            else:
                problems.append(
                    f"{file}: its name can't be that of a video: too long, or with odd characters; rename it"
                )
    sources = []
    for name, same in sorted(named.items()):
        different = list({os.path.realpath(source.path): source for source in same}.values())
        if len(different) == 1:
            sources.append(same[0])
        for source in different if len(different) > 1 else ():
            other = next(s.path for s in different if s is not source)
            problems.append(f"{source.path}: has the name of {other}, so both would be video '{name}'; rename one")
    if not sources:
        first, *more = problems
        raise InputError(first, details=more)
    return FoundSources(sources=tuple(sources), problems=tuple(map(one_line, problems)))


def _files_in(folder: pathlib.Path, inside: str, problems: list[str]) -> Iterator[pathlib.Path]:
    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: can't be read ({error.strerror}); check the folder")

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(
            name for name in folders if name[0] != "." and os.path.realpath(os.path.join(place, name)) != inside
        )
        if set(RESULTS) <= set(names):
            continue
        for name in sorted(names):
            if name[0] != "." and name.lower().endswith(SUFFIXES):
                yield pathlib.Path(place, name)
