"""Annotation files: records that cannot be taken, images without annotation, ids."""

from __future__ import annotations

from collections.abc import Iterator

from densekit.app.doctor.facts import Study
from densekit.app.doctor.findings import Hit, Severity, check, of_example, of_part, recorded

SHIFTED = 0.02
"""Smallest share of rejected objects at which their class numbers count as shifted."""

malformed_annotation_file = recorded(
    "malformed-annotation-file", Severity.ERROR, "an annotation file that cannot be parsed"
)
malformed_record = recorded(
    "malformed-record", Severity.ERROR, "a record of an annotation file without what it needs"
)
annotation_without_image = recorded(
    "annotation-without-image", Severity.ERROR, "annotations of an image that is not there"
)
duplicate_image_id = recorded(
    "duplicate-image-id", Severity.ERROR, "an image id that an annotation file holds twice"
)
duplicate_annotation_id = recorded(
    "duplicate-annotation-id", Severity.ERROR, "an annotation id that a file holds twice"
)
duplicate_category = recorded(
    "duplicate-category", Severity.ERROR, "a category whose id or name is there twice"
)
unknown_category = recorded(
    "unknown-category", Severity.ERROR, "an object of a class that the file does not declare"
)


@check(Severity.WARNING)
def image_without_annotation(study: Study) -> Iterator[Hit]:
    """An image without an annotation file, in data that have one per image."""
    for part, example in study.each():
        if part.stored in ("voc", "yolo") and example.annotation is None:
            yield of_example(part, example, "no annotation file; it counts as empty")


@check(Severity.NOTE)
def no_objects(study: Study) -> Iterator[Hit]:
    """An image without objects."""
    for part, example in study.each():
        if example.items == ():
            yield of_example(part, example, "no objects")


@check(Severity.ERROR)
def size_mismatch(study: Study) -> Iterator[Hit]:
    """An annotated size that is not the size of the image."""
    for part, example in study.each():
        if example.size is None or example.read is None:
            continue
        sizes = {(example.read.height, example.read.width)}
        if example.read.orientation > 4:  # the stored image is accepted too
            sizes.add((example.read.width, example.read.height))
        if example.size not in sizes:
            found = f"{example.read.width} x {example.read.height}"
            wanted = f"{example.size[1]} x {example.size[0]}"
            yield of_example(part, example, f"annotated as {wanted}, is {found}")


@check(Severity.WARNING)
def annotated_lying(study: Study) -> Iterator[Hit]:
    """An image annotated as it is stored, not as its EXIF orientation shows it."""
    for part, example in study.each():
        if example.size is None or example.read is None or example.read.orientation <= 4:
            continue
        if example.size == (example.read.width, example.read.height) != example.size[::-1]:
            yield of_example(part, example, "the annotated size is that of the stored image")


@check(Severity.NOTE)
def category_id_gaps(study: Study) -> Iterator[Hit]:
    """Gaps in the category ids, which are no labels then."""
    for part in study.parts.values():
        ids = sorted(part.ids)
        missing = sorted(set(range(ids[0], ids[-1] + 1)) - set(ids)) if ids else []
        if part.stored == "coco" and missing:
            first = ", ".join(map(str, missing[:8]))
            yield of_part(part, f"{len(ids)} ids from {ids[0]} to {ids[-1]} without {first}")


@check(Severity.ERROR)
def ids_off_by_one(study: Study) -> Iterator[Hit]:
    """Class numbers that are one too large or too small throughout."""
    for part in study.parts.values():
        bad = sum(defect.check == "unknown-category" for defect in part.defects)
        labels = {item.label for example in part.examples for item in example.items or ()}
        total = bad + sum(len(example.items or ()) for example in part.examples)
        if not part.classes or bad < max(1, SHIFTED * total):
            continue
        for label, way in ((part.classes[0], "large"), (part.classes[-1], "small")):
            if label not in labels:
                message = f"{bad} of {total} objects of an unknown class, none of {label!r}"
                yield of_part(part, f"{message}: are the numbers one too {way}?")
                break


@check(Severity.NOTE)
def crowd(study: Study) -> Iterator[Hit]:
    """A crowd: a region of many objects that the loss ignores."""
    for part, example, item in study.objects():
        if item.crowd:
            yield of_example(part, example, f"{item.where} ({item.label})")


@check(Severity.NOTE)
def only_ignored_objects(study: Study) -> Iterator[Hit]:
    """An image all of whose objects are difficult or crowds: no box is learned."""
    for part, example in study.each():
        items = example.items or ()
        if items and all(item.crowd or item.difficult for item in items):
            yield of_example(part, example, f"{len(items)} objects, all ignored")


@check(Severity.WARNING)
def broken_outline(study: Study) -> Iterator[Hit]:
    """An outline that cannot be drawn: too few points, odd numbers, broken RLE."""
    for part, example, item in study.objects():
        if item.fault:
            yield of_example(part, example, f"{item.where}: {item.fault}")


CHECKS = (
    malformed_annotation_file,
    malformed_record,
    annotation_without_image,
    image_without_annotation,
    no_objects,
    size_mismatch,
    annotated_lying,
    duplicate_image_id,
    duplicate_annotation_id,
    duplicate_category,
    unknown_category,
    category_id_gaps,
    ids_off_by_one,
    crowd,
    only_ignored_objects,
    broken_outline,
)
