"""The report's page in a real browser: the explorer, keys, names that mean harm, access for all, and no network."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from support.paths import ROOT, SHARED
from support.small_timelines import small_predictions, small_run

from report import page
from report.block import Limits
from report.groups import video_groups
from report.judged import judge
from report.page import script_json, write_report
from report.timeline import opacities
from utils.errors import InputError
from utils.printable import one_line
from utils.segments import Segments

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]
HOSTILE = (
    "<script>window.harmed=1</script>",
    "</script><img src=x onerror=window.harmed=1>",
    "\"><b>'&amp;{{content}}",
    "a\x00b\x1b[2J\u202e",
    "<!-- \ud800",
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("vl_convert")
    if not CHROMIUM:
        pytest.skip("no chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Seen:
    """What went wrong in a tab, and what it asked the network for."""

    def __init__(self, tab):
        self.errors, self.requests, self.allowed = [], [], []
        tab.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("request", lambda request: self.requests.append(request.url))


@pytest.fixture
def open_report(browser, tmp_path):
    """A function that writes and opens a report; at the end nothing has failed and nothing was asked for."""
    tabs = []

    def opened(*runs, hash="", width=1200, scheme="light", allowed=(), **options):
        path = tmp_path / "report.html"
        if runs:
            write_report(path, [judge(run) for run in runs], **options)
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        seen = Seen(tab)
        seen.allowed += allowed
        tabs.append((tab, seen, path.as_uri()))
        tab.goto(path.as_uri() + hash)
        tab.wait_for_selector("html[data-ready=true]", state="attached", timeout=20000)
        return tab

    yield opened
    for tab, seen, uri in tabs:
        tab.close()
        assert not seen.errors
        asked = {re.sub("#.*", "", url) for url in seen.requests}
        assert asked == {uri, *seen.allowed}


def span(tab):
    """The seconds shown, from and to."""
    return [float(number) for number in re.findall(r"[\d.]+", tab.inner_text("#span"))]


def draw_all(tab):
    """Go to every chart: they are drawn when they come near."""
    charts = tab.evaluate("Object.keys(JSON.parse(document.getElementById('content').textContent).charts)")
    for key in charts:
        tab.evaluate("(key) => document.getElementById(key).scrollIntoView({behavior: 'instant'})", key)
        tab.wait_for_selector(f"[id='{key}'] svg", state="attached")


def wait_for(tab, condition, *, seconds=10):
    """Wait until a JavaScript expression is true, asking from outside: the page's policy forbids Playwright's own way."""
    end = time.monotonic() + seconds
    while not tab.evaluate(condition):
        assert time.monotonic() < end, condition
        tab.wait_for_timeout(20)


def settle(tab):
    """Wait until what was asked for is drawn."""
    tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def seconds_marked(tab, timeline=0):
    """The labels of a timeline's axis, ascending."""
    settle(tab)
    chart = tab.locator(".timeline").nth(timeline)
    return sorted(
        map(float, chart.locator(".role-axis:has(.role-axis-title) .role-axis-label text").all_text_contents())
    )


def shown_bars(tab):
    """Detections drawn in the first timeline, without the outlines on top of them."""
    settle(tab)
    return tab.locator(".concat_0_group .concat_0_layer_1_marks path").count()


def test_a_page_opens_with_its_sections_and_the_first_video(open_report):
    tab = open_report(small_run())
    assert tab.inner_text("#video-name") == "first"
    assert tab.locator("nav a").nth(1).inner_text() == "Explorer"
    assert tab.locator("main > section").count() == tab.locator("nav li").count()
    assert shown_bars(tab) == 6
    assert "6 of 6 detections shown" in tab.inner_text(".count")


