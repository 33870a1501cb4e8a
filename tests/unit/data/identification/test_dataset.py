"""Identity folders, tables, pair lists, open-set evaluation: what is read, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densekit.data import IdentityFolder, IdentityTable, ImageFolder, OpenSet, Source
from densekit.data.collate import collate
from densekit.data.identification.pairs import read_pairs
from densekit.data.naming import digest

LFW = "{name}/{name}_{number:04d}.png"


def save(path: Path, value: int = 0, size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (value, 0, 0)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four people of three images: s1, s2, s10 and Ann (é)."""
    for person, name in enumerate(("s1", "s2", "s10", "Ann é")):
        for number in (1, 2, 10):
            save(tmp_path / name / f"{name}_{number:04d}.png", 10 * person + number)
    (tmp_path / "empty").mkdir()
    (tmp_path / "s1" / "notes.txt").write_text("no image")
    return tmp_path


def test_folder_sorts_numbers_as_numbers(root):
    data = IdentityFolder(root)
    assert data.names == ["Ann é", "s1", "s2", "s10"]
    assert data.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    known = {"num_identities": 4, "identities": digest(data.names)}
    assert data.describe() == {**known, "channels": 3, "dtype": "uint8"}
    assert data.path(5).name == "s1_0010.png"
    sample = data[4]
    assert sample["identity"] == 1
    assert sample["identity"].dtype == np.int64
    assert sample["truth"]["identity"] == 1
    assert sample["truth"]["image_id"] == 4
    assert sample["image"][0, 0].tolist() == [2, 0, 0]
    assert data.sizes.tolist() == [[6, 8]] * 12


def test_identities_are_found_as_the_images_of_classes(root):
    (root / "empty").rmdir()
    save(root / ".trash" / "a.png")
    save(root / "s1" / ".thumbnails" / "a.png")
    save(root / "s1" / "deep" / "a.png")
    np.save(root / "s2" / "a.npy", np.full((6, 8, 3), 7, np.uint8))
    data, classes = IdentityFolder(root), ImageFolder(root, names=["Ann é", "s1", "s2", "s10"])
    assert data.names == classes.names
    assert (
        data.labels.tolist() == classes.categories.tolist() == [0] * 3 + [1] * 4 + [2] * 4 + [3] * 3
    )
    paths = [data.path(place) for place in range(len(data))]
    assert paths == [classes.path(place) for place in range(len(classes))]
    assert paths[3] == root / "s1" / "deep" / "a.png"
    assert data[7]["image"][0, 0].tolist() == [7, 7, 7]
    assert data.sizes.tolist() == classes.sizes.tolist() == [[6, 8]] * 14


def test_chosen_identities_have_labels_in_the_order_given(root):
    data = IdentityFolder(root, ["s10", "s1"], channels=1)
    assert data.names == ["s10", "s1"]
    assert data[0]["image"].shape == (6, 8, 1)
    assert data.path(3).parent.name == "s1"


def test_a_digest_tells_names_and_their_order_apart():
    found = [digest(names) for names in (["a", "b"], ["b", "a"], ["ab"], ["a"], ["a", "b", ""])]
    assert len(set(found)) == len(found)
    assert digest(iter(["a", "b"])) == found[0]


def test_identities_come_as_one_batch(root):
    data = IdentityFolder(root)
    batch = collate([data[0], data[11]], training=True)
    assert batch["identity"].tolist() == [0, 3]


@pytest.mark.parametrize(
    ("identities", "message"),
    [
        (["s3"], "expected .*s3, got none; did you mean 's"),
        (["s1", "s1"], "'s1' twice"),
        (["empty"], "empty: expected images of an identity, got none"),
    ],
)
def test_wrong_identities_are_refused(root, identities, message):
    with pytest.raises(ValueError, match=message):
        IdentityFolder(root, identities)


def table(root: Path, text: str) -> str:
    (root / "list.csv").write_text(text, encoding="utf-8")
    return "list.csv"


