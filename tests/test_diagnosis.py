"""The error diagnosis against a case worked by hand, plain loops, and what its authors' program says of the real detections."""

import json
import math
import time
from dataclasses import replace

import numpy as np
import pytest
from support.paths import SHARED

from eval.diagnosis import (
    ACTIVITYNET,
    BACKGROUND,
    CONFUSION,
    DOUBLE_DETECTION,
    KINDS,
    LOCALIZATION,
    THUMOS14,
    TRUE_POSITIVE,
    WRONG_LABEL,
    diagnose,
    mean_summary,
    sentence,
    usual_buckets,
)
from eval.files import PairOptions, read_pair
from eval.matching import NO_INSTANCE, match_detections
from utils.errors import InputError
from utils.segments import Segments

DETECTIONS = SHARED / "golden" / "detections" / "thumos14_test.json"
TRUTH = SHARED / "golden" / "evaluation" / "thumos14_212.json"
EXPECTED = SHARED / "golden" / "evaluation" / "detad.json"

A, B = 0, 1
# In three videos; nothing is found in the third.
INSTANCES = Segments.from_rows([(0, A, 0, 10, 1), (0, A, 20, 30, 1), (0, B, 40, 50, 1), (2, B, 0, 5, 1)])
FOUND = Segments.from_rows(
    [
        (0, A, 0, 10, 0.9),
        (0, A, 0, 9, 0.8),
        (0, A, 40, 50, 0.7),
        (0, A, 20, 24, 0.6),
        (0, A, 40, 44, 0.5),
        (0, A, 60, 70, 0.4),
        (1, A, 0, 10, 0.3),  # a video without instances
        (0, A, 20, 30, 0.1),
    ]
)


def diagnosed(truth, found, *, classes=2, videos=3, seconds=100.0, **settings):
    settings = {"tiou": 0.5, "durations": np.full(videos, seconds)} | settings
    return diagnose(truth, found, num_classes=classes, **settings)


def test_kinds_by_hand():
    diagnosis = diagnosed(INSTANCES, FOUND)
    kinds = (
        "true positive",
        "double detection",
        "wrong label",
        "localization",
        "confusion",
        "background",
        "background",
    )
    assert [KINDS[k] for k in diagnosis.kind] == [*kinds, "true positive"]
    assert diagnosis.instance.tolist() == [0, 0, 2, 1, 2, NO_INSTANCE, NO_INSTANCE, 1]
    assert diagnosis.is_missed.tolist() == [False, False, False, True] and diagnosis.missed == 1
    assert diagnosis.counts == dict(zip(KINDS, (2, 1, 1, 1, 1, 2), strict=True))
    assert diagnosis.profile["1G"] == dict(zip(KINDS, (1, 1, 0, 0, 0, 0), strict=True))
    assert diagnosis.profile["4G"] == dict(zip(KINDS, (1, 0, 0, 0, 0, 1), strict=True))
    assert sum(diagnosis.profile["5G"].values()) == 0


def test_gains_by_hand():
    """N is 2. The second hit of A has recall 1 and 6 false positives before it: P_N = 2 / (2 + 6)."""
    diagnosis = diagnosed(INSTANCES, FOUND)

    def map_n(false_positives, *, b=0.0):
        return ((1 + 2 / (2 + false_positives)) / 2 + b) / 2

    assert diagnosis.instances_per_class == 2
    assert diagnosis.average_map_n == pytest.approx(map_n(6))
    one, two = map_n(5) - map_n(6), map_n(4) - map_n(6)
    expected = dict.fromkeys(KINDS[1:], one) | {"background": two}
    assert diagnosis.removal_gains == pytest.approx(expected)
    # The right label makes a hit of B, one of its two instances; the localization error's instance has a hit already.
    found = map_n(5, b=1 / 2) - map_n(6)
    assert diagnosis.fix_gains == pytest.approx(expected | {"wrong label": found, "confusion": found, "missed": 0})


def test_missed_instances_are_not_asked_for():
    truth = Segments.from_rows([(0, A, 0, 10, 1), (1, A, 0, 10, 1), (1, B, 50, 60, 1)])
    diagnosis = diagnosed(truth, Segments.from_rows([(0, A, 0, 10, 0.5)]))
    assert diagnosis.is_missed.tolist() == [False, True, True]
    assert diagnosis.average_map_n == 1 / 4
    assert diagnosis.fix_gains["missed"] == 3 / 4  # all that is left of A is found, nothing is left of B