def test_the_explorer_switches_videos_by_button_key_list_and_search(open_report):
    tab = open_report(small_run(videos=("first", "second", "third")))
    tab.click("#next")
    assert tab.inner_text("#video-name") == "second" and "second, 2 of 3" in tab.inner_text("#announcement")
    tab.focus(".timeline")
    tab.keyboard.press("n")
    assert tab.inner_text("#video-name") == "third" and tab.get_attribute("#next", "aria-disabled") == "true"
    tab.click("#next", force=True)
    assert tab.inner_text("#video-name") == "third"
    tab.focus(".timeline")
    tab.keyboard.press("p")
    assert tab.inner_text("#video-name") == "second"
    tab.click("#videos button >> text=first")
    assert tab.inner_text("#video-name") == "first"
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    assert tab.inner_text("#video-name") == "second"
    tab.fill("#search", "THI")
    assert tab.locator("#videos button").count() == 1
    assert tab.locator("#videos button").get_attribute("aria-current") is None
    tab.click("#videos button")
    assert tab.inner_text("#video-name") == "third"


def test_what_is_drawn_is_the_videos_own(open_report):
    """The second of two videos that differ in everything has its own bars, lines and scores after a switch."""
    run = small_run(videos=("first", "second", "third"))
    tab = open_report(run, hash="#explore?video=2")
    third = np.flatnonzero(run.detections.video == 2)
    rows = [
        [cell.inner_text() for cell in row.locator("td").all()] for row in tab.locator(".detections tbody tr").all()
    ]
    order = third[np.argsort(-run.detections.score[third], kind="stable")]
    assert [row[:2] for row in rows] == [
        [f"{run.detections.start[i]:.2f}", f"{run.detections.end[i]:.2f}"] for i in order
    ]
    assert [row[2] for row in rows] == [run.timelines.classes[run.detections.label[i]] for i in order]
    named = tab.locator(".bars th strong").all_inner_texts()
    assert sorted(named) == ["Dive (true)", "Jump (true)"]
    best = run.timelines.class_scores[2].max()
    assert tab.locator(".bars td").nth(1).inner_text() == f"{best:.3f}"
    tab.hover(".concat_2_group .background", position={"x": 1, "y": 20}, force=True)
    tip = tab.inner_text("#tip").split("\n")
    fused = run.timelines.sequences[2].actionness[0]
    assert float(tip[tip.index("fused") + 1]) == pytest.approx(fused, abs=0.01)
    assert tip[1].endswith(" s")


def test_bars_are_as_faint_as_their_scores_and_outlined_if_they_hit(open_report):
    run = small_run()
    judged = judge(run)
    tab = open_report(run)
    first = run.detections.video == 0
    drawn = tab.eval_on_selector_all(
        ".concat_0_layer_1_marks path", "bars => bars.map((bar) => Number(bar.getAttribute('fill-opacity') ?? 1))"
    )
    assert sorted(drawn) == pytest.approx(sorted(opacities(run.detections.score)[first]), abs=1e-6)
    assert tab.locator(".concat_0_layer_2_marks path").count() == (judged.hit & first).sum() == 2
    assert tab.locator(".concat_0_layer_0_marks path[fill-opacity='0.1']").count() == 0
    tab = open_report(
        dataclasses.replace(run, detections=run.detections.take(np.flatnonzero(run.detections.label == 0)))
    )
    assert tab.locator(".concat_0_layer_0_marks path[fill-opacity='0.1']").count() == 1, "the Jump is missed"


def test_rows_of_classes_show_either_sequence(open_report):
    run = small_run()
    tab = open_report(run)
    tab.select_option("#sequence", "combined sequence")
    settle(tab)
    assert "combined sequence" in tab.inner_text(".timeline")
    tab.hover(".concat_1_group .background", position={"x": 1, "y": 20}, force=True)
    tip = tab.inner_text("#tip").split("\n")
    assert float(tip[tip.index("Dive") + 1]) == pytest.approx(run.timelines.sequences[0].combined[0, 0], abs=0.01)


def test_the_slider_hides_detections_and_says_how_many(open_report):
    tab = open_report(small_run())
    tab.focus("#threshold")
    tab.keyboard.press("End")
    assert shown_bars(tab) == 2 and "2 of 6 detections shown" in tab.inner_text(".count")
    assert tab.locator(".detections tbody tr").count() == 2
    tab.keyboard.press("Home")
    assert shown_bars(tab) == 6 and "6 of 6 detections shown" in tab.inner_text(".count")


