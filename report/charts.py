"""Small charts as Vega-Lite specs with their data inside. Colours and fonts come from the config of whoever draws them.

spec = line_chart(rows, x="step", y="mAP", describes="mAP over training steps")
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from utils.printable import one_line
from utils.segments import Floats

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
HEIGHT = 220  # pixels
SMALL = 120
LEGEND_WIDTH = 250  # pixels; the parts of its entries are about:
CHARACTER, SYMBOL = 6, 26

Spec = dict[str, Any]
Row = Mapping[str, Any]
Scale = Mapping[str, Any] | None


def line_chart(
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    series: str = "",
    describes: str,
    height: int = HEIGHT,
    x_scale: Scale = None,
    y_scale: Scale = None,
    y_title: str | None = "",
) -> Spec:
    """Lines of the fields `x` and `y`, one for each value of `series`, in the rows' order. `y_title` "": as the field."""
    encoding: Spec = {
        "x": _axis(x, x_scale),
        "y": _axis(y, y_scale, title=y if y_title == "" else y_title),
        "tooltip": [_tip(name) for name in (series, x, y) if name],
        "order": None,  # that of the rows
    }
    if series:
        names = list(dict.fromkeys(row[series] for row in rows))
        encoding["color"] = {"field": _path(series), "type": "nominal", "sort": names, "legend": _legend(names)}
    return _chart(
        rows, describes, height, layer=[{"mark": {"type": "line", "point": len(rows) < 60}, "encoding": encoding}]
    )


def highlighted_lines(rows: Sequence[Row], *, x: str, y: str, series: str, first: str, describes: str) -> Spec:
    """Many lines, of which a list beside the chart picks one to stand out, `first` at the start. Both axes span 0 .. 1."""
    names = list(dict.fromkeys(row[series] for row in rows))
    chosen = {"param": "chosen"}
    unit = {"domain": [0, 1]}
    encoding: Spec = {
        "x": _axis(x, unit),
        "y": _axis(y, unit),
        "detail": {"field": _path(series), "type": "nominal"},
        "order": None,
        "opacity": {"condition": {**chosen, "value": 1}, "value": 0.35},
        "strokeWidth": {"condition": {**chosen, "value": 3}, "value": 1},
        "tooltip": [_tip(series), _tip(x), _tip(y)],
    }
    param = {
        "name": "chosen",
        "select": {"type": "point", "fields": [series], "on": "click"},
        "bind": {"input": "select", "options": names, "name": f"{series} "},
        "value": [{series: first}],
    }
    return _chart(
        rows,
        describes,
        HEIGHT + 60,
        layer=[{"params": [param], "mark": {"type": "line", "clip": True}, "encoding": encoding}],
    )


def bar_chart(
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    series: str = "",
    describes: str,
    stacked: bool = True,
    y_scale: Scale = None,
    horizontal: bool = False,
    order: Sequence[str] = (),
    note: str = "",
) -> Spec:
    """Bars of the number `y` over the names `x`, in the rows' order; those of several `series` stacked or side by side.

    `order`: all the series that there may be, each with a colour of its own whether it has a row or not. `note` is a field
    that is told besides.
    """
    names = list(dict.fromkeys(row[x] for row in rows))
    across: Spec = {
        "field": _path(x),
        "type": "nominal",
        "sort": names,
        "title": x,
        "axis": {"labelAngle": 0, "grid": False},
    }
    along = {**_axis(y, y_scale), "stack": "zero" if series and stacked else None}
    encoding: Spec = {"tooltip": [_tip(name) for name in (x, series, note, y) if name]}
    encoding |= {"y": across, "x": along} if horizontal else {"x": across, "y": along}
    if series:
        domain = list(order) or list(dict.fromkeys(row[series] for row in rows))
        encoding["color"] = {
            "field": _path(series),
            "type": "nominal",
            "scale": {"domain": domain},
            "legend": _legend(domain),
        }
        encoding["order"] = {"field": "_order"}
        if not stacked:
            encoding["yOffset" if horizontal else "xOffset"] = {"field": _path(series), "scale": {"domain": domain}}
    numbered = [{**row, "_order": i} for i, row in enumerate(rows)]
    height = max(SMALL, 26 * len(names)) if horizontal else HEIGHT
    return _chart(numbered, describes, height, layer=[{"mark": {"type": "bar"}, "encoding": encoding}])


