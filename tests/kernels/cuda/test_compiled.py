"""No compiled kernel fuses, approximates or flushes: what the interpreter cannot show."""

import os
import subprocess
import sys

import torch

FUSED = """
from tests.kernels.cuda import compiled
from gradvote.kernels.cuda.averages import _average
from triton.compiler import ASTSource
import triton
kinds = dict.fromkeys(_average.arg_names, "i32") | dict.fromkeys(("beta", "gain"), "fp32")
kinds |= dict.fromkeys(("old", "x", "new", "kept"), "*fp32") | {"whole": "*i1"}
kinds |= {"UNIT": "constexpr", "TILE": "constexpr"}
for fused in (True, False):
    source = ASTSource(_average, kinds, {"UNIT": 8, "TILE": 1024})
    made = triton.compile(source, target=compiled.TARGET, options={"enable_fp_fusion": fused})
    print(bool(compiled.WRONG.search(made.asm["ptx"])))
"""
"""A program that says whether Triton fuses, allowed to and not."""


def test_every_kernel_compiled_for_a_card_rounds_as_pytorch_does() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.kernels.cuda.compiled"]
    run = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr[-2000:]
    assert " 0 instructions" in run.stdout


def test_a_product_and_a_sum_that_are_fused_would_give_other_bits() -> None:
    """Rounded once, β·old + γ·x is another number; and Triton does fuse them where it may."""
    old, x = (torch.randn(1000, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    twice = old * 0.9 + x * 0.25  # a quarter is exact, so that in float64 only the first product rounds, beyond 53 bits
    once = (old.double() * torch.tensor(0.9).double() + x.double() * 0.25).float()
    assert not torch.equal(twice, once)
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, "-c", FUSED], check=True, capture_output=True, text=True, env=environment)
    assert run.stdout.split() == ["True", "False"]
