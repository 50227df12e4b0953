"""--compile: the same numbers where it works, and a line that says why where it does not."""

import dataclasses
import os
import shutil
import weakref

import pytest
import torch
from support.networks import build_batch, build_model, build_objective

import train
from layers.snippets import Snippets
from layers.wide_adam import WideAdam
from layers.wide_linear import gradient_of
from model import second_order_pooling
from options import resolve
from test import CompiledSAL
from train import build_training, compile_objective, schedule_lr, train_step

SIZES = {"num_segments": 24, "feature_size": 6, "hidden_size": 8, "pseudo_extra": 2}
OPTIONS = resolve({**SIZES, "lr": 0.01})
TAUGHT = resolve(
    {
        **SIZES,
        "lr": 0.01,
        "pseudo_source": "classes",
        "mil_rank": "cas",
        "mil_competition": 0.5,
        "self_border": 0.5,
        "teacher_decay": 0.5,
        "lr_schedule": "cosine",
        "num_iters": 4,
        "w_self": 1.0,
    }
)


@pytest.fixture(autouse=True)
def reset():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def batch(count, seed, *, taught=False):
    """`taught`: whether snippets are taught of classes, each by chance."""
    generator = torch.Generator().manual_seed(seed)
    made = build_batch(torch.rand(count, 24, 12, generator=generator), torch.eye(3)[:count])
    lessons = torch.randint(-1, 2, (count, 24, 3), generator=generator).float()
    return made._replace(taught=lessons if taught else None)


@pytest.fixture
def eager_backend(monkeypatch):
    """Traced, but not translated to C++, which takes a minute."""
    original = torch.compile
    monkeypatch.setattr("torch.compile", lambda function, mode: original(function, backend="aot_eager"))


def compile_without_a_trace(it):
    """compile_objective, after whose trial random numbers, statistics and gradients are as before."""
    before = (torch.get_rng_state(), it.mask.mean.clone(), it.mask.var.clone())
    step = compile_objective(it, [2, 1], 24)
    assert step != it.__call__
    assert torch.equal(before[0], torch.get_rng_state())
    assert torch.equal(before[1], it.mask.mean) and torch.equal(before[2], it.mask.var)
    assert all(parameter.grad is None for parameter in it.model.parameters())
    return step


@pytest.mark.parametrize("options", [OPTIONS, TAUGHT], ids=["published", "taught"])
def test_compiled_steps_are_the_plain_ones(eager_backend, options):
    """Dropout included, and a last batch of another size."""
    results = []
    for compiled in (False, True):
        it, optimizer = build_training(build_model(options, 3), options, torch.device("cpu"))
        step = compile_without_a_trace(it) if compiled else it
        it.model.train()
        torch.manual_seed(7)
        losses = []
        for seed, count in enumerate((2, 2, 1)):
            schedule_lr(optimizer, options.optimisation, step=seed, total_steps=4)
            given = batch(count, seed, taught=options is TAUGHT)
            losses.append(train_step(step, optimizer, given, teacher=it.teacher).losses)
        taught = it.teacher.tensors if it.teacher else []
        results.append((torch.stack(losses), [*it.model.parameters(), *taught], it.mask.mean))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="there is no C++ compiler here")
@pytest.mark.parametrize("options", [OPTIONS, TAUGHT], ids=["published", "taught"])
def test_the_real_compiler_takes_the_step(options):
    """Translated to C++, once each: the other tests stop short of that, for it takes half a minute."""
    it, _ = build_training(build_model(options, 3), options, torch.device("cpu"))
    step = compile_objective(it, [2], 24)
    assert step != it.__call__
    given, losses = batch(2, 0, taught=options is TAUGHT), []
    statistics, states = {name: value.clone() for name, value in it.mask.state_dict().items()}, []
    for function in (it, step):
        it.mask.load_state_dict(statistics)
        torch.manual_seed(3)
        losses.append(function(given.features.dense(), given.labels, given.taught).losses)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)  # as many random numbers
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13):  # torch 2.11 draws them in another order
        torch.testing.assert_close(*losses)


def test_compiled_test_forward_is_the_plain_one(eager_backend):
    model = build_model(OPTIONS, 3).eval()
    compiled = CompiledSAL(model, batch_sizes=[2, 1], num_segments=24)
    assert compiled.compiled != model.forward
    with torch.inference_mode():
        for change in (0.0, 0.1):  # new weights are in the next evaluation
            model.video_semantics.weight += change
            for count in (2, 1):
                features = batch(count, count).features
                expected, actual = model(features), compiled(features)
                torch.testing.assert_close(actual.cas, expected.cas)
                torch.testing.assert_close(actual.video_logits, expected.video_logits)