def test_table_with_split_templates_and_landmarks(root):
    points = ",".join(f"{axis}{n}" for n in range(1, 6) for axis in "xy")
    head = f"image,identity,split,template,media,gallery,note,{points}"
    rows = [
        "s1/s1_0001.png,b10,train,7,1,1,x," + ",".join("12345678910"[:9] + "0"),
        "s2/s2_0001.png,b2,train,8,1,0,,1,2,3,4,5,6,7,8,9,10",
        "s2/s2_0002.png,b2,test,9,2,1,,1,2,3,4,5,6,7,8,9,10",
    ]
    data = IdentityTable(root, table(root, "\n".join([head, *rows])), "train")
    assert data.names == ["b2", "b10"]
    assert data.labels.tolist() == [1, 0]
    sample = data[1]
    assert sample["extra"]["landmarks"].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    truth = sample["truth"]
    assert (truth["template"], truth["media"], truth["gallery"]) == (8, 1, False)
    assert collate([sample], training=True, target_specs=data.target_specs)["extra"][
        "landmarks"
    ].shape == (1, 8, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,name\ns1/s1_0001.png,a", "expected a column 'identity'"),
        ("image,identity\ns1/s1_0001.png,", "line 2: expected a value of 'identity', got an empty"),
        ("image,identity\nnone.png,a", "expected existing images, got 1 of 1 missing"),
        ("image,identity\n", "expected at least one row"),
        (
            "image,identity,template\ns1/s1_0001.png,a,x",
            "line 2: template: expected a whole number",
        ),
        ("image,identity,x1\ns1/s1_0001.png,a,1", "line 2: y1: .* got 'no such column'"),
        ("image,identity,template\ns1/s1_0001.png,a,nan", "line 2: template: .* got 'nan'"),
        ("image,identity,template\ns1/s1_0001.png,a,1.5", "expected a whole number, got '1.5'"),
        ("image,identity,template\ns1/s1_0001.png,a,1e30", "expected a whole number"),
        (f"image,identity,media\ns1/s1_0001.png,a,{1 << 63}", "expected a whole number"),
        ("image,identity,gallery\ns1/s1_0001.png,a,2", "gallery: expected 0 or 1, got '2'"),
        (
            "image,identity\ns1/s1_0001.png,a,b",
            r"line 2: expected 2 columns \(image, identity\), got",
        ),
        ("image,identity,x\n\ns1/s1_0001.png,a", "line 3: expected 3 columns .*, got"),
    ],
)
def test_wrong_tables_are_refused(root, text, message):
    with pytest.raises(ValueError, match=message):
        IdentityTable(root, table(root, text))


def test_an_unknown_split_is_refused_with_the_nearest(root):
    name = table(root, "image,identity,split\ns1/s1_0001.png,a,train")
    with pytest.raises(
        ValueError,
        match="IdentityTable.split: expected one of train, got 'trian'; did you mean 'train'",
    ):
        IdentityTable(root, name, "trian")


PAIRS = {
    "lfw.txt": "2\t1\ns1\t1\t2\ns1\t1\ts2\t10\ns2 1 2\ns2\t2\ts10\t1\n",
    "columns.txt": "# comment\n0 1 s1 1 s1 2\n0 0 s1 1 s2 10\n"
    "1 1 s2 1 s2 2 # more\n1 0 s2 2 s10 1\n",
    "pairs.csv": "first,second,same,fold\n"
    "s1/s1_0001.png,s1/s1_0002.png,1,0\ns1/s1_0001.png,s2/s2_0010.png,0,0\n"
    "s2/s2_0001.png,s2/s2_0002.png,true,1\ns2/s2_0002.png,s10/s10_0001.png,False,1\n",
}


@pytest.mark.parametrize("name", PAIRS)
def test_three_formats_of_pairs_say_the_same(root, name):
    (root / name).write_text(PAIRS[name])
    assert read_pairs(root / name, LFW) == [
        ("s1/s1_0001.png", "s1/s1_0002.png", True, 0),
        ("s1/s1_0001.png", "s2/s2_0010.png", False, 0),
        ("s2/s2_0001.png", "s2/s2_0002.png", True, 1),
        ("s2/s2_0002.png", "s10/s10_0001.png", False, 1),
    ]


