"""Votes in the training loops of others, each in a file of its own: `transformers`, `lightning`, `accelerate`.

Import the one that you use, as in `from gradvote.integrations.transformers import VoteCallback`; each needs its extra.
"""
