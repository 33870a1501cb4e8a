"""Keeps a process from connecting to any other machine."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOCAL = ("localhost", "")
_closed = False
_hooked = False


@contextmanager
def no_connections() -> Iterator[None]:
    """Context in which every connection but to this machine raises `ConnectionRefusedError`.

    It holds for all threads and whatever library asks: the page and its libraries can reveal
    nothing, and a page elsewhere cannot use this server to reach other machines.
    """
    global _closed, _hooked
    if not _hooked:  # a hook cannot be removed
        sys.addaudithook(_refuse)
        _hooked = True
    _closed = True
    try:
        yield
    finally:
        _closed = False


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _closed:
        return
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # others are files
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if host is not None and not is_local(host):
        raise ConnectionRefusedError(f"expected connections to this machine alone, got {host!r}")


def is_local(host: str | bytes) -> bool:
    """Whether a host is this machine, by its name or by an address that never leaves it."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name in LOCAL:
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
