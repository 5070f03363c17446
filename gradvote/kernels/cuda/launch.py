"""How a kernel is started: with no multiply-adds fused that are not asked for, on the device of its tensors."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

_WORD = 1 << 32


def launch(
    kernel: Any,
    programs: int,
    like: Tensor,
    *args: Any,
    num_warps: int = 4,
    maxnreg: int | None = None,
    **constants: Any,
) -> None:
    """Run `programs` programs of a Triton kernel, if any, on the device of `like`; a thread has `maxnreg` registers.

    No product and sum are fused (`enable_fp_fusion=False`): that rounds once where the definition rounds twice.
    """
    if not programs:
        return
    other = like.is_cuda and like.device.index != torch.cuda.current_device()
    with torch.cuda.device(like.device) if other else nullcontext():
        kernel[(programs,)](*args, num_warps=num_warps, maxnreg=maxnreg, enable_fp_fusion=False, **constants)


def portions(n: int, size: int) -> int:
    """How many parts of so many items n items are (`triton.cdiv`, which is slow outside of a kernel)."""
    return -(-n // size)


def halves(key: int) -> tuple[int, int]:
    """A 64-bit key as two int32: of one type whatever its value, so that no kernel is compiled twice for it."""
    low, high = key % _WORD, key >> 32
    return low - _WORD * (low >> 31), high - _WORD * (high >> 31)
