"""The data set of a run, opened with the warnings that its user should see.

data = open_dataset(options.data, device=device, splits=("train", "test"))
"""

import pathlib
from collections.abc import Iterator

import torch

from data_tools.check.times import TimedVideo, grid_warning
from data_tools.demo_set import ensure_demo_set
from dataset import Dataset, load_dataset
from formats.annotations import labels_of
from formats.inspection import InspectedSet
from formats.layouts import check_layout
from formats.names import shown
from formats.spelling import similar_to, spelling_warnings
from options import PRESETS, DataOptions
from utils.errors import InputError


def data_folder(options: DataOptions) -> pathlib.Path:
    """The folder that --data_path names; if it is the demo set's and missing, the set is written there."""
    if not options.data_path:
        raise InputError("--data_path is missing: give the data set's folder, or --dataset demo for the built-in one")
    check_layout(options.layout)  # before the demo set is written
    path = pathlib.Path(options.data_path)
    if options.data_path == PRESETS["demo"]["data_path"]:  # any other path that is missing is a mistake
        ensure_demo_set(path)
    return path


def open_dataset(
    options: DataOptions,
    *,
    device: torch.device,
    splits: tuple[str, ...],
    classes: tuple[str, ...] | None = None,
    inspected: InspectedSet | None = None,
) -> Dataset:
    """Load the set, print what is left out and whether times look wrong. For the rest see load_dataset. Raises InputError."""
    path = data_folder(options)
    data = load_dataset(path, options, device=device, splits=splits, classes=classes, inspected=inspected)
    for reason, count in data.left_out.items():
        print(f"left out, {reason}: {count}")
    for note in data.notes:
        print(f"note: {note}")
    timed = [
        TimedVideo(
            video_id=video.video_id,
            annotation=data.annotations[video.video_id],
            num_snippets=video.num_snippets,
            fps=video.fps,
        )
        for video in data.videos
    ]
    for warning in (*_class_warnings(data, splits), grid_warning(timed, options.grid)):
        if warning:
            print(f"warning: {warning}")
    return data


def _class_warnings(data: Dataset, splits: tuple[str, ...]) -> Iterator[str]:
    """Classes that look like one, and those that nothing can be learnt of."""
    yield from spelling_warnings(data.classes)
    if "train" in splits:
        trained = labels_of(data.annotations, data.train.names)
        for label in (label for label in data.classes if label not in trained):
            yield f"no training video shows {shown([label])}{similar_to(label, trained)}: its AP counts, and will be about 0"
