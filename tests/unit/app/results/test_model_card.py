"""The model card tells the hub what a model predicts."""

from __future__ import annotations

import pytest

from densekit import heads
from densekit.app.results.model_card import model_card

TASKS = {
    "boxes": "object-detection",
    "mask": "image-segmentation",
    "category": "image-classification",
    "identity": "image-feature-extraction",
}


def _card(target: str) -> str:
    part = {"class": target, "settings": {}}
    facts = {"backbone": part, "neck": None, "heads": {"main": part}, "input": {}}
    return model_card("hub:me/model", facts, {})


@pytest.mark.parametrize("name", sorted({*heads.__all__} - {"Head", "Combination", "Panoptic"}))
def test_every_head_has_its_task(name: str) -> None:
    keys = getattr(heads, name).target_keys
    task = TASKS["mask" if "object_masks" in keys else keys[0]]
    assert f"pipeline_tag: {task}\n" in _card(f"densekit.heads.{name}")


def test_the_task_of_another_s_head_is_not_guessed() -> None:
    assert "pipeline_tag" not in _card("acme.heads.Polyp")