def test_equal_overlaps_go_to_the_detections_own_label():
    """As with THUMOS'14's CliffDiving, each of which is a Diving with the same times."""
    truth = Segments.from_rows([(0, A, 0, 10, 1), (0, B, 0, 10, 1)])
    rows = [(0, B, 0, 10, 0.9), (0, B, 0, 9, 0.8), (0, B, 0, 4, 0.7), (0, A, 0, 4, 0.6)]
    found = Segments.from_rows(rows)
    own = diagnosed(truth, found)
    assert own.kind.tolist() == [TRUE_POSITIVE, DOUBLE_DETECTION, LOCALIZATION, LOCALIZATION]
    assert own.instance.tolist() == [1, 1, 1, 0]
    original = diagnosed(truth, found, ties="original")
    assert original.kind.tolist() == [TRUE_POSITIVE, WRONG_LABEL, CONFUSION, LOCALIZATION]
    assert original.instance.tolist() == [1, 0, 0, 0]


def test_the_ends_of_kinds():
    truth = Segments.from_rows([(0, A, 0, 10, 1), (0, A, 20, 30, 1)])
    found = Segments.from_rows([(0, A, 0, 5, 0.9), (0, A, 0, 5, 0.8), (0, A, 0, 1, 0.7), (0, A, 20, 20.9, 0.6)])
    kinds = [TRUE_POSITIVE, DOUBLE_DETECTION, LOCALIZATION, BACKGROUND]  # tIoU 0.5, 0.5, 0.1, 0.09
    assert diagnosed(truth, found).kind.tolist() == kinds


def test_the_best_ten_times_as_many_as_instances_enter():
    truth = Segments.from_rows([(0, A, 0, 10, 1)])
    rows = [(0, A, 50, 60, score) for score in np.linspace(0.9, 0.1, 11)]
    diagnosis = diagnosed(truth, Segments.from_rows([*rows, (0, B, 0, 10, 1.0)]))  # B has no instances
    assert diagnosis.entering.tolist() == [True] * 10 + [False] * 2
    assert sum(diagnosis.counts.values()) == 10


def test_instances_that_take_no_part():
    """Of no length; or longer than the video."""
    truth = Segments.from_rows([(0, A, 5, 5, 1), (0, A, 0, 101, 1), (0, A, 0, 10, 1)])
    diagnosis = diagnosed(truth, Segments.from_rows([(0, A, 0, 101, 1)]))
    assert diagnosis.instances_per_class == 1
    assert diagnosis.kind.tolist() == [BACKGROUND] and diagnosis.is_missed.tolist() == [False, False, True]
    with pytest.raises(InputError, match="no ground-truth"):
        diagnosed(truth.take(np.arange(2)), FOUND)


def test_no_detections():
    diagnosis = diagnosed(INSTANCES, Segments.from_rows([]))
    assert diagnosis.average_map_n == 0 and set(diagnosis.removal_gains.values()) == {0.0}
    assert diagnosis.fix_gains["missed"] == 1
    assert sentence(diagnosis) == (
        "missed instances are worth +100.0 mAP_N: without the 4 instances that nothing finds or is about it is 100.0"
    )


def test_buckets_take_their_upper_edge():
    truth = Segments.from_rows([(0, A, 0, 3, 1), (0, A, 10, 13.5, 1), (1, A, 0, 19, 1)])
    sizes = diagnosed(truth, FOUND, seconds=150.0).bucket_sizes
    assert sizes["length"] == {"XS": 1, "S": 1, "M": 0, "L": 0, "XL": 1}
    assert sizes["coverage"] == {"XS": 1, "S": 1, "M": 0, "L": 0, "XL": 1}
    assert sizes["instances"] == {"XS": 1, "S": 2, "M": 0, "L": 0}
    sizes = diagnosed(truth, FOUND, durations=np.array([np.nan, 19.0]), buckets=ACTIVITYNET).bucket_sizes
    assert sizes["length"]["XS"] == 3
    assert sizes["coverage"] == {"XS": 0, "S": 0, "M": 0, "L": 0, "XL": 1}  # one video's duration is not known


