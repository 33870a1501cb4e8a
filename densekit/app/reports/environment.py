"""Where the numbers come from: command, versions, git state, hardware, configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from densekit.app.reports.blocks import Block, Facts, Note, Text
from densekit.app.reports.folder import Run, console_text

LONGEST = 60_000
"""Characters of a log that are shown: its end."""


def environment(run: Run) -> list[Block]:
    """What was recorded when the run was started."""
    record = run.record
    if not record:
        return [
            Note(
                "The run did not record its command, versions and git state (run.json), as runs"
                " of this version do."
            )
        ]
    started = {"command": record.get("command"), "started": record.get("started")}
    started |= {"stopped": run.stopped or None, "resumed from": run.config.get("resume")}
    started |= {"checkpoint": run.config.get("checkpoint")}
    blocks: list[Block] = [Facts("Run", _shown(started)), Facts("Git", _git(record))]
    if hardware := record.get("hardware"):
        blocks.append(Facts("Hardware", _shown(hardware)))
    if versions := record.get("versions"):
        blocks.append(Facts("Versions", _shown(versions)))
    return blocks


def files(run: Run) -> list[Block]:
    """The configuration and the console log, to unfold."""
    blocks: list[Block] = []
    if run.config:
        text = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True, width=100)
        blocks.append(Text("config.yaml", text))
    if log := console_text(run):
        blocks.append(Text("console.log", log[-LONGEST:]))
    return blocks or [Note("The folder has neither config.yaml nor console.log.")]


def _git(record: Mapping[str, Any]) -> dict[str, str]:
    state = record.get("git")
    if not isinstance(state, Mapping):
        return {"state": "not started in a git work tree"}
    files = "differ from it" if state.get("changed") else "as committed"
    return _shown({"commit": state.get("commit"), "branch": state.get("branch"), "files": files})


def _shown(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(name).replace("_", " "): str(v) for name, v in values.items() if v is not None}
