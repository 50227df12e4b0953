"""Predictions of many videos by N processes without a word between them: which videos are whose, and the folders they write.

    DIR/shard-2-of-8/       what share 2 of 8 found, as --predict writes it; complete or absent
    DIR/detections.json     .. and the rest, joined of all shares (run/joining.py)

    for part in parts_of(len(videos), share): part.own(batches)         # of the batches that one process would make of them
    work = work_of(found, options, checkpoint, model=path)                          # what all shares of a folder have in common
    folder = share_folder(out, share, model=path); is_finished(folder, work)

Shares hold whole batches, since a video's last digits depend on the batch that it is computed in: so the shares' detections are
those of one process to the last bit.
"""

import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from command_line.shares import Share
from formats.ground_truth import read_json
from formats.regular_files import sha256_of
from formats.unlabelled import FoundVideos
from options import CALL_FLAGS, FLAGS, LAST_BIT_FLAGS, NEUTRAL_FLAGS, Options, as_plain
from run.checkpoint import Checkpoint
from run.predicting import RESULTS, Skipped, check_place
from utils.errors import InputError

VIDEOS_AT_ONCE = 1024  # that batches are made of together; a share opens no more than these of other shares' videos
# Flags that the shares of a folder have in common; batches of another size would be other batches.
COMMON_FLAGS = tuple(
    name for name in FLAGS.names if name not in CALL_FLAGS | NEUTRAL_FLAGS | LAST_BIT_FLAGS or name == "test_batch_size"
)
_FOLDER = re.compile(r"shard-([0-9]{1,9})-of-([0-9]{1,9})")
_Batch = TypeVar("_Batch")


class Part(NamedTuple):
    """Neighbouring videos whose batches `members` shares have between them; this one is number `member`, from 0."""

    videos: range
    member: int
    members: int

    def own(self, batches: Sequence[_Batch]) -> Sequence[_Batch]:
        return batches[self.member :: self.members]


def parts_of(count: int, share: Share) -> Iterator[Part]:
    """The parts of `count` videos, VIDEOS_AT_ONCE each, that a share has some of. Where shares are fewer, it has whole ones."""
    parts = -(-count // VIDEOS_AT_ONCE)
    for part in range(parts):
        first, position = part * VIDEOS_AT_ONCE, share.number - 1
        videos = range(first, min(first + VIDEOS_AT_ONCE, count))
        if share.of <= parts and part % share.of == position:
            yield Part(videos, 0, 1)
        elif share.of > parts and position % parts == part:
            yield Part(videos, position // parts, -(-(share.of - part) // parts))


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all shares of a folder have in common."""

    model: str  # SHA-256 of the file
    classes: tuple[str, ...]
    videos: str  # SHA-256 of their names in order, with the frame rates and durations stated
    options: Mapping[str, Any]  # COMMON_FLAGS

    def stated(self, share: Share, skipped: Skipped) -> dict[str, Any]:
        """What results.json of a share says of it."""
        left_out = sorted({(problem.video, str(problem.kind.value)) for problem in skipped.problems})
        return {
            "share": {
                "number": share.number,
                "of": share.of,
                "model": self.model,
                "videos": self.videos,
                "left_out": left_out,
            }
        }


def work_of(found: FoundVideos, options: Options, checkpoint: Checkpoint, *, model: pathlib.Path) -> Work:
    """The work of a call; `model` is the checkpoint's file."""
    digest = hashlib.sha256()
    for name in found.videos:
        stated = found.stated(name)
        digest.update(repr((name, stated.fps, stated.duration)).encode())
    plain = as_plain(options)
    return Work(
        model=sha256_of(model),
        classes=checkpoint.classes or (),
        videos=digest.hexdigest(),
        options={name: plain[name] for name in COMMON_FLAGS},
    )


def shares_in(out: pathlib.Path) -> dict[Share, pathlib.Path]:
    """The shares that a folder holds, by number. Raises InputError when they are of different numbers of shares."""
    if not out.is_dir():
        return {}
    names = ((_FOLDER.fullmatch(entry.name), entry) for entry in out.iterdir() if entry.is_dir())
    shares = {Share(int(name[1]), int(name[2])): entry for name, entry in names if name}
    counts = sorted({share.of for share in shares})
    if len(counts) > 1:
        raise InputError(f"--out {out}: holds shares of {counts[0]} and of {counts[1]}; remove those of one of them")
    return dict(sorted(shares.items()))


def share_folder(out: pathlib.Path, share: Share, *, model: pathlib.Path) -> pathlib.Path:
    """The folder of a share. Raises InputError when `out` holds something else, or shares of another number."""
    check_place(out, model)
    others = shares_in(out)
    if others and next(iter(others)).of != share.of:
        raise InputError(
            f"--shard {share}: {out} holds shares of {next(iter(others)).of}; give the same N, or another --out"
        )
    if not others and out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise InputError(f"--out {out}: exists and holds no shares; name a new folder")
    return out / f"shard-{share.number}-of-{share.of}"


def read_share(folder: pathlib.Path, work: Work) -> dict[str, Any]:
    """The results.json of a share. Raises InputError unless it is one of this very work."""
    results = read_json(folder / RESULTS)
    if not _is_of_a_share(results):
        raise damaged(folder)
    stated, options = results["share"], results["options"]
    instead = "give the same, or another --out"
    if stated.get("model") != work.model or results.get("classes") != list(work.classes):
        raise InputError(f"{folder}: was predicted by another model; {instead}")
    for name, value in work.options.items():
        if options.get(name) != value:
            raise InputError(f"{folder}: was predicted with --{name} {options.get(name)}, now it is {value}; {instead}")
    if stated.get("videos") != work.videos:
        raise InputError(f"{folder}: is a share of other videos, or other frame rates or durations of them; {instead}")
    found: dict[str, Any] = results
    return found


def damaged(folder: pathlib.Path) -> InputError:
    return InputError(f"{folder}: damaged, its files don't fit each other; remove it, and run that share again")


def _is_of_a_share(results: Any) -> bool:
    """Whether everything that is read of a share's results.json is of the kind that was written."""
    if not isinstance(results, dict) or not isinstance(results.get("share"), dict):
        return False
    videos, left_out = results.get("videos"), results["share"].get("left_out")
    return (
        isinstance(results.get("options"), dict)
        and isinstance(videos, dict)
        and all(isinstance(about, dict) for about in videos.values())
        and isinstance(left_out, list)
        and all(isinstance(one, list) and [type(text) for text in one] == [str, str] for one in left_out)
    )


def is_finished(folder: pathlib.Path, work: Work) -> bool:
    """Whether a share is there. Raises InputError when what is there is of another work."""
    return folder.exists() and bool(read_share(folder, work))
