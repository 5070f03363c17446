"""Imported once by the server that forks the workers and the ranks of the tests.

What it has imported is frozen: a search of all live objects, as engines begin with, would else touch and so copy it
all in every fork.
"""

import gc

from tests.engines.elastic.worker import warm_up

warm_up()
gc.collect()
gc.freeze()
