"""What leaves every bit of a run as it is, --deterministic, and what results.json says of last bits."""

import json
import os

import numpy as np
import pytest
import torch
from support.disk import complaint
from support.tiny import FEATURE_SIZE
from support.trained import write_tiny_model

import main
from localizer import Localizer
from run import torch_settings
from run.checkpoint import load_checkpoint
from run.torch_settings import WORKSPACE, torch_unchanged, use_deterministic
from utils.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FIXED = ("--eval_workers", "0", "--products", "blas", "--save_minutes", "0")


@pytest.fixture(autouse=True)
def unchanged():
    with torch_unchanged():
        yield


@pytest.fixture
def trained(tiny, run, tmp_path):
    """trained(name, *flags): everything that a run of that name has computed, bit for bit."""

    def call(name, *flags):
        outcome = run(tiny.path, "--exp_name", name, *FIXED, *flags)
        assert outcome.code == 0, outcome.err
        folder = tmp_path / "out" / name
        results = json.loads((folder / "results.json").read_text())
        weights = load_checkpoint(folder / "best.pt").model
        return {
            "weights": {parameter: value.numpy().tobytes() for parameter, value in weights.items()},
            "detections": (folder / "detections_best.json").read_bytes(),
            "best": results["best"],
            "last": results["last"],
            "losses": results.get("losses"),
        }

    return call


@pytest.mark.parametrize(
    "flags",
    [
        ("--num_workers", "0"),
        ("--num_workers", "3"),
        ("--cache", "mmap"),
        ("--cache", "device"),
        ("--cache", "mmap", "--num_workers", "4"),
        ("--deterministic",),
        ("--deterministic", "--cache", "device"),
        ("--save_minutes", "60", "--save_epochs", "2", "--log_steps", "1", "--verbose"),
    ],
    ids=" ".join,
)
def test_what_changes_no_bit(trained, flags):
    assert trained("other", *flags) == trained("usual", "--cache", "ram")


def test_batches_of_another_size_in_test_change_no_weights(trained):
    """What is detected may differ in last bits."""
    assert trained("other", "--test_batch_size", "1")["weights"] == trained("usual")["weights"]


def test_deterministic_lasts_for_a_run_and_its_inference(tiny, run, tmp_path, monkeypatch):
    seen = []
    real = torch.use_deterministic_algorithms
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on, **more: (seen.append(on), real(on, **more)))
    assert run(tiny.path, "--exp_name", "x", *FIXED, "--deterministic", "--num_epochs", "1").code == 0
    resumed = run(tiny.path, "--exp_name", "x", *FIXED, "--resume", "--num_epochs", "2")
    assert resumed.code == 0 and "its numbers may differ" not in resumed.out
    assert run(tiny.path, "--exp_name", "x", "--inference_only").code == 0
    assert seen == [True] * 3 and torch.are_deterministic_algorithms_enabled()
    changed = run(tiny.path, "--exp_name", "x", *FIXED, "--resume", "--num_epochs", "3", "--no-deterministic")
    assert "the run had --deterministic on (now off): its numbers may differ" in changed.out
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("own", [(False, False), (True, False), (True, True)])
def test_a_localizer_leaves_the_callers_setting(tmp_path, own):
    torch.use_deterministic_algorithms(own[0], warn_only=own[1])
    torch.backends.cudnn.benchmark = True
    features = np.random.default_rng(0).random((30, 2 * FEATURE_SIZE)).astype(np.float32)
    found = {}
    for deterministic in (False, True):
        model = Localizer.load(write_tiny_model(tmp_path / "m.pt"), device="cpu", deterministic=deterministic)
        during = []
        model.network.register_forward_hook(
            lambda *_, during=during: during.append(torch.are_deterministic_algorithms_enabled())
        )
        found[deterministic] = model(features)
        assert during == [deterministic or own[0]]
        after = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        assert after == own and torch.backends.cudnn.benchmark
    assert found[False] == found[True]


@pytest.mark.parametrize("given", [None, ":4096:8", ":16:8", ":0:0"])
@pytest.mark.parametrize("started", [False, True])
def test_the_workspace_of_cublas(monkeypatch, given, started):
    """It is set before CUDA starts; a process in which it has started without is refused."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: started)
    monkeypatch.delenv(WORKSPACE, raising=False)
    if given:
        monkeypatch.setenv(WORKSPACE, given)
    if started and given not in torch_settings.FIXED:
        with pytest.raises(InputError, match=f"--deterministic: CUDA has started already; set {WORKSPACE}=:4096:8"):
            use_deterministic(True, CUDA)
        assert not torch.are_deterministic_algorithms_enabled()
    else:
        use_deterministic(True, CUDA)
        assert os.environ.pop(WORKSPACE) == (given if given in torch_settings.FIXED else ":4096:8")
        assert torch.are_deterministic_algorithms_enabled()


def test_off_and_on_a_cpu_nothing_is_set_for_cublas(monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)
    use_deterministic(True, CPU)
    use_deterministic(False, CUDA)
    assert WORKSPACE not in os.environ and not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_a_deterministic_form_is_one_line(tiny, run, monkeypatch):
    """As torch itself says it of one on a CPU."""

    def median(*_, **__):
        torch.zeros(3).put_(torch.tensor([0]), torch.zeros(1))

    monkeypatch.setattr("losses.mil_loss", median)
    outcome = run(tiny.path, "--deterministic")
    line = complaint(outcome.code, outcome.err)
    assert line.endswith(
        "--deterministic: this torch has no deterministic form of put_ on this device; leave the flag out"
    )


def test_what_last_bits_depend_on_is_said(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x", "--threads", "1", "--num_epochs", "1", *FIXED)
    said = json.loads((tmp_path / "out" / "x" / "results.json").read_text())["last_bits"]
    flags = "--precision fp32, --compile off, --products blas, --test_batch_size 32, --threads 1"
    assert "to the last bit, on the same processor (cpu, " in said and f"with the same versions and {flags}." in said
    assert "stopping and resuming there change none of them" in said
    np.save(tmp_path / "v.npy", np.ones((9, 2 * FEATURE_SIZE), np.float32))
    model = str(write_tiny_model(tmp_path / "m.pt"))
    flags = ["--model_file", model, "--device", "cpu", "--threads", "1", "--out", str(tmp_path / "p")]
    assert main.main(["--predict", str(tmp_path / "v.npy"), *flags]) == 0
    assert "--threads 1" in json.loads((tmp_path / "p" / "results.json").read_text())["last_bits"]
