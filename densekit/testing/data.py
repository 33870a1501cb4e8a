"""Contract tests of a data set: its samples against its declarations."""

from __future__ import annotations

import gc
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from densekit.data.collate import collate
from densekit.data.protocols import Dataset, as_dataset
from densekit.testing import sample_rules as rules
from densekit.testing.compare import difference
from densekit.testing.contract import Check, prove
from densekit.testing.sample_rules import TARGETS, Vocabulary
from densekit.testing.seeds import global_seed
from densekit.types import Sample, check_batch

IMAGES = 6
OPEN_FILES = Path("/dev/fd")
"""Folder that lists the open files of this process, on systems that have it."""


@dataclass(frozen=True)
class DataSubject:
    """A data set under test.

    Attributes:
        dataset: The data set.
        count: Number of images to read, evenly spread; all if there are fewer.
    """

    dataset: Dataset
    count: int = IMAGES

    @cached_property
    def indices(self) -> list[int]:
        """Indices of the images to read, including the first and the last."""
        last = len(self.dataset) - 1
        return sorted({round(index) for index in np.linspace(0, last, min(self.count, last + 1))})

    @cached_property
    def samples(self) -> list[Sample]:
        """Those images, read once."""
        return [self.dataset[index] for index in self.indices]

    @property
    def vocabulary(self) -> Vocabulary:
        """The data set's declarations about its samples."""
        return Vocabulary(self.dataset.describe(), self.dataset.target_specs)


def check_data(dataset: Any, count: int = IMAGES) -> None:
    """Runs every contract test on a data set.

    Args:
        dataset: A `densekit.data.Dataset`, or an object with its three methods.
        count: Number of images to read, evenly spread.

    Raises:
        AssertionError: Names each failed check, its requirement and what was found.
    """
    prove(DataSubject(as_dataset(dataset), count), CHECKS)


def _describes(subject: DataSubject) -> None:
    described = subject.dataset.describe()
    plain = json.loads(json.dumps(described))
    assert not (key := difference(described, plain)), f"{key} does not survive JSON"
    channels = described.get("channels")
    assert isinstance(channels, int), f"channels is {channels!r}, not a number"
    for kind in described.get("targets", {"": {}}):
        entry = subject.vocabulary.of(kind)
        if "names" in entry:
            names, ids = entry["names"], entry.get("ids", ())
            assert len(set(names)) == len(names), f"names are not distinct: {names}"
            found = f"{len(names)} names, {len(ids)} ids, num_classes {entry.get('num_classes')}"
            assert len(names) == len(ids) == entry.get("num_classes"), found


def _sizes(subject: DataSubject) -> None:
    number, sizes = len(subject.dataset), np.asarray(subject.dataset.sizes)
    assert number > 0, "no image"
    assert len(sizes) == number, f"sizes has {len(sizes)} rows for {number} images"
    for index, sample in zip(subject.indices, subject.samples, strict=True):
        size, original = tuple(sizes[index].tolist()), tuple(sample["meta"]["original_size"])
        if sample["meta"].get("axes") is not None:  # reoriented from the frame of the file
            size, original = tuple(sorted(size)), tuple(sorted(original))
        assert size == original, f"image {index}: sizes is {size}, meta.original_size {original}"


def _keys(subject: DataSubject) -> None:
    _follow(rules.check_keys)(subject)
    first, *others = subject.samples
    for sample in others:
        odd = sorted(set(first) ^ set(sample))
        assert not odd, f"only some samples have {odd}"
    for index, sample in zip(subject.indices, subject.samples, strict=True):
        assert sample["index"] == index, f"sample {index} has the index {sample['index']}"
    images = {
        (str(sample["meta"]["path"]), sample["meta"]["image_id"]) for sample in subject.samples
    }
    for what, found in zip(("paths", "image ids"), zip(*images, strict=True), strict=True):
        assert len(set(found)) == len(images), f"different images have equal {what}: {images}"
    truth = set(first.get("truth", {})) - {"image_id", "size"}
    assert truth | (set(TARGETS) & set(first)), f"no target among {sorted(first)}"


def _follow(rule: Callable[[Sample, Vocabulary], None]) -> Callable[[DataSubject], None]:
    def run(subject: DataSubject) -> None:
        for sample in subject.samples:
            try:
                rule(sample, subject.vocabulary)
            except AssertionError as error:
                path = sample.get("meta", {}).get("path", f"sample {sample.get('index')}")
                raise AssertionError(f"{path}: {error}") from None

    return run


