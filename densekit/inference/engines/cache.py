"""The cache of compiled engines: `CHECKPOINT.engines/` beside the checkpoint.

A compiled engine is code that this process runs, so only what this user has written is loaded: each
entry is sealed with a secret of the user (HMAC), and an entry that came with a downloaded
checkpoint has no valid seal. Where the checkpoint's folder cannot be written, or by others too, the
entries lie in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from densekit._files import PREFIX
from densekit._locks import locked
from densekit.inference.engines.fingerprint import LENGTH, code_digest, model_digest
from densekit.model import DenseModel
from densekit.ops.cpu import processor

log = logging.getLogger(__name__)

SUFFIX = ".engines"
DESCRIPTION = "key.json"
"""File of an entry that holds its key, the digests of its files, and the seal of both."""
SECRET_BYTES = 32
OTHERS = stat.S_IWGRP | stat.S_IWOTH
POSIX = os.name == "posix"
"""Whether files have an owner and bits; elsewhere only the user's own folder counts as private."""

Key = dict[str, str]


class Cache:
    """Compiled engines of one model, one folder each.

    Args:
        folder: Holds the entries; created if need be.
        key: What every entry depends on, see `model_key`.
        secret: Seals the entries.
    """

    def __init__(self, folder: Path, key: Mapping[str, str], secret: bytes) -> None:
        self.folder = folder
        self.key = dict(key)
        self._secret = secret

    def kept(
        self,
        name: str,
        key: Mapping[str, str],
        write: Callable[[Path], None],
        *,
        quiet: bool = False,
    ) -> Path:
        """Returns the folder of an entry, which is written if there is none that can be used.

        A second process that needs the same entry waits for the first one.

        Args:
            name: Of the entry, readable: engine, precision and shape.
            key: What the entry depends on besides the model, such as the version of the runtime.
            write: Writes the files of the entry into an empty folder.
            quiet: Whether building the entry is not worth a line.
        """
        entry, wanted = self.folder / name, {**self.key, **key}
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.folder / f".{name}.lock"):
            why = self._unusable(entry, wanted) if entry.exists() else ""
            if why is None:
                return entry
            if why and not quiet:
                log.warning("%s is built anew: %s", entry, why)
            elif not quiet:
                log.info("%s is built once and kept", entry)
            with TemporaryDirectory(prefix=PREFIX, dir=self.folder) as made:
                new = Path(made, name)
                new.mkdir(mode=0o700)
                write(new)
                self._describe(new, wanted)
                if entry.exists():
                    entry.rename(Path(made, "old"))
                new.rename(entry)
        return entry

    def _describe(self, entry: Path, key: Key) -> None:
        files = {file.name: _digest(file) for file in sorted(entry.iterdir())}
        content = {"key": key, "files": files}
        (entry / DESCRIPTION).write_text(json.dumps({**content, "seal": self._seal(content)}))

    def _seal(self, content: Mapping[str, Any]) -> str:
        text = json.dumps({"key": content["key"], "files": content["files"]}, sort_keys=True)
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def _unusable(self, entry: Path, wanted: Key) -> str | None:
        """Why an entry must not be loaded; None if it may be."""
        try:
            if POSIX and not _own(entry):
                return "it belongs to another user, or others may write to it"
            found = json.loads((entry / DESCRIPTION).read_text("utf-8"))
            if not hmac.compare_digest(self._seal(found), found["seal"]):
                return "it was not written by this user"
            if changed := [name for name in wanted if found["key"].get(name) != wanted[name]]:
                return f"of another {' and '.join(changed)}"
            digests = {file.name: _digest(file) for file in entry.iterdir()}
            digests.pop(DESCRIPTION)
            return None if digests == found["files"] else "it is damaged"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "it is damaged"


def cache_beside(checkpoint: str | Path, model: DenseModel) -> Cache | None:
    """Returns the cache of a checkpoint's engines; None, with a line, if nothing can be written.

    Args:
        checkpoint: The file.
        model: The model that was built from it.
    """
    try:
        secret = user_secret()
        key = model_key(model)
        folder = Path(f"{Path(checkpoint).absolute()}{SUFFIX}")
        if not _private(folder):
            folder = user_folder() / "engines" / key["model"]
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        log.warning("engines are not kept for the next start: %s", error)
        return None
    return Cache(folder, key, secret)


def model_key(model: DenseModel) -> Key:
    """Returns what every engine of a model depends on."""
    return {
        "model": model_digest(model),
        "code": code_digest(model),
        "torch": torch.__version__,
        "processor": hashlib.sha256(processor().encode()).hexdigest()[:LENGTH],
    }


def user_folder() -> Path:
    """Folder of what densekit keeps for this user, `~/.cache/densekit`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(home) / "densekit"


def user_secret() -> bytes:
    """Returns the secret that seals this user's engines, made at the first call.

    Raises:
        OSError: It can be neither read nor made, or others can read it.
    """
    file = user_folder() / "engines.key"
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=PREFIX, dir=file.parent) as folder:  # of mode 0o700
            part = Path(folder, file.name)
            part.write_bytes(secrets.token_bytes(SECRET_BYTES))
            part.chmod(0o600)
            with suppress(FileExistsError):  # another process was faster
                os.link(part, file)
    if POSIX and (not _own(file) or stat.S_IMODE(file.stat().st_mode) & 0o077):
        raise PermissionError(f"{file}: expected a file that this user alone can read")
    return file.read_bytes()


def _private(folder: Path) -> bool:
    """Whether this user alone can put entries into a folder, which is made if it can be."""
    if not POSIX or not _own(folder.parent):
        return False
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return False
    return _own(folder) and os.access(folder, os.W_OK)


def _own(path: Path) -> bool:
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & OTHERS


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
