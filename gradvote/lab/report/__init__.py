"""What a run left behind, shown: `records` reads run folders, `html` writes the report, `console` prints a table.

A map. `records` reads a run folder back; `finding` says in sentences what came of a scene. `columns` is the one list
of the comparison table, `format` how numbers read, for `console` and `html` alike. The page is `html` with `view` (what
its template shows); its figures are `plots` and `classes`, on `axes`, in `style`, inlined by `svg`.

Reading needs the standard library alone; `html` and `plots` need the extra `report`, `console` the extra `cli`.
"""

from gradvote.lab.report.records import Run, Scene, load_run

__all__ = ["Run", "Scene", "load_run"]
