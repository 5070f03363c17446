"""Addresses as people write them: 10.0.0.7:29500, node-3:29500, [::1]:29500."""

import ipaddress
import socket


def split(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, without the brackets of an IPv6 address.

    Raises:
        ValueError: the address is not of that form.
    """
    host, _, port = address.rpartition(":")
    if not bare(host) or not (port.isascii() and port.isdecimal()) or int(port) >= 1 << 16:
        raise ValueError(
            f"The address of a store is HOST:PORT, for instance 127.0.0.1:29500 or [::1]:29500; got '{address}'. That "
            "of `gradvote launch` or `gradvote register` is gradvote://HOST:PORT, that of an etcd "
            "etcd://HOST:PORT,HOST:PORT/RUN."
        )
    return bare(host), int(port)


def joined(host: str, port: int | str) -> str:
    """HOST:PORT, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bare(host: str) -> str:
    """A host without the brackets that an IPv6 address may have."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def families(host: str) -> list[socket.AddressFamily]:
    """How a host can be reached: IPv4, IPv6 or both, in the order to be tried.

    Raises:
        ValueError: its name does not resolve; that is known at once, without waiting for anybody.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"The host '{host}' is not known here ({error}). Give an address of this network, for instance 10.0.0.7, "
            "or a name that resolves."
        ) from error
    return list(dict.fromkeys(family for family, *_ in found))


def is_loopback(host: str) -> bool:
    """Whether all addresses of a host are this machine's own, which nobody else reaches.

    Raises:
        ValueError: its name does not resolve.
    """
    families(host)
    found = {str(address[0]).partition("%")[0] for *_, address in socket.getaddrinfo(host, None)}
    return all(ipaddress.ip_address(address).is_loopback for address in found)


def listening(host: str, port: int = 0) -> socket.socket:
    """A socket that listens at a port (0: a free one) of an address of this machine.

    Raises:
        ValueError: the name does not resolve, the address is another machine's, or the port is taken or none.
    """
    refusal: OSError | OverflowError | None = None  # the latter of a port beyond 65535
    for family in families(host):
        try:
            return socket.create_server((host, port), family=family, backlog=128)
        except (OSError, OverflowError) as error:
            refusal = error
    place, why = joined(host, port) if port else host, str(refusal).rstrip(".")
    raise ValueError(
        f"Nothing can listen at '{place}' ({why}): it must be an address of this machine that the others can reach"
        + (", and a port that is free." if port else ".")
    ) from refusal
