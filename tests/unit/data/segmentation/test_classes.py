"""Where the classes of masks are written, and what contradicts itself."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from densekit.data import (
    MaskFolder,
    Source,
    class_frequencies,
)

SIZE = (6, 8)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", "sky\nroad\n# no class\n\ncar\n"),
        ("classes.txt", "\ufeffsky \n\u00a0road\n# no class\n \u3000\ncar\r\n"),
        ("classes.json", '\ufeff["sky", "road ", " car"]'),
        ("classes.csv", "\ufeffName,Value\n sky,0\nroad\u00a0,1\ncar,2\n"),
        ("labels.txt", "sky\nroad\ncar\n"),
        ("classes.json", '["sky", "road", "car"]'),
        ("classes.json", '{"sky": 0, "road": 1, "car": 2}'),
        ("classes.json", '{"classes": ["sky", "road", "car", "void"], "ignore_index": 3}'),
        ("classes.csv", "name,value\nsky,0\nroad,1\ncar,2\n"),
        ("class_dict.csv", "name, r, g, b\nsky,0,0,1\nroad,1,0,1\ncar,2,0,1\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsky:0,0,1::\nroad:1,0,1::\ncar:2,0,1::"),
    ],
)
@pytest.mark.parametrize("place", [".", "masks"])
def test_classes_stand_in_a_file_beside_the_masks(pair, file, text, place):
    root = pair("images/train/a.png", "masks/train/a.png", 2)
    (root / place / file).write_text(text, encoding="utf-8")
    data = MaskFolder(root / "images" / "train", root / "masks" / "train")
    assert data.names == ["sky", "road", "car"]
    assert data.mask(0)[0, 0] == 2
    if file == "labelmap.txt":  # colours where masks are colours
        coloured = np.zeros((*SIZE, 3), dtype=np.uint8) + np.asarray([1, 0, 1], dtype=np.uint8)
        Image.fromarray(coloured).save(root / "masks" / "train" / "a.png")
        data = MaskFolder(root / "images" / "train", root / "masks" / "train")
        assert (data.mask(0) == 1).all()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classes.json", "[1", "expected JSON, got"),
        ("classes.json", "3", "a list of names"),
        ("classes.txt", "a\na", "'a' twice"),
        ("class_dict.csv", "label,r\nx,1", r"columns name .* got \['label', 'r'\]"),
        ("class_dict.csv", "name,r,g,b\nx,1,2,300", r"expected a colour .* got \[1, 2, 300\]"),
        ("classes.csv", "name,value\nx,one", "expected a whole number, got 'one'"),
        (
            "classes.csv",
            "name,value\nx\n",
            r"line 2: expected 2 columns \(name, value\), got \['x'\]",
        ),
        ("classes.txt", "a\na \n", "'a' twice"),
        ("classes.txt", "caf\u00e9\ncafe\u0301\n", " twice"),
        ("classes.txt", b"sky\ncaf\xe9\n", "expected a text file in UTF-8, got"),
        ("labels.txt", "sky\nroad\n".encode("utf-16"), "expected a text file in UTF-8, got"),
        ("labelmap.txt", b"caf\xe9:1,2,3::\n", "expected a text file in UTF-8, got"),
        ("class_dict.csv", b"name,r,g,b\ncaf\xe9,1,2,3\n", "expected a text file in UTF-8, got"),
        ("classes.json", b'["caf\xe9"]', "expected a text file in UTF-8, got"),
        ("classes.json", '{"a": 0, "a": 1}', "expected every name once, got 'a' twice"),
        ("classes.json", '["a", "a "]', "'a' twice"),
        ("classes.json", '{"a": false, "b": true}', "a: expected the whole number .*, got False"),
        ("classes.csv", "name,value\nx,1\ny,1\n", "a different value per class, got 1 twice"),
        ("classes.json", '["a", " "]', "expected a name for every class, got an empty one"),
        (
            "classes.json",
            '{"classes": ["a"], "ignore_index": "x"}',
            "expected a whole number, got 'x'",
        ),
    ],
)
def test_broken_class_files_are_named(pair, file, text, message):
    root = pair("i/a.png", "m/a.png")
    (root / "m" / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"{file}.*{message}"):
        MaskFolder(root / "i", root / "m")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": "cell"}, "the string 'cell'"),
        ({"names": ["a", "a"]}, "'a' twice"),
        ({"names": {"a": 1, "b": 1}}, "a different value per class, got 1 twice"),
        (
            {"names": ["a"], "mask_suffix": 1},
            "expected a prefix or suffix in quotes \\(YAML\\), got 1",
        ),
        ({"names": {"a": False, "b": True}}, "a: expected the whole number .*, got False"),
        ({"names": {"a": 0, "b": 1.0}}, "b: expected the whole number .*, got 1.0"),
        ({"names": {"a": "0", "b": "1"}}, "a: expected the whole number .*, got '0'"),
        ({"names": {"a": 0, "b": None}}, "b: expected the whole number .*, got None"),
        ({"names": ["a", "b"], "ignore": 2}, r"ignore: expected a list of stored values, got 2"),
        (
            {"names": ["a", "b", "c"], "ignore": [1]},
            "ignore: expected no value of a class, got that of 'b'",
        ),
        ({"names": ["a"], "colours": {"a": [0, 0, 0]}}, "expected `names` or `colours`, got both"),
        (
            {"colours": {"a": [0, 0], "b": [1, 1, 1]}},
            r"colours\.a: expected a colour .* got \[0, 0\]",
        ),
        ({"names": [str(i) for i in range(254)]}, "at most 253 classes"),
    ],
)
def test_contradictions_in_the_classes(pair, arguments, message):
    root = pair("i/a.png", "m/a.png")
    with pytest.raises((ValueError, TypeError), match=message):
        MaskFolder(root / "i", root / "m", **arguments)


def test_a_folder_a_class_is_multi_label(pair):
    root = pair("i/a.png", "liver/a.png", 255)
    pair("i/a.png", "tumour/a.png", 0)
    masks = {"liver": root / "liver", "tumour": root / "tumour"}
    data = MaskFolder(root / "i", masks)
    assert data.mask(0).shape == (2, *SIZE)
    assert data.mask(0).sum(axis=(1, 2)).tolist() == [8, 0]
    assert data.describe() | {"multilabel": True, "num_classes": 2} == data.describe()
    assert class_frequencies(data) == {"liver": 8, "tumour": 0}
    batch = next(iter(Source(val=data).eval_loader("val")))
    assert batch["mask"].shape == (1, 2, *SIZE)


@pytest.mark.parametrize("names", [["cell"], ["background", "cell"], None])
def test_stray_values_do_not_make_white_void(pair, names):
    root = pair("i/a.png", "m/a.png", 255)
    white = np.full(SIZE, 255, dtype=np.uint8)
    white[0, 0], white[0, 1] = 0, 1
    Image.fromarray(white).save(root / "m" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: expected 0 and 255.* got 0 and 1 and 255; mend"):
        MaskFolder(root / "i", root / "m", names=names)
    data = MaskFolder(root / "i", root / "m", names=names, ignore=[255])
    assert (data.mask(0) == 255).sum() == 46
