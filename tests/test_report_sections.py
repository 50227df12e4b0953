"""The report's sections: their numbers are those of eval/, names are shown and never markup, every chart compiles."""

import dataclasses
import html
import json
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
from support.small_timelines import small_timelines

from eval.average_precision import average_precision
from eval.diagnosis import ACTIVITYNET, KINDS, SIZES, diagnose, mean_summary
from eval.matching import NO_INSTANCE, match_detections
from eval.protocols import PROTOCOLS, SnippetClock, evaluate_by
from eval.statistics import bca_bootstrap
from options import resolve
from report.charts import spaced, thinned
from report.comparison import comparison_sections
from report.groups import present_classes, video_groups
from report.judged import ap_by_video, judge
from report.links import explore_link
from report.markup import Cell, percent, table, text
from report.reading import ReportedRun
from report.sections import run_sections
from utils.errors import InputError
from utils.segments import Segments
from utils.snippet_grid import SnippetGrid

HOSTILE = ("<script>alert(1)</script>", 'a"b\x00\n\x1b[2J&lt;', "half \ud800 {{x}} --> ]]>")
FOUND = [
    (0, 0, 4.0, 6.0, 0.9),
    (0, 0, 4.2, 6.0, 0.8),
    (0, 1, 1.0, 1.4, 0.7),
    (0, 2, 7.0, 9.0, 0.6),
    (1, 0, 0.0, 3.0, 0.5),
]


def reported(name="demo", *, detections=FOUND, curves=True, **shape):
    timelines = small_timelines(**shape)
    measured = len(timelines.truth) > 0
    evaluation = {
        "mAP": {"0.5": 0.25} if measured else None,
        "average_mAP": {"0.5": 0.25} if measured else None,
        "video_accuracy": 0.5 if measured else None,
        "per_class_AP": None,
    }
    results = {
        "best": {"step": 2, "epoch": 1, **evaluation},
        "last": {"step": 4, "epoch": 2, **evaluation},
        "history": [],
        "seconds": {"training": 12.0, "evaluation": 3.0},
        "data": {"name": "tiny"},
        "seed": 7,
        "versions": {"torch": "2.11"},
        "left_out": {"no features": 3},
    }
    points = [(s, n, s / 4) for s in range(1, 1200) for n in ("loss/total", "loss/mil")] if curves else []
    points += [(2, "mAP/0.5", 0.25), (4, "mAP/0.5", 0.3), (4, "video_accuracy", np.nan)] if curves else []
    return ReportedRun(
        name=name,
        folder=pathlib.Path(name),
        results=results,
        options=resolve({"tious": "0.3:0.5:0.1", "average_tious": ("0.3:0.5",), "lr": 0.5}),
        timelines=timelines,
        detections=Segments.from_rows(list(detections)),
        curves=pd.DataFrame(points, columns=["step", "name", "value"]),
        notes=(),
    )


def sections_of(run):
    return {section.key: section for section in run_sections(judge(run))}


def numbers(section_html):
    """{first cell of a row: the others} of all tables."""
    rows = re.findall(r"<tr>(.*?)</tr>", section_html)
    cells = [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]
    return {html.unescape(first): others for first, *others in cells}


def test_detections_are_judged_at_the_threshold_nearest_to_a_half():
    judged = judge(reported())
    assert judged.tiou == 0.5
    assert judged.hit.tolist() == [True, False, False, False, False]
    assert [KINDS[k] for k in judged.kind] == [
        "true positive",
        "double detection",
        "localization",
        "background",
        "background",
    ]
    assert judged.missed.tolist() == [False, True]
    assert judged.false_positives.tolist() == [3, 1]
    np.testing.assert_array_equal(judged.video_ap, [0.5, np.nan])  # one of its two classes is found at once


def test_the_ap_of_a_video_is_that_of_its_detections_alone():
    random = np.random.default_rng(3)
    for _ in range(20):
        truth, found = (
            Segments(
                random.integers(0, 4, n),
                random.integers(0, 3, n),
                start,
                start + random.random(n) * 5,
                random.random(n),
            )
            for n in random.integers(1, 40, 2).tolist()
            for start in [random.random(n) * 5]
        )
        hit = match_detections(truth, found, tious=(0.3,))[0] != NO_INSTANCE
        expected = []
        for video in range(5):
            ap = []
            for label in sorted(set(truth.label[truth.video == video].tolist())):
                mine = np.flatnonzero((found.video == video) & (found.label == label))
                mine = mine[np.argsort(-found.score[mine], kind="stable")]
                count = int(((truth.video == video) & (truth.label == label)).sum())
                ap.append(average_precision(hit[mine][None], count)[0])
            expected.append(np.mean(ap) if ap else np.nan)
        np.testing.assert_allclose(ap_by_video(truth, found, hit, num_videos=5), expected, rtol=0, atol=1e-12)


