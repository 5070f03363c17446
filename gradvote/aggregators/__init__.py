"""Aggregators: M vectors to one."""

from gradvote.aggregators.bounded_mean import BoundedMean
from gradvote.aggregators.krum import Krum
from gradvote.aggregators.majority_vote import MajorityVote
from gradvote.aggregators.mean import Mean
from gradvote.aggregators.median import Median
from gradvote.aggregators.nearest_neighbour_mixing import NearestNeighbourMixing
from gradvote.aggregators.trimmed_mean import TrimmedMean

__all__ = ["BoundedMean", "Krum", "MajorityVote", "Mean", "Median", "NearestNeighbourMixing", "TrimmedMean"]
