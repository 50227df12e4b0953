"""Findings about features: impossible values, swapped streams, different scales, duplicated videos.

    for finding in feature_findings(videos): ...                # the MeasuredVideos of an entire set

Features are compared within the set: nothing is assumed about how they were extracted.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from data_tools.check.findings import Finding, summarize
from data_tools.check.statistics import MeasuredVideo
from formats.names import SPLITS
from utils.segments import Floats

# Factors between root mean squares that are too large. For recordings (HAPT), a video's is between 0.4 and 2.1 times the median
# of its split, and closer to 1 in the demo set; features in 0 .. 255 instead of 0 .. 1, or divided by their length, are further
# away.
VIDEO_SCALE = 5.0  # between a video and the median of its split
SPLIT_SCALE = 3.0  # between the two splits' medians, which vary less
STREAM_SCALE = 10.0  # between the two streams' medians, which are similar only by custom

# Streams are compared only if most training videos tell them apart: the median preference for their own stream must be this
# many deviations above 0. A video's streams count as swapped when both prefer the other stream by half that median, which is
# three deviations away from the median.
TOLD_APART = 2.0
SWAPPED = -0.5
FEWEST_VIDEOS = 5  # of training, for medians to mean something
NORMAL_DEVIATION = 1.4826  # standard deviation of a normal distribution, in its median absolute deviations


def feature_findings(videos: Sequence[MeasuredVideo]) -> Iterator[Finding]:
    yield from _values(videos)
    yield from summarize(
        "note",
        "streams that differ by 1 or 2 snippets, cut to the shorter",
        [f"video '{video.video_id}': {video.cut} left out" for video in videos if video.cut],
    )
    comparable = [video for video in videos if video.comparable]
    yield from _identical_streams(comparable)
    yield from _swapped_streams(comparable)
    yield from _scales(comparable)
    yield from _same_features(comparable)


def _values(videos: Sequence[MeasuredVideo]) -> Iterator[Finding]:
    streams = [stream for video in videos for stream in video.streams.values()]
    yield from summarize(
        "error",
        "NaN or infinity in features",
        [
            f"{s.source}: {s.not_finite:,} values, first at snippet {s.first_not_finite}"
            for s in streams
            if s.not_finite
        ],
        advice="extract them again or drop the videos",
    )
    yield from summarize(
        "warning",
        "features that are all zeros",
        [f"{s.source}: all {s.num_snippets:,} snippets" for s in streams if s.empty],
        advice="the extraction failed: extract them again or drop the videos",
    )
    yield from summarize(
        "warning",
        "all-zero snippets",
        [f"{s.source}: {s.zero_snippets:,} of {s.num_snippets:,}" for s in streams if s.zero_snippets and not s.empty],
        advice="padding, or unreadable frames: cut them off or extract them again",
    )


def _identical_streams(videos: Sequence[MeasuredVideo]) -> Iterator[Finding]:
    copied = [v for v in videos if len(v.streams) > 1 and len({s.profile.tobytes() for s in v.streams.values()}) == 1]
    yield from summarize(
        "warning",
        "rgb and flow are the same",
        [" and ".join(stream.source for stream in video.streams.values()) for video in copied],
        advice="one was copied over the other: get it again",
    )


def _swapped_streams(videos: Sequence[MeasuredVideo]) -> Iterator[Finding]:
    training = np.array([video.split == "train" for video in videos], bool)
    if training.sum() < FEWEST_VIDEOS or len(videos[0].streams) < 2:
        return
    preferences = _own_stream_preferences(videos)
    usual = np.median(preferences[training], axis=0)
    deviation = NORMAL_DEVIATION * np.median(np.abs(preferences[training] - usual), axis=0)
    if (usual < TOLD_APART * deviation).any() or (usual <= 0).any():
        return
    swapped = (preferences < SWAPPED * usual).all(1)
    scattered = []
    for split in SPLITS:
        members = [bool(e) for e, video in zip(swapped, videos, strict=True) if video.split == split]
        if 2 * sum(members) > len(members):
            yield from summarize(
                "warning",
                f"rgb and flow look swapped in the {split} split",
                [f"{sum(members):,} of {len(members):,} videos are more like the other stream of the training videos"],
                advice="swap the folders of one split, or the halves of its joint arrays",
            )
        else:
            scattered += [v.video_id for e, v in zip(swapped, videos, strict=True) if e and v.split == split]
    yield from summarize(
        "warning",
        "rgb and flow look swapped",
        [f"video '{video}': both are more like the other stream of the training videos" for video in scattered],
        advice="compare them with their sources, and swap them",
    )


def _own_stream_preferences(videos: Sequence[MeasuredVideo]) -> Floats:
    """Preference [V,2] of each stream's profile: its correlation with the training videos' of its own stream less the other's.

    A video is not compared with itself.
    """
    total = np.sum([_unit_profiles(video) for video in videos if video.split == "train"], axis=0)  # [2,D]
    preferences = np.empty((len(videos), 2))
    for i, video in enumerate(videos):
        profiles = _unit_profiles(video)
        own = _unit(total - profiles if video.split == "train" else total)
        preferences[i] = ((own - _unit(total[::-1])) * profiles).sum(1)
    return preferences


def _unit_profiles(video: MeasuredVideo) -> Floats:
    """The streams' profiles [2,D], with mean 0 and length 1: their inner products are correlations."""
    profiles = np.stack([stream.profile for stream in video.streams.values()]).astype(np.float64)
    return _unit(profiles - profiles.mean(1, keepdims=True))


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _scales(videos: Sequence[MeasuredVideo]) -> Iterator[Finding]:
    names = tuple(videos[0].streams) if videos else ()
    by_split = {split: [video for video in videos if video.split == split] for split in SPLITS}
    present = [split for split in SPLITS if by_split[split]]
    medians = {s: {name: _median_rms(by_split[s], name) for name in names} for s in present}
    outlying = [
        f"{video.streams[name].source}: root mean square {video.streams[name].rms:.4g}, usual is {medians[split][name]:.4g}"
        for split in present
        for video in by_split[split]
        for name in names
        if _ratio(video.streams[name].rms, medians[split][name]) > VIDEO_SCALE
    ]
    yield from summarize(
        "warning",
        f"features on another scale, more than {VIDEO_SCALE:g} times the usual or less than 1/{VIDEO_SCALE:g} of it",
        outlying,
        advice="they were normalised differently: extract them like the others",
    )
    if len(present) > 1:
        yield from summarize(
            "warning",
            "the splits are on different scales",
            [
                f"{name}: root mean square {medians['train'][name]:.4g} in training, {medians['test'][name]:.4g} in test "
                "(medians of the videos)"
                for name in names
                if _ratio(medians["train"][name], medians["test"][name]) > SPLIT_SCALE
            ],
            advice="extract both in the same way: a model trained on one scale fails on another",
        )
    if len(names) > 1:
        rgb, flow = (_median_rms(videos, name) for name in names)
        wide = f"rgb: root mean square {rgb:.4g}, flow: {flow:.4g} (medians of the videos)"
        yield from summarize(
            "warning",
            f"the streams are on scales more than {STREAM_SCALE:g} times apart",
            [wide] if _ratio(rgb, flow) > STREAM_SCALE else [],
            advice="the larger one will outweigh the other: scale them alike, unless that is intended",
        )


def _median_rms(videos: Sequence[MeasuredVideo], stream: str) -> float:
    return float(np.median([video.streams[stream].rms for video in videos]))


def _ratio(one: float, other: float) -> float:
    """The larger value divided by the smaller; both are above 0."""
    return max(one, other) / min(one, other)


def _same_features(videos: Sequence[MeasuredVideo]) -> Iterator[Finding]:
    groups: dict[tuple[bytes, ...], list[MeasuredVideo]] = {}
    for video in videos:
        profiles = (stream.profile.tobytes() for stream in video.streams.values())
        groups.setdefault((video.num_snippets.to_bytes(8), *profiles), []).append(video)
    within: list[str] = []
    across: list[str] = []
    for group in groups.values():
        names = sorted({video.video_id for video in group})
        if len(names) > 1:
            shared = len({video.split for video in group}) > 1
            (across if shared else within).append(", ".join(f"'{name}'" for name in names))
    yield from summarize(
        "warning",
        "training videos among the test videos: the same features under different names in both splits",
        across,
        advice="results on these test videos mean nothing: remove them from one split",
    )
    yield from summarize(
        "warning",
        "the same features under different names",
        within,
        advice="the same video twice, or one file copied over another: check them, and keep one",
    )
