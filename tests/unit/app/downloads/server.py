"""A local HTTP server for downloads that misbehaves on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Serves files from memory.

    Attributes:
        files: Name to content.
        ranges: Whether requests for the rest of a file are understood.
        cuts: Number of requests whose connection is cut after half of what they asked for.
        errors: Status codes that answer the next requests, one each.
        etag: The version of all files; "" for a server that tells none.
        seen: The `Range` header of every request.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges, self.cuts, self.etag = True, 0, '"1"'
        self.errors: list[int] = []
        self.seen: list[str | None] = []
        self.address = ""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@contextmanager
def serving() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.seen.append(wanted)
            content = state.files.get(self.path[1:])
            if state.errors or content is None:
                self.send_error(state.errors.pop(0) if state.errors else 404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            changed = self.headers.get("If-Range", state.etag) != state.etag
            if not state.ranges or changed:
                start = 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content)}/{len(content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            rest = content[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if state.cuts:
                state.cuts -= 1
                rest = rest[: len(rest) // 2]
            self.wfile.write(rest)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
