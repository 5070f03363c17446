"""Aggregators: M vectors to one."""

from gradvote.aggregators.majority_vote import MajorityVote
from gradvote.aggregators.mean import Mean
from gradvote.aggregators.median import Median
from gradvote.aggregators.trimmed_mean import TrimmedMean

__all__ = ["MajorityVote", "Mean", "Median", "TrimmedMean"]
