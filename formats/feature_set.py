"""Records of a feature set on disk: as its layout reads it (StoredSet), and with its splits and classes (FeatureSet)."""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from formats.annotations import VideoAnnotation
from formats.feature_files import Located
from formats.left_out import Reason
from formats.names import SPLITS, known_name


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """All features in one place, whether their videos are named anywhere or not."""

    videos: Mapping[str, Located]
    expected: str  # where a missing array belongs; "{stream}" and "{video}" are placeholders
    joint: bool  # whether both streams lie side by side in one array
    places: Mapping[str, str] = field(
        default_factory=dict
    )  # the same as `expected` for a stream, where it is known better
    lone: Mapping[str, Located] = field(default_factory=dict)  # by names that some in `videos` may stand for
    folders: tuple[pathlib.Path, ...] = ()  # that were read
    note: str = ""  # where the features are, if not where the layout has them

    def find(self, video: str) -> Located:
        """The features of a video, with or without a leading "v_"; empty if there are none."""
        for videos in (self.videos, self.lone):
            name = known_name(video, videos)
            if name is not None:
                return videos[name]
        return {}

    def missing(self, video: str, streams: tuple[str, ...]) -> list[str]:
        """The names of the missing files of these streams."""
        located = self.find(video)
        if "joint" in located:
            return []
        wanted = ["joint"] if self.joint and not located else [s for s in streams if s not in located]
        expected = self.expected
        if located and "{stream}" not in expected:
            expected += " stream '{stream}'"
        places = [self.places.get(stream) or expected.replace("{stream}", stream) for stream in wanted]
        return [place.replace("{video}", video) for place in places]


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The features of both splits: in a place per split, or in one place for both."""

    by_split: Mapping[str, StoredFeatures]

    @staticmethod
    def undivided(features: StoredFeatures) -> "Storage":
        return Storage(by_split=dict.fromkeys(SPLITS, features))

    @property
    def divided(self) -> bool:
        """Whether each split has its own place."""
        return self.by_split["train"] is not self.by_split["test"]

    def find(self, split: str, video: str) -> Located:
        return self.by_split[split].find(video)

    def missing(self, split: str, video: str, streams: tuple[str, ...]) -> list[str]:
        return self.by_split[split].missing(video, streams)


@dataclass(frozen=True, kw_only=True)
class StoredSet:
    """The content of a layout. `annotations` is None in layouts whose ground truth is a JSON file."""

    storage: Storage
    annotations: dict[str, VideoAnnotation] | None = None
    source: str = ""  # where the annotations come from, for messages


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    layout: str
    ground_truth: str  # where the annotations come from, for messages
    annotations: dict[str, VideoAnnotation]
    names: dict[str, tuple[str, ...]]  # split -> its videos
    sources: dict[str, str]  # split -> the file that lists its videos, for messages
    storage: Storage
    dropped: dict[str, Reason]  # annotated video in no split -> why
    classes: tuple[str, ...]  # every label of a video in a split, with or without features, sorted
