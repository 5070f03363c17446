"""What `benchmarks/shapes.py` is made of: models (lists of shapes), contest (processes), rank (one of them), plot."""
