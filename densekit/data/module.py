"""The data module: every data set of an experiment, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import DataLoader

from densekit.data.loader import Loader
from densekit.data.source import Source

_NOTHING: Any = ()


class DataModule(LightningDataModule):
    """Trains on all data sets in every step and evaluates them one after the other.

    A training batch is `{data set: Batch}`; an epoch is as long as the longest data set, shorter
    ones go round. The evaluation loaders are a list in the order of `source_names`.

    Args:
        sources: Name to data set.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        super().__init__()
        if not sources:
            raise ValueError("data: at least one data set is needed")
        self.sources = dict(sources)
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

    def train_dataloader(self) -> CombinedLoader:
        """Batches of every data set that has training images."""
        loaders = {
            name: source.train_loader()
            for name, source in self.sources.items()
            if source.train is not None
        }
        if not loaders:
            raise ValueError(f"none of the data sets {list(self.sources)} has a training split")
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
        present = {
            name: source
            for name, source in self.sources.items()
            if getattr(source, split) is not None
        }
        if not present:
            return []
        # An empty loader keeps the numbers of the loaders those of the names.
        return [
            present[name].eval_loader(split) if name in present else DataLoader[Any](_NOTHING)
            for name in self.source_names
        ]
