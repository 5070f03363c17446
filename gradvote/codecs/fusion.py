"""Momentum, error memory and signs in one pass over memory, where a codec consists of just these; the same bits."""

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.codecs.masked import Masked
from gradvote.codecs.sign import Sign
from gradvote.core import Codec, Context, Payload
from gradvote.kernels import Feedback, Inertia


def fuses(codec: Codec, *tensors: Tensor) -> bool:
    """Whether a memory before this codec can be one pass: signs, masked or not, of float32 tensors."""
    sign = codec.codec if type(codec) is Masked else codec
    alike = all(t.dtype == torch.float32 and t.shape == tensors[0].shape for t in tensors)
    return alike and type(sign) is Sign and sign.zero != "abstain" and not sign.still


def encode_fused(
    codec: Codec, x: Tensor, memory: Tensor, ratio: Tensor, inertia: Inertia | None, ctx: Context
) -> tuple[Payload, Feedback]:
    """The payload of p = momentum(x) + ratio·e, and what `kernels.feedback_step` gives."""
    sign = codec.codec if isinstance(codec, Masked) else codec
    assert isinstance(sign, Sign)
    keep = codec.mask(x.shape[-1], ctx) if isinstance(codec, Masked) else None
    scale = sign.constant(ctx)
    scale = None if scale is None else scale.float()
    step = kernels.feedback_step(x, memory, ratio, inertia, keep, sign.zeros(ctx), scale)
    planes = {"bits": step.bits} if scale is not None else {"bits": step.bits, "scale": step.scale[..., None]}
    payload = Payload(step.valid, planes)
    return (codec.compacted(payload, x.shape[-1], ctx) if isinstance(codec, Masked) else payload), step
