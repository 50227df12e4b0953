"""Export of detections for players and annotation tools: subtitles, ELAN documents and tables, one file per video.

python -m data_tools.export DETECTIONS.json --format vtt ass csv eaf --out DIR [--min_score X] [--ground_truth gt.json]

DETECTIONS.json is a result file in the ActivityNet format, of training, --inference_only or --predict. docs/report.md.
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("data_tools.export")  # loading the rest takes a moment

import argparse
import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import numpy as np

from command_line.console import run_tool
from command_line.parser import CommandParser
from command_line.progress import progress
from formats.elan import check_available, eaf_bytes
from formats.ground_truth import read_annotations
from formats.matching_names import VIDEO_FOLDS, match_names
from formats.names import LONGEST_NAME, amount, fold_video, is_file_name, shown
from formats.result_file import ResultFile, read_detections
from formats.subtitles import Cue, ass_text, is_visible, vtt_text
from utils.atomic import write_file
from utils.errors import InputError

FORMATS = ("vtt", "ass", "csv", "eaf")
TABLE = "csv"  # the format that holds what can't be shown too
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how text begins that a spreadsheet computes
_ENDING = len("-0123456789abcdef")  # of a name that was cut


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 interrupted, 2 invalid input."""
    return run_tool("data_tools.export", export, arguments)


def export(arguments: Sequence[str]) -> None:
    args = _parse(arguments)
    found = read_detections(args.detections)
    if not found.videos:
        raise InputError(f"{args.detections}: names no videos; is it a result file?")
    formats = tuple(dict.fromkeys(args.format))
    if "eaf" in formats:
        check_available()
    names = {video: safe_name(video) for video in found.videos}
    paths = [args.out / f"{name}.{format}" for name in names.values() for format in formats]
    _check_target(args.out, paths, overwrite=args.overwrite)
    reference = _reference(found, args.ground_truth) if args.ground_truth else {}
    media = _media(found.videos, args.video_dir) if args.video_dir else {}
    cues = cues_by_video(found, min_score=args.min_score, top=args.top)
    for video in progress(found.videos, desc="writing", unit="video", leave=False):
        everything = [*cues[video], *reference.get(video, ())]
        for format in formats:
            path = args.out / f"{names[video]}.{format}"
            data = _as_format(format, everything, video=video, folder=args.out, media=media.get(video))
            _write(path, data)
    of = amount(len(found.detections), "detection")
    print(f"{args.out}: {amount(len(names), 'video')} as {', '.join(formats)}, {_written(formats, cues)} of {of}")
    without = [format for format in formats if format != TABLE]
    if without and (hidden := _hidden(cues) + _hidden(reference)):
        print(f"not in {', '.join(without)}: {amount(hidden, 'segment')} that end at or before their start or second 0")
    if TABLE in formats and (computed := [n for n in (*found.videos, *found.labels) if n.startswith(FORMULA)]):
        print(f"note: a spreadsheet takes {shown(computed)} for formulas: import the columns of {TABLE} as text")
    if args.ground_truth:
        print(
            f"reference: {amount(sum(map(len, reference.values())), 'instance')} in {amount(len(reference), 'video')}"
        )
    if args.video_dir:
        print(f"linked to their files in {args.video_dir}: {amount(len(media), 'video')}")
    renamed = [f"{video} as {name}" for video, name in names.items() if video != name]
    if renamed:
        print(f"no names of files, written under others: {shown(renamed)}")


def write_subtitles(detections: pathlib.Path, folder: pathlib.Path, *, most: int) -> None:
    """Write VIDEO.vtt for every video of a result file, with the `most` best of its plain detections. Raises InputError."""
    found = read_detections(detections)
    for video, cues in cues_by_video(found, min_score=-math.inf, top=None).items():
        _write(folder / f"{safe_name(video)}.vtt", vtt_text(plain(cues)[:most]).encode())


def plain(cues: Sequence[Cue]) -> list[Cue]:
    """Of cues, best first, those that overlap no better one of their class: no class stands there twice at any moment."""
    kept: dict[str, list[Cue]] = {}
    chosen = []
    for cue in cues:
        better = kept.setdefault(cue.label, [])
        if all(cue.end <= other.start or cue.start >= other.end for other in better):
            better.append(cue)
            chosen.append(cue)
    return chosen


def cues_by_video(found: ResultFile, *, min_score: float, top: int | None) -> dict[str, list[Cue]]:
    """{video: its detections of `min_score` or more, best first, the `top` best if given}; equal ones as in the file."""
    detections = found.detections
    order = np.argsort(-detections.score, kind="stable")
    order = order[detections.score[order] >= min_score]
    cues: dict[str, list[Cue]] = {video: [] for video in found.videos}
    for i in order.tolist():
        mine = cues[found.videos[detections.video[i]]]
        if top is None or len(mine) < top:
            mine.append(
                Cue(
                    start=float(detections.start[i]),
                    end=float(detections.end[i]),
                    label=found.labels[detections.label[i]],
                    score=float(detections.score[i]),
                )
            )
    return cues


