"""Findings about the recipe: options that do not fit the lengths of this set's videos.

for finding in recipe_findings(videos, options.data, options.actionness): ...      # of the MeasuredVideos of an entire set
"""

from collections.abc import Iterator, Sequence

from data_tools.check.findings import Finding, summarize
from data_tools.check.statistics import MeasuredVideo
from data_tools.recipe import fitting_extra, fitting_segments, usual_length
from options import ActionnessOptions, DataOptions
from recipes import STABLE

FAR = 2.0  # factor between T and the lengths of all videos from which on snippets are repeated, or most are never seen at once
FAR_LONGER = 8.0
# Share of T that gets a pseudo label. The published recipe has 15 %, 17 snippets of it whatever T is; of a small T those are so
# many that background is labelled as action.
PSEUDO_SHARE = 0.3


def recipe_findings(
    videos: Sequence[MeasuredVideo], data: DataOptions, actionness: ActionnessOptions
) -> Iterator[Finding]:
    lengths = [video.num_snippets for video in videos if video.split == "train"] or [v.num_snippets for v in videos]
    if lengths:
        yield from _against_lengths(data, lengths)
    yield from _pseudo_labels(data.num_segments, actionness)


def _against_lengths(data: DataOptions, lengths: Sequence[int]) -> Iterator[Finding]:
    t, usual, fitting = data.num_segments, usual_length(lengths), fitting_segments(lengths)
    example = [f"the videos have {min(lengths):,} to {max(lengths):,} snippets, 90 % of them at most {usual:,}"]
    if data.short_videos == "stretch" and max(lengths) * FAR < t:
        yield from summarize(
            "warning",
            f"--num_segments {t} is far more than any video has",
            example,
            advice=f"every snippet is repeated: --num_segments {fitting} fits, as --recipe {STABLE} takes it from the lengths",
        )
    elif min(lengths) > FAR_LONGER * t:
        yield from summarize(
            "warning",
            f"--num_segments {t} is far less than any video has",
            example,
            advice="most snippets are passed over, and short actions with them: raise it, as far as memory allows",
        )


def _pseudo_labels(t: int, actionness: ActionnessOptions) -> Iterator[Finding]:
    if actionness.pseudo_source == "classes":
        return
    count, extra = actionness.label_count(t), actionness.pseudo_extra
    fitting = fitting_extra(t)
    if count > PSEUDO_SHARE * t and extra > fitting:
        yield from summarize(
            "warning",
            "many snippets get a pseudo label",
            [f"{count} of --num_segments {t}, {100 * count / t:.0f} %: {extra} of them are --pseudo_extra"],
            advice=f"--pseudo_extra {fitting} keeps the published share, {ActionnessOptions.pseudo_extra} of "
            f"{DataOptions.num_segments}; --recipe {STABLE} has numbers for any T",
        )
