"""Fuzzing of every parser of bytes that come from a peer.

    python -m tests.fuzz --runs 1000000            # all targets, one after another; needs atheris (pip install atheris)
    python -m tests.fuzz frames records --runs 100000 --seed 3

target        what a target is: a parser, what it may raise, sound inputs to begin with
__main__      the command; child: one target under atheris
parsers       the targets: frames, greetings, texts, snapshots, messages
members       the targets that need a member of a run: ballots, states, memories, whole frames of any kind
mutations     a small mutator, for the replay in CI, where there is no atheris
test_replay   some hundred inputs for each target, the same ones each time
"""
