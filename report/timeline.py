"""The timeline of one video, as one Vega-Lite spec: what is true, what is detected, and the sequences that it comes from.

spec = timeline_spec(streams=("rgb", "flow"), parts=PARTS)                  # for a page, which fills the data sets
rows = timeline_rows(timelines, detections, 3, hit=hit, missed=missed)      # of video 3
spec = timeline_spec(streams=..., parts=..., rows=rows, width=280)          # a picture, complete in itself

All rows share one axis of seconds, from the parameter view_start to view_end. Detections below the parameter `threshold` are
hidden; `sequence` is CAS or COMBINED; `chosen` is the id of the detection that is outlined; `playhead` and `cursor` are
seconds, negative for none. `class_names` are the classes shown, from the top. Data sets are called as the fields of
TimelineRows, and hold its rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.timelines import Timelines, VideoSequences
from utils.printable import printable
from utils.segments import Floats, Indices, Segments

CAS, COMBINED = "CAS", "combined sequence"
PROBABILITY = "class probability"  # what CAS is called where it is all there is
FUSED, PSEUDO_LABEL, MASK = "fused", "pseudo label", "adaptive mask"
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
NOBODY = -1  # the id of no detection, the second of no moment
FAINTEST = 0.15  # opacity of the lowest score of a run; the highest has 1
MOST_CLASSES = 12  # rows of a video
TICKS = {"expr": "width / 80"}

Row = Mapping[str, Any]
Spec = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TimelineRows:
    """What a timeline shows of a video. Times are in seconds; classes are names that are fit to be printed."""

    seconds: float
    class_names: Sequence[str] = ()
    truth: Sequence[Row] = ()  # {"class", "start", "end", "missed"}, missed ones as hollow bars
    detections: Sequence[Row] = ()  # {"id", "class", "start", "end", "score", "opacity", "hit"}, lowest score first
    # {"name", "time", "value"}, a step from each row to the next of its name
    classes: Sequence[Row] = ()  # with "kind", CAS or COMBINED; names are classes
    actionness: Sequence[Row] = ()  # names are streams and FUSED
    targets: Sequence[Row] = ()  # names are PSEUDO_LABEL and MASK


def shown_classes(timelines: Timelines, detections: Segments, video: int) -> Indices:
    """At most MOST_CLASSES classes of a video, ascending: those that are true, then predicted or detected, by class score."""
    true, predicted = timelines.labels[video].copy(), timelines.predicted[video].copy()
    true[timelines.truth.label[timelines.truth.video == video]] = True
    predicted[detections.label[detections.video == video]] = True
    order = np.lexsort((-timelines.class_scores[video], ~predicted, ~true))
    return np.sort(order[: min(MOST_CLASSES, int((true | predicted).sum()))])


def opacities(scores: Floats) -> Floats:
    """FAINTEST .. 1, linear in the score from the run's lowest to its highest. [N]"""
    low, high = scores.min(initial=0.0), scores.max(initial=0.0)
    return np.asarray(FAINTEST + (1 - FAINTEST) * (scores - low) / max(high - low, 1e-12))


