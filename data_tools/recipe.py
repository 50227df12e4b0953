"""The numbers that --recipe stable and auto take from the data, and why.

    options, taken, inspected = complete(flags, resolve(flags))     # reads headers and labels; None: nothing to take

    profile = profile_of(lengths, annotations, options.data, feature_size=1024)     # of a set that is read already
    taken = recipe_for(profile, {"recipe": "auto"})             # TakenRecipe(name, values, reasons)
    taken.options(flags)

What a set is like is known from lengths and video-level labels alone: no segment is looked at. The numbers that a recipe sets
whatever the data are like stand in recipes.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from command_line.flags import as_words
from data_tools.demo_set import data_folder
from formats.annotations import VideoAnnotation
from formats.inspection import InspectedSet, inspect_set, inspected_alike
from formats.names import amount
from options import ActionnessOptions, DataOptions, EvaluationOptions, ModelOptions, Options, resolve
from recipes import AUTO, FROM_DATA, PRESETS, PUBLISHED, RECIPES, STABLE
from utils.snippet_grid import frame_rate

# The flags whose values the data change with --recipe stable, and the numbers of its rules.
OF_THE_DATA = FROM_DATA | {"num_iters"}  # in whose place it sets --num_epochs
SHORTEST_T = 32  # snippets
CHANNELS_PER_CLASS, FEWEST_CHANNELS = 8, 64  # H
LR = 5e-4
STEPS = 4_000  # of training in all, that many as long as they are enough epochs
FEWEST_EPOCHS = 10
CLASS_SHARE = 0.15  # of the class score that is a class's own where a video's classes share it alike
MOST_EVALUATIONS = 50  # of small sets, whose epochs are many and short


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A set that published numbers are for. The length is that which nine tenths of its training videos do not exceed."""

    name: str
    dataset: str  # whose preset has the numbers
    videos: int  # for training
    classes: int
    usual_length: int  # snippets
    snippet_seconds: float = 0.64  # 16 frames at 25 frames per second


KNOWN_SETS = (
    KnownSet(name="THUMOS'14", dataset="thumos14", videos=200, classes=20, usual_length=696),
    KnownSet(name="ActivityNet-1.2", dataset="activitynet1.2", videos=4_819, classes=100, usual_length=344),
    KnownSet(name="ActivityNet-1.3", dataset="activitynet1.3", videos=10_024, classes=200, usual_length=344),
)
LIKE = 2.0  # factor between a set and a known one, in each of these numbers, up to which it is like that


@dataclass(frozen=True, kw_only=True)
class SetProfile:
    """What a set's training videos are like."""

    lengths: tuple[int, ...]  # snippets, of every training video
    num_classes: int  # that they show
    classes_per_video: float  # mean
    snippet_seconds: float  # median, from the start of a snippet to that of the next
    feature_size: int  # channels of a stream
    streams: tuple[str, ...]

    @property
    def num_videos(self) -> int:
        return len(self.lengths)

    def __str__(self) -> str:
        return (
            f"{amount(self.num_videos, 'training video')} of {lengths_in_words(self.lengths, self.snippet_seconds)}, "
            f"{amount(self.num_classes, 'class')}, {self.classes_per_video:.3g} a video"
        )


@dataclass(frozen=True, kw_only=True)
class TakenRecipe:
    """A recipe, the values that it sets beside those that were typed, and why, in words."""

    name: str
    values: Mapping[str, Any]  # {flag name: value}; None: not set
    reasons: tuple[str, ...]

    @property
    def fitted(self) -> dict[str, Any]:
        """The values that the data gave: what a command must say besides --recipe."""
        constant = RECIPES[self.name]
        return {name: value for name, value in self.values.items() if name not in constant and value is not None}

    def options(self, flags: Mapping[str, Any]) -> Options:
        """The options of a run with these flags. Raises InputError."""
        recipe = {"recipe": self.name}
        return resolve({**flags, **recipe}, {**self.values, **recipe})

    def as_plain(self) -> dict[str, Any]:
        return {**asdict(self), "values": dict(self.values), "reasons": list(self.reasons)}

    def __str__(self) -> str:
        shown = as_words(self.values)
        values = f": {' '.join(shown)}" if shown else ""
        return f"recipe {self.name}{values}\nwhy: {'; '.join(self.reasons)}"


def complete(flags: Mapping[str, Any], options: Options) -> tuple[Options, TakenRecipe | None, InspectedSet | None]:
    """The options with what the recipe takes from the data, and the recipe; the same and None for the published one.

    The set is returned, too, if with these options it can be loaded as it was inspected.

    Raises InputError for a set that can't be trained on.
    """
    if options.data.recipe == PUBLISHED:
        return options, None, None
    inspected = inspect_set(data_folder(options.data), options.data)
    taken = recipe_for(profile_of_set(inspected, options.data), flags)
    completed = taken.options(flags)
    return completed, taken, inspected if inspected_alike(options.data, completed.data) else None


