"""Nodes in one process for `benchmarks/flower.py`; tasks, methods and records of `flower_accuracy.py`."""
