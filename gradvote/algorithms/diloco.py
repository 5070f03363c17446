"""DiLoCo's rounds: the mean of how far the workers' local steps led, in full precision or in 8 bits.

Douillard, Feng, Rusu, Chhaparia, Donchev, Kuncoro, Ranzato, Szlam, Shen, "DiLoCo: Distributed low-communication
training of language models", arXiv 2311.08105, Algorithm 1. For `gradvote.local_steps` with the outer optimizer
torch.optim.SGD(lr=0.7, momentum=0.9, nesterov=True) and AdamW inside.
"""

from typing import Literal

from gradvote.aggregators import Mean
from gradvote.codecs import Dense, Quantized
from gradvote.core import Algorithm
from gradvote.errors import unknown
from gradvote.fitting import check_types

LR = 0.7
BITS = (32, 32)
WORDS = ("way of local steps", "mean", "mean")
PAPER = "Douillard et al. 2023"
TRUST = "every worker"


@check_types
def diloco(
    dtype: Literal["float32", "int8"] = "float32", weights: tuple[float, ...] | None = None, block_size: int = 16384
) -> Algorithm:
    """Δ = mean_i(θ − θ_i) after H local steps each; the outer optimizer steps along Δ. 32 + 32 bits per coordinate.

    `dtype="int8"`: whole numbers of 8 bits times max|Δ_i|/127 per block, in both directions: 8 + 8 bits and 32 per
    block. (Others code 8 bits in other ways: OpenDiLoCo's successors by the means of 256 bins, torchft by float8.)
    """
    if dtype not in ("float32", "int8"):
        raise unknown("dtype of a round", dtype, ["float32", "int8"])
    codec = Dense() if dtype == "float32" else Quantized()
    return Algorithm(codec, Mean(weights), codec, block_size)
