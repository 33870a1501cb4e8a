"""The data module: all data sets of an experiment for the trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader

from densekit._names import counted, unknown
from densekit.data.loader import Loader
from densekit.data.reading.file_check import broken_files
from densekit.data.source import Source
from densekit.data.splits import SPLITS
from densekit.data.subset import Subset
from densekit.ops import dist

ON_BROKEN = ("stop", "skip", "unchecked")
STAGES = {"fit": SPLITS, "validate": ("val",), "test": ("test",)}
"""The splits that are read before a stage of the trainer begins."""
SHOWN = 100
"""Most broken files that are listed."""

_NOTHING: Any = ()
_log = logging.getLogger("densekit.data")


class DataModule(LightningDataModule):
    """Trains on all data sets in every step and evaluates them one after the other.

    A training batch is `{data set: Batch}`; an epoch is as long as the longest data set, and
    shorter ones repeat. The evaluation loaders are a list in the order of `source_names`.

    Every file is read once before the first step, except those that were intact last time.

    Args:
        sources: The data sets by name.
        on_broken: What to do if files cannot be read: "stop" refuses to begin and lists them all;
            "skip" leaves them out of training with a warning, but still stops for evaluation, whose
            metrics would be of other images; "unchecked" reads no file beforehand.
    """

    def __init__(self, sources: Mapping[str, Source], on_broken: str = "stop") -> None:
        super().__init__()
        if not sources:
            raise ValueError("data: expected at least one data set, got none")
        if on_broken not in ON_BROKEN:
            raise ValueError(unknown("on_broken", on_broken, ON_BROKEN))
        self.sources = dict(sources)
        self.on_broken = on_broken
        self._read: set[tuple[str, str]] = set()
        self._loaders: dict[str, Loader] = {}
        self._states: dict[str, dict[str, int]] = {}

    @property
    def source_names(self) -> list[str]:
        """Names of the data sets in the order of the evaluation loaders."""
        evaluated = (
            name
            for name, source in self.sources.items()
            if source.val is not None or source.test is not None
        )
        return list(evaluated)

    def prepare_data(self) -> None:
        """Reads the files in one process per node; the others find them marked as intact."""
        trainer = self.trainer
        if self.on_broken == "unchecked" or trainer is None or trainer.world_size == 1:
            return
        for source in self.sources.values():
            for split in STAGES.get(getattr(trainer.state.fn, "value", ""), ()):
                if split in source.splits:
                    broken_files(source.splits[split])

    def setup(self, stage: str) -> None:
        """Reads the files of the splits that a stage needs.

        Raises:
            ValueError: If files cannot be read (see `on_broken`); all are listed.
        """
        if self.on_broken == "unchecked":
            return
        problems = []
        for name, source in self.sources.items():
            for split in STAGES.get(stage, ()):
                if (name, split) in self._read:
                    continue
                lines = self._broken(name, source, split)
                problems += lines
                if not lines:
                    self._read.add((name, split))
        if problems:
            raise ValueError("\n".join(problems))

    def _broken(self, name: str, source: Source, split: str) -> list[str]:
        """The lines of the error to stop with; "skip" drops broken training images instead."""
        dataset = source.splits.get(split)
        if dataset is None or not (broken := broken_files(dataset)):
            return []
        listed = [
            f"data.{name}.{split}: expected readable images, got {len(broken)} of"
            f" {len(dataset)} broken:"
        ]
        listed += [f"  {error}" for error in list(dict.fromkeys(broken.values()))[:SHOWN]]
        if self.on_broken == "skip" and split == "train" and len(broken) < len(dataset):
            _log.warning("%s\n  left out (on_broken=skip)", "\n".join(listed))
            source.train = Subset(dataset, [i for i in range(len(dataset)) if i not in broken])
            return []
        hint = "repair them, or remove them from the list of images"
        if split == "train":
            hint += "; on_broken=skip trains without them"
        return [*listed, f"  {hint}"]

    def train_dataloader(self) -> CombinedLoader:
        """A combined loader of every data set that has training images."""
        loaders = {
            name: source.train_loader()
            for name, source in self.sources.items()
            if source.train is not None
        }
        if not loaders:
            raise ValueError(f"data: expected a training split, got none in {list(self.sources)}")
        for name in self._states.keys() & loaders.keys():
            loaders[name].load_state_dict(self._states[name])
        self._loaders, self._states = loaders, {}
        return CombinedLoader(loaders, mode="max_size_cycle")

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """One loader per data set of `source_names`, empty for one without the split."""
        return self._eval_loaders("val")

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader per data set of `source_names`, empty for one without the split."""
        return self._eval_loaders("test")

    # Lightning restores the positions of loaders only in the middle of an epoch: a run resumed
    # between two epochs would see the images of the first epoch again.
    def state_dict(self) -> dict[str, dict[str, int]]:
        """The position of each training loader, the number of its images and of those per step."""
        processes = dist.world_size()
        return {
            name: {
                **loader.state_dict(),
                "images": self._count(name),
                "images_per_step": self.sources[name].batch_size * processes,
            }
            for name, loader in self._loaders.items()
        }

    def load_state_dict(self, state_dict: dict[str, dict[str, int]]) -> None:
        """Makes the next training loaders begin at these positions.

        Raises:
            ValueError: If a data set has another number of images, in total or per step, and so
                another order.
        """
        for name, state in state_dict.items():
            if name in self.sources:
                check_images_per_step(name, self.sources[name].batch_size, state)
        for name, state in state_dict.items():
            if name in self.sources and state.get("images", self._count(name)) != self._count(name):
                raise ValueError(
                    f"data.{name}.train: expected the {state['images']} images of the resumed run,"
                    f" got {self._count(name)}; use checkpoint=PATH instead of resume= to start a"
                    " new run from its weights"
                )
        self._states = dict(state_dict)

    def _count(self, name: str) -> int:
        return len(self.sources[name].train or ())

    def _eval_loaders(self, split: str) -> list[DataLoader[Any]]:
        present = {name: source for name, source in self.sources.items() if split in source.splits}
        if not present:
            return []
        # Empty loaders keep the list aligned with `source_names`.
        return [
            present[name].eval_loader(split) if name in present else DataLoader[Any](_NOTHING)
            for name in self.source_names
        ]


def check_images_per_step(
    name: str, batch_size: int, state: Mapping[str, int], processes: int | None = None
) -> None:
    """Refuses a resumed run whose steps would see other images.

    Args:
        name: Of the data set.
        batch_size: Images per step and process.
        state: Of its loader, see `DataModule.state_dict`.
        processes: Number of processes; by default as many as there are.

    Raises:
        ValueError: Names the batch size with which a step has as many images as before.
    """
    count = dist.world_size() if processes is None else processes
    images = state["images_per_step"]
    if batch_size * count == images:
        return
    whole, rest = divmod(images, count)
    expected = f"{whole} with {counted(count, 'process', 'processes')}"
    if rest:
        expected = f"a number of processes that divides {images}"
    raise ValueError(
        f"data.{name}.batch_size: expected {expected}, as a step of the resumed run has {images}"
        f" images, got {batch_size} with {count}; checkpoint=PATH instead of resume= starts a new"
        " run from the weights"
    )
