"""Plants every defect in clean copies of data sets and counts what `densekit doctor` finds.

Writes the tables of `docs/doctor.md` between its markers:

    python tools/doctor_recall.py data=FOLDER output=docs/doctor.md
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from planted import labels, objects, pictures
from planted.copies import Copy
from planted.sets import SETS

from densekit.app.config.compose import compose
from densekit.app.config.overrides import parse
from densekit.app.config.resolve import data_nodes
from densekit.app.doctor.checks.table import AREAS, CHECKS
from densekit.app.doctor.findings import Finding, Severity
from densekit.app.doctor.run import diagnose
from densekit.app.options.table import Option, names, split_options, text

WHOLE = ("bccd", "camvid", "coco_small", "hippocampus", "isbi2012", "orl", "pennfudan", "splice")
"""Configurations of real data."""
OPTIONS = (
    Option("data", text("FOLDER"), None, "folder of the data sets"),
    Option("output", text("FILE"), None, "page whose tables are replaced"),
    Option("sets", names("SET"), tuple(SETS), "the data sets"),
    Option("checks", names("CHECK"), (), "the checks; all by default"),
    Option("whole", names("NAME"), WHOLE, "configurations of data that are examined as they are"),
)
BEGIN, END = "<!-- begin: tools/doctor_recall.py -->", "<!-- end: tools/doctor_recall.py -->"
TABLES = (pictures.PLANTS, objects.PLANTS, labels.PLANTS)
Outcome = dict[str, dict[str, bool]]
"""Check to data set to whether the planted defect was found."""


def main(words: list[str]) -> int:
    """Measures; returns 1 if a defect was not found."""
    options, _ = split_options(words, OPTIONS)
    logging.disable(logging.WARNING)
    found: Outcome = defaultdict(dict)
    clean: dict[str, list[Finding]] = {}
    for name in options["sets"]:
        with tempfile.TemporaryDirectory() as folder:
            clean[name] = _measure(
                name, Path(options["data"]), Path(folder), options["checks"], found
            )
    whole = {name: _whole(name, options["data"]) for name in options["whole"]}
    lines = [
        *(_summary(found), "", *_recall(found), "", *_alarms("clean copy", clean)),
        *("", *_alarms("whole data set", whole)),
    ]
    if options["output"] is None:
        print("\n".join(lines))
    else:
        _replace(Path(options["output"]), lines)
    missed = [(check, name) for check, of in found.items() for name, hit in of.items() if not hit]
    print(f"planted {sum(map(len, found.values()))}, missed {len(missed)}: {missed}")
    return int(bool(missed))


def _measure(
    name: str, data: Path, folder: Path, checks: tuple[str, ...], found: Outcome
) -> list[Finding]:
    """Plants each defect in its own copy of a data set; returns what the clean one has."""
    kept, root = folder / "clean", folder / "copy"
    made = SETS[name](data, root)
    shutil.copytree(root, kept)
    clean = _findings(made)
    print(f"{name}: {dict(Counter(f.check for f in clean))}", flush=True)
    for check, plant in _plants(name, made.kind):
        if checks and check not in checks:
            continue
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        rng = np.random.default_rng(len(check))
        copy = Copy(root, made.kind, made.splits, _copied(made.node), rng, made.resize)
        plant(copy)
        new = Counter(f.check for f in _findings(copy))
        found[check][name] = new[check] > sum(f.check == check for f in clean)
        if not found[check][name]:
            print(f"  missed {check}: {dict(new)}", flush=True)
    return clean


def _plants(name: str, kind: str) -> list[tuple[str, objects.Plant]]:
    return [
        (check, plant)
        for table in TABLES
        for check, (where, plant) in table.items()
        if kind in where or name in where
    ]


def _copied(node: dict[str, object]) -> dict[str, object]:
    import copy

    return copy.deepcopy(node)


def _findings(copy: Copy) -> list[Finding]:
    return list(diagnose("data", copy.node, copy.resize).findings)


def _whole(name: str, data: str) -> list[Finding]:
    """What is found in a data set as `densekit doctor data=NAME` reads it."""
    cfg = compose(parse([f"data={name}", f"paths.data={data}"])).cfg
    resize = None if cfg.get("resize") is None else dict(cfg.resize)
    ((key, node),) = data_nodes(cfg).items()
    findings = diagnose(key, node, resize, workers=2).findings
    print(f"{name}, whole: {dict(Counter(f.check for f in findings))}", flush=True)
    return list(findings)


def _summary(found: Outcome) -> str:
    hits = [hit for of in found.values() for hit in of.values()]
    return f"{len(hits)} planted, {sum(hits)} found."


def _recall(found: Outcome) -> list[str]:
    """One row per check: its degree, what it looks for, and in how many data sets it was found."""
    lines = ["| check | degree | looks for | found / planted |", "|---|---|---|---|"]
    for area, checks in AREAS.items():
        lines.append(f"| **{area}** | | | |")
        for check in checks:
            hits = found.get(check.name, {})
            ratio = f"{sum(hits.values())} / {len(hits)}" if hits else "by unit test"
            lines.append(f"| `{check.name}` | {check.severity} | {check.about} | {ratio} |")
    return lines


def _alarms(kind: str, clean: dict[str, list[Finding]]) -> list[str]:
    """One row per data set: everything that was found in it."""
    lines = [f"| {kind} | errors | warnings | notes |", "|---|---|---|---|"]
    for name, findings in clean.items():
        cells = []
        for severity in Severity:
            counts = Counter(f.check for f in findings if f.severity is severity)
            cells.append(", ".join(f"`{c}` {n}" for c, n in counts.items()) or "none")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _replace(page: Path, lines: list[str]) -> None:
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    body = "\n".join(lines)
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    unknown = {check for table in TABLES for check in table} - set(CHECKS)
    assert not unknown, unknown
    sys.exit(main(sys.argv[1:]))
