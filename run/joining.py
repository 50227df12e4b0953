"""The shares of --predict joined into the files that one process would have written.

print(join_shares(out, found, work))                 # Work, see run/sharing.py

Joining holds every detection once, as numbers in arrays, and one share's file at a time.
"""

import contextlib
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from command_line.shares import Share
from formats.ground_truth import read_json
from formats.names import amount
from formats.regular_files import check_regular, sha256_of
from formats.result_file import Entry, entries_of, read_detections
from formats.unlabelled import FoundVideos
from run.predicting import DETECTIONS, RESULTS, TABLE, write_files
from run.sharing import Work, damaged, read_share, shares_in
from utils.errors import InputError
from utils.segments import Segments

# What may move the last digits of what a share finds; results.json says where the shares differ.
FACTS = ("device", "processor", "precision", "threads", "products", "versions", "git_commit")
MOST_NAMED = 10  # missing shares


def join_shares(out: pathlib.Path, found: FoundVideos, work: Work) -> str:
    """Write detections.json, detections.csv and results.json of all shares into `out`. Returns what to say of it.

    Nothing is done where they are there already, joined of the very files that the shares have now. Raises InputError when
    shares are missing, damaged, or of another work.
    """
    folders = shares_in(out)
    count = next(iter(folders)).of
    _check_complete(out, folders, count)
    stated = {share: read_share(folder, work) for share, folder in folders.items()}
    # Before the files are read: of a share that is made again meanwhile, the old one is noted, and joined again next time.
    digests = _digests(folders)
    if _is_joined(out, digests):
        return f"{out}: the {count} shares are joined already"
    detections = {share: _detections(folders[share], stated[share], work.classes) for share in folders}
    videos = _videos(found, stated, out)
    total = sum(map(len, detections.values()))

    def entries() -> Iterator[Entry]:
        of_shares = {
            share: entries_of(detections[share], list(stated[share]["videos"]), work.classes) for share in folders
        }
        for share in videos.values():
            yield next(of_shares[share])

    (out / RESULTS).unlink(missing_ok=True)  # an earlier one, which would not fit the new detections
    write_files(out, entries, _results(videos, stated, total, digests))
    differ = _differences(stated)
    note = (
        f"\nnote: the shares differ in {', '.join(differ)}: last digits may be others than of one process"
        if differ
        else ""
    )
    return f"{amount(total, 'detection')} in {amount(len(videos), 'video')}, of {count} shares; results in {out}{note}"


def _digests(folders: Mapping[Share, pathlib.Path]) -> dict[str, str]:
    """{"shard-1-of-2/results.json": its SHA-256} of what is joined of all shares. Raises InputError for what is no file."""
    digests = {}
    for folder in folders.values():
        for name in (RESULTS, DETECTIONS):
            try:
                check_regular(folder / name)
                digests[f"{folder.name}/{name}"] = sha256_of(folder / name)
            except OSError:
                raise damaged(folder) from None
    return digests


def _is_joined(out: pathlib.Path, digests: Mapping[str, str]) -> bool:
    """Whether `out` has all three files, joined of shares with these digests."""
    if not all((out / name).is_file() for name in (DETECTIONS, TABLE, RESULTS)):
        return False
    with contextlib.suppress(InputError):  # unreadable: made again
        results = read_json(out / RESULTS)
        shares = results.get("shares") if isinstance(results, dict) else None
        return isinstance(shares, dict) and shares.get("files") == digests
    return False


def _check_complete(out: pathlib.Path, folders: Mapping[Share, pathlib.Path], count: int) -> None:
    if len(folders) == count:
        return
    missing = [f"{index}/{count}" for index in range(1, min(count, 100_000) + 1) if Share(index, count) not in folders]
    more = f" and {count - len(folders) - MOST_NAMED:,} more" if count - len(folders) > MOST_NAMED else ""
    raise InputError(
        f"--out {out}: holds {len(folders)} of {count} shares; missing: {', '.join(missing[:MOST_NAMED])}{more}; run each with "
        "--shard I/N, then this again"
    )


def _videos(found: FoundVideos, stated: Mapping[Share, Mapping[str, Any]], out: pathlib.Path) -> dict[str, Share]:
    """The share of every video, in the order of one process. Raises InputError where shares don't make up the whole."""
    share_of: dict[str, Share] = {}
    left_out = set[str]()
    order = {video: position for position, video in enumerate(found.videos)}
    for share, results in stated.items():
        for video in results["videos"]:
            if video in share_of or video not in order:
                raise InputError(
                    f"--out {out}: share {share} has '{video}', which is another's; remove it, and run it again"
                )
            share_of[video] = share
        positions = [order[video] for video in results["videos"]]
        if positions != sorted(positions):
            raise InputError(f"--out {out}: share {share} has its videos in another order; remove it, and run it again")
        left_out |= {video for video, _ in results["share"]["left_out"]}
    lost = next((video for video in found.videos if video not in share_of and video not in left_out), None)
    if lost is not None:
        raise InputError(f"--out {out}: no share has video '{lost}'; remove the shares, and run them again")
    return {video: share_of[video] for video in found.videos if video in share_of}


def _detections(folder: pathlib.Path, results: Mapping[str, Any], classes: tuple[str, ...]) -> Segments:
    """The detections of a share. Raises InputError when its files contradict each other."""
    read = read_detections(folder / DETECTIONS)
    own = read.detections
    fits = read.videos == tuple(results["videos"]) and set(read.labels) <= set(classes)
    if not fits or len(own) != results.get("detections"):
        raise damaged(folder)
    codes = np.array([classes.index(label) for label in read.labels], np.int64)
    return Segments(own.video, codes[own.label], own.start, own.end, own.score)


def _results(
    videos: Mapping[str, Share], stated: Mapping[Share, Mapping[str, Any]], total: int, digests: Mapping[str, str]
) -> dict[str, Any]:
    """results.json: that of the first share, but for what is of all."""
    first = next(iter(stated.values()))
    left_out = {tuple(entry) for results in stated.values() for entry in results["share"]["left_out"]}
    own = {
        "videos": {video: stated[share]["videos"][video] for video, share in videos.items()},
        "detections": total,
        "left_out": dict(Counter(kind for _, kind in sorted(left_out))),
        "options": {**first["options"], "shard": "1/1"},
        "shares": {"count": len(stated), "differ": _differences(stated), "files": digests},
    }
    return {name: own.get(name, value) for name, value in {**first, **own}.items() if name != "share"}


def _differences(stated: Mapping[Share, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """{what: its values} of FACTS that are not the same for all shares."""
    differ: dict[str, list[Any]] = {}
    for name in FACTS:
        values: list[Any] = []
        for results in stated.values():
            if results.get(name) not in values:
                values.append(results.get(name))
        if len(values) > 1:
            differ[name] = values
    return differ
