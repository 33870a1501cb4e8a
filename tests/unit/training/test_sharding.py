"""Parameters that are divided over processes: who brings the callback, and who takes which rows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from densekit.losses import ArcFace, MarginSoftmax, PartialFC
from densekit.ops import dist
from densekit.training.sharding import Sharding, divide, sharded_modules, sharded_parameters
from tests.unit.training.faces import face_data, face_lit, face_model
from tests.unit.training.fakes import trainer

CENTRES = "heads.identity.classifier.centres"


def test_centres_of_partial_fc_are_found_wherever_they_are() -> None:
    model = face_model(partial(PartialFC, margin=ArcFace()))
    assert list(sharded_modules(model)) == ["heads.identity.classifier"]
    assert divide(model) == [CENTRES]
    assert len(sharded_parameters(model)[CENTRES]) == 11  # one process holds all
    assert divide(face_model(MarginSoftmax)) == []


@pytest.mark.parametrize(("classifier", "count"), [(PartialFC, 1), (MarginSoftmax, 0)])
def test_the_callback_comes_with_such_a_module_alone(
    tmp_path: Path, classifier: type, count: int
) -> None:
    run, lit = trainer(tmp_path, max_steps=1), face_lit(face_model(classifier))
    run.fit(lit, datamodule=face_data())
    run.validate(lit, datamodule=face_data(), verbose=False)
    assert sum(isinstance(callback, Sharding) for callback in run.callbacks) == count


def test_weights_of_all_rows_load_into_those_of_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, part = face_model(PartialFC), face_model(PartialFC)
    monkeypatch.setattr(dist, "own_rows", lambda total: range(2, 5))
    divide(part)
    with torch.no_grad():
        whole.heads["identity"].classifier.centres.add_(1)
    part.load_state_dict(whole.state_dict())
    assert torch.equal(part.state_dict()[CENTRES], whole.state_dict()[CENTRES][2:5])


def test_other_wrong_sizes_are_still_refused() -> None:
    state = face_model(PartialFC).state_dict()
    state[CENTRES] = state[CENTRES][:4]
    with pytest.raises(RuntimeError, match="size mismatch"):
        face_model(PartialFC).load_state_dict(state)
