"""Embeddings with the mirror image: symmetric, of length 1, without padding."""

from __future__ import annotations

import pytest
import torch

from densekit.inference import MirroredEmbedding, WholeImage
from densekit.inference.augment import mirrored
from tests.unit.heads.test_embedding import batch, model
from tests.unit.tiny import targets, tiny_detector


def embedding(inferer, network, data):
    found = inferer.predict(network, data)["identity"]["embedding"]
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))
    return found


def test_an_image_and_its_mirror_image_have_one_embedding():
    network, data = model().eval(), batch()
    other = {**data, "image": data["image"].flip(-1)}
    found = embedding(MirroredEmbedding(), network, data)
    torch.testing.assert_close(found, embedding(MirroredEmbedding(), network, other))
    plain, mirror = (embedding(WholeImage(), network, d) for d in (data, other))
    torch.testing.assert_close(found, torch.nn.functional.normalize(plain + mirror))


def test_each_image_is_mirrored_without_its_padding():
    network, data = model().eval(), batch()
    data["size"] = torch.tensor([[64, 96], [64, 64], [32, 96], [64, 96]])
    other = mirrored(network, data, [-1])
    assert torch.equal(other["size"], data["size"])
    for row, (height, width) in enumerate(data["size"].tolist()):
        wanted = data["image"][row, :, :height, :width].flip(-1)
        assert torch.equal(other["image"][row, :, :height, :width], wanted)
        assert other["image"][row, :, :, width:].eq(0).all()


def test_a_detector_is_refused():
    with pytest.raises(
        ValueError, match=r"MirroredEmbedding expected an embedding .* from heads\.detection"
    ):
        MirroredEmbedding().predict(tiny_detector().eval(), targets([1]))
