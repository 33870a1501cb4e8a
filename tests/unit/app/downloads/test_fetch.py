"""Whole data sets from a local server, and the table of the real ones."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from densekit.app.cli import main
from densekit.app.commands import download as command
from densekit.app.config.compose import compose
from densekit.app.config.overrides import parse
from densekit.app.downloads import fetch as module
from densekit.app.downloads.fetch import HIDDEN, fetch
from densekit.app.downloads.sets import SETS, Archive, DataSet
from densekit.app.downloads.transfer import DownloadError
from densekit.app.errors import UsageError
from tests.unit.app.downloads.server import Server
from tests.unit.app.downloads.test_unpack import content_of, packed

MEMBERS = {f"set/{number}.txt": b"content %d" % number for number in range(20)}
WANTED = {f"data/{number}.txt": b"content %d" % number for number in range(20)}


@pytest.fixture
def archive(server: Server, tmp_path: Path) -> Archive:
    file = packed(tmp_path / "a.zip", MEMBERS)
    server.files["a.zip"] = file.read_bytes()
    file.unlink()
    return Archive(server.url("a.zip"), {"set/": "data/"}, unpacked=200)


def data_set(*archives: Archive, needs: tuple[str, ...] = ()) -> DataSet:
    return DataSet(
        *("about", "https://page", "terms", "experiment=quickstart"),
        layout=("data/0.txt",),
        archives=archives,
        needs=needs,
    )


def shown(output: Path) -> dict[str, bytes]:
    files = content_of(output)
    return {name: content for name, content in files.items() if not name.startswith(HIDDEN)}


def test_a_data_set_arrives_once(
    server: Server, archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "densekit")
    for _ in range(2):
        fetch("mine", data_set(archive), tmp_path)
        assert shown(tmp_path) == WANTED
    assert len(server.seen) == 1
    assert {path.name for path in (tmp_path / HIDDEN).iterdir()} - {"lock"} == {"a.zip.json"}
    assert "mine: about (terms; https://page)" in caplog.text
    assert re.search("sha256:[0-9a-f]{64}; none is published", caplog.text)


def test_a_lost_file_is_brought_again(server: Server, archive: Archive, tmp_path: Path) -> None:
    fetch("mine", data_set(archive), tmp_path, keep=True)
    (tmp_path / "data/7.txt").unlink()
    fetch("mine", data_set(archive), tmp_path)  # from the archive that was kept
    assert shown(tmp_path) == WANTED
    assert len(server.seen) == 1
    (tmp_path / "data/8.txt").unlink()
    fetch("mine", data_set(archive), tmp_path)
    assert shown(tmp_path) == WANTED
    assert len(server.seen) == 2


def test_a_file_that_the_user_has_changed_is_kept(
    server: Server, archive: Archive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetch("mine", data_set(archive), tmp_path)
    (tmp_path / "data/7.txt").write_text("my own split")
    fetch("mine", data_set(archive), tmp_path)
    assert (tmp_path / "data/7.txt").read_text() == "my own split"
    assert "data/7.txt: kept, though not as it was unpacked (1 such files)" in caplog.text
    assert len(server.seen) == 1


def test_a_web_page_in_place_of_the_archive_is_removed(
    server: Server, archive: Archive, tmp_path: Path
) -> None:
    good = server.files["a.zip"]
    server.files["a.zip"] = b"<html>Log in to this network</html>"
    with pytest.raises(DownloadError, match="expected a whole archive, .*; the file was removed"):
        fetch("mine", data_set(archive), tmp_path)
    server.files["a.zip"] = good
    fetch("mine", data_set(archive), tmp_path)
    assert shown(tmp_path) == WANTED


def test_a_changed_archive_is_refused_later(
    server: Server, archive: Archive, tmp_path: Path
) -> None:
    fetch("mine", data_set(archive), tmp_path)
    (tmp_path / "data/7.txt").unlink()
    server.files["a.zip"] = packed(tmp_path / "b.zip", MEMBERS | {"set/7.txt": b"x"}).read_bytes()
    with pytest.raises(DownloadError, match="as at the first download"):
        fetch("mine", data_set(archive), tmp_path)


def test_a_wrong_hash_unpacks_nothing(server: Server, archive: Archive, tmp_path: Path) -> None:
    wrong = Archive(archive.url, archive.folders, 200, digest=f"md5:{'0' * 32}")
    with pytest.raises(DownloadError, match="expected md5:0000.*the file was removed"):
        fetch("mine", data_set(wrong), tmp_path)
    assert shown(tmp_path) == {}
    fetch("mine", data_set(archive), tmp_path)


@pytest.mark.parametrize("record", ["", "[]", '{"files": {}}', "{"])
def test_a_broken_record_counts_as_none(
    server: Server, archive: Archive, tmp_path: Path, record: str
) -> None:
    (tmp_path / HIDDEN).mkdir()
    (tmp_path / HIDDEN / "a.zip.json").write_text(record)
    fetch("mine", data_set(archive), tmp_path)
    assert shown(tmp_path) == WANTED


def test_a_small_disk_is_refused_before_the_download(
    server: Server, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9, 9, 300))
    with pytest.raises(UsageError, match=r"expected 0\.00 GB of free space, got 0\.00 GB"):
        fetch("mine", data_set(archive), tmp_path)
    assert server.seen == []


def test_room_is_counted_for_one_archive_at_a_time(tmp_path: Path) -> None:
    first, second = (Archive(f"u/{name}", {}, unpacked=100, size=80) for name in "ab")
    assert module._peak([first, second], tmp_path) == 280
    (tmp_path / HIDDEN).mkdir()
    (tmp_path / HIDDEN / "b.part").write_bytes(bytes(30))
    assert module._peak([first, second], tmp_path) == 250


def test_what_is_needed_first_is_named(server: Server, archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"sbd: expected .*/voc/list, got none; densekit downloa"):
        fetch("sbd", data_set(archive, needs=("voc/list",)), tmp_path)


def test_an_archive_without_the_layout_is_refused(
    server: Server, archive: Archive, tmp_path: Path
) -> None:
    elsewhere = Archive(archive.url, {"set/": "other/"}, 200)
    with pytest.raises(DownloadError, match=r"expected data/0\.txt in mine"):
        fetch("mine", data_set(elsewhere), tmp_path)


def test_a_file_where_a_folder_must_be_is_named(
    server: Server, archive: Archive, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UsageError, match="data: expected a folder, got a file"):
        fetch("mine", data_set(archive), tmp_path)


def test_two_at_once_share_the_work(server: Server, archive: Archive, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=fetch, args=("mine", data_set(archive), tmp_path)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert shown(tmp_path) == WANTED
    assert len(server.seen) == 1


def test_the_command_ends_with_the_next_one(
    server: Server,
    archive: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(command.SETS, "mine", data_set(archive))
    monkeypatch.setenv("DENSEKIT_DATA", str(tmp_path / "my data"))
    assert main(["download", "mine"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"mine: densekit train experiment=quickstart 'paths.data={tmp_path}/my data'"
    assert shown(tmp_path / "my data") == WANTED


def test_names_are_checked_before_anything_is_downloaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "coco", "cocoo", f"output={tmp_path}"]) == 2
    assert "did you mean 'coco'" in capsys.readouterr().err
    assert main(["download", "coco", "drive", f"output={tmp_path}"]) == 2
    message = capsys.readouterr().err
    assert "drive: expected DRIVE/training/images/21_training.tif" in message
    assert "download it yourself from https://drive.grand-challenge.org/" in message
    assert main(["download", "coco", "outptu=x"]) == 2
    assert "did you mean 'output'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_table_lists_every_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["download"]) == 0
    lines = capsys.readouterr().out
    assert all(re.search(f"^{name} ", lines, re.M) for name in SETS)


@pytest.mark.parametrize("name", SETS)
def test_the_configuration_reads_the_layout(name: str) -> None:
    data = SETS[name]
    cfg = compose(parse([data.then, "paths.data=FOLDER"])).cfg
    text = json.dumps(OmegaConf.to_container(cfg.data, resolve=False)) + str(cfg.get("vars"))
    tops = {path.partition("/")[0] for path in data.layout}
    assert all("${paths.data}/" + top in text.replace("FOLDER", "${paths.data}") for top in tops)


@pytest.mark.parametrize("name", SETS)
def test_the_guide_lists_it(name: str) -> None:
    page = Path(__file__).parents[4] / "docs" / "public-data.md"
    (row,) = re.findall(f"^\\| `{name}` .*", page.read_text(), re.M)
    digests = {archive.published or "first download" for archive in SETS[name].archives}
    assert all(words in row for words in digests)


@pytest.mark.parametrize("name", SETS)
def test_hashes_are_well_formed_and_credited(name: str) -> None:
    for archive in SETS[name].archives:
        assert (archive.digest is not None) == bool(archive.published)
        if archive.digest:
            assert re.fullmatch("md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", archive.digest)
