"""The inductor engine: compiled once, loaded without compiling, equal to the eager one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from densekit import DenseModel
from densekit.inference.engines import inductor
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.proof import EngineError
from densekit.types import Batch
from tests.unit.inference.segmenter import tiny_segmenter
from tests.unit.tiny import spread, tiny_detector


def detector() -> DenseModel:
    torch.manual_seed(1)
    made = tiny_detector().eval()
    spread(made)
    return made


def compile_again(*_: object) -> None:
    raise AssertionError("the second start compiles nothing")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("model", "precision", "tolerance"),
    [(detector(), "fp32", 1e-3), (tiny_segmenter(channels=3), "bf16", 0.1)],
    ids=["detector", "segmenter"],
)
def test_a_kept_program_equals_the_model(
    model: DenseModel,
    precision: str,
    tolerance: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = Cache(tmp_path / "a.engines", {}, b"secret")
    torch.manual_seed(2)
    batch: Batch = {
        "image": torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8),
        "size": torch.tensor([[60, 64]]),
    }
    found = inductor.build(model, precision, cache).predict(batch)
    monkeypatch.setattr(inductor, "write_package", compile_again)
    again = inductor.build(model, precision, cache).predict(batch)
    with torch.inference_mode():
        expected = model.predict(batch)
    for head, of_head in expected.items():
        for key, value in of_head.items():
            if key != "overflow":  # a program looks at fewer candidates
                torch.testing.assert_close(
                    found[head][key].to(value), value, rtol=tolerance, atol=tolerance
                )
            torch.testing.assert_close(again[head][key], found[head][key])


def test_a_model_that_does_not_compile_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no lowering\nand more")

    monkeypatch.setattr(torch.export, "export", fail)
    engine = inductor.build(tiny_segmenter(), "fp32", None)
    batch: Batch = {"image": torch.zeros(1, 1, 8, 8), "size": torch.tensor([[8, 8]])}
    message = "engine=inductor: expected a model that torch .* can compile, got RuntimeError: no lo"
    with pytest.raises(EngineError, match=message):
        engine.predict(batch)
