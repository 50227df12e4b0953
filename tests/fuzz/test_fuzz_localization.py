"""Sequences and options of any kind give detections that are whole, in order and finite; and those of the plain loop."""

import numpy as np
import pytest
from hypothesis import strategies as st
from support.fuzz import called, fuzz
from support.strategies import AMOUNTS, COUNTS, ODD_GRIDS

from command_line.console import run_tool
from eval.detection import evaluate_detections
from localization.instances import Prediction, localize
from localization.nms import nms
from localization.proposals import Upsampled, generate_proposals, runs_above
from options import LocalizationOptions, parse_flags, resolve
from reference import loops
from utils.segments import Segments
from utils.snippet_grid import SnippetGrid

GRID = SnippetGrid(frames=16, stride=16)
CLASSES = 3
shares = st.floats(0, 1, width=32)
levels = st.integers(0, 8).map(lambda n: n / 8)  # exact ties, and values exactly at a threshold


@st.composite
def sequences(draw, shortest=1, longest=30):
    """[P,T] in 0 .. 1: noise, steps, constants."""
    values = shares | levels
    length, count = draw(st.integers(shortest, longest)), draw(st.integers(1, CLASSES))
    kind = draw(st.sampled_from(("values", "constant", "step")))
    if kind == "constant":
        return np.full((count, length), draw(values), np.float32)
    if kind == "step":
        first = draw(st.integers(0, length))
        return np.where(np.arange(length) < first, draw(values), draw(values)).astype(np.float32)[None].repeat(count, 0)
    return np.array(
        draw(st.lists(st.lists(values, min_size=length, max_size=length), min_size=count, max_size=count)), np.float32
    )


@st.composite
def predictions(draw):
    """One video's: its length before resampling, its frame rate, and its predicted classes."""
    curves = draw(sequences())
    scores = np.array(draw(st.lists(shares, min_size=CLASSES, max_size=CLASSES)), np.float32)
    fps = draw(st.sampled_from((25.0, 30.0, 1e-6, 29.97, 1e9)))
    return Prediction(
        num_snippets=draw(st.integers(1, 10_000)),
        fps=fps,
        class_scores=scores,
        classes=np.arange(len(curves)),
        sequences=curves,
    )


# Only values that a user can give: those that `resolve` refuses are not localized with.
options = st.fixed_dictionaries(
    {},
    optional={
        "scale": st.integers(1, 30) | st.sampled_from(COUNTS),
        "proposal_th": st.sampled_from(ODD_GRIDS),
        "outer_margin": st.sampled_from(AMOUNTS) | st.floats(0, 3),
        "gamma": st.sampled_from(AMOUNTS) | st.floats(0, 3),
        "nms_alpha": st.sampled_from(AMOUNTS) | st.floats(0.01, 1),
        "nms_thresh": st.floats(0, 1),
        "nms_offset": st.sampled_from(AMOUNTS) | st.floats(0, 3),
        "soft_nms": st.booleans(),
        "snippet_frames": st.integers(1, 64) | st.sampled_from(COUNTS),
        "snippet_stride": st.integers(1, 64) | st.sampled_from(COUNTS),
        "fps": st.sampled_from(AMOUNTS),
        "tious": st.sampled_from(ODD_GRIDS),
    },
)


def accepted(values):
    """The options that these flags mean, or None if they are refused, in one line."""
    flags = [f"--{name}={value}" for name, value in values.items() if name != "soft_nms"]
    flags += ["--soft_nms" if values["soft_nms"] else "--no-soft_nms"] if "soft_nms" in values else []
    found = []
    outcome = called(lambda a: run_tool("main.py", lambda a: found.append(resolve(parse_flags(a))), a), flags)
    assert (outcome.code == 0) == bool(found)
    return found[0] if found else None


@fuzz(300, videos=st.lists(predictions(), min_size=1, max_size=3), values=options)
def test_detections_are_finite_and_in_order_with_any_accepted_options(videos, values):
    chosen = accepted(values)
    if chosen is None:
        return
    if chosen.data.fps:
        videos = [Prediction(**{**vars(video), "fps": chosen.data.fps}) for video in videos]

    def detect(_):
        found = localize(videos, chosen.localization, grid=chosen.data.grid)
        check_detections(found)
        if len(found):
            truth = Segments.from_rows([(0, 0, 1.0, 2.0, 1.0), (0, 1, 3.0, 9.0, 1.0)])
            result = evaluate_detections(truth, found, num_classes=CLASSES, tious=chosen.evaluation.tiou_grid)
            assert ((result.map >= 0) & (result.map <= 1)).all()

    # Weights and options can multiply to more than a float holds: that is said, in one line.
    assert called(lambda a: run_tool("main.py", detect, a), []).code in (0, 2)


