"""Conversion of a set from any known layout to the "thumos" layout: plain .npy files that load fast and hold no code.

python -m data_tools.convert SRC DST [--allow_pickle] [--layout wtalc] ...

An interrupted run continues when started again. DST can't be read as a set until it is complete.
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("data_tools.convert")  # loading the rest takes a moment

import os
from collections import Counter
from collections.abc import Sequence

from command_line.console import run_tool
from command_line.flags import Parser
from command_line.progress import progress
from data_tools.set_writer import write_set
from formats.feature_files import FeatureFiles
from formats.inspection import usable_features
from formats.left_out import Reason
from formats.names import SPLITS, amount
from formats.opening import open_usable_set
from options import FLAGS, resolve
from utils.errors import InputError

OWN_FLAGS = ("layout", "ground_truth", "allow_pickle", "skip_unusable", "modal", "feature_size")


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 interrupted, 2 invalid input."""
    return run_tool("data_tools.convert", convert, arguments, interrupted="interrupted; the same command continues")


def convert(arguments: Sequence[str]) -> None:
    parser = Parser(
        "data_tools.convert",
        'Converts a feature set from any layout to the "thumos" layout, plain .npy files.',
        FLAGS,
    )
    parser.add_argument("source", type=pathlib.Path, metavar="SRC", help="folder of the set")
    parser.add_argument("target", type=pathlib.Path, metavar="DST", help="folder to write, new or left unfinished")
    parser.add_options(OWN_FLAGS)
    flags = vars(parser.parse_args(arguments))
    source, target = flags.pop("source"), flags.pop("target")
    options = resolve(flags).data
    if pathlib.Path(os.path.realpath(target)).is_relative_to(
        os.path.realpath(source)
    ):  # resolve() fails on a loop of links
        raise InputError(f"{target}: is inside {source}, the set to convert; name a folder outside it")
    feature_set, left_out = open_usable_set(source, options)
    work = [(split, video) for split in SPLITS for video in feature_set.names[split]]
    videos: dict[str, list[FeatureFiles]] = {split: [] for split in SPLITS}
    unused: Counter[Reason] = Counter()
    for split, video in progress(work, desc="inspecting features", unit="video"):
        files = usable_features(feature_set, split, video, options, left_out=unused)
        if files is not None:
            videos[split].append(files)
    origin = f"converted from {source.resolve()} ({feature_set.layout}, {options.modal})"
    earlier = write_set(target, videos, feature_set.annotations, streams=options.streams, origin=origin)
    arrays = sum(map(len, videos.values())) * len(options.streams)
    classes = amount(len(feature_set.classes), "class")
    print(
        f"{target}: {len(videos['train']):,} training and {amount(len(videos['test']), 'test video')}, {classes}, "
        f"from {feature_set.layout}; {amount(arrays, 'array')} compared with their source, {earlier:,} of them written by an "
        "earlier run"
    )
    for reason, count in (left_out | {str(reason): count for reason, count in unused.items() if count}).items():
        print(f"left out, {reason}: {count}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
