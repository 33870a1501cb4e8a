"""Loaders that seed every sample and resume exactly where they stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from densekit._malloc import return_memory
from densekit._signals import STOPS
from densekit.data.collate import collate
from densekit.data.protocols import Dataset, Transform
from densekit.data.samplers import Draw, TrainSampler
from densekit.data.transforms.partners import apply_steps
from densekit.types import Batch, Sample, TargetSpec

MOST_WORKERS = 8
FEW_IMAGES, FEW_VOLUMES = 64, 16
_OF_BATCH = 1
"""Distinguishes the seed of a batch from that of its first image."""


def default_workers(dataset: Dataset) -> int:
    """The default number of processes that read a data set: the free cores, 8 at most.

    Each training process keeps one core of its share. None are started for rendered images, series
    in memory, or so few samples that starting takes longer, nor where processes do not fork (macOS,
    Windows).
    """
    dims = dataset.describe().get("spatial_dims", 2)
    few = len(dataset) < (FEW_VOLUMES if dims == 3 else FEW_IMAGES)
    copied = multiprocessing.get_start_method() == "fork"
    if dims == 1 or few or not copied or not dataset.reads_files:
        return 0
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    share = cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min(MOST_WORKERS, share - 1))


class Drawn:
    """A data set indexed by draws; each sample is transformed with its own generator.

    An index beyond the last image is a further draw of the same images (see
    `TrainSampler.repeats`).

    Args:
        dataset: The images.
        transform: Applied with a generator seeded by (seed, epoch, index), or None.
        seed: Seed of all random choices.
        mixed_epochs: Epochs in which the transform may mix samples; None for all.
    """

    def __init__(
        self,
        dataset: Dataset,
        transform: Transform | None,
        seed: int,
        mixed_epochs: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.mixed_epochs = mixed_epochs

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> tuple[Sample, Draw]:
        """The transformed sample of a draw, and the draw."""
        epoch, index, _ = draw
        rng = np.random.default_rng((self.seed, epoch, index))
        mixed = self.mixed_epochs is None or epoch < self.mixed_epochs
        others = self.dataset if mixed else None
        sample = apply_steps(self.transform, self.dataset[index % len(self.dataset)], rng, others)
        sample["index"] = index
        return sample, draw


class Collate:
    """The `collate_fn` of a loader of `Drawn` samples.

    Args:
        training: Whether to leave out `truth`.
        target_specs: How to stack the entries of `extra`.
        change: Changes the batch with a generator seeded by (seed, epoch, index) of its first
            image, and so by (seed, step, rank); None for no change.
        seed: Seed of `change`.
    """

    def __init__(
        self,
        training: bool,
        target_specs: Mapping[str, TargetSpec],
        change: Callable[..., Batch] | None = None,
        seed: int = 0,
    ) -> None:
        self.training = training
        self.target_specs = target_specs
        self.change = change
        self.seed = seed

    def __call__(self, items: list[tuple[Sample, Draw]]) -> Batch:
        """Stacks the items of `Drawn` into one batch."""
        samples = [sample for sample, _ in items]
        valid = [valid for _, (_, _, valid) in items]
        specs = self.target_specs
        batch = collate(samples, training=self.training, valid=valid, target_specs=specs)
        if self.change is None:
            return batch
        epoch, index, _ = items[0][1]
        return self.change(batch, rng=np.random.default_rng((self.seed, epoch, index, _OF_BATCH)))


class EvalLoader(DataLoader[Any]):
    """Loads the batches that a sampler lists, once per pass.

    Args:
        drawn: The images.
        sampler: Yields the draws of each batch.
        collate_fn: Stacks a batch.
        num_workers: Processes that read images; 0 reads in this process.
    """

    def __init__(
        self, drawn: Drawn, sampler: Sampler[list[Draw]], collate_fn: Collate, num_workers: int
    ) -> None:
        super().__init__(
            drawn,  # type: ignore[arg-type]
            batch_sampler=sampler,
            collate_fn=collate_fn,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_begin_worker,
            persistent_workers=num_workers > 0,
            # Without its own generator, every pass would draw from torch's global one, and a
            # resumed run would differ in everything else that draws from it.
            generator=torch.Generator().manual_seed(drawn.seed),
        )
        if num_workers:  # at the exit of this process, which may itself be one of multiprocessing
            Finalize(None, _end_workers, exitpriority=0)

    def batch_of(self, index: int) -> Batch:
        """Loads an image by its index in the data set, as a batch of one, in this process."""
        batch: Batch = self.collate_fn([self.dataset[0, index, True]])
        return batch


class Loader(EvalLoader):
    """A loader of training batches whose position is saved in checkpoints.

    A pass has as many batches as an epoch and continues where the last one stopped, even in the
    middle of an epoch: a run with fewer batches per pass eventually sees all images. After
    `load_state_dict` a pass begins at the given position; the trainer, which knows how many batches
    of the interrupted pass are done, ends it.

    Args:
        drawn: The images.
        sampler: Yields batches from any position.
        collate_fn: Stacks a batch.
        num_workers: Processes that read images; 0 reads in this process.
    """

    def __init__(
        self, drawn: Drawn, sampler: TrainSampler, collate_fn: Collate, num_workers: int
    ) -> None:
        super().__init__(drawn, sampler, collate_fn, num_workers)
        self._draws = sampler
        self._epoch = 0
        self._batches = 0

    def __len__(self) -> int:
        return len(self._draws)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches of one pass."""
        self._draws.go_to(self._epoch, self._batches, len(self))
        for batch in super().__iter__():
            # Counted when handed out: batches that workers prefetch are not done yet.
            self._advance()
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The position: the epoch, and how many of its batches have been handed out."""
        return {"epoch": self._epoch, "batches": self._batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restores a position; begins the next epoch if this run has fewer batches."""
        self._epoch, self._batches = state["epoch"], state["batches"]
        if self._batches >= len(self):
            self._epoch, self._batches = self._epoch + 1, 0

    def _advance(self) -> None:
        self._batches += 1
        if self._batches >= len(self):
            self._epoch, self._batches = self._epoch + 1, 0


def _begin_worker(worker: int) -> None:
    """Sets up a worker: one thread, because workers already use every core, and no signals.

    It returns freed memory, which the process that it is forked from may keep: an image that is
    decoded once in a while would stay with every worker.

    A scheduler or a terminal signals all processes, but the run still needs its workers to finish
    the current step; they end with the run.
    """
    import cv2

    return_memory()
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end_workers() -> None:
    """Kills workers that an error has left behind: they ignore the SIGTERM that Python sends."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
