"""Where `densekit predict` looks for volumes."""

from __future__ import annotations

from pathlib import Path

from densekit.app.sources import find_volumes


def test_a_pattern_that_matches_folder_and_file_names_each_volume_once(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "inner/b.nii"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    found, root = find_volumes(f"{tmp_path}/**")
    assert sorted(found) == [tmp_path / "a.nii.gz", tmp_path / "inner" / "b.nii"]
    assert root == tmp_path
