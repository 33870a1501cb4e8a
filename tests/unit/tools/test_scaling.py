"""The model of scaling agrees with published tables, and is refused wrong input."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "tools" / "benchmarks"))
import scaling  # type: ignore[import-not-found] # noqa: E402

EQUAL_SIZES = [  # images per step and per second of one GPU, MB of gradients, GPUs, published
    (128, 724, 92, 4, 2886),  # SSD300, ResNet-50
    (128, 724, 92, 8, 5734),
    (128, 1345, 120, 8, 10694),  # nnU-Net, 2-D
    (4, 30.0, 120, 8, 234.5),  # nnU-Net, 3-D
    (256, 938, 102, 8, 7248),  # ResNet-50, TF32
]


@pytest.mark.parametrize(("images", "alone", "megabytes", "gpus", "published"), EQUAL_SIZES)
def test_images_of_equal_size(
    images: int, alone: float, megabytes: float, gpus: int, published: float
) -> None:
    setup = scaling.Setup(images, images / alone, megabytes)
    assert scaling.images_per_second(setup, gpus) == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize(("four", "eight"), [(106, 209), (71, 135)])
def test_a_detector_waits_for_the_slowest_rank(four: float, eight: float) -> None:
    setup = scaling.Setup(12, 12 / (four / 4), 176, spread=0.02)
    assert scaling.images_per_second(setup, 8) == pytest.approx(eight, rel=0.05)


def test_the_loader_is_a_limit() -> None:
    fast = scaling.Setup(256, 256 / 2470, 102)
    assert scaling.images_per_second(fast, 8) > 1.15 * 16_621  # published, where loading counts
    slow = scaling.Setup(256, 256 / 2470, 102, loader=2000)
    assert scaling.images_per_second(slow, 8) == pytest.approx(16_000)


def test_a_slow_network_shows() -> None:
    setup = scaling.Setup(2, 0.1, 176, between=1.0)
    assert scaling.images_per_second(setup, 8) == pytest.approx(160)
    assert scaling.images_per_second(setup, 16) < 160


def test_evaluation_on_one_process_limits_the_epoch() -> None:
    setup = scaling.Setup(16, 1.0, 176, evaluation=100, epoch=1600)
    assert scaling.images_per_second(setup, 1) == pytest.approx(8)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    scaling.main(["images=12", "seconds=0.5", "megabytes=176"])
    out = capsys.readouterr().out
    assert "| 1 | 24 | 100% | 0.0 |" in out

    for wrong in ([], ["images=12"], ["images=1", "seconds=1", "megabytes=1", "gpus=2"]):
        with pytest.raises(SystemExit, match="arguments: expected images, seconds and megabytes"):
            scaling.main(wrong)
