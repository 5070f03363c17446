"""What `benchmarks/gpu.py` measures on a CUDA device: results first, then times."""
