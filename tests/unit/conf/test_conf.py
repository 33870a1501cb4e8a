"""Every file of `conf/`: it composes, its classes exist, its arguments are theirs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from densekit.app.config import groups
from densekit.app.config.compose import compose
from densekit.app.config.overrides import parse

CONF = groups.own_conf()
ALONE = ("experiment", "debug", "paths")
CHOICES = [
    f"{group}={option}"
    for group in groups.groups()
    if group not in ALONE
    for option in groups.options(group)
]
BLOCK = 10
"""Lines in a row, without comments and defaults, that no two files share."""
DERIVED = re.compile(r"\b(in_channels|strides?|in_features|feature_channels|feat_channels)\b")


@pytest.mark.parametrize("experiment", groups.options("experiment"))
def test_every_experiment_composes(experiment: str) -> None:
    cfg = compose(parse([f"experiment={experiment}"])).cfg
    wanted = {head for source in cfg.data.values() for head in source.get("heads", ["detection"])}
    assert wanted == set(cfg.heads)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_option_composes(choice: str) -> None:
    # compose() checks every `_target_` and every argument against the signature.
    compose(parse([choice]))


@pytest.mark.parametrize("debug", groups.options("debug"))
def test_every_debug_option_composes_with_an_experiment(debug: str) -> None:
    compose(parse(["experiment=quickstart", f"debug={debug}"]))


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda f: f.stem)
def test_no_shape_is_typed(file: Path) -> None:
    text = "\n".join(line.partition("#")[0] for line in file.read_text().splitlines())
    assert DERIVED.findall(text) == []


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda f: f.stem)
def test_package_header_is_the_first_line(file: Path) -> None:
    # Hydra stops looking for it at the first other comment.
    lines = file.read_text().splitlines()
    assert "@package" not in "\n".join(lines[1:])


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda f: f.stem)
def test_experiments_say_how_to_run_them(file: Path) -> None:
    head = file.read_text().split("\ndefaults:")[0]
    assert f"# Command:  densekit train experiment={file.stem}" in head
    assert "# Hardware:" in head
    assert "# Time:" in head


def test_what_takes_specs_or_parameters_is_partial() -> None:
    cfg: Any = OmegaConf.to_container(compose(parse([])).cfg, resolve=False)
    assert cfg["neck"]["_partial_"]
    assert cfg["optimizer"]["_partial_"]
    assert all(node["_partial_"] for node in cfg["heads"].values())


def test_sizes_of_backbones() -> None:
    assert compose(parse(["backbone=resnet50"])).cfg.backbone.depth == 50
    assert compose(parse(["backbone=resnext101_32x8d"])).cfg.backbone.width_per_group == 8


def test_no_block_of_lines_is_in_two_files() -> None:
    # What two files share belongs in one that the other names in its defaults.
    seen: dict[tuple[str, ...], Path] = {}
    for file in sorted(CONF.rglob("*.yaml")):
        lines = [line.split(" #")[0].rstrip() for line in file.read_text().splitlines()]
        own = [line for line in lines if line and not line.startswith(("#", "  - "))]
        for block in zip(*(own[n:] for n in range(BLOCK)), strict=False):
            assert seen.setdefault(block, file) == file, f"{file} repeats {seen[block]}: {block}"
