"""Refuse every connection beyond this machine, in any Python process that has this folder on its PYTHONPATH.

Python imports a module of this name by itself at start, so the rule reaches pytest's workers, Jupyter's kernels
and every other child of `tests/run.py`. `make env` is the only step that may use the network.
"""

import os
import socket
import sys

HERE = {"", "localhost", "localhost.localdomain", "0.0.0.0", "::", "::1", socket.gethostname()}


class NetworkBlocked(OSError):
    """A check tried to reach another machine."""


def is_here(host) -> bool:
    """Say whether a host name or address means this machine."""
    if host is None:
        return True
    name = (host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host)).lower()
    return name in HERE or name.startswith(("127.", "::ffff:127."))


def refuse(event: str, arguments: tuple) -> None:
    """Raise before the call leaves the process; listening and local sockets are free."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):  # a Unix or netlink socket, or an already connected one
            return
        host = address[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if not is_here(host):
        raise NetworkBlocked(f"blocked: {event} to {host!r}; checks run offline, only `make env` may use the network")


sys.addaudithook(refuse)
os.environ["LABLIB_OFFLINE"] = "1"
