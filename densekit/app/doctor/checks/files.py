"""Files: missing, broken, badly named, not used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from densekit.app.doctor.facts import Study
from densekit.app.doctor.findings import Check, Hit, Severity, check, of_example, recorded
from densekit.data.reading.files import IMAGE_SUFFIXES

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""Suffixes that fit a format; of other formats nothing is said."""
RESERVED = set('<>:"\\|?*')
"""Characters that Windows does not allow in names."""


def _of_kind(kind: str, name: str, about: str) -> Check:
    def run(study: Study) -> Iterator[Hit]:
        for part, example in study.each():
            if example.picture is not None and example.picture.kind == kind:
                yield of_example(part, example, example.picture.error)

    return Check(name, Severity.ERROR, about, run)


data_refused = recorded(
    "data-refused", Severity.ERROR, "densekit refuses to build the data set; training would stop"
)
missing_image = _of_kind("missing", "missing-image", "an image that does not exist")
empty_file = _of_kind("empty", "empty-file", "an image file of 0 bytes")
broken_image = _of_kind("broken", "broken-image", "an image that cannot be decoded")
truncated_image = _of_kind(
    "truncated", "truncated-image", "an image whose file ends early; decoders fill up the rest"
)


@check(Severity.WARNING)
def wrong_suffix(study: Study) -> Iterator[Hit]:
    """A suffix that is not that of the file's format."""
    for part, example in study.each():
        form = "" if example.read is None else example.read.format
        if form in SUFFIXES and example.file.suffix.lower() not in SUFFIXES[form]:
            yield of_example(part, example, f"a {form} file called {example.file.suffix}")


@check(Severity.WARNING)
def colliding_names(study: Study) -> Iterator[Hit]:
    """Names that differ in capital letters only: one file on Windows and macOS."""
    first: dict[str, Path] = {}
    for part, example in study.each():
        other = first.setdefault(str(example.file.absolute()).casefold(), example.file)
        if other.absolute() != example.file.absolute():
            yield of_example(part, example, f"and {other}")


@check(Severity.WARNING)
def ambiguous_name(study: Study) -> Iterator[Hit]:
    """Two images of one name with different suffixes."""
    first: dict[Path, Path] = {}
    for part, example in study.each():
        if example.file.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        other = first.setdefault(example.file.absolute().with_suffix(""), example.file)
        if other.absolute() != example.file.absolute():
            yield of_example(part, example, f"and {other.name}")


@check(Severity.NOTE)
def non_ascii_name(study: Study) -> Iterator[Hit]:
    """A name with other characters than ASCII, which archives may garble."""
    for part, example in study.each():
        if not example.file.name.isascii():
            yield of_example(part, example, repr(example.file.name))


@check(Severity.NOTE)
def unportable_name(study: Study) -> Iterator[Hit]:
    """A name that Windows does not allow, or that begins or ends with a space."""
    for part, example in study.each():
        name = example.file.name
        if RESERVED & set(name) or name != name.strip() or name.endswith("."):
            yield of_example(part, example, repr(name))


@check(Severity.NOTE)
def unused_image(study: Study) -> Iterator[Hit]:
    """An image in a folder of the data set that no split uses."""
    every = [example for _, example in study.each() if not example.files]
    used = {example.file.absolute() for example in every}
    used |= {mask.absolute() for example in every for mask in example.mask_files if mask}
    for folder in sorted({file.parent for file in used if file.is_file()}):
        for file in sorted(folder.iterdir()):
            hidden = file.name.startswith(".")
            if file.suffix.lower() in IMAGE_SUFFIXES and file not in used and not hidden:
                yield Hit("", str(file), "in no split")


@check(Severity.WARNING)
def several_frames(study: Study) -> Iterator[Hit]:
    """A file of several frames or pages, of which the first alone is read."""
    for part, example in study.each():
        if example.read is not None and example.read.frames > 1:
            yield of_example(part, example, f"{example.read.frames} frames")


CHECKS = (
    data_refused,
    missing_image,
    empty_file,
    broken_image,
    truncated_image,
    wrong_suffix,
    colliding_names,
    ambiguous_name,
    non_ascii_name,
    unportable_name,
    unused_image,
    several_frames,
)
