"""The benchmark runs, its table and its JSON are complete, and its made inputs are like the real ones."""

import json
import math

import numpy as np
import pytest
import torch
from support.paths import SHARED
from support.recording import record_by_calling

from benchmarks import gpu, inputs, ranks, rows, run, scaling, timing
from benchmarks.rows import Row
from eval.detection import evaluate_detections
from eval.files import PairOptions, read_pair
from utils.segments import Segments

CPU = torch.device("cpu")
EXPECTED_ROWS = (
    "resample a video",
    *(f"step: {part}" for part in ("forward", "backward", "optimiser", "whole")),
    *("convolutions: forward", "convolutions: backward", "test forward, a video"),
    *("post-processing, a video", "NMS of 60 proposals", "mAP of 300 detections", "a draw of 6 videos"),
    *(f"test pass: {part}" for part in ("network", "post-processing", "mAP", "whole, 6 videos")),
    *("peak memory: training step", "peak memory: test forward"),
    *("step: whole, real lengths", "test forward, a video, real lengths"),
)


def test_quick_run(tmp_path, capsys):
    torch.set_num_threads(1)
    file = tmp_path / "numbers.json"
    assert run.main(["--quick", "--device", "cpu", "--json", str(file)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed[2:]] == list(EXPECTED_ROWS)
    assert printed[1].split()[0] == "operation" and "GFLOP/s" in printed[0] and "GB/s" in printed[0]
    report = json.loads(file.read_text())
    assert set(report) == {"rows", "limits", "machine", "sizes", "quick", "git_commit"}
    assert set(report["limits"]) == {"gflops", "gigabytes_per_second"} and min(report["limits"].values()) > 0
    assert report["quick"] and report["machine"]["cpu"] and report["machine"]["torch"]
    assert (
        report["machine"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    )  # "+cu130" may be missing
    for row in report["rows"]:
        assert row["ours"] > 0 and row["runs"] == 1 and row["agrees"]
        assert row["plain"] > 0 and row["plain_runs"] == 1
        assert row["ratio"] == pytest.approx(row["ours"] / row["plain"])
    checked = [row["name"] for row in report["rows"] if row["error"] is not None]
    unchecked = {name.split(":")[0] for name in EXPECTED_ROWS} - {name.split(":")[0] for name in checked}
    assert unchecked == {"peak memory"}


def test_rows_of_a_gpu():
    """On a CPU there are none; with a stand-in for the graph they run, and both ways agree."""
    limits, budget = timing.Limits(flops=1e9, bandwidth=1e9), run.QUICK_BUDGET
    bench = rows.Bench(sizes=inputs.QUICK, device=CPU, limits=limits, budget=budget)
    assert gpu.gpu_rows(bench) == []
    made = [gpu.graph_row(bench, record_by_calling), gpu.factors_row(bench), gpu.product_row(bench)]
    assert all(row.agrees and row.error is not None and row.plain for row in made)
    assert made[0].error == 0


def test_some_rows(capsys):
    assert run.main(["--quick", "--device", "cpu", "--rows", "nms,resample"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["NMS", "resample"]


@pytest.mark.parametrize("flags", [["--rows", "nms,nothing"], ["--device", "tpu"]])
def test_wrong_flags(flags, capsys):
    assert run.main(["--quick", *flags]) == 2
    assert flags[0] in capsys.readouterr().err


def test_disagreement_is_shown(monkeypatch, capsys):
    row = Row(name="NMS", ours=1.0, runs=1, plain=2.0, plain_runs=1, error=math.inf)
    monkeypatch.setitem(run.GROUPS, "nms", lambda bench: [row])
    assert run.main(["--quick", "--device", "cpu", "--rows", "nms"]) == 1
    assert "inf (too far)" in capsys.readouterr().out


def test_errors_are_seen():
    assert rows.relative_error(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 4.0])) == 0.25
    assert rows.relative_error(torch.zeros(2), torch.zeros(3)) == math.inf
    assert rows.largest([0.1, math.nan, 0.2]) == math.inf
    one = Segments.from_rows([(0, 1, 2.0, 4.0, 0.5)])
    assert rows.detections_error(one, [(1, 2.0, 4.0, 0.25)]) == 1.0
    assert rows.detections_error(one, []) == math.inf


def test_timing():
    calls = []
    parts = [lambda: calls.append("a"), lambda: calls.append("b")]
    timings = timing.measure_parts(parts, CPU, timing.Budget(min_runs=2, max_runs=5, seconds=0.0, warm_up=1))
    assert calls == ["a", "b"] * 3 and [t.runs for t in timings] == [2, 2]
    assert timing.Limits(flops=10.0, bandwidth=4.0).floor(flops=20.0, moved=4.0) == 3.0


def test_peak_memory_sees_what_is_freed_again():
    size = 200 << 20
    small, large = timing.peak_memory(lambda: None, CPU), timing.peak_memory(lambda: torch.ones(size // 4).sum(), CPU)
    assert large - small > 0.9 * size


def test_work_is_counted_as_by_hand():
    sizes = inputs.Sizes(num_segments=10, batch_size=2, feature_size=4, hidden_size=3, num_classes=5)
    assert rows.conv_flops(10, sizes) == 2 * 10 * 3 * (8 + 4 + 4) * 3
    pooling, wide = 3 * 2 * 2 * 10 * 9, 2 * 2 * 9 * (15 + 3)
    assert rows.training_flops(sizes) == (5760 + pooling + wide, 5760 + 2 * (pooling + wide))


def test_synthetic_inputs():
    made = inputs.test_set(inputs.FULL)
    assert (len(made.videos), len(made.truth), len(made.detections)) == (210, 3311, 31587)
    assert np.bincount(made.detections.label).tolist() == list(inputs.DETECTION_COUNTS)
    assert (made.truth.end > made.truth.start).all() and (made.detections.end > made.detections.start).all()
    assert 200 < len(rows.ours.postprocess([rows.ours.as_prediction(inputs.busy_video(inputs.FULL))])) / 2 < 300
    again = inputs.test_set(inputs.FULL)
    assert np.array_equal(made.detections.score, again.detections.score)


def test_synthetic_lengths_without_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(inputs, "DURATIONS", tmp_path / "none.json")
    durations = inputs.video_durations(210)
    assert abs(np.median(durations) / inputs.DURATION_MEDIAN - 1) < 0.2
    assert abs(np.log(durations).std() / inputs.DURATION_SPREAD - 1) < 0.2


def test_synthetic_detections_resemble_real_ones():
    gt, file = SHARED / "data/thumos14/gt.json", SHARED / "golden/detections/thumos14_test.json"
    if not (gt.exists() and file.exists()):
        pytest.skip("needs a real result file")
    pair = read_pair(gt, file, PairOptions())
    classes, truth, detections = pair.classes, pair.truth, pair.detections
    made = inputs.test_set(inputs.FULL)
    assert np.bincount(truth.label).tolist() == list(inputs.TRUTH_COUNTS)
    assert np.bincount(detections.label).tolist() == list(inputs.DETECTION_COUNTS)
    for real, like in ((truth, made.truth), (detections, made.detections)):
        assert abs(np.median(like.end - like.start) / np.median(real.end - real.start) - 1) < 0.25

    def work(truth: Segments, detections: Segments) -> int:
        """Pairs of a detection and a ground truth of its video and class: what an evaluation compares."""
        counts = np.zeros((300, len(classes)), int)
        np.add.at(counts, (truth.video, truth.label), 1)
        return int(counts[detections.video, detections.label].sum())

    assert abs(work(made.truth, made.detections) / work(truth, detections) - 1) < 0.1
    average = [
        evaluate_detections(t, d, num_classes=len(classes), tious=rows.TIOUS).average_map()
        for t, d in ((truth, detections), (made.truth, made.detections))
    ]
    assert abs(average[0] - average[1]) < 0.1


def test_quick_scaling(tmp_path, capsys):
    torch.set_num_threads(1)
    json_file, plot_file = tmp_path / "numbers.json", tmp_path / "plot.png"
    assert scaling.main(["--quick", "--device", "cpu", "--json", str(json_file), "--plot", str(plot_file)]) == 0
    printed = capsys.readouterr().out
    report = json.loads(json_file.read_text())
    for curve in report["curves"]:
        assert f"| {curve['name']} ({curve['fixed']}): {curve['axis']} = |" in printed
        assert len(curve["sizes"]) == len(curve["seconds"]) == 2 and min(curve["seconds"]) > 0
    assert {curve["axis"] for curve in report["curves"]} == {"T", "B", "C", "videos"}
    assert [s["videos"] for s in report["streaming"]] == [3, 30]
    assert [s["snippets"] for s in report["streaming"]] == [2 * 750, 30 * 750]
    assert plot_file.read_bytes().startswith(b"\x89PNG") and plot_file.stat().st_size < 60_000


def test_quick_ranks(capsys):
    assert ranks.main(["--quick"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "ActivityNet" in line]
    assert len(lines) == 5 and "a step of 2 ranks" in lines[-1]


def test_exponents():
    curve = scaling.Curve(name="x", axis="T", fixed="", sizes=(1, 10, 100), seconds=(2.0, 2.0, 200.0))
    assert (curve.exponent, curve.last_exponent) == (pytest.approx(1.0), pytest.approx(2.0))
