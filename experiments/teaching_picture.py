"""The picture of what experiments.teaching has seen: a column for each name, a row of panels for each question.

write_picture(pathlib.Path("teaching.png"), read_all([folder, other]))
"""

import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.teaching_rows import Row
from report.charts import SCHEMA, Spec, rounded
from report.theme import LIGHT, chart_config
from report.vega import VEGA_LITE, load_vl_convert
from utils.atomic import write_file
from utils.errors import InputError
from utils.printable import one_line

FORMATS = ("png", "svg")
WIDTH, LEGEND, AXIS, GAP = 1000, 150, 56, 14  # pixels: of the whole, and what is beside the panels
HEIGHT, LEAST_WIDTH = 110, 120  # of a panel
MOST_TICKS = 10  # of epochs
LETTER = 8  # pixels, the width of one in a title
PNG_SCALE = 2  # pixels of the file to one of the picture
FONT = "Helvetica, Arial, Liberation Sans, sans-serif"


KEYED = ("color", "fill", "strokeDash")  # what the legend explains
SOLID, DASHED = [1, 0], [4, 3]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One question: the measures that answer it, by what the legend calls them."""

    title: str  # of the axis, with the unit
    lines: Mapping[str, str]  # {measure: its name}
    percent: bool = True
    domain: tuple[float, float] | None = None
    rule: tuple[float | str, str] | None = None  # where a dashed line stands, a value or a measure, and what it is


PANELS = (
    Panel(title="average mAP, %", lines={"mAP": "mAP"}),
    Panel(title="training loss", lines={"loss": "loss"}, percent=False),
    Panel(
        title="pseudo labels, %",
        lines={
            "positive_precision": "positives right",
            "background_precision": "background right",
            "action_recall": "action found",
        },
        domain=(0, 100),
        rule=("action_share", "share of action"),
    ),
    Panel(
        title="AUC in a video, %",
        lines={
            "auc_fused": "actionness",
            "auc_rgb": "that of RGB",
            "auc_flow": "that of flow",
            "auc_class": "class probability",
        },
        domain=(30, 100),
        rule=(0.5, "chance"),
    ),
    Panel(
        title="mean actionness",
        lines={"actionness_on_action": "on action", "actionness_on_background": "on background"},
        percent=False,
        domain=(0, 1),
    ),
    Panel(
        title="mean mask weight",
        lines={"mask_on_action": "on action", "mask_on_background": "on background"},
        percent=False,
        domain=(0, 1),
    ),
)


def write_picture(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Draw it in the format of the path's ending. Raises InputError for another ending, or without the package that draws."""
    format = path.suffix.lower().removeprefix(".")
    if format not in FORMATS:
        raise InputError(f"--out {path}: pictures are {' or '.join(FORMATS)}; end the name with one of these")
    vl_convert = load_vl_convert()
    spec, options = picture_spec(rows), {"vl_version": VEGA_LITE, "config": _config()}
    try:
        if format == "svg":
            data = vl_convert.vegalite_to_svg(spec, **options).encode()
        else:
            data = bytes(vl_convert.vegalite_to_png(spec, **options, scale=PNG_SCALE))
    except Exception as error:
        said = str(error).partition("\n    at ")[0]  # before JavaScript's traceback
        raise InputError(f"--out {path}: can't be drawn ({one_line(said)})") from error
    write_file(path, lambda file: file.write(data))


