"""Two runs or more on the same videos, side by side: what differs between them, and whether it is more than chance.

for section in comparison_sections([judged, other]): section.title, section.html, section.charts
"""

from collections.abc import Sequence

import numpy as np

from command_line.progress import Progress
from eval.detection import DetectionResult, evaluate_detections
from eval.statistics import CONFIDENCE, DRAWS, Difference, Estimate, num_steps, paired_bootstrap
from formats.names import amount, shown
from formats.run_results import INFERENCE, selected_of
from options import CALL_FLAGS, FLAGS, NEUTRAL_FLAGS
from report.charts import Row, Spec, interval_chart, line_chart, thinned
from report.judged import Judged
from report.links import explore_link
from report.markup import Cell, Cells, figure, figures, paragraph, percent, setting, signed, table, text
from report.section import Section
from utils.errors import InputError
from utils.printable import one_line
from utils.ranges import parse_span

MOST_POINTS = 400  # of a curve
MOST_CLASSES = 40  # in a chart
FEW = 10  # videos or instances, of which an interval says little if there are fewer
NO_TRUTH = "A comparison needs ground truth: no test video of these runs has annotated segments."


def comparison_sections(judged: Sequence[Judged], *, draws: int = DRAWS) -> list[Section]:
    """The sections about how the other runs differ from the first, with intervals over `draws` sets of test videos.

    Raises InputError for runs on other videos or classes, or with another truth.
    """
    names = run_names(judged)
    _check_same_data(judged, names)
    options = (
        paragraph("No option differs.")
        if not (changed := _options(judged))
        else table("Options that differ", ["option", *names], changed)
    )
    if not judged[0].known:
        return [Section(key="comparison", title="Comparison", html=paragraph(NO_TRUTH) + options)]
    results = [_result(one, like=judged[0]) for one in judged]
    differences = [_difference(judged[0], other, draws=draws) for other in judged[1:]]
    return [
        _overall(judged, names, results, differences, options),
        _by_class(judged, names, results, differences),
    ]


