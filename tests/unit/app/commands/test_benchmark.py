from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from densekit.app.commands import benchmark
from densekit.app.errors import UsageError
from densekit.app.studies.benchmark_pairs import Pair


@pytest.mark.parametrize("model", benchmark.PEERS)
@pytest.mark.parametrize("step", ["train", "predict"])
def test_figures_of_a_tiny_run(step: str, model: str, tmp_path: Path) -> None:
    file, peer = tmp_path / "figures.json", benchmark.PEERS[model]
    arguments = [f"model={model}", f"step={step}", "size=[64,96]", "batch=2", "rounds=1"]
    assert benchmark.main([*arguments, "precision=fp32", f"output={file}"]) == 0
    figures = json.loads(file.read_text())
    assert set(figures) == {
        f"{who}/fp32/{what}" for who in (peer, "densekit") for what in ("seconds", "speedup")
    }
    assert figures[f"{peer}/fp32/speedup"] == 1.0


def test_nothing_is_timed_when_the_losses_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    make = benchmark._pair

    def broken(*arguments: Any, **settings: Any) -> Pair:
        pair = make(*arguments, **settings)
        pair.ours.heads["detection"].rpn.logits.bias.data += 0.1
        return pair

    monkeypatch.setattr(benchmark, "_pair", broken)
    monkeypatch.setattr(benchmark, "interleaved", lambda *_: pytest.fail("the clock started"))
    with pytest.raises(RuntimeError, match="losses: expected the peer's"):
        benchmark.main(["size=[64,96]", "batch=1"])


def test_nothing_is_timed_when_the_logits_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    make = benchmark._pair

    def broken(*arguments: Any, **settings: Any) -> Pair:
        pair = make(*arguments, **settings)
        for norm in pair.ours.backbone.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.running_mean += 0.1  # read by predictions, not by losses
        return pair

    monkeypatch.setattr(benchmark, "_pair", broken)
    monkeypatch.setattr(benchmark, "interleaved", lambda *_: pytest.fail("the clock started"))
    with pytest.raises(RuntimeError, match="logits: expected at most"):
        benchmark.main(["model=unet", "size=[64,96]", "batch=1"])


@pytest.mark.parametrize(
    "argument",
    [
        *("model=unett", "model=unet size=[320,450]", "model=unet classes=1"),
        *("step=fly", "precision=int3", "rouns=2", "size=320", "size=[320]", "size=[320,a]"),
        *("rounds=0", "rounds=many", "batch=true", "classes=0", "depth=99", "device=gpu"),
        "device=cuda:99",
    ],
)
def test_wrong_options_are_refused(argument: str) -> None:
    with pytest.raises(UsageError, match=argument.split()[-1].partition("=")[0]):
        benchmark.main(argument.split())
