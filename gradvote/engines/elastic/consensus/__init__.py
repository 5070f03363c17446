"""What is agreed on, and how: no sockets, no models.

agreement         one slot as one member sees it: events in, actions out (tell, forward, propose)
confirmation      whether a slot whose server is sharded stands, once its ballots are agreed on
members           who takes part, and proofs of lies
records           the decision on a slot
absences          why a member is left out or a slot is given up, and who saw it
register          the store that keeps the first proposal for each slot, and whether its entries can be read
presence          where a process is, as the register keeps it
storage           what a register needs of a store
shard_assignment  who holds which shard
"""
