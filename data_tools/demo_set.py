"""The built-in demo set: a small synthetic data set in the "thumos" layout, so that everything runs with no data at hand.

    ensure_demo_set(pathlib.Path("data/demo"))         # writes it once, the same on every machine

Nothing in it was recorded: features are drawn from a seeded generator so that the task has the difficulties of the real one.
Classes come in pairs that look alike; a class's scene goes on while nothing happens; motion without action fills the
background; instances are short or long, start clear and fade out; videos hold one or two classes.
"""

import itertools
import json
import os
import pathlib
import shutil
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError

CLASSES = ("BackFlip", "FrontFlip", "OverarmThrow", "UnderarmThrow", "RowSeated", "RowStanding")
SNIPPET_SECONDS = 16 / 25
SEED = 20
CHANNELS = 1024  # per stream
VIDEOS = {"train": 60, "test": 40}
LENGTHS = (30, 240)  # snippets


@dataclass(frozen=True)
class _World:
    """Patterns over the channels that features are made of, per stream."""

    actions: dict[str, NDArray[np.float64]]  # [C,2,channels]: the onset of each class and its fading end
    scenes: dict[str, NDArray[np.float64]]  # [C/2,channels]
    motions: dict[str, NDArray[np.float64]]  # [M,channels]


def ensure_demo_set(path: pathlib.Path) -> None:
    """Write the set at `path` unless a data set is there; whole or not at all. Raises InputError when it can't be."""
    if (path / "gt.json").exists():
        return
    final = path.resolve()
    if not final.name:
        raise InputError(f"--data_path {path}: is no folder that the demo set could be written to; name another")
    unfinished = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        _write(unfinished)
        unfinished.replace(final)
    except OSError as error:
        if (path / "gt.json").exists():  # another run has just written it
            return
        raise InputError(f"--data_path {path}: can't write the demo set there ({error.strerror})") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(path: pathlib.Path) -> None:
    generator = np.random.default_rng(SEED)
    world = _make_world(generator)
    database = {}
    for split, count in VIDEOS.items():
        for stream in ("rgb", "flow"):
            (path / "features" / split / stream).mkdir(parents=True)
        names = [f"demo_{split}_{i:03d}" for i in range(count)]
        for i, name in enumerate(names):
            features, instances = _make_video(generator, world, i % len(CLASSES))
            for stream, array in features.items():
                np.save(path / "features" / split / stream / f"{name}.npy", array.astype(np.float16))
            database[name] = {
                "subset": split,
                "annotations": [
                    {"label": CLASSES[c], "segment": [round(s * SNIPPET_SECONDS, 2), round(e * SNIPPET_SECONDS, 2)]}
                    for c, s, e in instances
                ],
            }
        (path / f"split_{split}.txt").write_text("\n".join(names) + "\n")
    (path / "gt.json").write_text(json.dumps({"database": database}, indent=1))


def _make_world(generator: np.random.Generator) -> _World:
    def patterns(*shape: int) -> NDArray[np.float64]:
        return (generator.random((*shape, CHANNELS)) < 0.08) * generator.gamma(2.0, 0.5, (*shape, CHANNELS))

    actions, scenes, motions = {}, {}, {}
    for stream in ("rgb", "flow"):
        own, shared = patterns(len(CLASSES), 2), patterns(len(CLASSES) // 2, 2)
        actions[stream] = 0.8 * own + 0.6 * np.repeat(shared, 2, axis=0)  # classes of a pair look alike
        scenes[stream] = patterns(len(CLASSES) // 2)
        motions[stream] = patterns(4)
    return _World(actions, scenes, motions)


def _make_video(
    generator: np.random.Generator, world: _World, main_class: int
) -> tuple[dict[str, NDArray[np.float64]], list[tuple[int, int, int]]]:
    """Features [L,channels] a stream, and instances (class, first snippet, end) in the order of time."""
    length = int(np.exp(generator.uniform(*np.log(LENGTHS))))
    present = [main_class]
    if generator.random() < 0.3:  # co-occurrence, half of it with the class that looks alike
        other = main_class ^ 1 if generator.random() < 0.5 else int(generator.integers(len(CLASSES)))
        present.append(other)
    instances = _place_instances(generator, present, length)
    scene = main_class // 2 if generator.random() < 0.85 else int(generator.integers(len(CLASSES) // 2))
    features = {}
    motion = _stretches(generator, length, len(world.motions["flow"]))  # the same in both streams
    for stream, scene_gain, action_gain, motion_gain in (("rgb", 0.5, 0.65, 0.15), ("flow", 0.15, 0.85, 0.4)):
        signal = scene_gain * world.scenes[stream][scene] + motion_gain * motion @ world.motions[stream]
        for label, first, end in instances:
            fade = np.linspace(0.0, 1.0, end - first)[:, None]
            onset, ending = world.actions[stream][label]
            signal[first:end] += action_gain * ((1 - fade) * onset + 0.7 * fade * ending)
        noise = generator.normal(0.0, 0.35, signal.shape)
        features[stream] = np.maximum(signal + noise - 0.1, 0.0)
    return features, instances


def _place_instances(generator: np.random.Generator, present: list[int], length: int) -> list[tuple[int, int, int]]:
    """Instances of the classes in `present`, apart from each other, each class at least once."""
    wanted = max(len(present), int(length / generator.uniform(15, 30)))
    slots = np.linspace(0, length, wanted + 1).astype(int)
    instances = []
    for i, (low, high) in enumerate(itertools.pairwise(slots)):
        duration = min(int(np.exp(generator.uniform(np.log(2), np.log(14)))), high - low - 2)
        first = int(generator.integers(low + 1, high - duration))
        label = present[i] if i < len(present) else present[int(generator.integers(len(present)))]
        instances.append((label, first, first + duration))
    return instances


def _stretches(generator: np.random.Generator, length: int, kinds: int) -> NDArray[np.float64]:
    """Strength [L,kinds] of motions that come and go without regard to the actions."""
    strength = np.zeros((length, kinds))
    at = 0
    while at < length:
        end = at + int(generator.integers(4, 20))
        if generator.random() < 0.5:
            strength[at:end, generator.integers(kinds)] = generator.uniform(0.5, 1.0)
        at = end
    return strength
