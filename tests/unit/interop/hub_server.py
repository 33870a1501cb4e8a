"""A stand-in for the Hugging Face hub: what its client asks for, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "1" * 40
Files = dict[str, bytes]


class _Handler(BaseHTTPRequestHandler):
    files: Files

    def do_HEAD(self) -> None:
        self._file()

    def do_GET(self) -> None:
        self._file(body=True)

    def do_POST(self) -> None:
        content = self._body()
        if self.path == "/api/repos/create":
            return self._json({"url": f"{self.path}/me/model", "name": "me/model"})
        if "/preupload/" in self.path:
            told = {"uploadMode": "regular", "shouldIgnore": False}
            return self._json({"files": [file | told for file in json.loads(content)["files"]]})
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if "/commit/" in self.path:
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/me/model/commit/{COMMIT}"
            return self._json({"success": True, "commitOid": COMMIT, "commitUrl": url})
        return self._json({"error": self.path}, 404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _file(self, *, body: bool = False) -> None:
        name = self.path.partition("/resolve/main/")[2]
        if name not in self.files:
            missing = "EntryNotFound" if "/me/model/" in self.path else "RepoNotFound"
            return self._json({}, 404, {"X-Error-Code": missing})
        content = self.files[name]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)
        return None

    def _json(self, content: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(content).encode()
        self.send_response(code)
        for key, value in {**(headers or {}), "Content-Length": str(len(text))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Prints nothing."""


@contextmanager
def hub_server() -> Iterator[tuple[str, Files]]:
    """The address of a hub with one repository, `me/model`, and its files."""
    files: Files = {}
    handler = type("Handler", (_Handler,), {"files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", files
    finally:
        server.shutdown()
        server.server_close()
