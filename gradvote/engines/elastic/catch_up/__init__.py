"""Catching up: `learning` is what a process does that was away, `teaching` what a member sends it."""
