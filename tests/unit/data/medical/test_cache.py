from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from densekit.data import MedicalVolumes
from densekit.data.medical.cache import cached, entry_key
from tests.unit.data.medical_files import UPRIGHT, write_msd, write_nifti


def test_arrays_are_maps_of_files_and_made_once(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"a": np.arange(6).reshape(2, 3), "b": np.zeros(2, dtype=np.uint8)}

    for _ in range(2):
        found = cached(tmp_path / "new" / "folder", "key", ("a", "b"), make)
        assert isinstance(found["a"], np.memmap)
        assert not found["a"].flags.writeable
        np.testing.assert_array_equal(found["a"], make()["a"])
        calls.pop()
    assert len(calls) == 1
    assert sorted(p.name for p in (tmp_path / "new/folder").iterdir()) == ["key.a.npy", "key.b.npy"]


def test_no_folder_reads_every_time():
    calls = []
    for _ in range(2):
        cached(None, "", ("a",), lambda: calls.append(1) or {"a": np.zeros(1)})
    assert len(calls) == 2


def test_key_follows_the_file_and_the_rule(tmp_path):
    file = tmp_path / "a"
    file.write_text("one")
    key = entry_key([file], {"kind": "zscore"})
    assert entry_key([file], {"kind": "zscore"}) == key
    assert entry_key([file], None) != key
    os.utime(file, ns=(1, 1))
    moved = entry_key([file], {"kind": "zscore"})
    assert moved != key
    folder = entry_key([tmp_path], None)
    (tmp_path / "b").write_text("another slice")
    assert entry_key([tmp_path], None) != folder


def test_several_at_once_never_see_half_a_file(tmp_path):
    whole = np.random.default_rng(0).normal(size=200_000)

    def read(_):
        return float(cached(tmp_path, "k", ("a",), lambda: {"a": whole})["a"].sum())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(40))) == {float(whole.sum())}
    assert [p.name for p in tmp_path.iterdir()] == ["k.a.npy"]


def test_interrupted_making_leaves_nothing(tmp_path):
    def fail():
        raise ValueError("bad mask")

    with pytest.raises(ValueError, match="bad mask"):
        cached(tmp_path, "k", ("a",), fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY rubbish", b"x" * 50])
def test_damaged_entry_is_made_anew(tmp_path, content):
    (tmp_path / "k.a.npy").write_bytes(content)
    found = cached(tmp_path, "k", ("a",), lambda: {"a": np.ones(3)})
    assert found["a"].tolist() == [1, 1, 1]


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cache: .*file"):
        cached(tmp_path / "file", "k", ("a",), lambda: {"a": np.ones(3)})


def test_volumes_through_the_cache_are_the_same(tmp_path):
    root = write_msd(tmp_path / "msd", 2)
    rule = {"intensity": {"kind": "percentile"}, "spacing": [1.25, 1.0, 1.0]}
    plain = MedicalVolumes(root, **rule)[1]
    for _ in range(2):
        sample = MedicalVolumes(root, cache=tmp_path / "cache", **rule)[1]
        for key in ("image", "mask"):
            np.testing.assert_array_equal(sample[key], plain[key])
        np.testing.assert_array_equal(sample["truth"]["mask"], plain["truth"]["mask"])
    empty = np.zeros((5, 6, 7), dtype=np.uint8)
    write_nifti(root / "labelsTr" / "case_01.nii.gz", empty, UPRIGHT)
    assert MedicalVolumes(root, cache=tmp_path / "cache", **rule)[1]["mask"].max() == 0
