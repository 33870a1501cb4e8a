"""One data set of an experiment: its splits, their transforms and their loaders."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import counted, unknown
from densekit.data.foreground import shows_foreground
from densekit.data.loader import Collate, Drawn, EvalLoader, Loader, default_workers
from densekit.data.protocols import BatchTransform, Dataset, Transform, array_of, as_dataset
from densekit.data.samplers import EvalSampler, IdentitySampler, TrainSampler, aspect_groups
from densekit.data.sampling import Sampling
from densekit.data.splits import SPLITS
from densekit.data.subset import RandomSubset
from densekit.types import IMAGENET_MEAN, IMAGENET_STD

_log = logging.getLogger("densekit.data")

SLICE_KEYS = ("channels", "slices", "spatial_dims")
"""Keys in which the description of slices may differ from that of their volumes."""
PLANE_KEYS = ("ids", "plane_values")
"""Keys that a split of binary masks cannot determine if all its masks are empty."""
TRAINING_KEYS = ("num_identities", "identities")
"""Keys that a split of other identities than the training's (`OpenSet`) leaves out."""


class Source:
    """The splits of one data set and the heads that they train.

    Args:
        train: Training images, or None for a data set that is only evaluated on. If they are slices
            of volumes, val and test may be the volumes; metrics are then computed per volume.
        val: Images that select checkpoints.
        test: Images of the final metrics.
        heads: Names of the heads that this data set has targets for. If it describes several kinds
            of target (`targets`), a mapping of head to kind: `{detection: boxes, parts: mask}`.
        train_transform: Augments and resizes training samples.
        eval_transform: Changes evaluation samples without moving pixels, because results are
            compared in the image's own frame.
        mixed_epochs: Number of epochs after which the steps of `train_transform` that mix samples
            (`Mosaic`, `BoxMixUp`, `CopyPaste`) are left out, so that training ends with images as
            they are; None never leaves them out.
        batch_transform: Changes training batches of categories, e.g. `MixUp`.
        batch_size: Training images per step and process.
        eval_batch_size: Evaluation images per step and process. With 1, the default, no result
            depends on the padding to the other images of its batch.
        num_workers: Processes that read images, 0 for none; the default is `default_workers`.
        mean: One value per channel, in the unit of the stored image. The default is the data set's
            own; else 0 (and `std` 1) if it scales intensities (`intensity`), ImageNet's for 8-bit
            RGB, the average of that for 8-bit grey.
        std: Likewise.
        group_by_aspect: Whether each batch holds either wide or tall images.
        repeats: Number of times that a training batch holds each of its images; see `TrainSampler`.
        sampling: How often an epoch draws each training image, e.g. `RepeatFactors`; None draws
            each once.
        num_train_images: Number of training images to draw with the seed, for a learning curve; a
            smaller number draws some of those of a larger one. None takes all.
        images_per_identity: Makes training batches of `batch_size / images_per_identity`
            identities with this number of images each, for losses over pairs; None draws images.
        seed: Seed of the order and of the augmentation.

    Raises:
        ValueError: If a split is not a data set, the splits differ in classes or channels, mean and
            std are missing, or the training masks show nothing but background.
    """

    def __init__(
        self,
        train: Dataset | None = None,
        val: Dataset | None = None,
        test: Dataset | None = None,
        *,
        heads: Sequence[str] | Mapping[str, str] = ("detection",),
        train_transform: Transform | None = None,
        eval_transform: Transform | None = None,
        mixed_epochs: int | None = None,
        batch_transform: BatchTransform | None = None,
        batch_size: int = 4,
        eval_batch_size: int = 1,
        num_workers: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        group_by_aspect: bool = False,
        repeats: int = 1,
        sampling: Sampling | None = None,
        num_train_images: int | None = None,
        images_per_identity: int | None = None,
        seed: int = 0,
    ) -> None:
        _check_counts(batch_size, eval_batch_size, num_workers, mixed_epochs)
        if train is not None and num_train_images is not None:
            train = _drawn(as_dataset(train, "train"), num_train_images, seed)
        self.train, self.val, self.test = (
            None if data is None else as_dataset(data, split)
            for split, data in zip(SPLITS, (train, val, test), strict=True)
        )
        self.heads = tuple(heads)
        self.targets = dict(heads) if isinstance(heads, Mapping) else {}
        self.batch_size = batch_size
        self.train_transform = train_transform
        self.eval_transform = eval_transform
        self.mixed_epochs = mixed_epochs
        self.batch_transform = batch_transform
        self.repeats = repeats
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.group_by_aspect = group_by_aspect
        self.sampling = sampling
        self.images_per_identity = images_per_identity
        self.seed = seed
        _check_filled(self.splits)
        _warn_of_shared(self.train, self.splits)
        self._description = _common_description(self.splits)
        _check_foreground(self.splits)
        _check_targets(self.targets, self._description.get("targets", {}))
        self._description["mean"] = _statistic("mean", mean, IMAGENET_MEAN, 0.0, self._description)
        self._description["std"] = _statistic("std", std, IMAGENET_STD, 1.0, self._description)

    @property
    def splits(self) -> dict[str, Dataset]:
        """The existing splits by name, in the order of `SPLITS`."""
        named = zip(SPLITS, (self.train, self.val, self.test), strict=True)
        return {split: dataset for split, dataset in named if dataset is not None}

    def describe(self) -> dict[str, Any]:
        """The description of the data set with `mean` and `std`, in plain values."""
        return dict(self._description)

    def prepared(self) -> dict[str, Any] | None:
        """How images of identities are prepared for the network, None without identities."""
        if self.train is None or "num_identities" not in self._description:
            return None
        from densekit.data.identification.prepared import prepared

        return prepared(self.train, [self.train_transform, self.eval_transform])

    def train_loader(self) -> Loader:
        """A resumable loader of shuffled training batches without end.

        Raises:
            ValueError: If there is no training split.
        """
        dataset = self._split("train")
        change = self.batch_transform and partial(
            self.batch_transform, num_classes=self._description.get("num_classes", 0)
        )
        return Loader(
            Drawn(dataset, self.train_transform, self.seed, self.mixed_epochs),
            self.train_sampler(),
            Collate(True, dataset.target_specs, change, self.seed),
            self._workers(dataset),
        )

    def eval_loader(self, split: str) -> EvalLoader:
        """A loader of every image of a split once, with its truth.

        Args:
            split: "train", "val" or "test"; training images are not augmented here.

        Raises:
            ValueError: If the split does not exist.
        """
        dataset = self._split(split)
        return EvalLoader(
            Drawn(dataset, self.eval_transform, self.seed),
            EvalSampler(len(dataset), self.eval_batch_size),
            Collate(training=False, target_specs=dataset.target_specs),
            self._workers(dataset),
        )

    def image_size(self) -> tuple[int, ...]:
        """Sides of the first (training) image as the loader returns it."""
        split, dataset = next(iter(self.splits.items()))
        transform = self.train_transform if split == "train" else self.eval_transform
        sample, _ = Drawn(dataset, transform, self.seed)[0, 0, True]
        return tuple(sample["image"].shape[:-1])

    def _workers(self, dataset: Dataset) -> int:
        return default_workers(dataset) if self.num_workers is None else self.num_workers

    def train_sampler(self) -> TrainSampler:
        """The order in which training images are drawn.

        Raises:
            ValueError: If there is no training split, or it cannot be drawn in this way.
        """
        dataset = self._split("train")
        if self.images_per_identity is not None:
            if self.repeats > 1 or self.group_by_aspect or self.sampling is not None:
                raise ValueError(
                    "repeats, sampling, group_by_aspect: expected none beside images_per_identity,"
                    " which makes the batches; leave them out"
                )
            labels = array_of(dataset, "labels")
            if labels is None:
                raise ValueError(
                    "images_per_identity: expected training data with the identity of each image"
                    " (`labels`), such as IdentityFolder, got data without"
                )
            return IdentitySampler(labels, self.batch_size, self.images_per_identity, self.seed)
        groups = aspect_groups(np.asarray(dataset.sizes)) if self.group_by_aspect else None
        return TrainSampler(
            len(dataset), self.batch_size, self.seed, groups, self.repeats, self._factors
        )

    @cached_property
    def _factors(self) -> NDArray[np.float64] | None:
        """(N,) see `Sampling.factors`; masks are read for it once."""
        return None if self.sampling is None else self.sampling.factors(self._split("train"))

    def _split(self, split: str) -> Dataset:
        if split not in self.splits:
            raise ValueError(unknown("split", split, self.splits))
        return self.splits[split]