def test_means_over_thresholds():
    truth, found = Segments.from_rows([(0, A, 0, 10, 1)]), Segments.from_rows([(0, A, 0, 6, 1)])
    both = [diagnosed(truth, found, tiou=tiou) for tiou in (0.5, 0.7)]
    mean = mean_summary(both)
    assert mean.average_map_n == 0.5 and mean.counts["localization"] == 0.5
    assert mean.false_negatives["length"]["M"] == 0.5 and math.isnan(mean.false_negatives["length"]["S"])
    assert json.loads(json.dumps(mean.as_plain(), allow_nan=False))["false_negatives"]["length"]["S"] is None


def summary(removal, fix, *, missed=0.0):
    """Of gains [%] by kind, the fix of all others being the removal; 3 true positives and 2 of each other kind."""
    gains = dict.fromkeys(KINDS[1:], 0.0) | {kind: gain / 100 for kind, gain in removal.items()}
    fixes = {**gains, "missed": 0.0} | {kind: gain / 100 for kind, gain in fix.items()}
    counts = dict.fromkeys(KINDS, 2.0) | {KINDS[TRUE_POSITIVE]: 3.0}
    whole = mean_summary([diagnosed(INSTANCES, FOUND)])
    return replace(whole, average_map_n=0.3, counts=counts, missed=missed, removal_gains=gains, fix_gains=fixes)


@pytest.mark.parametrize(
    ("removal", "fix", "missed", "expected"),
    [
        (
            *({"background": 4, "double detection": 1}, {}, 0),
            "background is worth +4.0 mAP_N: without these 2 of 10 false positives it is 34.0; next is double detection, +1.0",
        ),
        (
            *({"localization": 10, "background": 4}, {"localization": 28, "missed": 5}, 7),
            "localization is worth +10.0 mAP_N: without these 2 of 10 false positives it is 40.0; with their instance's "
            "boundaries: +28.0; next is missed instances, +5.0",
        ),
        (
            *({"background": 4}, {"wrong label": 9}, 0),
            "wrong label is worth +9.0 mAP_N if fixed: with their instance's label for these 2 of 10 false positives it is "
            "39.0; next is background, +4.0",
        ),
        (
            *({"confusion": 3, "background": 4}, {"confusion": 9}, 0),
            "confusion is worth +9.0 mAP_N if fixed: with their instance's label and boundaries for these 2 of 10 false "
            "positives it is 39.0; next is background, +4.0",
        ),
        (
            *({"background": 3}, {"missed": 60}, 11),
            "missed instances are worth +60.0 mAP_N: without the 11 instances that nothing finds or is about it is 90.0; next "
            "is background, +3.0",
        ),
        ({}, {}, 2, "no kind of error costs mAP_N; 2 instances missed altogether"),
    ],
)
def test_sentence_is_about_the_largest_gain_of_the_table(removal, fix, missed, expected):
    assert sentence(summary(removal, fix, missed=missed)) == expected


@pytest.mark.parametrize("seed", range(4))
def test_no_gain_of_the_table_is_larger_than_the_one_in_the_sentence(seed):
    truth, found = random_case(seed)
    diagnosis = diagnosed(truth, found, classes=3, videos=4)
    first = max(
        diagnosis.fix_gains, key=lambda kind: max(diagnosis.fix_gains[kind], diagnosis.removal_gains.get(kind, 0))
    )
    assert sentence(diagnosis).startswith(first) and f"{100 * diagnosis.fix_gains[first]:+.1f}" in sentence(diagnosis)


def test_the_buckets_follow_the_grid():
    assert (
        usual_buckets((0.5,)) == THUMOS14 == usual_buckets((0.1, 0.3, 0.5, 0.7))
        and usual_buckets((0.5, 0.95)) == ACTIVITYNET
    )


def test_a_hit_must_exceed_the_least_precision():
    """One instance, found behind 19 or 18 false positives: P_N is 1 / 20, which is the least, or more."""
    truth = Segments.from_rows([(0, A, 0, 10, 1)])
    for false, share in ((19, 1.0), (18, 0.0)):
        rows = [(0, A, 50, 60, 0.9)] * false + [(0, A, 0, 10, 0.1)]
        diagnosis = diagnosed(truth, Segments.from_rows(rows), classes=1, videos=1)
        assert diagnosis.false_negatives["length"]["M"] == share


# The plain oracle: one detection at a time.


def tiou_of(a, b):
    meet = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return meet / ((a[1] - a[0]) + (b[1] - b[0]) - meet)


