"""Kernels for the CPU (numba); each returns the bits of its definition in `gradvote.kernels.reference`.

A map. What the table in `gradvote.kernels` names: `signs`, `bits`, `units`, `noisy`, `draws`, `compaction`, `kept`,
`vote`, `order`, `trees`, `averages`, `adam`, `feedback`, `rounding`.

Rows of unequal length, all groups of a layout in one call: `ragged_signs`, `ragged_bits`, `ragged_feedback`,
`ragged_adam` and `ragged_bytes` go through them by `ragged_rows` and call the kernels above for each.

What these are made of: `blocks` and `rows` say where numbers lie in memory, `formats` how they are read; `ballots` and
`count` vote on packed bits; `columns`, `networks`, `ranks` and `sums` go through tables of rows; `philox` and
`formulas` are the draws and quantiles.

How machine code is written and kept: `emit`, `lanes` and `loops` write it, `jit` compiles it, `kept_code` keeps it on
disk, `threads` shares work out, `spare` reuses memory.
"""
