"""Which pictures an embedding is refused for, by what the checkpoint knows of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from densekit.data import AlignFace, Augment, Chain, IdentityFolder, Source
from densekit.data.identification.prepared import joined
from densekit.inference.prepared import check_prepared

FACE = {"min_size": [112, 112], "max_size": [112, 112], "aligned": True}
CUT = FACE | {"aligned": False}
MIXED = {"min_size": [80, 60], "max_size": [200, 160], "aligned": False}
RULE = {"min_size": 112, "max_size": 112}


@pytest.mark.parametrize(
    ("rule", "resize", "size", "message"),
    [
        (FACE, None, (112, 112), None),
        (FACE, None, (113, 112), "expected an aligned face of 112 x 112, got 113 x 112"),
        (FACE, RULE, (1, 1), "align_face crops one"),
        (CUT, None, (112, 112), None),
        (CUT, None, (1080, 1920), "expected an image of 112 x 112, cropped"),
        (CUT, RULE, (1080, 1920), None),  # the model brings it to its own size
        (CUT, RULE, (1, 1), "at most 2 times beyond, got 1 x 1"),
        (MIXED, None, (100, 90), None),
        (MIXED, None, (40, 320), None),
        (MIXED, None, (39, 100), "80 x 60 to 200 x 160"),
        (MIXED, None, (401, 100), "got 401 x 100"),
        ({"min_size": [1], "max_size": [1, 1]}, None, (1, 1), "info.prepared: min_size: expected"),
        ({}, None, (1, 1), "min_size: expected height and width, got None"),
    ],
)
def test_what_is_refused(
    rule: dict[str, Any], resize: Any, size: tuple[int, int], message: str | None
) -> None:
    if message is None:
        check_prepared(size, rule, resize, "a.png")
        return
    with pytest.raises(ValueError, match=message):
        check_prepared(size, rule, resize, "a.png")


@pytest.fixture
def people(tmp_path: Path) -> IdentityFolder:
    for person, size in (("a", (20, 30)), ("b", (25, 24))):
        (tmp_path / person).mkdir()
        Image.new("RGB", size).save(tmp_path / person / "1.png")
    return IdentityFolder(tmp_path)


def test_a_data_set_tells_its_sizes_and_its_alignment(people: IdentityFolder) -> None:
    found = Source(people, heads=["identity"]).prepared()
    assert found == {"min_size": [24, 20], "max_size": [30, 25], "aligned": False}
    align = Chain({"align": AlignFace(size=(64, 48)), "flip": Augment({"HorizontalFlip": {}})})
    source = Source(people, heads=["identity"], train_transform=align)
    aligned = {"min_size": [64, 48], "max_size": [64, 48], "aligned": True}
    assert source.prepared() == aligned
    assert Source(people, eval_transform=AlignFace(size=(64, 48))).prepared() == aligned
    assert Source(None, people).prepared() is None
    assert joined([found, aligned]) == {
        "min_size": [24, 20],
        "max_size": [64, 48],
        "aligned": False,
    }
    assert type(found["min_size"][0]) is int  # plain values: they are stored
    assert np.asarray(found["max_size"]).tolist() == found["max_size"]
