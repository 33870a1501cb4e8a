"""`densekit doctor`: collects, scans, checks and reports."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from densekit.app.config.compose import compose
from densekit.app.config.overrides import Overrides
from densekit.app.config.resolve import data_nodes
from densekit.app.doctor.checks.table import CHECKS
from densekit.app.doctor.collect import REFUSED, collect, refusal
from densekit.app.doctor.disagreement import Predict, with_candidates
from densekit.app.doctor.facts import Study
from densekit.app.doctor.findings import ORDER, Severity
from densekit.app.doctor.page import write_page
from densekit.app.doctor.repair import LIST, check_target, repair
from densekit.app.doctor.report import Diagnosis, ordered, print_diagnosis, write_report
from densekit.app.doctor.scan import scan
from densekit.app.errors import UsageError
from densekit.app.options.shared import checkpoint_file, device_name
from densekit.app.terminal import print_lines
from densekit.build import instantiate

JSON = "doctor.json"
PAGE = "doctor.html"


def doctor(given: Overrides, options: Mapping[str, Any]) -> int:
    """Examines the data sets of a configuration.

    Args:
        given: Overrides that choose the data.
        options: Those of the command.

    Returns:
        The exit code: 1 if something as severe as `fail_on` was found.
    """
    cfg = compose(given).cfg
    nodes = data_nodes(cfg)
    if options["fix"] is not None:
        if len(nodes) > 1:
            raise UsageError(f"fix: expected one data set, got {', '.join(nodes)}")
        check_target(Path(options["fix"]).expanduser())
    resize = None if cfg.get("resize") is None else dict(cfg.resize)
    predict = _predictor(options["checkpoint"], options["device"], list(cfg.trust))
    diagnoses = [
        diagnose(name, node, resize, options["ignore"], options["workers"], predict)
        for name, node in nodes.items()
    ]
    for diagnosis in diagnoses:
        print_diagnosis(diagnosis)
        if predict is None and any(p.kind == "identity" for p in diagnosis.study.parts.values()):
            print_lines("images without a face, or with several: name a face detector, checkpoint=")
    if options["output"] is not None:
        folder = Path(options["output"]).expanduser()
        write_report(folder / JSON, diagnoses)
        write_page(folder / PAGE, diagnoses)
        print_lines(f"wrote: {folder / JSON}", f"wrote: {folder / PAGE}")
    if options["fix"] is not None:
        for diagnosis in diagnoses:
            _fix(diagnosis, nodes[diagnosis.study.name], Path(cfg.paths.data), options["fix"])
    return _exit_code(diagnoses, Severity(options["fail_on"]))


def _predictor(checkpoint: str | None, device: str, trust: Sequence[str]) -> Predict | None:
    if checkpoint is None:
        return None
    from densekit.inference import Predictor

    predict: Predict = Predictor(checkpoint_file(checkpoint), device_name(device), trust=trust)
    return predict


def _fix(diagnosis: Diagnosis, node: Mapping[str, Any], data: Path, target: str) -> None:
    done = repair(diagnosis.study, node, data, Path(target))
    told = ", ".join(f"{what}: {count:,}" for what, count in done.items()) or "nothing to repair"
    print_lines(f"{told}; all repairs: {Path(target) / LIST}", f"wrote: {target}")


def diagnose(
    name: str,
    node: Mapping[str, Any],
    resize: Mapping[str, Any] | None,
    ignore: Sequence[str] = (),
    workers: int = 0,
    predict: Predict | None = None,
) -> Diagnosis:
    """Examines one data set.

    Args:
        name: Its name in the configuration.
        node: Its resolved configuration.
        resize: The resize rule of the configuration.
        ignore: Names of checks to leave out.
        workers: Processes that read files; 0 reads them in this one.
        predict: The predictor of a checkpoint, whose predictions are compared with the labels.
    """
    with _quiet():  # the readers warn of what the checks report
        study = _with_refusal(collect(name, node, resize), node)
        study = scan(study, workers)
        if predict is not None:
            study = with_candidates(study, instantiate(node, f"data.{name}"), predict)
    checks = [check for check in CHECKS.values() if check.name not in ignore]
    return Diagnosis(study, ordered(finding for check in checks for finding in check(study)))


@contextmanager
def _quiet() -> Iterator[None]:
    log = logging.getLogger("densekit.data")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _with_refusal(study: Study, node: Mapping[str, Any]) -> Study:
    """The study with what building the data set for training says."""
    refused = any(d.check == REFUSED for part in study.parts.values() for d in part.defects)
    if refused or not study.parts or (defect := refusal(study.name, node)) is None:
        return study
    first = next(iter(study.parts.values()))
    return replace(
        study, parts={**study.parts, first.name: replace(first, defects=[*first.defects, defect])}
    )


def _exit_code(diagnoses: Sequence[Diagnosis], worst: Severity) -> int:
    found = [finding for diagnosis in diagnoses for finding in diagnosis.findings]
    return int(any(ORDER[finding.severity] <= ORDER[worst] for finding in found))
