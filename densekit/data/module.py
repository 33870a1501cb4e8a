"""The data module: every data set of an experiment, side by side."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader

from densekit._names import unknown
from densekit.data.loader import Loader
from densekit.data.reading.file_check import broken_files
from densekit.data.source import Source
from densekit.data.splits import SPLITS
from densekit.data.subset import Subset

ON_BROKEN = ("stop", "skip", "unchecked")
STAGES = {"fit": SPLITS, "validate": ("val",), "test": ("test",)}
"""The splits that are read before a stage of the trainer begins."""
SHOWN = 100
"""Broken files that are named."""

_NOTHING: Any = ()
_log = logging.getLogger("densekit.data")


class DataModule(LightningDataModule):
    """Trains on all data sets in every step and evaluates them one after the other.

    A training batch is `{data set: Batch}`; an epoch is as long as the longest data set, shorter
    ones go round. The evaluation loaders are a list in the order of `source_names`.

    Every file is read once before the first step, what was right last time is remembered.

    Args:
        sources: Name to data set.
        on_broken: What files that cannot be read do: "stop" the run before it begins, all of them
            named; "skip" leaves those of training out and says so, while evaluation, whose numbers
            would be of other images, stops; "unchecked" reads no file beforehand.
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
        self._places: dict[str, dict[str, int]] = {}

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
        """Reads the files in one process for all of a node, which then remember them."""
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
            ValueError: Some cannot be read, see `on_broken`; all are named.
        """
        if self.on_broken == "unchecked":
            return
        found = []
        for name, source in self.sources.items():
            for split in STAGES.get(stage, ()):
                if (name, split) in self._read:
                    continue
                faults = self._broken(name, source, split)
                found += faults
                if not faults:
                    self._read.add((name, split))
        if found:
            raise ValueError("\n".join(found))

    def _broken(self, name: str, source: Source, split: str) -> list[str]:
        """What to stop for; with "skip" the training images that remain replace the others."""
        dataset = source.splits.get(split)
        if dataset is None or not (broken := broken_files(dataset)):
            return []
        listed = [f"data.{name}.{split}: {len(broken)} of {len(dataset)} images cannot be read:"]
        listed += [f"  {fault}" for fault in list(dict.fromkeys(broken.values()))[:SHOWN]]
        if self.on_broken == "skip" and split == "train" and len(broken) < len(dataset):
            _log.warning("%s\n  left out (on_broken=skip)", "\n".join(listed))
            source.train = Subset(dataset, [i for i in range(len(dataset)) if i not in broken])
            return []
        hint = "mend them, or take them out of the list of images"
        if split == "train":
            hint += "; on_broken=skip trains without them"
        return [*listed, f"  {hint}"]

    def train_dataloader(self) -> CombinedLoader:
        """Batches of every data set that has training images."""
        loaders = {
            name: source.train_loader()
            for name, source in self.sources.items()
            if source.train is not None
        }
        if not loaders:
            raise ValueError(f"data: expected a training split, got none in {list(self.sources)}")
        for name in self._places.keys() & loaders.keys():
            loaders[name].load_state_dict(self._places[name])
        self._loaders, self._places = loaders, {}
        return CombinedLoader(loaders, mode="max_size_cycle")

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """One loader a data set of `source_names`, empty for one without the split."""
        return self._eval_loaders("val")

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """One loader a data set of `source_names`, empty for one without the split."""
        return self._eval_loaders("test")

    # Lightning itself restores the places of loaders in the middle of an epoch only: a run that
    # goes on between two epochs would see the images of the first epoch again.
    def state_dict(self) -> dict[str, dict[str, int]]:
        """The place of each training loader, and how many images its order is of."""
        return {
            name: {**loader.state_dict(), "images": self._count(name)}
            for name, loader in self._loaders.items()
        }

    def load_state_dict(self, state_dict: dict[str, dict[str, int]]) -> None:
        """Lets the next training loaders begin at these places.

        Raises:
            ValueError: A data set has another number of images: their order is another, too.
        """
        for name, place in state_dict.items():
            if name in self.sources and place.get("images", self._count(name)) != self._count(name):
                raise ValueError(
                    f"data.{name}.train: expected the {place['images']} images of the run that is"
                    f" resumed, got {self._count(name)}; checkpoint=PATH in place of resume= starts"
                    " a new run from its weights"
                )
        self._places = dict(state_dict)

    def _count(self, name: str) -> int:
        return len(self.sources[name].train or ())

    def _eval_loaders(self, split: str) -> list[DataLoader[Any]]:
        present = {name: source for name, source in self.sources.items() if split in source.splits}
        if not present:
            return []
        # An empty loader keeps the numbers of the loaders those of the names.
        return [
            present[name].eval_loader(split) if name in present else DataLoader[Any](_NOTHING)
            for name in self.source_names
        ]
