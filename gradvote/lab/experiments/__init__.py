"""The papers' figures, theorems and tables as runs: `claims` holds one per file, `gradvote reproduce` runs them.

Needs the extras `report` and `theory`.
"""
