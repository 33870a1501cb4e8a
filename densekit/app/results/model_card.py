"""The model card of a repository on the hub: what a model is, how it is used, what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from densekit.app.results.description import threshold_lines

PIPELINES = {
    "ATSS": "object-detection",
    "FCOS": "object-detection",
    "FasterRCNN": "object-detection",
    "RetinaNet": "object-detection",
    "SSD": "object-detection",
    "YOLOX": "object-detection",
    "Classification": "image-classification",
    "Embedding": "image-feature-extraction",
}
"""Class of a head to its task on the hub; densekit's others predict masks."""
MASKS = "image-segmentation"
MOST_NAMES = 30


def model_card(
    source: str, facts: Mapping[str, Any], metrics: Mapping[str, float], origin: str | None = None
) -> str:
    """Writes the card as Markdown with its YAML header.

    Args:
        source: `hub:OWNER/REPO`.
        facts: What `densekit info` tells of the model.
        metrics: Of `metrics.json`; empty if there are none.
        origin: Of a converted model, what it was.
    """
    heads: Mapping[str, Mapping[str, Any]] = facts["heads"]
    lines = ["---", yaml.safe_dump(_header(heads), sort_keys=False).strip(), "---", ""]
    lines += [f"# {source.removeprefix('hub:').partition('@')[0].partition('/')[2]}", ""]
    lines += [f"Converted from: {origin}.", ""] if origin else []
    lines += ["```bash", "pip install 'densekit[hub]'"]
    lines += [f"densekit predict checkpoint={source} source=FOLDER output=DIR"]
    lines += [f"densekit train checkpoint={source} data=NAME    # to start from it", "```", ""]
    lines += ["| part | class | settings |", "|---|---|---|"]
    parts = {"backbone": facts["backbone"], "neck": facts["neck"]}
    parts |= {f"head `{name}`": head for name, head in heads.items()}
    parts |= {f"combined `{name}`": one for name, one in facts.get("combine", {}).items()}
    lines += [_row(name, part) for name, part in parts.items() if part]
    lines += ["", "Input: " + "; ".join(f"{k} {v}" for k, v in facts["input"].items()) + ".", ""]
    for name, head in heads.items():
        lines += _classes(name, head.get("names") or ())
        lines += [f"Threshold of `{name}`: {line}." for line in threshold_lines(head)]
    if metrics:
        lines += ["## Metrics", "", "| metric | value |", "|---|---|"]
        lines += [f"| {name} | {value:.4f} |" for name, value in metrics.items()]
    return "\n".join(lines) + "\n"


def _header(heads: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    header: dict[str, Any] = {"library_name": "densekit", "tags": ["densekit"]}
    classes = [str(head["class"]) for head in heads.values()]
    if classes and classes[0].startswith("densekit.heads."):
        header["pipeline_tag"] = PIPELINES.get(classes[0].rpartition(".")[2], MASKS)
    return header


def _row(name: str, part: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{k} {v}" for k, v in part["settings"].items() if _is_short(v))
    return f"| {name} | `{part['class']}` | {settings} |"


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | list) and len(str(value)) <= 60


def _classes(head: str, names: Any) -> list[str]:
    if not names:
        return []
    shown = ", ".join(map(str, names[:MOST_NAMES])) + (", ..." if len(names) > MOST_NAMES else "")
    return [f"{len(names)} classes of `{head}`: {shown}.", ""]
