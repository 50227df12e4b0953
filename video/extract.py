"""Extraction of I3D features from video files, as a set that train.sh reads.

bash scripts/extract.sh clips/ --out DATA                              # features alone, a set to find actions in
bash scripts/extract.sh clips/ --out DATA --labels labels.csv          # a set to train on, and the command that does
bash scripts/extract.sh clips/ --out DATA --shard 3/100                # one of a hundred machines' share

Started again, it goes on with what is missing. --plan says what there is to do and how long it takes, and does nothing.
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("video.extract")  # loading the rest takes a moment

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from command_line.console import run_tool
from command_line.flags import Parser
from command_line.shares import WHOLE, Share, parse_share
from data_tools.label_tables import refuse
from data_tools.set_plan import Tables, add_table_flags, plan_set, read_tables
from formats.names import amount, fold_video, known_name, shown
from options import resolve
from run.lock import FolderLock, InUse
from utils.errors import InputError
from utils.processors import settle_in
from video.options import VIDEO_FLAGS, SamplingOptions, VideoOptions
from video.sources import FoundSources, find_sources

if TYPE_CHECKING:
    from video.extraction import Extraction

LOOKS, BETWEEN_LOOKS = 20, 0.1  # of a share at the lock of the whole set; seconds
OUT_OF_MEMORY = "lower --snippet_batch or --short_side"


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 some videos could not be used or interrupted, 2 invalid input."""
    settle_in()
    return run_tool(
        "video.extract",
        extract,
        arguments,
        interrupted="interrupted; the same command continues",
        out_of_memory=OUT_OF_MEMORY,
    )


def extract(arguments: Sequence[str]) -> int:
    flags = vars(_parser().parse_args(arguments))
    options = VIDEO_FLAGS.build({name: flags[name] for name in VIDEO_FLAGS.names if name in flags})
    VIDEO_FLAGS.check(options)
    shard, out = _shard(flags), flags["out"]
    if "labels" not in flags:
        for name in ("annotations", "test_fraction", "seed", "skip_unusable"):
            if flags.get(name):
                raise InputError(f"--{name}: needs --labels, the table of what the videos show")
    found = find_sources(flags["videos"], inside=out)
    tables = read_tables(flags) if "labels" in flags else None
    if tables:
        found, tables = _named(found, tables, skip="skip_unusable" in flags)
    from video.extraction import extract_videos  # torch takes a moment, and mistakes are told before
    from video.feature_set import is_labelled

    if tables is None and is_labelled(out):
        raise InputError(f"{out}: is a set with labels; give --labels again, or another --out")
    with _locked(out, shard):
        extraction = extract_videos(found, out, options, shard=shard, plan="plan" in flags)
        if "plan" not in flags and shard != WHOLE:
            print(_shard_line(extraction, out, shard))
        elif "plan" not in flags:
            print(_finished(extraction, options, tables, flags))
    if extraction.problems and "plan" not in flags:
        print(f"{amount(len(extraction.problems), 'file')} skipped:")
        for line in extraction.problems:
            print(f"    {line}")
    return 1 if extraction.problems else 0


def _parser() -> Parser:
    parser = Parser("video.extract", "Extracts I3D features from video files.", VIDEO_FLAGS)
    path = pathlib.Path
    parser.add_argument(
        "videos", type=path, nargs="+", metavar="VIDEO_OR_FOLDER", help="video files, or folders of them"
    )
    parser.add_argument(
        "--out", type=path, required=True, metavar="DATA", help="folder of the features, new or of an earlier call"
    )
    add_table_flags(parser, required=False)
    parser.add_argument(
        "--skip_unusable", action="store_true", help="leave out videos of the table that have no file, and say how many"
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="extract share I of N, counted from 1: a Slurm array has one each"
    )
    parser.add_argument(
        "--plan", action="store_true", help="say what there is to do and how long it takes, and do nothing"
    )
    parser.add_options(VIDEO_FLAGS.names)
    return parser


