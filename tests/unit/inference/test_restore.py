"""Masks at the original size: the same in one piece and in chunks, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from densekit.inference import pixel_probabilities as module
from densekit.inference.restore import restore, restore_mask
from densekit.ops.interpolation import LINEAR

CASES = [
    ((23,), (61,)),
    ((23, 31), (61, 17)),
    ((9, 12, 10), (20, 7, 25)),
    ((9, 12, 10), (5, 12, 3)),
]


@pytest.mark.parametrize(("sides", "size"), CASES)
@pytest.mark.parametrize("chunk", [1, 500])
def test_chunks_interpolate_as_the_whole(
    sides: tuple[int, ...], size: tuple[int, ...], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.randn(4, *sides, generator=torch.Generator().manual_seed(0))
    mode = LINEAR[len(size)]
    expected = F.interpolate(logits[None], size, mode=mode, align_corners=False)[0]
    rows = module._interpolated(logits, size, 1, size[0])
    torch.testing.assert_close(rows, expected[:, 1:], rtol=0, atol=1e-5)
    monkeypatch.setattr(module, "CHUNK", chunk)
    np.testing.assert_array_equal(restore_mask(logits, size), expected.argmax(0).numpy())
    np.testing.assert_array_equal(restore_mask(logits, size, multilabel=True), expected > 0)
    np.testing.assert_array_equal(restore_mask(logits[:1], size), expected[0] > 0)


def test_chunks_without_resizing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, 7, 5)
    monkeypatch.setattr(module, "CHUNK", 1)
    np.testing.assert_array_equal(restore_mask(logits, (7, 5)), logits.argmax(0).numpy())


def test_no_chunk_is_larger_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = F.interpolate

    def record(x: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(x, *args, **kwargs)
        sizes.append(found.numel())
        return found

    monkeypatch.setattr(F, "interpolate", record)
    monkeypatch.setattr(module, "CHUNK", 4000)
    mask = restore_mask(torch.randn(3, 8, 8, 8), (40, 16, 20))
    assert mask.shape == (40, 16, 20)
    assert len(sizes) > 5
    assert max(sizes) <= 4000


def test_half_precision_logits() -> None:
    logits = torch.randn(3, 6, 8).bfloat16()
    np.testing.assert_array_equal(
        restore_mask(logits, (12, 16)), restore_mask(logits.float(), (12, 16))
    )


def test_padding_is_cut_before_resizing() -> None:
    logits = torch.full((1, 2, 8, 8), -1.0)
    logits[0, 1, :4, :6] = 1.0  # class 1 fills the image, the padding does not
    batch: Any = {"size": torch.tensor([[4, 6]]), "meta": [{"original_size": (9, 13)}]}
    (result,) = restore({"segmentation": {"logits": logits}}, batch)
    assert result["segmentation"]["mask"].shape == (9, 13)
    assert result["segmentation"]["mask"].all()
