"""The data set of a run, opened with the warnings that its user should see.

data = open_dataset(options.data, device=device, splits=("train", "test"))
"""

from collections.abc import Iterator

import torch

from data_tools.check.times import TimedVideo, grid_warning
from data_tools.demo_set import data_folder
from dataset import Dataset, load_dataset
from formats.annotations import labels_of
from formats.inspection import InspectedSet
from formats.names import shown
from formats.spelling import similar_to, spelling_warnings
from options import DataOptions


def open_dataset(
    options: DataOptions,
    *,
    device: torch.device,
    splits: tuple[str, ...],
    classes: tuple[str, ...] | None = None,
    inspected: InspectedSet | None = None,
) -> Dataset:
    """Load the set, print what is left out and whether times look wrong. Raises InputError.

    `classes` and `inspected`: see load_dataset.
    """
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
