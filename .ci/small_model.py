"""Writes FOLDER/scene.png and FOLDER/small.ckpt: python .ci/small_model.py FOLDER."""

import sys

from PIL import Image

from densekit.artifact import save_artifact, untrained
from densekit.data import Scenes

CONFIG = """
backbone: {_target_: densekit.backbones.ResNet, depth: 18, width: 8}
heads:
  near: {_target_: densekit.heads.FCN, num_classes: 2, level: c2, aux_level: null}
"""


def main(folder: str) -> None:
    """A picture, and a model that a format compiles in seconds."""
    Image.fromarray(Scenes("test", 1)[0]["image"]).save(f"{folder}/scene.png")
    info = {"resize": {"min_size": 48, "max_size": 64}}
    save_artifact(f"{folder}/small.ckpt", untrained({"config": CONFIG, "info": info}), CONFIG)


if __name__ == "__main__":
    main(*sys.argv[1:])
