"""Extraction of the features of many videos into one folder, which can be stopped and started again at any time.

    extraction = extract_videos(found, pathlib.Path("DATA"), options)
    extraction.videos, extraction.problems
    extraction.folder.finish(names, annotations)        # then it is a set; without labels by extraction.finish_unlabelled()

Videos are independent of each other: one that can't be used is a line in `problems`, one that is lost with its process is done
by the next run.
"""

import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from command_line.progress import Progress
from command_line.shares import WHOLE, Share
from formats.names import SPLITS, amount
from options import RunOptions
from run.device import Machine, choose_machine
from run.provenance import versions
from utils.errors import InputError
from video.containers import UnusableVideo
from video.estimate import estimate, expected_snippets
from video.feature_set import MANIFEST, ExtractedVideo, FeatureSet, Settings
from video.fused_i3d import FusedI3D
from video.manifest import Entry, manifest, share, write_manifest
from video.options import CROP, VideoOptions
from video.pipeline import Extractor
from video.sources import FoundSources
from video.weights import LoadedI3D, load_i3d

PACKAGES = ("av", "opencv-contrib-python-headless")


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What is in the folder after a call."""

    folder: FeatureSet
    videos: tuple[ExtractedVideo, ...]  # of the sources given, those that are complete
    others: tuple[ExtractedVideo, ...]  # complete ones of earlier calls
    problems: tuple[str, ...]  # a line for each file that could not be used
    missing: int  # of the sources given, those that are not complete, of this share or of another

    def finish_unlabelled(self) -> tuple[ExtractedVideo, ...]:
        """Leave the folder as a set without labels, all of whose videos are for test. Returns them, by name."""
        videos = tuple(sorted((*self.videos, *self.others), key=lambda video: video.name))
        names: dict[str, tuple[str, ...]] = dict.fromkeys(SPLITS, ())
        names[SPLITS[-1]] = tuple(video.name for video in videos)
        self.folder.finish(names, {})
        return videos


def extract_videos(
    found: FoundSources,
    out: pathlib.Path,
    options: VideoOptions,
    *,
    shard: Share = WHOLE,
    plan: bool = False,
    frozen: bool = False,
    flag: str = "--out",
) -> Extraction:
    """Extract what `out` does not have yet, of share I of N if there is a `shard`.

    With `plan` only say what there is to do. A `frozen` folder is looked at alone. `flag` is what names `out` on the command
    line. Raises InputError when weights or folder can't be used, or no file is a video.
    """
    machine = choose_machine(RunOptions(**_of(options.network, "device", "precision", "threads")))
    weights = load_weights(options)
    for loaded in weights.values():
        print(f"{loaded.stream}: {loaded.source}, SHA-256 {loaded.sha256}")
    if "flow" not in weights:
        print("flow: none, RGB alone is extracted; flow needs a state dict of I3D, --flow_weights FILE")
    folder = FeatureSet(out, settings(options, weights, machine), _about(weights), flag=flag)
    folder.check()
    listed = manifest(found.sources, out / MANIFEST)
    problems = [*found.problems, *listed.problems]
    if not listed.entries:
        first, *more = problems
        raise InputError(first, details=more)
    mine = share(listed.entries, shard)
    pending = [entry for entry in mine if not folder.has(entry.source)]
    for line in problems:
        print(f"skipped: {line}")
    if not frozen:
        write_manifest(out / MANIFEST, listed.entries)
    if len(pending) < len(mine):
        print(f"{out}: has {amount(len(mine) - len(pending), 'video')} of {len(mine)} already")
    if not (plan or frozen):
        folder.claim()
    if pending and not frozen:
        networks = {
            stream: FusedI3D(loaded.network, device=machine.device, dtype=machine.dtype)
            for stream, loaded in weights.items()
        }
        extractor = Extractor(networks, options, machine)
        print(estimate(pending, extractor))
        if not plan:
            folder.mark_unfinished()
            problems += _extract(pending, extractor, folder)
    done = folder.videos()
    names = {source.name for source in found.sources}
    complete = [entry.source.name for entry in listed.entries if folder.has(entry.source)]
    return Extraction(
        folder=folder,
        videos=tuple(done[name] for name in complete),
        others=tuple(video for name, video in done.items() if name not in names),
        problems=tuple(problems),
        missing=len(listed.entries) - len(complete),
    )


def load_weights(options: VideoOptions) -> dict[str, LoadedI3D]:
    """The networks of the streams that are extracted. Raises InputError."""
    paths = {"rgb": options.network.rgb_weights, "flow": options.network.flow_weights}
    return {
        stream: load_i3d(stream, pathlib.Path(paths[stream]) if paths[stream] else None) for stream in options.streams
    }


def settings(options: VideoOptions, weights: Mapping[str, LoadedI3D], machine: Machine) -> Settings:
    """What must be the same for all videos of a folder."""
    sampling, with_flow = options.sampling, "flow" in weights
    return Settings(
        fps=sampling.fps,
        short_side=sampling.short_side,
        snippet_frames=sampling.snippet_frames,
        snippet_stride=sampling.grid.stride,
        precision="bf16" if machine.precision == "bf16" else "float32",
        dtype=options.writing.dtype,
        flow=options.flow.flow if with_flow else None,
        flow_bound=options.flow.flow_bound if with_flow else None,
        rgb_weights=weights["rgb"].sha256,
        flow_weights=weights["flow"].sha256 if with_flow else None,
    )


def _about(weights: Mapping[str, LoadedI3D]) -> dict[str, Any]:
    return {
        "crop": CROP,
        "weights": {stream: {"source": loaded.source, "sha256": loaded.sha256} for stream, loaded in weights.items()},
        "classes": weights["rgb"].classes,
        "versions": versions() | {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another distribution of the same modules
        return "unknown"


def _extract(pending: Sequence[Entry], extractor: Extractor, folder: FeatureSet) -> Iterator[str]:
    """Extract these videos and yield a line for each that could not be used."""
    expected = [expected_snippets(entry, extractor.options) for entry in pending]
    start = time.monotonic()
    with Progress(total=sum(expected), desc="extracting", unit="snippet") as shown:
        for entry, count in zip(pending, expected, strict=True):
            before = shown.done

            def advance(snippets: int) -> None:
                shown.update(snippets)
                speed = f"{shown.done / (time.monotonic() - start):.2f} snippets/s"
                shown.show(speed=speed, video=entry.source.name)  # noqa: B023
                if shown.is_due:
                    shown.report()

            try:
                extracted = extractor(entry.source.path, advance=advance)
            except UnusableVideo as error:
                shown.write(f"skipped: {error}")
                yield str(error)
            else:
                about = {"width": entry.width, "height": entry.height, "precision": extractor.machine.precision}
                folder.write(entry.source, extracted, about)
                for note in extracted.notes:
                    shown.write(f"note: {entry.source.path}: {note}")
            shown.expect(shown.done - before - count)


def _of(options: Any, *names: str) -> dict[str, Any]:
    assert {field.name for field in fields(options)} >= set(names)
    return {name: getattr(options, name) for name in names}
