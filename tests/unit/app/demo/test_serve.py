"""What the server and the command refuse, and what they leave behind."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from densekit.app.cli import main
from densekit.app.demo.offline import is_local
from densekit.app.demo.own_page import is_own
from densekit.app.demo.page import said_of
from densekit.app.demo.serve import listening, scratch
from densekit.app.errors import UsageError

CONNECT = """
import socket
from densekit.app.demo.offline import no_connections

server = socket.create_server(("127.0.0.1", 0))
with no_connections():
    socket.create_connection(server.getsockname()).close()
    socket.getaddrinfo("localhost", 80)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for refused in (
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        lambda: socket.getaddrinfo("densekit.invalid", 80),
        lambda: datagrams.sendto(b"x", ("192.0.2.1", 53)),
    ):
        try:
            refused()
        except ConnectionRefusedError as error:
            assert "this machine alone" in str(error)
        else:
            raise AssertionError(refused)
datagrams.sendto(b"x", ("127.0.0.1", 9))
"""


def test_nothing_connects_to_another_machine() -> None:
    subprocess.run([sys.executable, "-c", CONNECT], check=True, timeout=60)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "", b"localhost"])
def test_this_machine_is_local(host: Any) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "10.0.0.1", "example.com", "::", b"a.b", "localhost.x"]
)
def test_others_are_not(host: Any) -> None:
    assert not is_local(host)


@pytest.mark.parametrize(
    ("host", "origin", "own"),
    [
        ("127.0.0.1:7860", None, True),
        ("localhost:7860", "http://localhost:7860", True),
        ("localhost:7860", "http://localhost:80", False),
        ("127.0.0.1:7860", "null", False),
        ("127.0.0.1:7860", "https://evil.example", False),
        ("evil.example:7860", None, False),
        ("evil.example", "http://evil.example", False),
        ("127.0.0.1.evil.example", None, False),
        ("", None, False),
    ],
)
def test_requests_of_the_page_itself(host: str, origin: str | None, own: bool) -> None:
    headers = {b"host": host.encode()}
    if origin is not None:
        headers[b"origin"] = origin.encode()
    assert is_own(headers) is own


def test_the_server_listens_on_this_machine_alone() -> None:
    with listening(0) as server:
        assert server.getsockname()[0] == "127.0.0.1"
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match=f"port: expected a free port, got {port} "):
            listening(port)
    with pytest.raises(UsageError, match="port: expected a free port, got 70000"):
        listening(70000)


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    before = dict(os.environ)
    with scratch() as folder:
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert "GRADIO_ALLOWED_PATHS" not in os.environ
        assert Path(os.environ["GRADIO_TEMP_DIR"]).parent == folder
        (folder / "upload.png").touch()
    assert not folder.exists()
    assert dict(os.environ) == before


def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.ckpt").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["demo", f"checkpoint={tmp_path / 'm.ckpt'}"]) == 2
    assert "densekit demo needs gradio: pip install 'densekit[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["examples=none", "gallery=none", "port=-1", "open=maybe"])
def test_wrong_options_are_named(word: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "m.ckpt").touch()
    assert main(["demo", f"checkpoint={tmp_path / 'm.ckpt'}", word]) == 2
    assert f"{word.partition('=')[0]}: expected " in capsys.readouterr().err


def test_what_is_said_of_errors(caplog: pytest.LogCaptureFixture) -> None:
    assert said_of(ValueError("a.png: expected b"), "a.png") == "a.png: expected b"
    memory = RuntimeError("CUDA out of memory")
    assert said_of(memory, "a.png").startswith("a.png: expected an image that fits into memory")
    assert not caplog.records
    said = said_of(RuntimeError("shape"), "a.png")
    assert said == "a.png: expected a result, got RuntimeError: shape; the terminal says where"
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_the_socket_of_a_refused_port_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError):
            listening(port)
    with listening(port):
        pass
