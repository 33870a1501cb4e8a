"""Classes of objects, masks and categories: unused, rare, shifted between splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from densekit.app.doctor.facts import Example, Part, Study
from densekit.app.doctor.findings import Hit, Severity, check, of_part
from densekit.data.naming import tidy

RARE = 10
"""Images below which a class is rare in training."""
UNEVEN = 100.0
"""Images of the most frequent class over those of the rarest from which classes are unbalanced."""
SHIFT = 0.3
"""Share of labels that would have to change for two splits to agree, from which they differ."""
ENOUGH = 30
"""Labels of a split from which its distribution means something."""


def images_of(part: Part) -> Counter[str]:
    """Number of images that show each class."""
    return Counter(name for example in part.examples for name in shown_in(part, example))


def shown_in(part: Part, example: Example) -> set[str]:
    """The classes that an image shows, without background and void."""
    names = {item.label for item in example.items or () if not item.crowd}
    if part.kind != "identity":
        names |= set(example.labels)
    for plane, values in enumerate(_mask_values(example)):
        several = len(example.mask_files) > 1
        for value in values:
            name = part.values.get(value, "")
            names |= {
                part.classes[plane] if several and name and plane < len(part.classes) else name
            }
    return names - {""}


def _mask_values(example: Example) -> list[Mapping[int, int]]:
    masks = [mask.values for mask in example.masks]
    return masks + [mask.values for mask in example.volume_masks]


def _counts(study: Study) -> dict[str, Counter[str]]:
    """Images of each class by split, for data with classes whose split could be read."""
    parts = {name: part for name, part in study.parts.items() if part.examples and part.classes}
    return {name: images_of(part) for name, part in parts.items() if part.kind != "identity"}


def _foreground(part: Part) -> list[str]:
    """Class names without the background."""
    background = ("background", "bg", "_background_", "__background__")
    return [name for name in part.classes if name.casefold() not in background]


@check(Severity.NOTE)
def class_unused(study: Study) -> Iterator[Hit]:
    """A class that no image of any split shows."""
    counts = _counts(study)
    for name in _names(study, counts):
        if not any(of[name] for of in counts.values()):
            yield Hit("", "", name)


def _names(study: Study, counts: Mapping[str, Counter[str]]) -> list[str]:
    every = [name for split in counts for name in _foreground(study.parts[split])]
    return list(dict.fromkeys(every))


@check(Severity.WARNING)
def class_not_in_train(study: Study) -> Iterator[Hit]:
    """A class that is in val or test but not in train."""
    counts = _counts(study)
    train = counts.pop("train", None)
    for split, of in counts.items():
        for name in _names(study, counts):
            if train is not None and of[name] and not train[name]:
                yield of_part(study.parts[split], f"{name}: {of[name]} images, none in train")


@check(Severity.NOTE)
def class_not_evaluated(study: Study) -> Iterator[Hit]:
    """A class that is in train but not in val or test: it is not evaluated."""
    counts = _counts(study)
    train = counts.pop("train", None)
    for split, of in counts.items():
        for name in _names(study, counts):
            if train is not None and train[name] and not of[name]:
                yield of_part(
                    study.parts[split], f"{name}: {train[name]} images in train, none here"
                )


@check(Severity.NOTE)
def class_rare(study: Study) -> Iterator[Hit]:
    """A class with few training images."""
    counts = _counts(study)
    for name, count in counts.get("train", Counter()).items():
        if count < RARE < len(study.parts["train"].examples):
            yield of_part(study.parts["train"], f"{name}: {count} images")


@check(Severity.NOTE)
def classes_unbalanced(study: Study) -> Iterator[Hit]:
    """Classes of very different frequency."""
    train = _counts(study).get("train")
    if train and (ratio := max(train.values()) / min(train.values())) >= UNEVEN:
        most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
        message = f"{most} in {train[most]} images, {least} in {train[least]}"
        yield of_part(study.parts["train"], f"{message}: {ratio:.0f} to 1; see `sampling`")


@check(Severity.ERROR)
def classes_differ(study: Study) -> Iterator[Hit]:
    """Splits that name other classes, or number them differently."""
    parts = [part for part in study.parts.values() if part.classes and part.kind != "identity"]
    for part in parts[1:]:
        first = parts[0]
        if list(part.classes) != list(first.classes):
            odd = sorted(set(part.classes) ^ set(first.classes)) or "the order"
            yield of_part(part, f"differs from {first.name} in {str(odd)[:200]}")
        elif list(part.ids) != list(first.ids):
            yield of_part(
                part, f"category ids {list(part.ids)[:8]}, in {first.name} {list(first.ids)[:8]}"
            )


@check(Severity.WARNING)
def class_names_alike(study: Study) -> Iterator[Hit]:
    """Class names that differ in capital letters or blanks only."""
    for part in study.parts.values():
        alike: dict[str, list[str]] = {}
        for name in part.classes:
            key = tidy(name).casefold().replace("_", " ").replace("-", " ")
            alike.setdefault(key, []).append(name)
        for group in alike.values():
            if len(group) > 1 and part.kind != "identity":
                yield of_part(part, " and ".join(map(repr, group)))


@check(Severity.WARNING)
def class_name_untidy(study: Study) -> Iterator[Hit]:
    """A class name that is empty or has blanks at its ends."""
    for part in study.parts.values():
        for name in part.classes:
            if name != tidy(name) or not name:
                yield of_part(part, repr(name))


@check(Severity.NOTE)
def classes_shifted(study: Study) -> Iterator[Hit]:
    """Splits in which classes have very different shares."""
    counts = _counts(study)
    train = counts.pop("train", Counter())
    for split, of in counts.items():
        total, other = sum(train.values()), sum(of.values())
        if min(total, other) < ENOUGH:
            continue
        gaps = {name: of[name] / other - train[name] / total for name in {*train, *of}}
        distance = sum(map(abs, gaps.values())) / 2
        if distance >= SHIFT:
            name = max(gaps, key=lambda key: abs(gaps[key]))
            shares = f"{train[name] / total:.0%} in train, {of[name] / other:.0%} here"
            yield of_part(study.parts[split], f"{name}: {shares}")


CHECKS = (
    class_unused,
    class_not_in_train,
    class_not_evaluated,
    class_rare,
    classes_unbalanced,
    classes_differ,
    class_names_alike,
    class_name_untidy,
    classes_shifted,
)
