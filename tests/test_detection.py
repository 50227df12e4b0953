"""AP and mAP against a plain loop and answers worked by hand, and the evaluator as a command."""

import json

import numpy as np
import pytest

from eval.average_precision import average_precision
from eval.classification import video_accuracy
from eval.detection import evaluate_detections, main
from eval.protocols import PROTOCOLS
from formats.result_file import read_detections, write_detections
from reference import loops
from utils.errors import InputError
from utils.segments import Segments

TIOUS = (0.1, 0.3, 0.5, 0.7)


def random_segments(generator, count, videos, labels, *, grid=None):
    start = generator.uniform(0, 40, count)
    length = generator.uniform(0.5, 12, count)
    if grid:  # coarse times: many exact ties
        start, length = np.round(start / grid) * grid, np.maximum(grid, np.round(length / grid) * grid)
    score = generator.random(count).round(1)
    return Segments(
        generator.integers(0, videos, count), generator.integers(0, labels, count), start, start + length, score
    )


@pytest.mark.parametrize("seed", range(8))
def test_map_is_that_of_one_detection_at_a_time(seed):
    generator = np.random.default_rng(seed)
    truth, found = (
        random_segments(generator, 60, 4, 3),
        random_segments(generator, 300, 5, 4),
    )  # one video, one class more
    result = evaluate_detections(truth, found, num_classes=4, tious=TIOUS)
    for label in range(4):
        mine = [
            (v, s, e) for v, c, s, e in zip(truth.video, truth.label, truth.start, truth.end, strict=True) if c == label
        ]
        detections = [
            (v, s, e, p)
            for v, c, s, e, p in zip(found.video, found.label, found.start, found.end, found.score, strict=True)
            if c == label
        ]
        for level, tiou in enumerate(TIOUS):
            actual = result.per_class_ap[level, label]
            if not mine:
                assert np.isnan(actual)
            else:
                assert actual == pytest.approx(loops.average_precision(mine, detections, tiou), abs=1e-12)
    assert result.map == pytest.approx(np.nanmean(result.per_class_ap, 1))


def one_class(*rows):
    """rows of (video, start, end, score)"""
    return Segments.from_rows([(v, 0, s, e, p) for v, s, e, p in rows])


def ap(truth, found, tiou):
    return evaluate_detections(truth, found, num_classes=1, tious=(tiou,)).per_class_ap[0, 0]


def test_by_hand():
    truth = one_class((0, 0, 10, 1), (0, 20, 30, 1))
    assert ap(truth, one_class((0, 0, 10, 0.9), (0, 20, 30, 0.8)), 0.5) == 1
    # a false positive first: precision is 1/2, then 2/3, interpolated 2/3 at both
    assert ap(truth, one_class((0, 50, 60, 1.0), (0, 0, 10, 0.9), (0, 20, 30, 0.8)), 0.5) == pytest.approx(2 / 3)
    # the same instance found twice: the second is a false positive
    assert ap(truth, one_class((0, 0, 10, 0.9), (0, 0, 9, 0.8)), 0.5) == pytest.approx(1 / 2)
    # in a video without ground truth: a false positive
    assert ap(truth, one_class((7, 0, 10, 1.0), (0, 0, 10, 0.9), (0, 20, 30, 0.8)), 0.5) == pytest.approx(2 / 3)
    # tIoU of exactly the threshold counts
    assert ap(truth, one_class((0, 0, 5, 0.9)), 0.5) == 0.5


def test_the_next_largest_is_taken_when_the_best_is_gone():
    truth = one_class((0, 0, 10, 1), (0, 4, 14, 1))
    found = one_class((0, 0, 10, 0.9), (0, 1, 11, 0.8))  # the second likes the first instance best, and takes the other
    assert ap(truth, found, 0.5) == 1
    assert ap(truth, found, 0.6) == 0.5


def test_equal_scores_keep_the_files_order():
    truth = one_class((0, 0, 10, 1))
    assert ap(truth, one_class((0, 0, 10, 0.5), (0, 50, 60, 0.5)), 0.5) == 1
    assert ap(truth, one_class((0, 50, 60, 0.5), (0, 0, 10, 0.5)), 0.5) == 0.5


def test_equal_overlaps_take_one_instance_each():
    truth = one_class((0, 0, 2, 1), (0, 4, 6, 1), (0, 8, 10, 1))
    wide = (0, 0, 10, 0.9)
    assert ap(truth, one_class(wide, wide, wide), 0.2) == 1
    assert ap(truth, one_class(wide, wide, wide, wide), 0.2) == 1
    assert ap(truth, one_class(wide), 0.2) == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_with_many_ties_ap_stays_a_fraction_that_falls_with_tiou(seed):
    generator = np.random.default_rng(seed)
    truth, found = random_segments(generator, 50, 3, 2, grid=4.0), random_segments(generator, 200, 3, 2, grid=4.0)
    result = evaluate_detections(truth, found, num_classes=2, tious=TIOUS)
    assert np.all((result.per_class_ap >= 0) & (result.per_class_ap <= 1))
    assert np.all(np.diff(result.map) <= 1e-12)


def test_no_detections():
    assert ap(one_class((0, 0, 1, 1)), Segments.from_rows([]), 0.5) == 0


