"""Catching up: `learning` is what a process does that was away, `teaching` what a member sends it.

`healing` is the same for a member whose parameters are not those of most.
"""
