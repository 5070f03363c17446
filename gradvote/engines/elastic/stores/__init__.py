"""Where the register keeps its entries: a store of `gradvote launch`, a torch Store, or an etcd.

server      serves a table to the processes of a run: `gradvote launch` and `gradvote register`
table       entries in memory, bounded
shares      what one worker may write of them
journal     the same on disk, for a server that is started again
client      a process's end of it
transport   messages between the two, by who has the run's secret
sealed      entries in a store that anyone may write to: with the run's secret under each
torch_store a torch Store (torchrun's), every call of which is bounded
etcd        an etcd, by its gateway (extra `etcd`)
bounded     calls that are not waited for longer than asked
"""
