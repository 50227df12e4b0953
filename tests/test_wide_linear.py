"""A wide linear layer is nn.Linear to whoever uses it, until an optimiser takes its weight over."""

import copy
import gc
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from layers.wide_adam import WideAdam
from layers.wide_linear import WideLinear, defer_gradient, deferred_gradient, gradient_of, wide_linear

BATCHES = [1, 2, 4, 5, 9]


def small_network(kind):
    """Two wide layers, one used twice, and a narrow one; the same weights whatever the kind of the wide layers."""
    torch.manual_seed(0)
    return nn.ModuleDict({"first": kind(64, 5), "second": kind(64, 3), "head": nn.Linear(5, 3)})


def loss_of(network, x):
    both = network["second"](x) + network["second"](x.flip(0)) * 0.5
    return (network["head"](network["first"](x).tanh()) * both).square().sum()


def pair():
    """The network of wide layers, and of the library's own."""
    return small_network(WideLinear), small_network(nn.Linear)


def batch(seed=0, rows=2):
    return torch.randn(rows, 64, generator=torch.Generator().manual_seed(seed))


def assert_same_parameters(ours, plain):
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


def wide_adam(network):
    return WideAdam(network.parameters(), lr=0.01, betas=(0.9, 0.999), weight_decay=0.1)


@pytest.mark.parametrize("rows", BATCHES)
@pytest.mark.parametrize("width", [64, 30])
def test_it_is_linear(rows, width):
    x, weight, bias = (
        torch.randn(s, dtype=torch.double, requires_grad=True) for s in ((rows, width), (3, width), (3,))
    )
    torch.testing.assert_close(wide_linear(x, weight, bias), F.linear(x, weight, bias))
    assert torch.autograd.gradcheck(wide_linear, (x, weight, bias))


def single_pair(**options):
    """A wide layer and the library's own, with the same weights."""
    pair = []
    for kind in (WideLinear, nn.Linear):
        torch.manual_seed(0)
        pair.append(kind(64, 5, **options))
    return pair


@pytest.mark.parametrize("shape", [(64,), (0, 64), (1, 64), (3, 64), (2, 3, 64), (2, 0, 64), (2, 1, 3, 64)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_it_takes_what_the_librarys_takes(shape, bias, dtype):
    ours, plain = single_pair(bias=bias, device="cpu", dtype=dtype)
    inputs = [torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype) for _ in range(2)]
    outputs = [layer(x.requires_grad_()) for layer, x in zip((ours, plain), inputs, strict=True)]
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close([p.grad for p in ours.parameters()], [p.grad for p in plain.parameters()])


def test_it_is_made_where_and_as_the_librarys_is():
    assert WideLinear(64, 5, device="meta").weight.is_meta
    assert WideLinear(64, 5, bias=False).bias is None
    assert WideLinear(64, 5, True, "cpu", torch.float64).bias.dtype == torch.float64


def test_it_follows_autocast():
    for layer in single_pair():
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(batch())
        assert output.dtype == torch.bfloat16
        output.float().sum().backward()
        assert layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 63), torch.zeros(2, 128), torch.zeros(2, 64, dtype=torch.double)], ids=str
)
def test_it_refuses_what_the_librarys_refuses(x):
    messages = []
    for layer in single_pair():
        with pytest.raises(RuntimeError) as raised:
            layer(x)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


def test_second_derivatives():
    tensors = (torch.randn(s, dtype=torch.double, requires_grad=True) for s in ((2, 30), (3, 30), (3,)))
    assert torch.autograd.gradgradcheck(wide_linear, tuple(tensors))


@pytest.mark.parametrize("shape", [(2, 64), (3, 2, 64)], ids=str)
@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
def test_it_compiles_whole(shape, autocast):
    ours, plain = single_pair()
    compiled, x = torch.compile(ours, backend="eager", fullgraph=True), torch.randn(shape)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        torch.testing.assert_close(compiled(x), plain(x))


@pytest.mark.parametrize("rows", BATCHES)
@pytest.mark.parametrize("width", [64, 30])
def test_a_deferred_gradient_is_the_gradient(rows, width):
    x, weight, bias = (
        torch.randn(s, dtype=torch.double, requires_grad=True) for s in ((rows, width), (3, width), (3,))
    )
    plain = weight.detach().clone().requires_grad_()
    deferred = defer_gradient(weight)
    assert gradient_of(weight) is None
    for _ in range(2):  # gradients add up
        upstream = torch.randn(rows, 3, dtype=torch.double)
        wide_linear(x, weight, bias).backward(upstream)
        F.linear(x.detach(), plain).backward(upstream)
        torch.testing.assert_close(gradient_of(weight), plain.grad)
    assert weight.grad is None
    deferred.clear()
    assert gradient_of(weight) is None


