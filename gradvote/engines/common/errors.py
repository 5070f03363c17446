"""Errors that more than one engine raises."""


class Equivocation(RuntimeError):
    """A worker's ballots are not the same for all: the run must stop, as its copies would drift apart."""


class LinkBroken(RuntimeError):
    """A collective call failed here: some rank is gone, or did not answer in time."""


class ParametersDiffer(RuntimeError):
    """Workers hold different parameters: a bit turned in a memory, or a script changed a value on some of them only."""