def test_keys_zoom_and_move(open_report):
    tab = open_report(small_run())
    tab.focus(".timeline")
    assert span(tab) == [0, 10]
    tab.keyboard.press("+")
    assert span(tab) == [2.5, 7.5]
    tab.keyboard.press("ArrowRight")
    assert span(tab) == [3.5, 8.5]
    tab.keyboard.press("-")
    assert span(tab) == [0, 10], "no further than the video"
    tab.keyboard.press("+")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Home")
    assert span(tab) == [0, 10]
    assert [seconds_marked(tab)[i] for i in (0, -1)] == [0, 10]


def test_the_mouse_drags_and_the_wheel_zooms_where_it_points(open_report):
    tab = open_report(small_run())
    tab.locator(".timeline").scroll_into_view_if_needed()
    box = tab.locator(".concat_1_group .background").first.bounding_box()
    left, y = box["x"], box["y"] + 20
    tab.mouse.move(left + 1, y)
    scrolled = tab.evaluate("scrollY")
    tab.mouse.wheel(0, -200)
    tab.wait_for_timeout(100)
    assert span(tab) == [0, 10], "the page scrolls until the timeline has been clicked"
    tab.evaluate(f"scrollTo(0, {scrolled})")
    tab.wait_for_timeout(100)
    box = tab.locator(".concat_1_group .background").first.bounding_box()
    y = box["y"] + 20
    tab.mouse.click(left + 1, y)
    tab.mouse.wheel(0, -200)
    wait_for(tab, "document.getElementById('span').textContent !== '0.0 to 10.00 s'")
    before = span(tab)
    assert before[0] == 0 and before[1] < 9
    width = before[1] - before[0]
    tab.mouse.move(left + box["width"] / 2, y)
    tab.mouse.down()
    tab.mouse.move(left + box["width"] / 4, y, steps=4)
    tab.mouse.up()
    assert span(tab)[0] == pytest.approx(width / 4, abs=0.15)


def test_stepping_through_detections_says_each(open_report):
    tab = open_report(small_run())
    tab.focus(".timeline")
    tab.keyboard.press(".")
    first = tab.inner_text("#chosen")
    assert re.fullmatch(r"\w+: [\d.]+ to [\d.]+ s, score [\d.]+, [\w ]+", first)
    tab.keyboard.press(".")
    assert tab.inner_text("#chosen") != first
    tab.keyboard.press(",")
    assert tab.inner_text("#chosen") == first
    assert tab.locator(".detections tr.chosen").count() == 1


def test_links_open_what_they_name_and_the_address_keeps_up(open_report):
    tab = open_report(small_run(videos=("a", "b", "c")), hash="#explore?video=2&from=2&to=4&threshold=0.9")
    assert tab.inner_text("#video-name") == "c" and span(tab) == [2, 4] and shown_bars(tab) <= 2
    tab.evaluate("location.hash = '#explore?class=1&sort=fp'")
    wait_for(tab, "document.getElementById('sort').value === 'fp'")
    assert tab.eval_on_selector("#class", "element => element.value") == "1"
    assert "FP" in tab.inner_text("#videos")
    tab.click("#next")
    wait_for(tab, "/class=1.*sort=fp.*video=\\d/.test(location.hash)")


def test_a_link_to_a_group_lists_its_videos_until_all_are_asked_for(open_report):
    tab = open_report(small_run(), hash="#explore?group=length-XS")
    groups = video_groups(judge(small_run()))
    listed = tab.locator("#videos button")
    assert listed.count() == len(groups["length-XS"].videos) < len(small_run().timelines.videos)
    assert groups["length-XS"].label in tab.inner_text("#group-name")
    tab.click("#group-clear")
    assert listed.count() == len(small_run().timelines.videos) and tab.is_hidden("#group")
    tab.goto(tab.url.partition("#")[0] + "#explore?group=toString")
    assert tab.is_hidden("#group")


def test_links_that_name_nothing_open_the_first_video(open_report):
    tab = open_report(small_run(), hash="#explore?video=99&class=-5&sort=size&run=x&kind=%00&from=a&threshold=1e999")
    assert tab.inner_text("#video-name") == "first"


