"""The papers' figures, theorems and tables as runs: `claims` holds one per file, `gradvote reproduce` runs them.

A map, in the order of a reproduction. `session` takes names of claims; a `claim` is cells, a judgement and a picture of
their records. `tuning` makes choices on samples that judge nothing. `crew` shares cells without a record out to
processes (`hands`), `pace` says how far they are, `records` keeps what was measured. A cell is a run of its own kind:
`training` (the library's loop on a part of a data set), `sweep` (many seeds and rates as one batch of matrices), `loop`
(other data or losses: `language`, `photographs`), `arena` (a formula's gradients, from `problems`). `nets`, `adaptive`,
`bucketing` and `powersgd` are what single claims bring. Out of records `statistics` and `findings` make verdicts,
`drawing` pictures, `document` (with `costs`, what medium scale takes) and `page` what is read.

Needs the extras `report` and `theory`.
"""
