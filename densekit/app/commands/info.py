"""`densekit info`: what a checkpoint contains, without building the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit._console import plain
from densekit.app.options.shared import checkpoint_file
from densekit.app.options.table import Command, Option, flag, parse_command
from densekit.app.report import print_whole

MAX_NAMES = 20
"""Classes that are printed; of more, the first and the number."""
COMMAND = Command(
    name="info",
    usage="PATH [json=true]",
    about="""
Prints what a checkpoint (of a run folder, its best one) or an exported program contains: version,
backbone, neck, heads and their settings, classes with the ids of the data set, channels, mean, std,
resize rule and inferer. The model is not built.
""",
    examples=(
        "info runs/quickstart/TIMESTAMP",
        "info runs/quickstart/TIMESTAMP/checkpoints/last.ckpt",
        "info model.pt2 json=true",
    ),
    options=(Option("json", flag(), False, "print JSON"),),
    words=("PATH",),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, words = parse_command(COMMAND, [_path(word) for word in arguments])
    file = str(checkpoint_file(words[0]))
    facts = describe(_read(file))
    if options["json"]:
        import json

        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _print(file, facts)
    return 0


def _path(word: str) -> str:
    """The path of `checkpoint=PATH`, as the other commands take it."""
    return word.removeprefix("checkpoint=")


def _read(file: str) -> Mapping[str, Any]:
    """A checkpoint, or of an exported program what it was made from."""
    from densekit.artifact import load_artifact
    from densekit.inference.export import SUFFIX, program_facts

    if Path(file).suffix != SUFFIX:
        return load_artifact(file)
    info, config = program_facts(Path(file))
    return {"info": info, "config": config, "state_dict": {}}


def describe(artifact: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to know of an artifact: plain values.

    Args:
        artifact: What `load_artifact` returns.
    """
    import yaml

    from densekit.artifact import model_config

    model, config = model_config(artifact["config"]), yaml.safe_load(artifact["config"])
    info = artifact["info"]
    known = info.get("heads", {})
    tensors = artifact["state_dict"].values()
    heads = {
        name: {"class": node["_target_"], "settings": _settings(node)} | dict(known.get(name, {}))
        for name, node in model["heads"].items()
    }
    return {
        "version": info.get("version"),
        "backbone": _named(model["backbone"]),
        "neck": _named(model["neck"]) if model["neck"] else None,
        "heads": heads,
        "input": {key: value for key, value in info.items() if key not in ("heads", "version")},
        "inferer": _named(config["inferer"]) if config.get("inferer") else None,
        "data": sorted(config.get("data") or {}),
        "seed": config.get("seed"),
        "values": sum(tensor.numel() for tensor in tensors if hasattr(tensor, "numel")),
    }


def _named(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"class": node["_target_"], "settings": _settings(node)}


def _settings(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if not key.startswith("_")}


def _print(file: str, facts: Mapping[str, Any]) -> None:
    from rich.table import Table

    size = Path(file).stat().st_size / 2**20
    table = Table(
        title=plain(f"{file}, {size:.1f} MiB{_values(facts['values'])}"),
        title_justify="left",
        show_header=False,
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    version = f"densekit {facts['version']}" if facts["version"] else "unknown"
    table.add_row("written by", plain(version))
    for part in ("backbone", "neck", "inferer"):
        if facts[part]:
            table.add_row(part, plain(_spoken(facts[part])))
    for key, value in facts["input"].items():
        table.add_row(plain(key), plain("as stored" if value is None else _plain(value)))
    for name, head in facts["heads"].items():
        table.add_row(plain(f"head {name}"), plain(_spoken(head)))
        if "names" in head:
            table.add_row("classes", plain(_classes(head["names"], head.get("ids"))))
    table.add_row("trained on", plain(", ".join(facts["data"]) or "unknown"))
    print_whole(table)


def _values(count: int) -> str:
    return f", {count:,} values in its tensors" if count else ", a program"


def _spoken(node: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key} {_plain(value)}" for key, value in node["settings"].items())
    return f"{node['class']}\n{settings}" if settings else str(node["class"])


def _plain(value: Any) -> str:
    """A value as a person writes it; nodes by the name of their class."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            name = str(value["_target_"]).rpartition(".")[2]
            settings = _settings(value)
            return f"{name}({_plain(settings)})" if settings else name
        return ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(inner) for inner in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _classes(names: Sequence[str], ids: Sequence[int] | None) -> str:
    """Names with the data set's own ids."""
    pairs = zip(ids if ids and len(ids) == len(names) else range(len(names)), names, strict=True)
    spoken = [f"{number} {name}" for number, name in pairs]
    more = [f"... {len(spoken)} in all"] if len(spoken) > MAX_NAMES else []
    return ", ".join(spoken[:MAX_NAMES] + more)
