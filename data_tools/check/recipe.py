"""Findings about the recipe: options that do not fit the lengths of this set's videos.

for finding in recipe_findings(videos, options, advised=None): ...      # of the MeasuredVideos of an entire set
"""

import dataclasses
from collections.abc import Iterator, Sequence

from data_tools.check.findings import Finding, summarize
from data_tools.check.statistics import MeasuredVideo
from data_tools.recipe import fitting_extra, fitting_segments, lengths_in_words
from options import ActionnessOptions, DataOptions, Options
from recipes import STABLE

FAR = 2.0  # factor between T and the lengths of all videos from which on snippets are repeated, or most are never seen at once
FAR_LONGER = 8.0
# Share of T that gets a pseudo label. The published recipe has 15 %, 17 snippets of it whatever T is; of a small T those are so
# many that background is labelled as action.
PSEUDO_SHARE = 0.3


def recipe_findings(videos: Sequence[MeasuredVideo], options: Options, *, advised: Options | None) -> Iterator[Finding]:
    """What of `options` does not fit; `advised` are those of the command that the report prints, if it prints one."""
    lengths = [video.num_snippets for video in videos if video.split == "train"] or [v.num_snippets for v in videos]
    for judge in (_against_lengths, _pseudo_labels):
        avoided = advised is not None and not any(judge(advised, lengths))
        said = "; this is of training with what was typed, the command above avoids it" if avoided else ""
        for finding in judge(options, lengths):
            yield dataclasses.replace(finding, advice=finding.advice + said)


def _against_lengths(options: Options, lengths: Sequence[int]) -> Iterator[Finding]:
    if not lengths:
        return
    data = options.data
    t, fitting = data.num_segments, fitting_segments(lengths)
    example = [f"{'the videos have' if len(lengths) > 1 else 'the video has'} {lengths_in_words(lengths)}"]
    # What the recipe takes is not far, however short the videos are.
    if data.short_videos == "stretch" and max(lengths) * FAR < t and t > fitting:
        yield from summarize(
            "warning",
            f"--num_segments {t} is far more than any video has",
            example,
            advice=f"every snippet is repeated: --recipe {STABLE} takes --num_segments {fitting} for these lengths",
        )
    elif min(lengths) > FAR_LONGER * t:
        yield from summarize(
            "warning",
            f"--num_segments {t} is far less than any video has",
            example,
            advice="most snippets are passed over, and short actions with them: raise it, as far as memory allows",
        )


def _pseudo_labels(options: Options, lengths: Sequence[int]) -> Iterator[Finding]:
    t, actionness = options.data.num_segments, options.actionness
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
