"""A ground truth or a result file changed anywhere: read, or refused in one line; and the mAP is that of the plain loop."""

import json

import numpy as np
import pytest
from hypothesis import strategies as st
from support.fuzz import fresh_folder, fuzz, promised, strict_json
from support.strategies import ODD_GRIDS, changed, damaged, json_bytes, odd_texts
from support.tiny import CLASSES, FEATURE_SIZE, write_tiny_set

import main
from eval.detection import evaluate_detections
from eval.detection import main as evaluate
from reference import loops
from utils.segments import Segments

ANNOTATIONS = [
    {"label": "Dive", "segment": [1.5, 4.0]},
    {"label": "Jump", "segment": ["6", "9.25"], "label_id": 1},
]
GROUND_TRUTH = {
    "version": "1",
    "database": {
        "train_0": {"subset": "train", "annotations": ANNOTATIONS, "duration": 30.0, "fps": 25.0},
        "train_1": {"subset": "train", "annotations": [], "labels": ["Dive", "Throw"]},
        "test_0": {"subset": "test", "annotations": ANNOTATIONS, "duration": 31},
        "test_1": {"subset": "test", "annotations": ANNOTATIONS[:1], "fps": None},
    },
}
DETECTIONS = {
    "version": "SAL 1",
    "results": {
        "test_0": [
            {"label": "Dive", "score": 0.9, "segment": [1.0, 4.0]},
            {"label": "Jump", "score": 0.5, "segment": [6.0, 9.0]},
        ],
        "test_1": [{"label": "Dive", "score": 0.25, "segment": [0, 5]}],
    },
    "external_data": {},
}
encodings = st.sampled_from(("utf-8", "ascii"))


def files_of(document):
    """The document changed as JSON, or damaged as a file."""
    return changed(document).map(json_bytes) | changed(document).map(json_bytes) | damaged(json_bytes(document))


