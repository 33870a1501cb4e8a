"""As many layers in 8 bits as the gate accepts: fewer and fewer, in three attempts."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from densekit.app.studies import export_int8 as module
from densekit.app.studies.export_int8 import write_int8
from densekit.inference.export import int8, onnx
from densekit.inference.export.base import Example, PredictionsByName, as_program
from densekit.inference.export.differences import Measured
from densekit.inference.export.gate import Parity
from tests.unit.inference.segmenter import tiny_segmenter

EXAMPLE = Example((16, 16))


class Ground:
    """Finds each attempt as far off as it is told, relative to the limit."""

    overrides = type("Overrides", (), {"trust": []})()

    def __init__(self, *excess: float) -> None:
        self.excess = list(excess)

    def seen(self, model: Any) -> Any:
        return [(torch.zeros(1, 3, 16, 16), torch.tensor([[16, 16]]))]

    def compare(self, *arguments: Any) -> Parity:
        off = self.excess.pop(0)
        return Parity("noise", "int8", (Measured("head/mIoU", "points", off / 2, 0.5, 4),))


@pytest.mark.parametrize(
    ("excess", "attempts"),
    [
        ([0.9], ["all"]),
        ([1.1, 0.9], ["all", "ends"]),
        ([3, 2, 1.5, 0.9], ["all", "ends", "within"]),
        ([3, 2, 1.5, 1.2], ["all", "ends", "within"]),
    ],
)
def test_attempts(
    excess: list[float], attempts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made = tiny_segmenter(channels=3).eval(), []

    def quantize(source: Path, file: Path, batches: Any, *, exact_ends: bool) -> None:
        made.append("ends" if exact_ends else "all")
        file.touch()

    def within(source: Path, file: Path, batches: Any, metric: Any, max_drop: float) -> None:
        made.append("within")
        assert (metric(program), max_drop) == (-1.5, 1)
        file.touch()

    program = as_program(PredictionsByName(model))
    monkeypatch.setattr(onnx, "export_onnx", lambda model, example, file: file.touch())
    monkeypatch.setattr(int8, "quantize_onnx", quantize)
    monkeypatch.setattr(int8, "quantize_onnx_within", within)
    fake = replace(onnx.FORMAT, open=lambda file: program)
    parity = write_int8(fake, model, EXAMPLE, tmp_path / "m.onnx", cast(Any, Ground(*excess)))
    assert made == attempts
    assert module.excess(parity) == pytest.approx(excess[-1])


def test_what_is_tried_next_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny_segmenter(channels=3).eval()
    monkeypatch.setattr(onnx, "export_onnx", lambda model, example, file: file.touch())
    monkeypatch.setattr(int8, "quantize_onnx", lambda *_, exact_ends: _[1].touch())
    fake = replace(onnx.FORMAT, open=lambda file: as_program(PredictionsByName(model)))
    with caplog.at_level(logging.WARNING):
        write_int8(fake, model, EXAMPLE, tmp_path / "m.onnx", cast(Any, Ground(2, 1)))
    expected = "int8: the first and last layers return to float32; head/mIoU: 1 points of 4, at mo"
    assert caplog.messages[0].startswith(expected)
