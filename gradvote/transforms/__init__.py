"""Transforms: what a worker does to its update before the codec."""

from gradvote.transforms.adam import Adam
from gradvote.transforms.clip import Clip
from gradvote.transforms.momentum import Ema, LionMomentum, Momentum
from gradvote.transforms.noise import Noise, OwnNoise, Relative
from gradvote.transforms.size import Size

__all__ = ["Adam", "Clip", "Ema", "LionMomentum", "Momentum", "Noise", "OwnNoise", "Relative", "Size"]
