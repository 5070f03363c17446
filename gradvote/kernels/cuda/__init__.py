"""The kernels on CUDA devices, in Triton: the bits of `gradvote.kernels.reference`, at the speed of the card's memory.

A map. What the table in `gradvote.kernels` names: `signs`, `bits`, `units`, `noisy` and `noisy_signs`, `draws`,
`compaction`, `kept`, `vote`, `order`, `trees`, `averages`, `adam`, `feedback`.

Rows of unequal length, all groups of a layout in one call: `ragged_signs`, `ragged_bits`, `ragged_feedback`,
`ragged_adam` and `ragged_bytes`; `tables` tells each program where its row stands, and the tiles' bodies are those of
the kernels above.

What these are made of: `launch` starts every kernel, which fuses nothing; `rows` and `columns` say where the rows of
one tensor and of M workers are; `tiles` loads and packs parts of them; `philox` draws the words of a stream; `formulas`
are the quantiles, `settled` a bound that spares most of one (and fuses); `feedback_rows` holds short rows whole, and
`feedback_parts` is what it has in common with `feedback`; `traced` writes straight-line Triton from formulas and
networks that stand elsewhere.

Triton comes with CUDA builds of PyTorch. Its interpreter (TRITON_INTERPRET=1) runs these kernels on CPU tensors, which
is how they are tested without a card.
"""