def test_numbers_are_those_of_the_evaluation():
    run = reported()
    judged, found = judge(run), sections_of(run)
    by_class = numbers(found["classes"].html)
    for c, name in enumerate(run.timelines.classes[:2]):
        ap = judged.result.per_class_ap[:, c]
        assert by_class[name] == [*(f"{100 * value:.1f}" for value in (*ap, ap.mean())), "1", ["3", "1"][c]]
    assert "Throw" not in by_class  # it has no instances
    assert numbers(found["headline"].html)["best, epoch 1, step 2, selected"] == ["25.0", "25.0", "50.0"]
    assert numbers(found["headline"].html)["lr"] == ["0.0001", "0.5"]
    assert "2 videos, 2 instances, 2 classes, 5 detections" in found["headline"].html
    assert "best, step 2, chosen by the largest average mAP on these very test videos" in found["headline"].html
    assert "F1 is best: 0.667" in found["operating"].html  # the first detection alone: P 1, R 1/2
    kinds = numbers(found["diagnosis"].html)
    assert [kinds[kind][0] for kind in KINDS] == ["1", "1", "0", "1", "0", "2"]


def test_errors_of_activitynet_are_means_over_its_thresholds():
    run = dataclasses.replace(reported(), options=resolve({"dataset": "activitynet1.3", "tious": "0.5:0.9:0.2"}))
    judged = judge(run)
    each = [
        diagnose(
            run.timelines.truth,
            run.detections,
            tiou=tiou,
            num_classes=3,
            durations=run.timelines.seconds,
            buckets=ACTIVITYNET,
        )
        for tiou in (0.5, 0.7, 0.9)
    ]
    assert judged.errors.as_plain() == mean_summary(each).as_plain() and judged.error_tious == (0.5, 0.7, 0.9)
    assert judged.errors.average_map_n == pytest.approx(np.mean([one.average_map_n for one in each]))
    assert "as means over tIoU 0.5 to 0.9" in sections_of(run)["diagnosis"].html
    np.testing.assert_array_equal(judged.kind, each[0].kind)


def test_every_number_that_leads_to_a_group_finds_its_videos():
    judged = judge(reported(detections=FOUND[:2] + FOUND[4:]))  # nothing is about the Jump of the first video
    groups = video_groups(judged)
    page = "".join(section.html for section in run_sections(judged))
    linked = set(re.findall(r"group=([\w-]+)", page))
    assert linked == groups.keys() and all(group.videos for group in groups.values())
    assert groups["missed"].videos == [0]
    by_trait = [key for key in groups if key.startswith("length")]
    assert sorted({v for key in by_trait for v in groups[key].videos}) == [0]
    labels, best = judged.run.timelines.labels, judged.run.timelines.class_scores.argmax(1)
    for true, other in ((t, o) for t in range(3) for o in range(3)):
        expected = [v for v in range(2) if labels[v, true] and best[v] == other]
        found = groups.get(f"label-{true}-best-{other}")
        assert (found.videos if found else []) == expected


def test_numbers_lead_to_their_videos():
    found = sections_of(reported())
    assert f'href="{html.escape(explore_link(**{"class": 1}, sort="ap"))}"' in found["classes"].html
    assert f'href="{explore_link(kind=3)}"' in found["diagnosis"].html
    assert f'href="{explore_link(sort="ap")}"' in found["protocols"].html
    one_of_two = {s.key: s for s in run_sections(judge(reported()), number=1)}
    assert f'href="{html.escape(explore_link(kind=3, run=1))}"' in one_of_two["run1-diagnosis"].html
    assert "run1-chart-gains" in one_of_two["run1-diagnosis"].charts


def test_no_link_leads_to_an_empty_list():
    for detections in (FOUND, [], FOUND[:1]):
        judged = judge(reported(detections=detections))
        page = html.unescape("".join(section.html for section in run_sections(judged)))
        linked = {int(kind) for kind in re.findall(r"#explore\?kind=(\d)", page)}
        assert linked == set(judged.kind.tolist())
        present = present_classes(judged).any(0)
        assert all(present[int(c)] for c in re.findall(r"class=(\d)", page))
        assert set(re.findall(r"group=([\w-]+)", page)) == video_groups(judged).keys()


