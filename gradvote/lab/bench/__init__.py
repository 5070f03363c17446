"""Measurements on the machine at hand; every figure is of a run whose result was verified."""
