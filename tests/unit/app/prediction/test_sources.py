"""Where `densekit predict` looks for volumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from densekit.app.errors import UsageError
from densekit.app.prediction.sources import find_volumes, listed_volumes, volume_names


def test_a_pattern_that_matches_folder_and_file_names_each_volume_once(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "inner/b.nii"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    found, root = find_volumes(f"{tmp_path}/**")
    assert sorted(found) == [tmp_path / "a.nii.gz", tmp_path / "inner" / "b.nii"]
    assert root == tmp_path


def test_hidden_files_and_folders_are_no_volumes(tmp_path: Path) -> None:
    names = ["a.nii.gz", "._a.nii.gz", ".ipynb_checkpoints/a.nii.gz", "b/._1.dcm", ".DS_Store"]
    names += ["c/x.mha", "c/y.nrrd", "c/z.hdr", "c/z.img"]
    for name in names:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    found, root = find_volumes(str(tmp_path))
    relative = [file.relative_to(root) for file in found]
    assert list(map(str, relative)) == ["a.nii.gz", "c/x.mha", "c/y.nrrd", "c/z.hdr"]
    assert [str(name) for name in volume_names([[file] for file in found], root)] == [
        *("a.jpg", "c/x.jpg", "c/y.jpg", "c/z.jpg")
    ]


def test_a_table_lists_the_files_of_each_case(tmp_path: Path) -> None:
    lines = ["patient,image_0,image_1"]
    for patient in ("p1", "p2"):
        (tmp_path / patient).mkdir()
        for name in ("flair.nii.gz", "t1.nii.gz"):
            (tmp_path / patient / name).touch()
        lines.append(f"{patient},{patient}/flair.nii.gz,{patient}/t1.nii.gz")
    table = tmp_path / "cases.csv"
    table.write_text("\n".join(lines))
    cases, root = listed_volumes(table)
    assert [[file.name for file in case] for case in cases] == [["flair.nii.gz", "t1.nii.gz"]] * 2
    assert volume_names(cases, root) == [Path("p1/flair.jpg"), Path("p2/flair.jpg")]
    (tmp_path / "p2" / "t1.nii.gz").unlink()
    with pytest.raises(
        UsageError, match=r"cases\.csv: expected existing volumes, got .*t1\.nii\.gz"
    ):
        listed_volumes(table)