def test_no_ground_truth():
    with pytest.raises(InputError, match="no ground-truth"):
        evaluate_detections(Segments.from_rows([]), one_class((0, 0, 1, 1)), num_classes=1, tious=(0.5,))


def test_average_precision_of_an_empty_list():
    assert average_precision(np.zeros((2, 0), bool), 3).tolist() == [0, 0]


def test_average_map_over_a_span():
    result = evaluate_detections(
        one_class((0, 0, 10, 1)), one_class((0, 0, 5, 1)), num_classes=1, tious=(0.3, 0.5, 0.7)
    )
    assert result.average_map(0.3, 0.5) == 1
    assert result.average_map() == pytest.approx(2 / 3)


def test_video_accuracy():
    predicted = np.array([[1, 0], [1, 1], [1, 0], [1, 0]], bool)
    labels = np.array([[1, 0], [1, 0], [0, 0], [0, 1]], bool)
    assert video_accuracy(predicted, labels) == 0.25


def write_truth(path, **changes):
    entry = {"subset": "test", "annotations": [{"label": "Jump", "segment": ["1.0", 3.0]}], **changes}
    train = {"subset": "train", "annotations": [{"label": "Dive", "segment": [0, 1]}]}
    path.write_text(json.dumps({"database": {"a": entry, "b": train}}))


def write_found(path, *entries):
    path.write_text(json.dumps({"version": "x", "results": {"a": list(entries)}, "external_data": {}}))


GOOD = {"label": "Jump", "score": 0.5, "segment": [1, 3]}


def evaluate(tmp_path, capsys, *flags):
    files = ["--ground_truth", str(tmp_path / "gt.json"), "--detections", str(tmp_path / "found.json")]
    code = main([*files, *flags])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_command(tmp_path, capsys):
    write_truth(tmp_path / "gt.json")
    write_found(tmp_path / "found.json", GOOD)
    code, out, _ = evaluate(tmp_path, capsys, "--tious", "0.3:0.7:0.2")
    assert code == 0
    assert out.splitlines()[:4] == [
        "compared by sal, subset test: 1 video, 1 instance, 1 class, 1 detection",
        "",
        "tIoU          0.3    0.5    0.7  avg 0.3:0.7",
        "sal, mAP %  100.0  100.0  100.0        100.0",
    ]
    code, out, _ = evaluate(tmp_path, capsys, "--json", "--tious", "0.5")
    row = {
        "protocol": "sal",
        "does": PROTOCOLS["sal"].does,
        "compared": {"videos": 1, "instances": 1, "classes": 1, "detections": 1},
        "mAP": {"0.5": 1.0},
        "average_mAP": 1.0,
        "average_mAP_by_span": {"0.5:0.5": 1.0},
        "per_class_AP": {"Jump": {"0.5": 1.0}},
    }
    assert json.loads(out) == {"subset": "test", "listed_in": None, "notes": [], **row, "protocols": [row]}


@pytest.mark.parametrize(
    ("flags", "truth", "found", "says"),
    [
        (["--subset", "val"], {}, [GOOD], "--subset val"),
        (["--tious", "nonsense"], {}, [GOOD], "nonsense"),
        (["--tious", "0.7:0.1:0.1"], {}, [GOOD], "0.7:0.1:0.1"),
        ([], {"annotations": []}, [GOOD], "no annotated instances"),
        ([], {"annotations": [{"label": "Jump", "segment": [3]}]}, [GOOD], "video 'a', annotation 0"),
        (["--strict"], {}, [{**GOOD, "label": "Swim"}], "'Swim'"),
        ([], {}, [{**GOOD, "score": float("nan")}], "detection 0"),
        ([], {}, [GOOD, {**GOOD, "segment": [5, "x"]}], "detection 1"),
        ([], {}, [GOOD, {"label": "Jump"}], "detection 1"),
    ],
)
def test_command_names_the_mistake(tmp_path, capsys, flags, truth, found, says):
    write_truth(tmp_path / "gt.json", **truth)
    write_found(tmp_path / "found.json", *found)
    code, out, err = evaluate(tmp_path, capsys, *flags)
    assert (code, out) == (2, "")
    assert says in err and err.count("\n") == 1


def test_command_with_a_missing_file(tmp_path, capsys):
    write_truth(tmp_path / "gt.json")
    code, _, err = evaluate(tmp_path, capsys)
    assert code == 2 and "found.json" in err


def test_result_file_round_trip(tmp_path):
    segments = Segments.from_rows([(0, 1, 0.1, 1 / 3, -0.25), (2, 0, 5.0, 6.0, 1e-9), (0, 1, 3.0, 4.0, 0.5)])
    write_detections(tmp_path / "d.json", segments, ("a", "b", "c"), ("x", "y"))
    content = json.loads((tmp_path / "d.json").read_text())
    assert list(content) == ["version", "results", "external_data"] and content["results"]["b"] == []
    back = read_detections(tmp_path / "d.json")
    assert (back.videos, back.labels) == (("a", "b", "c"), ("y", "x"))
    columns = (getattr(back.detections, f).tolist() for f in ("video", "label", "start", "end", "score"))
    assert list(zip(*columns, strict=True)) == [
        (0, 0, 0.1, 1 / 3, -0.25),
        (0, 0, 3.0, 4.0, 0.5),
        (2, 1, 5.0, 6.0, 1e-9),
    ]
