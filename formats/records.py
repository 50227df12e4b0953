"""What a feature set on disk is read as: by its layout (StoredSet), and with its splits and classes (FeatureSet)."""

from collections.abc import Mapping
from dataclasses import dataclass

from formats.annotations import VideoAnnotation
from formats.feature_files import Located
from formats.names import SPLITS, known_name


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """All features in one place, whether anything names their videos or not."""

    videos: Mapping[str, Located]
    expected: str  # where a missing array would be; "{stream}" and "{video}" stand for these
    joint: bool  # whether both streams lie side by side in one array

    def find(self, video: str) -> Located:
        """Empty when there is nothing. A leading "v_" may be there or not."""
        name = known_name(video, self.videos)
        return {} if name is None else self.videos[name]

    def missing(self, video: str, streams: tuple[str, ...]) -> list[str]:
        """Names of the files that these streams lack."""
        located = self.find(video)
        if "joint" in located:
            return []
        wanted = ["joint"] if self.joint and not located else [s for s in streams if s not in located]
        expected = self.expected
        if located and "{stream}" not in expected:
            expected += " stream '{stream}'"
        return [expected.replace("{stream}", stream).replace("{video}", video) for stream in wanted]


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The features of both splits: each split's own, or one place that holds both."""

    by_split: Mapping[str, StoredFeatures]

    @staticmethod
    def undivided(features: StoredFeatures) -> "Storage":
        return Storage(by_split=dict.fromkeys(SPLITS, features))

    @property
    def divided(self) -> bool:
        """Whether features are in a place of their split."""
        return self.by_split["train"] is not self.by_split["test"]

    def find(self, split: str, video: str) -> Located:
        return self.by_split[split].find(video)

    def missing(self, split: str, video: str, streams: tuple[str, ...]) -> list[str]:
        return self.by_split[split].missing(video, streams)


@dataclass(frozen=True, kw_only=True)
class StoredSet:
    """What a layout holds. `annotations` is None in layouts whose ground truth is a JSON file."""

    storage: Storage
    annotations: dict[str, VideoAnnotation] | None = None
    source: str = ""  # where the annotations are from, for messages


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    layout: str
    ground_truth: str  # where annotations are from, for messages
    annotations: dict[str, VideoAnnotation]
    names: dict[str, tuple[str, ...]]  # split -> its videos
    sources: dict[str, str]  # split -> what says which videos it has, for messages
    storage: Storage
    dropped: dict[str, str]  # annotated videos that are in no split for a reason, and the reason
    classes: tuple[str, ...]  # every label of a video in a split, sorted, whether there are features of it or not
