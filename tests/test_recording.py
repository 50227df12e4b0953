"""What a network says, recorded for its report: the same numbers as the network's own, and nothing of it changes."""

import numpy as np
import pytest
import torch
from support.networks import build_model
from support.tiny import CLASSES, load_tiny_set, write_tiny_set
from support.trained import OPTIONS

from formats.timelines import read_timelines, write_timelines
from losses import AdaptiveMask
from model import combined_sequence
from options import resolve
from report.recording import record
from run.checkpoint import load_checkpoint
from test import class_scores


def options(**flags):
    return resolve({**OPTIONS, "class_th": 0.35, **flags})


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("recorded") / "tiny").path


def mask_of(chosen):
    mask = AdaptiveMask(chosen.actionness, num_classes=len(CLASSES))
    mask.mean.fill_(0.4)
    mask.var.fill_(0.01)
    return mask


@pytest.mark.parametrize("flags", [{}, {"short_videos": "keep"}, {"modal": "flow"}, {"snippet_stride": 8, "fps": 10.0}])
def test_each_video_alone_says_the_same(tiny_path, flags):
    """Against plain loops over single videos, in another order of work than the batches'."""
    chosen = options(**flags)
    data = load_tiny_set(tiny_path, **{name: flags[name] for name in flags}, num_segments=24)
    network, mask = build_model(chosen, len(CLASSES)), mask_of(chosen)
    recorded = record(network, data, chosen, mask=mask)
    assert recorded.videos == data.test.names and recorded.classes == data.classes
    for v, video in enumerate(data.test):
        length, frames = video.num_snippets, 16
        count = min(length, 24) if chosen.data.short_videos == "keep" else 24
        rows = [i * length // count for i in range(count)]
        with torch.inference_mode():
            output = network(torch.from_numpy(np.asarray(video.features, np.float32)[rows])[None])
            combined = combined_sequence(output, chosen.fusion.weights)
            scores = class_scores(output, combined, fusion=chosen.fusion, beta=chosen.localization.beta)[0].numpy()
        probability = output.cas.softmax(2)[0].numpy()
        predicted = [c for c in range(3) if scores[c] >= 0.35] or [int(scores.argmax())]
        shown = sorted({*predicted, *np.flatnonzero(video.labels).tolist()})
        found = recorded.sequences[v]
        assert found.classes.tolist() == shown and np.flatnonzero(recorded.predicted[v]).tolist() == predicted
        for i, c in enumerate(shown):
            np.testing.assert_allclose(found.cas[i], probability[:, c], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(found.combined[i], combined[0, :, c], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(recorded.class_scores[v], scores, rtol=1e-5)
        np.testing.assert_allclose(found.actionness, output.actionness[0], rtol=1e-5)
        assert list(found.streams) == list(chosen.data.streams)
        for stream, values in found.streams.items():
            np.testing.assert_allclose(values, output.stream_actionness[stream][0], rtol=1e-5)
        for t in range(count):
            confidence = float(probability[t].max())
            weight = 1.0 if confidence >= 0.4 else np.exp(-((confidence - 0.4) ** 2) / (0.5 * 0.01))
            assert found.mask[t] == pytest.approx(weight, rel=1e-3)
        evidence = np.maximum(output.cas[0].numpy(), 0).sum(1)
        best = sorted(range(count), key=lambda t: -found.actionness[t])[: 24 // 8 + 2]
        likely = sorted(range(count), key=lambda t: -evidence[t])[: count // 2]
        assert np.flatnonzero(found.pseudo_label).tolist() == sorted(set(best) & set(likely))
        # The last snippet ends where the video does, up to what neighbours share of their frames.
        stride = flags.get("snippet_stride", frames)
        end = ((length * stride) + (frames - stride) / 2) / flags.get("fps", 25.0)
        assert recorded.first[v] + count * recorded.step[v] == pytest.approx(end)
        assert recorded.seconds[v] == pytest.approx(((length - 1) * stride + frames) / flags.get("fps", 25.0))


def test_the_masks_statistics_and_the_random_state_stay(tiny_path):
    chosen = options()
    data, network, mask = load_tiny_set(tiny_path), build_model(chosen, len(CLASSES)), mask_of(chosen)
    state = torch.get_rng_state()
    record(network, data, chosen, mask=mask)
    assert mask.mean == pytest.approx(0.4) and mask.var == pytest.approx(0.01)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_mask_there_are_no_weights_and_the_file_says_so(tiny_path, tmp_path):
    chosen = options()
    recorded = record(build_model(chosen, len(CLASSES)), load_tiny_set(tiny_path), chosen, mask=None)
    assert all(video.mask is None for video in recorded.sequences)
    write_timelines(tmp_path / "t.npz", recorded)
    assert all(video.mask is None for video in read_timelines(tmp_path / "t.npz").sequences)


def test_chosen_videos_alone_are_recorded_in_the_order_asked_for(tiny_path):
    chosen = options()
    data, network = load_tiny_set(tiny_path), build_model(chosen, len(CLASSES))
    whole, part = (record(network, data, chosen, mask=None, positions=p) for p in (None, [2, 0]))
    assert part.videos == ("test_2", "test_0")
    for here, there in ((0, 2), (1, 0)):
        np.testing.assert_allclose(part.sequences[here].rows, whole.sequences[there].rows, rtol=1e-5)
        assert part.seconds[here] == whole.seconds[there]
    assert sorted(zip(part.truth.video.tolist(), part.truth.start.tolist(), strict=True)) == sorted(
        (part.videos.index(whole.videos[v]), start)
        for v, start in zip(whole.truth.video.tolist(), whole.truth.start.tolist(), strict=True)
        if whole.videos[v] in part.videos
    )


def test_a_class_that_the_network_does_not_know_has_zeros(tiny_path):
    """The network knows two of the three classes."""
    chosen = options()
    data = load_tiny_set(tiny_path)
    recorded = record(build_model(chosen, 2), data, chosen, mask=None)
    unknown = [v for v, video in enumerate(data.test) if video.labels[2]]
    assert unknown and (recorded.class_scores[:, 2] == 0).all()
    for v in unknown:
        row = recorded.sequences[v].classes.tolist().index(2)
        assert not recorded.sequences[v].cas[row].any() and not recorded.sequences[v].combined[row].any()


def test_the_best_model_has_the_mask_of_its_step(tiny, run, tmp_path, monkeypatch):
    """Training goes on after the best evaluation, here the first, of step 4; workers judge it later still."""
    monkeypatch.setattr("run.history.History.score", lambda self, evaluation: -evaluation.step)
    flags = ("--eval_from_epoch", "1", "--save_minutes", "0")
    assert run(tiny.path, "--exp_name", "until", *flags, "--num_epochs", "1").code == 0
    expected = load_checkpoint(tmp_path / "out" / "until" / "last.pt").training["mask"]
    for name, own in (("here", ()), ("later", ("--eval_workers", "1"))):
        assert run(tiny.path, "--exp_name", name, *flags, *own).code == 0
        best, last = (load_checkpoint(tmp_path / "out" / name / f"{which}.pt").training for which in ("best", "last"))
        assert best["step"] == 4 and last["step"] == 12
        assert all(torch.equal(best["mask"][part], expected[part]) for part in ("mean", "var"))
        assert not torch.equal(best["mask"]["mean"], last["mask"]["mean"])
