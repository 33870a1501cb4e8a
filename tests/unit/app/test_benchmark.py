from __future__ import annotations

import json
from pathlib import Path

import pytest

from densekit.app import benchmark
from densekit.app.errors import UsageError


@pytest.mark.parametrize("step", benchmark.STEPS)
def test_figures_of_a_tiny_run(step: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = [f"step={step}", "size=[64,96]", "batch=1", "rounds=1", "precision=32"]
    assert benchmark.main([*arguments, f"output={file}"]) == 0
    figures = json.loads(file.read_text())
    assert set(figures) == {
        f"{who}/32/{what}" for who in ("torchvision", "densekit") for what in ("seconds", "speedup")
    }
    assert figures["torchvision/32/speedup"] == 1.0


def test_nothing_is_timed_when_the_losses_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    make = benchmark._pair

    def broken(*arguments: object, **settings: object) -> benchmark.Pair:
        pair = make(*arguments, **settings)
        pair.ours.heads["detection"].rpn.logits.bias.data += 0.1
        return pair

    monkeypatch.setattr(benchmark, "_pair", broken)
    monkeypatch.setattr(benchmark, "interleaved", lambda *_: pytest.fail("the clock started"))
    with pytest.raises(RuntimeError, match="losses differ"):
        benchmark.main(["size=[64,96]", "batch=1"])


@pytest.mark.parametrize(
    "argument",
    [
        *("step=fly", "precision=int3", "rouns=2", "size=320", "size=[320]", "size=[320,a]"),
        *("rounds=0", "rounds=many", "batch=true", "classes=0", "depth=99", "device=gpu"),
        "device=cuda:99",
    ],
)
def test_wrong_options_are_refused(argument: str) -> None:
    with pytest.raises(UsageError, match=argument.partition("=")[0]):
        benchmark.main([argument])
