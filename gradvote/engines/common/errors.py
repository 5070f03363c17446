"""Errors that more than one engine raises."""


class Equivocation(RuntimeError):
    """A worker's ballots are not the same for all: the run must stop, as its copies would drift apart."""


class LinkBroken(RuntimeError):
    """A collective call failed here: some rank is gone, or did not answer in time."""