def _written(formats: Sequence[str], cues: Mapping[str, Sequence[Cue]]) -> str:
    """How many detections the files of each format hold; one number if it is the same."""
    everything = sum(map(len, cues.values()))
    counts = {format: everything - (_hidden(cues) if format != TABLE else 0) for format in formats}
    if len(set(counts.values())) == 1:
        return f"{counts[formats[0]]:,}"
    return ", ".join(f"{format} {count:,}" for format, count in counts.items())


def _hidden(cues: Mapping[str, Sequence[Cue]]) -> int:
    return sum(not is_visible(cue) for of_video in cues.values() for cue in of_video)


def safe_name(video: str) -> str:
    """A name for the video's files: its own if it can be one, else in percent signs; no two videos have the same."""
    name = video if is_file_name(video) and "%" not in video else quote(video, safe=" ", errors="surrogatepass")
    name = {"": "%", ".": "%2E", "..": "%2E%2E"}.get(name, name)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(video.encode("utf-8", "surrogatepass")).hexdigest()[: _ENDING - 1]
    return f"{name.encode()[: LONGEST_NAME - _ENDING].decode(errors='ignore')}-{digest}"


def _write(path: pathlib.Path, data: bytes) -> None:
    write_file(path, lambda file: file.write(data))


def _as_format(
    format: str, cues: Sequence[Cue], *, video: str, folder: pathlib.Path, media: pathlib.Path | None
) -> bytes:
    if format == "vtt":
        return vtt_text(cues).encode()
    if format == "ass":
        return ass_text(cues, title=video).encode()
    if format == "eaf":
        return eaf_bytes(cues, folder=folder, media=media)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")  # so that a name with either of the two is put in quotes
    table.writerow(["video", "label", "start", "end", "score"])
    # An instance of the ground truth has no score.
    table.writerows([video, cue.label, cue.start, cue.end, "" if cue.score is None else cue.score] for cue in cues)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _check_target(folder: pathlib.Path, paths: Sequence[pathlib.Path], *, overwrite: bool) -> None:
    """Raise InputError when the folder can't be one, or files would be written over that should not."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is not a folder; name another place")
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise InputError(
            f"--out {existing[0]}: exists; name another folder, or give --overwrite to write over its files"
        )


def _reference(found: ResultFile, ground_truth: pathlib.Path) -> dict[str, list[Cue]]:
    """{video of the result file: its instances}, for those that the ground truth knows. Raises InputError if it knows none."""
    annotations = read_annotations(ground_truth)
    known = match_names(found.videos, annotations, folds=VIDEO_FOLDS).known
    if not known:
        raise InputError(
            f"{ground_truth}: has none of the result file's videos, such as {shown(found.videos[:1])}; compare the names"
        )
    return {
        video: [Cue(start=i.start, end=i.end, label=i.label, score=None) for i in annotations[name].instances]
        for video, name in known.items()
    }


def _media(videos: Sequence[str], folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """{video: its file}, for those that have one in the folder. Raises InputError when it is no folder."""
    if not folder.is_dir():
        raise InputError(f"--video_dir {folder}: no such folder; name the one with the videos' files")
    files = {
        path.name: path for path in sorted(folder.iterdir()) if path.is_file() and fold_video(path.name) != path.name
    }
    known: Mapping[str, str] = match_names(videos, files, folds=VIDEO_FOLDS).known
    return {video: files[name] for video, name in known.items()}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        "python -m data_tools.export", "Writes detections as subtitles, ELAN documents or tables, one file per video."
    )
    parser.add_argument("detections", type=pathlib.Path, metavar="DETECTIONS", help="result file, ActivityNet format")
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR", help="folder for the files")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["vtt"],
        help="vtt and ass: subtitles; eaf: ELAN, needs pympi-ling; csv: video,label,start,end,score (default: vtt)",
    )
    parser.add_argument(
        "--min_score", type=float, default=-math.inf, metavar="X", help="least score of a detection (default: all)"
    )
    parser.add_argument("--top", type=int, metavar="N", help="at most the N best detections of a video (default: all)")
    parser.add_argument(
        "--ground_truth", type=pathlib.Path, metavar="FILE", help="gt.json: adds what is true, as a reference"
    )
    parser.add_argument(
        "--video_dir",
        type=pathlib.Path,
        metavar="DIR",
        help="folder with the videos' files, which ELAN documents then open",
    )
    parser.add_argument("--overwrite", action="store_true", help="write over files of the same names")
    parsed: argparse.Namespace = parser.parse_args(arguments)
    if math.isnan(parsed.min_score):
        raise InputError("--min_score nan: must be a number")
    if parsed.top is not None and parsed.top < 1:
        raise InputError(f"--top {parsed.top}: must be 1 or more")
    return parsed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
