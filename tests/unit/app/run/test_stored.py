"""The configuration that a checkpoint holds, opened for a new run."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from densekit.app.errors import UsageError
from densekit.app.run.stored import MLFLOW, OWN_MLFLOW, RUN_KEYS, keep_axes, reopen, stored_run


def test_a_stored_config_moves_to_its_new_run() -> None:
    plain = dict.fromkeys(RUN_KEYS) | {
        "command": "eval",
        "split": "val",
        "paths": {"run": "/old/run", "data": "/data"},
        "precision": "32-true",
        "trainer": {"precision": "32-true"},
        "callbacks": [{"folder": "/old/run/checkpoints"}, {"path": "/data/old/run"}],
    }
    opened = reopen(plain)
    assert opened["callbacks"] == [
        {"folder": "${paths.run}/checkpoints"},
        {"path": "/data/old/run"},
    ]
    assert opened["paths"] == {"run": None, "data": "/data"}
    assert opened["trainer"]["precision"] == "${precision}"
    assert not {"command", "split"} & opened.keys()
    assert plain["paths"]["run"] == "/old/run"
    with pytest.raises(UsageError, match=r"of a run, got one without trainer, inferer"):
        reopen({key: value for key, value in plain.items() if key not in ("trainer", "inferer")})
    own = reopen({**plain, "precision": "auto", "resume": "/old/run_2/last.ckpt"})
    assert (own["trainer"]["precision"], own["resume"]) == ("32-true", "/old/run_2/last.ckpt")


def test_progress_and_profile_follow_their_keys_again() -> None:
    callbacks = {"progress": {"style": "auto"}, "profile": {"active": True}, "other": None}
    plain = dict.fromkeys(RUN_KEYS) | {"paths": {"run": "/old/run"}, "trainer": {}}
    plain |= {"callbacks": callbacks, "progress": "auto", "profile": False}
    opened = reopen(plain)["callbacks"]
    assert opened["progress"]["style"] == "${progress}"
    assert opened["profile"]["active"] is True  # set on its own
    assert reopen({**plain, "callbacks": {"progress": None, "profile": None}})


@pytest.mark.parametrize("kind", [MLFLOW, OWN_MLFLOW])
def test_a_logger_goes_on_with_the_server_of_this_machine(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, run = tmp_path / "runs", tmp_path / "runs" / "train" / "1"
    stored = dict.fromkeys(RUN_KEYS, {}) | {
        "run_name": "train",
        "paths": {"run": str(run), "runs": str(runs)},
        "logger": {"mlflow": {"_target_": kind, "tracking_uri": "https://elsewhere"}},
    }
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cfg = OmegaConf.create(reopen(stored_run(stored, run / "checkpoints" / "last.ckpt", [], [])))
    assert cfg.logger.mlflow.tracking_uri == f"sqlite:///{runs}/mlflow.db"


@pytest.mark.parametrize(
    ("info", "left"),
    [
        ({"spatial_dims": 3}, True),
        ({"spatial_dims": 2, "slices": {"axis": 0}}, True),
        ({"spatial_dims": 3, "orientation": None}, False),
        ({"spatial_dims": 2}, False),
    ],
)
def test_volumes_of_a_model_without_an_orientation_stay_as_stored(info, left, capsys) -> None:
    volumes = {"_target_": "densekit.data.MedicalVolumes", "root": "x"}
    said = {**volumes, "orientation": "LPS"}
    data = {"a": {"test": dict(volumes), "val": {"volumes": dict(volumes)}, "train": dict(said)}}
    keep_axes(data, info)
    expected = {**volumes, "orientation": None} if left else volumes
    assert data == {"a": {"test": expected, "val": {"volumes": expected}, "train": said}}
    assert (
        "axes of volumes are taken as stored" in " ".join(capsys.readouterr().out.split())
    ) is left
