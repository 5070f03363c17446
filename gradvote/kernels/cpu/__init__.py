"""Kernels for the CPU (numba); each returns the bits of its definition in `gradvote.kernels.reference`."""
