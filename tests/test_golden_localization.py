"""Proposals, NMS and mAP against the golden files to 1e-9."""

import json
import subprocess
import sys

import numpy as np
import pytest
from support.paths import GOLDEN, ROOT, SHARED

from localization.nms import nms
from localization.proposals import Upsampled, generate_proposals
from options import LocalizationOptions
from utils.snippet_grid import SnippetGrid

CASES = json.loads((GOLDEN / "postprocess.json").read_text())
REAL_DETECTIONS = SHARED / "golden" / "detections" / "thumos14_test.json"
REAL_TRUTH = SHARED / "data" / "thumos14" / "gt.json"


def rows_by_score(rows):
    """[N,3] of score, start, end; the golden file lists soft NMS's removed proposals last."""
    return rows[np.lexsort((rows[:, 2], rows[:, 1], -rows[:, 0]))]


@pytest.mark.parametrize("case", CASES, ids=[f"T{c['num_segments']}-C{c['classes']}" for c in CASES])
def test_sequences_to_proposals_to_detections(case):
    sequences = np.array(case["curve"], np.float32).T
    scores = np.array(case["video_scores"], np.float32)[case["classes"]]
    assert Upsampled(sequences, case["scale"]).count == case["upsampled_len"]
    lengths = np.full(len(sequences), case["video_snippets"])
    found = generate_proposals(
        sequences,
        class_scores=scores,
        num_snippets=lengths,
        fps=np.full(len(sequences), 25.0),
        options=LocalizationOptions(scale=case["scale"]),
        grid=SnippetGrid(frames=16, stride=16),
    )
    for row, label in enumerate(case["classes"]):
        mine = found.row == row
        start, end, score = found.start[mine], found.end[mine], found.score[mine]
        expected = np.array(case["proposals"][str(label)])[:, 1:]
        np.testing.assert_allclose(np.stack([score, start, end], 1), expected, rtol=0, atol=1e-9)
        for name, soft in (("hard_nms", False), ("soft_nms", True)):
            options = LocalizationOptions(soft_nms=soft)
            kept, kept_scores = nms(np.zeros(len(start), np.int64), start, end, score, options=options)
            actual = np.stack([kept_scores, start[kept], end[kept]], 1)
            expected = np.array(case[name][str(label)])[:, 1:]
            np.testing.assert_allclose(rows_by_score(actual), rows_by_score(expected), rtol=0, atol=1e-9)


@pytest.mark.skipif(not REAL_DETECTIONS.exists(), reason="the real detections are not part of the project")
def test_map_of_real_detections():
    command = [sys.executable, "-m", "eval.detection", "--ground_truth", str(REAL_TRUTH)]
    command += ["--detections", str(REAL_DETECTIONS), "--subset", "test", "--tious", "0.1:0.7:0.1", "--json"]
    printed = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    expected = [0.69090799, 0.63127757, 0.54244938, 0.44589213, 0.33944366, 0.23279501, 0.12466103]
    # Detections that overlap two instances equally take either, by numpy's order of equal values, which AVX-512 changes.
    tolerance = np.full(7, 6e-9)
    if not np._core._multiarray_umath.__cpu_features__["AVX512_SKX"]:
        tolerance[:2] = 3e-4
    assert np.all(np.abs(np.array(list(printed["mAP"].values())) - expected) <= tolerance)
    assert printed["average_mAP"] == pytest.approx(0.4296323955, abs=1e-10 + tolerance[0])
    assert len(printed["per_class_AP"]) == 20
