"""The timeline's rows, by hand, and its spec, which Vega-Lite must understand."""

import json

import numpy as np
import pytest
from support.small_timelines import small_timelines

from formats.timelines import PARTS
from report.theme import DARK, LIGHT, chart_config
from report.timeline import CAS, COMBINED, FAINTEST, MASK, MOST_CLASSES, timeline_rows, timeline_spec
from utils.segments import Segments

DETECTIONS = Segments.from_rows([(0, 1, 1.0, 2.5, 0.9), (0, 0, 4.0, 6.0, 0.5), (1, 0, 0.0, 1.0, 0.1)])


def rows(video=0, **options):
    return timeline_rows(small_timelines(), DETECTIONS, video, **options)


def test_detections_come_lowest_score_first_with_the_opacity_of_their_score():
    found = rows(hit=np.array([True, False, False])).detections
    assert [(d["id"], d["class"], d["start"], d["end"], d["score"], d["hit"]) for d in found] == [
        (1, "Dive", 4.0, 6.0, 0.5, False),
        (0, "Jump", 1.0, 2.5, 0.9, True),
    ]
    # The run's scores go from 0 (no score is below it) to 0.9.
    assert [d["opacity"] for d in found] == pytest.approx([FAINTEST + (1 - FAINTEST) * 5 / 9, 1.0])


def test_a_line_steps_at_the_snippets_bounds_and_ends_with_the_last_one():
    timelines = small_timelines()
    line = [row for row in rows().actionness if row["name"] == "fused"]
    values = timelines.sequences[0].actionness.tolist()
    assert [row["time"] for row in line] == pytest.approx(
        [timelines.first[0] + timelines.step[0] * t for t in range(9)]
    )
    assert [row["value"] for row in line] == pytest.approx([*values, values[-1]])


def test_classes_have_both_sequences():
    kinds = {(row["name"], row["kind"]) for row in rows().classes}
    assert kinds == {(name, kind) for name in ("Dive", "Jump") for kind in (CAS, COMBINED)}


def test_a_detected_class_that_nobody_predicted_has_a_row():
    other = Segments.from_rows([(0, 2, 0.0, 1.0, 0.3)])
    assert timeline_rows(small_timelines(), other, 0).class_names == ["Dive", "Jump", "Throw"]


def test_true_classes_stay_where_rows_are_many():
    many = small_timelines(classes=tuple(f"c{i:02d}" for i in range(30)))
    everything = Segments.from_rows([(0, c, 0.0, 1.0, 0.5) for c in range(30)])
    names = timeline_rows(many, everything, 0).class_names
    assert len(names) == MOST_CLASSES and {"c00", "c01"} <= set(names)


def test_names_are_printable():
    names = timeline_rows(small_timelines(classes=("a\x1b[2J", "\ud800", "c")), DETECTIONS, 0).class_names
    assert names == ["a\\x1b[2J", "\\ud800"]


@pytest.mark.parametrize("shape", [{}, {"mask": False}, {"streams": ("rgb",)}, {"streams": ()}])
def test_vega_lite_understands_the_spec(shape):
    vl_convert = pytest.importorskip("vl_convert")
    timelines = small_timelines(**shape)
    streams = tuple(timelines.sequences[0].streams)
    found = timeline_rows(timelines, DETECTIONS, 0)
    spec = timeline_spec(streams=streams, parts=timelines.sequences[0].parts, rows=found, width=300)
    svg = vl_convert.vegalite_to_svg(spec, vl_version="6.4", config=chart_config())
    assert "seconds" in svg and "Dive" in svg and (MASK in svg) == shape.get("mask", True)
    assert "NaN" not in svg
    compiled = vl_convert.vegalite_to_vega(spec, vl_version="6.4")
    assert {"view_start", "view_end", "threshold", "chosen"} <= {signal["name"] for signal in compiled["signals"]}
    assert compiled["width"] == 300, "the page sets the width of all rows by this one signal"


def test_an_empty_spec_waits_for_its_data():
    spec = timeline_spec(streams=("rgb",), parts=PARTS)
    assert set(spec["datasets"]) == {"truth", "detections", "classes", "actionness", "targets"}
    assert not any(spec["datasets"].values())
    json.dumps(spec, allow_nan=False)


def luminance(colour):
    channels = [value / 255 for value in bytes.fromhex(colour[1:])]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_colours_stand_out_from_the_ground(palette):
    """Contrast as WCAG 2 defines it: 4.5 for text, 3 for graphics."""

    def contrast(colour):
        one, other = sorted((luminance(colour), luminance(palette.ground)))
        return (other + 0.05) / (one + 0.05)

    assert min(contrast(c) for c in (palette.text, palette.faint)) >= 4.5
    assert min(contrast(c) for c in (*palette.category, *palette.ordinal)) >= 3