def write(folder, ground_truth=None, detections=None):
    """gt.json and found.json in a folder, from bytes; valid ones where none are given."""
    (folder / "gt.json").write_bytes(json_bytes(GROUND_TRUTH) if ground_truth is None else ground_truth)
    (folder / "found.json").write_bytes(json_bytes(DETECTIONS) if detections is None else detections)
    return ["--ground_truth", str(folder / "gt.json"), "--detections", str(folder / "found.json"), "--subset", "test"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A set of features for the videos above."""
    path = tmp_path_factory.mktemp("ground_truth")
    whole = write_tiny_set(path / "whole")
    keep = {file for split in ("train", "test") for file in whole.path.glob(f"features/{split}/*/{split}_[01].npy")}
    for file in set(whole.path.glob("features/*/*/*.npy")) - keep:
        file.unlink()
    for split in ("train", "test"):
        (whole.path / f"split_{split}.txt").unlink()
    return whole


@fuzz(200, ground_truth=files_of(GROUND_TRUTH), encoding=encodings, skip=st.booleans())
def test_checking_a_set_with_any_ground_truth(tiny, ground_truth, encoding, skip):
    with fresh_folder() as folder:
        write(folder, ground_truth)
        flags = ["--check_data", "--data_path", str(tiny.path), "--ground_truth", str(folder / "gt.json")]
        skipping = ["--skip_unusable"] if skip else []
        size = ["--feature_size", str(FEATURE_SIZE), "--num_segments", "24", "--pseudo_extra", "2"]
        promised(main.main, [*flags, *size, *skipping], folder, encoding=encoding)


@fuzz(40, ground_truth=files_of(GROUND_TRUTH))
def test_training_with_any_ground_truth(tiny, ground_truth):
    with fresh_folder() as folder:
        write(folder, ground_truth)
        flags = ["--data_path", str(tiny.path), "--ground_truth", str(folder / "gt.json"), "--hidden_size", "4"]
        size = ["--feature_size", str(FEATURE_SIZE), "--num_segments", "24", "--pseudo_extra", "2"]
        short = ["--num_iters", "1", "--device", "cpu", "--output_dir", str(folder / "out"), "--exp_name", "x"]
        promised(main.main, [*flags, *size, *short, "--no-write_report"], folder)


@fuzz(200, ground_truth=files_of(GROUND_TRUTH), encoding=encodings, as_json=st.booleans())
def test_evaluating_against_any_ground_truth(ground_truth, encoding, as_json):
    with fresh_folder() as folder:
        evaluated(folder, write(folder, ground_truth), encoding=encoding, as_json=as_json)


@fuzz(300, detections=files_of(DETECTIONS), encoding=encodings, as_json=st.booleans())
def test_evaluating_any_result_file(detections, encoding, as_json):
    with fresh_folder() as folder:
        evaluated(folder, write(folder, detections=detections), encoding=encoding, as_json=as_json)


@fuzz(50, tious=st.sampled_from(ODD_GRIDS), as_json=st.booleans())
def test_evaluating_at_any_thresholds(tious, as_json):
    with fresh_folder() as folder:
        evaluated(folder, [*write(folder), f"--tious={tious}"], encoding="utf-8", as_json=as_json)


def evaluated(folder, arguments, *, encoding, as_json):
    """Evaluate by every protocol and measure; what is printed as JSON is JSON, and every number in it a share."""
    everything = ["--protocol", "all", "--recall", "3", "--operating_point", "0.5", "--calibration", "0.5"]
    flags = [*everything, *(["--json"] if as_json else [])]
    outcome = promised(evaluate, [*arguments, *flags], folder, encoding=encoding)
    assert not (outcome.code and outcome.out), "a table, and yet an error"
    if as_json and outcome.code == 0:
        content = strict_json(outcome.out)
        shares = [content["recall"]["area"], content["operating_point"].get("f1", 0)]
        assert all(0 <= value <= 1 for row in content["protocols"] for value in (*row["mAP"].values(), *shares))


@fuzz(100, ambiguous=odd_texts | odd_texts.map(lambda text: f"test_0 1 2\n{text} 3 4\n"), encoding=encodings)
def test_evaluating_with_any_list_of_ambiguous_intervals(ambiguous, encoding):
    with fresh_folder() as folder:
        (folder / "list.txt").write_text(ambiguous, encoding="utf-8", errors="surrogatepass")
        flags = ["--ambiguous", str(folder / "list.txt")]
        evaluated(folder, [*write(folder), *flags], encoding=encoding, as_json=False)


# Valid input of every kind: the numbers of the plain loop


@st.composite
def segments(draw, most, videos=3, labels=3, scores=(0.1, 0.5, 0.5, 0.9)):
    """Rows (video, class, start, end, score) with different overlaps, in which no two lengths are equal."""
    count = draw(st.integers(0, most))
    times = st.floats(0, 60, allow_nan=False).map(lambda x: x + 0.013)
    rows = []
    for i in range(count):
        start, length = draw(times), draw(st.floats(0.5, 20)) + i * 0.0173
        video, label = draw(st.integers(0, videos - 1)), draw(st.integers(0, labels - 1))
        rows.append((video, label, start, start + length, draw(st.sampled_from(scores) | st.floats(-1, 1))))
    return rows


@fuzz(100, truth=segments(6), found=segments(16))
def test_map_of_any_segments_is_that_of_the_loop(truth, found):
    if not truth or tied(truth, found):
        return
    tious = (0.1, 0.35, 0.5, 0.75)
    result = evaluate_detections(Segments.from_rows(truth), Segments.from_rows(found), num_classes=3, tious=tious)
    for label in range(3):
        mine = [(video, start, end) for video, c, start, end, _ in truth if c == label]
        detections = [(video, start, end, score) for video, c, start, end, score in found if c == label]
        for level, tiou in enumerate(tious):
            actual = result.per_class_ap[level, label]
            if mine:
                assert actual == pytest.approx(loops.average_precision(mine, detections, tiou), abs=1e-12)
            else:
                assert np.isnan(actual)


def tied(truth, found):
    """Whether a detection overlaps two instances equally: then the order is numpy's, as in the field's evaluators."""
    for video, label, start, end, _ in found:
        overlaps = [loops.iou((start, end), (s, e)) for v, c, s, e, _ in truth if (v, c) == (video, label)]
        overlaps = [overlap for overlap in overlaps if overlap > 0]
        if len(set(overlaps)) < len(overlaps):
            return True
    return False


@fuzz(100, truth=segments(6), found=segments(12))
def test_map_of_any_files_is_that_of_the_loop(truth, found):
    """The same through the files and the command, with the usual thresholds."""
    if not truth or tied(truth, found):
        return
    names = ("a", "b", "c")
    database = {name: {"subset": "test", "annotations": []} for name in names}
    results = {name: [] for name in names}
    for video, label, start, end, _ in truth:
        database[names[video]]["annotations"].append({"label": CLASSES[label], "segment": [start, end]})
    known = {CLASSES[label] for _, label, *_ in truth}
    found = [row for row in found if CLASSES[row[1]] in known and any(v == row[0] for v, *_ in truth)]
    for video, label, start, end, score in found:
        results[names[video]].append({"label": CLASSES[label], "segment": [start, end], "score": score})
    with fresh_folder() as folder:
        files = json_bytes({"database": database}), json_bytes({"results": results})
        outcome = promised(evaluate, [*write(folder, *files), "--json"], folder)
        actual = json.loads(outcome.out)["mAP"]
    for tiou in (0.1, 0.5, 0.7):
        values = []
        for label in sorted({label for _, label, *_ in truth}):
            mine = [(video, start, end) for video, c, start, end, _ in truth if c == label]
            detections = [(v, s, e, p) for v in range(3) for v2, c, s, e, p in found if v2 == v and c == label]
            values.append(loops.average_precision(mine, detections, tiou))
        assert actual[f"{tiou:g}"] == pytest.approx(np.mean(values), abs=1e-12)