def check_detections(found):
    for column in (found.start, found.end, found.score):
        assert np.isfinite(column).all()
    assert (found.start < found.end).all(), "a detection without length"
    group = found.video * CLASSES + found.label
    assert (np.diff(group) >= 0).all(), "not by video and class"
    assert ((np.diff(found.score) <= 0) | (np.diff(group) > 0)).all(), "not by falling score"


@fuzz(
    150,
    curves=sequences(2, 12),
    scale=st.integers(1, 24),
    margin=st.floats(0, 2),
    length=st.integers(1, 5000),
)
def test_proposals_are_those_of_the_loop(curves, scale, margin, length):
    thresholds = (0.1, 0.35, 0.6)
    near = np.abs(Upsampled(curves, scale).start[:, :, None] - np.array(thresholds)).min(initial=1)
    if near < 1e-3 or loops_disagree(curves, scale, thresholds, margin):
        return  # a rounding may decide
    options = LocalizationOptions(scale=scale, proposal_th="0.1:0.6:0.25", outer_margin=margin, gamma=0.2)
    count = len(curves)
    scores = np.linspace(0.1, 0.9, count, dtype=np.float32)
    made = generate_proposals(
        curves,
        class_scores=scores,
        num_snippets=np.full(count, length),
        fps=np.full(count, 25.0),
        options=options,
        grid=GRID,
    )
    for row, curve in enumerate(curves.astype(float).tolist()):
        points = loops.upsample(curve, scale)
        expected = loops.proposals(points, float(scores[row]), length, thresholds, margin, 0.2)
        actual = [(s, e, p) for r, s, e, p in zip(made.row, made.start, made.end, made.score, strict=True) if r == row]
        assert len(actual) == len(expected)
        np.testing.assert_allclose(
            np.array(actual).reshape(-1, 3), np.array(expected).reshape(-1, 3), atol=1e-5, rtol=1e-6
        )


def loops_disagree(curves, scale, thresholds, margin):
    """Whether a point lies so near a threshold, or a margin so near a whole number, that float32 differences decide."""
    for curve in curves.astype(float).tolist():
        points = np.array(loops.upsample(curve, scale))
        if np.abs(points[:, None] - np.array(thresholds)).min() < 1e-5:
            return True
    lengths = margin * np.arange(1, scale * curves.shape[1] + 1)
    return bool((np.abs(lengths - np.round(lengths)) < 1e-6).any() and margin != round(margin))


@fuzz(150, curves=sequences(1, 12), scale=st.integers(1, 24), threshold=levels)
def test_runs_are_above_and_as_long_as_possible(curves, scale, threshold):
    if not 0 < threshold < 1:
        return
    points = Upsampled(curves, scale)
    each = np.empty((points.rows, points.count))
    for i in range(points.count):
        line = min(max(i - 1, 0) // scale, points.lines - 1)
        each[:, i] = points.at(
            np.arange(points.rows), np.full(points.rows, line), np.full(points.rows, i - line * scale)
        )
    for row, first, last in zip(*runs_above(points, (threshold,)), strict=True):
        assert (each[row, first : last + 1] >= threshold).all()
        assert first == 0 or each[row, first - 1] < threshold
        assert last == points.count - 1 or each[row, last + 1] < threshold


times = st.floats(0, 50, width=32)


@fuzz(
    150,
    rows=st.lists(st.tuples(times, st.floats(0.25, 10, width=32), st.floats(-1, 1, width=32)), max_size=15),
    threshold=st.floats(0.05, 0.95),
    offset=st.sampled_from((0.0, 1.0)),
    soft=st.booleans(),
)
def test_nms_is_that_of_the_loop(rows, threshold, offset, soft):
    spans = [(start, start + length) for start, length, _ in rows]
    scores = [score for *_, score in rows]
    options = LocalizationOptions(nms_thresh=threshold, nms_offset=offset, soft_nms=soft, nms_alpha=0.3)
    start, end = (np.array([span[i] for span in spans], np.float64) for i in (0, 1))
    kept, final = nms(np.zeros(len(rows), np.int64), start, end, np.array(scores, np.float64), options=options)
    expected = loops.nms(spans, scores, threshold, offset, 0.3 if soft else None)
    assert sorted(kept.tolist()) == sorted(position for position, _ in expected)
    assert sorted(final.tolist()) == pytest.approx(sorted(score for _, score in expected), abs=1e-12)
    assert (np.diff(final) <= 0).all()
