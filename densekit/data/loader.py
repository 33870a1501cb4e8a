"""From draws to batches: seeds every sample, keeps its place, resumes to the bit."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from densekit.data.collate import collate
from densekit.data.protocols import Dataset, Transform
from densekit.data.samplers import Draw, TrainSampler
from densekit.types import Batch, Sample, TargetSpec

MOST_WORKERS = 8
FEW_PICTURES, FEW_VOLUMES = 64, 16
_OF_BATCH = 1
"""Tells the generator of a batch from that of its first image."""


def default_workers(dataset: Dataset) -> int:
    """Processes that read a data set where nobody says how many: what is left of the cores.

    Each process that trains keeps one core of its share, and more than 8 rarely help. None are
    started for pictures that are drawn, series that lie in memory, or so few samples that starting
    takes longer, and where a process does not start as a copy of this one (macOS, Windows).
    """
    dims = dataset.describe().get("spatial_dims", 2)
    few = len(dataset) < (FEW_VOLUMES if dims == 3 else FEW_PICTURES)
    copied = multiprocessing.get_start_method() == "fork"
    if dims == 1 or few or not copied or not dataset.reads_files:
        return 0
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    share = cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min(MOST_WORKERS, share - 1))


class Drawn:
    """A data set indexed by draws: the sample is transformed with a generator of its own.

    An index beyond the last image is one more draw of it (see `TrainSampler.repeats`).

    Args:
        dataset: The images.
        transform: Applied with a generator seeded by (seed, epoch, index), or None.
        seed: Of all random choices.
    """

    def __init__(self, dataset: Dataset, transform: Transform | None, seed: int) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> tuple[Sample, Draw]:
        """The sample of a draw, and the draw."""
        epoch, index, _ = draw
        sample = self.dataset[index % len(self.dataset)]
        if self.transform is not None:
            sample = self.transform(sample, np.random.default_rng((self.seed, epoch, index)))
        sample["index"] = index
        return sample, draw


class Collate:
    """`collate` for a loader.

    Args:
        training: Whether `truth` is left out.
        target_specs: How the entries of `extra` are stacked.
        change: Changes the batch with a generator seeded by (seed, epoch, index) of its first
            image, and so by (seed, step, rank); None leaves it.
        seed: Of `change`.
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
        """One batch of what `Drawn` returned."""
        samples = [sample for sample, _ in items]
        valid = [valid for _, (_, _, valid) in items]
        specs = self.target_specs
        batch = collate(samples, training=self.training, valid=valid, target_specs=specs)
        if self.change is None:
            return batch
        epoch, index, _ = items[0][1]
        return self.change(batch, rng=np.random.default_rng((self.seed, epoch, index, _OF_BATCH)))


class EvalLoader(DataLoader[Any]):
    """One pass over draws that a sampler lists.

    Args:
        drawn: The images.
        sampler: Yields the draws of each batch.
        collate_fn: Makes a batch of them.
        num_workers: Processes that read images; 0 reads in this one.
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
            # Without a generator of its own, every pass would take a number from torch's global
            # stream, and a resumed run would differ in whatever else draws from it.
            generator=torch.Generator().manual_seed(drawn.seed),
        )


class Loader(EvalLoader):
    """Training batches with a place in them that a checkpoint keeps.

    A pass gives as many batches as an epoch has and goes on where the last one stopped, also if
    that was in the middle of an epoch: a run that is limited to fewer batches a pass sees all
    images in time. After `load_state_dict` a pass begins at the place given; the trainer, which
    knows how many batches the interrupted pass has had, ends it.

    Args:
        drawn: The images.
        sampler: Batches from any place.
        collate_fn: Makes a batch.
        num_workers: Processes that read images; 0 reads in this one.
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
            # Counted when it is handed out: what workers have read ahead is not done.
            self._advance()
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The place: the epoch and how many of its batches have been handed out."""
        return {"epoch": self._epoch, "batches": self._batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes to a place; the next epoch, if this run has fewer batches than that."""
        self._epoch, self._batches = state["epoch"], state["batches"]
        if self._batches >= len(self):
            self._epoch, self._batches = self._epoch + 1, 0

    def _advance(self) -> None:
        self._batches += 1
        if self._batches >= len(self):
            self._epoch, self._batches = self._epoch + 1, 0


def _begin_worker(worker: int) -> None:
    """A worker is one of many: OpenCV's own threads would only fight with the others.

    It ends with its run, and not at a signal that a scheduler or a terminal sends to all processes:
    the run still needs it for the step that is under way.
    """
    import cv2

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


@atexit.register
def _end_workers() -> None:
    """Ends what an error has left behind: it ignores the SIGTERM that Python would end it with."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
