"""A training step as a CUDA graph, with a stand-in for the graph: the eager numbers to the bit, whatever happens in between."""

import contextlib
import copy

import pytest
import torch
from support.networks import build_batch, build_model
from support.recording import record_by_calling, tensors

import train
from layers.snippets import Snippets
from layers.wide_linear import gradient_of
from options import resolve
from run.checkpoint import load_checkpoint
from run.graphs import CudaRecorder, GraphedStep
from train import build_training, schedule_lr, train_step

SIZES = {"num_segments": 24, "feature_size": 6, "hidden_size": 8, "dropout": 0.5}
OPTIONS = resolve({**SIZES, "lr": 1e-2, "pseudo_extra": 2})


TAUGHT = resolve(
    {
        **SIZES,
        "lr": 1e-2,
        "pseudo_source": "classes",
        "mil_rank": "cas",
        "mil_competition": 0.5,
        "teacher_decay": 0.5,
        "lr_schedule": "cosine",
        "num_iters": 9,
    }
)


class Run:
    """A small network with its optimiser, stepped eagerly or by a graph."""

    def __init__(self, *, graphed, record=record_by_calling, options=OPTIONS):
        self.options, self.steps = options, 0
        model = build_model(options, 3)
        self.objective, self.optimizer = build_training(model, options, torch.device("cpu"))
        self.model, self.mask, self.teacher = model.train(), self.objective.mask, self.objective.teacher
        self.calls = 0
        parts = {"model": self.model, "mask": self.mask, "optimizer": self.optimizer}
        self.step = GraphedStep(self.eager, record=record, **parts) if graphed else self.eager
        self.random = torch.Generator().manual_seed(5).get_state()  # each run has a generator of its own

    def eager(self, batch):
        self.calls += 1
        return train_step(self.objective, self.optimizer, batch, teacher=self.teacher)

    def take(self, batch):
        """The numbers of a step, and of the state after it."""
        schedule_lr(self.optimizer, self.options.optimisation, step=self.steps, total_steps=9)
        self.steps += 1
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.random)
            result = self.step(batch)
            self.random = torch.get_rng_state()
        return [result.losses, *(value.clone() for value in tensors(result.targets))], self.state()

    def state(self):
        moments = [value for p in self.model.parameters() for value in self.optimizer.state.get(p, {}).values()]
        taught = self.teacher.tensors if self.teacher else []
        values = [*self.model.parameters(), *taught, *moments, *self.mask.buffers(), self.random]
        return [value.detach().clone() for value in values]


def batch(seed, size=2):
    features = torch.rand(size, 24, 12, generator=torch.Generator().manual_seed(seed))
    return build_batch(features, torch.eye(3)[torch.arange(seed, seed + size) % 3])


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y) or (x.isnan() & y.isnan() | (x == y)).all()


def assert_same_steps(a, b, batches):
    for each in batches:
        for ours, theirs in zip(a.take(each), b.take(each), strict=True):
            assert_equal(ours, theirs)


def test_steps_are_the_eager_ones():
    """With dropout, and with partial batches in between, which have a graph of their own."""
    eager, graphed = Run(graphed=False), Run(graphed=True)
    assert_same_steps(eager, graphed, [batch(seed, size=1 if seed % 3 == 2 else 2) for seed in range(7)])
    assert len(graphed.step.captured) == 2 and not graphed.step.failed


def test_a_teacher_and_a_schedule_are_part_of_the_one_graph():
    eager, graphed = Run(graphed=False, options=TAUGHT), Run(graphed=True, options=TAUGHT)
    rates = []
    for seed in range(4):
        assert_same_steps(eager, graphed, [batch(seed)])
        rates.append(graphed.optimizer.scheduled_lr.item())
    assert len(set(rates)) == 4 and len(graphed.step.captured) == 1
    assert graphed.teacher.updates == 4
    broken = batch(5)
    broken.features.dense()[0, 0, 0] = torch.inf
    before = [value.clone() for value in graphed.teacher.tensors]
    assert_same_steps(eager, graphed, [broken])
    assert_equal(before, graphed.teacher.tensors)