def test_only_its_own_number_of_snippets_runs_compiled(eager_backend, monkeypatch):
    network = CompiledSAL(build_model(OPTIONS, 3), batch_sizes=[1], num_segments=24)
    assert network.compiled != network.model.forward
    compiled, lengths = network.compiled, []
    monkeypatch.setattr(network, "compiled", lambda x: lengths.append(x.shape[1]) or compiled(x))
    with torch.inference_mode():
        for length in (24, 7, 24):
            assert network(Snippets.of(torch.rand(1, length, 12))).cas.shape == (1, length, 3)
    assert lengths == [24, 24]


def compiled_wrongly(monkeypatch, change):
    """torch.compile returns a function with another result: change(result of the uncompiled)."""
    monkeypatch.setattr("torch.compile", lambda function, mode: lambda *tensors: change(function(*tensors)))


def without_gradient(result):
    return dataclasses.replace(result, losses=result.losses.detach().requires_grad_())


def with_other_gradient(result):
    return dataclasses.replace(result, losses=1.1 * result.losses - 0.1 * result.losses.detach())


def with_another_loss(result):
    return dataclasses.replace(result, losses=result.losses + 0.1)


def with_no_number(result):
    return dataclasses.replace(result, losses=result.losses * float("nan"))


@pytest.mark.parametrize("change", [without_gradient, with_other_gradient, with_another_loss, with_no_number])
def test_a_step_with_other_numbers_is_not_taken(monkeypatch, capsys, change):
    compiled_wrongly(monkeypatch, change)
    it = build_objective(resolve({**SIZES, "dropout": 0.5}), 3)
    step = compile_objective(it, [2], 24)
    assert step == it.__call__
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("--compile: the training step stays uncompiled: the ") and "is rounding" in line


PARAMETERS = [name for name, _ in build_model(OPTIONS, 3).named_parameters()]


@pytest.mark.parametrize("factor", [0.0, 2.0])
@pytest.mark.parametrize("name", PARAMETERS)
def test_one_wrong_gradient_is_enough(monkeypatch, capsys, name, factor):
    """Also the smallest one, at the widest tolerance: the loss is many times as large as all gradients together."""
    monkeypatch.setattr("run.compiling._precision", lambda model: "bf16")
    it = build_objective(resolve({**SIZES, "feature_size": 64, "hidden_size": 64, "num_segments": 100}), 20)
    parameter, original, calls = it.model.get_parameter(name), train.gradient_of, []

    def compiled(*tensors):
        calls.append(1)
        return it(*tensors)

    def gradient_of(other):
        gradient = original(other)
        return factor * gradient if calls and other is parameter else gradient

    monkeypatch.setattr("torch.compile", lambda function, mode: compiled)
    monkeypatch.setattr(train, "gradient_of", gradient_of)
    assert compile_objective(it, [2], 100) == it.__call__
    assert f"the gradient of {name} would differ" in capsys.readouterr().out


def test_a_right_step_is_taken(monkeypatch, capsys):
    compiled_wrongly(monkeypatch, lambda result: result)
    it = build_objective(resolve({**SIZES, "dropout": 0.5}), 3)
    assert compile_objective(it, [2, 1], 24) != it.__call__
    assert capsys.readouterr().out == ""


def test_the_result_is_held_until_its_gradients_are_there(monkeypatch):
    """A replay of a CUDA graph fails when tensors of the result are freed earlier or later than in its recording."""
    held = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, losses, targets):
            ctx.targets = weakref.ref(targets)
            return losses * 1

        @staticmethod
        def backward(ctx, grad):
            held.append(ctx.targets() is not None)
            return grad, None

    compiled_wrongly(
        monkeypatch,
        lambda result: dataclasses.replace(result, losses=Watched.apply(result.losses, result.targets.weight)),
    )
    compile_objective(build_objective(OPTIONS, 3), [2, 1], 24)
    assert len(held) > 3 and all(held)


