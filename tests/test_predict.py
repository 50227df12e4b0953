"""Test time: class scores, predicted classes, and detections of several videos, against loops and by hand."""

import numpy as np
import pytest
import torch
from support.networks import random_output

from dataset import Batch
from localization.instances import Prediction, localize
from localization.nms import nms
from localization.proposals import generate_proposals
from model import SAL, combined_sequence
from options import FusionOptions, LocalizationOptions, ModelOptions
from reference import loops
from test import class_scores, predict, predicted_classes
from utils.snippet_grid import SnippetGrid

THIRDS = FusionOptions().weights
OPTIONS, GRID = LocalizationOptions(), SnippetGrid(frames=16, stride=16)


def prediction_of(num_snippets, scores, classes, sequences, fps=25.0):
    return Prediction(
        num_snippets=num_snippets, fps=fps, class_scores=scores, classes=np.array(classes), sequences=sequences
    )


@pytest.mark.parametrize("beta", [0.0, 0.35, 1.0])
def test_class_scores(beta):
    output = random_output(b=2, t=16, c=3)
    combined = combined_sequence(output, THIRDS)
    scores = class_scores(output, combined, fusion=FusionOptions(), beta=beta)
    for b in range(2):
        logits = [
            beta * loops.topk_mean(output.cas[b, :, c], combined[b, :, c], 2)
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
    assert predicted_classes(np.array(scores, np.float32), threshold=0.25).tolist() == expected


def test_localize_is_proposals_then_nms_of_each_class_of_each_video():
    generator = np.random.default_rng(0)
    predictions = []
    for snippets, fps, classes in ((30, 25.0, [2]), (80, 30.0, [0, 3]), (9, 10.0, [1])):
        sequences = generator.random((len(classes), 20)).astype(np.float32)
        scores = generator.random(4).astype(np.float32)
        predictions.append(prediction_of(snippets, scores, classes, sequences, fps))
    found = localize(predictions, OPTIONS, grid=GRID)
    rows = []
    for video, p in enumerate(predictions):
        for column, label in enumerate(p.classes.tolist()):
            one = generate_proposals(
                p.sequences[[column]],
                class_scores=p.class_scores[[label]],
                num_snippets=np.array([p.num_snippets]),
                fps=np.array([p.fps]),
                options=OPTIONS,
                grid=GRID,
            )
            kept, scores = nms(one.row, one.start, one.end, one.score, options=OPTIONS)
            rows += [(video, label, one.start[k], one.end[k], s) for k, s in zip(kept, scores, strict=True)]
    actual = zip(found.video, found.label, found.start, found.end, found.score, strict=True)
    assert list(actual) == rows and len(rows) > 20


@pytest.mark.parametrize("block_rows", [1, 3, 512])
def test_localize_videos_of_different_lengths_in_order(monkeypatch, block_rows):
    """Sequences as long as their videos: each video's detections are those it has alone, in the videos' order."""
    monkeypatch.setattr("localization.instances.BLOCK_ROWS", block_rows)
    generator = np.random.default_rng(1)
    predictions = []
    for t, classes in ((20, [2]), (7, [0, 1]), (20, [1, 3]), (1, [0]), (7, [2])):
        sequences = generator.random((len(classes), t)).astype(np.float32)
        predictions.append(prediction_of(t, generator.random(4).astype(np.float32), classes, sequences))
    found = localize(predictions, OPTIONS, grid=GRID)
    alone = [localize([p], OPTIONS, grid=GRID) for p in predictions]
    expected = np.concatenate([np.full(len(a), v) for v, a in enumerate(alone)])
    assert found.video.tolist() == expected.tolist() and len(set(expected.tolist())) >= 4
    for name in ("label", "start", "end", "score"):
        assert getattr(found, name).tolist() == np.concatenate([getattr(a, name) for a in alone]).tolist()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_predict_is_the_forward_pass_of_each_video(batch_size):
    """Whatever the batches, and in their order, though results are taken one batch late."""
    torch.manual_seed(0)
    model = SAL(ModelOptions(hidden_size=8), num_classes=4, streams=("rgb", "flow"), feature_size=5)
    features, fusion = torch.rand(5, 9, 10), FusionOptions(mil_ratio=0.25)
    batches = [
        Batch(
            features=part,
            labels=torch.zeros(len(part), 4),
            video_ids=("",) * len(part),
            num_snippets=tuple(range(i, i + len(part))),
            fps=tuple(25.0 + n for n in range(i, i + len(part))),
            durations=tuple(100.0 + n for n in range(i, i + len(part))),
        )
        for i, part in zip(range(0, 5, batch_size), features.split(batch_size), strict=True)
    ]
    found = predict(model, batches, fusion=fusion, localization=OPTIONS)
    assert [p.num_snippets for p in found] == list(range(5))
    assert [p.fps for p in found] == [25.0 + i for i in range(5)]
    assert [p.duration for p in found] == [100.0 + i for i in range(5)]
    with torch.no_grad():
        output = model.eval()(features)
        combined = combined_sequence(output, THIRDS)
        scores = class_scores(output, combined, fusion=fusion, beta=OPTIONS.beta)
    for i, prediction in enumerate(found):
        np.testing.assert_allclose(prediction.class_scores, scores[i], rtol=1e-5)
        assert prediction.classes.tolist() == predicted_classes(scores[i].numpy(), threshold=OPTIONS.class_th).tolist()
        np.testing.assert_allclose(prediction.sequences, combined[i].t()[prediction.classes], rtol=1e-5)


def test_localize_nothing():
    assert len(localize([], OPTIONS, grid=GRID)) == 0
