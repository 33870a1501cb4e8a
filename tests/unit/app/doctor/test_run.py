"""Data sets on disk with several defects each: all are found, and nothing in the clean ones."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densekit.app.cli import main
from densekit.app.doctor import collect
from densekit.app.doctor.run import diagnose
from densekit.data.protocols import Dataset
from tests.unit.app.doctor import small_sets as sets
from tests.unit.data.medical_files import write_series


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _found(node, **given):
    """Check to the names of the files that it names; "" without a file."""
    found = defaultdict(set)
    for finding in diagnose("mine", node, None, **given).findings:
        found[finding.check].add(Path(finding.file).name)
    return dict(found)


def _coco(root):
    return sets.dump(root, sets.coco(root))


@pytest.mark.parametrize("make", [_coco, sets.voc, sets.yolo, sets.masks, sets.volumes])
def test_nothing_is_found_in_clean_data(make, tmp_path):
    assert _found(make(tmp_path)) == {}


def test_images(tmp_path):
    node, images = sets.yolo(tmp_path), tmp_path / "images"
    (images / "0.png").write_bytes(b"")
    (images / "1.png").write_bytes(b"no image")
    whole = (images / "2.png").read_bytes()
    (images / "2.png").write_bytes(whole[: len(whole) // 2])
    sets.write(images / "3.png", sets.pixels(3), format="JPEG", quality=95)
    sets.write(images / "4.png", sets.pixels(5))
    sets.write(images / "6.png", np.full((*sets.SIZE, 3), 90, np.uint8))
    sets.write(images / "7.png", sets.pixels(8), compress_level=1)
    Image.fromarray(sets.pixels(9)).convert("L").save(images / "9.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    sets.write(images / "10.png", sets.pixels(10), exif=exif)
    assert _found(node) == {
        "empty-file": {"0.png"},
        "broken-image": {"1.png"},
        "truncated-image": {"2.png"},
        "wrong-suffix": {"3.png"},
        "mixed-formats": {"3.png"},
        "duplicate-image": {"5.png", "8.png"},
        "constant-image": {"6.png"},
        "grey-in-colour": {"6.png"},
        "mixed-modes": {"9.png"},
        "exif-orientation": {"10.png"},
    }


def test_coco_records(tmp_path):
    content = sets.coco(tmp_path)
    content["images"] += [{"id": 1, "file_name": "1.png"}, {"id": 90}, "no record"]
    content["images"].append({"id": 91, "file_name": "gone.png", "height": 48, "width": 64})
    content["categories"] += [{"id": 2, "name": "bird"}, {"id": 7, "name": "dog"}]
    content["categories"].append({"id": 9, "name": "cow"})
    good = content["annotations"][0]
    content["annotations"] += [
        good,
        {**good, "id": 100, "image_id": 12345},
        {**good, "id": 101, "category_id": 40},
        {**good, "id": 102, "bbox": [1, 2, 3]},
        {**good, "id": 103, "bbox": [1, 2, "wide", 3]},
        {**good, "id": 104, "image_id": 5, "segmentation": [[1, 2, 3]]},
        17,
    ]
    found = _found(sets.dump(tmp_path, content))
    assert found.pop("data-refused") == {""}
    assert {name: files for name, files in found.items() if "train.json" in files} == {
        name: {"train.json"}
        for name in (
            "malformed-record",
            "duplicate-image-id",
            "duplicate-annotation-id",
            "duplicate-category",
            "unknown-category",
            "annotation-without-image",
        )
    }
    assert found["missing-image"] == {"gone.png"}
    assert found["box-not-finite"] == {"0.png"}
    assert found["broken-outline"] == {"5.png"}
    assert found["class-unused"] == {""}
    assert found["category-id-gaps"] == {""}


def test_voc_files(tmp_path):
    node, xml = sets.voc(tmp_path), tmp_path / "Annotations"
    (xml / "0.xml").write_text("<annotation><object>")
    (xml / "1.xml").unlink()
    (xml / "no_image.xml").write_text("<annotation></annotation>")
    text = (xml / "2.xml").read_text()
    (xml / "2.xml").write_text(text.replace("<name>cat</name>", ""))
    (xml / "3.xml").write_text((xml / "3.xml").read_text().replace("<width>64", "<width>65"))
    (xml / "4.xml").write_text(text.replace("<xmax>30", "<xmax>4"))
    found = _found(node)
    assert found["malformed-annotation-file"] == {"0.xml"}
    assert found["image-without-annotation"] == {"1.png"}
    assert found["annotation-without-image"] == {"no_image.xml"}
    assert found["malformed-record"] == {"2.xml"}
    assert found["size-mismatch"] == {"3.png"}
    assert found["box-inverted"] == {"4.png"}


def test_yolo_rows(tmp_path):
    node, labels = sets.yolo(tmp_path), tmp_path / "labels"
    (labels / "0.txt").write_text("0 0.5 0.5")
    (labels / "1.txt").write_text("2 0.5 0.5 0.2 0.2")
    (labels / "2.txt").unlink()
    (labels / "spare.txt").write_text("")
    (labels / "3.txt").write_text("0 nan 0.5 0.2 0.2\n0 0.9 0.5 0.4 0.2")
    (labels / "4.txt").write_bytes(b"\xff\xfe\xfa")
    found = _found(node)
    assert found["malformed-record"] == {"0.txt"}
    assert found["unknown-category"] == {"1.txt"}
    assert found["image-without-annotation"] == {"2.png"}
    assert found["annotation-without-image"] == {"spare.txt"}
    assert found["box-not-finite"] == found["box-overhanging"] == {"3.png"}
    assert found["malformed-annotation-file"] == {"4.txt"}


def test_masks(tmp_path):
    node, folder = sets.masks(tmp_path), tmp_path / "masks"
    (folder / "0.png").unlink()
    (folder / "1.png").write_bytes(b"no mask")
    sets.write(folder / "2.png", np.zeros((10, 10), np.uint8))
    odd = np.asarray(Image.open(folder / "3.png")).copy()
    odd[0, :4], odd[1, :4] = 7, 9
    sets.write(folder / "3.png", odd)
    sets.write(folder / "spare.png", odd)
    found = _found(node)
    assert found["missing-mask"] == {"0.png"}
    assert found["broken-mask"] == {"1.png"}
    assert found["mask-size-mismatch"] == {"2.png"}
    assert found["unknown-mask-value"] == {"3.png"}
    assert found["mask-without-image"] == {"spare.png"}
    odd[odd == 9] = 7
    sets.write(folder / "3.png", odd)
    assert "data-refused" in _found(node)
    odd[odd == 0] = 7
    sets.write(folder / "3.png", odd)
    assert "foreground-taken-as-void" in _found(node)


def test_volumes(tmp_path):
    node = sets.volumes(tmp_path)
    values, mask = sets.voxels(50)
    place = {n: tmp_path / "images" / f"case_{n}.nii.gz" for n in range(sets.CLEAN)}
    label = {n: tmp_path / "masks" / f"case_{n}.nii.gz" for n in range(sets.CLEAN)}
    sets.save(place[0], values, np.diag([-1.0, 1.0, 2.0, 1.0]))
    sets.save(place[1], values, np.diag([1.0, 1.0, 9.0, 1.0]))
    place[2].write_bytes(place[3].read_bytes()[:90])
    bad = values.copy()
    bad[0] = np.nan
    sets.save(place[4], bad)
    sets.save(label[5], mask[:-1])
    sets.save(label[6], mask * 7)
    sets.save(label[7], mask * np.float32(0.5))
    sets.save(label[8], np.zeros_like(mask))
    sets.save(place[9], values, placed=False)
    found = _found(node)
    assert found["mixed-orientations"] >= {"case_0.nii.gz"}
    assert found["spacing-outlier"] == {"case_1.nii.gz"}
    assert found["broken-volume"] == {"case_2.nii.gz"}
    assert found["voxels-not-finite"] == {"case_4.nii.gz"}
    assert found["volume-mask-size"] == {"case_5.nii.gz"}
    assert found["unknown-volume-label"] == {"case_6.nii.gz"}
    assert found["mask-with-fractions"] == {"case_7.nii.gz"}
    assert found["empty-volume-mask"] == {"case_8.nii.gz"}
    assert found["orientation-unknown"] == {"case_9.nii.gz"}


def test_dicom_series(tmp_path):
    values = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.uint16)
    for name in ("whole", "gap", "two"):
        for kind, data in (("image", values), ("mask", values % 2)):
            write_series(tmp_path / name / kind, data)
    (tmp_path / "gap" / "image" / "003.dcm").unlink()
    write_series(tmp_path / "two" / "more", values, SeriesInstanceUID="1.2.4")
    for file in (tmp_path / "two" / "more").iterdir():
        file.rename(tmp_path / "two" / "image" / f"other_{file.name}")
    (tmp_path / "two" / "more").rmdir()
    split = {
        "_target_": "densekit.data.MedicalVolumes",
        "root": str(tmp_path),
        "channels": ["image"],
        "mask": "mask",
        "labels": {"background": 0, "tumour": 1},
        "intensity": {"kind": "zscore"},
    }
    (tmp_path / "cache").mkdir(exist_ok=True)
    node = {"_target_": "densekit.data.Source", "heads": ["segmentation"], "train": split}
    diagnosis = diagnose("mine", node, None)
    found = {f.check: f.file for f in diagnosis.findings}
    assert found["missing-slices"] == str(tmp_path / "gap" / "image")
    assert found["mixed-series"] == str(tmp_path / "two" / "image")
    assert "broken-volume" not in found


def test_splits_share_what_they_must_not(tmp_path):
    node = sets.voc(tmp_path)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for split, stems in (("train", range(20)), ("val", (19, 20, 21))):
        file = tmp_path / "ImageSets" / "Main" / f"{split}.txt"
        file.write_text("\n".join(map(str, stems)))
        node[split] = {**node["train"], "split": split}
    sets.write(tmp_path / "JPEGImages" / "20.png", sets.pixels(3))
    found = _found(node)
    assert found["file-in-two-splits"] == {"19.png"}
    assert found["duplicate-across-splits"] == {"20.png"}


def test_what_is_built_as_it_is(tmp_path):
    root = tmp_path / "people"
    for person in range(12):
        for number in range(2):
            file = root / f"p{person}" / f"{number}.png"
            sets.write(file, sets.pixels(10 * person + number))
    folder = {"_target_": "densekit.data.IdentityFolder", "root": str(root)}
    node = {
        "_target_": "densekit.data.Source",
        "heads": ["identity"],
        "train": {**folder, "identities": [f"p{n}" for n in range(8)]},
        "test": {
            "_target_": "densekit.data.OpenSet",
            "data": {**folder, "identities": [f"p{n}" for n in range(7, 12)]},
        },
    }
    assert set(_found(node)) == {"identity-in-two-splits", "file-in-two-splits"}


@pytest.mark.parametrize("target", ["SemanticScenes", "PlaceScenes", "CategoryScenes"])
def test_rendered_images_are_sampled(target):
    split = {"_target_": f"densekit.data.{target}", "split": "train", "length": 24}
    split |= {} if target == "PlaceScenes" else {"size": [64, 64]}
    head = "classification" if target == "CategoryScenes" else "segmentation"
    node = {"_target_": "densekit.data.Source", "heads": [head], "train": split}
    findings = diagnose("mine", node, None).findings
    assert [f.message for f in findings if f.severity == "error"] == []


def test_a_sample_that_a_plug_in_cannot_read_is_named(monkeypatch, tmp_path):
    class Mine(Dataset):
        """Boxes that only this class can read."""

        def __len__(self):
            return 3

        def path(self, index):
            return tmp_path / f"{index}.mine"

        def describe(self):
            return {"names": ["cat"], "num_classes": 1, "channels": 3}

        def __getitem__(self, index):
            if index == 1:
                raise KeyError("boxes")
            boxes = np.array([[2, 2, 40, 30.0]])
            truth = {"boxes": boxes, "labels": np.array([0])}
            return {"image": sets.pixels(index), "meta": {}, "truth": truth, **truth}

    study = collect.Study("mine", {"train": collect._part("train", Mine())})
    monkeypatch.setattr("densekit.app.doctor.run.collect", lambda *_: study)
    monkeypatch.setattr("densekit.app.doctor.run.refusal", lambda *_: None)
    (finding,) = diagnose("mine", {}, None).findings
    assert (finding.check, Path(finding.file).name) == ("broken-image", "1.mine")
    assert finding.message == "KeyError: 'boxes'"


def test_series_have_no_files_to_open(tmp_path):
    rows = [f"{['EI', 'IE'][n % 2]},{'ACGT'[n % 4]}CGT{n % 7 * 'A'}" for n in range(24)]
    (tmp_path / "dna.csv").write_text("\n".join(["label,sequence", *rows]))
    split = {"_target_": "densekit.data.SequenceTable", "table": str(tmp_path / "dna.csv")}
    node = {"_target_": "densekit.data.Source", "heads": ["classification"], "train": split}
    diagnosis = diagnose("mine", node, None)
    assert [f.check for f in diagnosis.findings if f.severity != "note"] == []
    assert len(diagnosis.study.parts["train"].examples) == 24


def test_a_data_set_that_cannot_be_read_is_one_finding(tmp_path):
    node = _coco(tmp_path)
    (tmp_path / "train.json").write_text("{")
    ((check, files),) = _found(node).items()
    assert (check, files) == ("data-refused", {""})


def test_a_second_examination_opens_nothing(tmp_path, monkeypatch):
    node = sets.masks(tmp_path)
    (tmp_path / "images" / "3.png").write_bytes(b"")
    first = _found(node)
    monkeypatch.setattr("densekit.app.doctor.scan.facts_of", lambda task: pytest.fail(str(task)))
    assert _found(node) == first


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _coco(tmp_path)
    (tmp_path / "images" / "3.png").write_bytes(b"")
    (tmp_path / "val.json").write_text((tmp_path / "train.json").read_text())
    words = ["doctor", "data=coco_folder", f"paths.data={tmp_path}", "vars.train.images=images"]
    words += ["vars.val.images=images", "workers=0"]
    assert main([*words, "output=report"]) == 1
    assert "empty-file" in capsys.readouterr().out
    content = json.loads((tmp_path / "report" / "doctor.json").read_text())
    (data,) = content["data"]
    assert data["counts"]["empty-file"] == 2
    assert data["statistics"]["train"]["objects"] == {"cat": sets.CLEAN, "dog": sets.CLEAN}
    page = (tmp_path / "report" / "doctor.html").read_text()
    assert "empty-file" in page
    assert "http" not in page.replace("http-equiv", "")
    ignored = "ignore=[empty-file,file-in-two-splits,data-refused]"
    assert main([*words, ignored]) == 0
    Image.fromarray(sets.pixels(4)).convert("L").save(tmp_path / "images" / "4.png")
    assert main([*words, ignored]) == 0
    assert main([*words, ignored, "fail_on=warning"]) == 1
    assert main(["doctor", "data=coco_folder", "ignore=[empty-fil]"]) == 2
    assert "did you mean 'empty-file'" in capsys.readouterr().err
    assert main(["doctor"]) == 2