def test_worst_and_best_come_first(open_report):
    run = small_run(videos=tuple("abcdef"))
    ap = judge(run).video_ap
    known = [i for i in range(6) if not np.isnan(ap[i])]
    tab = open_report(run, hash="#explore?sort=ap")
    listed = [text.split("\n")[0] for text in tab.locator("#videos button").all_inner_texts()]
    assert [ap["abcdef".index(name)] for name in listed[: len(known)]] == sorted(ap[known])
    assert tab.inner_text("#video-name") == listed[0]


def test_two_runs_share_a_view(open_report):
    tab = open_report(small_run("one"), small_run("other", seed=1))
    assert tab.locator(".timeline").count() == 2
    assert tab.locator("#timelines h3").all_inner_texts() == ["one", "other"]
    tab.locator(".timeline").nth(1).focus()
    tab.keyboard.press("+")
    assert seconds_marked(tab, 0) == seconds_marked(tab, 1)
    assert seconds_marked(tab)[0] >= 2.5 and seconds_marked(tab)[-1] <= 7.5
    tab.select_option("#run", "1")
    tab.click("#next")
    assert tab.inner_text("#video-name") == "second" and tab.locator(".count").count() == 2


def test_hostile_names_are_shown_and_not_executed(open_report):
    tab = open_report(
        small_run(HOSTILE[0], videos=HOSTILE, classes=HOSTILE), small_run(HOSTILE[1], videos=HOSTILE, classes=HOSTILE)
    )
    titles = tab.eval_on_selector_all("#videos button", "buttons => buttons.map((button) => button.title)")
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[2], "a\\x00b\\x1b[2J\\u202e", "<!-- \\ud800"} == set(titles)
    for _ in HOSTILE[1:]:
        tab.click("#next")
        tab.hover(".concat_1_group .background", force=True)
    tab.locator(".detections button").first.click()
    draw_all(tab)
    assert tab.evaluate("window.harmed") is None
    assert tab.locator("img").count() == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_axe_finds_no_fault(open_report, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    tab = open_report(small_run(), small_run("other", seed=1), scheme=scheme, width=width)
    draw_all(tab)
    tab.locator(".timeline").first.focus()
    tab.keyboard.press(".")
    found = axe.Axe().run(tab).response["violations"]
    serious = [
        (fault["id"], fault["nodes"][0]["html"])
        for fault in found
        if fault["impact"] in ("serious", "critical") or fault["id"] == "landmark-unique"
    ]
    assert not serious


@pytest.mark.parametrize("runs", [1, 2])
def test_a_phone_scrolls_in_one_direction(open_report, runs):
    classes = ("A class of a name that is much longer than a phone is wide, by far", "b" * 300, "c")
    made = [small_run(f"{'long-' * 20}{i}", classes=classes, videos=("v" * 120, "w")) for i in range(runs)]
    tab = open_report(*made, width=390)
    draw_all(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.set_viewport_size({"width": 320, "height": 700})
    tab.wait_for_timeout(300)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_theme_can_be_changed(open_report):
    tab = open_report(small_run(), scheme="dark")
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.click("#theme")
    assert tab.get_attribute("#theme", "aria-pressed") == "false"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    wait_for(tab, "document.querySelectorAll('.timeline svg').length === 1")


@pytest.mark.parametrize(
    ("shape", "says"),
    [({"truth": False}, "ground truth is not known"), ({"mask": False}, "AP"), ({"streams": ("rgb",)}, "AP")],
)
def test_runs_that_lack_something(open_report, shape, says):
    tab = open_report(small_run(**shape))
    assert says in tab.inner_text("#facts") and shown_bars(tab) == 6
    legends = tab.inner_text(".timeline")
    assert ("adaptive mask" in legends) == shape.get("mask", True)
    assert ("flow" in legends) == ("flow" in shape.get("streams", ("rgb", "flow")))
    assert "judged" in tab.inner_text(".detections thead") or "truth" in shape
    tab.click("#next")
    assert shown_bars(tab) == 6


def test_predictions_without_truth_and_with_classes_alone(open_report):
    """A choice of one thing is none; classes that no video has are not offered; there is no word of what is not there."""
    classes = ("Dive", "Jump", "Throw", "a class with a very long name that no video has")
    tab = open_report(small_predictions(bare=True, classes=classes), width=1400)
    assert "class probability" in tab.inner_text(".timeline") and "actionness" not in tab.inner_text(".timeline")
    assert tab.is_hidden("#sequence") and tab.is_hidden("#sort") and tab.is_hidden("#player")
    assert tab.locator("#class option").all_inner_texts() == ["all", "Dive", "Jump"]
    assert tab.locator("nav a").all_inner_texts() == ["What was found", "Explorer", "How it was made"]
    said = tab.inner_text("main")
    assert "without ground truth: nothing is measured" in said and "mAP" not in said and "true classes" not in said
    tab.click("summary")
    assert "how probable each class is" in tab.inner_text("details") and "mask" not in tab.inner_text("details")
    plot = tab.locator(".concat_0_group .background").first.bounding_box()
    assert plot["x"] - tab.locator(".timeline").bounding_box()["x"] < 150  # the gutter is for the names shown
    tab.click("#next")
    assert tab.inner_text("#video-name") == "second" and shown_bars(tab) == 6


def test_the_table_of_predictions_leads_to_the_videos(open_report):
    tab = open_report(small_predictions())
    row = tab.locator("#found tbody tr").nth(1).locator("th, td").all_inner_texts()
    assert row == ["second", "10.0", "Dive", "4.0", "6.0", "0.900", "6"]
    tab.locator("#found tbody a >> text=second").click()
    wait_for(tab, "document.getElementById('video-name').textContent === 'second'")
    assert tab.is_visible("#sequence") and "adaptive mask" in tab.inner_text(".timeline")


def test_predictions_play_the_files_they_were_made_of(open_report, tmp_path):
    """A copy beside the page comes first; a file that is gone is not linked."""
    videos = ("first", "second", "third", "z/b")
    for name in ("first.avi", "first.mp4", "second.avi", "z%2Fb.mp4"):
        (tmp_path / name).write_bytes(b"nothing")
    files = [tmp_path / f"{name}.avi" for name in ("first", "second", "third")]
    run = small_predictions(videos=videos, files=files, folder=tmp_path)
    tab = open_report(run, allowed=[(tmp_path / "first.mp4").as_uri()])
    media = tab.evaluate("JSON.parse(document.getElementById('content').textContent).media")
    assert media == {"first": "first.mp4", "second": "second.avi", "z/b": "z%252Fb.mp4"}


def test_two_models_are_looked_at_side_by_side_without_truth(open_report):
    tab = open_report(small_predictions("a"), small_predictions("b", seed=1))
    assert tab.locator(".timeline svg").count() == 2 and "needs ground truth" in tab.inner_text("main")


def test_what_a_page_leaves_out_is_said(open_report):
    tab = open_report(small_run(), limits=Limits(detections=6, sequence_bytes=60))
    said = tab.inner_text("#cuts")
    assert "at most 3 detections of a video" in said and "means of 3 snippets" in said
    assert tab.inner_text(".count").startswith("3 of 3 detections shown, of 6 found")
    assert shown_bars(tab) == 3


def test_many_detections_are_listed_when_asked_for(open_report):
    run = small_run()
    many = Segments.from_rows([(0, 0, i / 20, i / 20 + 1, 0.5) for i in range(130)])
    tab = open_report(dataclasses.replace(run, detections=many))
    assert tab.locator(".detections tbody tr").count() == 100 and shown_bars(tab) == 130
    tab.click("text=All 130 rows")
    assert tab.locator(".detections tbody tr").count() == 130


def test_a_run_without_videos(open_report):
    tab = open_report(small_run(videos=(), truth=False))
    assert tab.inner_text("#video-name") == "No videos"


def test_a_link_without_a_threshold_shows_all(open_report):
    tab = open_report(small_run(), hash="#explore?threshold=0.9")
    assert shown_bars(tab) == 2
    tab.evaluate("location.hash = '#explore?kind=0'")
    wait_for(tab, "document.getElementById('kind').value === '0'")
    assert shown_bars(tab) == 6


def test_a_video_without_classes_or_detections(open_report):
    run = small_run(classes=("x",), truth=False)
    run.timelines.predicted[:] = False
    none = [
        dataclasses.replace(s, classes=s.classes[:0], cas=s.cas[:0], combined=s.combined[:0])
        for s in run.timelines.sequences
    ]
    timelines = dataclasses.replace(run.timelines, sequences=none)
    tab = open_report(dataclasses.replace(run, timelines=timelines, detections=Segments.from_rows([])))
    assert "0 of 0 detections shown" in tab.inner_text(".count")
    assert "fused" in tab.inner_text(".timeline")


def test_tables_sort_by_their_headers(open_report):
    tab = open_report(small_run())
    header = tab.locator(".detections th").nth(0)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    starts = [float(text) for text in tab.locator(".detections td button").all_inner_texts()]
    assert starts == sorted(starts, reverse=True)
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"


def test_a_video_plays_above_and_the_timeline_follows(open_report):
    file = SHARED / "data" / "video" / "arm_wrestling.mp4"
    if not file.exists():
        pytest.skip("needs ../shared/data/video")
    run = small_run(videos=("arm_wrestling", "silent"))
    tab = open_report(run, video_dir=file.parent, allowed=[file.as_uri()])
    wait_for(tab, "document.getElementById('player').readyState >= 1")
    tab.locator(".timeline").scroll_into_view_if_needed()
    box = tab.locator(".concat_1_group .background").first.bounding_box()
    tab.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 20)
    wait_for(tab, "Math.abs(document.getElementById('player').currentTime - 2) < 0.05")
    settle(tab)
    playhead = tab.locator(".concat_1_group .role-mark line[opacity='1']").first.bounding_box()
    assert playhead["x"] - box["x"] == pytest.approx(0.2 * box["width"], abs=4)
    cues = "Array.from(document.getElementById('player').textTracks[0].cues, (cue) => [cue.startTime, cue.endTime, cue.text])"
    mine = run.detections.take(run.detections.video == 0)
    best_first = mine.take(np.argsort(-mine.score, kind="stable"))
    kept = []  # by plain loops
    for label, start, end in zip(best_first.label, best_first.start, best_first.end, strict=True):
        if not any(label == other[0] and start < other[2] and other[1] < end for other in kept):
            kept.append((label, start, end))
    expected = [[start, end, run.timelines.classes[label]] for label, start, end in kept]
    assert [cue[2] for cue in tab.evaluate(cues)] == [cue[2] for cue in sorted(expected)]
    np.testing.assert_allclose(
        [cue[:2] for cue in tab.evaluate(cues)], [cue[:2] for cue in sorted(expected)], rtol=1e-6
    )
    assert len(kept) < len(mine)
    tab.fill("#threshold", "1000")
    assert len(tab.evaluate(cues)) == 2  # the best two, which are of two classes
    tab.click("#next")
    assert tab.is_hidden("#player")


def test_one_loop_follows_the_player(open_report, tmp_path):
    (tmp_path / "first.mp4").write_bytes(b"nothing")
    tab = open_report(small_run(), video_dir=tmp_path, allowed=[(tmp_path / "first.mp4").as_uri()])
    waiting = """() => {
      const player = document.getElementById("player");
      Object.defineProperty(player, "paused", { value: false });
      const waiting = new Set();
      let number = 0;
      window.requestAnimationFrame = () => (waiting.add(++number), number);
      window.cancelAnimationFrame = (frame) => waiting.delete(frame);
      for (const event of ["play", "seeked", "seeked"]) player.dispatchEvent(new Event(event));
      return waiting.size;
    }"""
    assert tab.evaluate(waiting) == 1


def test_a_kind_that_no_video_has_can_be_given_up(open_report):
    run = small_run()
    tab = open_report(
        dataclasses.replace(run, detections=run.detections.take(np.zeros(0, int))), hash="#explore?kind=3"
    )
    assert tab.inner_text("#matches").startswith("0 videos")
    tab.select_option("#kind", "")
    assert tab.inner_text("#matches").startswith("2 videos") and tab.is_hidden("#kind")


def test_names_are_spelt_as_in_python(open_report):
    name = "a\tb\nc\r\nd\x1b\u202e\x85e\ud800\n"
    tab = open_report(small_run(videos=(name, "other")))
    assert tab.evaluate("document.getElementById('video-name').textContent") == one_line(name)


def test_a_long_class_name_hides_no_column(open_report):
    classes = ("class number 0 with a long name", "class number 1 with a long name", "c")
    tab = open_report(small_run(classes=classes), width=1400)
    scroll = tab.locator(".lists .scroll")
    assert scroll.evaluate("(element) => element.scrollWidth <= element.clientWidth")
    labels = tab.locator(".concat_0_group .role-axis-label text").all_text_contents()
    assert set(classes[:2]) <= set(labels)


def test_several_runs_are_named_with_commas(open_report):
    tab = open_report(small_run("a"), small_run("b"), small_run("c"))
    assert tab.inner_text("h1") == "a, b and c"


def test_a_file_that_does_not_play_is_said(open_report, tmp_path):
    (tmp_path / "first.mp4").write_bytes(b"nothing")
    tab = open_report(small_run(), video_dir=tmp_path, allowed=[(tmp_path / "first.mp4").as_uri()])
    wait_for(tab, "document.getElementById('player-note').textContent.includes('cannot play')")
    assert tab.is_hidden("#player")


def test_a_link_to_the_explorer_alone_keeps_its_state(open_report):
    tab = open_report(small_run(), hash="#explore?video=1&sort=fp")
    tab.click("nav a >> text=Explorer")
    tab.wait_for_timeout(300)
    assert tab.inner_text("#video-name") == "second"
    assert tab.eval_on_selector("#sort", "element => element.value") == "fp"


def test_files_of_videos_are_found_beside_the_report(tmp_path):
    folder = tmp_path / "the videos"
    folder.mkdir()
    (folder / "first.mp4").write_bytes(b"")
    run = small_run()
    write_report(tmp_path / "report.html", [judge(run)], video_dir=folder)
    text = (tmp_path / "report.html").read_text()
    media = json.loads(re.search(r'id="content">(.*?)</script>', text)[1])["media"]
    assert media == {"first": "the%20videos/first.mp4"}
    assert "media-src file:" in text
    with pytest.raises(InputError, match=r"--video_dir .*: no file in it is called like .*first\.mp4"):
        write_report(tmp_path / "report.html", [judge(run)], video_dir=tmp_path)
    with pytest.raises(InputError, match=r"--video_dir .*can't be read"):
        write_report(tmp_path / "report.html", [judge(run)], video_dir=tmp_path / "none")


def test_the_benchmark_and_the_picture_open_a_page(browser, tmp_path):
    """As processes of their own: Playwright is used once in each."""
    flags = [
        "--videos",
        "3",
        "--snippets",
        "20",
        "--classes",
        "3",
        "--detections_per_video",
        "5",
        "--repeats",
        "1",
        "--keep",
    ]
    command = [sys.executable, "-m", "benchmarks.report_page", *flags, str(tmp_path)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "3 videos of 20 snippets, 15 detections" in printed
    assert re.search(r"opens in [\d.]+ s, .*n = 1\nswitches in [\d.]+ s, .*n = 8", printed)
    command = [sys.executable, "scripts/report_picture.py", str(tmp_path / "report.html"), "--out"]
    subprocess.run([*command, str(tmp_path / "x.png")], cwd=ROOT, check=True)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    small = subprocess.run(
        [*command, str(tmp_path / "y.png"), "--most_kB", "1"], cwd=ROOT, capture_output=True, text=True
    )
    assert small.returncode == 1 and "not written" in small.stderr and not (tmp_path / "y.png").exists()


def test_without_its_package_a_report_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    page._library.cache_clear()
    with pytest.raises(InputError, match=r"vl-convert-python, .* pip install -r requirements-report.txt"):
        write_report(tmp_path / "report.html", [judge(small_run())])
    assert not (tmp_path / "report.html").exists()


def test_json_in_a_script_does_not_end_it():
    text = script_json({"</script>": ["<!--", "&", "\u2028", "\ud800"]})
    assert not set("<>&\u2028") & set(text) and json.loads(text) == {"</script>": ["<!--", "&", "\u2028", "\ud800"]}