def picture_spec(rows: Sequence[Row]) -> Spec:
    """The panels, every name with a column of its own; thin lines are seeds, thick ones their means."""
    names = list(dict.fromkeys(str(row["name"]) for row in rows))
    width = max(LEAST_WIDTH, (WIDTH - LEGEND - AXIS) // len(names) - GAP)
    last_epoch = max(float(row["epoch"]) for row in rows)
    panels = []
    for panel in PANELS:
        columns = []
        for i, name in enumerate(names):
            points = _points(panel, [row for row in rows if row["name"] == name], last_epoch=last_epoch)
            axes = _axes(panel, rows, last_epoch=last_epoch, left=i == 0)
            layer = [
                _lines(panel),
                *_dots(panel, points),
                *([_heading(f"name{i}", width)] if panel is PANELS[0] else []),
            ]
            columns.append(
                {"width": width, "height": HEIGHT, "data": {"values": points}, "encoding": axes, "layer": layer}
            )
        panels.append({"hconcat": columns, "spacing": GAP, "resolve": {"scale": dict.fromkeys(KEYED, "shared")}})
    return {
        "$schema": SCHEMA,
        # A text that is called like a property of every JavaScript object ends Vega unless a signal holds it.
        "params": [{"name": f"name{i}", "value": one_line(name, width // LETTER)} for i, name in enumerate(names)],
        "vconcat": panels,
        "spacing": GAP,
        "resolve": {"scale": dict.fromkeys(KEYED, "independent")},
    }


def _points(panel: Panel, rows: Sequence[Row], *, last_epoch: float) -> list[dict[str, Any]]:
    """Those of one name's lines in a panel: of seeds, of their mean, and of the dashed line."""
    seeds, steps = {row["seed"] for row in rows}, dict.fromkeys(row["step"] for row in rows)

    def point(epoch: Any, value: float, *, called: str, kind: str = "mean", seed: Any = -1) -> dict[str, Any]:
        known = None if math.isnan(value) else rounded((100 if panel.percent else 1) * value)
        return {"epoch": rounded(float(epoch)), "value": known, "called": called, "kind": kind, "seed": seed}

    points = []
    for measure, called in panel.lines.items():
        for row in rows if len(seeds) > 1 else ():
            points.append(point(row["epoch"], float(row[measure]), called=called, kind="seed", seed=row["seed"]))
        for step in steps:
            at = [row for row in rows if row["step"] == step]
            if len(at) == len(seeds):  # a mean over fewer seeds would jump
                points.append(point(at[0]["epoch"], sum(float(row[measure]) for row in at) / len(at), called=called))
    if panel.rule:
        at_value, called = panel.rule
        height = sum(float(row[at_value]) for row in rows) / len(rows) if isinstance(at_value, str) else at_value
        points += [point(epoch, height, called=called, kind="rule") for epoch in (0, last_epoch)]
    return points


def _axes(panel: Panel, rows: Sequence[Row], *, last_epoch: float, left: bool) -> Spec:
    """Both axes, the same for all names; the vertical one has numbers on the `left` alone, the other below the last panel."""
    known = [float(row[measure]) for row in rows for measure in panel.lines]
    most = max((value for value in known if not math.isnan(value)), default=1) * (100 if panel.percent else 1)
    below, ticks = panel is PANELS[-1], range(0, int(last_epoch) + 1, math.ceil(last_epoch / MOST_TICKS))
    shown = {"minExtent": AXIS, "maxExtent": AXIS} if left else {"labels": False, "ticks": False, "domain": False}
    return {
        "x": {
            **{"field": "epoch", "type": "quantitative", "title": "epoch" if below else None},
            "scale": {"domain": [0, last_epoch], "nice": False},
            "axis": {"grid": False, "labels": below, "values": list(ticks)},
        },
        "y": {
            **{"field": "value", "type": "quantitative", "title": panel.title if left else None},
            "scale": {"domain": list(panel.domain or (0, most)), "nice": True},
            "axis": {"tickCount": 4, **shown},
        },
    }


def _lines(panel: Panel) -> Spec:
    names = list(panel.lines.values())
    colours, dashes = list(LIGHT.category[: len(names)]), [SOLID] * len(names)
    if panel.rule:
        names, colours, dashes = [*names, panel.rule[1]], [*colours, LIGHT.faint], [*dashes, DASHED]
    key = {
        "field": "called",
        "type": "nominal",
        "legend": {"title": None, "orient": "right"} if len(names) > 1 else None,
    }
    return {
        "mark": {"type": "line", "clip": True},
        "encoding": {
            "detail": {"field": "seed", "type": "nominal"},
            "strokeWidth": {"condition": {"test": "datum.kind === 'mean'", "value": 2.5}, "value": 1},
            "opacity": {"condition": {"test": "datum.kind === 'seed'", "value": 0.4}, "value": 1},
            "color": {**key, "scale": {"domain": names, "range": colours}},
            "strokeDash": {**key, "scale": {"domain": names, "range": dashes}},
        },
    }


def _dots(panel: Panel, points: Sequence[Mapping[str, Any]]) -> list[Spec]:
    """A layer with the points that no line goes through, since their neighbours are unknown or there are none."""
    lines = dict[tuple[Any, ...], list[Mapping[str, Any]]]()
    for point in points:
        lines.setdefault((point["called"], point["kind"], point["seed"]), []).append(point)
    low, high = panel.domain or (-math.inf, math.inf)
    lone = [
        point
        for line in lines.values()
        for before, point, after in zip([None, *line], line, [*line[1:], None], strict=False)
        if _known(point) and not _known(before) and not _known(after) and low <= point["value"] <= high
    ]
    size = {"condition": {"test": "datum.kind === 'mean'", "value": 60}, "value": 25}
    of_lines = _lines(panel)["encoding"]
    fill = {**of_lines["color"], "legend": None}  # that of the lines, whose keys would else look like neither
    encoding = {"fill": fill, "opacity": of_lines["opacity"], "size": size}
    return [{"data": {"values": lone}, "mark": {"type": "point", "stroke": None}, "encoding": encoding}] if lone else []


def _known(point: Mapping[str, Any] | None) -> bool:
    return point is not None and point["value"] is not None


def _heading(param: str, width: int) -> Spec:
    """The column's name, above it."""
    mark = {"type": "text", "baseline": "bottom", "fontSize": 15, "fontWeight": 600, "text": {"expr": param}}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": {"x": {"value": width / 2}, "y": {"value": -12}}}


def _config() -> dict[str, Any]:
    """The charts' colours in the light, with space around."""
    return {**chart_config(font=FONT, font_size=13), "padding": 10}
