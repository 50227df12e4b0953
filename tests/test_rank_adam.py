"""The Triton kernel of layers/rank_adam.py without a GPU: in Triton's interpreter, and through its compiler."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
import torch
from support.paths import ROOT

from layers import rank_adam

with_triton = pytest.mark.skipif(not importlib.util.find_spec("triton"), reason="triton is not installed")
POINTERS = ("w", "m", "v", "g", "x", "scales", "found_inf")
SIZES = {"R": 2, "ROWS": rank_adam.TILE_ROWS, "COLUMNS": rank_adam.TILE_COLUMNS}


@with_triton
def test_in_the_interpreter():
    """In a process of its own: the interpreter is chosen once, when Triton is imported."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/interpreted_rank_adam.py"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@with_triton
@pytest.mark.parametrize("capability", [75, 80, 90])
def test_the_compiler_takes_it_and_moves_vectors(monkeypatch, tmp_path, capability):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from layers.rank_adam_kernels import begin, update

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    def compiled(kernel, aligned=()):
        kinds = dict.fromkeys(kernel.arg_names, "fp32")
        kinds |= (
            dict.fromkeys((*POINTERS, "step", "lr"), "*fp32")
            | {"N": "i32", "W": "i32"}
            | dict.fromkeys(SIZES, "constexpr")
        )
        signature = {name: kinds[name] for name in kernel.arg_names}
        sizes = {name: value for name, value in SIZES.items() if name in signature}
        attributes = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
        source = ASTSource(fn=kernel, signature=signature, constexprs=sizes, attrs=attributes)
        options = {"num_warps": rank_adam.WARPS, "enable_fp_fusion": True}
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm

    assert compiled(begin)["cubin"]
    code = compiled(update, aligned=(*POINTERS[:5], "N", "W"))
    loads, stores = (re.findall(rf"{kind}\.global\S*\.v4", code["ptx"]) for kind in ("ld", "st"))
    per_thread = SIZES["COLUMNS"] // (rank_adam.WARPS * 32) // 4
    assert code["cubin"] and len(stores) == 3 * per_thread and len(loads) == (3 + SIZES["R"]) * per_thread
    assert compiled(update)["cubin"]  # of odd sizes


def test_without_triton_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "layers.rank_adam_kernels", None)
    rank_adam.unusable.cache_clear()
    assert rank_adam.unusable(torch.device("cpu")).startswith("ModuleNotFoundError: ")
    monkeypatch.setattr(rank_adam, "DEVICES", ("cpu",))
    assert not rank_adam.takes(torch.zeros(4, 128), 1)
    rank_adam.unusable.cache_clear()
