from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
import torch

from densekit.data import Augment, DataModule, Dataset, Scenes, Source
from densekit.data.loader import default_workers
from densekit.types import Sample

STEPS = {"HorizontalFlip": {"p": 0.5}, "ColorJitter": {"p": 0.5}, "RandomScale": {"p": 0.5}}


@pytest.fixture(scope="module")
def augment():
    return Augment(STEPS)


def source(augment=None, *, length=13, workers=0, **arguments):
    split = {"length": length, "size": (64, 64)}
    return Source(
        train=Scenes("train", **split),
        val=Scenes("val", **split),
        train_transform=augment,
        num_workers=workers,
        **arguments,
    )


def equal(left, right):
    return set(left) == set(right) and all(
        torch.equal(value, right[key]) if torch.is_tensor(value) else value == right[key]
        for key, value in left.items()
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_in_the_middle_of_an_epoch_is_equal_to_the_bit(augment, workers):
    whole = source(augment).train_loader()
    batches = [batch for _ in range(2) for batch in whole]  # two epochs of three
    loader = source(augment, workers=workers).train_loader()
    running = iter(loader)
    assert equal(next(running), batches[0])
    assert equal(next(running), batches[1])
    state = loader.state_dict()
    assert state == {"epoch": 0, "batches": 2}
    resumed = source(augment, workers=workers).train_loader()
    resumed.load_state_dict(state)
    for batch, wanted in zip(resumed, batches[2:5], strict=True):
        assert equal(batch, wanted)
    assert resumed.state_dict() == {"epoch": 1, "batches": 2}


class Pictures(Dataset):
    """A data set of so many pictures that are read."""

    def __init__(self, length: int, dims: int = 2) -> None:
        self.length, self.dims = length, dims

    def __len__(self) -> int:
        return self.length

    def describe(self) -> dict[str, int]:
        return {"spatial_dims": self.dims}

    def __getitem__(self, index: int) -> Sample:
        raise IndexError(index)


@pytest.mark.parametrize(
    ("dataset", "cores", "processes", "expected"),
    [
        (Pictures(1000), 4, 1, 3),
        (Pictures(1000), 64, 1, 8),
        (Pictures(1000), 64, 8, 7),
        (Pictures(1000), 1, 1, 0),
        (Pictures(1000), 4, 8, 0),
        (Pictures(63), 4, 1, 0),
        (Pictures(16, dims=3), 4, 1, 3),
        (Pictures(15, dims=3), 4, 1, 0),
        (Pictures(1000, dims=1), 4, 1, 0),
        (Scenes(length=1000), 4, 1, 0),
    ],
)
def test_workers_are_what_is_left_of_the_cores(dataset, cores, processes, expected, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert default_workers(dataset) == expected
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    assert default_workers(dataset) == 0


def test_batches_of_every_number_of_workers_are_equal_to_the_bit(augment):
    wanted = list(source(augment, workers=None).train_loader())
    for workers in (0, 1, 3):
        found = source(augment, workers=workers).train_loader()
        assert all(equal(one, two) for one, two in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "num_workers"])
def test_counts_that_cannot_be_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: expected at least [01], got -1"):
        Source(train=Scenes("train", length=4, size=(64, 64)), **{name: -1})


def test_epochs_differ_in_order_and_augmentation(augment):
    loader = source(augment, length=4).train_loader()
    first, second = next(iter(loader)), next(iter(loader))
    assert sorted(first["key"].tolist()) == sorted(second["key"].tolist())
    assert (
        first["image"].shape != second["image"].shape or (first["image"] != second["image"]).any()
    )


def test_loading_draws_nothing_from_the_global_stream(augment):
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    list(source(augment).train_loader())
    assert torch.equal(torch.rand(2), wanted)


def test_a_pass_cut_short_is_continued_and_a_new_iterator_skips_nothing():
    loader = source().train_loader()
    keys = [batch["key"].tolist() for _ in range(2) for batch in source().train_loader()]
    everything = source().train_loader()
    keys = [batch["key"].tolist() for _ in range(2) for batch in everything]
    iter(loader)
    running = iter(loader)
    seen = [next(running)["key"].tolist(), next(running)["key"].tolist()]
    seen += [batch["key"].tolist() for batch in loader]
    assert seen == keys[:5]


def test_state_of_a_longer_epoch_goes_to_the_next():
    loader = source().train_loader()
    loader.load_state_dict({"epoch": 4, "batches": 3})
    assert loader.state_dict() == {"epoch": 5, "batches": 0}


def test_evaluation_is_unchanged_and_has_truth(augment):
    loader = source(augment, eval_batch_size=5).eval_loader("val")
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    assert [batch["image"].shape[2:] for batch in batches] == [(64, 64)] * 3
    assert [t["image_id"] for batch in batches for t in batch["truth"]] == list(range(13))
    assert all(batch["sample_valid"].all() for batch in batches)


def test_description_has_statistics_of_the_images():
    described = source().describe()
    assert described["num_classes"] == 5
    assert described["mean"] == [123.675, 116.28, 103.53]
    assert source(mean=[1, 2, 3]).describe()["mean"] == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match=r"mean: expected one value per channel \(3\)"):
        source(mean=[1])