def timeline_rows(
    timelines: Timelines,
    detections: Segments,
    video: int,
    *,
    hit: NDArray[np.bool_] | None = None,
    missed: NDArray[np.bool_] | None = None,
) -> TimelineRows:
    """The rows of one video.

    `hit` [N] says which of all detections are correct, `missed` [G] which of all instances none hits; None: not known.
    """
    shown = shown_classes(timelines, detections, video)
    names = {int(c): printable(timelines.classes[c]) for c in shown}
    truth, opacity = timelines.truth, opacities(detections.score)
    instances = [i for i in np.flatnonzero(truth.video == video).tolist() if int(truth.label[i]) in names]
    found = [i for i in np.flatnonzero(detections.video == video).tolist() if int(detections.label[i]) in names]
    found.sort(key=lambda i: detections.score[i])
    sequences = timelines.sequences[video]
    times = timelines.first[video] + timelines.step[video] * np.arange(sequences.num_snippets + 1)
    combined = [] if sequences.combined is None else [(COMBINED, sequences.combined)]
    fused = {} if sequences.actionness is None else {FUSED: sequences.actionness}

    def segment(segments: Segments, i: int) -> Row:
        return {
            "class": names[int(segments.label[i])],
            "start": float(segments.start[i]),
            "end": float(segments.end[i]),
        }

    def line(name: str, values: NDArray[np.float32], **more: str) -> list[Row]:
        stepped = np.append(values, values[-1:])  # the last snippet has an end too
        rows = zip(times.tolist(), stepped.astype(float).tolist(), strict=False)
        return [{"name": name, "time": time, "value": value, **more} for time, value in rows]

    return TimelineRows(
        seconds=float(timelines.seconds[video]),
        class_names=list(names.values()),
        truth=[{**segment(truth, i), "missed": missed is not None and bool(missed[i])} for i in instances],
        detections=[
            {
                **segment(detections, i),
                "id": int(i),
                "score": float(detections.score[i]),
                "opacity": float(opacity[i]),
                "hit": hit is not None and bool(hit[i]),
            }
            for i in found
        ],
        classes=[
            row
            for kind, of_classes in ((CAS, sequences.cas), *combined)
            for c, values in zip(sequences.classes.tolist(), of_classes, strict=True)
            if c in names
            for row in line(names[c], values, kind=kind)
        ],
        actionness=[row for name, values in {**sequences.streams, **fused}.items() for row in line(name, values)],
        targets=[row for name, values in _targets(sequences).items() for row in line(name, values)],
    )


def _targets(sequences: VideoSequences) -> dict[str, NDArray[np.float32]]:
    found = {PSEUDO_LABEL: sequences.pseudo_label, MASK: sequences.mask}
    return {name: values for name, values in found.items() if values is not None}


def timeline_spec(
    *,
    streams: Sequence[str],
    parts: Sequence[str],
    known: bool = True,
    rows: TimelineRows | None = None,
    width: float = 600,
    gutter: float = 110,
    row_height: float = 26,
    sequence_height: float = 70,
    threshold: float = -1e9,
    sequence: str = CAS,
) -> Spec:
    """`parts` are those of the videos' sequences (formats.timelines.PARTS); `known`: whether there is ground truth.

    Sizes are in pixels: `width` without the `gutter`, which holds the names of the classes.
    """
    rows = rows or TimelineRows(seconds=1.0)
    values: dict[str, Any] = {
        "view_start": 0.0,
        "view_end": rows.seconds,
        "threshold": threshold,
        "sequence": sequence,
        "chosen": NOBODY,
        "playhead": NOBODY,
        "cursor": NOBODY,
        "class_names": list(rows.class_names) or ["no class"],  # a chart without any has no layout
        "gutter": gutter,
    }
    targets = [name for part, name in (("pseudo_label", PSEUDO_LABEL), ("mask", MASK)) if part in parts]
    names: dict[str, Sequence[str] | Spec] = {"classes": {"expr": "class_names"}}
    if "actionness" in parts:
        names["actionness"] = [*streams, FUSED]
    if targets:
        names["targets"] = targets
    titles = {"classes": sequence if "combined" in parts else PROBABILITY}
    sequences = [_sequence_view(n, titles.get(n, n), names[n], width, sequence_height) for n in names]
    sequences[-1]["layer"][0]["encoding"]["x"]["axis"] = {"title": "seconds", "tickCount": TICKS}
    return {
        "$schema": SCHEMA,
        "description": "A timeline: ground truth and detections of each class, and the sequences that they come from.",
        "params": [{"name": name, "value": value} for name, value in values.items()],
        "datasets": {name: list(getattr(rows, name)) for name in ("truth", "detections", *names)},
        "spacing": 14,
        "vconcat": [_instances_view(width, row_height, known), *sequences],
        "resolve": {"scale": {"color": "independent"}},
        "autosize": {"type": "pad", "resize": True},
    }


def _time(field_name: str = "time", **more: Any) -> Spec:
    """The axis of seconds, without the labels that only the last row has."""
    quiet = {"labels": False, "ticks": False, "domain": False, "title": None, "tickCount": TICKS}
    scale = {"domain": [{"expr": "view_start"}, {"expr": "view_end"}], "nice": False, "zero": False}
    return {"field": field_name, "type": "quantitative", "scale": scale, "axis": quiet, **more}