def _optional(subject: DataSubject) -> None:
    dataset, number = subject.dataset, len(subject.dataset)
    for name in ("labels", "keys"):
        value = getattr(dataset, name)
        assert value is None or len(value) == number, f"{len(value)} {name} for {number} images"
    channels = dataset.describe()["channels"]
    modalities = dataset.modalities
    assert len(modalities) in (0, channels), f"modalities {modalities} for {channels} channels"
    for index, sample in zip(subject.indices, subject.samples, strict=True):
        equal = np.array_equal(dataset.read(index), sample["image"])
        assert equal, f"read({index}) is not the image of its sample"
        if "mask" in sample:
            found = np.array_equal(dataset.mask(index), sample["mask"])
            assert found, f"mask({index}) is not the mask of its sample"


def _same_twice(subject: DataSubject) -> None:
    for index, first in zip(subject.indices, subject.samples, strict=True):
        for seed in (1, 2):
            with global_seed(seed):
                key = difference(first, subject.dataset[index])
            assert not key, f"{key} of image {index} differs when it is read again"


def _own_arrays(subject: DataSubject) -> None:
    index = subject.indices[0]
    sample = subject.dataset[index]
    before = pickle.dumps(sample)
    sample["index"] = -1
    if sample["image"].flags.writeable:
        sample["image"][...] = 0
    key = difference(pickle.loads(before), subject.dataset[index])
    assert not key, f"{key} of image {index} shows what was written into an earlier sample"


def _copies(subject: DataSubject) -> None:
    copied = pickle.loads(pickle.dumps(subject.dataset))
    for index, sample in zip(subject.indices, subject.samples, strict=True):
        key = difference(sample, copied[index])
        assert not key, f"{key} of image {index} differs in a pickled copy"


def _closes_files(subject: DataSubject) -> None:
    if not OPEN_FILES.is_dir():
        return
    counts = []
    for _ in range(2):  # the first pass may open a file for good, such as a log
        for index in subject.indices:
            subject.dataset[index]
        gc.collect()
        counts.append(len(list(OPEN_FILES.iterdir())))
    number = len(subject.indices)
    assert counts[1] <= counts[0], f"{counts[1] - counts[0]} more open files after {number} reads"


def _batches(subject: DataSubject) -> None:
    for training in (True, False):
        specs = subject.dataset.target_specs
        check_batch(collate(subject.samples, training=training, target_specs=specs))


CHECKS = (
    Check(
        "describes",
        "`describe` returns JSON values: channels, and names, ids and num_classes of one length",
        _describes,
    ),
    Check("sizes", "`sizes` has the original size of every image, without opening one", _sizes),
    Check(
        "keys",
        "every sample has the same known entries, its index, and the path, id and original size of"
        " its image; custom targets are under `extra`, each with a TargetSpec",
        _keys,
    ),
    Check(
        "image",
        "(*S, C) uint8 or finite float32, with the declared channels and dtype",
        _follow(rules.check_image),
    ),
    Check(
        "boxes",
        "(N, 4) float32 xyxy in pixels within the image, labels int64 in 0..K-1, crowd bool",
        _follow(rules.check_boxes),
    ),
    Check(
        "mask",
        "uint8 classes 0..K-1 of the image's size, (K, *S) of 0 and 1 if multi-label; 255 marks"
        " ignored pixels",
        _follow(rules.check_mask),
    ),
    Check(
        "category",
        "() int64 in 0..K-1, or (K,) float32 in 0..1; identity () int64 below num_identities",
        _follow(rules.check_category),
    ),
    Check(
        "truth",
        "the unchanged annotation in the original frame, with the image's id",
        _follow(rules.check_truth),
    ),
    Check(
        "optional declarations",
        "those that are present are consistent: labels and keys of every image, one modality per"
        " channel, `read` and `mask` as in the samples",
        _optional,
    ),
    Check(
        "same twice",
        "an index returns the same sample every time: randomness belongs to transforms, drawn from"
        " (seed, epoch, index)",
        _same_twice,
    ),
    Check(
        "own arrays",
        "writing into a sample, where its arrays allow it, does not change later ones",
        _own_arrays,
    ),
    Check("copies", "a pickled copy returns the same samples: workers get one", _copies),
    Check("closes files", "reading an image leaves no file open", _closes_files),
    Check("batches", "collate makes a batch of samples of any sizes", _batches),
)
"""Requirements of every data set."""
