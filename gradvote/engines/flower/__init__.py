"""Flower: a strategy for the ServerApp, a mod for the ClientApp; one-bit rounds both ways.

A round in order. `asking` asks the nodes that `roster` draws for the `strategy`, with one shared record and the
decisions that each has missed (`records`). On the client `client` brings the model of `client_state` up to date, lets
the user's train function run, and encodes what it returned. `replies` reads ballots, or why there is none; `server`
combines them, takes the step of `model` and keeps the decision. `checkpoint` writes all of it. `metrics` are means of
what clients count, `leaves` is how states are kept, `median` has strategies without signs that a NaN does not ruin,
`other_mods` looks at Flower's own mods behind ours, `settings` at what a strategy is given.
"""

from importlib.util import find_spec

from gradvote.errors import MissingExtra

if find_spec("flwr") is None:
    raise MissingExtra("flwr", "flower")