@contextlib.contextmanager
def _locked(out: pathlib.Path, shard: Share) -> Iterator[None]:
    """Keep others from the same share, and from the whole set while any share is written. Raises InUse.

    A share looks whether the whole set is locked, for a moment in which other shares may look as well.
    """
    shares, instead = out / ".shards", "another --out"
    with contextlib.ExitStack() as locks:
        if shard == WHOLE:
            locks.enter_context(FolderLock(out, instead=instead))
            for place in sorted(shares.glob("*-of-*")):
                locks.enter_context(FolderLock(place, instead=instead))
            yield
            return
        locks.enter_context(FolderLock(shares / f"{shard.number}-of-{shard.of}", instead=instead))
        for left in reversed(range(LOOKS)):
            try:
                with FolderLock(out, instead=instead):
                    break
            except InUse:
                if not left:
                    raise
                time.sleep(BETWEEN_LOOKS)
        yield


def _shard(flags: Mapping[str, Any]) -> Share:
    try:
        return parse_share(flags["shard"]) if "shard" in flags else WHOLE
    except InputError as error:
        raise InputError(f"--shard: {error}") from None


def _named(found: FoundSources, tables: Tables, *, skip: bool) -> tuple[FoundSources, Tables]:
    """The videos that the tables name, by their files' names with or without ending, and the tables under those names.

    Raises InputError for names without a file, unless they are to be skipped.
    """
    by_name = {source.name.strip(): source for source in found.sources}  # as cells of the table are
    by_name |= {source.path.name.strip(): source for source in found.sources}
    sources = {name: by_name[file] for name in tables.labels if (file := known_name(name, by_name)) is not None}
    lost = [name for name in tables.labels if name not in sources]
    if lost and (not skip or not sources):
        alike = {fold_video(source.name): source.path.name for source in found.sources}

        def mistake(name: str) -> str:
            file = alike.get(fold_video(name))
            there = (
                f"there is '{file}': write the name so" if file else f"there are {shown(s.name for s in found.sources)}"
            )
            fix = "" if file else "; get the file, remove the line, or leave such videos out with --skip_unusable"
            return f"{tables.path} line {tables.labels[name].line}: no file of video '{name}', {there}{fix}"

        refuse([mistake(name) for name in lost])
    names: dict[str, str] = {}  # of a video, in the table
    for name, source in sources.items():
        if source.name in names:
            line, where = tables.labels[name].line, tables.path
            raise InputError(
                f"{where} line {line}: '{name}' is the file of '{names[source.name]}' above; write it once"
            )
        names[source.name] = name
    if lost:
        print(f"left out: {amount(len(lost), 'video')} without a file, such as {shown(lost[:1])}")
    if len(names) < len(found.sources):
        print(f"left out: {amount(len(found.sources) - len(names), 'video')} that {tables.path} does not name")
    kept = tuple(source for source in found.sources if source.name in names)
    return replace(found, sources=kept), tables.renamed({name: video for video, name in names.items()})


def _shard_line(extraction: "Extraction", out: pathlib.Path, shard: Share) -> str:
    missing = (
        f"{amount(extraction.missing, 'video')} not extracted yet" if extraction.missing else "all videos are there"
    )
    return f"{out}: share {shard.number} of {shard.of} is done, {missing}; the same command without --shard completes the set"


def _finished(extraction: "Extraction", options: VideoOptions, tables: Tables | None, flags: Mapping[str, Any]) -> str:
    """Complete the set; say what it holds, and the next command."""
    out, videos = extraction.folder.path, extraction.videos
    if not videos:
        raise InputError(f"{out}: no video could be used; the lines above say why", details=extraction.problems)
    if tables is None:
        videos = extraction.finish_unlabelled()
        snippets = sum(video.num_snippets for video in videos)
        return (
            f"{out}: {amount(len(videos), 'video')}, {snippets:,} snippets of {' and '.join(options.streams)}\n"
            f"next: a table of what they show makes a set to train on: the same command with --labels labels.csv"
        )
    modal = {} if len(options.streams) > 1 else {"modal": options.streams[0]}
    sampling, usual = options.sampling, SamplingOptions()
    grid: dict[str, float] = {}
    if sampling.grid != usual.grid:
        grid |= {"snippet_frames": sampling.grid.frames, "snippet_stride": sampling.grid.stride}
    if sampling.fps != usual.fps:
        grid["fps"] = sampling.fps
    # What could not be used has been told.
    data = resolve({**modal, **grid, "skip_unusable": True}).data
    stored = {video.name: dict(video.features) for video in videos}
    plan = plan_set(stored, tables, data, flags, folder=out)
    extraction.folder.finish(plan.names, plan.annotations)
    return plan.report(out, {**modal, **grid}, timed=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
