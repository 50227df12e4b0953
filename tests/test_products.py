"""Products by either library are the same numbers, and the choice between them is stable, kept and recorded."""

import json

import pytest
import torch

from layers import products
from layers.products import batched_product, current_library, fastest_library, product, use_library
from layers.second_order import bilinear_pool
from run.device import choose_products
from utils.errors import InputError

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def library_restored():
    before = current_library()
    yield
    use_library(before)


def layouts(rows, columns):
    """A matrix row by row, column by column, and as some columns of a wider one."""
    x = torch.randn(rows, columns)
    return {"rows": x, "columns": x.t().contiguous().t(), "strided": torch.cat([x, x], 1)[:, :columns]}


@needs_onednn
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 5, 2), (40, 64, 96)])
def test_either_library_gives_the_product(sizes, monkeypatch):
    monkeypatch.setattr(products, "SMALL", 0)
    m, k, n = sizes
    for a in layouts(m, k).values():
        for b in layouts(n, k).values():
            expected = a @ b.t()
            for library in ("blas", "onednn"):
                use_library(library)
                torch.testing.assert_close(product(a, b), expected, rtol=1e-4, atol=1e-4)
                assert product(a, b).is_contiguous()
                pair = batched_product(torch.stack([a, -a]), torch.stack([b, b]))
                torch.testing.assert_close(pair, torch.stack([expected, -expected]), rtol=1e-4, atol=1e-4)


@needs_onednn
def test_onednn_takes_large_float32_products_alone(monkeypatch):
    calls = []
    monkeypatch.setattr(products, "by_convolution", lambda a, b: calls.append(a.dtype) or a @ b.t())
    use_library("onednn")
    small, large = torch.ones(2, 3), torch.ones(64, 1024)
    product(small, small)
    product(large.double(), large.double())
    assert not calls
    product(large, large)
    bilinear_pool(torch.ones(2, 1024, 64))
    assert calls == [torch.float32] * 3


@pytest.mark.parametrize(("onednn_takes", "chosen"), [(0.5, "onednn"), (0.9, "blas"), (1.0, "blas"), (3.0, "blas")])
def test_only_a_clear_advantage_counts(monkeypatch, onednn_takes, chosen):
    """Near 1 noise would decide, and last bits would change from run to run."""
    clock = [0.0]
    monkeypatch.setattr(products, "TRIAL_SIZES", (2, 3, 4))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(products.time, "perf_counter", lambda: clock[0])

    def taking(seconds):
        def multiply(a, b):
            clock[0] += seconds
            return a @ b.t()

        return multiply

    monkeypatch.setattr(products.torch, "mm", lambda a, b: taking(1.0)(a, b.t()))
    monkeypatch.setattr(products, "by_convolution", taking(onednn_takes))
    assert fastest_library.__wrapped__(1) == chosen


def test_without_onednn_blas_is_taken_and_the_other_refused(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert fastest_library.__wrapped__(1) == "blas" and choose_products("auto", CPU, "bf16") == "blas"
    with pytest.raises(InputError, match="--products onednn: this torch was built without oneDNN; give"):
        choose_products("onednn", CPU, "fp32")


@needs_onednn
def test_a_run_records_its_library_and_resume_keeps_it(tiny, run, tmp_path):
    first = run(tiny.path, "--exp_name", "x", "--products", "onednn", "--num_epochs", "1")
    assert first.code == 0 and "products: onednn" in first.out
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert results["products"] == results["options"]["products"] == "onednn"
    same = run(tiny.path, "--exp_name", "x", "--resume", "--num_epochs", "2").out
    assert "products: onednn" in same and "its numbers may differ" not in same
    other = run(tiny.path, "--exp_name", "x", "--resume", "--products", "blas", "--num_epochs", "3").out
    assert "the run had --products onednn (now blas): its numbers may differ" in other


@pytest.mark.parametrize("here", [True, False])
def test_verbose_says_why_products_go_to_blas(tiny, run, monkeypatch, here):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: here)
    monkeypatch.setattr("run.device.fastest_library", lambda threads: "blas")
    why = "oneDNN is not clearly faster here" if here else "this torch has no oneDNN"
    line = f"note: large products are left to torch's BLAS: {why}\n"
    flags = ("--num_epochs", "1", "--exp_name")
    assert run(tiny.path, "--verbose", *flags, "a").out.count(line) == 1
    assert line not in run(tiny.path, *flags, "b").out
    assert line not in run(tiny.path, "--verbose", "--products", "blas", *flags, "c").out
