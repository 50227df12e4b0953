"""The ActivityNet recipe, through its preset: numbers, losses against the plain formulation, videos shorter than T."""

import json

import numpy as np
import pytest
import torch
from support.networks import build_model, build_objective, host_split
from support.tiny import TINY_FLAGS
from torch.nn import functional as F

import main
from dataset import Video, inference_batches, inference_groups, inference_indices, random_indices, train_batches
from formats.annotations import Instance, VideoAnnotation
from losses import AdaptiveMask
from options import FLAGS, parse_flags, resolve
from reference import formulas
from run.checkpoint import to_published
from test import Evaluator, predict
from utils.errors import InputError

PRESET = "activitynet1.3"
B, T, C = 3, 50, 5


@pytest.mark.parametrize("dataset", ["activitynet1.2", "activitynet1.3"])
def test_preset_is_the_published_recipe(dataset):
    options = resolve({"dataset": dataset})
    spec = {  # docs/method.md
        **{
            "num_segments": 50,
            "short_videos": "keep",
            "kernel_size": 7,
            "actionness_kernel_size": 3,
            "rgb_fusion": 0.3,
        },
        **{"w_mil": 1, "w_bg": 1, "w_act": 1, "w_mix": 1, "w_mutual": 20, "w_so": 3, "q_val": 0.5, "dropout": 0.5},
        **{"mil_ratio": 1 / 4, "mil_rank": "cas", "bg_ratio": 1 / 8, "hidden_size": 512, "feature_size": 1024},
        **{"pseudo_ratio": 40 / 50, "pseudo_extra": 0, "confidence_ratio": 0},
        **{"mask_momentum": 0.99, "mask_var_factor": 6, "mask_mean_init": None, "mask_var_init": 1},
        **{"fuse_cas": 0.6, "fuse_rgb": 0.2, "fuse_flow": 0.2, "class_th": 0.1, "beta": 0.5},
        **{"soft_nms": True, "nms_thresh": 0.7, "nms_alpha": 0.35, "nms_offset": 1, "scale": 24, "gamma": 0.2},
        **{
            "lr": 1e-4,
            "weight_decay": 5e-4,
            "batch_size": 32,
            "drop_last": True,
            "num_iters": 50_000,
            "num_epochs": None,
        },
        **{"detection_inf_step": 200, "eval_from_epoch": 1, "seed": 0},
        **{"tious": "0.5:0.95:0.05", "average_tious": ("0.5:0.95",), "proposal_th": "0.1:0.9:0.1", "outer_margin": 0.2},
        **{"snippet_frames": 16, "snippet_stride": None, "fps": None, "dataset": dataset},
    }
    values = FLAGS.values(options)
    assert {name: values[name] for name in spec} == spec
    assert options.evaluation.tiou_grid == tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


def test_flags_override_the_preset():
    options = resolve(parse_flags(["--dataset", PRESET, "--num_segments", "100", "--no-drop_last", "--seed", "7"]))
    assert (options.data.num_segments, options.run.seed) == (100, 7)
    assert (options.optimisation.drop_last, options.optimisation.batch_size) == (False, 32)


@pytest.mark.parametrize(
    ("flags", "saved", "epochs", "steps"),
    [
        (["--num_epochs", "3"], None, 3, None),
        (["--num_iters", "300"], None, None, 300),
        ([], None, None, 50_000),
        (["--num_iters", "9"], {"num_epochs": 4, "num_iters": None}, None, 9),
        (["--num_epochs", "9"], {"num_epochs": None, "num_iters": 5}, 9, None),
    ],
)
def test_length_of_a_run_is_said_in_epochs_or_in_steps(flags, saved, epochs, steps):
    options = resolve(parse_flags(["--dataset", PRESET, *flags]), saved)
    assert (options.optimisation.num_epochs, options.optimisation.num_iters) == (epochs, steps)


def test_both_lengths_contradict_each_other():
    with pytest.raises(InputError, match="--num_epochs and --num_iters"):
        parse_flags(["--num_epochs", "3", "--num_iters", "3"])