def with_rule(spec: Spec, *, x: float, label: str) -> Spec:
    """The chart with a labelled vertical line at `x`."""
    at_most = max(row[spec["layer"][0]["encoding"]["x"]["field"]] for row in spec["data"]["values"])
    on_the_left = {"align": "right", "dx": -5} if x > at_most / 2 else {"align": "left", "dx": 5}
    rule = {
        "data": {"values": [{"at": x, "label": label}]},
        "encoding": {"x": {"field": "at", "type": "quantitative"}},
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [4, 3]}},
            {
                "mark": {"type": "text", "baseline": "top", **on_the_left},
                "encoding": {"text": {"field": "label"}, "y": {"value": 2}},
            },
        ],
    }
    return {**spec, "layer": [*spec["layer"], rule]}


def with_diagonal(spec: Spec) -> Spec:
    """The chart with a line from (0, 0) to (1, 1): where a score is the share that is right."""
    diagonal = {
        "data": {"values": [{"at": 0, "is": 0}, {"at": 1, "is": 1}]},
        "mark": {"type": "line", "strokeDash": [4, 3], "strokeWidth": 1},
        "encoding": {"x": {"field": "at", "type": "quantitative"}, "y": {"field": "is", "type": "quantitative"}},
    }
    return {**spec, "layer": [diagonal, *spec["layer"]]}


def interval_chart(rows: Sequence[Row], *, name: str, value: str, low: str, high: str, describes: str) -> Spec:
    """A point and its interval for each `name`, below each other, and a line at zero."""
    names = list(dict.fromkeys(row[name] for row in rows))
    y = {"field": _path(name), "type": "nominal", "sort": names, "title": None}
    tips = [_tip(field) for field in (name, value, low, high)]
    span = {"x": {**_axis(low, None), "title": value}, "x2": {"field": _path(high)}, "y": y, "tooltip": tips}
    zero = {
        "data": {"values": [{"zero": 0}]},
        "mark": {"type": "rule", "strokeDash": [4, 3]},
        "encoding": {"x": {"field": "zero", "type": "quantitative"}},
    }
    point = {"x": {**_axis(value, None), "title": value}, "y": y, "tooltip": tips}
    return _chart(
        rows,
        describes,
        max(SMALL, 22 * len(names)),
        layer=[
            zero,
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": span},
            {"mark": {"type": "point", "filled": True, "size": 60}, "encoding": point},
        ],
    )


def thinned(x: Floats, *columns: Floats, most: int) -> tuple[Floats, ...]:
    """At most `most` points of columns [N] that belong together, the first and the last among them."""
    keep = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).round().astype(np.int64))
    return tuple(column[keep] for column in (x, *columns))


def spaced(x: Floats, *columns: Floats, most: int) -> tuple[Floats, ...]:
    """At most `most` points of columns [N], at places along `x`, ascending, that are about equally far from each other.

    Where several points have one x, it is the first of them.
    """
    keep = np.unique(np.searchsorted(x, np.linspace(x[0], x[-1], most))) if len(x) else np.zeros(0, np.int64)
    return tuple(column[keep] for column in (x, *columns))


def rounded(value: float) -> float:
    """Four significant digits: what a chart can show."""
    return float(f"{value:.4g}")


def _chart(rows: Sequence[Row], describes: str, height: int, *, layer: list[Spec]) -> Spec:
    return {
        "$schema": SCHEMA,
        "description": one_line(describes),
        "width": "container",
        "height": height,
        "data": {"values": [{key: _plain(value) for key, value in row.items()} for row in rows]},
        "layer": layer,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, (float, np.floating)):
        return rounded(float(value)) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _axis(field: str, scale: Scale, *, title: str | None = "") -> Spec:
    axis: Spec = {"field": _path(field), "type": "quantitative", "title": field if title == "" else title}
    return {**axis, "scale": dict(scale)} if scale else axis


def _legend(names: Sequence[str]) -> Spec:
    """Above the chart, in as many columns as a small chart is wide."""
    longest = max(map(len, names), default=1)
    return {"orient": "top", "title": None, "columns": max(1, LEGEND_WIDTH // (CHARACTER * longest + SYMBOL))}


def _tip(field: str) -> Spec:
    return {"field": _path(field), "title": field}


def _path(field: str) -> str:
    """A field's name where Vega-Lite expects a path: dots and brackets stand for themselves."""
    return "".join(f"\\{c}" if c in ".[]'\"\\" else c for c in field)