class Described(Scenes):
    def __init__(self, **description):
        super().__init__(length=2)
        self.description = description

    def describe(self):
        return super().describe() | self.description


def test_splits_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"val: expected the names of train, .*'moon'"):
        Source(train=Scenes(), val=Described(names=["disc", "moon"]))
    with pytest.raises(ValueError, match="test: expected the ids of train"):
        Source(train=Scenes(), test=Described(ids=[5, 4, 3, 2, 1]))
    with pytest.raises(ValueError, match="at least one of"):
        Source()


def test_statistics_of_other_images_must_be_given():
    assert Source(train=Described(channels=1)).describe()["mean"] == [pytest.approx(114.495)]
    with pytest.raises(ValueError, match=r"mean: expected one value per channel in the unit"):
        Source(train=Described(channels=4))
    with pytest.raises(ValueError, match="mean: expected one value per channel in the unit"):
        Source(train=Described(dtype="float32"))


def test_missing_split_is_named():
    with pytest.raises(ValueError, match=r"split: expected one of train, val, got 'test'"):
        source().eval_loader("test")


def test_extra_targets_reach_the_batch():
    data = Scenes(length=2, size=(64, 64), identities=True)
    batch = next(iter(Source(train=data, batch_size=2).train_loader()))
    ids, labels = batch["extra"]["identities"], batch["labels"]
    assert torch.equal(ids[batch["boxes_valid"]] // 16, labels[batch["boxes_valid"]])
    assert (ids[~batch["boxes_valid"]] == -1).all()


def test_data_module_trains_on_all_sources_and_evaluates_one_by_one():
    module = DataModule(
        {
            "long": source(length=13),
            "short": source(length=5),
            "eval_only": Source(test=Scenes("test", 2)),
            "train_only": Source(train=Scenes(length=4)),
        }
    )
    steps = [batch for batch, _, _ in module.train_dataloader()]
    assert len(steps) == 3
    assert all(set(step) == {"long", "short", "train_only"} for step in steps)
    assert module.source_names == ["long", "short", "eval_only"]
    assert [len(loader) for loader in module.val_dataloader()] == [13, 5, 0]
    assert [len(loader) for loader in module.test_dataloader()] == [0, 0, 2]
    assert DataModule({"a": Source(train=Scenes())}).val_dataloader() == []
    with pytest.raises(ValueError, match="at least one"):
        DataModule({})


def test_multi_source_state_continues_shorter_sources():
    module = DataModule({"long": source(length=40), "short": source(length=12)})
    loader = module.train_dataloader()
    steps = [batch["short"]["key"] for batch, _, _ in loader]
    states = loader._state_dicts()
    steps += [batch["short"]["key"] for batch, _, _ in loader]
    resumed = DataModule(module.sources).train_dataloader()
    iter(resumed)
    resumed._load_state_dicts(states)
    again = [batch["short"]["key"] for batch, _, _ in resumed]
    assert len(again) == 10
    assert all(torch.equal(a, b) for a, b in zip(again, steps[10:], strict=True))


def test_random_choices_do_not_depend_on_the_batch():
    augment = Augment(STEPS)
    one, four = source(augment, batch_size=1).train_loader(), source(augment).train_loader()
    single = {int(batch["key"]): batch["image"][0] for batch in one}
    batch = next(iter(four))
    for key, image, (height, width) in zip(
        batch["key"].tolist(), batch["image"], batch["size"].tolist(), strict=True
    ):
        np.testing.assert_array_equal(image[:, :height, :width], single[key])


def _stop_within_an_epoch():
    KEPT.append(iter(source(workers=1).train_loader()))
    next(KEPT[0])


KEPT = []
"""What an error's traceback would keep alive: the workers then do not end by themselves."""


def test_workers_end_with_a_process_of_multiprocessing():
    process = multiprocessing.get_context("fork").Process(target=_stop_within_an_epoch)
    process.start()
    process.join(30)
    code = process.exitcode
    process.kill()
    assert code == 0