@pytest.mark.parametrize("rows", BATCHES)
def test_layers_begin_and_learn_as_the_librarys(rows):
    ours, plain = pair()
    assert ours.state_dict().keys() == plain.state_dict().keys()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    for network in (ours, plain):
        loss_of(network, batch(rows=rows)).backward()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)
        assert gradient_of(a) is a.grad


def test_clipping_sees_every_weight():
    norms = []
    for network in pair():
        loss_of(network, batch()).backward()
        norms.append(nn.utils.clip_grad_norm_(network.parameters(), 0.1))
        clipped = torch.stack([p.grad.norm() for p in network.parameters()]).norm()
        assert clipped.item() == pytest.approx(0.1, rel=1e-4)
    torch.testing.assert_close(*norms)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    ],
    ids=["SGD", "AdamW"],
)
def test_other_optimizers_just_work(optimizer):
    ours, plain = pair()
    for network in (ours, plain):
        stepper = optimizer(network.parameters())
        for seed in range(3):
            stepper.zero_grad()
            loss_of(network, batch(seed)).backward()
            stepper.step()
    assert_same_parameters(ours, plain)


@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken over"])
def test_averages_and_deep_copies_are_free(taken):
    """They are layers of their own: an optimiser of the original has no part in them."""
    ours, plain = pair()
    averages = [torch.optim.swa_utils.AveragedModel(network) for network in (ours, plain)]
    optimizers = [wide_adam(ours) if taken else torch.optim.Adam(ours.parameters(), lr=0.01, weight_decay=0.1)]
    optimizers.append(torch.optim.Adam(plain.parameters(), lr=0.01, weight_decay=0.1))
    for network, stepper, average in zip((ours, plain), optimizers, averages, strict=True):
        for seed in range(3):
            stepper.zero_grad()
            loss_of(network, batch(seed)).backward()
            stepper.step()
            average.update_parameters(network)
    assert_same_parameters(averages[0].module, averages[1].module)

    loss_of(ours, batch()).backward()  # a step used the last gradients up
    twin = copy.deepcopy(ours)
    stranger = pickle.loads(pickle.dumps(ours))
    before = gradient_of(ours["first"].weight).clone()
    for each in (twin, stranger):
        loss_of(each, batch()).backward()
        assert all(p.grad is not None for p in each.parameters())
    assert (ours["first"].weight.grad is None) == taken
    assert torch.equal(gradient_of(ours["first"].weight), before)


def test_a_weight_is_taken_over_as_long_as_its_optimizer_exists():
    ours, plain = pair()
    weight = ours["first"].weight
    optimizer = wide_adam(ours)
    loss_of(ours, batch()).backward()
    assert weight.grad is None and gradient_of(weight) is not None

    gc.disable()  # it goes at once, with its last reference
    try:
        del optimizer
        assert deferred_gradient(weight) is None and gradient_of(weight) is None
    finally:
        gc.enable()
    for network in (ours, plain):
        network.zero_grad()
        loss_of(network, batch()).backward()
    assert deferred_gradient(weight) is None
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)


def test_a_gradient_from_before_counts():
    """A backward before the optimiser exists, or a compiled one, leaves `.grad`: one step takes that and the factors."""
    ours, plain = pair()
    loss_of(ours, batch(0)).backward()
    optimizer = wide_adam(ours)
    loss_of(ours, batch(1)).backward()
    for seed in (0, 1):
        loss_of(plain, batch(seed)).backward()
    expected = torch.optim.Adam(plain.parameters(), lr=0.01, weight_decay=0.1)
    torch.testing.assert_close(gradient_of(ours["first"].weight), plain["first"].weight.grad, rtol=1e-5, atol=1e-6)
    for each in (optimizer, expected):
        each.step()
        each.zero_grad()
    assert_same_parameters(ours, plain)
    assert all(gradient_of(p) is None for p in ours.parameters())
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}


def test_frozen_weights_stay_as_they_are():
    ours, _ = pair()
    ours["first"].weight.requires_grad_(False)
    optimizer = wide_adam(ours)
    before = ours["first"].weight.clone()
    loss_of(ours, batch()).backward()
    optimizer.step()
    assert gradient_of(ours["first"].weight) is None and torch.equal(ours["first"].weight, before)


def test_distributed_training_sees_every_gradient():
    distributed = torch.distributed
    if not distributed.is_available():
        pytest.skip("this PyTorch has no torch.distributed")
    ours, plain = pair()
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        nn.parallel.DistributedDataParallel(ours["first"])(batch()).square().sum().backward()
    finally:
        distributed.destroy_process_group()
    plain["first"](batch()).square().sum().backward()
    for a, b in zip(ours["first"].parameters(), plain["first"].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-6)
