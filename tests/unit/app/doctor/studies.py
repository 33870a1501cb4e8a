"""Studies made of plain facts, as the scan would return them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from densekit.app.doctor.checks.table import CHECKS
from densekit.app.doctor.facts import Example, Item, Mask, Part, Picture, Study, Volume

WIDTH, HEIGHT = 100, 80


def picture(number, **changes):
    """An ordinary image, other than those of other numbers."""
    rng = np.random.default_rng(number)
    return Picture(
        **{
            "format": "JPEG",
            "mode": "RGB",
            "height": HEIGHT,
            "width": WIDTH,
            "content": f"pixels {number}",
            "look": f"{int(rng.integers(0, 1 << 62)):016x}",
            "tones": rng.bytes(256).hex(),
            "low": 30.0,
            "high": 220.0,
            "spread": 50.0,
            "sharpness": 500.0 + number,
            **changes,
        }
    )


def item(box=(10, 10, 40, 50), label="cat", **changes):
    return Item(tuple(map(float, box)), label, changes.pop("where", "object"), **changes)


def example(number, *items, name="", **changes):
    """An image of 100 x 80 with boxes."""
    shown = changes.pop("picture", {})
    given = {"size": (HEIGHT, WIDTH), "annotation": Path("a.json"), "items": items, **changes}
    return Example(
        Path("images") / (name or f"{number}.jpg"),
        number,
        picture=picture(number, **shown) if isinstance(shown, dict) else shown,
        **given,
    )


def boxes(*examples, classes=("cat", "dog"), stored="coco", **changes):
    """A split of boxes, the given images after 30 ordinary ones."""
    plain = [example(n, item((5 + n, 5, 40, 50)), item((50, 20, 90, 70), "dog")) for n in range(30)]
    given = {"ids": [1, 2], **changes}
    return Part("train", [*plain, *examples], classes, stored=stored, kind="boxes", **given)


def masked(number, values=None, name="", picture_=None, **changes):
    """An image of 100 x 80 with a mask of the values 0 and 1."""
    image = example(number, items=None, annotation=None, name=name, picture=picture_ or {})
    facts = {
        "mode": "L",
        "height": HEIGHT,
        "width": WIDTH,
        "values": values or {0: 6000 - number, 1: 2000 + number},
        "content": f"values {number}",
        **changes,
    }
    return replace(image, mask_files=(Path("masks") / f"{number}.png",), masks=(Mask(**facts),))


def masks(*examples, **changes):
    """A split of masks, the given ones after 30 ordinary ones."""
    given = {"classes": ["cell"], "values": {0: "", 1: "cell", 255: ""}, **changes}
    return Part("train", [*map(masked, range(30)), *examples], kind="mask", **given)


def volume(number, mask=None, group=None, **changes):
    """A case of 10 x 20 x 30 voxels with a mask on the same grid."""
    facts = {
        "shape": (10, 20, 30),
        "spacing": (1.0, 1.0, 1.0),
        "orientation": "RAS",
        "affine": tuple(np.eye(4).ravel()),
        "unit": "mm",
        "low": 0.0,
        "high": 100.0 + number,
        "spread": 20.0,
        "content": f"voxels {number}",
    }
    file = Path(f"images/{number}.nii.gz")
    own = Volume(**{**facts, "values": {0: 5000, 1: 1000}, **(mask or {})})
    return Example(
        file,
        number,
        mask_files=(Path(f"masks/{number}.nii.gz"),),
        group=f"patient {number}" if group is None else group,
        files=(file,),
        volumes=(Volume(**{**facts, **changes}),),
        volume_masks=(own,),
    )


def volumes(*examples, name="train"):
    """A split of volumes, the given ones after 30 ordinary ones."""
    return Part(
        name,
        [*map(volume, range(30)), *examples],
        ["background", "tumour"],
        [0, 1],
        kind="volume",
        values={0: "background", 1: "tumour"},
    )


def labelled(labels, kind="category", name="train", **changes):
    """A split of images with one label each."""
    examples = [
        example(n, items=None, annotation=None, labels=(label,), name=f"{name}{n}.jpg")
        for n, label in enumerate(labels)
    ]
    given = {"classes": sorted(set(labels)), **changes}
    return Part(name, examples, kind=kind, **given)


def study(*parts, **changes):
    return Study("data", {part.name: part for part in parts}, **changes)


def found(name, *parts, **changes):
    """The messages of one check, each with the name of its file."""
    return [(Path(f.file).name, f.message) for f in CHECKS[name](study(*parts, **changes))]


def names_of(*parts, **changes):
    """The names of all checks that find something."""
    return {name for name, check in CHECKS.items() if list(check(study(*parts, **changes)))}
