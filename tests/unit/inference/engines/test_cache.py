"""The cache of engines: what is kept, what is built anew, and what must not be loaded."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path

import pytest
import torch

from densekit import DenseModel
from densekit.inference.engines import cache as caches
from densekit.inference.engines.cache import DESCRIPTION, Cache, cache_beside, user_secret
from densekit.inference.engines.fingerprint import code_digest, model_digest
from tests.unit.tiny import tiny_detector

KEY = {"model": "m", "torch": "2"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "a.ckpt.engines", KEY, b"secret")


class Writer:
    """Writes one file and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Path) -> None:
        self.count += 1
        (folder / "program").write_text(f"{self.count}")


def kept(cache: Cache, writer: Writer, runtime: str = "1") -> str:
    return (
        cache.kept("inductor-fp32-1x64x64", {"runtime": runtime}, writer) / "program"
    ).read_text()


def test_an_entry_is_written_once(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    writer = Writer()
    with caplog.at_level(logging.INFO, "densekit"):
        assert [kept(cache, writer), kept(cache, writer)] == ["1", "1"]
    assert [record.getMessage().rpartition("/")[2] for record in caplog.records] == [
        "inductor-fp32-1x64x64 is built once and kept"
    ]
    assert [part.name for part in cache.folder.iterdir() if part.is_dir()] == [
        "inductor-fp32-1x64x64"
    ]


def damage(entry: Path) -> None:
    (entry / "program").write_text("other code")


def cut(entry: Path) -> None:
    (entry / "program").unlink()


def add(entry: Path) -> None:
    (entry / "more").write_text("code")


def forget(entry: Path) -> None:
    (entry / DESCRIPTION).unlink()


def forge(entry: Path) -> None:
    other = Cache(entry.parent, KEY, b"another user's")
    damage(entry)
    other._describe(entry, {**KEY, "runtime": "1"})


def share(entry: Path) -> None:
    entry.chmod(0o777)


def garble(entry: Path) -> None:
    (entry / DESCRIPTION).write_text("[1]")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (damage, "it is damaged"),
        (cut, "it is damaged"),
        (add, "it is damaged"),
        (forget, "it is damaged"),
        (garble, "it is damaged"),
        (forge, "it was not written by this user"),
        (share, "it belongs to another user, or others may write to it"),
    ],
)
def test_what_was_changed_is_built_anew_and_said_so(
    cache: Cache, caplog: pytest.LogCaptureFixture, harm: object, why: str
) -> None:
    writer = Writer()
    kept(cache, writer)
    harm(cache.folder / "inductor-fp32-1x64x64")  # type: ignore[operator]
    assert kept(cache, writer) == "2"
    warned = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert [message.partition(" is built anew: ")[2] for message in warned] == [why]
    assert kept(cache, writer) == "2"


def test_what_is_stale_is_built_anew_with_the_reason(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    writer = Writer()
    kept(cache, writer)
    assert kept(cache, writer, runtime="2") == "2"
    assert caplog.messages[-1].endswith("is built anew: of another runtime")
    other = Cache(cache.folder, {**KEY, "model": "trained on", "torch": "3"}, b"secret")
    assert kept(other, writer, runtime="2") == "3"
    assert caplog.messages[-1].endswith("is built anew: of another model and torch")


def test_a_failed_write_leaves_nothing(cache: Cache) -> None:
    def fail(folder: Path) -> None:
        (folder / "program").write_text("half")
        raise RuntimeError("no compiler")

    with pytest.raises(RuntimeError, match="no compiler"):
        cache.kept("x", {}, fail)
    assert [part for part in cache.folder.iterdir() if part.is_dir()] == []


def test_a_second_process_waits_for_the_first(cache: Cache) -> None:
    writer = Writer()

    def slow(folder: Path) -> None:
        time.sleep(0.1)
        writer(folder)

    threads = [threading.Thread(target=cache.kept, args=("x", {}, slow)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.count == 1


def test_the_folder_lies_beside_the_checkpoint_unless_others_can_write_there(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_detector()
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o755)
    found = cache_beside(mine / "a.ckpt", model)
    assert found is not None
    assert found.folder == mine / "a.ckpt.engines"
    mine.chmod(0o777)
    found = cache_beside(mine / "b.ckpt", model)
    assert found is not None
    assert found.folder == home / "densekit" / "engines" / model_digest(model)
    monkeypatch.setattr(caches, "user_secret", lambda: (_ for _ in ()).throw(OSError("read-only")))
    assert cache_beside(mine / "a.ckpt", model) is None


def test_the_secret_is_made_once_and_for_the_user_alone(home: Path) -> None:
    first = user_secret()
    file = home / "densekit" / "engines.key"
    assert len(first) == 32
    assert user_secret() == first
    assert file.stat().st_mode & 0o077 == 0
    assert file.stat().st_uid == os.getuid()
    file.chmod(0o644)
    with pytest.raises(PermissionError, match="expected a file that this user alone can read"):
        user_secret()


def test_the_digest_follows_weights_buffers_and_settings() -> None:
    def made(**changes: object) -> DenseModel:
        torch.manual_seed(0)
        return tiny_detector(**changes)  # type: ignore[arg-type]

    same, model = made(), made()
    digest = model_digest(model)
    assert model_digest(same) == digest
    assert code_digest(same) == code_digest(model)
    with torch.no_grad():
        next(model.parameters()).flatten()[0] += 1e-6
    assert model_digest(model) != digest
    same.mean += 1
    assert model_digest(same) != digest
    assert model_digest(made(info={"full_scale": 1.0})) != digest
    changed = made()
    changed.heads["detection"].detection = type(changed.heads["detection"].detection)(  # type: ignore[assignment]
        score_threshold=0.3
    )
    assert model_digest(changed) != digest


def test_the_description_is_json(cache: Cache) -> None:
    kept(cache, Writer())
    found = json.loads((cache.folder / "inductor-fp32-1x64x64" / DESCRIPTION).read_text())
    assert found["key"] == {**KEY, "runtime": "1"}
    assert list(found["files"]) == ["program"]
