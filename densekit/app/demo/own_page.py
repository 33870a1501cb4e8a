"""Refuses what pages of other sites send to the server of this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

OWN = ("127.0.0.1", "localhost")
Messages = Callable[..., Awaitable[Any]]


class OwnPageAlone:
    """An ASGI application that refuses requests to other hosts and of pages of other hosts.

    A browser would send them: a page anywhere may post to an address of this machine, and may point
    a name of its own at it.

    Args:
        app: The application that answers all others.
    """

    def __init__(self, app: Messages) -> None:
        self.app = app

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Messages, send: Messages
    ) -> None:
        """Passes a request on, or answers it with status 403."""
        if scope["type"] != "http" or is_own(dict(scope["headers"])):
            await self.app(scope, receive, send)
            return
        text = b"expected a request of the page itself\n"
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": text})


def is_own(headers: MutableMapping[bytes, bytes]) -> bool:
    """Whether a request is to this machine, and of a page of it where a page has sent it."""
    if urlsplit(b"//" + headers.get(b"host", b"")).hostname not in _bytes(OWN):
        return False
    origin = headers.get(b"origin")
    return origin is None or origin.rpartition(b"//")[2] == headers[b"host"]


def _bytes(names: tuple[str, ...]) -> list[bytes]:
    return [name.encode() for name in names]
