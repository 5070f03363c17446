"""What a run left behind, shown: `records` reads run folders, `html` writes the report, `console` prints a table.

Reading needs the standard library alone; `html` and `plots` need the extra `report`, `console` the extra `cli`.
"""

from gradvote.lab.report.records import Run, Scene, load_run

__all__ = ["Run", "Scene", "load_run"]
