"""What is agreed on, and how: no sockets, no models.

agreement         one slot as one member sees it: events in, actions out
confirmation      whether a slot whose server is sharded stands, once its ballots are agreed on
actions           what the agreement asks for: tell, forward, propose
members           who takes part, and proofs of lies
records           the decision on a slot
absences          why a member is left out or a slot is given up, and who saw it
register          the store that keeps the first proposal for each slot
presence          where a process is, as the register keeps it
entries           whether an entry of the register can be read
storage           what a register needs of a store
shard_assignment  who holds which shard
"""
