"""What a command finds below a folder: links walked once, names that stay inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densekit.app.prediction.found import files_of, folders_below, relative_paths
from densekit.app.prediction.sources import (
    find_images,
    find_volumes,
    listed_volumes,
    overlay_names,
    volume_names,
)
from tests.unit.data.medical_files import write_nifti


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """Two folders that link to each other, to themselves and, several times, to their parent."""
    for name in ("a", "b"):
        folder = tmp_path / "root" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.png").touch()
        write_nifti(folder / f"{name}.nii.gz", np.zeros((2, 2, 2), np.uint8))
        (folder / ".hidden.png").touch()
    for number in range(4):
        (tmp_path / "root" / "a" / f"up{number}").symlink_to(tmp_path / "root")
        (tmp_path / "root" / "b" / f"self{number}").symlink_to(tmp_path / "root" / "b")
    (tmp_path / "root" / "a" / "other").symlink_to(tmp_path / "root" / "b")
    (tmp_path / "root" / ".cache").symlink_to(tmp_path / "root" / "b")
    (tmp_path / "root" / "0").symlink_to(tmp_path / "root" / "b")
    return tmp_path / "root"


def test_links_are_followed_once(linked: Path) -> None:
    assert folders_below(linked) == [linked, linked / "a", linked / "b"]
    assert len(files_of(linked / "**" / "*.png")) == 2
    for source in (linked, linked / "**" / "*.png", linked / "**"):
        assert len(find_images(str(source), {".png"})[0]) in (2, 4)
    for source in (linked, linked / "**", linked / "**" / "*.nii.gz", linked / "*"):
        assert len(find_volumes(str(source))[0]) == 2


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["a.png"]),
        ("**/*.png", ["a.png", "s/b.png", "s/t/c.png"]),
        ("s/**/?.png", ["s/b.png", "s/t/c.png"]),
        ("**/t/*", ["s/t/c.png"]),
        ("**/[ac].png", ["a.png", "s/t/c.png"]),
        ("**/.x/*.png", ["s/.x/d.png"]),
        ("s/**", ["s", "s/b.png", "s/t", "s/t/c.png"]),
    ],
)
def test_patterns_are_those_of_the_shell(tmp_path: Path, pattern: str, found: list[str]) -> None:
    for name in ("a.png", "s/b.png", "s/t/c.png", "s/.x/d.png", ".e.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [file.relative_to(tmp_path).as_posix() for file in files_of(tmp_path / pattern)] == found


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["../other/b.nii.gz"], ["b"]),
        (["../other/b.nii.gz", "a.nii.gz"], ["other/b", "tables/a"]),
        (["x/../../other/b.nii.gz", "./a.nii.gz"], ["other/b", "tables/a"]),
        (["{tmp}/other/b.nii.gz", "../tables/a.nii.gz"], ["other/b", "tables/a"]),
    ],
)
def test_masks_of_a_table_whose_paths_climb_stay_in_the_output(
    tmp_path: Path, cells: list[str], names: list[str]
) -> None:
    for name in ("tables/a", "other/b"):
        write_nifti(tmp_path / f"{name}.nii.gz", np.zeros((2, 2, 2), np.uint8))
    (tmp_path / "tables" / "x").mkdir()
    text = "\n".join(["image", *cells]).replace("{tmp}", str(tmp_path))
    (tmp_path / "tables" / "t.csv").write_text(text)
    cases, root = listed_volumes(tmp_path / "tables" / "t.csv")
    assert [path.with_suffix("").as_posix() for path in volume_names(cases, root)] == names


def test_names_of_a_pattern_that_climbs_stay_below(tmp_path: Path) -> None:
    for name in ("a/x", "b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "b" / "1.png").touch()
    files, root = find_images(str(tmp_path / "a" / "*" / ".." / ".." / "b" / "1.png"))
    assert overlay_names(files, root) == [Path("1.jpg")]
    assert relative_paths([tmp_path / "b" / "1.png"], tmp_path) == [Path("b/1.png")]
