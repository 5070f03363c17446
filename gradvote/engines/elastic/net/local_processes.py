"""Whether a process of this machine has ended: there the system knows what silence alone proves of no other one.

The place of a process that has ended may be another program's by now, which neither refuses a connection nor answers as
a worker. So each process says which one it is, and who sees the same processes looks it up.
"""

import contextlib
import os
import socket
from pathlib import Path

PROC = Path("/proc")
STATE, THREADS, STARTED = 0, 17, 19
"""Where these stand in /proc/PID/stat, counted from behind the name of the program (proc(5), fields 3, 20 and 22)."""


def own_name() -> str:
    """This boot, the namespaces of process numbers and clocks, the number, and when it started; empty: not known.

    A number is given anew when its process has ended: with the time of the start it never is.
    """
    pid = os.getpid()
    status = _status(pid)
    return f"{_whereabouts()}/{pid}/{status[STARTED]}" if status else ""


def has_ended(name: str, host: str) -> bool:
    """Whether the process of this name, which listened at an address of this machine, is there no more.

    False also where this cannot be told: it is another machine's, or its numbers and times are not those seen from here
    (in a container, say).
    """
    whereabouts, _, own = name.partition("/")
    pid, _, started = own.partition("/")
    if not (pid.isdecimal() and started.isdecimal() and len(own) < 64):
        return False
    if whereabouts != _whereabouts() or not _is_here(host):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's process is there, which may be hidden otherwise
        pass
    status = _status(int(pid))
    return bool(status) and (status[STARTED] != started or (status[STATE] in "ZX" and int(status[THREADS]) < 2))


def _whereabouts() -> str:
    """What processes have in common that see each other by the same numbers and clocks; empty: not known."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return ":".join([boot, *(str((PROC / "self/ns" / kind).stat().st_ino) for kind in ("pid", "time"))])
    except OSError:
        return ""


def _status(pid: int) -> list[str]:
    """What the system says of a process; nothing where that cannot be seen."""
    with contextlib.suppress(OSError):
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return fields if len(fields) > STARTED else []
    return []


def _is_here(host: str) -> bool:
    """Whether an address is one of this machine's: a copy of a machine has the same boot, at another address."""
    with contextlib.suppress(OSError, UnicodeError):
        for family, kind, protocol, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as sock:
                sock.bind(address)
                return True
    return False
