"""Flower's nodes in one process, for `benchmarks/flower.py`."""