def test_a_best_class_that_no_video_has_leads_nowhere():
    run = reported(detections=FOUND[:1])
    scores = run.timelines.class_scores.copy()
    scores[0] = [0.1, 0.2, 0.7]  # a Throw, which is neither true, predicted nor detected
    judged = judge(dataclasses.replace(run, timelines=dataclasses.replace(run.timelines, class_scores=scores)))
    page = {section.key: section for section in run_sections(judged)}["classification"].html
    assert "Throw</th>" in page and "class=0" in page and "class=2" not in page


def test_a_class_leads_to_its_videos_by_ap_by_name_and_by_false_positives():
    page = html.unescape(sections_of(reported())["classes"].html)
    assert [page.count(f"class=0&sort={sort}") for sort in ("ap", "name", "fp")] == [5, 1, 1]


def test_sizes_are_defined_and_keep_their_colours():
    found = sections_of(reported())["diagnosis"]
    assert "XS up to 3 s, S over 3 to 6 s, M over 6 to 12 s, L over 12 to 18 s, XL over 18 s" in found.html
    assert "XS up to 2 %, S over 2 to 4 %" in found.html and "M over 40 to 80, L over 80<" in found.html
    for key in ("chart-sensitivity", "chart-false-negatives"):
        spec = found.charts[key]
        encoding = spec["layer"][0]["encoding"]
        assert encoding["color"]["scale"]["domain"] == encoding["xOffset"]["scale"]["domain"] == list(SIZES)
        assert {"length": "up to 3 s", "coverage": "over 8 %"}.items() <= {
            row["trait"]: row["values"] for row in spec["data"]["values"]
        }.items()


def test_the_page_says_what_chose_the_best_model():
    unmeasured = reported(truth=False)
    assert "nothing to choose by" in sections_of(unmeasured)["headline"].html
    for row in ("best", "last"):
        unmeasured.results[row]["video_accuracy"] = 0.5
    by_accuracy = sections_of(unmeasured)["headline"].html
    assert "largest video accuracy" in by_accuracy and "largest average" not in by_accuracy
    assert "largest average" in sections_of(reported())["headline"].html


def test_the_page_says_which_evaluation_it_is_of():
    run = reported()
    run.results["last"] = {**run.results["last"], "mAP": {"0.5": 0.125}}
    run.results["select"] = "last"
    headline = sections_of(run)["headline"].html
    assert "shown of this run is of last, step 4, which nothing has chosen" in headline
    assert "last, epoch 2, step 4, selected<" in headline and "best, epoch 1, step 2<" in headline
    run.results.update(select="val", val={**run.results["best"], "step": 3}, held_out=["a", "b", "c"])
    headline = sections_of(run)["headline"].html
    assert "val, step 3, chosen by the least classification loss on 3 held-out training videos" in headline
    assert "val, epoch 1, step 3, selected<" in headline and headline.count("selected<") == 1


def test_the_loss_on_held_out_videos_is_a_curve():
    run = reported()
    assert not any(key.startswith("curve-held_out") for key in sections_of(run)["curves"].charts)
    held_out = pd.DataFrame([(2, "held_out/loss", 1.5), (4, "held_out/loss", 1.25)], columns=["step", "name", "value"])
    curves = sections_of(dataclasses.replace(run, curves=pd.concat([run.curves, held_out])))["curves"]
    rows = curves.charts["curve-held_out-0"]["data"]["values"]
    assert [(row["step"], row["value"]) for row in rows] == [(2, 1.5), (4, 1.25)]
    assert "Held-out training videos" in curves.html


def test_where_nothing_hits_no_threshold_is_best():
    found = sections_of(reported(detections=FOUND[3:]))["operating"]
    assert "No detection is a hit at tIoU 0.5" in found.html and not found.charts


def test_every_chart_has_its_place_and_compiles():
    vl_convert = pytest.importorskip("vl_convert", reason="the report's packages are not installed")
    for run in (reported(), reported(classes=HOSTILE, videos=HOSTILE), reported(truth=False), reported(detections=[])):
        for section in run_sections(judge(run)):
            assert sorted(re.findall(r'<div id="([^"]+)">', section.html)) == sorted(section.charts)
            for key, spec in section.charts.items():
                json.dumps(spec, allow_nan=False).encode()
                assert spec["description"], key
                vl_convert.vegalite_to_svg({**spec, "width": 300}, vl_version="6.4")


