"""The section of a report with a run's curves: mAP and accuracy, every loss, and the state of the adaptive mask."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from report.charts import Row, Spec, line_chart, thinned
from report.judged import Judged
from report.markup import figure, figures, heading, paragraph
from report.section import Section
from utils.segments import Floats

MOST_POINTS = 400  # of a curve in a chart
MOST_THRESHOLDS = 8  # lines of mAP in one chart: as many as there are colours
# Curves of evaluations, by what comes before "/" in their names.
MEASURES = {"average_mAP": "average mAP", "mAP": "mAP", "video_accuracy": "video accuracy"}
# The same of curves of training, each in a small chart of its own.
STEPS = {
    "loss": (
        "Losses",
        "Each term before its weight; the total is weighted. Long curves are means of equal spans of steps.",
    ),
    "actionness": ("Adaptive mask and pseudo labels", "Means over the batches of training."),
    "held_out": ("Held-out training videos", "Cross entropy of their class scores, in nats, by which val is chosen."),
    "optimisation": ("Learning rate", ""),
}


def curve_section(judged: Judged) -> Section:
    by_name = {str(name): frame for name, frame in judged.run.curves.groupby("name", sort=False)}
    charts: dict[str, Spec] = {}
    measures = []
    for measure, what in MEASURES.items():
        chosen = [name for name in by_name if name.partition("/")[0] == measure]
        if chosen:
            key = f"curve-{measure}"
            charts[key] = _measure_chart({name: by_name[name] for name in chosen}, what)
            some = f"; {MOST_THRESHOLDS} of {len(chosen)} thresholds" if len(chosen) > MOST_THRESHOLDS else ""
            measures.append(figure(key, f"{what} on the test videos, in percent{some}"))
    parts = [figures(measures)] if measures else []
    for group, (title, note) in STEPS.items():
        drawn = []
        for number, name in enumerate(name for name in by_name if name.partition("/")[0] == group):
            key, what = f"curve-{group}-{number}", name.partition("/")[2].replace("_", " ")
            charts[key] = _step_chart(by_name[name], f"{group} {what}" if group == "loss" else what)
            drawn.append(figure(key, what))
        if drawn:
            parts += [heading(title), paragraph(note) if note else "", figures(drawn)]
    html = "".join(parts) or paragraph("This run has no curves.")
    return Section(key="curves", title="Curves", html=html, charts=charts)


def _measure_chart(curves: Mapping[str, pd.DataFrame], what: str) -> Spec:
    """Lines over steps, of many thresholds a few."""
    shown: Sequence[str] = list(thinned(np.array(list(curves), object), most=MOST_THRESHOLDS)[0])
    rows: list[Row] = [
        {"step": int(step), what: 100 * float(value), "curve": name.partition("/")[2]}
        for name in shown
        for step, value in zip(*thinned(*_columns(curves[name]), most=MOST_POINTS), strict=True)
    ]
    series = "curve" if len(shown) > 1 else ""
    return line_chart(rows, x="step", y=what, series=series, describes=f"{what} in percent over steps")


def _step_chart(curve: pd.DataFrame, what: str) -> Spec:
    rows = [{"step": int(step), "value": float(value)} for step, value in zip(*_means(*_columns(curve)), strict=True)]
    return line_chart(rows, x="step", y="value", describes=f"{what} over steps", height=140, y_title=None)


def _columns(curve: pd.DataFrame) -> tuple[Floats, Floats]:
    return curve["step"].to_numpy(), curve["value"].to_numpy()


def _means(steps: Floats, values: Floats) -> tuple[Floats, Floats]:
    """At most MOST_POINTS points: the means of equal spans, at their last steps."""
    if len(steps) <= MOST_POINTS:
        return steps, values
    spans = np.array_split(np.arange(len(steps)), MOST_POINTS)
    return np.array([steps[span[-1]] for span in spans]), np.array([values[span].mean() for span in spans])