# The losses of one batch, written down from docs/method.md


def plain_losses(out, labels, state):
    """The unweighted terms, and their total; updates the running mean and variance in `state`."""
    cas, background, a = out["cas"], out["cas_bg"], out["stream_actionness"]
    fused = 0.7 * a["flow"] + 0.3 * a["rgb"]
    torch.testing.assert_close(out["actionness"], fused)
    top_cas = torch.stack([formulas.topk_rows(v, v, T // 4) for v in cas])
    top_background = torch.stack([formulas.topk_rows(v, v.softmax(1), T // 8) for v in background])
    label = torch.stack([formulas.top_rows(v, 40) for v in out["actionness"]])
    confidence = cas.softmax(2).amax(2).detach()
    state["mean"] = 0.99 * state["mean"] + 0.01 * confidence.mean()
    state["var"] = 0.99 * state["var"] + 0.01 * confidence.var()
    weight = torch.exp(-((confidence - state["mean"]).clamp(max=0) ** 2) / (6 * state["var"]))
    mixed_label, mixed_weight = torch.maximum(label, label.roll(1, 0)), (weight + weight.roll(1, 0)) / 2
    terms = {
        "mil": formulas.label_cross_entropy(top_cas, labels),
        "bg": F.kl_div(F.log_softmax(top_background, 1), torch.full((B, C), 1 / C), reduction="batchmean"),
        "act": sum(formulas.generalized_cross_entropy(a[s], label, weight) for s in a),
        "mix": sum(
            formulas.generalized_cross_entropy(m, mixed_label, mixed_weight) for m in out["mixed_actionness"].values()
        ),
        "mutual": ((a["rgb"] - a["flow"]) ** 2).mean(),
        "so": sum(
            formulas.label_cross_entropy(z, labels) for z in [out["video_logits"], *out["stream_video_logits"].values()]
        ),
    }
    total = terms["mil"] + terms["bg"] + terms["act"] + terms["mix"] + 20 * terms["mutual"] + 3 * terms["so"]
    return {**terms, "total": total}


def recipe(**changes):
    return resolve({"dataset": PRESET, "feature_size": 8, "hidden_size": 16, "dropout": 0.0, **changes})


def test_losses_and_gradients_of_the_recipe():
    options = recipe()
    objective = build_objective(options, C)
    model = objective.model
    generator = torch.Generator().manual_seed(1)
    labels = torch.tensor([[1.0, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
    parameters = to_published(dict(model.named_parameters()))
    params = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    state = formulas.new_mask_state(C)
    for _ in range(2):  # the running statistics carry over
        features = torch.randn(B, T, 16, generator=generator)
        result = objective(features, labels)
        expected = plain_losses(formulas.network(params, features, rgb_fusion=0.3, dropout=0.0), labels, state)
        assert result.names == tuple(expected)
        for name, value in zip(result.names, result.losses, strict=True):
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)
        assert result.targets.label.sum(1).tolist() == [40] * B
        torch.testing.assert_close(objective.mask.var, state["var"])
    result.losses[-1].backward()
    expected["total"].backward()
    for name in ("encoder.0.weight", "action_rgb.0.weight", "cls.0.weight", "cls_flow.0.weight"):
        actual, plain = parameters[name].grad, params[name].grad
        assert (actual - plain).abs().max() <= 1e-5 * plain.abs().max(), name


def test_top_k_of_every_length():
    """Test videos keep their length, so K is a share of that, and never 0."""
    options = recipe(num_workers=0)
    model = build_model(options, C).eval()
    for length in (1, 2, 3, 4, 7, 8, 31, 50):
        batch_features = torch.randn(1, length, 16)
        params = to_published(dict(model.named_parameters()))
        with torch.inference_mode():
            out = formulas.network(params, batch_features, rgb_fusion=0.3, training=False)
            a = out["stream_actionness"]
            q = 0.6 * out["cas"].softmax(2) + 0.2 * a["rgb"].unsqueeze(2) + 0.2 * a["flow"].unsqueeze(2)
            logits = formulas.topk_rows(out["cas"][0], q[0], max(1, length // 4))
            expected = (0.5 * logits + 0.5 * out["video_logits"][0]).softmax(0)
        video = Video(video_id="v", labels=np.zeros(C, np.float32), features=batch_features[0].numpy(), fps=25.0)
        split = host_split([video])
        batches = inference_batches(split, inference_groups(split, options.data, batch_size=1), options.data)
        (prediction,) = predict(model, batches, fusion=options.fusion, localization=options.localization)
        np.testing.assert_allclose(prediction.class_scores, expected, rtol=1e-4)
        assert prediction.sequences.shape[1] == length and prediction.num_snippets == length
        np.testing.assert_allclose(prediction.sequences, q[0].T[prediction.classes], rtol=1e-4)


# Videos shorter than T


@pytest.mark.parametrize("length", [1, 2, 49, 50, 51, 400])
def test_inference_keeps_short_videos(length):
    kept = inference_indices(length, 50, short_videos="keep").tolist()
    assert kept == (list(range(length)) if length <= 50 else [i * length // 50 for i in range(50)])
    assert inference_indices(length, 50, short_videos="stretch").tolist() == [i * length // 50 for i in range(50)]


@pytest.mark.parametrize("length", [1, 3, 20, 49])
def test_training_draws_short_videos_with_replacement(length):
    draws = np.stack([random_indices(length, 50, np.random.default_rng(s), short_videos="keep") for s in range(400)])
    assert draws.shape == (400, 50) and draws.min() == 0 and draws.max() == length - 1
    assert (np.diff(draws, axis=1) >= 0).all()
    if length > 1:
        assert len(np.unique(draws, axis=0)) > 100
    # Every draw is uniform over the L snippets: each is drawn 50 / L times per video on average.
    counts = np.bincount(draws.ravel(), minlength=length) / 400
    np.testing.assert_allclose(counts, 50 / length, rtol=0.2, atol=0.2)


@pytest.mark.parametrize("length", [50, 51, 300])
def test_training_draws_long_videos_as_ever(length):
    one, other = (
        random_indices(length, 50, np.random.default_rng(3), short_videos=short) for short in ("keep", "stretch")
    )
    assert np.array_equal(one, other)


def videos_of(lengths, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.eye(C, dtype=np.float32)
    return host_split(
        Video(
            video_id=f"v{i}",
            labels=labels[i % C],
            features=generator.random((n, 16)).astype(np.float32),
            fps=30.0 if i == 5 else 50.0,
        )
        for i, n in enumerate(lengths)
    )


def test_a_batch_has_one_length_and_every_video_is_in_one():
    lengths = [60, 7, 50, 7, 49, 300, 7, 1, 51, 7]
    videos = videos_of(lengths)
    options = recipe(num_segments=50).data
    groups = inference_groups(videos, options, batch_size=3)
    assert sorted(v for group in groups for v in group) == list(range(10))
    assert all(len({min(lengths[v], 50) for v in group}) == 1 and len(group) <= 3 for group in groups)
    assert sorted(map(len, groups)) == [1, 1, 1, 1, 3, 3]  # 7 7 7, 7, 50 50 50, 50, 49 and 1
    stretched = inference_groups(videos, recipe(short_videos="stretch").data, batch_size=3)
    assert stretched == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    for batch in inference_batches(videos, groups, options):
        for features, name, count in zip(batch.features.dense(), batch.video_ids, batch.num_snippets, strict=True):
            (video,) = (v for v in videos if v.video_id == name)
            assert count == video.num_snippets and len(features) == min(count, 50)
            assert np.array_equal(features.numpy(), video.features[inference_indices(count, 50, short_videos="keep")])


def test_training_batches_have_T_snippets_whatever_the_length():
    options = recipe(batch_size=2, num_workers=0)
    steps = {"optimisation": options.optimisation, "seed": 0, "first_step": 0, "last_step": 2}
    for batch in train_batches(videos_of([3, 70, 1, 20]), options.data, **steps):
        assert batch.features.shape == (2, 50, 16)


class FakeData:
    """What an Evaluator asks of a data set."""

    def __init__(self, test):
        self.test, self.classes = test, tuple("abcde")
        self.annotations = {v.video_id: self.entry(v) for v in test}

    @staticmethod
    def entry(video):
        return VideoAnnotation(
            subset="test", instances=(Instance(label="abcde"[int(video.labels.argmax())], start=1.0, end=3.0),)
        )


def detections_of(model, videos, batch_size):
    options = recipe(test_batch_size=batch_size, num_workers=0)
    evaluate = Evaluator(
        model,
        FakeData(videos),
        data_options=options.data,
        fusion=options.fusion,
        localization=options.localization,
        evaluation=options.evaluation,
    )
    return evaluate().detections


@pytest.mark.parametrize("batch_size", [1, 4])
def test_results_do_not_depend_on_how_videos_are_grouped(batch_size):
    """Detections belong to the videos in the split's order, though batches go by length; seconds go by each's frame rate."""
    videos = videos_of([60, 7, 50, 7, 49, 300, 12, 51, 7])
    model = build_model(recipe(), C)
    found = detections_of(model, videos, batch_size)
    for v, video in enumerate(videos):
        mine, alone = found.take(found.video == v), detections_of(model, host_split([video]), 1)
        assert len(mine) == len(alone) > 0
        np.testing.assert_allclose(mine.start, alone.start, atol=1e-6)
        np.testing.assert_allclose(mine.score, alone.score, atol=1e-5)
        assert mine.end.max() <= video.num_snippets * 16 / video.fps + 1e-9
    assert (
        found.end[found.video == 5].max() > 300 * 16 / 30 * 0.9
    )  # that video has fewer frames a second than the others


# Through main.py


def activitynet_flags(*flags):
    """The preset, with the tiny set's sizes; the last of two equal flags counts."""
    return ["--dataset", PRESET, *TINY_FLAGS[2:6], "--device", "cpu", *flags]


def test_training_and_inference(tiny, tmp_path, capsys):
    torch.set_num_threads(1)
    place = ["--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", "x"]
    sizes = ["--num_iters", "9", "--batch_size", "2", "--detection_inf_step", "4", "--num_segments", "40"]
    assert main.main([*place, *activitynet_flags(*sizes)]) == 0
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert results["steps"] == 9 and [entry["step"] for entry in results["history"]] == [4, 8, 9]
    assert next(iter(results["last"]["mAP"])) == "0.5" and list(results["last"]["average_mAP"]) == ["0.5:0.95"]
    assert results["options"]["short_videos"] == "keep" and results["seed"] == 0
    capsys.readouterr()
    assert main.main([*place, "--inference_only"]) == 0
    assert "0.95" in capsys.readouterr().out
    inferred = json.loads((tmp_path / "out" / "x" / "inference" / "results.json").read_text())
    assert inferred["average_mAP"] == results["best"]["average_mAP"]


def test_resume_of_a_run_counted_in_steps(tiny, tmp_path, capsys):
    torch.set_num_threads(1)
    flags = activitynet_flags("--batch_size", "2", "--detection_inf_step", "4", "--data_path", str(tiny.path))
    whole = ["--output_dir", str(tmp_path / "out"), "--exp_name", "x"]
    assert main.main([*flags, *whole, "--num_iters", "7"]) == 0
    assert main.main([*whole, "--resume"]) == 0  # nothing is left to do
    capsys.readouterr()
    assert main.main([*whole, "--resume", "--num_epochs", "3"]) == 2
    assert "--num_epochs is 3, the experiment has None" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [3, 100, 200])
def test_the_recipe_is_for_any_number_of_classes(classes):
    options = recipe()
    assert build_model(options, classes).num_classes == classes
    mask = AdaptiveMask(options.actionness, num_classes=classes)
    assert mask.mean.item() == pytest.approx(1 / classes)
