"""The actions in video files: features are extracted, then a trained model finds what happens when; without one, I3D itself.

bash scripts/localize.sh VIDEO_OR_FOLDER... --model_file output/EXPERIMENT/best.pt
bash scripts/localize.sh VIDEO_OR_FOLDER...                            # no model: the 400 classes of Kinetics

predictions/NAME/ gets detections.json, detections.csv, results.json, timelines.npz, report.html with the videos in it, and for
each video VIDEO.vtt, subtitles, VIDEO.png, its timeline, and VIDEO.mp4, a small copy, if browsers don't play the video itself.
Features are kept, so that a second call extracts nothing.
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("video.localize")  # loading the rest takes a moment

import argparse
import os
from collections.abc import Sequence
from dataclasses import fields

from command_line.console import run_tool
from command_line.flags import FlagTable, Parser
from formats.names import amount
from options import FLAGS
from utils.errors import InputError
from utils.processors import settle_in
from video.extract import OUT_OF_MEMORY
from video.options import LocalizeOptions, RecogniserOptions
from video.sources import find_sources

LOCALIZE_FLAGS = FlagTable(LocalizeOptions)


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 some videos could not be used or interrupted, 2 invalid input."""
    settle_in()
    return run_tool(
        "video.localize",
        localize,
        arguments,
        interrupted="interrupted; the same command goes on with the features that are missing",
        out_of_memory=OUT_OF_MEMORY,
    )


def localize(arguments: Sequence[str]) -> int:
    flags = vars(_parser().parse_args(arguments))
    LOCALIZE_FLAGS.check(LOCALIZE_FLAGS.build({name: flags[name] for name in LOCALIZE_FLAGS.names if name in flags}))
    if "classes" in flags and "model_file" not in flags:
        raise InputError("--classes: names the classes of --model_file; give that too")
    if "model_file" in flags:
        for name in (field.name for field in fields(RecogniserOptions)):
            if name in flags:
                raise InputError(f"--{name}: is for calls without --model_file; leave it out")
    from run.predicting import name_of  # with torch, which takes a moment
    from video.localizing import localize_videos

    flags.setdefault("features", pathlib.Path("features") / name_of(flags["videos"]))
    features, out = flags["features"], flags.get("out")
    if features.exists() and not features.is_dir():
        raise InputError(f"--features {features}: not a folder; name one, new or of an earlier call")
    if out and (_is_inside(out, features) or _is_inside(features, out)):
        raise InputError(f"--out {out}: is not apart from --features {features}; name another folder")
    found = find_sources(flags["videos"], inside=features)
    problems = localize_videos(found, flags)
    if problems:
        print(f"{amount(len(problems), 'file')} skipped:")
        for line in problems:
            print(f"    {line}")
    return 1 if problems else 0


def _is_inside(path: str | pathlib.Path, folder: str | pathlib.Path) -> bool:
    return pathlib.Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _parser() -> Parser:
    parser = Parser("video.localize", "Finds the actions in video files.", LOCALIZE_FLAGS)
    path = pathlib.Path
    parser.add_argument(
        "videos", type=path, nargs="+", metavar="VIDEO_OR_FOLDER", help="video files, or folders of them"
    )
    parser.add_argument(
        "--model_file",
        metavar="FILE",
        help="checkpoint of a trained model; without one, I3D's own classes are looked for",
    )
    parser.add_argument("--classes", metavar="FILE", help=FLAGS.flags["classes"].help)
    parser.add_argument(
        "--out", metavar="DIR", help="new folder for the results (default: predictions/NAME in the working folder)"
    )
    parser.add_argument(
        "--features",
        type=path,
        metavar="DIR",
        help="folder of the features, new or of an earlier call (default: features/NAME in the working folder)",
    )
    parser.add_argument(
        "--write_report",
        action=argparse.BooleanOptionalAction,
        help="write report.html and the pictures of timelines (default: on)",
    )
    parser.add_argument(
        "--preview",
        action=argparse.BooleanOptionalAction,
        help="write VIDEO.mp4, small and without sound, of videos that browsers don't play as they are (default: on)",
    )
    parser.add_options(LOCALIZE_FLAGS.names)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
