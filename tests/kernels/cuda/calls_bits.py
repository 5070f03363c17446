"""Calls of the kernels of `gradvote.kernels.cuda.bits`, `kept`, `compaction` and `units`."""

from collections.abc import Callable
from functools import partial

import torch

from gradvote.core import Units
from gradvote.kernels.cuda import bits, compaction, kept, units
from tests.kernels.cuda.both import there
from tests.kernels.inputs import DTYPES, coordinates, words_like

WORDS, KEEP, MANY = words_like((2, 8), 1), words_like((2, 8), 2), words_like((2, 2000), 3)
CUT = Units(100, torch.tensor([3, 5]))

CALLS: list[Callable[[], object]] = [
    partial(bits.count_bits, there(WORDS)),
    partial(bits.unpack_bits, there(WORDS), 512),
    partial(bits.pack_bits, there(torch.ones(2, 512, dtype=torch.bool))),
    *(
        partial(bits.unpack_signs, *there((WORDS, n, scale, torch.zeros(2, n, dtype=dtype), add)))
        for n, dtype in ((512, DTYPES[0]), (511, DTYPES[0]), *((512, dtype) for dtype in DTYPES[1:]))
        for scale in (0.5, torch.ones(2))
        for add in (True, False)
    ),
    partial(kept.unpack_kept, *there((WORDS, KEEP, 512, torch.ones(2)))),
    *(
        partial(kept.mean_signs, *there((words_like((3, 2, 8), 1), keep, 512, torch.ones(3, 2), torch.ones(2))))
        for keep in (None, words_like((3, 2, 8), 2))
    ),
    partial(kept.mean_signs, *there((words_like((9, 2, 8), 1), None, 512, torch.ones(9, 2), torch.ones(2)))),
    *(partial(compaction.compact, *there((words, words, 4))) for words in (WORDS, MANY)),
    *(partial(compaction.expand, *there((words, words))) for words in (WORDS, MANY)),
    *(partial(units.whole_units, there(WORDS), 512, own) for own in (Units(), CUT)),
    *(partial(units.outside_units, there(WORDS), 512, own) for own in (Units(), CUT)),
    *(partial(units.still_pack_signs, there(coordinates((2, 512), dtype, 1)), True, Units()) for dtype in DTYPES),
]
