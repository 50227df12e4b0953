"""The features of a set's videos, inspected one after another: only headers are read.

inspected = inspect_set(path, options.data)         # the set, and the features of all its usable videos

left_out: Counter[Reason] = Counter()
files = usable_features(feature_set, split, video, options, left_out=left_out)      # None: the video is left out
"""

import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from command_line.progress import progress
from formats.feature_files import TRANSPOSE, TRANSPOSED, FeatureFiles, looks_transposed, open_streams
from formats.feature_set import FeatureSet
from formats.left_out import Cause, Reason
from formats.names import SPLITS, shown
from formats.opening import open_usable_set
from formats.problems import DataError, Kind
from options import DataOptions
from utils.errors import InputError

COMPARED = 8  # videos whose shapes are compared with that of one that does not fit
# Options that come in after inspection alone. One that is not named here is taken to matter.
LATER = frozenset({"dataset", "recipe", "num_segments", "short_videos"})


@dataclass(frozen=True, kw_only=True)
class InspectedSet:
    feature_set: FeatureSet
    files: dict[str, dict[str, FeatureFiles]]  # split -> video -> its features, without videos that are left out
    left_out: dict[str, int]  # reason -> number of videos or segments left out


def inspect_set(path: pathlib.Path, options: DataOptions, *, splits: tuple[str, ...] = SPLITS) -> InspectedSet:
    """Open a set and inspect the features of `splits`. Raises InputError, also when a split is left without videos."""
    feature_set, left_out = open_usable_set(path, options, splits=splits)
    work = [(split, video) for split in splits for video in feature_set.names[split]]
    found: dict[str, dict[str, FeatureFiles]] = {split: {} for split in SPLITS}
    unused: Counter[Reason] = Counter()
    for split, video in progress(work, desc="inspecting features", unit="video"):
        files = usable_features(feature_set, split, video, options, left_out=unused)
        if files is not None:
            found[split][video] = files
    for split in splits:
        if not found[split]:
            raise InputError(f"{path}: no {split} video is left; none of them has usable features")
    left_out |= {str(reason): count for reason, count in unused.items() if count}
    return InspectedSet(feature_set=feature_set, files=found, left_out=left_out)


def inspected_alike(one: DataOptions, other: DataOptions) -> bool:
    """Whether a set that was inspected with the one need not be inspected again for the other."""
    fields = vars(one).keys() - LATER
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def inspect_features(feature_set: FeatureSet, split: str, video: str, options: DataOptions) -> FeatureFiles:
    """Inspect the features of a video. Raises DataError for unusable ones, with what those of other videos tell about them."""
    located = feature_set.storage.find(split, video)
    try:
        return FeatureFiles(video, located, streams=options.streams, feature_size=options.feature_size)
    except DataError as error:
        problem = error.problem
        if (
            problem.kind is Kind.SHAPE
            and TRANSPOSED not in problem.what
            and _look_transposed(feature_set, split, video)
        ):
            raise DataError(replace(problem, what=problem.what + TRANSPOSED, fix=TRANSPOSE)) from None
        raise


def usable_features(
    feature_set: FeatureSet, split: str, video: str, options: DataOptions, *, left_out: Counter[Reason]
) -> FeatureFiles | None:
    """Inspect the features of a video and count in `left_out` what of them is not used; None: --skip_unusable leaves it out."""
    try:
        files = inspect_features(feature_set, split, video, options)
    except DataError as error:
        if not (options.skip_unusable and error.problem.kind.skippable):
            raise
        left_out[Reason(cause=error.problem.kind)] += 1
        return None
    left_out[Reason(cause=Cause.CUT_STREAM)] += files.cut > 0
    return files


def cut_lines(videos: Sequence[str]) -> Iterator[str]:
    """What to tell of these videos, whose streams were cut; nothing of none."""
    if videos:
        count = f"{len(videos)} video{'s' * (len(videos) > 1)}"
        yield f"streams that differ by 1 or 2 snippets, cut to the shorter: {count}, such as {shown(videos[:1])}"


def _look_transposed(feature_set: FeatureSet, split: str, video: str) -> bool:
    """Whether the arrays of a few videos, each of the same stream, seem to be [channels, snippets]."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for other in (video, *feature_set.names[split][:COMPARED]):
        try:
            for stream, array in open_streams(feature_set.storage.find(split, other)).items():
                shapes.setdefault(stream, []).append(array.header()[0])
        except (DataError, OSError):  # of another video, whose turn comes
            continue
    return any(looks_transposed(of_stream) for of_stream in shapes.values())
