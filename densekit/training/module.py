"""`LitModel`: the LightningModule that trains and evaluates any `DenseModel`, whatever its task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from densekit.layers import channels_last_weights
from densekit.ops import dist
from densekit.ops.hash import mix
from densekit.training.balance import FixedBalance, sums_by_head
from densekit.training.devices import check_sync_batch_norm
from densekit.training.ending import why_ended
from densekit.training.inferer import Inferer, sees_images
from densekit.training.log_position import log_late_row, log_position
from densekit.training.loss_means import LossMeans, rows_of
from densekit.training.metric_set import MetricSet, Recipes, build_metrics, check_heads
from densekit.training.micro_batches import Loss, check_divisible, computed_in_parts, divided
from densekit.training.monitors import Logged, check_monitors, logged_names
from densekit.training.optim import (
    OptimizerFactory,
    apply_group_settings,
    batch_size_scale,
    build_optimizer,
    by_step,
    group_settings,
)
from densekit.training.schedules import Constant, Schedule, not_reached
from densekit.training.sharding import Sharding, divide, gather_rows, sharded_modules
from densekit.training.sources import LOSS, log_name, loss_name, source_heads, source_names
from densekit.training.step import loss_terms
from densekit.training.synced_norm import use_synced_norms
from densekit.training.transfer import Transfer
from densekit.types import Batch, Features, Result, without_pixels

if TYPE_CHECKING:
    from densekit.model import DenseModel

Evaluated = dict[str, list[dict[str, Result]]]


class LitModel(LightningModule):
    """Trains a `DenseModel` on `{data set: Batch}` and evaluates it on one data set at a time.

    Logs `train/loss`, `train/HEAD/loss/TERM`, `val/loss`, `val/HEAD/loss/TERM` and
    `val/HEAD/METRIC`, and the same for test; with several data sets the data set's name follows the
    stage. Where the network does not see whole images, val and test have no losses.

    Args:
        model: Its `info` goes into every checkpoint.
        optimizer: Optimiser class with its settings bound; None for a model that is only evaluated.
        schedule: Factor of the learning rate by step, constant by default.
        inferer: Turns evaluation batches into results; required to validate or test.
        metrics: Head name to metric name to a metric, or to a callable that builds one from entries
            of `info["heads"][HEAD]`; these replace the head's default metrics.
        seed: Every random choice within a training step is a function of it and the step.
        base_batch_size: Number of images per optimiser step that the learning rate is stated for;
            the rate is scaled to the actual number. None does not scale.
        transfer: Which parts train, from when on and how fast; by default all do from the start.
        balance: Builds, from the names of the heads, the module that sums their losses.
        compile: Whether to compile the loss with `torch.compile`.
        channels_last: Whether weights of 2-D and 3-D convolutions are stored channels last, which
            is faster on most devices.
        micro_batches: Parts in which a process computes each of its batches, one after the other,
            with the loss and gradients of the whole batch: it takes less memory and more time, see
            `densekit.training.micro_batches`.
        config: YAML text of the whole configuration; stored in checkpoints to rebuild the model.

    Attributes:
        validated_step: Optimiser step of the last validation, None before the first.

    Raises:
        ValueError: `metrics` names a head that the model does not have.
    """

    def __init__(
        self,
        model: DenseModel,
        optimizer: OptimizerFactory | None = None,
        schedule: Schedule | None = None,
        inferer: Inferer | None = None,
        *,
        metrics: Recipes | None = None,
        seed: int = 0,
        base_batch_size: int | None = None,
        transfer: Transfer | None = None,
        balance: Callable[[Iterable[str]], nn.Module] = FixedBalance,
        compile: bool = False,
        channels_last: bool = True,
        micro_batches: int = 1,
        config: str = "",
    ) -> None:
        super().__init__()
        if micro_batches < 1:
            raise ValueError(f"training.micro_batches: expected at least 1, got {micro_batches}")
        check_heads(metrics or {}, [*model.heads, *model.combined])
        self.model = model
        if channels_last:
            channels_last_weights(model)
        self.optimizer = optimizer
        self.schedule = schedule or Constant()
        self.inferer = inferer
        self.seed = seed
        self.base_batch_size = base_batch_size
        self.transfer = transfer or Transfer()
        self.transfer.freeze(model)
        self._share = 0.0
        self._late = set[float]()
        self.balance = balance(model.heads)
        self.micro_batches = micro_batches
        self._is_divided = False
        self._complete: Callable[[], None] | None = None
        self.config = config
        # Unbound: after a deepcopy a compiled bound method would still use the original weights.
        loss = type(model).loss
        self.is_compiled = compile
        self._loss = torch.compile(loss) if compile else loss
        self.validated_step: int | None = None
        self._log_position: dict[str, Any] = {}
        self._group_settings: list[tuple[float, float]] = []
        self._recipes = metrics or {}
        self._metrics: dict[str, list[MetricSet]] = {}
        self._means: dict[str, list[LossMeans]] = {}

    def losses(self, batches: Mapping[str, Batch]) -> dict[str, Tensor]:
        """Loss terms of a training step: `HEAD/TERM`, with several data sets `SOURCE/HEAD/TERM`."""
        heads = {source: source_heads(self.trainer, source) for source in batches}
        return loss_terms(
            lambda batch, names: self._loss(self.model, batch, heads=names),
            *(batches, heads, self.seed, self.global_step),
        )

    def training_step(self, batches: dict[str, Batch], batch_idx: int) -> dict[str, Any]:
        """Sums the loss terms per head over all data sets, and balances the heads."""
        parts = divided(batches, self.micro_batches)
        self._is_divided = len(parts) > 1
        if self._is_divided:
            total, terms = self._in_parts(parts, batch_idx)
        else:
            total, terms = self.total(batches, batch_idx, dist.rank())
        count = sum(len(batch["key"]) for batch in batches.values())
        shown = {f"train/{loss_name(n, len(batches))}": t.detach() for n, t in terms.items()}
        self.log_dict(shown, on_step=True, on_epoch=False, batch_size=count)
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=count)
        return {"loss": total, "terms": shown}

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """Zeroes the gradients, unless the step has already begun to accumulate them."""
        if not self._is_divided:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def on_after_backward(self) -> None:
        """Completes a step in micro-batches."""
        complete, self._complete = self._complete, None
        if complete is not None:
            complete()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Evaluated:
        """Computes losses, and results for the metrics."""
        return self._evaluate("val", batch, dataloader_idx)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Evaluated:
        """Like `validation_step`, on the test data."""
        return self._evaluate("test", batch, dataloader_idx)

    def on_validation_epoch_start(self) -> None:
        """Resets the metrics."""
        self._reset_metrics("val")

    def on_test_epoch_start(self) -> None:
        """Resets the metrics."""
        self._reset_metrics("test")

    def on_validation_epoch_end(self) -> None:
        """Logs the metrics over all processes.

        Raises:
            ValueError: A callback monitors a metric that is not among them.
        """
        self._log_metrics("val")
        check_monitors(
            self.trainer.callbacks,  # type: ignore[attr-defined]
            self.trainer.callback_metrics,
        )
        if not self.trainer.sanity_checking:
            self.validated_step = self.global_step

    def on_test_epoch_end(self) -> None:
        """Logs the metrics over all processes."""
        self._log_metrics("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Builds the optimiser with its parameter groups, and the schedule by optimiser step."""
        if self.optimizer is None:
            raise ValueError("optimizer: expected one to train with, got None")
        precision, clips = self.trainer.precision, bool(self.trainer.gradient_clip_val)
        optimizer = build_optimizer(
            self.optimizer,
            self.model,
            more=self.balance.parameters(),
            lr_scale=batch_size_scale(self.trainer, self.base_batch_size),
            lr_multipliers=self.transfer.lr_multipliers(self.model),
            # Fused kernels unscale gradients themselves: Lightning refuses to clip before them.
            fused=precision != "16-mixed" and not (precision == "bf16-mixed" and clips),
        )
        parts = self.transfer.starts(self.model)
        scheduled = by_step(self.trainer, optimizer, self.schedule, parts)
        self._group_settings = group_settings(optimizer)
        return scheduled

    def configure_model(self) -> None:
        """Casts to float64, installs synchronised norms, shards parameters that DDP must ignore."""
        if self.trainer.precision == "64-true":  # Lightning would round loaded weights first
            self.double()
        use_synced_norms(self.trainer)
        self._ddp_params_and_buffers_to_ignore = divide(self)

    def configure_callbacks(self) -> list[Callback]:
        """Adds the `Sharding` callback if there are sharded parameters."""
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        there = any(isinstance(callback, Sharding) for callback in callbacks)  # of a run before
        return [Sharding()] if sharded_modules(self) and not there else []

    def on_fit_start(self) -> None:
        """Refuses what the device cannot do."""
        check_sync_batch_norm(self.model, self.trainer)
        check_divisible(self)

    def train(self, mode: bool = True) -> LitModel:
        """Sets the mode; in training mode, parts that do not train keep their norm statistics."""
        super().train(mode)
        if mode:
            self.transfer.hold(self.model, self._share)
        return self

    def on_train_start(self) -> None:
        """Puts parts that do not train yet in eval mode; Lightning itself sets no mode here."""
        if self.trainer.ckpt_path:
            scheduler: Any = self.trainer.lr_scheduler_configs[0].scheduler
            apply_group_settings(scheduler, self._group_settings)
            log_late_row(self.trainer, self._log_position)
        self.transfer.hold(self.model, self._share)
        self._late = set(self.transfer.starts(self.model).values())

    def on_train_end(self) -> None:
        """Logs why the training ended, and if the learning rate never reached its value."""
        rank_zero_info(f"training ended: {why_ended(self.trainer)}")
        total = self.trainer.estimated_stepping_batches
        if not self.trainer.interrupted and (
            line := not_reached(self.schedule, self.global_step, total)
        ):
            rank_zero_info(line)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Starts training the parts whose time has come."""
        if not self._late:
            return
        share = self.global_step / self.trainer.estimated_stepping_batches
        if due := {start for start in self._late if start <= share}:
            self._share, self._late = share, self._late - due
            self.train()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the configuration and `info`, to rebuild the model, and where the logs stand."""
        checkpoint["config"] = self.config
        checkpoint["info"] = self.model.info
        checkpoint["logged"] = log_position(self.trainer)
        gather_rows(checkpoint, self, self.trainer.optimizers)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps where the logs of a resumed run stood."""
        self._log_position = checkpoint.get("logged", {})

    def logged(self, stage: str, sources: Mapping[str, Any]) -> Logged:
        """Returns the names that an evaluation will log, before it runs.

        Args:
            stage: "val" or "test".
            sources: Data sets by name.

        Raises:
            ValueError: A metric cannot be built, or names clash.
        """
        return logged_names(stage, self.model, sources, self._recipes, self._inferer(stage))

    def metric_sets(self, stage: str) -> dict[str, MetricSet]:
        """Returns the metrics of the last evaluation by the name of the data set.

        Args:
            stage: "val" or "test".
        """
        return dict(zip(source_names(self.trainer), self._metrics.get(stage, []), strict=False))

    def total(self, batches: Mapping[str, Batch], *key: int) -> Loss:
        """Sums the losses of a step, or of a micro-batch; `key` tells its random numbers apart."""
        # Dropout and the like draw from the global generator: make it depend on the step alone.
        torch.manual_seed(int(mix(self.seed, self.global_step, *key)))
        terms = self.losses(batches)
        return self.balance(sums_by_head(terms, len(batches))), terms

    def _in_parts(self, parts: Sequence[Mapping[str, Batch]], batch_idx: int) -> Loss:
        """Accumulates the gradients of all micro-batches but the last, which Lightning adds."""
        accumulated = self.trainer.accumulate_grad_batches
        self._complete = None  # of an attempt that ran out of memory
        if batch_idx % accumulated == 0:
            self.trainer.optimizers[0].zero_grad()
        losses = [
            partial(self.total, part, batch_idx, dist.rank(), index)
            for index, part in enumerate(parts)
        ]
        total, terms, self._complete = computed_in_parts(
            self.model,
            losses,
            lambda loss: self.trainer.strategy.backward(loss / accumulated, None),
        )
        return total, terms

    def results(self, stage: str, batch: Batch) -> list[dict[str, Result]]:
        """Returns the results of an evaluation batch on the device, without updating metrics."""
        return self._inferer(stage)(self.model, *self._read(stage, batch))

    def _read(self, stage: str, batch: Batch) -> tuple[Batch, Features | None]:
        """Resizes a batch, and computes its features if the network sees whole images."""
        key = mix(self.seed, 0, batch["key"])  # the same samples in every epoch
        resized = cast(Batch, {**self.model.resized(batch), "key": key})
        whole = sees_images(self._inferer(stage), self.model, batch["image"].ndim - 2)
        return resized, self.model.features(resized) if whole else None

    def _evaluate(self, stage: str, batch: Batch, index: int) -> Evaluated:
        heads = source_heads(self.trainer, source_names(self.trainer)[index])
        resized, features = self._read(stage, batch)
        keep = [row for row, real in enumerate(batch["sample_valid"].tolist()) if real]
        if features is not None and (terms := self._eval_losses(resized, features, heads, keep)):
            named = {loss_name(term): value for term, value in terms.items()}
            total = self.balance(sums_by_head(terms))
            self._means[stage][index].update({LOSS: total, **named}, len(keep))
        results = self._inferer(stage)(self.model, resized, features)
        truth = [batch["truth"][i] for i in keep]
        self._metrics[stage][index].update([results[i] for i in keep], truth)
        return {"results": without_pixels(results)}

    def _inferer(self, stage: str) -> Inferer:
        if self.inferer is None:
            raise ValueError(f"inferer: expected one for {stage}, got None")
        return self.inferer

    def _eval_losses(
        self, batch: Batch, features: Features, heads: Sequence[str] | None, keep: Sequence[int]
    ) -> dict[str, Tensor]:
        """Loss terms of this process alone, for the heads whose targets the batch has.

        Evaluation on identities or classes unknown to training has none. `keep` are the rows of
        images that are no repeats.
        """
        learning = [
            name
            for name in (self.model.heads if heads is None else heads)
            if all(key in batch for key in self.model.heads[name].target_keys)
        ]
        # Sharded modules need equally many rows in all processes, and leave out repeats themselves.
        if len(keep) < len(batch["key"]) and not sharded_modules(self):
            batch, features = rows_of(batch, keep), rows_of(features, keep)
            learning = learning if keep else []
        if not learning:
            return {}
        with dist.counted_alone():
            return self.model.loss(batch, features, learning)

    def _reset_metrics(self, stage: str) -> None:
        if stage not in self._metrics:
            self._metrics[stage] = [
                build_metrics(self.model, source_heads(self.trainer, source), self._recipes)
                for source in source_names(self.trainer)
            ]
        for metrics in self._metrics[stage]:
            metrics.reset(self.device)
        self._means[stage] = [LossMeans() for _ in self._metrics[stage]]

    def _log_metrics(self, stage: str) -> None:
        sets = zip(
            source_names(self.trainer), self._means[stage], self._metrics[stage], strict=True
        )
        for source, means, metrics in sets:
            name = partial(log_name, self.trainer, stage, source)
            found = {**means.compute(), **metrics.compute()}
            named = {name(key): value for key, value in found.items()}
            if stage == "val" and not self.trainer.sanity_checking:
                metrics.note_facts(self.model.info)
            # All ranks hold the same values: their maximum is exact, their mean might round.
            self.log_dict(named, sync_dist=True, reduce_fx="max", add_dataloader_idx=False)
