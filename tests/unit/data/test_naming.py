"""Words that look alike are one, wherever a table has them; others that might be are said."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from PIL import Image

from densekit.data import (
    IdentityTable,
    ImageTable,
    MaskList,
    MedicalVolumes,
    SequenceTable,
    SplitRule,
)
from densekit.data.naming import same_words, say_lookalikes
from tests.unit.data.medical_files import write_msd

ACCENTED, COMBINED = "caf\u00e9", "cafe\u0301"
ALIKE = [
    ("P1", "P1 "),
    ("P1", "\u00a0P1"),
    ("P1", "P1\u3000"),
    ("P1", "\ufeffP1"),
    ("P1", "P1\u200b"),
    (ACCENTED, COMBINED),
    ("1", "1.0"),
    ("12", "12."),
]


@pytest.mark.parametrize(("word", "other"), ALIKE)
def test_words_that_look_alike_are_one(word, other):
    assert len(set(same_words([word, other]))) == 1
    held = SplitRule(every=2).members("test", [word, "2", other, "3"])
    assert {0, 2} <= set(held) or not {0, 2} & set(held)


@pytest.mark.parametrize(
    ("word", "other"), [("1", "1.5"), ("v1", "v1.0"), ("a b", "ab"), ("-1", "1")]
)
def test_other_words_stay_apart(word, other):
    assert same_words([word, other]) == [word, other]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["p1", "P1", "p2"], "'P1' and 'p1' count as different"),
        (["1", "01", "001", "2"], "'001' and '01' and '1' count as different"),
        (["a", "A", "b", "B"], r"(and 1 more such groups)"),
        (["a", "b", "10"], None),
    ],
)
def test_capital_letters_and_zeros_are_said(words, said, caplog):
    with caplog.at_level(logging.WARNING, "densekit.data"):
        say_lookalikes(words, "table.csv: patient")
    assert (said in caplog.text) if said else not caplog.records


@pytest.mark.parametrize(("word", "other"), ALIKE)
def test_a_patient_of_a_table_of_volumes_is_in_one_split(tmp_path, word, other):
    write_msd(tmp_path, count=4)
    patients = [word, "2", other, "3"]
    lines = [
        f"imagesTr/case_{case:02d}.nii.gz,labelsTr/case_{case:02d}.nii.gz,{patient}"
        for case, patient in enumerate(patients)
    ]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["\ufeffimage , mask\u00a0,patient", *lines]), encoding="utf-8-sig")
    held = MedicalVolumes(
        table, "test", splits=SplitRule(every=2), labels={"background": 0, "a": 1, "b": 2}
    )
    names = {case.name for case in held.cases}
    assert len(names & {"case_00", "case_02"}) in (0, 2)


@pytest.fixture
def pictures(tmp_path):
    for number in range(3):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")
        mask = np.zeros((4, 4), np.uint8)
        mask[0] = 1
        Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
    return tmp_path


@pytest.mark.parametrize(("word", "other"), ALIKE)
def test_classes_and_identities_that_look_alike_are_one(pictures, word, other):
    header = "image,label,identity,split"
    lines = [f"0.png,{word},{word},train", f"1.png,{other},{other},train "]
    lines += ["2.png\u00a0,7,7,\u3000train"]
    (pictures / "t.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    classes = ImageTable(pictures, "t.csv", split="train")
    assert classes.categories.tolist() in ([0, 0, 1], [1, 1, 0])
    faces = IdentityTable(pictures, "t.csv", split="train")
    assert faces.num_identities == 2
    several = ImageTable(pictures, "t.csv", separator="|")
    assert several.categories.sum(axis=0).tolist() in ([1, 2], [2, 1])
    (pictures / "s.csv").write_text(f"label,sequence\n{word},AC\n{other},GT\n", encoding="utf-8")
    assert len(SequenceTable(pictures / "s.csv").names) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", "\ufeffimage\u00a0, mask\n0.png\u3000,0_mask.png \n"),
        ("l.tsv", "image\tmask\n 0.png\t\u00a00_mask.png\n"),
        ("l.txt", "\u00a00.png\t0_mask.png\u3000\n \u00a0\n"),
    ],
)
def test_files_of_a_list_are_trimmed(pictures, name, text):
    (pictures / name).write_text(text, encoding="utf-8-sig")
    assert len(MaskList(pictures, name, names=["cell"])) == 1


@pytest.mark.parametrize(
    "content", [b"image,mask\ncaf\xe9.png,x\n", "image,mask\n".encode("utf-16")]
)
def test_tables_that_are_not_utf8_are_named(pictures, content):
    (pictures / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.csv: expected a text file in UTF-8, got"):
        MaskList(pictures, "t.csv", names=["cell"])
    with pytest.raises(ValueError, match=r"t\.csv: expected a text file in UTF-8, got"):
        MedicalVolumes(pictures / "t.csv")


def test_whole_numbers_of_a_spreadsheet(pictures):
    (pictures / "t.csv").write_text("image,identity,template\n0.png,a,1.0\n1.png,a,2\n2.png,b,1")
    _, templates = IdentityTable(pictures, "t.csv").templates()
    assert templates.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"labels": {"a": 0, "b": 1, "a": 2}}', "expected every name once, got 'a' twice"),
        (b'{"labels": {"caf\xe9": 0}}', "expected a text file in UTF-8, got"),
        (b'{"labels": {"a": 0, "a ": 1}, PAIRS}', "'a' twice"),
        (b"[", "expected JSON, got"),
    ],
)
def test_broken_dataset_json_is_named(tmp_path, content, message):
    write_msd(tmp_path, count=1)
    text = (tmp_path / "dataset.json").read_bytes()
    (tmp_path / "dataset.json").write_bytes(b"\xef\xbb\xbf" + text)
    assert len(MedicalVolumes(tmp_path)) == 1
    pairs = json.dumps(json.loads(text)["training"]).encode()
    (tmp_path / "dataset.json").write_bytes(content.replace(b"PAIRS", b'"training": ' + pairs))
    with pytest.raises(ValueError, match=rf"dataset\.json.*{message}"):
        MedicalVolumes(tmp_path)


def test_a_column_that_stands_twice_is_refused(pictures):
    (pictures / "t.csv").write_text("image,mask,mask ,,\n0.png,0_mask.png,1_mask.png,,\n")
    with pytest.raises(ValueError, match=r"t\.csv: expected every column once, got 'mask' twice"):
        MaskList(pictures, "t.csv", names=["cell"])