@pytest.mark.parametrize("change", [lambda result: result, without_gradient], ids=["right", "wrong"])
def test_the_trial_leaves_everything_as_it_was(monkeypatch, change):
    """Gradients that were there, those that an optimiser forms itself, dropout, modes, statistics, random numbers."""
    compiled_wrongly(monkeypatch, change)
    it = build_objective(resolve({**SIZES, "dropout": 0.5}), 3)
    optimizer = WideAdam(it.model.parameters(), lr=0.01, betas=(0.9, 0.999), weight_decay=0)
    it(torch.rand(2, 24, 12), torch.eye(3)[:2]).losses[-1].backward()
    it.model.eval()

    def state():
        gradients = [gradient_of(parameter) for parameter in it.model.parameters()]
        ordinary = [parameter.grad for parameter in it.model.parameters()]
        dropout = [(module.p, module.training) for module in it.model.modules() if isinstance(module, torch.nn.Dropout)]
        tensors = [*gradients, *ordinary, *it.model.parameters(), *it.mask.buffers(), torch.get_rng_state()]
        return [None if tensor is None else tensor.clone() for tensor in tensors], dropout

    before = state()
    compile_objective(it, [2, 1], 24)
    after = state()
    assert before[1] == after[1]
    assert all(torch.equal(a, b) if a is not None else b is None for a, b in zip(before[0], after[0], strict=True))
    assert not optimizer.state


def test_a_test_forward_with_other_numbers_is_not_taken(monkeypatch, capsys):
    compiled_wrongly(monkeypatch, lambda output: dataclasses.replace(output, video_logits=output.video_logits * 1.1))
    model = build_model(OPTIONS, 3).eval()
    network = CompiledSAL(model, batch_sizes=[2], num_segments=24)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("--compile: the test forward stays uncompiled: the video logits would differ")
    features = Snippets.of(torch.rand(2, 24, 12))
    with torch.inference_mode():
        assert torch.equal(network(features).video_logits, model(features).video_logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_reach_the_encoder_through_the_semantics(eager_backend, dtype):
    """A compiler may take a result that was changed in place for one without gradient, as torch 2.11 does."""
    x = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    weight = torch.rand(2, 16, generator=torch.Generator().manual_seed(2))

    def total(x):
        return (second_order_pooling(x, eps=1e-5) * weight).sum()

    (expected,) = torch.autograd.grad(total(x), x)
    (actual,) = torch.autograd.grad(torch.compile(total, mode="default")(x), x)
    assert expected.norm() > 0
    torch.testing.assert_close(actual, expected)


def test_a_step_is_one_graph():
    """Whatever breaks the graph, dropout's random numbers say, costs more than compiling gains."""
    torch._dynamo.utils.counters.clear()
    it = build_objective(resolve({**SIZES, "dropout": 0.5}), 3)
    it.model.train()
    explained = torch._dynamo.explain(it.__call__)(torch.rand(2, 24, 12), torch.ones(2, 3))
    assert explained.graph_break_count == 0, explained.break_reasons


def test_failure_says_why_and_goes_on(tiny, run, monkeypatch):
    """Simulates a machine without a C++ compiler."""

    def refuses(graph, inputs):
        raise RuntimeError("no working C++ compiler\nand a long story")

    original = torch.compile
    monkeypatch.setattr("torch.compile", lambda function, mode: original(function, backend=refuses))
    plain = run(tiny.path, "--exp_name", "plain")
    outcome = run(tiny.path, "--exp_name", "x", "--compile")
    assert outcome.code == 0
    for what in ("the training step", "the test forward"):
        (line,) = [line for line in outcome.out.splitlines() if line.startswith(f"--compile: {what} stays uncompiled")]
        assert "no working C++ compiler" in line and "long story" not in line
    tables = [[line for line in o.out.splitlines() if line.startswith(("best", "last"))] for o in (plain, outcome)]
    assert tables[0] == tables[1]  # the trial moved no random number


def test_failure_on_the_last_smaller_batch_shows_at_the_start(tiny, run, monkeypatch):
    """7 videos in batches of 2: the last batch of an epoch has one."""

    def refuses_one(graph, inputs):
        if any(torch.is_tensor(x) and x.shape[:1] == (1,) and x.dim() == 3 for x in inputs):
            raise RuntimeError("one is too few")
        return graph

    original = torch.compile
    monkeypatch.setattr("torch.compile", lambda function, mode: original(function, backend=refuses_one, dynamic=False))
    outcome = run(tiny.path, "--exp_name", "x", "--compile")
    assert outcome.code == 0 and "--compile: the training step stays uncompiled" in outcome.out
