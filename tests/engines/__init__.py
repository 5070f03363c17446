"""Engines: `common`, `elastic` and `torchft` mirror the folders of gradvote/engines; files here test the others.

Files `*_workers.py` hold what each rank of a spawned world runs, `simulations` and `leftovers` what tests share.
"""
