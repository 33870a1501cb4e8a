"""Recipes that are too large to run here: composed, built and trained on miniature data."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from densekit.app.config import groups
from densekit.app.config.compose import compose
from densekit.app.config.data_info import model_info
from densekit.app.config.overrides import parse
from densekit.app.run.expectations import check_names, expectations
from densekit.app.run.fit import _module
from densekit.app.run.job import checked, configuration, train
from densekit.build import build_model, instantiate
from densekit.heads.faster_rcnn import detectron2_preset
from tests.unit.conf.miniature import miniature

NARROW = "neck.out_channels=16"
DETECTOR = (NARROW, "heads.detection.box_head.hidden=[32]")
RESIZED = "resize={min_size:64,max_size:100}"
ONE_SIZE = "train_transform.steps.resize.min_sizes=[64]"
SMALL: dict[str, tuple[str, ...]] = {
    "coco_": ("coco", RESIZED, f"data.coco.{ONE_SIZE}", *DETECTOR),
    "voc07_": ("voc07", RESIZED, f"data.voc07.{ONE_SIZE}", NARROW),
    "voc0712_": ("voc0712", RESIZED, *DETECTOR),
    "voc12aug_": (
        "voc12aug",
        "resize={min_size:64,max_size:256}",
        "data.voc12aug.train_transform.steps.scale.min_sizes=[64]",
        "data.voc12aug.train_transform.steps.augment.steps.RandomCrop.height=64",
        "data.voc12aug.train_transform.steps.augment.steps.RandomCrop.width=64",
    ),
    "imagenet_": ("image_folder",),
    **dict.fromkeys(("drive_", "stare_", "chase_db1_"), ("vessels", "vars.repeats=8")),
    "ms1mv3_": ("ms1mv3",),
}
"""Beginning of a recipe's name to its data set and to what makes its images or network small."""
RECIPES = [name for name in groups.options("experiment") if name.startswith(tuple(SMALL))]
RECIPES.remove("coco_small")
MACHINE = ("accelerator=cpu", "devices=1", "strategy=auto", "sync_batchnorm=false")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniature(tmp_path_factory.mktemp("miniature"))


def words(recipe: str, data: Path) -> list[str]:
    """The recipe with its own parts, narrow, on one CPU and without downloads."""
    name, *small = next(words for begin, words in SMALL.items() if recipe.startswith(begin))
    if name != "ms1mv3":
        small += ["backbone.weights=null", "backbone.width=16"]
    small += [f"data.{name}.batch_size=4", f"data.{name}.num_workers=0", "precision=32-true"]
    return [
        f"experiment={recipe}",
        f"paths.data={data}",
        *small,
        *(f"trainer.{w}" for w in MACHINE),
    ]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_built_and_measures_what_it_expects(recipe: str, data: Path) -> None:
    job = checked(configuration(parse(words(recipe, data))))
    cfg, info = job.cfg, model_info(job.sources, job.cfg["heads"], job.cfg["resize"])
    with torch.device("meta"):
        lit = _module(cfg, build_model(cfg, info))
    logged = {stage: lit.logged(stage, job.sources) for stage in ("val", "test")}
    check_names(expectations(cfg["expected"]), logged)
    assert cfg["expected"] or recipe in ("ms1mv3_arcface_r100", "voc07_faster_rcnn")
    stages = {name.partition("/")[0] for name in cfg["expected"] or ()}
    assert all(logged[stage].modes for stage in stages)  # it has data to be measured on


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains(recipe: str, data: Path, tmp_path: Path) -> None:
    few = ["trainer.max_steps=2", "trainer.max_epochs=-1", "callbacks.pictures=null"]
    few += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=2"]
    few += ["trainer.gradient_clip_val=1"]  # random weights below frozen norms explode
    few += ["backbone.depth=18"] * recipe.startswith("ms1mv3_")  # it is built whole above
    run = train(configuration(parse([*words(recipe, data), *few])), tmp_path / "run")
    assert (run / "checkpoints" / "last.ckpt").exists()


def test_detectron2s_rules_are_those_of_the_preset() -> None:
    file = groups.own_conf() / "head" / "faster_rcnn_d2.yaml"
    node = {**yaml.safe_load(file.read_text()), "num_classes": 80}
    found, wanted = instantiate(node, "head").keywords, detectron2_preset()
    assert set(found) - {"num_classes"} == set(wanted)
    for key, rule in wanted.items():
        if key == "detection":
            assert found[key] == rule
        else:
            assert found[key].func is rule.func
            assert _comparable(found[key].keywords) == _comparable(rule.keywords)


def _comparable(keywords: dict[str, Any]) -> dict[str, Any]:
    """Arguments with the lists of YAML as the tuples of Python."""
    rules = {key: asdict(rule) if is_dataclass(rule) else rule for key, rule in keywords.items()}
    rules = {key: {**rule} if isinstance(rule, dict) else rule for key, rule in rules.items()}
    for rule in rules.values():
        if isinstance(rule, dict) and "delta_weights" in rule:
            rule["delta_weights"] = tuple(rule["delta_weights"])
    return rules


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_names_its_source(recipe: str) -> None:
    head = (groups.own_conf() / "experiment" / f"{recipe}.yaml").read_text().split("\ndefaults:")[0]
    assert "# Source:" in head


@pytest.mark.parametrize("experiment", groups.options("experiment"))
def test_the_table_of_recipes_has_every_expected_result(experiment: str) -> None:
    page = Path(__file__).parents[3] / "docs" / "benchmarks" / "recipes.md"
    expected = expectations(_plain(compose(parse([f"experiment={experiment}"])).cfg.expected))
    begin = page.read_text().find(f"\n| `{experiment}` |")
    assert begin >= 0 or not expected
    lines = page.read_text()[begin + 1 :].splitlines()
    rows = [lines[0], *takewhile(lambda line: line.startswith("| |"), lines[1:])]
    for row, (name, wanted) in zip(rows, expected.items(), strict=bool(expected)):
        assert f" {name}: {wanted.value:g} ± {wanted.tolerance:g} |" in row


def _plain(node: Any) -> Any:
    return None if node is None else OmegaConf.to_container(node)
