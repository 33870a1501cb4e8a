"""`batch_size=auto` finds the largest batch that fits, stores its number and refuses the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from densekit import _malloc
from densekit._malloc import KEEPING, RETURNING
from densekit.app.cli import main
from densekit.app.errors import UsageError
from densekit.app.run import batch_size
from densekit.app.run.batch_size import check_automatic, confirmed, free_memory, largest
from tests.unit.app.small_run import SMALL_RUN

AUTO = "data.scenes.batch_size=auto"


def line(per_image: float, *, floor: float = 0.0, fails: int = 10**9) -> Callable[[int], float]:
    """Peak memory of 1 GiB and so much per image, hidden below an earlier peak."""

    def peak(count: int) -> float:
        if count > fails:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried more")
        return max(floor, 1 + per_image * count)

    return peak


@pytest.mark.parametrize(
    ("peak", "limit", "found"),
    [
        (line(0.1), 1000, 90),
        (line(0.1), 50, 50),
        (line(0.1), 3, 3),
        (line(0.1, floor=2.0), 1000, 90),  # the first steps do not show
        (line(5.0), 1000, 1),
        (line(0.1, fails=3), 1000, 2),
        (line(0.0), 1000, 1000),
    ],
)
def test_the_largest_batch(peak: Callable[[int], float], limit: int, found: int) -> None:
    assert largest(peak, 10.0, limit) == found


def test_one_image_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a step of one image to fit into memory"):
        largest(line(0.1, fails=0), 10.0, 5)


def test_a_line_that_ends_early_is_followed_back() -> None:
    assert confirmed(line(0.1, fails=70), 90) == 64  # after 81 and 72


def test_free_memory_is_that_of_the_machine() -> None:
    assert 0 < free_memory(torch.device("cpu")) < 100_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_number_is_stored_and_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[int] = []
    real = batch_size._step

    def spied(cfg: Any, sources: Any, name: str, device: Any) -> Callable[[], None]:
        step = real(cfg, sources, name, device)

        def counted() -> None:
            steps.append(sources[name].batch_size)
            step()

        return counted

    monkeypatch.setattr(batch_size, "_step", spied)
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 0.6 / 0.8)
    used: Any = lambda device: 1 + 0.1 * (steps[-1] if steps else 0)  # noqa: E731
    monkeypatch.setattr("densekit.training.step_lines.used_memory", used)
    settings: list[Any] = []
    monkeypatch.setattr(_malloc, "_set", settings.append)
    assert main(["train", *SMALL_RUN, AUTO, "optimizer.lr=0.008"]) == 0
    assert steps == [1, 2, 4]
    assert settings == 2 * [KEEPING, RETURNING]  # while it is measured, and in the training
    [run] = (folder / "runs" / "quickstart_classification").iterdir()
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["scenes"]["batch_size"] == 6
    line = "data.scenes.batch_size: 6 images, the most that 1.6 GiB hold; optimizer.lr=0.008 is"
    assert f"{line} unchanged; scaled linearly from 8 images it would be 0.006" in (
        (run / "console.log").read_text()
    )
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 16 // 6
    assert main(["train", f"resume={run}", AUTO]) == 2
    assert "batch_size: expected a number beside resume=" in capsys.readouterr().err


def source(**settings: Any) -> Any:
    return SimpleNamespace(**{"train": [1], "images_per_identity": None, **settings})


@pytest.mark.parametrize(
    ("name", "sources", "processes", "message"),
    [
        ("b", {"a": source()}, 1, "data: expected"),
        ("a", {"a": source(), "b": source()}, 1, "a number with training data a, b, got auto"),
        ("a", {"a": source()}, 2, "a number with 2 processes, got auto; find it with"),
        ("a", {"a": source(images_per_identity=2)}, 1, "a number with images_per_identity"),
    ],
)
def test_what_it_cannot_find_is_refused(
    name: str, sources: dict[str, Any], processes: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_automatic(name, sources, processes)


def test_a_data_set_that_is_only_evaluated_does_not_count() -> None:
    check_automatic("a", {"a": source(), "b": source(train=None)}, 1)


def test_two_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL_RUN, AUTO, "data.other.batch_size=auto"]) == 2
    assert "expected a number with several data sets" in capsys.readouterr().err
    assert not list(folder.iterdir())
