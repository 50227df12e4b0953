"""The block of bytes in a page, decoded by its own description rather than by the page's program."""

import base64
import dataclasses

import numpy as np
import pytest
from support.small_timelines import small_run

from eval.diagnosis import KINDS
from report.block import ALIGNMENT, SCORED_CLASSES, TABLE, TRUE_LABEL, UNKNOWN, Limits, encode_run, most_per_video, pool
from report.judged import judge
from utils.segments import Segments


def encoded(run, **limits):
    return encode_run(judge(run), name="x", limits=Limits(**limits))


def table_of(found):
    count = len(found.header["videos"])
    data = base64.b64decode(found.block)
    return dict(zip(TABLE, np.frombuffer(data, "<f4", len(TABLE) * count).reshape(-1, count), strict=True))


def decode(found, video):
    """The arrays of a video's record, in the order of the description."""
    row = {name: values[video] for name, values in table_of(found).items()}
    n, g, s, c, p, offset, size = (
        int(row[name]) for name in ("detections", "instances", "scored", "shown", "sequences", "offset", "size")
    )
    letters = found.block[offset * ALIGNMENT // 3 * 4 :][: size * ALIGNMENT // 3 * 4]
    data, place, arrays = base64.b64decode(letters), 0, {}
    points = -(-int(row["snippets"]) // found.header["pooled"])
    rows = p + len(found.header["streams"]) + sum(p if part == "combined" else 1 for part in found.header["parts"])
    layout = [(name, "<f4", n) for name in ("start", "end", "score")]
    layout += [("true_start", "<f4", g), ("true_end", "<f4", g), ("class_scores", "<f4", s)]
    layout += [
        ("label", "<u2", n),
        ("true_label", "<u2", g),
        ("scored", "<u2", s),
        ("shown", "<u2", c),
        ("of", "<u2", p),
    ]
    layout += [("kind", "u1", n), ("hit", "u1", n), ("missed", "u1", g), ("rows", "u1", rows * points)]
    for name, dtype, length in layout:
        arrays[name] = np.frombuffer(data, dtype, length, place)
        place += arrays[name].nbytes
    assert place <= len(data) < place + ALIGNMENT
    return {**arrays, "rows": arrays["rows"].reshape(rows, points)}


@pytest.mark.parametrize("shape", [{}, {"mask": False}, {"streams": ("flow",)}, {"truth": False}, {"bare": True}])
def test_each_video_comes_back(shape):
    run = small_run(videos=("a", "b", "c"), **shape)
    judged, found = judge(run), encoded(run)
    for video in range(3):
        record, detections, truth = decode(found, video), run.detections, run.timelines.truth
        mine = np.flatnonzero(detections.video == video)
        mine = mine[np.argsort(-detections.score[mine], kind="stable")]
        for name in ("start", "end", "score"):
            np.testing.assert_allclose(record[name], getattr(detections, name)[mine], rtol=1e-6)
        np.testing.assert_array_equal(record["label"], detections.label[mine])
        np.testing.assert_array_equal(record["hit"], judged.hit[mine])
        kinds = np.where(judged.kind[mine] < 0, UNKNOWN, judged.kind[mine])
        np.testing.assert_array_equal(record["kind"], kinds)
        true = np.flatnonzero(truth.video == video)
        np.testing.assert_allclose(record["true_start"], truth.start[true])
        np.testing.assert_array_equal(record["true_label"], truth.label[true])
        np.testing.assert_array_equal(record["missed"], judged.missed[true])
        scored, true_label = record["scored"] % TRUE_LABEL, record["scored"] >= TRUE_LABEL
        np.testing.assert_allclose(record["class_scores"], run.timelines.class_scores[video, scored])
        np.testing.assert_array_equal(true_label, run.timelines.labels[video, scored])
        assert (np.diff(record["class_scores"]) <= 0).all()
        np.testing.assert_allclose(record["rows"] / 255, run.timelines.sequences[video].rows, atol=0.5 / 255 + 1e-6)
        np.testing.assert_array_equal(record["of"], run.timelines.sequences[video].classes)
    table = table_of(found)
    np.testing.assert_allclose(table["seconds"], run.timelines.seconds)
    np.testing.assert_allclose(table["ap"], judged.video_ap)
    np.testing.assert_array_equal(table["false_positives"], judged.false_positives)
    assert found.header["most_detections"] is None and found.header["pooled"] == 1


def test_the_head_counts_kinds_and_lists_the_classes_of_each_video():
    run = small_run(videos=("a", "b"))
    judged, found = judge(run), encoded(run)
    head = base64.b64decode(found.block)[: found.header["head"]]
    place = 4 * len(TABLE) * 2
    kinds = np.frombuffer(head, "<u4", 2 * len(KINDS), place).reshape(2, -1)
    for video in range(2):
        for kind in range(len(KINDS)):
            assert kinds[video, kind] == ((judged.kind == kind) & (run.detections.video == video)).sum()
    place += kinds.nbytes
    counts = np.frombuffer(head, "<u4", 2, place)
    listed = np.split(np.frombuffer(head, "<u2", found.header["listed"], place + 8), counts[:1])
    for video in range(2):
        detected = set(run.detections.label[run.detections.video == video].tolist())
        known = run.timelines.labels[video] | run.timelines.predicted[video]
        assert set(listed[video].tolist()) == detected | set(np.flatnonzero(known).tolist())


def test_over_the_limits_the_best_detections_stay_and_snippets_are_pooled():
    run = small_run(videos=("a", "b"))
    found = encoded(run, detections=6, sequence_bytes=60)
    assert (found.header["most_detections"], found.header["pooled"]) == (3, 3)
    record = decode(found, 0)
    best = np.sort(run.detections.score[run.detections.video == 0])[::-1][:3]
    np.testing.assert_allclose(record["score"], best)
    np.testing.assert_allclose(record["rows"] / 255, pool(run.timelines.sequences[0].rows, 3), atol=0.5 / 255 + 1e-6)
    assert table_of(found)["found"].tolist() == [6, 6]


def test_pooling_by_hand():
    np.testing.assert_allclose(pool(np.array([[1, 2, 3, 4, 9]], np.float32), 2), [[1.5, 3.5, 9]])


@pytest.mark.parametrize("total", [0, 1, 5, 9, 14, 15, 100])
def test_as_many_detections_of_each_video_as_fit(total):
    found = np.array([1, 5, 9, 0])
    most = most_per_video(found, total)
    fitting = [m for m in range(10) if sum(min(n, m) for n in found.tolist()) <= total]
    assert most == max(fitting)


def test_many_classes_show_the_best_and_the_true():
    classes = tuple(f"c{i}" for i in range(40))
    run = small_run(classes=classes)
    scores = run.timelines.class_scores.copy()
    scores[0, :2] = 0  # both true classes
    timelines = dataclasses.replace(run.timelines, class_scores=scores)
    record = decode(encoded(dataclasses.replace(run, timelines=timelines)), 0)
    assert len(record["scored"]) == SCORED_CLASSES + 2 and {0, 1} < set((record["scored"] % TRUE_LABEL).tolist())


def test_no_videos_and_no_detections():
    empty = dataclasses.replace(small_run(), detections=Segments.from_rows([]))
    assert len(decode(encoded(empty), 1)["score"]) == 0
    assert encoded(small_run(videos=())).header["videos"] == ()
