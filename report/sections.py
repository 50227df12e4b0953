"""What a report says about one run in numbers, section by section: the HTML and the charts in it.

for section in run_sections(judged): section.title, section.html, section.charts

Every name is escaped; every number about videos is a link to them in the explorer.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from eval.average_precision import pr_curves
from eval.calibration import Calibration, calibration
from eval.classification import classification_ap, top1_accuracy, video_accuracy
from eval.diagnosis import KINDS, MISSED, SIZES, Buckets, ErrorSummary, sentence
from eval.operating_points import operating_points
from eval.recall import RECALL_TIOUS, average_recall
from formats.names import amount
from formats.run_results import evaluations, selected_of, selection_of
from options import CALL_FLAGS, FLAGS, NEUTRAL_FLAGS, Options, resolve
from recipes import PUBLISHED
from report.charts import (
    Spec,
    bar_chart,
    highlighted_lines,
    line_chart,
    spaced,
    with_diagonal,
    with_rule,
)
from report.curves import curve_section
from report.groups import confusion_key, confusions, missed_key, present_classes, trait_key, video_groups
from report.judged import Judged, trait_buckets
from report.links import explore_link
from report.markup import (
    NOTHING,
    Cell,
    Cells,
    count,
    facts,
    figure,
    figures,
    paragraph,
    percent,
    setting,
    table,
    text,
)
from report.protocols import protocol_section
from report.section import Section
from utils.printable import one_line

MOST_POINTS = 400  # of a curve in a chart
MOST_POINTS_OF_CLASSES = 4000  # together, but for the least of each
POINTS_OF_A_CLASS = (15, 60)
RECALLS_SHOWN = (1, 5, 10, 50, 100)
UNITS = {"coverage": "%", "length": "s", "instances": ""}  # of the traits of instances
TRAITS = (
    "Instances by trait and size: the coverage of the video by the instance, its length, and the instances of its video, which "
    "are of these sizes:"
)
NO_TRUTH = "needs ground truth: no test video of this run has annotated segments."


def run_sections(judged: Judged, *, number: int | None = None) -> list[Section]:
    """The sections about one run; its `number` among several goes into ids and links."""
    made = [
        _headline(judged, number),
        curve_section(judged),
        _classes(judged, number),
        _precision_recall(judged),
        _operating(judged),
        _calibration(judged),
        _recall(judged, number),
        _classification(judged, number),
        _diagnosis(judged, number),
        protocol_section(judged, target=all_videos(number))
        if judged.known
        else _without_truth("protocols", "Protocols", "Evaluation by protocols"),
    ]
    return (
        made if number is None else [section.of_run(number, one_line(judged.run.name, longest=60)) for section in made]
    )


def _links(number: int | None) -> dict[str, int]:
    return {} if number is None else {"run": number}


def all_videos(number: int | None) -> str:
    """A link to all videos, the worst first."""
    return explore_link(sort="ap", **_links(number))


def _class_link(label: int, number: int | None, *, sort: str = "ap") -> str:
    return explore_link(**{"class": label, **_links(number)}, sort=sort)


def _without_truth(key: str, title: str, what: str) -> Section:
    return Section(key=key, title=title, html=paragraph(f"{text(what)} {NO_TRUTH}"))


def _headline(judged: Judged, number: int | None) -> Section:
    run, videos = judged.run, all_videos(number)
    rows = evaluations(run.results)
    chosen = selected_of(run.results)
    measured = [row for row in rows.values() if row["mAP"] is not None]
    tious = list(measured[0]["mAP"]) if measured else []
    spans = list(measured[0]["average_mAP"]) if measured else []
    header = ["mAP %", *tious, *(f"average {span}" for span in spans), "video accuracy"]
    body: list[Cells] = [
        [
            f"{_moment(name, row)}{', selected' if name == chosen else ''}",
            *(percent((row["mAP"] or {}).get(tiou), target=videos) for tiou in tious),
            *(percent((row["average_mAP"] or {}).get(span), target=videos, strong=True) for span in spans),
            percent(row["video_accuracy"], target=videos),
        ]
        for name, row in rows.items()
    ]
    parts = [table(f"{run.name}: mAP % by tIoU, protocol sal (that of ActivityNet), {judged.compared}", header, body)]
    if not judged.known:
        parts.append(paragraph(f"mAP {NO_TRUTH}"))
    if chosen:
        parts.append(paragraph(_choice(run.results)))
    parts += [paragraph(text(note)) for note in run.notes]
    parts.append(facts(_facts(judged)))
    changed = changed_options(judged)
    if changed:
        parts.append(
            table(f"What differs from the preset {preset_of(run.options)}", ["option", "preset", "run"], changed)
        )
    else:
        parts.append(paragraph(f"No option differs from the preset {text(preset_of(run.options))}."))
    return Section(key="headline", title="Results", html="".join(parts))


def _choice(results: Mapping[str, Any]) -> str:
    """Which evaluation the page is about, and what its number is worth."""
    return (
        f"Whatever else is shown of this run is of {text(selection_of(results))}. What is chosen on the test videos flatters "
        "itself, last and val do not. A number to compare with other work names which of them it is."
    )


def _moment(name: str, row: Mapping[str, Any]) -> str:
    return f"{name}, epoch {row['epoch']}, step {row['step']:,}" if "step" in row else name


def _facts(judged: Judged) -> Iterator[tuple[str, object]]:
    results = judged.run.results
    yield "compared", judged.compared
    yield "data", results.get("data", {}).get("name", NOTHING)
    recipe = results.get("recipe_taken")
    if isinstance(recipe, dict):
        yield "recipe", f"{recipe.get('name')}: {'; '.join(map(str, recipe.get('reasons') or ()))}"
    for reason, left_out in results.get("left_out", {}).items():
        yield "left out", f"{reason}: {left_out}"
    for name in ("seed", "device", "precision"):
        if name in results:
            yield name, results[name]
    seconds = results.get("seconds")
    if isinstance(seconds, dict):
        yield "seconds", ", ".join(f"{name} {value:,.0f}" for name, value in seconds.items())
    versions = results.get("versions", {})
    if versions:
        yield "versions", ", ".join(f"{name} {value}" for name, value in versions.items())
    yield "commit", results.get("git_commit") or NOTHING


def preset_of(options: Options) -> str:
    """What `changed_options` compares with, in words."""
    data = options.data
    return data.dataset + (f" with --recipe {data.recipe}" if data.recipe != PUBLISHED else "")


def changed_options(judged: Judged) -> list[list[str]]:
    """[option, the preset's value, the run's value] of every option that bears on results and differs."""
    own = FLAGS.values(judged.run.options)
    preset = FLAGS.values(resolve({"dataset": own["dataset"], "recipe": own["recipe"]}))
    return [
        [name, setting(preset[name]), setting(value)]
        for name, value in own.items()
        if value != preset[name] and name not in CALL_FLAGS | NEUTRAL_FLAGS
    ]


def _classes(judged: Judged, number: int | None) -> Section:
    run, result = judged.run, judged.result
    if result is None:
        return _without_truth("classes", "AP per class", "AP per class")
    timelines = run.timelines
    instances = np.bincount(timelines.truth.label, minlength=len(timelines.classes)).tolist()
    detections = np.bincount(run.detections.label, minlength=len(timelines.classes)).tolist()
    rows: list[Cells] = []
    for c in np.flatnonzero(instances).tolist():
        ap = result.per_class_ap[:, c]
        target = _class_link(c, number)
        rows.append(
            [
                Cell(shown=timelines.classes[c], link=target),
                *(percent(float(value), target=target) for value in ap),
                percent(float(ap.mean()), target=target, strong=True),
                count(instances[c], target=_class_link(c, number, sort="name")),
                count(detections[c], target=_class_link(c, number, sort="fp")),
            ]
        )
    header = ["class", *(f"{tiou:g}" for tiou in result.tious), "mean", "instances", "detections"]
    caption = f"AP in percent by class and tIoU, protocol sal: {judged.compared}"
    return Section(key="classes", title="AP per class", html=table(caption, header, rows, sortable=True))


def _precision_recall(judged: Judged) -> Section:
    title = "Precision and recall"
    run, result = judged.run, judged.result
    if result is None:
        return _without_truth("pr", title, "A precision-recall curve")
    timelines = run.timelines
    curves = pr_curves(judged.hit, timelines.truth, run.detections, num_classes=len(timelines.classes))
    names = [one_line(name) for name in timelines.classes]
    most = int(np.clip(MOST_POINTS_OF_CLASSES // len(names), *POINTS_OF_A_CLASS))
    ap = result.per_class_ap[result.tious.index(judged.tiou)]
    rows = [
        {"recall": float(r), "precision": float(p), "class": names[c]}
        for c, curve in enumerate(curves)
        if curve and len(curve.recall)
        for r, p in zip(*spaced(curve.recall, curve.interpolated, most=most), strict=True)
    ]
    if not rows:
        return Section(key="pr", title=title, html=paragraph("No detections of classes with instances."))
    drawn = {row["class"] for row in rows}
    first = max((c for c in range(len(names)) if names[c] in drawn and not np.isnan(ap[c])), key=lambda c: ap[c])
    what = f"interpolated precision against recall at tIoU {judged.tiou:g}, a line for each class"
    spec = highlighted_lines(rows, x="recall", y="precision", series="class", first=names[first], describes=what)
    return Section(
        key="pr",
        title=title,
        html=figure(
            "chart-pr",
            f"Interpolated precision against recall at tIoU {judged.tiou:g}; the list picks a class, and so does a click.",
        ),
        charts={"chart-pr": spec},
    )


def _operating(judged: Judged) -> Section:
    title = "Where to put a threshold"
    run = judged.run
    if not judged.known:
        return _without_truth("operating", title, "The best threshold")
    points = operating_points(judged.hit, run.detections.score, count=len(run.timelines.truth))
    best = points.best
    if best is None:
        return Section(key="operating", title=title, html=paragraph("This run has no detections."))
    if best.f1 == 0:
        nothing = f"No detection is a hit at tIoU {judged.tiou:g}: no threshold is better than another."
        return Section(key="operating", title=title, html=paragraph(text(nothing)))
    ascending = (column[::-1] for column in (points.threshold, points.precision, points.recall, points.f1))
    columns = spaced(*ascending, most=MOST_POINTS)
    rows = [
        {"score": float(columns[0][i]), "share": float(values[i]), "measure": name}
        for name, values in zip(("precision", "recall", "F1"), columns[1:], strict=True)
        for i in range(len(values))
    ]
    what = f"precision, recall and F1 at tIoU {judged.tiou:g} against the least score of a detection"
    spec = line_chart(rows, x="score", y="share", series="measure", describes=what, y_scale={"domain": [0, 1]})
    sentence = (
        f"Of the detections that score {best.threshold:.4g} or more, F1 is best: {best.f1:.3f}, with precision "
        f"{best.precision:.3f} and recall {best.recall:.3f}; {best.detections:,} of {len(run.detections):,} detections stay."
    )
    return Section(
        key="operating",
        title=title,
        html=paragraph(text(sentence))
        + figure("chart-operating", f"{what[0].upper()}{what[1:]}, all classes together."),
        charts={"chart-operating": with_rule(spec, x=best.threshold, label=f"best F1 at {best.threshold:.3g}")},
    )


def _calibration(judged: Judged) -> Section:
    title = "Calibration"
    charts: dict[str, Spec] = {}
    parts: list[str] = []
    timelines = judged.run.timelines
    curves: dict[str, tuple[Calibration, str]] = {}
    if judged.known and len(judged.hit):
        right = f"hit an instance at tIoU {judged.tiou:g}"
        curves["detections"] = calibration(judged.run.detections.score, judged.hit), right
    labelled = timelines.labels.any(1)
    if labelled.any():
        scores, labels = timelines.class_scores[labelled].ravel(), timelines.labels[labelled].ravel()
        curves["class scores"] = calibration(scores, labels), "are of a class that the video has"
    for name, (curve, right) in curves.items():
        key = f"chart-calibration-{len(charts)}"
        filled = np.flatnonzero(curve.count).tolist()
        rows = [
            {
                "mean score": float(curve.mean_score[b]),
                "share": float(curve.share_right[b]),
                "scores": int(curve.count[b]),
            }
            for b in filled
        ]
        what = f"{name}: the share that {right}, against their mean score, in bins"
        unit = {"domain": [0, 1]} if curve.edges[0] >= 0 and curve.edges[-1] <= 1 else None
        charts[key] = with_diagonal(
            line_chart(rows, x="mean score", y="share", describes=what, x_scale=unit, y_scale={"domain": [0, 1]})
        )
        ece = f"The expected calibration error is {100 * curve.expected_error:.1f} %."
        parts.append(figure(key, f"{what[0].upper()}{what[1:]}; on the dashed line a score is a probability. {ece}"))
    if "detections" not in curves:
        parts.append(
            paragraph(
                f"The calibration of detections {NO_TRUTH}" if not judged.known else "This run has no detections."
            )
        )
    return Section(key="calibration", title=title, html=figures(parts), charts=charts)


def _recall(judged: Judged, number: int | None) -> Section:
    title = "Average recall"
    run = judged.run
    if not judged.known:
        return _without_truth("recall", title, "Average recall")
    recall = average_recall(run.timelines.truth, run.detections)
    numbers = np.arange(1, len(recall.average) + 1)
    rows = [{"N": int(n), "average recall": float(r)} for n, r in zip(numbers, recall.average, strict=True)]
    span = f"tIoU {RECALL_TIOUS[0]:g} to {RECALL_TIOUS[-1]:g}"
    what = f"average recall over {span} with the N best detections of each video, whatever their class"
    header = ["AR %", *(f"N = {n}" for n in RECALLS_SHOWN), "area"]
    shares = [*(recall.at(n) for n in RECALLS_SHOWN), recall.area]
    body: list[Cells] = [["all classes", *(percent(share, target=all_videos(number)) for share in shares)]]
    spec = line_chart(rows, x="N", y="average recall", describes=what, y_scale={"domain": [0, 1]})
    html = table(f"{what[0].upper()}{what[1:]}: {judged.compared}", header, body) + figure(
        "chart-recall", "Average recall against N"
    )
    return Section(key="recall", title=title, html=html, charts={"chart-recall": spec})


def _classification(judged: Judged, number: int | None) -> Section:
    title, timelines = "Classification of videos", judged.run.timelines
    labelled = timelines.labels.any(1)
    if not labelled.any():
        what = "Needs labels: nobody has labelled the test videos of this run."
        return Section(key="classification", title=title, html=paragraph(what))
    scores, labels, predicted = (
        timelines.class_scores[labelled],
        timelines.labels[labelled],
        timelines.predicted[labelled],
    )
    ap = classification_ap(scores, labels)
    parts = [
        table(
            f"Class scores against the labels of {amount(int(labelled.sum()), 'video')}, in percent",
            ["classification", "mAP", "all classes right", "best class right"],
            [
                [
                    "videos",
                    *(
                        percent(share, target=all_videos(number))
                        for share in (
                            float(np.nanmean(ap)),
                            video_accuracy(predicted, labels),
                            top1_accuracy(scores, labels),
                        )
                    ),
                ]
            ],
        )
    ]
    used, true, best = confusions(judged)
    rows: list[Cells] = []
    present = np.flatnonzero(present_classes(judged).any(0)).tolist()
    for c in used:
        taken = np.bincount(best[true[:, c]], minlength=len(ap)).tolist()
        links = (explore_link(group=confusion_key(c, other), **_links(number)) for other in used)
        counts = (count(taken[o], target=to) if taken[o] else "" for o, to in zip(used, links, strict=True))
        rows.append([Cell(shown=timelines.classes[c], link=_class_link(c, number) if c in present else ""), *counts])
    if rows:
        header = ["true class", *(timelines.classes[c] for c in used)]
        parts.append(table("Videos by true class (rows) and class of the highest score (columns)", header, rows))
    return Section(key="classification", title=title, html="".join(parts))


def _diagnosis(judged: Judged, number: int | None) -> Section:
    title, errors = "Diagnosis of errors", judged.errors
    if errors is None:
        return _without_truth("diagnosis", title, "A diagnosis of errors")
    total = np.bincount(judged.kind, minlength=len(KINDS)).tolist()
    rows: list[Cells] = []
    for k, kind in enumerate(KINDS):
        target = explore_link(kind=k, **_links(number)) if total[k] else ""
        removal, fix = errors.removal_gains.get(kind), errors.fix_gains.get(kind)
        rows.append(
            [
                Cell(shown=kind, link=target),
                count(total[k], target=target),
                count(round(errors.counts[kind]), target=target),
                percent(removal, target=target),
                percent(fix, target=target),
            ]
        )
    header = ["kind", "of all detections", "of the best 10 G", "gain if removed", "gain if made right"]
    before = f"{100 * errors.average_map_n:.1f}"
    caption = (
        f"Kinds of detections {_over(judged.error_tious)}, protocol sal: {judged.compared}. Gains are in percent of mAP_N, "
        f"which is {before} for the best 10 G detections of each class of G instances; links are to kinds at tIoU "
        f"{judged.tiou:g}"
    )
    bounds = _size_bounds(trait_buckets(judged.run))
    charts = {
        "chart-profile": bar_chart(
            [
                {"best": rank, "kind": kind, "detections": round(n)}
                for rank, counts in errors.profile.items()
                for kind, n in counts.items()
            ],
            x="best",
            y="detections",
            series="kind",
            describes="detections of each kind among the best G of each class, the next G, and so on",
        ),
        "chart-gains": bar_chart(
            [
                {"kind": kind, "gain in mAP_N, percent": 100 * gain, "change": what}
                for what, gains in (("removed", errors.removal_gains), ("made right", errors.fix_gains))
                for kind, gain in gains.items()
            ],
            x="kind",
            y="gain in mAP_N, percent",
            series="change",
            stacked=False,
            horizontal=True,
            describes="gain in mAP_N if each kind of error is removed, or made right",
        ),
        "chart-sensitivity": _by_trait(
            errors.sensitivity, bounds, "mAP_N, percent", "mAP_N by trait of the instances that count"
        ),
        "chart-false-negatives": _by_trait(
            errors.false_negatives, bounds, "not found, percent", "share of instances not found, by trait"
        ),
    }
    captions = {
        "chart-profile": "Kinds among the best G detections of each class, G its instances, then the next G, and so on",
        "chart-gains": "What each kind is worth: removed, or made right; gains do not add up",
        "chart-sensitivity": "mAP_N when only instances of one size count, by three traits",
        "chart-false-negatives": "Instances that are not found, by the same traits",
    }
    missed = explore_link(group=missed_key(), **_links(number)) if missed_key() in video_groups(judged) else ""
    rows.append(
        [
            "missed instances",
            "",
            count(round(errors.missed), target=missed),
            percent(None),
            percent(errors.fix_gains[MISSED], target=missed),
        ]
    )
    html = (
        paragraph(f"<strong>{text(sentence(errors))}.</strong>")
        + table(caption, header, rows)
        + figures(figure(key, caption) for key, caption in captions.items())
        + table(TRAITS, ["trait", *_sizes(errors)], _bucket_rows(errors, number))
        + facts((trait, ", ".join(f"{size} {b}" for size, b in of.items())) for trait, of in bounds.items())
    )
    return Section(key="diagnosis", title=title, html=html, charts=charts)


def _over(tious: Sequence[float]) -> str:
    return f"at tIoU {tious[0]:g}" if len(tious) == 1 else f"as means over tIoU {tious[0]:g} to {tious[-1]:g}"


def _size_bounds(buckets: Buckets) -> dict[str, dict[str, str]]:
    """{trait: {size: which values it has}}"""
    return {trait: _bounds(getattr(buckets, trait), unit) for trait, unit in UNITS.items()}


def _bounds(edges: Sequence[float], unit: str) -> dict[str, str]:
    scale = 100 if unit == "%" else 1
    ends = [f"{scale * edge:g}" for edge in edges]
    spans = [f"up to {ends[0]}", *(f"over {a} to {b}" for a, b in itertools.pairwise(ends)), f"over {ends[-1]}"]
    return {size: f"{span} {unit}".rstrip() for size, span in zip(SIZES, spans, strict=False)}


def _by_trait(
    numbers: Mapping[str, Mapping[str, float]], bounds: Mapping[str, Mapping[str, str]], what: str, describes: str
) -> Spec:
    rows = [
        {"trait": trait, "size": size, "values": bounds[trait][size], what: 100 * value}
        for trait, by_size in numbers.items()
        for size, value in by_size.items()
        if not np.isnan(value)
    ]
    return bar_chart(
        rows, x="trait", y=what, series="size", stacked=False, describes=describes, order=SIZES, note="values"
    )


def _sizes(summary: ErrorSummary) -> list[str]:
    return list(dict.fromkeys(size for sizes in summary.bucket_sizes.values() for size in sizes))


def _bucket_rows(summary: ErrorSummary, number: int | None) -> Iterator[Cells]:
    for trait, sizes in summary.bucket_sizes.items():
        links = {size: explore_link(group=trait_key(trait, size), **_links(number)) for size in sizes}
        yield [
            trait,
            *(count(round(sizes[size]), target=links[size]) if size in sizes else "" for size in _sizes(summary)),
        ]