@pytest.mark.parametrize("name", PAIRS)
def test_open_set_holds_the_images_of_pairs_and_no_target(root, name):
    (root / name).write_text(PAIRS[name])
    data = OpenSet(IdentityFolder(root), name, LFW)
    assert len(data) == 6
    assert not {"num_identities", "identities"} & data.describe().keys()
    samples = [data[i] for i in range(6)]
    assert all("identity" not in sample for sample in samples)
    ids = {sample["meta"]["path"]: sample["truth"]["image_id"] for sample in samples}
    first = next(s for s in samples if s["meta"]["path"].endswith("s1_0001.png"))
    other = [ids[str(root / "s1" / "s1_0002.png")], ids[str(root / "s2" / "s2_0010.png")]]
    assert first["truth"]["pairs"].tolist() == [[other[0], 1, 0], [other[1], 0, 0]]
    assert sum(len(sample["truth"]["pairs"]) for sample in samples) == 4
    Source(train=IdentityFolder(root, ["s1"]), test=data)  # the two agree on all that both say


def test_pairs_without_folds_are_dealt_into_ten(root):
    rows = ["s1/s1_0001.png,s1/s1_0002.png,1", "s1/s1_0001.png,s2/s2_0001.png,0"] * 12
    (root / "pairs.csv").write_text("\n".join(["first,second,same", *rows]))
    folds = [pair.fold for pair in read_pairs(root / "pairs.csv")]
    assert folds[::2] == folds[1::2] == [*range(10), 0, 1]


def test_pairs_of_templates(root):
    rows = ["s1/s1_0001.png,a,1", "s1/s1_0002.png,a,1", "s1/s1_0010.png,a,2", "s2/s2_0001.png,b,3"]
    name = table(root, "\n".join(["image,identity,template", *rows]))
    (root / "pairs.csv").write_text("first,second,same\n1,2,1\n2,3,0\n")
    data = OpenSet(IdentityTable(root, name), "pairs.csv")
    truths = [data[i]["truth"] for i in range(4)]
    assert [truth["template"] for truth in truths] == [1, 1, 2, 3]
    assert [truth["pairs"].tolist() for truth in truths] == [[[2, 1, 0]], [], [[3, 0, 0]], []]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "expected pairs, got none"),
        ("a.txt", "1 2\ns1 1 2\n", r"expected 1 folds of 2 \+ 2 pairs, got 1 pairs"),
        ("a.txt", "1\ns1 1 2\ns1 1 2\n", "line 3: expected NAME I OTHER J"),
        ("a.txt", "s1 1 2\ns1 1 2\n", "line 1: expected FOLDS PAIRS"),
        ("a.txt", "0 1 s1 1 s1 2\n0 1 s1 1 s1", "line 2: expected FOLD SAME NAME"),
        ("a.txt", "0 2 s1 1 s1 2", "line 1: same: expected 1 or 0, got '2'"),
        ("a.txt", "0 1 s1 x s1 2", "line 1: expected a whole number, got 'x'"),
        ("a.csv", "first,second\na,b", "expected a column 'same'"),
        ("a.csv", "first,second,same\na,b,1,0", "line 2: expected 3 columns .*, got"),
        ("a.csv", "first,second,same\na,b,", "line 2: expected a value of 'same', got an empty"),
        ("a.txt", "0 1 s1 1 s1 3", "got 's1/s1_0003.png'; did you mean"),
        ("a.txt", "0 0 s1 1 s1 2", "fit the identities of the data, got .* as two identities"),
    ],
)
def test_wrong_pairs_are_refused(root, name, text, message):
    (root / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        OpenSet(IdentityFolder(root), name, LFW)


def test_a_wrong_file_name_is_refused(root):
    (root / "a.txt").write_text("0 1 s1 1 s1 2")
    with pytest.raises(ValueError, match=r"expected \{name\} and \{number\} only"):
        read_pairs(root / "a.txt", "{person}/{number}.png")
    with pytest.raises(ValueError, match="pairs: expected an existing file, got .*none.txt"):
        read_pairs(root / "none.txt")
