"""Sockets: `frames` on them, `connections` of two processes, the `mesh` of all, who dial each other (`dialing`), and
their `addresses`.

`channels` carry bytes and frames, plain or by TLS; `authentication` says who is at the other end, by files that
`certificates` makes. `local_processes` says which processes of this machine have ended.
"""
