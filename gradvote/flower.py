"""Flower's front door: `GradVote` is the strategy of a ServerApp, `client_mod` the first mod of a ClientApp.

Needs `pip install 'gradvote[flower]'`.
"""

from gradvote.engines.flower.client import client_mod
from gradvote.engines.flower.median import NanSafeMedian, NanSafeTrimmedMean
from gradvote.engines.flower.strategy import GradVote, VotedResult

__all__ = ["GradVote", "NanSafeMedian", "NanSafeTrimmedMean", "VotedResult", "client_mod"]
