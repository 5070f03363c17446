"""The kernels on CUDA devices, in Triton: the bits of `gradvote.kernels.reference`, at the speed of the card's memory.

`launch` starts every kernel, without fused multiply-adds; `rows` says where the rows of a tensor are; `tiles` loads and
packs parts of them; `philox` draws the words of a stream; `traced` writes straight-line Triton from formulas and
networks that stand elsewhere. Everything else is named as in `gradvote.kernels.cpu` and does the same.

Triton comes with CUDA builds of PyTorch. Its interpreter (TRITON_INTERPRET=1) runs these kernels on CPU tensors, which
is how they are tested without a card.
"""
