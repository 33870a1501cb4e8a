"""Engines of fixed shapes: one program per bucket, proven before its first answer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from densekit import DenseModel, Predictor
from densekit.inference import SlidingWindow, WholeImage
from densekit.inference import TestTimeAugmentation as Augmented
from densekit.inference.engine import with_engine
from densekit.inference.engines import compiled as module
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.compiled import Compiled
from densekit.inference.engines.proof import EngineError
from densekit.types import Batch
from tests.unit.inference.programs import Compiler
from tests.unit.inference.segmenter import tiny_segmenter
from tests.unit.tiny import spread, tiny_detector


@pytest.fixture(scope="module")
def detector() -> DenseModel:
    torch.manual_seed(1)
    made = tiny_detector().eval()
    spread(made)
    return made


def batch(*sizes: tuple[int, int], sides: tuple[int, int] = (41, 65)) -> Batch:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (len(sizes), 3, *sides), dtype=torch.uint8)
    return {"image": image, "size": torch.tensor(sizes)}


def test_one_program_serves_all_sizes_of_a_bucket(detector: DenseModel) -> None:
    compiler = Compiler(detector)
    engine = Compiled("fast", detector, "fp32", compiler)
    for height in (40, 50, 64):
        found = engine.predict(batch((height, 65), sides=(height, 65)))
        assert found["detection"]["boxes"].shape[0] == 1
    assert compiler.shapes == [(1, 64, 96)]
    engine.predict(batch((40, 65), (40, 65), sides=(40, 65)))
    engine.predict(batch((65, 65), sides=(65, 65)))
    assert compiler.shapes == [(1, 64, 96), (2, 64, 96), (1, 96, 96)]


def test_the_numbers_are_those_of_the_model_in_the_same_frame(detector: DenseModel) -> None:
    engine = Compiled("fast", detector, "fp32", Compiler(detector))
    given = batch((40, 60), sides=(64, 128))
    found, expected = engine.predict(given), detector.predict(given)
    for key, value in expected["detection"].items():
        torch.testing.assert_close(found["detection"][key], value)
    assert set(engine.predict(given, heads=[])) == set()


@pytest.mark.parametrize("sides", [(64, 128), (41, 65)])
def test_images_of_any_layout_are_read_right(detector: DenseModel, sides: tuple[int, int]) -> None:
    given = batch((40, 60), (30, 65), sides=sides)
    other: Batch = {
        "image": given["image"].contiguous(memory_format=torch.channels_last),
        "size": given["size"].t().contiguous().t(),
    }
    engine = Compiled("fast", detector, "fp32", Compiler(detector))
    found, expected = engine.predict(other), engine.predict(given)
    assert torch.equal(found["detection"]["boxes"], expected["detection"]["boxes"])


def test_inferers_use_one_program_without_knowing_it() -> None:
    model = tiny_segmenter(channels=3)
    compiler = Compiler(model)
    fast = with_engine(model, Compiled("fast", model, "fp32", compiler))
    given = batch((41, 65))
    for inferer in (WholeImage(), SlidingWindow([32, 32], batch_size=4), Augmented(flips=[-1])):
        with torch.inference_mode():
            found = inferer.predict(fast, given)
            expected = inferer.predict(model, given)
        for head, of_head in expected.items():
            for key, value in of_head.items():
                torch.testing.assert_close(found[head][key], value)
    assert compiler.shapes == [(1, 44, 68), (4, 32, 32)]


def test_further_shapes_are_predicted_by_pytorch(
    detector: DenseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    compiler = Compiler(detector)
    engine = Compiled("fast", detector, "fp32", compiler)
    for side in (64, 65, 130):
        assert engine.predict(batch((side, 65), sides=(side, 65)))
    assert compiler.shapes == [(1, 64, 96)]
    assert caplog.messages == [
        "engine=fast has programs for 1 shapes of images; others, of 65x65 for instance, are "
        "predicted by PyTorch in float32"
    ]


@pytest.mark.parametrize("make", [tiny_detector, partial(tiny_segmenter, channels=3)])
def test_wrong_numbers_are_refused(make: Any) -> None:
    torch.manual_seed(1)
    model = make().eval()
    if make is tiny_detector:
        spread(model)
    engine = Compiled("fast", model, "fp32", Compiler(model, factor=2.0))
    with pytest.raises(EngineError, match="engine=fast computes wrong numbers here in fp32: heads"):
        engine.predict(batch((41, 65)))


def test_a_proof_is_kept_for_the_next_start(
    detector: DenseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "a.engines", {}, b"secret")
    calls = []
    monkeypatch.setattr(module, "first_difference", lambda *_: calls.append(1))
    for runtime in ("1", "1", "2"):
        engine = Compiled("fast", detector, "fp32", Compiler(detector), cache, {"runtime": runtime})
        engine.predict(batch((41, 65)))
        engine.predict(batch((41, 65)))
    assert len(calls) == 2


def test_predictor_takes_an_engine(detector: DenseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from densekit.inference.engines import inductor

    compiler = Compiler(detector)
    monkeypatch.setattr(
        inductor, "build", lambda model, precision, _: Compiled("x", model, precision, compiler)
    )
    image = batch((41, 65))["image"][0]
    predictor = Predictor(detector, engine="inductor")
    assert (
        predictor(image)[0]["detection"].keys() == Predictor(detector)(image)[0]["detection"].keys()
    )
    assert compiler.shapes == [(1, 64, 96)]