def profile_of_set(inspected: InspectedSet, data: DataOptions) -> SetProfile:
    lengths = {video: len(files) for video, files in inspected.files["train"].items()}
    return profile_of(lengths, inspected.feature_set.annotations, data, feature_size=data.feature_size)


def profile_of(
    lengths: Mapping[str, int], annotations: Mapping[str, VideoAnnotation], data: DataOptions, *, feature_size: int
) -> SetProfile:
    """`lengths` are the snippets of the training videos, {video: length}, of which there is at least one."""
    labels = [annotations[video].labels for video in lengths]
    rates = [frame_rate(data.fps, annotations[video].fps) for video in lengths]
    return SetProfile(
        lengths=tuple(lengths.values()),
        num_classes=len(frozenset().union(*labels)),
        classes_per_video=sum(map(len, labels)) / len(labels),
        snippet_seconds=data.grid.stride / float(np.median(rates)),
        feature_size=feature_size,
        streams=data.streams,
    )


def recipe_for(profile: SetProfile, flags: Mapping[str, Any]) -> TakenRecipe:
    """What --recipe among the flags takes for this set; flags that were typed are never among its values."""
    recipe = flags.get("recipe", PUBLISHED)
    if recipe == PUBLISHED:
        return TakenRecipe(name=PUBLISHED, values={}, reasons=())
    reasons = [str(profile)]
    if recipe == AUTO:
        dataset = flags.get("dataset")
        known = like_a_known_set(profile, dataset=dataset)
        if known:
            values = {} if known.dataset == DataOptions.dataset else {"dataset": known.dataset}
            reasons.append(
                f"lengths, videos and classes are like those of {known.name}, which the published numbers are for"
            )
            return TakenRecipe(name=PUBLISHED, values=_untyped(values, flags), reasons=tuple(reasons))
        reasons.append(_unlike(dataset))
    values, why = _stable_values(profile, flags)
    return TakenRecipe(name=STABLE, values=values, reasons=(*reasons, *why))


def sets_of(dataset: str | None) -> list[KnownSet]:
    """The sets that the numbers of a preset are for, and without one all."""
    return [known for known in KNOWN_SETS if dataset is None or PRESETS[known.dataset] == PRESETS[dataset]]


def _unlike(dataset: str | None) -> str:
    """Why published numbers are not taken."""
    *names, last = [known.name for known in sets_of(dataset)] or [""]
    if not last:
        return f"--dataset {dataset} has no published numbers"
    numbers = "published numbers" if dataset is None else f"numbers of --dataset {dataset}"
    return f"unlike {' and '.join([', '.join(names), last] if names else [last])}, which the {numbers} are for"


def like_a_known_set(profile: SetProfile, *, dataset: str | None = None) -> KnownSet | None:
    """The set that this one is like in every number; of several the one whose number of classes is nearest.

    With `dataset`, which stays as it was typed, only sets that its numbers are for.
    """

    def near(own: float, other: float) -> bool:
        return max(own, other) <= LIKE * min(own, other)

    alike = [
        known
        for known in sets_of(dataset)
        if near(profile.num_videos, known.videos)
        and near(profile.num_classes, known.classes)
        and near(usual_length(profile.lengths), known.usual_length)
        and near(profile.snippet_seconds, known.snippet_seconds)
    ]
    return min(alike, key=lambda known: abs(math.log(profile.num_classes / known.classes)), default=None)


