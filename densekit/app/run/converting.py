"""The work of `densekit convert`: reads a source, reports, and writes a file or a repository."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from densekit.app.errors import UsageError
from densekit.app.options.shared import SOURCE, checkpoint_file
from densekit.app.results.description import describe
from densekit.app.results.model_card import model_card
from densekit.app.run.folder import METRICS
from densekit.app.terminal import quoted, read_metrics
from densekit.artifact import holds_artifact, load_artifact, write_artifact
from densekit.interop import Conversion, convert
from densekit.interop.hub import CARD, SCHEME, WEIGHTS, push

PUBLIC = ("backbone", "neck", "heads", "combine", "inferer")
"""Parts of a configuration that a repository gets: what predicts, and no path of this machine."""


@dataclass(frozen=True)
class Converted:
    """What is written.

    Attributes:
        content: `state_dict`, `config` and `info` of an artifact.
        report: Lines about how it came about.
        metrics: What the run measured; empty if it is none.
        origin: What a model of another library was.
    """

    content: Mapping[str, Any]
    report: Sequence[str]
    metrics: Mapping[str, float]
    origin: str | None = None


def convert_source(source: str, names: Sequence[str] | None, leave: Sequence[str]) -> Converted:
    """Reads a source of `densekit convert`.

    Raises:
        UsageError: Options about other libraries are given for a checkpoint of densekit.
        ValueError: See `densekit.interop.convert` and `densekit.artifact.load_artifact`.
    """
    path = Path(source).expanduser()
    if source.startswith(SCHEME) or (not SOURCE.match(source) and _is_own(path)):
        if names or leave:
            raise UsageError(
                f"names, leave: expected none for a checkpoint of densekit, got them for {source}"
            )
        return _own(source)
    found = convert(source, names, leave)
    content = {
        "state_dict": found.model.state_dict(),
        "config": yaml.safe_dump(dict(found.config), sort_keys=False),
        "info": found.model.info,
    }
    return Converted(content, report_of(found), {}, found.source)


def write(found: Converted, output: str) -> list[str]:
    """Writes a file, or pushes to `hub:OWNER/REPO`; returns lines that say what to do with it."""
    if not output.startswith(SCHEME):
        file = Path(output).expanduser()
        write_artifact(file, *_parts(found.content))
        return [f"written: {file}", *_next_commands(found.content, str(file))]
    with TemporaryDirectory() as folder:
        state, config, info = _parts(found.content)
        stored = yaml.safe_load(config)
        public = yaml.safe_dump({key: stored.get(key) for key in PUBLIC}, sort_keys=False)
        write_artifact(Path(folder) / WEIGHTS, state, public, info)
        facts = describe({"state_dict": state, "config": public, "info": info})
        card = model_card(output, facts, found.metrics, found.origin)
        (Path(folder) / CARD).write_text(card, encoding="utf-8")
        address = push(Path(folder), output)
    return [f"pushed:  {address}", *_next_commands(found.content, output)]


def _is_own(path: Path) -> bool:
    if path.is_dir():
        return (path / "checkpoints").is_dir() or any(path.glob("*.ckpt"))
    return path.is_file() and holds_artifact(path)


def _own(source: str) -> Converted:
    file = checkpoint_file(source)
    metrics = Path(source).expanduser() / METRICS
    measured = read_metrics(metrics) if metrics.is_file() else {}
    return Converted(load_artifact(file), [f"source:  {file}"], measured)


def _parts(content: Mapping[str, Any]) -> tuple[Any, str, Any]:
    return content["state_dict"], content["config"], content["info"]


def report_of(found: Conversion) -> list[str]:
    """What was converted, mapped, left out and assumed, one line each."""
    lines = [f"source:  {found.source}", f"mapped:  {len(found.mapped)} tensors"]
    for reason, count in Counter(found.left.values()).items():
        one = next(name for name, why in found.left.items() if why == reason)
        lines.append(f"left:    {_counted(count, one)}: {reason}")
    lines += [f"assumed: {text}" for text in found.assumed]
    heads: Mapping[str, Mapping[str, Any]] = found.model.info.get("heads", {})
    return lines + [f"head:    {name}, {_classes(known)}" for name, known in heads.items()]


def _counted(count: int, name: str) -> str:
    return f"{name} and {count - 1} more" if count > 1 else name


def _classes(known: Mapping[str, Any]) -> str:
    names = known.get("names", ())
    if not names:
        return "without classes"
    shown = ", ".join(names[:4])
    return f"{len(names)} classes ({shown}{', ...' if len(names) > 4 else ''})"


def _next_commands(content: Mapping[str, Any], name: str) -> list[str]:
    word = quoted(f"checkpoint={name}")
    if not yaml.safe_load(content["config"])["heads"]:
        return [f"train:   densekit train {word} ...    # a backbone; heads start afresh"]
    return [
        f"predict: densekit predict {word} source=FOLDER output=DIR",
        f"train:   densekit train {word} data=NAME ...",
    ]
