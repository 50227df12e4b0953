"""The evaluators of eval/protocols.py, each against plain loops and cases worked by hand, and against figures of real files."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.paths import SHARED

from eval.average_precision import ELEVEN_POINT, RAW
from eval.detection import evaluate_detections, main
from eval.files import PairOptions, read_pair
from eval.matching import NO_INSTANCE, match_instances
from eval.protocols import CHOICES, PROTOCOLS, Matching, SnippetClock, evaluate_by, kept_instances, touching, whole
from formats.ambiguous_intervals import read_ambiguous_intervals
from utils.errors import InputError
from utils.segments import Segments
from utils.snippet_grid import SnippetGrid

PUBLISHED = SnippetClock(grid=SnippetGrid(frames=16, stride=16), fps=25.0)
SECONDS = SnippetClock(grid=SnippetGrid(frames=10, stride=10), fps=10.0)  # a snippet a second
TIOUS = (0.1, 0.3, 0.5, 0.7)
NONE = Segments.from_rows([])


def by(name, truth, found, *, ambiguous=None, tious=(0.5,), snippets=SECONDS, classes=1, **changes):
    """An outcome; instances are (start, end) of video 0 and class 0, detections (start, end, score), or whole rows."""
    rows = [row if len(row) == 5 else (0, 0, *row, 1.0)[:5] for row in truth]
    return evaluate_by(
        replace(PROTOCOLS[name], **changes),
        Segments.from_rows(rows),
        Segments.from_rows([row if len(row) == 5 else (0, 0, *row) for row in found]),
        num_classes=classes,
        tious=tious,
        snippets=snippets,
        ambiguous=None if ambiguous is None else Segments.from_rows([(0, 0, *row, 1.0) for row in ambiguous]),
    )


def ap(*args, **kwargs):
    return by(*args, **kwargs).result.per_class_ap[0, 0]


# Plain loops, one detection or one instance at a time


def in_order(rows):
    return sorted(range(len(rows)), key=lambda i: -rows[i][4])


def iou(one, other):
    inter = max(0.0, min(one[3], other[3]) - max(one[2], other[2]))
    union = (one[3] - one[2]) + (other[3] - other[2]) - inter
    return inter / union if union > 0 else 0.0


def touches(row, marks, least):
    return any(row[0] == mark[0] and min(row[3], mark[3]) - max(row[2], mark[2]) > least for mark in marks)


def best_free(truth, found, tiou):
    free, hits = set(range(len(truth))), {}
    for i in in_order(found):
        of_video = [g for g, row in enumerate(truth) if row[:2] == found[i][:2]]
        overlaps = np.array([iou(found[i], truth[g]) for g in of_video])
        hits[i] = False
        for place in np.argsort(overlaps)[::-1]:
            if overlaps[place] >= tiou and of_video[place] in free:
                free.remove(of_video[place])
                hits[i] = True
                break
    return hits


def first_free(truth, found, tiou):
    free, hits = set(range(len(truth))), {}
    for i in in_order(found):
        fits = [g for g in sorted(free) if truth[g][:2] == found[i][:2] and iou(found[i], truth[g]) >= tiou]
        hits[i] = bool(fits)
        free -= set(fits[:1])
    return hits


def largest_overlap(truth, found, tiou):
    hits = dict.fromkeys(range(len(found)), False)
    for row in truth:
        free = [i for i in in_order(found) if not hits[i] and found[i][:2] == row[:2]]
        best = max(free, key=lambda i: iou(found[i], row), default=None)
        if best is not None and iou(found[best], row) > tiou:
            hits[best] = True
    return hits


def interpolated(hits, count):
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precision[i:]) for i, hit in enumerate(hits) if hit) / count


def raw(hits, count):
    return sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / count


def eleven_points(hits, count):
    points = [(sum(hits[: i + 1]) / count, sum(hits[: i + 1]) / (i + 1)) for i in range(len(hits))]
    return sum(max([p for r, p in points if r >= tenth * 0.1], default=0) for tenth in range(11)) / 11


def mean_ap(truth, found, hits, rule, counted):
    values = []
    for label in sorted({row[1] for row in truth}):
        mine = [hits[i] for i in in_order(found) if found[i][1] == label and counted(i)]
        values.append(rule(mine, sum(row[1] == label for row in truth)))
    return sum(values) / len(values)


def always(_):
    return True


def rounded(row, rate):
    return (row[0], row[1], float(round(row[2] * rate)), float(round(row[3] * rate)), row[4])


def in_loops(name, truth, found, marks, tiou, rate):
    """The mAP of a protocol as its rules are written, from rows (video, label, start, end, score)."""
    if name == "sal":
        return mean_ap(truth, found, best_free(truth, found, tiou), interpolated, always)
    if name == "actionformer":
        kept = []
        for row in truth:
            same = [k for k in kept if k[:2] == row[:2] and abs(k[2] - row[2]) <= 1e-3 and abs(k[3] - row[3]) <= 1e-3]
            if row[3] - row[2] >= 1e-3 and not same:
                kept.append(row)
        return mean_ap(kept, found, best_free(kept, found, tiou), interpolated, always)
    if name in ("thumos", "thumos-updated"):
        hits = largest_overlap(truth, found, tiou)
        rule = eleven_points if name == "thumos" else raw
        return mean_ap(truth, found, hits, rule, lambda i: hits[i] or not touches(found[i], marks, 0))
    annotated = {row[0] for row in truth}
    truth, marks = [rounded(row, rate) for row in truth], [rounded(row, rate) for row in marks]
    found = [row for row in found if row[0] in annotated]
    if name == "snippet":
        found = [(row[0], row[1], row[2] * rate, row[3] * rate, row[4]) for row in found]
        found = [row for row in found if not touches(row, marks, 1e-6)]
        return mean_ap(truth, found, best_free(truth, found, tiou), interpolated, always)
    found = [rounded(row, rate) for row in found]
    found = [row for row in found if not touches(row, marks, 1e-6) and row[3] - row[2] >= 2]
    if {row[1] for row in truth} - {row[1] for row in found}:
        return 0.0
    return mean_ap(truth, found, first_free(truth, found, tiou), raw, always)


def random_rows(generator, count, *, videos, labels, step):
    """Rows whose times are multiples of `step`: with a large one, many ties, duplicates and empty segments."""
    start = generator.integers(0, round(30 / step), count) * step
    end = start + generator.integers(0, round(12 / step), count) * step
    columns = generator.integers(0, videos, count), generator.integers(0, labels, count), start, end
    return list(zip(*(c.tolist() for c in columns), generator.random(count).round(1).tolist(), strict=True))


@pytest.mark.parametrize("step", [0.01, 0.5, 2.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_its_rules_in_loops(name, seed, step):
    generator = np.random.default_rng(seed)
    truth = random_rows(generator, 40, videos=4, labels=2, step=step)
    truth += truth[:5] + [(v, c, s + 5e-4, e + 5e-4, p) for v, c, s, e, p in truth[5:10]]  # given twice
    found = random_rows(generator, 150, videos=5, labels=3, step=step)  # one video, one class more
    marks = random_rows(generator, 4, videos=5, labels=1, step=step)
    outcome = evaluate_by(
        PROTOCOLS[name],
        Segments.from_rows(truth),
        Segments.from_rows(found),
        num_classes=3,
        tious=TIOUS,
        snippets=PUBLISHED,
        ambiguous=Segments.from_rows(marks),
    )
    expected = [in_loops(name, truth, found, marks, tiou, 25 / 16) for tiou in TIOUS]
    np.testing.assert_allclose(outcome.result.map, expected, rtol=0, atol=1e-12)
    assert expected[0] > 0.05


@pytest.mark.parametrize("name", PROTOCOLS)
def test_nothing_found(name):
    outcome = by(name, [(0, 10)], [], ambiguous=[(0, 1)], tious=TIOUS)
    assert outcome.result.map.tolist() == [0] * 4 and (outcome.hits, outcome.surplus, outcome.ambiguous) == (0, 0, 0)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_ground_truth(name):
    with pytest.raises(InputError, match="no ground-truth"):
        by(name, [], [(0, 1, 1)])


def test_sal_is_the_evaluation_of_every_run():
    generator = np.random.default_rng(0)
    truth, found = (Segments.from_rows(random_rows(generator, n, videos=3, labels=2, step=0.5)) for n in (30, 100))
    outcome = evaluate_by(PROTOCOLS["sal"], truth, found, num_classes=2, tious=TIOUS, snippets=PUBLISHED)
    own = evaluate_detections(truth, found, num_classes=2, tious=TIOUS)
    assert np.array_equal(outcome.result.per_class_ap, own.per_class_ap)


# Rules by hand


def test_snippet_rounds_the_ground_truth_alone_and_a_half_to_the_even_number():
    outcome = by("snippet", [(0.5, 1.5), (2.5, 3.5)], [(0.0, 1.9, 0.9), (2.0, 4.0, 0.8)])
    assert outcome.truth.start.tolist() == [0, 2] and outcome.truth.end.tolist() == [2, 4]
    assert outcome.detections.end.tolist() == [1.9, 4.0]
    assert outcome.result.map[0] == 1
    assert ap("sal", [(2.5, 3.5)], [(2.0, 4.0, 0.8)], tious=(0.6,)) == 0  # tIoU 0.5 in seconds


def test_an_instance_may_round_to_nothing():
    outcome = by("snippet", [(2.0, 2.4), (5, 8)], [(2.0, 2.4, 0.9), (5, 8, 0.8)])
    assert outcome.lost == 1 and outcome.result.map[0] == pytest.approx(1 / 2 / 2)


def test_snippets_are_those_of_the_features():
    clock = SnippetClock(grid=SnippetGrid(frames=16, stride=8), fps=24.0)  # snippet k: k / 3 + 1/6 seconds and on
    outcome = by("snippet", [(1 / 6, 1 / 6 + 1)], [(1 / 6, 1 / 6 + 1, 1.0)], snippets=clock)
    assert (outcome.truth.start[0], outcome.truth.end[0]) == (0, 3)


def test_the_first_free_instance_or_the_best():
    truth, found = [(0, 10), (4, 14)], [(4, 14, 0.9), (0, 8, 0.8)]  # the first detection reaches both, tIoU 0.43 and 1
    assert ap("sal", truth, found, tious=(0.4,)) == 1
    assert ap("sal", truth, found, tious=(0.4,), matching=Matching.FIRST_FREE) == 0.5
    assert ap("wtalc", truth, found, tious=(0.4,)) == 0.5


def test_wtalc_drops_detections_under_two_snippets_after_rounding():
    outcome = by("wtalc", [(0, 1), (5, 7)], [(0, 1.4, 0.9), (5.4, 6.6, 0.8)])
    assert outcome.detections.score.tolist() == [0.8] and outcome.detections.start.tolist() == [5]


def test_wtalc_is_zero_when_a_class_has_no_detections():
    truth = [(0, 0, 0, 10, 1), (0, 1, 20, 30, 1)]
    found = [(0, 0, 0, 10, 0.9), (0, 1, 20, 21, 0.8)]  # that of class 1 is one snippet long, and dropped
    outcome = by("wtalc", truth, found, classes=3)
    assert outcome.result.map[0] == 0 and outcome.unfound_classes == (1,)
    assert np.isnan(outcome.result.per_class_ap[0, 2])
    assert by("snippet", truth, found, classes=3).result.map[0] == 0.5


@pytest.mark.parametrize(("name", "expected"), [("sal", 1 / 2), ("snippet", 1), ("wtalc", 1), ("thumos", 1 / 2)])
def test_detections_in_videos_without_ground_truth(name, expected):
    outcome = by(name, [(0, 10)], [(1, 0, 0, 10, 0.9), (0, 10, 0.8)])
    assert outcome.result.map[0] == pytest.approx(expected)
    assert len(outcome.detections) == (2 if expected < 1 else 1)
    assert outcome.entering.tolist() == ([0, 1] if expected < 1 else [1])


def test_actionformer_drops_what_is_given_twice():
    truth = [(0, 0, 0, 10, 1), (0, 0, 0.0005, 10.0005, 1), (0, 0, 0, 10.01, 1), (0, 1, 0, 10, 1), (1, 0, 0, 10, 1)]
    kept = kept_instances(PROTOCOLS["actionformer"], Segments.from_rows(truth))
    assert kept.end.tolist() == [10, 10.01, 10, 10]  # other ends, another label, another video
    assert len(kept_instances(PROTOCOLS["sal"], Segments.from_rows(truth))) == 5


def test_actionformer_keeps_an_instance_of_a_millisecond():
    kept = kept_instances(PROTOCOLS["actionformer"], Segments.from_rows([(0, 0, 0, 1e-3, 1), (1, 0, 0, 0.9e-3, 1)]))
    assert kept.video.tolist() == [0]


def test_what_is_given_twice_is_measured_from_what_stays():
    drifting = Segments.from_rows([(0, 0, i * 0.0008, 10 + i * 0.0008, 1) for i in range(3)])
    assert kept_instances(PROTOCOLS["actionformer"], drifting).start.tolist() == [0, 0.0016]


def test_actionformer_drops_instances_of_no_length():
    assert ap("actionformer", [(0, 10), (5, 5), (6, 6.0005)], [(0, 10, 1)]) == 1
    assert ap("sal", [(0, 10), (5, 5), (6, 6.0005)], [(0, 10, 1)]) == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="actionformer drops every instance"):
        by("actionformer", [(5, 5)], [(0, 10, 1)])


def test_in_thumos_instances_choose_by_overlap():
    """The best score is false, though it overlaps enough: the instance takes the other."""
    assert ap("thumos-updated", [(0, 10)], [(0, 9, 0.9), (0, 10, 0.1)]) == pytest.approx(1 / 2)
    assert ap("sal", [(0, 10)], [(0, 9, 0.9), (0, 10, 0.1)]) == 1
    outcome = by("thumos", [(0, 10)], [(0, 9, 0.9), (0, 10, 0.1)])
    assert (outcome.hits, outcome.surplus) == (1, 1)


def test_in_thumos_instances_choose_in_the_order_of_the_file():
    truth = [(0, 10), (2, 12)]
    found = [(2, 12, 0.9), (20, 30, 0.8)]  # the first instance takes what the second is identical to
    assert ap("thumos-updated", truth, found, tious=(0.6,)) == pytest.approx(1 / 2)
    assert ap("thumos-updated", truth, [*found, (0, 10, 0.1)], tious=(0.6,)) == pytest.approx((1 + 2 / 3) / 2)


def test_thumos_wants_more_than_the_threshold():
    assert ap("thumos", [(0, 10)], [(0, 5, 1)]) == 0
    assert ap("thumos", [(0, 10)], [(0, 5.1, 1)]) == 1
    assert ap("sal", [(0, 10)], [(0, 5, 1)]) == 1


def test_of_equal_overlaps_an_instance_takes_the_better_score():
    truth, found = Segments.from_rows([(0, 0, 0, 10, 1)]), Segments.from_rows([(0, 0, 0, 8, 0.2), (0, 0, 2, 10, 0.7)])
    assert match_instances(truth, found, tious=(0.5,)).tolist() == [[NO_INSTANCE, 0]]


def test_ambiguous_intervals_by_protocol():
    truth = [(0, 10)]
    found = [(50, 60, 0.9), (0, 10, 0.8)]  # a false positive first
    assert ap("sal", truth, found, ambiguous=[(55, 70)]) == 1 / 2
    assert ap("actionformer", truth, found, ambiguous=[(55, 70)]) == 1 / 2
    for name in ("snippet", "wtalc", "thumos", "thumos-updated"):
        outcome = by(name, truth, found, ambiguous=[(55, 70)])
        assert outcome.result.map[0] == 1 and outcome.ambiguous == 1
        assert ap(name, truth, found, ambiguous=[(60, 70)]) == pytest.approx(1 / 2)  # it only adjoins
    for name, expected in (("snippet", 0), ("wtalc", 0), ("thumos", 1), ("thumos-updated", 1)):
        only_hit = by(name, truth, [(0, 10, 0.8)], ambiguous=[(9, 12)])
        assert only_hit.result.map[0] == expected, name  # deleted though it is a hit, or a hit nevertheless


def test_ambiguous_intervals_are_rounded_where_the_ground_truth_is():
    assert by("snippet", [(0, 10)], [(20, 30, 1)], ambiguous=[(30.6, 31)]).ambiguous == 0
    assert by("snippet", [(0, 10)], [(20, 30.8, 1)], ambiguous=[(30.6, 32)]).ambiguous == 0  # rounds to 31
    assert by("thumos", [(0, 10)], [(20, 30.8, 1)], ambiguous=[(30.6, 32)]).ambiguous == 1


def test_touching_is_of_one_video_and_more_than_nothing():
    found = Segments.from_rows([(0, 0, 0, 2, 1), (0, 1, 2, 3, 1), (1, 0, 0, 2, 1), (0, 0, 1.5, 1.5, 1)])
    assert touching(found, Segments.from_rows([(0, 5, 1, 2, 1)])).tolist() == [True, False, False, False]
    assert touching(NONE, NONE).tolist() == [] and touching(found, NONE).tolist() == [False] * 4


def test_seconds_of_whole_snippets_do_not_touch_by_a_rounding_error():
    starts = np.arange(2000) * 16 / 25  # some times 25 / 16 are a little more or less than whole
    found = Segments.from_rows([(0, 0, start, start + 0.64, 1) for start in starts])
    positions = PUBLISHED.positions(found)
    marks = whole(replace(positions, start=positions.end, end=positions.end + 1)).take(np.array([0, 700, 1500]))
    assert touching(positions, marks, least=1e-6).nonzero()[0].tolist() == [1, 701, 1501]


def test_evaluation_knows_that_seconds_are_not_quite_whole_snippets():
    start = next(s for s in (np.arange(2000) * 16 / 25).tolist() if s * 25 / 16 < round(s * 25 / 16))
    for name in ("snippet", "wtalc"):
        found = [(start, start + 6.4, 1)]
        assert by(name, [(0, 10)], found, ambiguous=[(start - 6.4, start)], snippets=PUBLISHED).ambiguous == 0
        assert by(name, [(0, 10)], found, ambiguous=[(start - 6.4, start + 0.64)], snippets=PUBLISHED).ambiguous == 1


def test_whole_rounds_as_python_does():
    halves = np.arange(-4, 5) / 2
    segments = Segments.from_rows([(0, 0, half, half, 1) for half in halves])
    assert whole(segments).start.tolist() == [round(half) for half in halves.tolist()]


def test_choices_name_protocols():
    assert [p.name for p in CHOICES["thumos"]] == ["thumos", "thumos-updated"]
    assert CHOICES["all"] == tuple(PROTOCOLS.values())


# Real detections

DETECTIONS = SHARED / "golden" / "detections" / "thumos14_test.json"
FIGURES = SHARED / "golden" / "evaluation"
needs_real = pytest.mark.skipif(not DETECTIONS.exists(), reason="the real detections are not part of the project")
# Of tIoUs that tie, evaluators take what numpy's argsort puts last, which depends on these instructions. Without them, figures
# of detections that take their best instance move by as much at the lowest tIoUs; rounded ground truth has more ties.
SAME_TIES = np._core._multiarray_umath.__cpu_features__["AVX512_SKX"]
EXACT = (1e-9,) * 7
TIES = EXACT if SAME_TIES else (3e-4, *EXACT[1:])
TIES_OF_SNIPPETS = EXACT if SAME_TIES else (3e-4, 2e-4, 3e-5, 5e-5, *EXACT[4:])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """{set of videos: the pair of files}"""
    truth = FIGURES / "thumos14_212.json"
    every = tmp_path_factory.mktemp("split") / "videos.txt"
    every.write_text("\n".join(json.loads(truth.read_text())["database"]))
    of_210 = SHARED / "data" / "thumos14" / "gt.json"
    return {
        "210": read_pair(of_210, DETECTIONS, PairOptions()),
        "210 alone": read_pair(of_210, DETECTIONS, PairOptions(unknown="skip")),
        "212": read_pair(truth, DETECTIONS, PairOptions(split=str(every))),
    }


@needs_real
@pytest.mark.parametrize(
    ("key", "name", "changes", "videos", "tolerance"),
    [
        ("sal, 210 videos with ground truth, every detection", "sal", {}, "210", TIES),
        ("sal, 210 videos, their detections only", "sal", {}, "210 alone", TIES),
        ("sal, 212 videos", "sal", {}, "212", TIES),
        (
            "snippet (ground truth rounded to 25/16 a second, detections as they are), 212 videos",
            *("snippet", {}, "212", TIES_OF_SNIPPETS),
        ),
        ("wtalc rules, 212 videos", "wtalc", {}, "212", EXACT),
        (
            "raw precision at hits in the place of the envelope, 210 videos, their detections",
            *("sal", {"ap": RAW}, "210 alone", TIES),
        ),
        ("11-point AP, 210 videos, their detections", "sal", {"ap": ELEVEN_POINT}, "210 alone", TIES),
        (
            "first free instance instead of the best, 210 videos, their detections",
            *("sal", {"matching": Matching.FIRST_FREE}, "210 alone", EXACT),
        ),
        ("thumos toolkit, 11-point, ambiguous, 212 videos", "thumos", {}, "212", EXACT),
        ("thumos toolkit updated (raw precision), ambiguous, 212 videos", "thumos-updated", {}, "212", EXACT),
    ],
)
def test_real_detections_have_the_figures_of_the_evaluators_in_use(pairs, key, name, changes, videos, tolerance):
    recorded = json.loads((FIGURES / "protocols.json").read_text())
    pair = pairs[videos]
    outcome = evaluate_by(
        replace(PROTOCOLS[name], **changes),
        pair.truth,
        pair.detections,
        num_classes=20,
        tious=recorded["tious"],
        snippets=PUBLISHED,
        ambiguous=pair.marked(read_ambiguous_intervals(FIGURES / "ambiguous_test.txt")),
    )
    assert np.all(np.abs(outcome.result.map - recorded["mAP"][key]) <= tolerance)


@needs_real
def test_real_detections_in_snippets(pairs):
    pair = pairs["210"]
    outcome = evaluate_by(
        PROTOCOLS["snippet"], pair.truth, pair.detections, num_classes=20, tious=(0.5,), snippets=PUBLISHED
    )
    assert (len(outcome.truth), outcome.lost) == (3311, 16)
    marks = pairs["212"].marked(read_ambiguous_intervals(FIGURES / "ambiguous_test.txt"))
    assert len(marks) == 96  # of 99: those of video_test_0001292 are in neither set
    found = PUBLISHED.positions(pairs["212"].detections)
    assert not touching(found, whole(PUBLISHED.positions(marks)), least=1e-6).any()


# The command


@pytest.fixture
def command(tmp_path, capsys):
    """command(*flags): exit code, output, error line; on two videos of a class, one of them with an ambiguous interval."""
    database = {
        "a": {"subset": "test", "annotations": [{"label": "Jump", "segment": [0, 16]}]},
        "b": {"subset": "test", "annotations": [{"label": "Jump", "segment": [0.0, 0.2]}]},
    }
    found = [((0, 16), 0.9), ((1, 15), 0.8), ((30, 40), 0.7)]
    results = {"a": [{"label": "Jump", "score": score, "segment": list(segment)} for segment, score in found]}
    results["stranger"] = results["a"][:1]
    (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
    (tmp_path / "found.json").write_text(json.dumps({"results": results}))
    (tmp_path / "ambiguous.txt").write_text("v_a.mp4  39 50\n\nb 5 6\nelsewhere 1 2\n")

    def call(*flags):
        files = [
            "--ground_truth",
            tmp_path / "gt.json",
            "--detections",
            tmp_path / "found.json",
            "--tious",
            "0.3:0.5:0.2",
        ]
        code = main([str(word).replace("AMBIGUOUS", str(tmp_path / "ambiguous.txt")) for word in (*files, *flags)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    call.folder = tmp_path
    return call


def test_all_stand_side_by_side_with_what_they_compare(command):
    code, out, _ = command("--protocol", "all", "--ambiguous", "AMBIGUOUS")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "compared, subset test"
    assert [line.partition(":")[0] for line in lines[1:7]] == list(PROTOCOLS)
    head, *rows = lines[-7:]
    assert head.split()[:7] == ["mAP", "%", "by", "videos", "instances", "classes", "detections"]
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert list(cells) == list(PROTOCOLS)
    assert cells["sal"][:4] == ["2", "2", "1", "4"] and cells["wtalc"][:4] == ["2", "2", "1", "2"]
    assert "1 interval of --ambiguous not used" in out
    assert "snippet: detections that touch an ambiguous interval, deleted: 1 detection" in out
    assert "wtalc: instances that round to no snippet, which nothing can find: 1 instance" in out
    assert "rounding the ground truth is worth +0.00" in out
    assert "thumos: false positives at tIoU 0.3 that touch an ambiguous interval, forgiven: 1 detection" in out
    assert "thumos-updated:" not in "\n".join(line for line in lines if line.startswith("note"))


def test_a_protocol_alone_is_named_with_what_it_compares(command):
    code, out, _ = command("--protocol", "wtalc")
    assert code == 0
    assert out.startswith("compared by wtalc, subset test: 2 videos, 2 instances, 1 class, 3 detections\n")
    assert "note: not in the ground truth, their detections are left out: 1 video" in out
    assert "no interval counts as ambiguous without --ambiguous FILE (for wtalc)" in out
    assert "\nwtalc, mAP %" in out and "\nAP per class" in out


def test_json_has_every_protocol(command):
    code, out, _ = command("--protocol", "thumos", "--json")
    printed = json.loads(out)
    assert code == 0 and printed["protocol"] == "thumos"
    assert [row["protocol"] for row in printed["protocols"]] == ["thumos", "thumos-updated"]
    for row in printed["protocols"]:
        assert row["compared"] == {"videos": 2, "instances": 2, "classes": 1, "detections": 4} and row["does"]
        assert set(row["mAP"]) == {"0.3", "0.5"} == set(row["per_class_AP"]["Jump"])


def test_classes_without_detections_are_named(command):
    results = {"a": [{"label": "Jump", "score": 1, "segment": [0, 0.5]}], "b": []}
    (command.folder / "found.json").write_text(json.dumps({"results": results}))
    assert "so the whole mAP is 0: 1 class ('Jump')" in command("--protocol", "wtalc")[1]


def test_dense_detections_are_named_by_the_protocol_that_punishes_them(command):
    results = {"a": [{"label": "Jump", "score": i / 10, "segment": [0, 16 - i / 10]} for i in range(3)], "b": []}
    (command.folder / "found.json").write_text(json.dumps({"results": results}))
    said = "thumos says little without hard NMS: besides 1 hits, detections overlap an instance by tIoU 0.3"
    assert said in command("--protocol", "thumos")[1] and said not in command()[1]


def test_instances_of_no_length_are_missed_or_dropped_and_only_that_is_said(command):
    truth = json.loads((command.folder / "gt.json").read_text())
    truth["database"]["b"]["annotations"].append({"label": "Jump", "segment": [5, 5]})
    (command.folder / "gt.json").write_text(json.dumps(truth))
    missed, dropped = (
        "count as missed (--skip_empty",
        "actionformer: instances that are given twice or last under 0.001 s, dropped: 1 instance",
    )
    out = command()[1]
    assert missed in out and dropped not in out
    out = command("--protocol", "actionformer")[1]
    assert missed not in out and dropped in out and ": 2 videos, 2 instances, 1 class" in out


def test_sal_knows_no_ambiguous_intervals_and_says_so(command):
    assert "--ambiguous changes nothing" in command("--ambiguous", "AMBIGUOUS")[1]


def test_measures_on_demand(command):
    code, out, _ = command("--recall", "100", "1", "--operating_point", "0.5", "--calibration", "0.5", "--json")
    printed = json.loads(out)
    assert code == 0 and printed["recall"]["average_recall"] == {"1": 0.5, "100": 0.5}
    assert printed["recall"]["area"] == pytest.approx(0.5 * 99 / 100)
    point = printed["operating_point"]
    assert (point["threshold"], point["detections"], point["precision"], point["recall"]) == (0.9, 2, 0.5, 0.5)
    assert sum(b["detections"] for b in printed["calibration"]["bins"]) == 4
    assert printed["calibration"]["expected_error"] == pytest.approx((2 * 0.4 + 0.8 + 0.7) / 4)
    code, out, _ = command("--recall", "1", "--operating_point", "0.5", "--calibration", "0.5")
    assert "AR@1 50.0 %, area up to 100 49.5 %" in out
    assert "largest F1 at tIoU 0.5: 50.0 %, precision 50.0 %, recall 50.0 %, by the 2 detections of score 0.9" in out
    assert "calibration at tIoU 0.5: expected error 0.575" in out


def test_measures_are_of_every_detection_whatever_its_class(command):
    """The best detection has a label that the ground truth lacks: it covers the instance, and is false."""
    results = {
        "a": [{"label": "Zzz", "score": 0.9, "segment": [0, 16]}, {"label": "Jump", "score": 0.8, "segment": [0, 16]}]
    }
    (command.folder / "found.json").write_text(json.dumps({"results": results}))
    printed = json.loads(command("--recall", "1", "--operating_point", "0.5", "--calibration", "0.5", "--json")[1])
    assert printed["recall"]["average_recall"] == {"1": 0.5}
    point = printed["operating_point"]
    assert (point["threshold"], point["detections"], point["precision"], point["recall"]) == (0.8, 2, 0.5, 0.5)
    assert sum(b["detections"] for b in printed["calibration"]["bins"]) == 2
    assert printed["compared"]["detections"] == 1 and printed["mAP"]["0.5"] == 0.5
    results["a"][1]["label"] = "Yyy"  # two labels are not one class, and neither is that of the instance
    (command.folder / "found.json").write_text(json.dumps({"results": results}))
    printed = json.loads(command("--recall", "1", "--operating_point", "0.5", "--json")[1])
    assert (printed["recall"]["average_recall"]["1"], printed["operating_point"]["recall"]) == (0.5, 0)


def test_marks_of_what_nobody_could_classify_are_no_detections(command):
    name = "video_test_0000001"
    database = {name: {"subset": "test", "annotations": [{"label": "Jump", "segment": [0, 16]}]}}
    (command.folder / "gt.json").write_text(json.dumps({"database": database}))
    found = [{"label": label, "score": 0.5, "segment": [0, 16]} for label in ("Ambiguous", "Zzz", "Jump")]
    (command.folder / "found.json").write_text(json.dumps({"results": {name: found}}))
    assert json.loads(command("--operating_point", "0.5", "--json")[1])["operating_point"]["detections"] == 2


def test_measures_are_of_sal_whatever_the_protocol(command):
    flags = ("--recall", "1", "--operating_point", "0.5", "--calibration", "0.5", "--json")
    printed = [
        json.loads(command("--protocol", name, *flags)[1]) for name in ("sal", "snippet", "wtalc", "actionformer")
    ]
    for key in ("recall", "operating_point", "calibration"):
        assert all(other[key] == printed[0][key] for other in printed[1:])
    assert sum(b["detections"] for b in printed[1]["calibration"]["bins"]) == 4  # with the one in a stranger


def test_a_protocol_that_drops_all_instances_is_a_row_without_numbers(command):
    database = {"a": {"subset": "test", "annotations": [{"label": "Jump", "segment": [3, 3.0005]}]}}
    (command.folder / "gt.json").write_text(json.dumps({"database": database}))
    code, out, err = command("--protocol", "all")
    assert (code, err) == (0, "")
    assert "note: actionformer: not computed, protocol actionformer drops every instance of the ground truth" in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[-6:]}
    assert list(rows) == list(PROTOCOLS) and set(rows["actionformer"]) == {"-"} and rows["sal"][1] == "1"
    printed = json.loads(command("--protocol", "all", "--json")[1])
    assert [row["protocol"] for row in printed["protocols"]] == list(PROTOCOLS)
    assert ["not_computed" in row for row in printed["protocols"]] == [name == "actionformer" for name in PROTOCOLS]
    assert command("--protocol", "actionformer")[0] == 2


def test_measures_without_detections(command):
    (command.folder / "found.json").write_text(json.dumps({"results": {"a": []}}))
    flags = ("--recall", "1", "--operating_point", "0.5", "--calibration", "0.5")
    code, out, _ = command(*flags)
    assert code == 0 and out.count("there are no detections") == 2
    printed = json.loads(command(*flags, "--json")[1])
    assert printed["calibration"] == {"tiou": 0.5, "expected_error": None, "bins": []}


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--protocol", "wtal"], "wtalc"),
        (["--fps", "0"], "--fps 0"),
        (["--fps", "nan"], "--fps nan"),
        (["--snippet_frames", "0"], "--snippet_frames 0"),
        (["--snippet_stride", "-1"], "--snippet_stride -1"),
        (["--recall", "0"], "--recall 0"),
        (["--recall", "10001"], "--recall 10001"),
        (["--operating_point", "1"], "--operating_point 1"),
        (["--calibration", "nan"], "--calibration nan"),
        (["--ambiguous", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_a_wrong_flag_is_named(command, flags, says):
    code, out, err = command(*flags)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a 1 2\nb 3\n", "line 2: expected a video, a start and an end in seconds on each line, not 'b 3'"),
        ("a 1 x\n", "line 1: segment ['1', 'x']"),
        ("a 1 inf\n", "line 1"),
        ("a 2 1\n", "ends at or before its start"),
        ("\x1b[31m\n", "line 1"),
    ],
)
def test_a_wrong_line_of_ambiguous_intervals_is_named(command, text, says):
    (command.folder / "ambiguous.txt").write_text(text)
    code, _, err = command("--ambiguous", "AMBIGUOUS")
    assert code == 2 and says in err and err.count("\n") == 1 and "\x1b" not in err


def test_ambiguous_intervals_of_a_video_whose_name_has_spaces(tmp_path):
    (tmp_path / "list.txt").write_text("my video.mp4 1.5 2\n\n  b\t3 4\n")
    assert read_ambiguous_intervals(tmp_path / "list.txt") == [("my video.mp4", 1.5, 2), ("b", 3, 4)]