def run_names(judged: Sequence[Judged]) -> list[str]:
    """A name for each run, no two the same."""
    names = [one_line(one.run.name, longest=60) for one in judged]
    return [f"{name} ({i + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _check_same_data(judged: Sequence[Judged], names: Sequence[str]) -> None:
    first = judged[0].run.timelines
    for one, name in zip(judged[1:], names[1:], strict=True):
        other = one.run.timelines
        for what, here, there in (("videos", first.videos, other.videos), ("classes", first.classes, other.classes)):
            if here != there:
                odd = sorted(set(here) ^ set(there))
                which = f"{shown(odd)} in one of them alone" if odd else "in another order"
                raise InputError(f"--report {names[0]} {name}: of other {what}, {which}; compare runs on the same data")
        same = len(first.truth) == len(other.truth) and all(
            np.array_equal(getattr(first.truth, column), getattr(other.truth, column))
            for column in ("video", "label", "start", "end")
        )
        if not same:
            raise InputError(f"--report {names[0]} {name}: of another ground truth; evaluate both against the same")


def _result(one: Judged, *, like: Judged) -> DetectionResult:
    """The evaluation of a run at the tIoUs of another."""
    timelines = one.run.timelines
    tious = like.run.options.evaluation.tiou_grid
    return evaluate_detections(timelines.truth, one.run.detections, num_classes=len(timelines.classes), tious=tious)


def _difference(first: Judged, other: Judged, *, draws: int) -> Difference:
    timelines = first.run.timelines
    steps = num_steps(len(timelines.videos), draws=draws)
    with Progress(total=steps, desc="drawing test videos", unit="draw", leave=False) as drawn:

        def step() -> None:
            drawn.update()
            if drawn.is_due:
                drawn.report()

        return paired_bootstrap(
            timelines.truth,
            first.run.detections,
            other.run.detections,
            num_classes=len(timelines.classes),
            num_videos=len(timelines.videos),
            tious=first.run.options.evaluation.tiou_grid,
            draws=draws,
            step=step,
        )


def _overall(
    judged: Sequence[Judged],
    names: Sequence[str],
    results: Sequence[DetectionResult],
    differences: Sequence[Difference],
    options: str,
) -> Section:
    charts = {"chart-differences": _difference_chart(names, differences)}
    figured = [figure("chart-differences", f"Differences of mAP to {names[0]}, in percent, and their intervals")]
    curves = _curves(judged, names)
    if curves:
        charts["chart-runs"] = curves
        figured.append(figure("chart-runs", "Average mAP in percent on the test videos, over steps"))
    html = [
        *(
            paragraph(f"<strong>{text(_sentence(one, name, names[0]))}</strong>")
            for one, name in _named(differences, names)
        ),
        paragraph(
            f"An interval holds {CONFIDENCE:.0%} of {differences[0].draws:,} draws of the test videos, the same for both runs. "
            "It is the noise of the test set; that of training is not in it, and needs several seeds of each. Intervals of "
            "single runs say less: what is hard for one is hard for the other."
        ),
        _warning(judged[0]),
        _map_table(judged, names, results, differences),
        figures(figured),
        options,
    ]
    return Section(key="comparison", title="Comparison", html="".join(html), charts=charts)


def _named(differences: Sequence[Difference], names: Sequence[str]) -> list[tuple[Difference, str]]:
    return list(zip(differences, names[1:], strict=True))


def _sentence(difference: Difference, name: str, first: str) -> str:
    """What a reader may conclude about the mean over all tIoUs, and about single ones."""
    tious, average = difference.tious, difference.average
    over = f"averaged over tIoU {tious[0]:g} to {tious[-1]:g}" if len(tious) > 1 else f"at tIoU {tious[0]:g}"
    clear = [f"{tiou:g}" for tiou, one in zip(tious, difference.by_tiou, strict=True) if one.is_clear]
    verdict = f"{'beyond' if average.is_clear else 'within'} the noise of the test videos"
    if average.value and not average.has_interval:
        verdict = "the test videos are too few to tell it from their noise"
    at = f"; so are those at tIoU {', '.join(clear)}" if average.is_clear and clear else ""
    at = f"; those at tIoU {', '.join(clear)} are beyond it" if clear and not average.is_clear else at
    return (
        f"{name} has {f'{100 * average.value:+.1f} mAP {_interval(average)}'.rstrip()} against {first}, {over}: {verdict}"
        f"{at if len(tious) > 1 else ''}."
    )


def _warning(judged: Judged) -> str:
    """What the intervals are worth where little has been annotated; nothing elsewhere."""
    truth = judged.run.timelines.truth
    videos = len(np.unique(truth.video))
    if min(videos, len(truth)) >= FEW:
        return ""
    few = f"{amount(len(truth), 'instance')} in {amount(videos, 'video')}"
    return paragraph(f"With {few} these intervals mean little, whatever they are: draws of so few hardly differ.")


def _interval(estimate: Estimate) -> str:
    return f"[{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]" if estimate.has_interval else ""


def _map_table(
    judged: Sequence[Judged],
    names: Sequence[str],
    results: Sequence[DetectionResult],
    differences: Sequence[Difference],
) -> str:
    """mAP of every run, the best in bold, and below it every difference with its interval."""
    spans = judged[0].run.options.evaluation.average_tious
    values = np.array([[*r.map, *(r.average_map(*parse_span(span)) for span in spans), r.map.mean()] for r in results])
    best = values.max(0)
    own = [differences[0].first.average, *(difference.second.average for difference in differences)]
    rows: list[Cells] = [
        [
            name,
            *(
                percent(value, target=explore_link(sort="ap", run=i), strong=value == top)
                for value, top in zip(row.tolist(), best.tolist(), strict=True)
            ),
            Cell(
                shown=f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]" if estimate.has_interval else "",
                link=explore_link(sort="ap", run=i) if estimate.has_interval else "",
            ),
        ]
        for i, (name, row, estimate) in enumerate(zip(names, values, own, strict=True))
    ]
    for difference, name in _named(differences, names):
        target = explore_link(sort="ap", run=names.index(name))
        of_tious = [_estimate(one, target=target) for one in difference.by_tiou]
        average = _estimate(difference.average, target=target)
        rows.append([f"{name} - {names[0]}", *of_tious, *("" for _ in spans), average, ""])
    tious = [f"{tiou:g}" for tiou in results[0].tious]
    header = ["mAP %", *tious, *(f"average {span}" for span in spans), "average of all", "BCa interval"]
    kinds = dict.fromkeys(selected_of(one.run.results) or INFERENCE for one in judged)
    caption = (
        f"mAP ({', '.join(kinds)}) by tIoU, in percent, protocol sal: {judged[0].compared} of {names[0]}; "
        "differences with intervals, in bold beyond noise"
    )
    return table(caption, header, rows)


