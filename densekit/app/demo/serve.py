"""Serves the page to this machine until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from densekit._signals import STOPS
from densekit.app.demo.offline import no_connections
from densekit.app.demo.own_page import OwnPageAlone
from densekit.app.errors import UsageError

HOST = "127.0.0.1"
LARGEST_UPLOAD = "4gb"
SESSIONS = 16
"""Pages whose results are kept in memory; the oldest one's are dropped."""
ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder, removed at the end; what gradio writes and serves is in `served`."""
    with TemporaryDirectory(prefix="densekit-demo-") as folder:
        before = os.environ.copy()
        for name in [name for name in before if name.startswith("GRADIO_")]:
            del os.environ[name]  # some would open the page to others
        os.environ.update(ENVIRONMENT, GRADIO_TEMP_DIR=str(Path(folder, "served")))
        try:
            yield Path(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)


def listening(port: int) -> socket.socket:
    """A socket that listens on this machine alone.

    Args:
        port: 0 is any free one.

    Raises:
        UsageError: The port is in use, or may not be used.
    """
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # elsewhere two programs could share the port
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((HOST, port))
        server.listen()
    except (OSError, OverflowError) as error:
        server.close()
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"port: expected a free port, got {port} ({reason}); port=0 takes any free one"
        ) from error
    return server


def application(page: Any) -> Any:
    """The page as an ASGI application that answers to its own page alone.

    Args:
        page: `gradio.Blocks`.
    """
    import gradio as gr
    from fastapi import FastAPI

    from densekit.app.demo.page import STYLE, theme

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(OwnPageAlone)
    page.state_session_capacity = SESSIONS
    # Else gradio takes any path of this machine for an upload, and copies it to what it serves.
    page.has_launched = True
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=HOST,
        allowed_paths=[],
        show_error=True,
        max_file_size=LARGEST_UPLOAD,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=STYLE,
    )


def serve(page: Any, server: socket.socket, *, browser: bool) -> signal.Signals:
    """Serves the page until a signal, which is returned.

    Args:
        page: `gradio.Blocks`.
        server: Of `listening`.
        browser: Whether to open the page in the browser.
    """
    address = f"http://{HOST}:{server.getsockname()[1]}/"
    print(f"densekit demo: {address}  (Ctrl-C ends it)", flush=True)
    if browser:
        threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
    with no_connections():
        return _run(application(page), server)


def _run(app: Any, server: socket.socket) -> signal.Signals:
    """Serves an application until a signal, which is returned.

    uvicorn itself would raise the signal again, and so end the process before temporary files are
    removed.
    """
    import uvicorn

    class Server(uvicorn.Server):
        stopped_by = signal.SIGINT

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            heeded = [n for n in STOPS if signal.getsignal(n) is not signal.SIG_IGN]
            before = {number: signal.signal(number, self.stop) for number in heeded}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        def stop(self, number: int, frame: Any) -> None:
            self.stopped_by, self.should_exit = signal.Signals(number), True
            # It would log every open page as an error.
            logging.getLogger("uvicorn.error").disabled = True

    running = Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    running.run(sockets=[server])
    return running.stopped_by
