"""Catching up: `learning` is what a process does that was away, or whose parameters are not those of most; `teaching`
what a member sends it.
"""