def _estimate(estimate: Estimate, *, target: str = "") -> Cell:
    shown_as = f"{signed(estimate.value).shown} {_interval(estimate)}".rstrip()
    sort = -2.0 if np.isnan(estimate.value) else estimate.value  # below all differences
    return Cell(shown=shown_as, sort=sort, link=target, strong=estimate.is_clear)


def _difference_chart(names: Sequence[str], differences: Sequence[Difference]) -> Spec:
    several = len(differences) > 1
    rows = [
        {"at": f"{where}, {name}" if several else where, **_of(one)}
        for difference, name in _named(differences, names)
        for where, one in [
            *((f"tIoU {tiou:g}", one) for tiou, one in zip(difference.tious, difference.by_tiou, strict=True)),
            ("average", difference.average),
        ]
    ]
    return interval_chart(
        rows, name="at", value="difference", low="low", high="high", describes=f"differences of mAP to {names[0]}"
    )


def _of(estimate: Estimate) -> Row:
    return {"difference": 100 * estimate.value, "low": 100 * estimate.low, "high": 100 * estimate.high}


def _by_class(
    judged: Sequence[Judged],
    names: Sequence[str],
    results: Sequence[DetectionResult],
    differences: Sequence[Difference],
) -> Section:
    classes = judged[0].run.timelines.classes
    ap = [result.per_class_ap.mean(0) for result in results]
    with_truth = np.flatnonzero(~np.isnan(ap[0])).tolist()
    rows: list[Cells] = []
    for c in with_truth:
        target = explore_link(**{"class": c, "sort": "ap"})
        of_runs = [
            percent(float(values[c]), target=explore_link(**{"class": c, "sort": "ap", "run": i}))
            for i, values in enumerate(ap)
        ]
        of_differences = [_estimate(difference.by_class[c], target=target) for difference in differences]
        rows.append([Cell(shown=classes[c], link=target), *of_runs, *of_differences])
    header = ["class", *names, *(f"{name} - {names[0]}" for name in names[1:])]
    caption = "AP by class, the mean over tIoUs, in percent; differences with intervals, in bold beyond noise"
    chance = (1 - CONFIDENCE) * len(with_truth)
    note = (
        f"Of {len(with_truth)} classes, {chance:.1f} would be in bold by chance if the runs were equally good: read single "
        "classes as a hint."
    )
    charts: dict[str, Spec] = {}
    drawn: list[str] = []
    for i, (difference, name) in enumerate(_named(differences, names)):
        largest = sorted(with_truth, key=lambda c: -abs(difference.by_class[c].value))[:MOST_CLASSES]
        largest.sort(key=lambda c: -difference.by_class[c].value)
        places = [{"class": one_line(classes[c], longest=40), **_of(difference.by_class[c])} for c in largest]
        key, what = f"chart-class-differences-{i}", f"differences of AP of {name} to {names[0]}, in percent"
        charts[key] = interval_chart(places, name="class", value="difference", low="low", high="high", describes=what)
        fewer = f", the {len(largest)} largest" if len(largest) < len(with_truth) else ""
        drawn.append(figure(key, f"{what[0].upper()}{what[1:]}{fewer}"))
    html = table(caption, header, rows, sortable=True) + paragraph(text(note)) + figures(drawn)
    return Section(key="comparison-classes", title="Comparison by class", html=html, charts=charts)


def _options(judged: Sequence[Judged]) -> list[list[str]]:
    """[option, its value in each run] of every option that bears on results and is not the same in all."""
    values = [FLAGS.values(one.run.options) for one in judged]
    return [
        [name, *(setting(own[name]) for own in values)]
        for name in values[0]
        if name not in CALL_FLAGS | NEUTRAL_FLAGS and any(own[name] != values[0][name] for own in values)
    ]


def _curves(judged: Sequence[Judged], names: Sequence[str]) -> Spec | None:
    """Average mAP of all runs over steps, over the span that chooses the first run's best."""
    span = judged[0].run.options.evaluation.average_tious[-1]
    rows = []
    for one, name in zip(judged, names, strict=True):
        curves = one.run.curves
        points = curves[curves["name"] == f"average_mAP/{span.replace(':', '-')}"]
        columns = thinned(points["step"].to_numpy(), points["value"].to_numpy(), most=MOST_POINTS)
        rows += [{"step": int(s), "average mAP": 100 * float(v), "run": name} for s, v in zip(*columns, strict=True)]
    if not rows:
        return None
    return line_chart(rows, x="step", y="average mAP", series="run", describes="average mAP of the runs over steps")
