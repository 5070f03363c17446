"""gradvote: one-bit, fault-tolerant, non-iid-safe distributed training for PyTorch."""

__version__ = "0.1.0"