def _moments() -> list[Spec]:
    """Vertical rules at the playhead and at the cursor."""
    return [
        {
            "data": {"values": [{}]},
            "mark": {
                "type": "rule",
                "strokeWidth": width,
                "clip": True,
                "style": "ink",
                "tooltip": None,
                "aria": False,
            },
            "encoding": {
                "x": {"datum": {"expr": name}, "type": "quantitative"},
                "opacity": {"value": {"expr": f"{name} < 0 ? 0 : {opacity}"}},
            },
        }
        for name, width, opacity in (("playhead", 2, 1), ("cursor", 1, 0.5))
    ]


def _instances_view(width: float, row_height: float, known: bool) -> Spec:
    """A row for each class: what is true as a slim bar, what is detected below it."""
    title = "truth (slim), detections (outlined: hit)" if known else "detections (truth is not known)"
    extent = {"expr": "gutter"}
    labels = {"title": None, "minExtent": extent, "maxExtent": extent, "labelLimit": {"expr": "gutter - 8"}}
    axis = {**labels, "ticks": False, "domain": False, "grid": True, "tickBand": "extent"}
    y = {"field": "class", "type": "nominal", "scale": {"domain": {"expr": "class_names"}, "padding": 0}, "axis": axis}
    colour = {"field": "class", "type": "nominal", "scale": {"domain": {"expr": "class_names"}}, "legend": None}
    slim, tall = row_height * 0.2, row_height * 0.42
    place: Spec = {"x": _time("start"), "x2": {"field": "end"}, "y": y, "color": colour}
    detection: Spec = {
        "type": "bar",
        "height": tall,
        "yOffset": 0.14 * row_height,
        "clip": True,
        "cursor": "pointer",
        "aria": False,
    }

    def outlined(which: str, stroke: float) -> Spec:
        return {
            "data": {"name": "detections"},
            "transform": [{"filter": f"datum.score >= threshold && {which}"}],
            "mark": {**detection, "fill": "transparent", "style": "outline", "strokeWidth": stroke},
            "encoding": {key: place[key] for key in ("x", "x2", "y")},
        }

    return {
        "title": {"text": title, "offset": 6, "frame": "group"},
        "width": width,
        "height": {"step": row_height},
        "layer": [
            {
                "data": {"name": "truth"},
                "mark": {"type": "bar", "height": slim, "yOffset": -0.28 * row_height, "clip": True, "aria": False},
                "encoding": {
                    **place,
                    "fillOpacity": {"condition": {"test": "datum.missed", "value": 0.1}, "value": 1},
                    "stroke": {**colour, "title": None},
                },
            },
            {
                "data": {"name": "detections"},
                "transform": [{"filter": "datum.score >= threshold"}],
                "mark": detection,
                "encoding": {
                    **place,
                    "fillOpacity": {"field": "opacity", "type": "quantitative", "scale": None, "legend": None},
                },
            },
            outlined("datum.hit", 1),
            outlined("datum.id === chosen", 3),
            *_moments(),
        ],
    }


def _sequence_view(name: str, title: str, domain: Sequence[str] | Spec, width: float, height: float) -> Spec:
    """A row of lines over time, which are constant over a snippet."""
    of_classes = name == "classes"
    colour: Spec = {
        "field": "name",
        "type": "nominal",
        "scale": {"domain": domain, **({} if of_classes else {"range": "ordinal"})},
        "legend": {
            "title": title,
            "orient": "top",
            "direction": "horizontal",
            "titleOrient": "left",
            "symbolType": "stroke",
            "offset": 5,
            "labelLimit": {"expr": "clamp(width - 150, 60, 220)"},
            **({"columns": {"expr": "max(1, floor(width / 160))"}} if of_classes else {}),
        },
    }
    extent = {"expr": "gutter"}
    axis = {
        "title": None,
        "values": [0, 0.5, 1],
        "minExtent": extent,
        "maxExtent": extent,
        "ticks": False,
        "domain": False,
    }
    shown: Spec = {"transform": [{"filter": "datum.kind === sequence"}]} if of_classes else {}
    return {
        "width": width,
        "height": height,
        "layer": [
            {
                "data": {"name": name},
                **shown,
                "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.5, "clip": True, "aria": False},
                "encoding": {
                    "x": _time(),
                    "y": {"field": "value", "type": "quantitative", "scale": {"domain": [0, 1]}, "axis": axis},
                    "color": colour,
                },
            },
            *_moments(),
        ],
    }
