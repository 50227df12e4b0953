"""Pictures of one video's timeline, ready for a paper: vector, as wide as a column, in colours that all readers tell apart.

write_picture(pathlib.Path("x.pdf"), run, "video_test_0000004")     # or .svg, .png
data = picture(timelines, detections, 3, format="png", tiou=0.5)    # of video 3, as bytes
"""

import pathlib
import re
from typing import Any

from command_line.suggestions import LONGEST_SHOWN, closest, did_you_mean
from formats.matching_names import VIDEO_FOLDS, match_names
from formats.names import shown
from formats.timelines import Timelines
from report.judged import hits_and_misses, judged_tiou
from report.reading import ReportedRun
from report.theme import chart_config
from report.timeline import Spec, shown_classes, timeline_rows, timeline_spec
from report.vega import VEGA_LITE, load_vl_convert
from utils.atomic import write_file
from utils.errors import InputError
from utils.printable import one_line
from utils.segments import Segments

FORMATS = ("pdf", "svg", "png")
POINTS_PER_INCH = 72
COLUMN = 3.3 * POINTS_PER_INCH  # points, 84 mm; one of the picture's pixels is a point
FONT_SIZE = 7.0  # points
GUTTER = 64, COLUMN / 3  # points, for the names of classes: at least, at most
LETTER = 3.9  # points, the width of a letter, on average
MARGIN = 6  # points
LINE = 0.45  # of the lines' widths on a page
PNG_DOTS_PER_INCH = 300
FONT = "Helvetica, Arial, Liberation Sans, sans-serif"


def picture(timelines: Timelines, detections: Segments, video: int, *, format: str, tiou: float) -> bytes:
    """The timeline of video number `video`, in one of FORMATS; `tiou` is what a detection needs to be a hit.

    Raises InputError when the package that draws is missing, or when it can't draw this.
    """
    vl_convert = load_vl_convert()
    name = one_line(timelines.videos[video], longest=50)
    hit, missed = hits_and_misses(timelines.truth, detections, tiou=tiou)
    rows = timeline_rows(timelines, detections, video, hit=hit, missed=missed)
    sequences = timelines.sequences[video]
    classes = [timelines.classes[c] for c in shown_classes(timelines, detections, video)]
    gutter = min(max(GUTTER[0], 8 + LETTER * max(map(len, classes), default=0)), GUTTER[1])
    spec = timeline_spec(
        streams=tuple(sequences.streams),
        parts=sequences.parts,
        rows=rows,
        width=COLUMN - gutter - 2 * MARGIN,
        gutter=gutter,
        row_height=16,
        sequence_height=36,
        known=len(timelines.truth) > 0,
    )
    # A title that is called like a property of every JavaScript object, "toString", ends Vega unless a signal holds it.
    title = {
        "params": [*spec["params"], {"name": "video_name", "value": name}],
        "title": {"text": {"expr": "video_name"}},
    }
    spec, options = (
        {**_for_print(spec), **title, "padding": MARGIN},
        {"vl_version": VEGA_LITE, "config": _print_config()},
    )
    try:
        if format == "pdf":
            return bytes(vl_convert.vegalite_to_pdf(spec, **options))
        if format == "png":
            return bytes(vl_convert.vegalite_to_png(spec, **options, scale=PNG_DOTS_PER_INCH / POINTS_PER_INCH))
        return _in_points(vl_convert.vegalite_to_svg(spec, **options)).encode()
    except Exception as error:
        said = str(error).partition("\n    at ")[0]  # before JavaScript's traceback
        raise InputError(f"video {name}: can't be drawn ({one_line(said)}); name another one") from error


def write_picture(path: pathlib.Path, run: ReportedRun, video: str) -> None:
    """Write the picture of a video of the run, in the format of the path's ending. Raises InputError for an unknown name."""
    format = picture_format(path)
    position = find_video(run, video)
    data = picture(run.timelines, run.detections, position, format=format, tiou=judged_tiou(run.options))
    write_file(path, lambda file: file.write(data))


def picture_format(path: pathlib.Path) -> str:
    """One of FORMATS. Raises InputError for another ending."""
    format = path.suffix.lower().removeprefix(".")
    if format not in FORMATS:
        raise InputError(f"--out {path}: pictures are {', '.join(FORMATS)}; end the name with one of these")
    return format


def find_video(run: ReportedRun, video: str) -> int:
    """The position of a video, by its name or another spelling of it. Raises InputError with the names that are near."""
    videos = run.timelines.videos
    found = match_names([video], videos, folds=VIDEO_FOLDS)
    if video in found.known:
        return videos.index(found.known[video])
    may_be = found.contested.get(video, ())
    if may_be:
        raise InputError(f"--plot {video}: may be {shown(may_be)} of {run.folder}; write the whole name")
    near = closest(video, videos)
    known = did_you_mean(one_line(near, longest=LONGEST_SHOWN)) if near else f"; it has {shown(videos)}"
    raise InputError(f"--plot {video}: no test video of {run.folder}{known}")


def _print_config() -> dict[str, Any]:
    """The charts' colours, with small type and fine lines."""
    config = chart_config(font=FONT, font_size=FONT_SIZE + 1)  # of axes' titles; labels are 1 smaller
    legend = {"symbolSize": 16, "symbolStrokeWidth": 1.2, "columnPadding": 3, "labelOffset": 2, "titlePadding": 2}
    config["legend"] |= {**legend, "titleFontSize": FONT_SIZE, "titleFontWeight": "normal"}
    config["axis"] |= {"gridWidth": 0.4, "domainWidth": 0.4, "tickWidth": 0.4, "tickSize": 3, "labelPadding": 2}
    config["title"] |= {"fontWeight": "normal", "fontSize": FONT_SIZE, "offset": 3}
    return config


def _for_print(spec: Spec) -> Spec:
    """A timeline without the legend of classes, which its rows of instances are, drawn closer and in finer lines."""
    rows = [_with_fine_lines(row) for row in spec["vconcat"]]
    rows[0] = {**rows[0], "title": {**rows[0]["title"], "frame": "bounds"}}
    encoding = rows[1]["layer"][0]["encoding"]
    title = encoding["color"]["legend"]["title"]
    encoding["color"] = {**encoding["color"], "legend": None}
    rows[1] = {**rows[1], "title": {"text": title, "frame": "group"}}
    return {**spec, "vconcat": rows, "spacing": 8}


def _with_fine_lines(part: Any) -> Any:
    """A copy in which every line has a share of its width."""
    if isinstance(part, list):
        return [_with_fine_lines(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    return {key: LINE * value if key == "strokeWidth" else _with_fine_lines(value) for key, value in part.items()}


def _in_points(svg: str) -> str:
    """The drawing in points, of which a picture has as many as pixels: browsers take pixels for 1/96 inch."""
    head, rest = svg.split(">", 1)
    return re.sub(r' (width|height)="([\d.]+)"', r' \1="\2pt"', head) + ">" + rest
