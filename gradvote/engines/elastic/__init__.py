"""Workers that die, stall, lie and come back: votes over connections of their own, agreed on, then applied.

A map. One step of one worker, in order, with the file of each part:

1. `vote`: the user's `step()`. It opens a `voting.VotingRound` with the worker's ballot on the gradients of now
   (`common.replica`, `common.ballot`).
2. `voting`: the ballot goes into the `ballot_box` (whole, or `servers.cut_ballots` in shards), which names it
   (`signing.names`, with `signing.keys` where ballots are signed) and makes frames of it (`net.frames`). They travel
   over `net.connections`; the `net.mesh` opens these again where they break.
3. What comes in goes through `participant` (message serving: what can be answered in any phase) and `peers` (what the
   others said of themselves, frames that are too early), then by `hearing` into `consensus.agreement`, a state machine
   without sockets or clocks (`consensus.evidence` is what it knows). It tells what is held, and decides which ballots
   count: by itself where all is well, otherwise by a proposal to `consensus.register`. The decision is a
   `consensus.records.Record`, with the reasons (`consensus.absences`) of whom it leaves out, or of why it gives the
   slot up. `round_clock` tells it what time does.
4. `servers.server` is what follows from that: `servers.replicated` has all ballots and decides for itself;
   `servers.sharded` works out its `servers.shards`, `servers.delivery` brings each decision to all, and
   `servers.confirming` (`consensus.confirmation`) sees to it that all apply the step, or none.
5. `participant` applies the `snapshots.DecidedStep` or `ShardedStep`, and goes on: `membership` is the group's state
   and its transitions, `node` what a process is beside that. Who learns is sent the step (`catch_up.teaching`), who
   holds a shard from now on its memory (`servers.shard_transfer`, by `consensus.shard_assignment`). Ballots also say
   on which parameters they were cast: whose are not those of most (`voting.differing`) takes over theirs
   (`catch_up.learning.Healer`).

Before the first step `attach` checks what it was given, `environment` finds number, store and keys, and `bootstrap`
makes members of those that came. Who was away comes back by `catch_up.learning`. `timeouts` bounds all waiting and has
the errors that end it, `counts` is what `stats()` shows, `launcher` starts workers again that die, unless they say that
they were refused (`refusals`). `stores` is where the register keeps its entries.

Imports point one way: consensus, net, signing, stores → membership, peers, node → servers → participant →
hearing → voting, catch_up → bootstrap, vote → attach.
"""

from gradvote.engines.common.errors import Equivocation, ParametersDiffer
from gradvote.engines.elastic.attach import attach
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.counts import ElasticStats, WorkerCounts
from gradvote.engines.elastic.servers.placement import PLACEMENTS
from gradvote.engines.elastic.timeouts import Excluded, Replaced, RunEnded, ShardLost, Timeouts, TooFewWorkers
from gradvote.engines.elastic.vote import ElasticVote

__all__ = [
    "PLACEMENTS",
    "ElasticStats",
    "ElasticVote",
    "Equivocation",
    "Excluded",
    "ParametersDiffer",
    "RegisterLost",
    "Replaced",
    "RunEnded",
    "ShardLost",
    "Timeouts",
    "TooFewWorkers",
    "WorkerCounts",
    "attach",
]