def _drawn(train: Dataset, count: int, seed: int) -> Dataset:
    if not 1 <= count <= len(train):
        raise ValueError(f"num_train_images: expected 1 to {len(train)}, got {count}")
    return RandomSubset(train, count, seed)


def _warn_of_shared(train: Dataset | None, splits: Mapping[str, Dataset]) -> None:
    """Warns of training images that are also in val or test, if the data sets have `keys`."""
    known = None if train is None else array_of(train, "keys")
    for split, data in splits.items():
        keys = None if split == "train" or known is None else array_of(data, "keys")
        if known is None or keys is None:
            continue
        common = np.intersect1d(known, keys)
        if len(common):
            first = int(np.flatnonzero(keys == common[0])[0])
            _log.warning(
                "%s also in %s (first: number %d there, %s); metrics on %s will be optimistic",
                counted(len(common), "training image is", "training images are"),
                *(split, first, common[0].decode()[:80], split),
            )


def _check_filled(splits: Mapping[str, Dataset]) -> None:
    for split, data in splits.items():
        if not len(data):
            raise ValueError(f"{split}: expected at least one image, got none")


def _check_foreground(splits: Mapping[str, Dataset]) -> None:
    """Refuses training masks that are all empty, and warns of such evaluation masks."""
    for split, data in splits.items():
        if shows_foreground(data):
            continue
        where = data.path(0) or split
        if split == "train":
            raise ValueError(
                f"{where}: expected a pixel of a class besides the background, got none in"
                f" {counted(len(data), 'mask')}; are the classes and their stored values right"
                " (`names`, `labels`), or is the mask in another channel?"
            )
        _log.warning(
            "%s: none of the %d masks of %s has a pixel of a class besides the background; metrics"
            " on %s will be meaningless",
            *(where, len(data), split, split),
        )


