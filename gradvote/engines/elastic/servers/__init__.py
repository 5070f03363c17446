"""Where the server's memory is: `server` is the interface, `replicated` and `sharded` are the two placements.

Of the latter: `shards` are the memories that one process has, `cut_ballots` the ballots as its members get them,
`delivery` how a decision is heard by all, `shard_transfer` what they owe each other between two steps.
"""
