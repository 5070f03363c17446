"""Compile every kernel that some calls start for an H100, on this processor, and read what came out.

    python -m tests.kernels.cuda.compiled

The interpreter rounds each operation; a compiler may fuse a product and a sum, divide approximately, or take small
numbers for zero. So `launch` is replaced by one that compiles the kernel for the arguments it was given, once per kind
of them.
"""

import importlib
import pkgutil
import re
import sys
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import gradvote.kernels.cuda as room

WRONG = re.compile(r"\bfma\.|\bmad\.\w*\.?f(32|64)|div\.full|\.approx|\.ftz")
"""Instructions that do not round as PyTorch's operations do."""
FUSED = re.compile(r"\bfma\.rn\.f32")
"""What `settled` asks for, of whose numbers no more than a bound is wanted."""
ASKED = re.compile(r"call .*@llvm\.fma\.(?:v(\d+))?f32")
MAY_ASK = ("gradvote.kernels.cuda.noisy_signs", "gradvote.kernels.cuda.ragged_signs")
"""Where kernels stand whose text may ask for fused products and sums: those that call `settled`."""
TARGET = GPUTarget("cuda", 90, 32)
_TYPES = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.float16: "*fp16",
    torch.int64: "*i64", torch.int32: "*i32", torch.uint8: "*u8", torch.int8: "*i8", torch.bool: "*i1",
}  # fmt: skip


class Compiler:
    """What stands for `launch`: PTX by (kernel, types of the arguments, constants)."""

    def __init__(self) -> None:
        self.ptx: dict[tuple[str, str], str] = {}
        self.asked: dict[tuple[str, str], int] = {}
        """How many fused instructions the kernel's text asks for; the compiler is to add none."""

    def __call__(
        self,
        kernel: Any,
        programs: int,
        like: Tensor,
        *args: Any,
        num_warps: int = 4,
        maxnreg: int | None = None,
        **constants: Any,
    ) -> None:
        types = dict(zip(kernel.arg_names, map(_type, args), strict=False)) | dict.fromkeys(constants, "constexpr")
        key = (kernel.__name__, repr((types, constants)))
        if key in self.ptx or not programs:
            return
        source = ASTSource(kernel, types, constants)
        options = {"enable_fp_fusion": False, "num_warps": num_warps, "maxnreg": maxnreg}
        made = triton.compile(source, target=TARGET, options=options).asm
        self.ptx[key] = made["ptx"]
        asked = ASKED.findall(made["llir"]) if kernel.fn.__module__ in MAY_ASK else ()
        self.asked[key] = sum(int(lanes or 1) for lanes in asked)

    def wrong(self) -> list[str]:
        """A line for each instruction that is not allowed, or for all of a kernel that are more than it asks for."""
        found = []
        for key, ptx in self.ptx.items():
            lines = [line.strip() for line in ptx.splitlines() if WRONG.search(line)]
            if sum(bool(FUSED.search(line)) for line in lines) == self.asked[key]:
                lines = [line for line in lines if not FUSED.search(line)]
            found += [f"{key}: {line}" for line in lines]
        return found


def _type(arg: object) -> str:
    if isinstance(arg, Tensor):
        return _TYPES[arg.dtype]
    if isinstance(arg, float):
        return "fp32"
    assert isinstance(arg, int)
    return "i32" if -(2**31) <= arg < 2**31 else "i64"


def everything() -> Compiler:
    """Compile what the calls in `tests.kernels.cuda.calls` start."""
    compiler = Compiler()
    for module in pkgutil.iter_modules(room.__path__):
        loaded = importlib.import_module(f"{room.__name__}.{module.name}")
        if hasattr(loaded, "launch") and module.name != "launch":
            loaded.launch = compiler
    calls = importlib.import_module("tests.kernels.cuda.calls")
    for call in calls.CALLS:
        call()
    return compiler


if __name__ == "__main__":
    done = everything()
    found = done.wrong()
    print(f"{len(done.ptx)} kernels compiled for sm_90, {len(found)} instructions that round in another way")
    print(*found[:20], sep="\n")
    sys.exit(bool(found) or not done.ptx)
