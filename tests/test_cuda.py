"""The same code on a CUDA GPU: the CPU's results within float32 error. Skipped where there is none."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from support.networks import build_batch, build_model, build_objective
from support.trained import write_tiny_model

import main
from dataset import load_dataset, train_batches
from layers.rank_adam import MOST_ROWS, rank_adam, takes, unusable
from layers.wide_adam import WideAdam
from localizer import Localizer
from options import resolve
from run.checkpoint import load_checkpoint
from run.device import apply_precision, fetch
from run.graphs import GraphedStep
from train import build_training, compile_objective, schedule_lr, train_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU here")
CUDA = torch.device("cuda")
OPTIONS = resolve({"num_segments": 24, "feature_size": 6, "hidden_size": 8, "pseudo_extra": 2, "dropout": 0.0})


@pytest.fixture(autouse=True)
def exact():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    apply_precision("fp32")
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def steps_on(device, *, compiled=False):
    it = build_objective(OPTIONS, 3)
    it.model.to(device), it.mask.to(device)
    step = compile_objective(it, [2], 24) if compiled else it
    optimizer = WideAdam(it.model.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=5e-4)
    it.model.train()
    losses = []
    for seed in range(3):
        features = torch.rand(2, 24, 12, generator=torch.Generator().manual_seed(seed))
        batch = build_batch(features.to(device), torch.eye(3)[:2].to(device))
        losses.append(train_step(step, optimizer, batch).losses)
    return torch.stack(losses).cpu(), [p.detach().cpu() for p in it.model.parameters()]


@pytest.mark.parametrize("compiled", [False, True])
def test_training_steps(compiled):
    torch.testing.assert_close(steps_on(CUDA, compiled=compiled), steps_on("cpu"), rtol=1e-4, atol=1e-5)


def test_a_step_waits_for_nothing():
    it = build_objective(OPTIONS, 3)
    it.model.to(CUDA), it.mask.to(CUDA)
    batch = build_batch(torch.rand(2, 24, 12).to(CUDA), torch.eye(3)[:2].to(CUDA))
    optimizer = WideAdam(it.model.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=5e-4)
    train_step(it, optimizer, batch)
    one = torch.ones(1, device=CUDA)
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step(it, optimizer, batch)
        with pytest.raises(RuntimeError):
            one.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton is not installed")
@pytest.mark.parametrize("shape", [(1, 1), (7, 1300), (20, 4096), (512, 64 * 64)], ids=str)
@pytest.mark.parametrize("rows", [1, 2, 6, MOST_ROWS])
def test_adam_from_factors(shape, rows):
    """The kernel's steps are those of torch's fused Adam, one that found_inf forbids included."""
    assert unusable(torch.device("cuda", torch.cuda.current_device())) == ""
    generator = torch.Generator(CUDA).manual_seed(0)
    draw = lambda *shape: torch.randn(shape, generator=generator, device=CUDA)  # noqa: E731
    plain = torch.nn.Parameter(draw(*shape))
    settings = {"lr": 0.01, "betas": (0.9, 0.999), "weight_decay": 0.1}
    optimizer = torch.optim.Adam([plain], fused=True, **settings)
    w, m, v = plain.detach().clone(), *torch.zeros(2, *shape, device=CUDA).unbind()
    step = torch.zeros((), device=CUDA)
    assert takes(w, rows) and not takes(w, MOST_ROWS + 1)
    for found in (0.0, 1.0, 0.0):
        g, x = draw(rows, shape[0]), draw(rows, shape[1])
        found_inf = torch.full((), found, device=CUDA)
        rank_adam(w, m, v, g, x, step=step, found_inf=found_inf, eps=1e-8, **settings)
        if not found:
            plain.grad = g.t() @ x
            optimizer.step()
        state = optimizer.state[plain]
        expected = (plain.detach(), state["exp_avg"], state["exp_avg_sq"], state["step"])
        torch.testing.assert_close((w, m, v, step), expected, rtol=1e-5, atol=1e-5)


TAUGHT = {
    **{"pseudo_source": "classes", "mil_rank": "cas", "mil_competition": 0.5},
    **{"teacher_decay": 0.9, "lr_schedule": "cosine"},
}


def graphed_or_not(*, graphed, flags):
    """Losses of steps with dropout, two sizes of batch among them, and the weights and statistics after them."""
    sizes = {"num_segments": 24, "feature_size": 6, "hidden_size": 8, "pseudo_extra": 2, "dropout": 0.5, "lr": 1e-3}
    options = resolve({**sizes, **flags})
    it, optimizer = build_training(build_model(options, 3).to(CUDA), options, CUDA)
    it.model.train()
    step = lambda batch: train_step(it, optimizer, batch, teacher=it.teacher)  # noqa: E731
    if graphed:
        step = GraphedStep(step, model=it.model, mask=it.mask, optimizer=optimizer)
    torch.manual_seed(5)
    found = []
    for seed, size in enumerate((2, 2, 1, 2, 1, 2)):
        features = torch.rand(size, 24, 12, generator=torch.Generator().manual_seed(seed)).to(CUDA)
        schedule_lr(optimizer, options.optimisation, step=seed, total_steps=6)
        result = step(build_batch(features, torch.eye(3)[:size].to(CUDA)))
        found += [result.losses, result.targets.weight.clone()]
    assert not graphed or (len(step.captured) == 2 and not step.failed)
    taught = it.teacher.tensors if it.teacher else []
    weights = [value.detach() for value in (*it.model.parameters(), *taught)]
    return [*found, *weights, *it.mask.buffers(), torch.cuda.get_rng_state()]


@pytest.mark.parametrize("flags", [{}, TAUGHT], ids=["published", "taught"])
def test_a_graph_computes_what_eager_steps_do(flags):
    numbers = [graphed_or_not(graphed=graphed, flags=flags) for graphed in (True, False)]
    for ours, theirs in zip(*numbers, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "how", [[], [f"--{name}={value}" for name, value in (TAUGHT | {"w_self": 1}).items()]], ids=["published", "taught"]
)
def test_a_run_is_the_same_with_and_without_graphs(tiny, run, tmp_path, how):
    for name, flags in (("graphed", []), ("eager", ["--no-cuda_graph"])):
        outcome = run(tiny.path, "--exp_name", name, "--device", "cuda", *how, *flags)
        assert outcome.code == 0 and "--cuda_graph:" not in outcome.out
    graphed, eager = (load_checkpoint(tmp_path / "out" / name / "last.pt").model for name in ("graphed", "eager"))
    assert all(torch.equal(graphed[name], eager[name]) for name in eager)


def test_batches_are_those_of_the_cpu(tiny):
    def batches(cache, device):
        options = resolve({"feature_size": 6, "cache": cache, "num_segments": 20, "pseudo_extra": 0})
        data = load_dataset(tiny.path, options.data, device=device)
        steps = {"optimisation": options.optimisation, "seed": 1, "first_step": 0, "last_step": 8}
        return list(train_batches(data.train, options.data, **steps))

    expected = batches("ram", torch.device("cpu"))
    for cache in ("device", "ram", "mmap", "auto"):
        for a, b in zip(expected, batches(cache, CUDA), strict=True):
            dense = b.features.dense()
            assert dense.is_cuda and torch.equal(a.features.dense(), dense.cpu())
            assert torch.equal(a.labels, b.labels.cpu()) and a.video_ids == b.video_ids


def test_fetch():
    values = torch.arange(5.0, device=CUDA)
    (array,) = fetch(values * 2)()
    assert array.tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("flags", [[], ["--precision", "bf16"], ["--cache", "ram"], ["--compile"]], ids=str)
def test_a_run(tiny, run, tmp_path, flags):
    assert run(tiny.path, "--exp_name", "x", "--device", "cuda", *flags).code == 0
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert results["device"] == "cuda:0" and results["precision"] in ("tf32", "bf16", "fp32")
    assert run(tiny.path, "--exp_name", "x", "--device", "cuda", "--inference_only").code == 0


@pytest.mark.parametrize("flags", [[], ["--compile"]], ids=str)
def test_a_run_with_short_videos(tiny, run, tmp_path, flags):
    """Test videos of many lengths, in batches of one length each."""
    recipe = ["--dataset", "activitynet1.3", "--batch_size", "2", "--num_segments", "40", "--class_th", "0"]
    place = ["--data_path", str(tiny.path), "--output_dir", str(tmp_path / "out"), "--exp_name", "x"]
    sizes = ["--feature_size", "6", "--hidden_size", "8", "--num_iters", "5", "--device", "cuda"]
    assert main.main([*place, *recipe, *sizes, *flags]) == 0
    last = tmp_path / "out" / "x" / "last.pt"
    found = {}
    for device in ("cpu", "cuda"):
        flags = ["--inference_only", "--model_file", str(last), "--device", device, "--precision", "fp32"]
        assert main.main([*place[:4], "--exp_name", device, *flags]) == 0
        results = json.loads((tmp_path / "out" / device / "inference" / "detections.json").read_text())["results"]
        found[device] = {video: [d["score"] for d in detections] for video, detections in results.items()}
    assert found["cpu"].keys() == found["cuda"].keys()
    for video, scores in found["cpu"].items():
        assert scores == pytest.approx(found["cuda"][video], abs=1e-4)


def test_training_at_activitynets_size_takes_less_than_16_gib():
    options = resolve({"dataset": "activitynet1.3"})
    it = build_objective(options, 200)
    it.model.to(CUDA), it.mask.to(CUDA)
    it.model.train()
    optimizer = WideAdam(it.model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=5e-4)
    features, labels = torch.rand(32, 50, 2048, device=CUDA), torch.eye(200, device=CUDA)[:32]
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        train_step(it, optimizer, build_batch(features, labels))
    assert torch.cuda.max_memory_reserved() < 16 * 2**30


def test_the_localizer_on_a_gpu_leaves_torch_as_it_is(tmp_path):
    """The curves are the CPU's within float32 error; torch's settings stay the caller's, whatever the model computes with."""
    path = write_tiny_model(tmp_path / "m.pt")
    features = np.random.default_rng(0).random((50, 12)).astype(np.float32)
    expected = Localizer.load(path, device="cpu").sequences(features)
    before = torch.cuda.get_rng_state()
    exact = Localizer.load(path, device="cuda", precision="fp32").sequences(features)
    np.testing.assert_allclose(exact.combined, expected.combined, rtol=1e-4, atol=1e-5)
    assert Localizer.load(path, device="cuda:0")(features)  # tf32, on a GPU that has it
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert torch.equal(torch.cuda.get_rng_state(), before)
