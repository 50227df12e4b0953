"""The built-in demo set: a small synthetic data set in the "thumos" layout, so that everything runs with no data at hand.

    ensure_demo_set(pathlib.Path("data/demo"))         # writes it once, the same on every machine

Nothing in it was recorded (data_tools/synthetic.py). Classes come in pairs that look alike; instances are short; videos hold
one or two classes.
"""

import json
import pathlib

import numpy as np

from data_tools.synthetic import ManyShortActions, SetDescription, draw_features, draw_world
from formats.array_files import STREAMS
from formats.layouts import check_layout
from options import DataOptions
from recipes import PRESETS
from utils.atomic import remove_leftovers, whole_folder
from utils.errors import InputError

SEED = 20
VIDEOS = {"train": 60, "test": 40}
DEMO = SetDescription(
    classes=("BackFlip", "FrontFlip", "OverarmThrow", "UnderarmThrow", "RowSeated", "RowStanding"),
    group_size=2,
    channels=DataOptions.feature_size,
    timelines=ManyShortActions(
        num_snippets=(30, 240),
        second_class_probability=0.3,
        snippets_per_instance=(15, 30),
        action_snippets=(2, 14),
    ),
    action_gain={"rgb": 0.65, "flow": 0.85},
    scene_gain={"rgb": 0.5, "flow": 0.15},
    motion_gain={"rgb": 0.15, "flow": 0.4},
    own_weight=0.8,
    group_weight=0.6,
    own_scene_probability=0.85,
    motions=4,
    motion_snippets=(4, 20),
    motion_strength=(0.5, 1.0),
    noise=0.35,
    floor=-0.1,
)


def data_folder(options: DataOptions) -> pathlib.Path:
    """The folder that --data_path names; if it is the demo set's and missing, the set is written there."""
    if not options.data_path:
        raise InputError("--data_path is missing: give the data set's folder, or --dataset demo for the built-in one")
    check_layout(options.layout)  # before the demo set is written
    path = pathlib.Path(options.data_path)
    if options.data_path == PRESETS["demo"]["data_path"]:  # any other path that is missing is a mistake
        ensure_demo_set(path)
    return path


def ensure_demo_set(path: pathlib.Path) -> None:
    """Write the set at `path` unless a data set is there; whole or not at all. Raises InputError when it can't be written."""
    if (path / "gt.json").exists():
        remove_leftovers(path.parent, path.name)  # of a run that was killed while another one wrote the set
        return
    if not path.resolve().name:
        raise InputError(f"--data_path {path}: the demo set can't be written there; name another folder")
    try:
        with whole_folder(path) as unfinished:
            _write(unfinished)
    except OSError as error:
        if (path / "gt.json").exists():  # another run has just written it
            return
        raise InputError(f"--data_path {path}: can't write the demo set there ({error.strerror})") from None


def _write(path: pathlib.Path) -> None:
    generator = np.random.default_rng(SEED)
    world = draw_world(generator, DEMO)
    database = {}
    for split, count in VIDEOS.items():
        for stream in STREAMS:
            (path / "features" / split / stream).mkdir(parents=True)
        names = [f"demo_{split}_{i:03d}" for i in range(count)]
        for i, name in enumerate(names):
            timeline = DEMO.timelines.draw(generator, DEMO, main_class=i % len(DEMO.classes))
            for stream, array in draw_features(generator, world, timeline).items():
                np.save(path / "features" / split / stream / f"{name}.npy", array.astype(np.float16))
            annotations = [
                {"label": DEMO.classes[instance.label], "segment": instance.segment} for instance in timeline.instances
            ]
            database[name] = {"subset": split, "annotations": annotations}
        (path / f"split_{split}.txt").write_text("\n".join(names) + "\n")
    (path / "gt.json").write_text(json.dumps({"database": database}, indent=1))
