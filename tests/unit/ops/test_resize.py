"""The resize rule is torchvision's, and targets follow the image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from densekit.ops.resize import ResizeRule, resize_batch, resize_image, resized_size
from densekit.types import IGNORE_INDEX, Batch

RULES: list[ResizeRule] = [
    {"min_size": 800, "max_size": 1333},
    {"min_size": 64, "max_size": 96},
    {"min_size": 37, "max_size": 41},
]


def torchvision_size(height: int, width: int, rule: ResizeRule) -> tuple[int, int]:
    transform = GeneralizedRCNNTransform(rule["min_size"], rule["max_size"], [0.0], [1.0])
    resized, _ = transform.resize(torch.zeros(1, height, width))
    return int(resized.shape[1]), int(resized.shape[2])


@pytest.mark.parametrize("rule", RULES[1:])
def test_sizes_equal_torchvision(rule: ResizeRule) -> None:
    for height in range(10, 200, 7):
        for width in range(10, 200, 5):
            found = resized_size(height, width, rule)
            assert found == torchvision_size(height, width, rule), (height, width)


@pytest.mark.parametrize("size", [(480, 640), (427, 640), (333, 500), (1080, 1920), (600, 601)])
def test_common_sizes_equal_torchvision(size: tuple[int, int]) -> None:
    assert resized_size(*size, RULES[0]) == torchvision_size(*size, RULES[0])


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (800, 1067)), ((427, 640), (800, 1199)), ((300, 1000), (400, 1333))],
)
def test_sides_are_rounded_as_in_detectron2(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert resized_size(*size, {**RULES[0], "rounded": True}) == expected


def test_no_side_vanishes() -> None:
    assert resized_size(1, 5000, RULES[0]) == (1, 1333)


@pytest.mark.parametrize("size", [(30, 50), (77, 33), (64, 96), (200, 150)])
def test_pixels_equal_torchvision(size: tuple[int, int]) -> None:
    image = torch.rand(3, *size)
    transform = GeneralizedRCNNTransform(64, 96, [0.0], [1.0])
    torch.testing.assert_close(resize_image(image, RULES[1]), transform.resize(image)[0])


def test_dtypes() -> None:
    image = torch.randint(0, 255, (3, 20, 30))
    assert resize_image(image.to(torch.uint8), RULES[1]).dtype == torch.float32
    assert resize_image(image.double(), RULES[1]).dtype == torch.float64


def two_images() -> Batch:
    """Sizes 32 x 40 and 16 x 20, padded to the first, and their targets."""
    image = torch.randint(0, 256, (2, 3, 32, 40), dtype=torch.uint8)
    mask = torch.randint(0, 5, (2, 32, 40), dtype=torch.uint8)
    instance_masks = torch.randint(0, 2, (2, 8, 32, 40), dtype=torch.uint8)
    for pixels, fill in ((image, 0), (mask, IGNORE_INDEX), (instance_masks, IGNORE_INDEX)):
        pixels[1, ..., 16:, :] = fill
        pixels[1, ..., 20:] = fill
    return {
        "image": image,
        "size": torch.tensor([[32, 40], [16, 20]]),
        "boxes": torch.tensor([8.0, 4, 20, 16]).expand(2, 8, 4),
        "mask": mask,
        "instance_masks": instance_masks,
        "meta": [{"path": "a"}, {"path": "b"}],
    }


def test_a_batch_follows_its_images() -> None:
    batch = two_images()
    out = resize_batch(batch, {"min_size": 64, "max_size": 200})
    assert out["size"].tolist() == [[64, 80], [64, 80]]
    for i, (height, width) in enumerate(batch["size"].tolist()):
        expected = resize_image(batch["image"][i, :, :height, :width], RULES[1] | {"max_size": 200})
        torch.testing.assert_close(out["image"][i], expected)
    assert out["boxes"][0, 0].tolist() == [16, 8, 40, 32]
    assert out["boxes"][1, 0].tolist() == [32, 16, 80, 64]
    assert out["meta"] is batch["meta"]


@pytest.mark.parametrize("key", ["mask", "instance_masks"])
def test_masks_take_the_nearest_pixel(key: str) -> None:
    batch = two_images()
    out: Tensor = resize_batch(batch, {"min_size": 64, "max_size": 200})[key]  # type: ignore[literal-required]
    doubled = batch[key][0].repeat_interleave(2, -1).repeat_interleave(2, -2)  # type: ignore[literal-required]
    assert out.dtype == torch.uint8
    assert torch.equal(out[0], doubled)


@pytest.mark.parametrize(
    ("key", "fill"),
    [("image", 0), ("mask", IGNORE_INDEX), ("instance_masks", IGNORE_INDEX)],
)
def test_padding_is_collate_s(key: str, fill: int) -> None:
    batch = two_images()
    batch["size"] = torch.tensor([[32, 40], [16, 40]])
    out = resize_batch(batch, {"min_size": 32, "max_size": 50})
    assert out["size"].tolist() == [[32, 40], [20, 50]]
    padded: Tensor = out[key]  # type: ignore[literal-required]
    assert (padded[0, ..., 40:] == fill).all()
    assert (padded[1, ..., 20:, :] == fill).all()


def test_the_batch_itself_is_left_alone() -> None:
    batch = two_images()
    before = {key: value.clone() for key, value in batch.items() if isinstance(value, Tensor)}
    resize_batch(batch, {"min_size": 64, "max_size": 200})
    assert all(torch.equal(batch[key], value) for key, value in before.items())  # type: ignore[literal-required]


def test_a_batch_of_the_right_size_is_returned_as_it_is() -> None:
    batch = two_images()
    batch["size"] = torch.tensor([[32, 40], [32, 40]])
    assert resize_batch(batch, {"min_size": 32, "max_size": 50}) is batch


@pytest.mark.parametrize("size", [(300, 420), (421, 300), (90, 80), (200, 50)])
def test_a_crop_of_the_middle_is_torchvision_s(size: tuple[int, int]) -> None:
    rule: ResizeRule = {"min_size": 72, "crop": 64, "antialias": True}
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 255
    batch: Batch = {"image": image, "size": torch.tensor([size])}
    expected = v2.CenterCrop(64)(v2.Resize(72, antialias=True)(image))
    found = resize_batch(batch, rule)
    assert found["size"].tolist() == [[64, 64]]
    torch.testing.assert_close(found["image"], expected, rtol=1e-5, atol=1e-3)


def test_images_of_many_sizes_are_cropped_to_one() -> None:
    image = torch.rand(2, 3, 100, 160)
    image[1, :, 60:], image[1, :, :, 80:] = 0, 0
    batch: Batch = {"image": image, "size": torch.tensor([[100, 160], [60, 80]])}
    found = resize_batch(batch, {"min_size": 40, "crop": 32})
    assert found["image"].shape == (2, 3, 32, 32)
    assert (found["image"][1] > 0).all()  # nothing of the padding


def test_a_crop_keeps_a_side_that_is_shorter() -> None:
    batch: Batch = {"image": torch.rand(1, 3, 20, 50), "size": torch.tensor([[20, 50]])}
    found = resize_batch(batch, {"min_size": 20, "crop": 32})
    assert found["size"].tolist() == [[20, 32]]
    torch.testing.assert_close(found["image"], batch["image"][..., 9:41])


def test_boxes_and_masks_are_not_cropped() -> None:
    batch = Batch(image=torch.rand(1, 3, 20, 50), size=torch.tensor([[20, 50]]))
    batch["mask"] = torch.zeros(1, 20, 50, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"resize.crop: expected .* categories alone, got mask"):
        resize_batch(batch, {"min_size": 40, "crop": 32})
