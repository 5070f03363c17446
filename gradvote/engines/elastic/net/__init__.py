"""Sockets: `frames` on them, `connections` of two processes, the `mesh` of all, and their `addresses`.

Connections are neither encrypted nor authenticated: who is in a HELLO is believed.
"""
