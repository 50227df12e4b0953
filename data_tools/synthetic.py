"""Synthetic feature sets: one generator, and a description of what it draws. Nothing in such a set was recorded.

    world = draw_world(generator, description)                          # the patterns that a set's features are made of
    timeline = description.timelines.draw(generator, description, main_class=3)          # a video: its length, its instances
    features = draw_features(generator, world, timeline)                # {"rgb": [L,D], "flow": [L,D]}

A set has the difficulties of a real one. Classes come in groups that look alike; a class's scene goes on while nothing
happens, and now and then belongs to another group; motion without action fills the background; instances start clear and fade
out. With a `Variation`, videos have a look of their own and instances show only some of their class's channels. Descriptions:
data_tools/demo_set.py and benchmarks/activitynet_set.py.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from formats.array_files import STREAMS
from options import DataOptions
from utils.snippet_grid import DEFAULT_FPS

SNIPPET_SECONDS = DataOptions.snippet_frames / DEFAULT_FPS
SNIPPETS_PER_SECOND = DEFAULT_FPS / DataOptions.snippet_frames
DENSITY = 0.08  # share of the channels in which a pattern is not 0; there it is about 1
ENDING_STRENGTH = 0.7  # of an action's last snippet; its first has strength 1

Array = NDArray[np.floating[Any]]
ByStream = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class DrawnInstance:
    """One instance; times in snippets."""

    label: int
    start: float
    end: float

    @property
    def segment(self) -> list[float]:
        """[start, end] in seconds, as a ground truth states them."""
        return [round(edge * SNIPPET_SECONDS, 2) for edge in (self.start, self.end)]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """One video: what happens when."""

    seconds: float
    num_snippets: int
    instances: tuple[DrawnInstance, ...]  # apart from each other, in temporal order


class Timelines(Protocol):
    """A distribution of timelines."""

    def draw(self, generator: np.random.Generator, description: "SetDescription", *, main_class: int) -> Timeline:
        """A video with at least one instance of its main class."""


@dataclass(frozen=True, kw_only=True)
class Variation:
    """How videos and instances of a class differ."""

    looks: int  # patterns that a video's own look is mixed from
    look_gain: ByStream
    shown: tuple[float, float]  # share of its class's channels that an instance shows
    strength: tuple[float, float]  # of an instance
    floor_spread: float  # standard deviation between channels
    scale: tuple[float, float]  # of a channel after the ReLU: mean and standard deviation of the logarithm


@dataclass(frozen=True, kw_only=True)
class SetDescription:
    """What a set's videos and features are drawn from. Gains multiply patterns of about 1."""

    classes: tuple[str, ...]
    group_size: int  # neighbouring classes that look alike
    channels: int  # per stream
    timelines: Timelines
    action_gain: ByStream
    scene_gain: ByStream
    motion_gain: ByStream
    own_weight: float  # of a class's own pattern in its action
    group_weight: float  # of its group's pattern
    own_scene_probability: float  # otherwise any group's scene
    motions: int
    motion_snippets: tuple[int, int]
    motion_strength: tuple[float, float]
    noise: float  # standard deviation, before the ReLU
    floor: float  # of every channel, before the ReLU
    variation: Variation | None = None
    dtype: type[np.floating[Any]] = np.float64  # that features are computed in

    @property
    def num_groups(self) -> int:
        return -(-len(self.classes) // self.group_size)


@dataclass(frozen=True, kw_only=True)
class World:
    """Patterns over the channels that features are made of, by stream."""

    description: SetDescription
    actions: Mapping[str, Array]  # [C,2,D]: the onset of each class and its fading end
    scenes: Mapping[str, Array]  # [groups,D]
    motions: Mapping[str, Array]  # [motions,D]
    looks: Mapping[str, Array]  # [looks,D]
    floors: Mapping[str, Array]  # [D] or []
    scales: Mapping[str, Array]  # [D] or []


def draw_world(generator: np.random.Generator, description: SetDescription) -> World:
    """The patterns of a set."""
    channels, variation = description.channels, description.variation

    def patterns(*shape: int) -> NDArray[np.float64]:
        return (generator.random((*shape, channels)) < DENSITY) * generator.gamma(2.0, 0.5, (*shape, channels))

    actions, scenes, motions = {}, {}, {}
    looks = {stream: np.zeros((0, channels)) for stream in STREAMS}
    floors, scales = dict.fromkeys(STREAMS, np.array(description.floor)), dict.fromkeys(STREAMS, np.array(1.0))
    for stream in STREAMS:
        own, shared = patterns(len(description.classes), 2), patterns(description.num_groups, 2)
        shared = np.repeat(shared, description.group_size, axis=0)[: len(own)]
        actions[stream] = description.own_weight * own + description.group_weight * shared
        scenes[stream] = patterns(description.num_groups)
        motions[stream] = patterns(description.motions)
        if variation is not None:
            mixed = generator.standard_normal((variation.looks, channels)) / np.sqrt(variation.looks)
            looks[stream] = variation.look_gain[stream] * mixed
            floors[stream] = generator.normal(description.floor, variation.floor_spread, channels)
            scales[stream] = generator.lognormal(*variation.scale, channels)

    def stored(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {stream: array.astype(description.dtype) for stream, array in arrays.items()}

    return World(
        description=description,
        actions=stored(actions),
        scenes=stored(scenes),
        motions=stored(motions),
        looks=stored(looks),
        floors=stored(floors),
        scales=stored(scales),
    )


def draw_features(generator: np.random.Generator, world: World, timeline: Timeline) -> dict[str, Array]:
    """Features [L,D] per stream: never negative, and sparse."""
    description, variation = world.description, world.description.variation
    length, instances = timeline.num_snippets, timeline.instances
    scene = instances[0].label // description.group_size
    if generator.random() >= description.own_scene_probability:
        scene = int(generator.integers(description.num_groups))
    motion = _draw_motion(generator, description, length)
    look, strengths = np.zeros(0, description.dtype), [1.0] * len(instances)
    if variation is not None:
        look = generator.standard_normal(variation.looks).astype(description.dtype)
        strengths = [generator.uniform(*variation.strength) for _ in instances]
    features = {}
    for stream in STREAMS:
        signal = description.scene_gain[stream] * world.scenes[stream][scene] + look @ world.looks[stream]
        signal = signal + description.motion_gain[stream] * motion @ world.motions[stream]
        for instance, strength in zip(instances, strengths, strict=True):
            first, end = (min(round(edge), length) for edge in (instance.start, instance.end))
            onset, ending = world.actions[stream][instance.label]
            if variation is not None:
                shown = generator.random(description.channels) < generator.uniform(*variation.shown)
                onset, ending = onset * shown, ending * shown
            fade = np.linspace(0.0, 1.0, end - first, dtype=description.dtype)[:, None]
            action = (1 - fade) * onset + ENDING_STRENGTH * fade * ending
            signal[first:end] += description.action_gain[stream] * strength * action
        signal += description.noise * generator.standard_normal(signal.shape, description.dtype)
        features[stream] = np.maximum(signal + world.floors[stream], 0.0) * world.scales[stream]
    return features


def _draw_motion(generator: np.random.Generator, description: SetDescription, length: int) -> Array:
    """Strength [L,motions] of motions that come and go regardless of the actions."""
    strength = np.zeros((length, description.motions), description.dtype)
    first = 0
    while first < length:
        end = first + int(generator.integers(*description.motion_snippets))
        if generator.random() < 0.5:
            drawn = generator.uniform(*description.motion_strength)
            strength[first:end, generator.integers(description.motions)] = drawn
        first = end
    return strength


@dataclass(frozen=True, kw_only=True)
class ManyShortActions:
    """Timelines like those of THUMOS'14: many short instances, spread over the whole video."""

    num_snippets: tuple[int, int]  # uniform in the logarithm
    second_class_probability: float  # half of the time the class that looks most alike
    snippets_per_instance: tuple[float, float]  # of the video, pauses included
    action_snippets: tuple[int, int]  # uniform in the logarithm

    def draw(self, generator: np.random.Generator, description: SetDescription, *, main_class: int) -> Timeline:
        length = int(np.exp(generator.uniform(*np.log(self.num_snippets))))
        present = [main_class]
        if generator.random() < self.second_class_probability:
            count = len(description.classes)
            present.append(main_class ^ 1 if generator.random() < 0.5 else int(generator.integers(count)))
        wanted = max(len(present), int(length / generator.uniform(*self.snippets_per_instance)))
        slots = np.linspace(0, length, wanted + 1).astype(int)
        instances = []
        for i, (low, high) in enumerate(itertools.pairwise(slots)):
            duration = min(int(np.exp(generator.uniform(*np.log(self.action_snippets)))), high - low - 2)
            first = int(generator.integers(low + 1, high - duration))
            label = present[i] if i < len(present) else present[int(generator.integers(len(present)))]
            instances.append(DrawnInstance(label=label, start=first, end=first + duration))
        return Timeline(seconds=length * SNIPPET_SECONDS, num_snippets=length, instances=tuple(instances))


@dataclass(frozen=True, kw_only=True)
class FewLongActions:
    """Timelines like those of ActivityNet: one instance or a few, which cover half of the video on average."""

    median_seconds: float
    log_spread: float  # standard deviation of the logarithm of the seconds
    seconds: tuple[float, float]  # of a video
    another_probability: float  # of one more instance, again and again
    seconds_per_instance: float  # of the video: a short one has few
    second_class_probability: float  # of a video with two instances or more
    full_probability: float  # of a video that is nearly all action
    full_cover: tuple[float, float]  # share of action in these
    cover: tuple[float, float]  # in the others: a beta distribution
    shortest_action: float  # seconds of action in a video

    def draw(self, generator: np.random.Generator, description: SetDescription, *, main_class: int) -> Timeline:
        drawn = generator.lognormal(np.log(self.median_seconds), self.log_spread)
        seconds = round(float(np.clip(drawn, *self.seconds)), 2)
        wanted = int(generator.geometric(1 - self.another_probability))
        count = min(wanted, 1 + int(seconds / self.seconds_per_instance))
        full = generator.random() < self.full_probability
        cover = generator.uniform(*self.full_cover) if full else generator.beta(*self.cover)
        action = max(cover * seconds, self.shortest_action)
        lengths = action * generator.dirichlet(np.full(count, 8.0))
        pauses = (seconds - action) * generator.dirichlet(np.ones(count + 1))
        starts = np.cumsum(pauses[:-1]) + np.cumsum(lengths) - lengths
        labels = [main_class] * count
        if count > 1 and generator.random() < self.second_class_probability:
            labels[1] = int(generator.integers(len(description.classes)))
        edges = np.stack([starts, starts + lengths], axis=1) * SNIPPETS_PER_SECOND
        instances = tuple(
            DrawnInstance(label=label, start=start, end=end)
            for label, (start, end) in zip(labels, edges.tolist(), strict=True)
        )
        return Timeline(seconds=seconds, num_snippets=int(seconds * SNIPPETS_PER_SECOND), instances=instances)