def test_ids_are_unique():
    found = [s for n in range(2) for s in run_sections(judge(reported()), number=n)]
    ids = [s.key for s in found] + [key for s in found for key in s.charts]
    assert len(ids) == len(set(ids))


def test_names_are_shown_not_executed():
    found = sections_of(reported("<b>run</b>", classes=HOSTILE, videos=HOSTILE))
    page = "".join(section.html for section in found.values())
    assert not re.search(r"<script|<b>|\x00|\x1b|[\ud800-\udfff]", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "&lt;b&gt;run&lt;/b&gt;" in page
    page.encode()


def test_without_ground_truth_everything_that_needs_it_says_so():
    run = reported(truth=False)
    judged, found = judge(run), sections_of(run)
    assert not judged.known and judged.hit.sum() == 0 and np.isnan(judged.video_ap).all()
    assert (judged.kind == -1).all()
    for key in ("headline", "classes", "pr", "operating", "calibration", "recall", "diagnosis"):
        assert "needs ground truth" in found[key].html, key
    assert "Needs labels" in found["classification"].html


def test_a_run_without_curves_says_so():
    assert "no curves" in sections_of(reported(curves=False))["curves"].html


def test_long_curves_are_thinned():
    spec = sections_of(reported())["curves"].charts["curve-loss-0"]
    steps = [row["step"] for row in spec["data"]["values"]]
    assert len(steps) == 400 and steps[-1] == 1199 and steps == sorted(steps)


def test_a_run_of_which_no_instance_fits_its_video_has_no_diagnosis():
    run = reported()
    short = dataclasses.replace(run.timelines, seconds=np.full(2, 0.5))
    judged = judge(dataclasses.replace(run, timelines=short))
    assert judged.diagnosis is None and judged.hit.any()
    assert "diagnosis" in {section.key for section in run_sections(judged)}


def test_tables_sort_by_numbers():
    made = table("t", ["a", "b"], [["x", percent(0.5)], ["y", percent(None)], ["z", Cell(shown="<", sort='"')]])
    assert 'data-sort-value="0.5">50.0</td>' in made and 'data-sort-value="-1.0"' in made
    assert 'data-sort-value="&quot;">&lt;</td>' in made


def test_text_has_no_line_of_its_own():
    assert text("a\nb<\x07") == "a b&lt;\\x07"


def two_runs(**shape):
    """The second finds the Jump too, and was trained with another learning rate."""
    better = [*FOUND, (0, 1, 1.0, 2.0, 0.95)]
    first, second = reported(**shape), reported("better", detections=better, **shape)
    options = resolve({"tious": "0.3:0.5:0.1", "average_tious": ("0.3:0.5",), "lr": 0.25})
    return judge(first), judge(dataclasses.replace(second, options=options))


def test_a_comparison_states_differences_and_their_intervals():
    first, second = two_runs()
    overall, by_class = comparison_sections([first, second], draws=50)
    rows = numbers(overall.html)
    for name, one in (("demo", first), ("better", second)):
        expected = [f"{100 * value:.1f}" for value in [*one.result.map, *[one.result.average_map()] * 2]]
        assert rows[name][:-1] == expected
    difference = 100 * (second.result.average_map() - first.result.average_map())
    assert rows["better - demo"][-2] == f"{difference:+.1f}"
    assert f"better has {difference:+.1f} mAP against" in html.unescape(overall.html)
    assert rows["lr"] == ["0.5", "0.25"]
    assert numbers(by_class.html)["Dive"][2].startswith("+0.0")
    # One of its two videos has instances: a draw has it or is left out, so that the interval has no width.
    assert "the test videos are too few to tell it from their noise" in overall.html


def test_a_run_has_its_own_interval_too():
    random = np.random.default_rng(1)
    truth = [(v, c, 10.0 * c, 10.0 * c + 5, 1.0) for v in range(12) for c in range(2)]
    found = [(v, c, s + random.random() * 3, e, random.random()) for v, c, s, e, _ in truth]
    shape = {"videos": [f"v{v}" for v in range(12)]}
    first, second = reported(**shape), reported("better", **shape)
    timelines = dataclasses.replace(first.timelines, truth=Segments.from_rows(truth))
    first, second = (
        dataclasses.replace(one, timelines=timelines, detections=Segments.from_rows(rows))
        for one, rows in ((first, found), (second, truth))
    )
    overall, _ = comparison_sections([judge(first), judge(second)], draws=200)
    expected = bca_bootstrap(
        timelines.truth, first.detections, num_classes=3, num_videos=12, tious=(0.3, 0.4, 0.5), draws=200
    ).average
    assert numbers(overall.html)["demo"][-1] == f"[{100 * expected.low:.1f}, {100 * expected.high:.1f}]"
    assert numbers(overall.html)["better"][-1] == ""  # all is found in every draw


def test_a_comparison_of_few_videos_says_so():
    first, second = two_runs()
    assert (
        "With 2 instances in 1 video these intervals mean little"
        in comparison_sections([first, second], draws=20)[0].html
    )
    many = two_runs(videos=[f"v{i}" for i in range(20)])
    assert "mean little" not in comparison_sections(many, draws=20)[0].html


def test_equal_runs_differ_by_nothing():
    first, _ = two_runs()
    overall, by_class = comparison_sections([first, first, first], draws=20)
    assert overall.html.count("within the noise") == 2 and "No option differs" in overall.html
    assert "demo (2) - demo (1)" in numbers(overall.html)
    assert len(by_class.charts) == 2


def test_runs_of_other_data_are_not_compared():
    first = judge(reported())
    for shape, what in (
        ({"videos": ("first", "third")}, r"of other videos, 'second', 'third' in one of them alone"),
        ({"videos": ("second", "first")}, "in another order"),
        ({"classes": ("Dive", "Jump", "Run")}, "of other classes, 'Run', 'Throw'"),
        ({"truth": False}, "another ground truth"),
    ):
        with pytest.raises(InputError, match=what):
            comparison_sections([first, judge(reported("other", **shape))])


def test_a_comparison_without_ground_truth_says_so():
    (only,) = comparison_sections(two_runs(truth=False))
    assert "needs ground truth" in only.html and numbers(only.html)["lr"] == ["0.5", "0.25"]


def test_comparisons_are_safe_and_compile():
    vl_convert = pytest.importorskip("vl_convert", reason="the report's packages are not installed")
    for section in comparison_sections(two_runs(classes=HOSTILE, videos=HOSTILE), draws=20):
        assert not re.search(r"<script|\x00|\x1b|[\ud800-\udfff]", section.html)
        assert sorted(re.findall(r'<div id="([^"]+)">', section.html)) == sorted(section.charts)
        for spec in section.charts.values():
            json.dumps(spec, allow_nan=False)
            vl_convert.vegalite_to_svg({**spec, "width": 300}, vl_version="6.4")


def test_protocols_stand_side_by_side():
    run = reported()
    shown = sections_of(run)["protocols"].html
    found = numbers(shown.split("</table>")[0])
    for name, protocol in PROTOCOLS.items():
        clock = SnippetClock(grid=SnippetGrid(frames=16, stride=16), fps=25.0)
        outcome = evaluate_by(
            protocol, run.timelines.truth, run.detections, num_classes=3, tious=(0.3, 0.4, 0.5), snippets=clock
        )
        maps = [f"{100 * value:.1f}" for value in [*outcome.result.map, outcome.result.map.mean()]]
        assert found[name] == [*maps, str(len(outcome.truth)), str(len(outcome.detections))]
        assert html.escape(protocol.does) in shown
    assert "round to no snippet" not in shown
    tiny = dataclasses.replace(run.timelines, truth=Segments.from_rows([(0, 0, 4.0, 4.1, 1.0), (0, 1, 1.0, 2.0, 1.0)]))
    lost = sections_of(dataclasses.replace(run, timelines=tiny))["protocols"].html
    assert "round to no snippet, which nothing can find: 1 instance" in lost


def test_points_of_a_curve_are_spaced_along_it():
    x = np.array([0.0, 0.0, 0.1, 0.11, 0.12, 0.5, 1.0])
    kept, place = spaced(x, np.arange(7.0), most=3)
    assert kept.tolist() == [0.0, 0.5, 1.0] and place.tolist() == [0, 5, 6]
    assert [len(column) for column in spaced(x[:0], x[:0], most=3)] == [0, 0]
    assert thinned(np.arange(10.0), np.arange(10.0) ** 2, most=4)[1].tolist() == [0, 9, 36, 81]
    assert len(thinned(x[:0], most=4)[0]) == 0