def test_what_is_taught_is_read_anew_by_every_replay():
    """Lessons change from round to round, in the same memory."""
    eager, graphed = (
        Run(graphed=value, options=resolve({**SIZES, "pseudo_extra": 2, "w_self": 1.0})) for value in (False, True)
    )
    lessons = [torch.zeros(2, 24, 3), torch.ones(2, 24, 3), (torch.rand(2, 24, 3) > 0.5).float()]
    assert_same_steps(eager, graphed, [batch(0)._replace(taught=taught) for taught in lessons])
    assert len(graphed.step.captured) == 1 and not graphed.step.failed
    terms = [eager.take(batch(0)._replace(taught=taught))[0][0] for taught in (lessons[0], lessons[1])]
    assert not torch.equal(*terms)


def test_a_schedule_that_begins_later_is_captured_anew():
    """A graph reads the group's rate as a number, the schedule's from memory."""
    eager, graphed = Run(graphed=False), Run(graphed=True)
    assert_same_steps(eager, graphed, [batch(0)])
    for rate in (0.5, 0.25):
        for each in (eager, graphed):
            each.optimizer.schedule_lr(rate)
        assert_same_steps(eager, graphed, [batch(1)])
        assert len(graphed.step.captured) == 2 and not graphed.step.failed


def test_a_capture_changes_nothing():
    """Not even halfway through a run; gradients that were there are gone, as at the start of any step."""
    run = Run(graphed=True)
    run.take(batch(0))
    before, random = run.state(), torch.get_rng_state()
    run.step._capture("again", batch(1, size=3))
    assert_equal(run.state(), before)
    assert torch.equal(torch.get_rng_state(), random) and "again" in run.step.captured
    assert all(gradient_of(p) is None for p in run.model.parameters())


def test_inputs_and_losses_are_copies():
    run = Run(graphed=True)
    first, second = batch(0), batch(1)
    kept = first.features.dense().clone(), first.labels.clone()
    losses = run.step(first).losses
    before = losses.clone()
    run.step(second)
    assert (
        torch.equal(losses, before)
        and torch.equal(first.features.dense(), kept[0])
        and torch.equal(first.labels, kept[1])
    )


def test_a_loss_that_is_not_finite_changes_no_weight_and_no_moment():
    eager, graphed = Run(graphed=False), Run(graphed=True)
    broken = batch(1)
    broken.features.dense()[0, 0, 0] = torch.inf
    assert_same_steps(eager, graphed, [batch(0)])
    before = graphed.state()
    (losses, *_), _ = graphed.take(broken)
    eager.take(broken)
    assert not losses[-1].isfinite()
    assert_equal(graphed.state()[:-3], before[:-3])  # all but the mask's statistics and the random state
    assert_equal(graphed.state(), eager.state())


@pytest.mark.parametrize("what", ["state", "learning rate"])
def test_what_a_graph_has_fixed_is_captured_anew(what):
    eager, graphed = Run(graphed=False), Run(graphed=True)
    assert_same_steps(eager, graphed, [batch(0), batch(1)])
    weights, state = copy.deepcopy((graphed.model.state_dict(), graphed.optimizer.state_dict()))
    assert_same_steps(eager, graphed, [batch(2)])
    for run in (eager, graphed):
        if what == "state":
            run.model.load_state_dict(weights)
            run.optimizer.load_state_dict(copy.deepcopy(state))
        else:
            run.optimizer.param_groups[0]["lr"] = 1e-3
    assert_same_steps(eager, graphed, [batch(3), batch(4)])
    assert len(graphed.step.captured) == (1 if what == "state" else 2)


