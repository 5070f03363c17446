"""What `benchmarks/language_model.py` is made of: plan (which runs), runs (one of them), records, showing."""
