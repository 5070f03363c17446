"""Elastic, from the inside out.

consensus, net, servers, signing   mirror the rooms of gradvote/engines/elastic
world, sharded_world               members without clocks and sockets, for hypothesis and transcripts
played                             one member, whose peers the test plays
processes, worker, warm            workers as processes, to be killed, stopped and started again
register_process                   the register as one, too
relay, namespaces                  links that are cut, hung, slowed or altered; hosts of their own
liars                              what no honest worker sends
ledger, simulated                  what each worker must remember; the same run in one process
soak, soak_faults, invariants      faults at random for as long as asked, and what must hold (scripts/soak)
"""
