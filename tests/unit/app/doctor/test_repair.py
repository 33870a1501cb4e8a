"""Repaired copies: read by densekit without a finding of an error, their sources untouched."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densekit.app.doctor.collect import collect
from densekit.app.doctor.facts import Example, Part, Study
from densekit.app.doctor.repair import LIST, repair
from densekit.app.doctor.rewriting import clipped
from densekit.app.doctor.run import diagnose
from densekit.app.doctor.scan import scan
from densekit.app.errors import UsageError
from tests.unit.app.doctor import small_sets as sets


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _repaired(node, data, target):
    """Repairs; returns what was done and the node of the copy."""
    before = _content(data / "set")
    done = repair(scan(collect("mine", node, None), 0), node, data, target)
    assert _content(data / "set") == before
    copy = json.loads(json.dumps(node).replace(str(data), str(target)))
    return dict(done), copy


def _content(folder):
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def _errors(node):
    return [f for f in diagnose("mine", node, None).findings if f.severity == "error"]


def _turned(file, orientation=6):
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(file) as image:
        image.load()
        image.save(file, exif=exif)


def test_coco(tmp_path):
    root = tmp_path / "set"
    content = sets.coco(root)
    good = content["annotations"]
    good[0]["bbox"] = [50, 10, 40, 20]
    good[1]["bbox"] = [10, 10, 0, 20]
    good[2]["bbox"] = [10, "left", 5, 20]
    good[3]["category_id"] = 99
    good[4]["id"] = good[5]["id"]
    content["annotations"].append({**good[6], "image_id": 12345, "id": 999})
    (root / "images" / "9.png").write_bytes(b"")
    _turned(root / "images" / "8.png", 3)
    node = sets.dump(root, content)
    assert _errors(node)
    done, copy = _repaired(node, tmp_path, tmp_path / "fixed")
    assert done == {
        "box clipped": 1,
        "box left out": 2,
        "annotation left out": 4,
        "image left out": 1,
        "EXIF orientation applied": 1,
    }
    assert _errors(copy) == []
    new = json.loads((Path(copy["train"]["root"]) / "train.json").read_text())
    assert len(new["images"]) == sets.CLEAN - 1
    assert new["annotations"][0]["bbox"] == [50, 10, 14, 20]
    assert len({a["id"] for a in new["annotations"]}) == len(new["annotations"])
    assert len(json.loads((tmp_path / "fixed" / LIST).read_text())) == sum(done.values())
    with Image.open(Path(copy["train"]["root"]) / "images" / "8.png") as image:
        assert image.getexif().get(0x0112) is None
        assert (np.asarray(image) == sets.pixels(8)[::-1, ::-1]).all()


def test_voc_with_lists(tmp_path):
    root = tmp_path / "set"
    node = sets.voc(root)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, stems in (("train", range(20)), ("val", (19, 20, 21))):
        (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
        node[split] = {**node["train"], "split": split}
    sets.write(root / "JPEGImages" / "3.png", sets.pixels(20))
    xml = root / "Annotations"
    (xml / "5.xml").write_text((xml / "5.xml").read_text().replace("<xmax>30", "<xmax>500"))
    (xml / "6.xml").write_text((xml / "6.xml").read_text().replace("<xmax>30", "<xmax>2"))
    (xml / "7.xml").write_text((xml / "7.xml").read_text().replace("<name>cat</name>", ""))
    done, copy = _repaired(node, tmp_path, tmp_path / "fixed")
    assert done == {
        "box clipped": 1,
        "box left out": 1,
        "object left out": 1,
        "line left out": 2,
        "image left out": 1,
    }
    assert _errors(copy) == []
    listed = (Path(copy["train"]["root"]) / "ImageSets/Main/train.txt").read_text().split()
    assert listed == [str(n) for n in range(19) if n != 3]
    assert (Path(copy["train"]["root"]) / "JPEGImages" / "19.png").exists()


def test_yolo(tmp_path):
    root = tmp_path / "set"
    node = sets.yolo(root)
    (root / "labels" / "0.txt").write_text("0 0.9 0.5 0.4 0.2\n0 0.5 0.5\n9 0.5 0.5 0.1 0.1\n")
    (root / "labels" / "1.txt").write_text("0 1.9 0.5 0.1 0.2\n1 0.5 0.5 0.2 0.2\n")
    (root / "images" / "2.png").write_bytes(b"no image")
    done, copy = _repaired(node, tmp_path, tmp_path / "fixed")
    assert done == {"box clipped": 1, "row left out": 2, "box left out": 1, "image left out": 1}
    assert _errors(copy) == []
    text = (Path(copy["train"]["root"]) / "labels" / "0.txt").read_text()
    assert text == "0 0.85 0.5 0.3 0.2\n"


def test_masks(tmp_path):
    root = tmp_path / "set"
    node = sets.masks(root)
    (root / "masks" / "0.png").unlink()
    sets.write(root / "masks" / "1.png", np.zeros((9, 9), np.uint8))
    _turned(root / "images" / "2.png")  # the mask is that of the stored image
    done, copy = _repaired(node, tmp_path, tmp_path / "fixed")
    assert done == {"image left out": 2, "EXIF removed": 1}
    assert _errors(copy) == []


def test_what_is_refused(tmp_path):
    study = Study("mine", {"train": Part("train", [Example(tmp_path / "a")], kind="")})
    with pytest.raises(UsageError, match="fix: expected boxes"):
        repair(study, {}, tmp_path, tmp_path / "fixed")
    node = sets.masks(tmp_path / "masks")
    study = scan(collect("mine", node, None), 0)
    with pytest.raises(UsageError, match="outside of the data"):
        repair(study, node, tmp_path, tmp_path / "masks" / "images" / "fixed")
    with pytest.raises(UsageError, match="new or empty"):
        repair(study, node, tmp_path, tmp_path / "masks")


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((-5, 10, 20, 30), (0, 10, 20, 30)),
        ((10, 10, 200, 300), (10, 10, 100, 80)),
        ((110, 10, 200, 30), None),
        ((10, 10, 10, 30), None),
        ((10, 10, float("nan"), 30), None),
    ],
)
def test_clipping(box, expected):
    assert clipped(box, (80, 100)) == expected
