"""Lightning stops in the middle of an epoch and goes on with the very next batch."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from densekit.data import DataModule, Scenes, Source


class Recorder(LightningModule):
    """Notes which images every step sees; its weights follow from them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batches, _):
        self.seen.append({name: batch["key"].tolist() for name, batch in batches.items()})
        return self.weight * sum(b["image"].float().mean() for b in batches.values())

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        assert "truth" in batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def data():
    size = {"size": (64, 64)}
    return DataModule(
        {
            "long": Source(Scenes(length=20, **size), Scenes("val", 2, **size)),
            "short": Source(Scenes(length=9, **size), seed=4),
        }
    )


def fit(steps, folder, path=None, every=None):
    model = Recorder()
    callbacks = [ModelCheckpoint(folder, every_n_train_steps=every, save_top_k=-1)] if every else []
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        callbacks=callbacks,
        enable_checkpointing=bool(every),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=1,
    )
    trainer.fit(model, data(), ckpt_path=path, weights_only=True)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stop", [3, 5, 8, 10])
def test_resume_continues_with_the_next_batch(tmp_path, stop):
    whole = fit(13, tmp_path)
    fit(stop, tmp_path, every=stop)
    (checkpoint,) = tmp_path.glob("*.ckpt")
    resumed = fit(13, tmp_path, path=checkpoint)
    assert resumed.seen == whole.seen[stop:]
    assert torch.equal(resumed.weight, whole.weight)
