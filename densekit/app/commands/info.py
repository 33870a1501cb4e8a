"""`densekit info`: shows what a checkpoint contains, without building the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit._console import plain, print_whole
from densekit.app.options.shared import checkpoint_file
from densekit.app.options.table import Command, Option, flag, parse_command
from densekit.app.results.description import describe, settings_of, threshold_lines

MAX_NAMES = 20
"""Most classes that are printed; of more, the first ones and their number."""
COMMAND = Command(
    name="info",
    usage="PATH [json=true]",
    about="""
Prints what a checkpoint (of a run folder, its best one) or an exported file contains: version,
backbone, neck, heads and their settings, classes with the ids of the data set, channels, mean, std,
resize rule, inferer, and from which score boxes, labels, pixels and faces count, where a validation
has measured it; of an exported file also how far it is from its model. The model is not
built.
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
    artifact = _read(file)
    facts = describe(artifact)
    facts |= {key: artifact[key] for key in ("shapes", "parity") if key in artifact}
    if options["json"]:
        import json

        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _print(file, facts)
    return 0


def _path(word: str) -> str:
    """Accepts `checkpoint=PATH`, as other commands take it, for PATH."""
    return word.removeprefix("checkpoint=")


def _read(file: str) -> Mapping[str, Any]:
    """Loads a checkpoint, or what an exported file says of itself."""
    from densekit.artifact import load_artifact
    from densekit.inference.export.formats import SUFFIXES, facts_of

    if Path(file).suffix not in SUFFIXES:
        return load_artifact(file)
    return {**facts_of(Path(file))._asdict(), "state_dict": {}}


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
            table.add_row(part, plain(_node_text(facts[part])))
    for key, value in facts["input"].items():
        table.add_row(plain(key), plain("as stored" if value is None else _plain(value)))
    for name, head in facts["heads"].items():
        table.add_row(plain(f"head {name}"), plain(_node_text(head)))
        if "names" in head:
            table.add_row("classes", plain(_classes(head["names"], head.get("ids"))))
        for line in threshold_lines(head):
            table.add_row("threshold", plain(line))
    for name, combination in facts["combine"].items():
        table.add_row(plain(f"combined {name}"), plain(_node_text(combination)))
    table.add_row("trained on", plain(", ".join(facts["data"]) or "unknown"))
    if "parity" in facts:
        table.add_row("shapes", plain(_plain(facts["shapes"])))
        table.add_row("beside its model", plain("\n".join(map(str, facts["parity"]["lines"]))))
    print_whole(table)


def _values(count: int) -> str:
    return f", {count:,} values in its tensors" if count else ", a program"


def _node_text(node: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{key} {_plain(value)}" for key, value in node["settings"].items())
    return f"{node['class']}\n{settings}" if settings else str(node["class"])


def _plain(value: Any) -> str:
    """A value in readable form; a node by the name of its class."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            name = str(value["_target_"]).rpartition(".")[2]
            settings = settings_of(value)
            return f"{name}({_plain(settings)})" if settings else name
        return ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(inner) for inner in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _classes(names: Sequence[str], ids: Sequence[int] | None) -> str:
    """Class names with the ids of the data set."""
    pairs = zip(ids if ids and len(ids) == len(names) else range(len(names)), names, strict=True)
    listed = [f"{number} {name}" for number, name in pairs]
    more = [f"... {len(listed)} in all"] if len(listed) > MAX_NAMES else []
    return ", ".join(listed[:MAX_NAMES] + more)
