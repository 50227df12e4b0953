"""--precision: what "auto" becomes, what is refused, and that results name it."""

import json

import pytest
import torch

from run.device import apply_precision, choose_precision
from utils.errors import InputError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def capability(monkeypatch):
    return lambda *value: monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: value)


@pytest.fixture(autouse=True)
def restored():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_auto(capability):
    assert choose_precision("auto", CPU) == "fp32"
    capability(8, 0)
    assert choose_precision("auto", CUDA) == "tf32"
    capability(7, 5)
    assert choose_precision("auto", CUDA) == "fp32"


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_what_a_gpu_does_not_have_is_refused(capability, name):
    capability(9, 0)
    assert choose_precision(name, CUDA) == name
    capability(7, 5)
    with pytest.raises(InputError, match=f"--precision {name}: cuda has no .*; give --precision fp32"):
        choose_precision(name, CUDA)


def test_tf32_on_a_cpu_is_refused(tiny, run):
    outcome = run(tiny.path, "--precision", "tf32")
    assert outcome.code == 2 and "--precision tf32: cpu has no TF32" in outcome.err


@pytest.mark.parametrize(
    ("precision", "tf32", "dtype"),
    [("fp32", False, torch.float32), ("tf32", True, torch.float32), ("bf16", True, torch.bfloat16)],
)
def test_apply(precision, tf32, dtype):
    assert apply_precision(precision) == dtype
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32


def test_bf16_is_in_the_results_and_keeps_float32_weights(tiny, run, tmp_path):
    assert run(tiny.path, "--exp_name", "x", "--precision", "bf16").code == 0
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert (results["precision"], results["device"], results["options"]["precision"]) == ("bf16", "cpu", "bf16")
    checkpoint = torch.load(tmp_path / "out" / "x" / "best.pt", weights_only=True)
    assert {value.dtype for value in checkpoint["model"].values()} == {torch.float32}
    assert run(tiny.path, "--exp_name", "x", "--inference_only").code == 0
    inference = json.loads((tmp_path / "out" / "x" / "inference" / "results.json").read_text())
    assert inference["precision"] == "bf16"  # as it was trained
    assert run(tiny.path, "--exp_name", "x", "--inference_only", "--precision", "fp32").code == 0


def test_auto_is_named_for_what_it_was(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x")
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert (results["precision"], results["options"]["precision"]) == ("fp32", "auto")
