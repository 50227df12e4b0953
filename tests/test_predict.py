"""Test time: class scores, predicted classes, and detections of several videos, against loops and by hand."""

import numpy as np
import oracles
import pytest
import torch
from test_losses import random_output

from model import combined_sequence
from test import PredictConfig, Prediction, class_scores, localize, predicted_classes
from utils.nms import NmsConfig, nms
from utils.proposals import ProposalConfig, generate_proposals

THIRDS = {"cas": 1 / 3, "rgb": 1 / 3, "flow": 1 / 3}


@pytest.mark.parametrize("beta", [0.0, 0.35, 1.0])
def test_class_scores(beta):
    output = random_output(b=2, t=16, c=3)
    combined = combined_sequence(output, THIRDS)
    scores = class_scores(output, combined, PredictConfig(beta=beta, topk_ratio=0.125))
    for b in range(2):
        logits = [
            beta * oracles.topk_mean(output.cas[b, :, c], combined[b, :, c], 2)
            + (1 - beta) * output.video_logits[b, c].item()
            for c in range(3)
        ]
        torch.testing.assert_close(scores[b], torch.tensor(logits).softmax(0))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([0.5, 0.25, 0.25], [0, 1, 2]), ([0.7, 0.24, 0.06], [0]), ([0.2, 0.24, 0.2], [1]), ([1.0], [0])],
    ids=["the threshold itself counts", "one", "none: the best", "one class"],
)
def test_predicted_classes(scores, expected):
    assert predicted_classes(np.array(scores, np.float32), 0.25).tolist() == expected


def test_localize_is_proposals_then_nms_of_each_class_of_each_video():
    generator = np.random.default_rng(0)
    predictions = []
    for snippets, classes in ((30, [2]), (80, [0, 3]), (9, [1])):
        sequences = generator.random((len(classes), 20)).astype(np.float32)
        scores = generator.random(4).astype(np.float32)
        predictions.append(Prediction(snippets, scores, np.array(classes), sequences))
    found = localize(predictions, proposals=ProposalConfig(), suppression=NmsConfig())
    rows = []
    for video, p in enumerate(predictions):
        for column, label in enumerate(p.classes.tolist()):
            one = generate_proposals(
                p.sequences[[column]], p.class_scores[[label]], np.array([p.num_snippets]), ProposalConfig()
            )
            kept, scores = nms(one.row, one.start, one.end, one.score, NmsConfig())
            rows += [(video, label, one.start[k], one.end[k], s) for k, s in zip(kept, scores, strict=True)]
    actual = zip(found.video, found.label, found.start, found.end, found.score, strict=True)
    assert list(actual) == rows and len(rows) > 20


def test_localize_nothing():
    assert len(localize([], proposals=ProposalConfig(), suppression=NmsConfig())) == 0