def test_a_replay_shows_in_the_versions_of_the_weights():
    """A graph changes weights behind the host's back; what is folded of them must be known to be old."""
    run = Run(graphed=True)
    run.step(batch(0))
    before = [p._version for p in run.model.parameters()]
    run.step.captured = {key: (inputs, result, lambda: None) for key, (inputs, result, _) in run.step.captured.items()}
    run.step(batch(1))
    assert all(p._version > version for p, version in zip(run.model.parameters(), before, strict=True))


@pytest.mark.parametrize("when", ["before the work", "after it"])
def test_a_failed_capture_leaves_the_run_eager(capsys, when):
    def fails(work):
        if when == "after it":
            work()
        raise RuntimeError("operation not permitted\nwhen capturing")

    eager, graphed = Run(graphed=False), Run(graphed=True, record=fails)
    assert_same_steps(eager, graphed, [batch(seed) for seed in range(3)])
    out = capsys.readouterr().out
    reason = "the training step runs without a graph: RuntimeError: operation not permitted"
    assert out == f"note: --cuda_graph: {reason}\n" and graphed.step.failed


def test_how_a_gpu_is_asked_to_capture(monkeypatch):
    """Graphs share memory with one that is still there, and threads that pin memory don't end a capture.

    One that fails leaves torch on the capture's stream, which must not remain so.
    """
    asked, streams = [], ["usual"]

    class Graph:
        def pool(self):
            return self

        def replay(self):
            asked.append((self, "replayed"))

    @contextlib.contextmanager
    def capture(graph, *, pool, capture_error_mode):
        asked.append((graph, pool, capture_error_mode))
        streams.append("the capture's")
        yield

    @contextlib.contextmanager
    def stream(chosen):
        before = streams[-1]
        streams.append(chosen)
        try:
            yield
        finally:
            streams.append(before)

    def fails():
        raise RuntimeError("operation not permitted when capturing")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda: streams[-1])
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    record = CudaRecorder()
    for work in ("first", "second"):
        result, replay = record(lambda work=work: work)
        assert result == work
        replay()
    (first, *how), replayed, (second, *then), _ = asked
    assert how == [None, "thread_local"] and then == [first, "thread_local"] and replayed == (first, "replayed")
    assert second is record.last is not first
    with pytest.raises(RuntimeError, match="not permitted"):
        record(fails)
    assert streams[-1] == "usual" and record.last is second


def test_a_run_is_the_same_with_graphs(tiny, run, tmp_path, monkeypatch):
    """Evaluations, partial batches and a resumed run included."""
    graphs, batches = [], train.train_batches

    def dense(*args, **kwargs):  # as on a GPU
        for batch in batches(*args, **kwargs):
            yield batch._replace(features=Snippets.of(batch.features.dense()))

    def stand_in(*args, **kwargs):
        graphs.append(GraphedStep(*args, record=record_by_calling, **kwargs))
        return graphs[-1]

    monkeypatch.setattr(train, "train_batches", dense)
    assert run(tiny.path, "--exp_name", "eager", "--keep_state").code == 0
    monkeypatch.setattr(train, "has_graphs", lambda device: True)
    monkeypatch.setattr(train, "GraphedStep", stand_in)
    assert run(tiny.path, "--exp_name", "off", "--no-cuda_graph", "--num_epochs", "1").code == 0
    assert not graphs
    assert run(tiny.path, "--exp_name", "graphed", "--keep_state", "--num_epochs", "1").code == 0
    assert run(tiny.path, "--exp_name", "graphed", "--keep_state", "--resume", "--num_epochs", "3").code == 0
    assert [len(each.captured) for each in graphs] == [2, 2]
    eager, graphed = (load_checkpoint(tmp_path / "out" / name / "last.pt") for name in ("eager", "graphed"))
    assert_equal(list(eager.model.values()), list(graphed.model.values()))
    states = [checkpoint.training["optimizer"]["state"] for checkpoint in (eager, graphed)]
    for index, state in states[0].items():
        assert_equal(list(state.values()), list(states[1][index].values()))