def _check_counts(
    batch_size: int, eval_batch_size: int, num_workers: int | None, mixed_epochs: int | None
) -> None:
    for name, count, least in (
        ("batch_size", batch_size, 1),
        ("eval_batch_size", eval_batch_size, 1),
        ("num_workers", num_workers, 0),
        ("mixed_epochs", mixed_epochs, 0),
    ):
        if count is not None and count < least:
            raise ValueError(f"{name}: expected at least {least}, got {count}")


def _check_targets(named: Mapping[str, str], there: Mapping[str, Any]) -> None:
    for head, kind in named.items():
        if kind not in there:
            raise ValueError(unknown(f"heads.{head}: target of the data set", kind, there))


def _common_description(splits: Mapping[str, Dataset]) -> dict[str, Any]:
    """The description that all splits have in common."""
    described = {name: data.describe() for name, data in splits.items()}
    if not described:
        raise ValueError("Source: expected at least one of train, val and test, got none")
    (first, reference), *others = described.items()
    for split, other in others:
        if _is_binary(reference) and not shows_foreground(splits[split]):
            other |= {key: reference[key] for key in PLANE_KEYS if key in reference}
        for key in sorted(set(reference) | set(other)):
            if key in SLICE_KEYS and _is_volume_of(reference, other):
                continue
            if key in TRAINING_KEYS and key not in other:
                continue
            if reference.get(key) != other.get(key) and key in TRAINING_KEYS:
                raise ValueError(
                    f"{split}: expected the identities of {first}, got others; wrap identities that"
                    " training does not have in densekit.data.OpenSet, or give both the same"
                )
            if reference.get(key) != other.get(key):
                difference = _difference(reference.get(key), other.get(key))
                raise ValueError(
                    f"{split}: expected the {key} of {first}, got a difference: {difference}; give"
                    " both the same `names` if their annotations do not contain the same classes"
                )
    return dict(reference)


def _is_binary(described: Mapping[str, Any]) -> bool:
    """Whether the masks store each class as yes or no."""
    return "multilabel" in described and bool(
        described["multilabel"] or described.get("num_classes") == 1
    )


def _is_volume_of(slices: Mapping[str, Any], volumes: Mapping[str, Any]) -> bool:
    """Whether one split holds slices, with neighbours as channels, of the other's volumes."""
    rule = slices.get("slices")
    if rule is None or volumes.get("slices") is not None or volumes.get("spatial_dims") != 3:
        return False
    stacked = 2 * int(rule["neighbours"]) + 1
    return bool(slices["channels"] == stacked * volumes["channels"])


def _difference(first: Any, second: Any) -> str:
    """The items that only one list has; both values if they differ otherwise."""
    if isinstance(first, list) and isinstance(second, list):
        left = [item for item in first if item not in second]
        right = [item for item in second if item not in first]
        if left or right:
            return f"only the first has {left[:10]}, only the second has {right[:10]}"
    return f"{str(first)[:200]} and {str(second)[:200]}"


def _statistic(
    key: str,
    given: Sequence[float] | None,
    imagenet: Sequence[float],
    scaled: float,
    description: Mapping[str, Any],
) -> list[float]:
    """Mean or std per channel."""
    channels = description["channels"]
    given = description.get(key) if given is None else given
    if given is not None:
        if len(given) != channels:
            raise ValueError(f"{key}: expected one value per channel ({channels}), got {given!r}")
        return [float(value) for value in given]
    if description.get("intensity") is not None:
        return [scaled] * channels
    eight_bit = description.get("dtype", "uint8") == "uint8"
    if eight_bit and channels == 3:
        return list(imagenet)
    if eight_bit and channels == 1:
        return [sum(imagenet) / len(imagenet)]
    raise ValueError(
        f"{key}: expected one value per channel in the unit of the stored image, got none for"
        f" {channels} channels of {description.get('dtype', 'uint8')}"
    )