def rows_of(segments):
    columns = (segments.video, segments.label, segments.start, segments.end, segments.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def plain_kind(detection, truth, hit, tiou, own):
    if hit:
        return TRUE_POSITIVE
    video, label, start, end, _ = detection
    best, about = 0.0, None
    for instance in truth:
        if instance[0] == video:
            overlap = tiou_of((start, end), instance[2:4])
            better = overlap == best and own and instance[1] == label and about is not None and about[1] != label
            if overlap > best or better:
                best, about = overlap, instance
    if best < 0.1:
        return BACKGROUND
    if best >= tiou:
        return DOUBLE_DETECTION if about[1] == label else WRONG_LABEL
    return LOCALIZATION if about[1] == label else CONFUSION


def plain_ap_n(hits, count, per_class):
    """Hits of one class in descending score."""
    points = plain_precisions(hits, count, per_class)
    return sum(max(points[rank:]) for rank, hit in enumerate(hits) if hit) / count


def plain_precisions(hits, count, per_class):
    points, found = [], 0
    for rank, hit in enumerate(hits, 1):
        found += hit
        weighted = found / count * per_class
        points.append(weighted / (weighted + rank - found))
    return points


def plain_map_n(detections, counts, per_class):
    """Detections: (label, hit), in descending score."""
    labels = [label for label, count in counts.items() if count]
    return np.mean([plain_ap_n([h for c, h in detections if c == label], counts[label], per_class) for label in labels])


def random_case(seed):
    generator = np.random.default_rng(seed)

    def segments(count, videos):
        start, length = generator.integers(0, 30, count) * 1.0, generator.integers(1, 8, count) * 1.0
        columns = generator.integers(0, videos, count), generator.integers(0, 3, count)
        return Segments(*columns, start, start + length, generator.permutation(count) / count)

    return segments(30, 4), segments(400, 5)


@pytest.mark.parametrize("ties", ["own", "original"])
@pytest.mark.parametrize("seed", range(4))
def test_diagnosis_is_that_of_plain_loops(seed, ties):
    truth, found = random_case(seed)
    tiou, durations = 0.5, np.array([40.0, 60.0, 90.0, 500.0])
    diagnosis = diagnose(truth, found, tiou=tiou, num_classes=3, durations=durations, ties=ties)
    instances, detections = rows_of(truth), rows_of(found)
    matched = match_detections(truth, found, tious=(tiou,))[0].tolist()
    kinds = [
        plain_kind(d, instances, m != NO_INSTANCE, tiou, ties == "own")
        for d, m in zip(detections, matched, strict=True)
    ]
    assert diagnosis.kind.tolist() == kinds

    per_class = len(instances) / 3
    counts = {label: sum(instance[1] == label for instance in instances) for label in range(3)}
    turn = sorted(range(len(detections)), key=lambda i: -detections[i][4])
    top, rank = [], dict.fromkeys(counts, 0)
    profile = [[0] * len(KINDS) for _ in range(10)]
    for i in turn:
        label = detections[i][1]
        if rank[label] < 10 * counts[label]:
            top.append(i)
            profile[rank[label] // counts[label]][kinds[i]] += 1
        rank[label] += 1
    assert sorted(top) == np.flatnonzero(diagnosis.entering).tolist()
    assert [list(row.values()) for row in diagnosis.profile.values()] == profile

    def map_n(chosen, counts=counts):
        return plain_map_n([(detections[i][1], kinds[i] == TRUE_POSITIVE) for i in chosen], counts, per_class)

    start = map_n(top)
    assert diagnosis.average_map_n == pytest.approx(start, abs=1e-12)
    assert diagnosis.average_map_n_all == pytest.approx(map_n(turn), abs=1e-12)
    for kind in range(1, len(KINDS)):
        gain = map_n([i for i in top if kinds[i] != kind]) - start
        assert diagnosis.removal_gains[KINDS[kind]] == pytest.approx(gain, abs=1e-12)

    for kind in (WRONG_LABEL, LOCALIZATION, CONFUSION):  # what is left of each, in descending score
        taken = {matched[i] for i in top if kinds[i] == TRUE_POSITIVE}
        mended = []
        for i in top:
            if kinds[i] != kind:
                mended.append((detections[i][1], kinds[i] == TRUE_POSITIVE))
            elif diagnosis.instance[i] not in taken:
                taken.add(diagnosis.instance[i])
                mended.append((instances[diagnosis.instance[i]][1], True))
        gain = plain_map_n(mended, counts, per_class) - start
        assert diagnosis.fix_gains[KINDS[kind]] == pytest.approx(gain, abs=1e-12)

    assert all(diagnosis.fix_gains[kind] > gain - 1e-12 for kind, gain in diagnosis.removal_gains.items())
    missed = [g for g in range(len(instances)) if g not in diagnosis.instance.tolist()]
    assert np.flatnonzero(diagnosis.is_missed).tolist() == missed

    lengths = [end - start for _, _, start, end, _ in instances]
    in_video = [sum(other[0] == instance[0] for other in instances) for instance in instances]
    coverage = [length / durations[instance[0]] for length, instance in zip(lengths, instances, strict=True)]
    surviving = set()  # the instances of hits above the least precision
    for label, count in counts.items():
        mine = [i for i in turn if detections[i][1] == label]
        points = plain_precisions([kinds[i] == TRUE_POSITIVE for i in mine], count, per_class)
        surviving |= {matched[i] for i, p in zip(mine, points, strict=True) if kinds[i] == TRUE_POSITIVE and p > 0.05}
    for trait, values in (("length", lengths), ("instances", in_video), ("coverage", coverage)):
        edges = [0, *getattr(THUMOS14, trait), math.inf]
        for size, low, high in zip(diagnosis.bucket_sizes[trait], edges[:-1], edges[1:], strict=True):
            inside = {g for g, value in enumerate(values) if low < value <= high}
            assert diagnosis.bucket_sizes[trait][size] == len(inside)
            if not inside:
                assert math.isnan(diagnosis.sensitivity[trait][size])
                continue
            bucket_counts = {label: sum(instances[g][1] == label for g in inside) for label in counts}
            kept = [i for i in turn if matched[i] == NO_INSTANCE or matched[i] in inside]
            expected = map_n(kept, bucket_counts)
            assert diagnosis.sensitivity[trait][size] == pytest.approx(expected, abs=1e-12)
            share = len(inside - surviving) / len(inside)
            assert diagnosis.false_negatives[trait][size] == pytest.approx(share, abs=1e-12)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not (DETECTIONS.exists() and EXPECTED.exists()):
        pytest.skip("the real detections are not part of the project")
    listed = tmp_path_factory.mktemp("split") / "all.txt"
    listed.write_text("\n".join(json.loads(TRUTH.read_text())["database"]))
    pair = read_pair(TRUTH, DETECTIONS, PairOptions(split=str(listed)))
    durations = np.array([pair.annotations[video].duration for video in pair.videos])
    return {
        "truth": pair.truth,
        "detections": pair.detections,
        "num_classes": len(pair.classes),
        "durations": durations,
    }


def test_real_detections_as_in_the_authors_program(real):
    expected = json.loads(EXPECTED.read_text())
    diagnosis = diagnose(**real, tiou=0.5, ties="original")
    top = expected["top10G"]
    assert diagnosis.instances_per_class == pytest.approx(expected["instances per class (N)"])
    assert sum(diagnosis.counts.values()) == top["detections kept"] == diagnosis.entering.sum()
    assert diagnosis.counts == top["counts"]
    assert diagnosis.average_map_n == pytest.approx(top["average_mAP_N"], abs=1e-12)
    assert diagnosis.average_map_n_all == pytest.approx(expected["all detections"]["average_mAP_N"], abs=1e-12)
    assert diagnosis.removal_gains == pytest.approx(top["gain when removed"], abs=1e-12)
    in_percent = {t: {b: round(100 * m, 2) for b, m in by.items()} for t, by in diagnosis.sensitivity.items()}
    assert in_percent == expected["sensitivity, mAP_N in percent"]
    shares = {t: {b: round(share, 4) for b, share in by.items()} for t, by in diagnosis.false_negatives.items()}
    assert shares == expected["false negatives, share of instances"]
    assert diagnosis.bucket_sizes == expected["instances per bucket"]
    assert sentence(diagnosis).startswith("localization is worth +10.0 mAP_N: without these 7,773 of 25,547")


def test_real_ties_between_labels(real):
    """699 wrong labels and 508 confusions of the authors' program are ties with an instance of the detection's own label."""
    start = time.process_time()
    own = diagnose(**real, tiou=0.5)
    assert time.process_time() - start < 2
    original = diagnose(**real, tiou=0.5, ties="original")
    lost = {kind: original.counts[kind] - own.counts[kind] for kind in KINDS}
    assert (lost["wrong label"], lost["confusion"]) == (699, 508)
    assert lost == {
        **{"true positive": 0, "double detection": -699, "wrong label": 699, "localization": -508, "confusion": 508},
        "background": 0,
    }
