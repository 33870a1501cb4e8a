"""Runs in processes: the exit code and the log of each, one process for several."""

from __future__ import annotations

from pathlib import Path

from densekit.app.studies.workers import run_all, why_failed


def test_a_failed_run_does_not_end_the_process(tmp_path: Path) -> None:
    files = {}
    for name, text in {"a": "trust: [", "b": "trust: []\nmodel: {_target_: os.system}"}.items():
        files[name] = tmp_path / name / "config.yaml"
        files[name].parent.mkdir()
        files[name].write_text(text)
    codes = {name: code for name, code, seconds in run_all(files, 1) if seconds >= 0}
    assert codes == {"a": 1, "b": 2}
    assert "Traceback" in (tmp_path / "a" / "log.txt").read_text()
    assert "model._target_: expected a class" in why_failed(tmp_path / "b" / "log.txt")
    assert "not started" in why_failed(tmp_path / "c" / "log.txt")
    (tmp_path / "log.txt").write_text("Epoch 1\nRuntimeError: no memory\n\n")
    assert why_failed(tmp_path / "log.txt") == "RuntimeError: no memory"
