"""The network's parts against plain loops and the library's own layers."""

import pytest
import torch
import torch.nn.functional as F

from layers.mixup import add_partner, average_weights, join_labels
from layers.temporal_conv import TemporalConv, taps_first, temporal_conv
from layers.wide_adam import WideAdam
from layers.wide_linear import gradient_of
from model import (
    SAL,
    combined_sequence,
    propagate_semantics,
    second_order_pooling,
    topk_mean,
)
from options import ModelOptions
from reference import loops
from run.checkpoint import to_published
from utils.snippet_grid import topk_count

SMALL = {"num_classes": 4, "streams": ("rgb", "flow"), "feature_size": 5}


def small_model(**changes):
    torch.manual_seed(0)
    own = {name: changes.pop(name) for name in ("streams", "compute_dtype") if name in changes}
    return SAL(ModelOptions(**{"hidden_size": 8, "dropout": 0.0, **changes}), **{**SMALL, **own})


@pytest.mark.parametrize("taps", [1, 3, 7])
@pytest.mark.parametrize(("b", "t"), [(1, 1), (1, 9), (3, 2), (4, 20)])
def test_temporal_conv_is_the_padded_convolution(taps, b, t):
    x, weight, bias = torch.randn(b, t, 5), torch.randn(6, 5, taps), torch.randn(6)
    expected = F.conv1d(x.transpose(1, 2), weight, bias, padding=taps // 2).transpose(1, 2)
    torch.testing.assert_close(temporal_conv(x, weight, bias), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loops.convolution(x[0], weight, bias), expected[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("taps", [3, 5])
def test_temporal_conv_gradients(taps):
    x, weight, bias = (torch.randn(s, dtype=torch.double, requires_grad=True) for s in ((2, 4, 3), (2, 3, taps), (2,)))
    assert torch.autograd.gradcheck(temporal_conv, (x, weight, bias))


def test_taps_lie_first_in_memory_and_nowhere_else():
    weight = torch.randn(4, 5, 3)
    kept = taps_first(weight)
    assert torch.equal(kept, weight) and kept.stride() == (5, 1, 20)
    model = small_model()
    conv = model.encoder.conv
    assert conv.weight.stride() == (10, 1, 80)  # 10 channels in, 8 out
    conv(torch.randn(1, 4, 10)).sum().backward()
    assert conv.weight.grad.stride() == (10, 1, 80)


@pytest.mark.parametrize("taps", [1, 3])
def test_temporal_conv_layer_begins_as_the_librarys(taps):
    torch.manual_seed(0)
    plain = torch.nn.Conv1d(5, 6, taps, padding=taps // 2)
    torch.manual_seed(0)
    layer, x = TemporalConv(5, 6, taps), torch.randn(2, 9, 5)
    assert layer.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(layer.weight, plain.weight) and torch.equal(layer.bias, plain.bias)
    torch.testing.assert_close(layer(x), plain(x.mT).mT, rtol=1e-5, atol=1e-6)


def test_temporal_conv_layer_of_a_sum():
    layer, x, y = TemporalConv(5, 6, 3), torch.randn(2, 9, 5), torch.randn(2, 9, 5)
    torch.testing.assert_close(layer.output_for_sum(layer(x) + layer(y)), layer(x + y), rtol=1e-5, atol=1e-6)


def test_zero_grad_clears_all_gradients():
    model = small_model()
    optimizer = WideAdam(model.parameters(), lr=0.01, betas=(0.9, 0.999), weight_decay=0.0)
    for _ in range(2):
        model.zero_grad()
        model(torch.ones(2, 7, 10)).video_logits.sum().backward()
    fresh = small_model()
    fresh(torch.ones(2, 7, 10)).video_logits.sum().backward()
    torch.testing.assert_close(gradient_of(model.video_classifier.weight), fresh.video_classifier.weight.grad)
    assert model.video_classifier.weight.grad is None and optimizer.clip_grad_norm_(1e6) > 0


def test_bfloat16_is_near_and_leaves_the_results_float32():
    features = torch.rand(2, 12, 10)
    exact, rough = small_model()(features), small_model(compute_dtype=torch.bfloat16)(features)
    for name in ("cas", "actionness", "video_logits"):
        assert getattr(rough, name).dtype == torch.float32
        torch.testing.assert_close(getattr(rough, name), getattr(exact, name), rtol=0.05, atol=0.05)
    assert not torch.equal(rough.cas, exact.cas)
    rough.cas.sum().backward()
    model = small_model(compute_dtype=torch.bfloat16)
    model(features).cas.sum().backward()
    assert model.encoder.conv.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("t", [1, 7])
def test_second_order_pooling(t):
    x = torch.randn(2, t, 5, dtype=torch.double)
    x[0, :, 2] = 0  # a channel that never fires
    expected = torch.stack([loops.second_order_pooling(video) for video in x])
    torch.testing.assert_close(second_order_pooling(x, eps=1e-5), expected)


@pytest.mark.parametrize("t", [1, 6])
def test_second_order_pooling_gradients(t):
    x = torch.randn(2, t, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: second_order_pooling(x, eps=1e-5), x)
    # A channel that never fires: its entries are 0, and so is what flows back through them.
    silent = torch.cat([x.detach(), torch.zeros(2, t, 1, dtype=torch.double)], 2).requires_grad_()
    grad = torch.randn(2, 25, dtype=torch.double)
    second_order_pooling(silent, eps=1e-5).backward(grad)
    assert silent.grad.isfinite().all() and (silent.grad[:, :, 4] == 0).all()
    kept = [i * 5 + j for i in range(4) for j in range(4)]
    second_order_pooling(x, eps=1e-5).backward(grad[:, kept])
    torch.testing.assert_close(silent.grad[:, :, :4], x.grad)


def test_second_order_pooling_of_nothing_is_zero():
    assert second_order_pooling(torch.zeros(1, 3, 4), eps=1e-5).abs().sum() == 0


def test_propagate_semantics():
    encoded, semantics, actionness = torch.randn(2, 5, 3), torch.randn(2, 3), torch.rand(2, 5)
    expected = torch.stack(
        [loops.propagate_semantics(*video) for video in zip(encoded, semantics, actionness, strict=True)]
    )
    torch.testing.assert_close(propagate_semantics(encoded, semantics, actionness), expected)


def test_propagate_semantics_by_hand():
    encoded = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    out = propagate_semantics(encoded, torch.tensor([[10.0, 20.0]]), torch.tensor([[0.0, 0.5]]))
    assert out.tolist() == [[[1.0, 2.0], [8.0, 14.0]]]


def test_topk_mean():
    values, by = torch.randn(3, 11, 4), torch.randn(3, 11, 4)
    out = topk_mean(values, by, 5)
    for b in range(3):
        for c in range(4):
            assert out[b, c].item() == pytest.approx(loops.topk_mean(values[b, :, c], by[b, :, c], 5), abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "t", "k"), [(0.125, 750, 93), (0.125, 7, 1), (0.8, 50, 40), (0.5, 51, 25), (1, 3, 3)]
)
def test_topk_count(ratio, t, k):
    assert topk_count(ratio, t) == k


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_mixed_actionness_is_that_of_the_mixed_features(batch):
    model = small_model()
    features = torch.randn(batch, 12, 10)
    output = model(features)
    params = to_published(model.state_dict())
    for stream, x in zip(("rgb", "flow"), features.split(5, 2), strict=True):
        expected = torch.stack([loops.actionness(params, video, stream) for video in loops.mix_up(x)])
        torch.testing.assert_close(output.mixed_actionness[stream], expected, rtol=1e-5, atol=1e-6)


def test_dropout_masks_of_the_mixed_path_are_its_own():
    # With a batch of one and no bias the mixed pre-activation is twice the plain one; so would be the scores under one mask.
    model = small_model(dropout=0.5)
    for branch in model.branches.values():
        torch.nn.init.zeros_(branch.encoder.conv.bias)
        torch.nn.init.zeros_(branch.scorer.bias)
    features = torch.randn(1, 12, 10)
    for dropout, same in ((model, False), (small_model(dropout=0.0), True)):
        dropout.load_state_dict(model.state_dict())
        output = dropout(features)
        plain, mixed = torch.logit(output.stream_actionness["rgb"]), torch.logit(output.mixed_actionness["rgb"])
        assert torch.allclose(mixed, 2 * plain, atol=1e-4) is same


def test_in_test_only_what_test_needs_is_computed():
    model = small_model(dropout=0.5)
    features = torch.randn(2, 12, 10)
    calls = []
    original = model._pool
    model._pool = lambda x: calls.append(1) or original(x)
    output = model.eval()(features)
    assert output.mixed_actionness == {} and output.stream_video_logits == {}
    assert len(calls) == 1
    train = small_model()  # the same weights, no dropout
    for name in ("cas", "actionness", "video_logits", "cas_bg"):
        torch.testing.assert_close(getattr(output, name), getattr(train(features), name))


def test_single_stream():
    model = small_model(streams=("flow",))
    output = model(torch.randn(2, 9, 5))
    torch.testing.assert_close(output.actionness, output.stream_actionness["flow"])
    assert set(output.stream_video_logits) == set(output.mixed_actionness) == {"flow"}
    assert not any("rgb" in name for name in model.state_dict())
    combined = combined_sequence(output, {"cas": 1 / 3, "rgb": 1 / 3, "flow": 1 / 3})
    expected = (output.cas.softmax(2) + output.actionness.unsqueeze(2)) / 2
    torch.testing.assert_close(combined, expected)


@pytest.mark.parametrize("streams", [("rgb", "flow"), ("flow",)])
@pytest.mark.parametrize("weights", [(1 / 3, 1 / 3, 1 / 3), (0.6, 0.2, 0.2)])
def test_combined_sequence(streams, weights):
    output = small_model(streams=streams)(torch.randn(2, 9, 5 * len(streams)))
    by_name = dict(zip(("cas", "rgb", "flow"), weights, strict=True))
    expected = []
    for b in range(2):
        actionness = {stream: values[b].detach() for stream, values in output.stream_actionness.items()}
        expected.append(loops.combined_sequence(output.cas[b].detach(), actionness, by_name))
    torch.testing.assert_close(combined_sequence(output, by_name), torch.stack(expected))


def test_combined_sequence_is_the_mean_of_three():
    output = small_model()(torch.randn(2, 9, 10))
    combined = combined_sequence(output, {"cas": 1 / 3, "rgb": 1 / 3, "flow": 1 / 3})
    streams = output.stream_actionness
    expected = (output.cas.softmax(2) + (streams["rgb"] + streams["flow"]).unsqueeze(2)) / 3
    torch.testing.assert_close(combined, expected)


def test_fused_actionness_leans_on_flow():
    output = small_model(rgb_fusion=0.1)(torch.randn(2, 9, 10))
    expected = 0.9 * output.stream_actionness["flow"] + 0.1 * output.stream_actionness["rgb"]
    torch.testing.assert_close(output.actionness, expected)


def test_wrong_number_of_channels():
    with pytest.raises(ValueError, match="9 channels, the model takes 10"):
        small_model()(torch.randn(2, 9, 9))


def test_constructor_leaves_the_seed_alone():
    torch.manual_seed(3)
    first, second = (SAL(ModelOptions(hidden_size=8), **SMALL).snippet_classifier.weight.clone() for _ in range(2))
    assert not torch.equal(first, second)


def test_partner_is_the_video_before():
    x = torch.tensor([[1.0], [2.0], [4.0]])
    assert add_partner(x).flatten().tolist() == [5, 3, 6]
    assert join_labels(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])).tolist() == [[1, 1], [1, 0], [0, 1]]
    assert average_weights(x).flatten().tolist() == [2.5, 1.5, 3]
