"""Archives, friendly and hostile: nothing leaves the folder, nothing is half written."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from densekit.app.downloads import unpack as module
from densekit.app.downloads.transfer import DownloadError
from densekit.app.downloads.unpack import unpack

FILES = {"set/a.txt": b"first", "set/deep/b.bin": bytes(5000), "set/empty": b"", "other/c": b"c"}


def packed(file: Path, files: dict[str, bytes]) -> Path:
    """An archive, zip or tar by its suffix."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as out:
            for name, content in files.items():
                out.writestr(name, content)
        return file
    with tarfile.open(file, "w:gz" if file.suffix == ".tgz" else "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def run(archive: Path, output: Path, **more: Any) -> dict[str, int]:
    settings: dict[str, Any] = {
        "folders": {"set/": "data/"},
        "gunzip": False,
        "room": lambda _: None,
        "report": lambda *_: None,
    }
    return unpack(archive, output=output, **{**settings, **more})


def content_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(params=[".zip", ".tar", ".tgz"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_chosen_members_go_where_the_table_says(tmp_path: Path, suffix: str) -> None:
    archive = packed(tmp_path / f"a{suffix}", FILES | {"set/._a.txt": b"mac", "./set/d": b"d"})
    found = run(archive, tmp_path / "out")
    assert found == {"data/a.txt": 5, "data/deep/b.bin": 5000, "data/empty": 0, "data/d": 1}
    assert content_of(tmp_path / "out") == {
        "data/a.txt": b"first",
        "data/deep/b.bin": bytes(5000),
        "data/empty": b"",
        "data/d": b"d",
    }


@pytest.mark.parametrize(
    "name",
    ["../evil", "set/../../evil", "/evil", "set/..\\..\\evil", "C:\\evil", "\\evil", "C:evil"],
)
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, suffix: str, name: str) -> None:
    archive = packed(tmp_path / f"a{suffix}", {"set/good": b"good", name: b"evil"})
    with pytest.raises(DownloadError, match="expected names within a folder"):
        run(archive, tmp_path / "out")
    assert content_of(tmp_path) == {archive.name: archive.read_bytes()}  # not even the good one


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("set/link")
        info.type, info.linkname = kind, str(tmp_path)
        tar.addfile(info)
        through = tarfile.TarInfo("set/link/evil")
        tar.addfile(through)
    with pytest.raises(DownloadError, match="'set/link', a link or device"):
        run(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    info = zipfile.ZipInfo("set/link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr(info, str(tmp_path))
    with pytest.raises(DownloadError, match="'set/link', a link or device"):
        run(archive, tmp_path / "out")


def test_an_interrupted_unpacking_continues(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, out = packed(tmp_path / f"a{suffix}", FILES), tmp_path / "out"

    def stop(done: int, _: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(archive, out, report=stop)
    before = (out / "data/a.txt").stat().st_mtime_ns
    monkeypatch.setattr(module, "CHUNK", 7)
    run(archive, out)
    assert content_of(out / "data") == {k[4:]: v for k, v in FILES.items() if k[:4] == "set/"}
    assert (out / "data/a.txt").stat().st_mtime_ns == before


def test_a_file_of_the_user_is_never_overwritten(tmp_path: Path, suffix: str) -> None:
    archive, out = packed(tmp_path / f"a{suffix}", FILES), tmp_path / "out"
    (out / "data").mkdir(parents=True)
    for mine in (b"mine", b"FIRST", b"first and more", b""):
        (out / "data/a.txt").write_bytes(mine)
        with pytest.raises(DownloadError, match=r"a\.txt: expected a new file or the content"):
            run(archive, out)
        assert (out / "data/a.txt").read_bytes() == mine


def test_a_write_that_fails_leaves_no_file_of_that_name(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, out = packed(tmp_path / f"a{suffix}", FILES), tmp_path / "out"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            run(archive, out)
    assert not (out / "data/a.txt").exists()
    run(archive, out)
    assert (out / "data/a.txt").read_bytes() == b"first"


@pytest.mark.parametrize("cut", [10, 300, 0.25, 0.5])
def test_a_damaged_archive_is_refused(tmp_path: Path, suffix: str, cut: float) -> None:
    noise = {"set/a": os.urandom(3000), "set/b": os.urandom(3000)}
    archive = packed(tmp_path / f"a{suffix}", noise)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(cut if cut > 1 else cut * len(whole))])
    with pytest.raises(DownloadError, match="expected a whole archive") as caught:
        run(archive, tmp_path / "out")
    assert "\n" not in str(caught.value)
    written = content_of(tmp_path / "out") if (tmp_path / "out").exists() else {}
    assert all(noise[name.replace("data", "set")] == value for name, value in written.items())


def test_other_content_is_no_archive(tmp_path: Path) -> None:
    page = tmp_path / "a.zip"
    page.write_text("<html>Log in to this hotel</html>")
    with pytest.raises(DownloadError, match="expected a whole archive"):
        run(page, tmp_path / "out")
    empty = packed(tmp_path / "b.zip", {"elsewhere/a": b"a"})
    with pytest.raises(DownloadError, match="members that begin with 'set/', got none"):
        run(empty, tmp_path / "out")


def test_compressed_members_are_decompressed_on_demand(tmp_path: Path, suffix: str) -> None:
    archive = packed(
        tmp_path / f"a{suffix}", {"im1.ppm.gz": gzip.compress(b"P6" * 3000), "b": b"b"}
    )
    for _ in range(2):  # the second time they are compared
        found = run(archive, tmp_path / "out", folders={"": "x/"}, gunzip=True)
        assert found == {"x/im1.ppm": 6000, "x/b": 1}
    assert (tmp_path / "out/x/im1.ppm").read_bytes() == b"P6" * 3000


def test_room_is_asked_for_what_is_missing(tmp_path: Path, suffix: str) -> None:
    archive, asked = packed(tmp_path / f"a{suffix}", FILES), list[int]()
    run(archive, tmp_path / "out", room=asked.append)
    (tmp_path / "out/data/a.txt").unlink()
    run(archive, tmp_path / "out", room=asked.append)
    assert asked == [5005, 5]