def _stable_values(profile: SetProfile, flags: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values of --recipe stable that were not typed, and why they are these."""
    others = {name: value for name, value in flags.items() if name not in OF_THE_DATA}
    options = resolve({**others, "recipe": STABLE})
    optimisation = options.optimisation
    # Where --drop_last leaves none, training says so.
    trained = _trained(profile.num_videos, options.evaluation)
    epoch = max(1, optimisation.steps_per_epoch(trained))
    segments = min(fitting_segments(profile.lengths), DataOptions.num_segments)
    lr, epochs = training_length(epoch)
    total = flags.get("num_iters") or epoch * flags.get("num_epochs", epochs)
    values: dict[str, Any] = {
        "num_segments": segments,
        "hidden_size": fitting_hidden_size(profile.num_classes),
        "lr": lr,
        "class_th": class_threshold(profile.classes_per_video),
    }
    reasons = {
        "num_segments": segments_reason(segments, profile.lengths),
        "hidden_size": _hidden_size_reason(values["hidden_size"], profile.num_classes),
        "class_th": f"--class_th is {values['class_th']:g}",
    }
    classes = f"{profile.classes_per_video:.3g}"
    if classes != "1":
        reasons["class_th"] += f": {CLASS_SHARE:g}, shared among the {classes} classes of a video"
    if flags.keys().isdisjoint({"num_iters", "num_epochs"}):
        values["num_epochs"] = epochs
        of = amount(min(optimisation.batch_size, trained), "video")
        reasons["num_epochs"] = f"{epochs} epochs are {epoch * epochs:,} steps of {of}"
        if optimisation.num_iters:  # of the preset, which would come first
            values["num_iters"] = None
    values["detection_inf_step"] = evaluation_step(epoch, total)
    every = values["detection_inf_step"] // epoch
    reasons["detection_inf_step"] = f"evaluations {'at the ends of epochs' if every == 1 else f'every {every} epochs'}"
    values = _untyped({**values, **RECIPES[STABLE]}, flags)
    return values, [reason for name, reason in reasons.items() if name in values]


def undecided(flags: Mapping[str, Any]) -> frozenset[str]:
    """The flags whose values are not known from what was typed alone, without the data."""
    recipe = flags.get("recipe", PUBLISHED)
    if recipe == PUBLISHED:
        return frozenset()
    names = set(OF_THE_DATA)
    if recipe == AUTO:
        names |= {"recipe"}.union(*RECIPES.values())
        names |= set() if "dataset" in flags else {"dataset"}.union(*PRESETS.values())
    return frozenset(names - (flags.keys() - {"recipe"}))


def _trained(num_videos: int, evaluation: EvaluationOptions) -> int:
    """The videos that are trained on: without those that --select val holds out."""
    return num_videos - (max(1, round(evaluation.val_share * num_videos)) if evaluation.select == "val" else 0)


def _untyped(values: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in flags}


def usual_length(lengths: Sequence[int]) -> int:
    """The snippets that nine tenths of the videos do not exceed."""
    return int(np.quantile(lengths, 0.9))


def lengths_in_words(lengths: Sequence[int], seconds: float | None = None) -> str:
    """Shortest and longest, once where they are the same, and the usual one; `seconds` are those of a snippet."""
    shortest, longest = min(lengths), max(lengths)
    of = f" of {seconds:.3g} s" if seconds else ""
    if shortest == longest:
        return amount(longest, "snippet") + of
    return f"{shortest:,} to {longest:,} snippets{of}, 90 % of them at most {usual_length(lengths):,}"


def fitting_segments(lengths: Sequence[int]) -> int:
    """T: about as long as the longer videos."""
    return max(usual_length(lengths), SHORTEST_T)


def fitting_extra(num_segments: int) -> int:
    """--pseudo_extra of the published recipe for this T: the same share of it, since the same number would be too many."""
    return round(ActionnessOptions.pseudo_extra * num_segments / DataOptions.num_segments)


def segments_reason(segments: int, lengths: Sequence[int]) -> str:
    """Why T is what `fitting_segments`, and the published T as the most, make it."""
    if segments < usual_length(lengths):
        return f"T = {segments}, the most that is taken"
    return f"T = {segments}, the least that is taken" if segments > max(lengths) else f"T = {segments} fits the lengths"


def fitting_hidden_size(num_classes: int) -> int:
    """H: some channels per class, in all the power of two that is nearest by ratio, from the least to the published H.

    With too many for each, there are many ways to explain the labels, and seeds end apart; with too few, classes are lost, too.
    """
    channels: int = 2 ** round(math.log2(CHANNELS_PER_CLASS * num_classes))
    return min(max(channels, FEWEST_CHANNELS), ModelOptions.hidden_size)


def _hidden_size_reason(hidden_size: int, num_classes: int) -> str:
    wanted = CHANNELS_PER_CLASS * num_classes
    if hidden_size == FEWEST_CHANNELS and wanted < hidden_size:
        return f"H = {hidden_size}, the least that is taken"
    if hidden_size == ModelOptions.hidden_size and wanted > hidden_size:
        return f"H = {hidden_size}, the most that is taken"
    return f"H = {hidden_size} fits the number of classes"


def training_length(steps_per_epoch: int) -> tuple[float, int]:
    """Learning rate and epochs: a number of steps that learns a set whatever its size, unless epochs would be too few."""
    return LR, max(FEWEST_EPOCHS, round(STEPS / steps_per_epoch))


def class_threshold(classes_per_video: float) -> float:
    """--class_th: class scores sum to 1 over a video's classes, so the more it has, the less each of them scores."""
    return float(f"{CLASS_SHARE / classes_per_video:.3g}")


def evaluation_step(steps_per_epoch: int, total_steps: int) -> int:
    """--detection_inf_step: an epoch, or as many whole ones as there are too many evaluations of one."""
    epochs = math.ceil(total_steps / steps_per_epoch / MOST_EVALUATIONS)
    return steps_per_epoch * max(1, epochs)
