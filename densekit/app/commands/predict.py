"""`densekit predict`: images in; boxes, masks, classes or embeddings, and overlays out."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from densekit._names import counted, readable
from densekit.app.errors import UsageError
from densekit.app.options import (
    checkpoint_file,
    device_name,
    existing,
    number,
    output_folder,
    refuse_rest,
    split_options,
    trusted_packages,
)
from densekit.app.prediction.found import below, files_of, fixed_part
from densekit.app.prediction.huge import Tiler
from densekit.app.prediction.series import predict_series
from densekit.app.prediction.sources import (
    by_case,
    distinct,
    find_volumes,
    listed_volumes,
    volume_names,
)
from densekit.app.report import print_lines
from densekit.app.results.embeddings import kind_of_file
from densekit.app.results.writer import Writer
from densekit.data.reading.files import IMAGE_SUFFIXES, files_below, same_name

if TYPE_CHECKING:
    from densekit.inference import Predictor

OPTIONS: dict[str, Any] = {
    "checkpoint": None,
    "source": None,
    "output": None,
    "threshold": 0.5,
    "annotations": None,
    "channels": [],
    "series": None,
    "overlays": True,
    "embeddings": "npz",
    "device": "auto",
    "precision": None,
    "trust": [],
}
INFERER = "inferer"
"""The key of the checkpoint's configuration that can be set."""
SUFFIXES = frozenset([*IMAGE_SUFFIXES, ".npy", ".svs"])
SEQUENCES = (".fasta", ".fa", ".fna", ".txt")


def main(arguments: Sequence[str]) -> int:
    """Runs the command; 1 if an image was broken, 0 if none was."""
    options, rest = split_options(arguments, OPTIONS)
    of_inferer = [word for word in rest if _root(word) == INFERER]
    refuse_rest("predict", [word for word in rest if word not in of_inferer], [*OPTIONS, INFERER])
    checkpoint = checkpoint_file("predict", options["checkpoint"])
    threshold = number("predict", "threshold", options["threshold"], at_least=0)
    embeddings = kind_of_file(options["embeddings"])
    _check_given(options)
    device = device_name("predict", options["device"])
    output = output_folder("predict", options["output"])
    predictor = _predictor(checkpoint, device, options, of_inferer)
    heads = described_heads(predictor.model.info, checkpoint)
    cases, root = _find(options["source"], _names(options["channels"]), predictor)
    files = [case[0] for case in cases]
    listed = listed_images(below(files, root), options["annotations"])
    volumes = predictor.frames.dims == 3
    names = volume_names(cases, root) if volumes else overlay_names(files, root)
    writer = Writer(output, heads, threshold, bool(options["overlays"]), embeddings)
    try:
        if predictor.frames.dims == 1:
            broken = predict_series(predictor, files, names, writer)
        else:
            read = partial(_read, predictor, next(iter(_names(options["series"])), None))
            broken = _run(predictor, read, cases, listed, names, writer)
    finally:
        writer.close()  # also what was done before an interrupt
    print_lines(f"precision: {predictor.precision or '32-true'}")
    print_lines(f"{counted(len(writer.images), 'image')}{_count(writer)}: {writer.output}")
    if broken:
        print_lines(f"{counted(len(broken), 'image')} could not be read:", *broken)
    return 1 if broken else 0


def _check_given(options: Mapping[str, Any]) -> None:
    """Refuses words that need no model to be wrong: importing torch takes seconds."""
    for key, what in (("source", "FOLDER, FILE or GLOB"), ("output", "DIR")):
        if not options[key]:
            raise UsageError(f"densekit predict: {key}={what} is missing")
    if not glob.has_magic(str(options["source"])):
        existing("predict", "source", options["source"])
    if options["annotations"] is not None:
        existing("predict", "annotations", options["annotations"])


def find_images(
    source: str | None, suffixes: Collection[str] = SUFFIXES
) -> tuple[list[Path], Path]:
    """The images of a folder (with its sub-folders), a file or a pattern, and their root.

    Args:
        source: See above.
        suffixes: Of the files that a folder is searched for.

    Raises:
        UsageError: There are none.
    """
    if not source:
        raise UsageError("densekit predict: source=FOLDER, FILE or GLOB is missing")
    path = Path(source).expanduser()
    if path.is_file():
        return [path], path.parent
    if path.is_dir():
        found = sorted(path / name for name in files_below(path, tuple(suffixes)))
        root = path
    else:
        found = [file for file in files_of(path) if file.is_file()]
        root = fixed_part(path)
    if not found:
        raise UsageError(f"densekit predict: source={source}: no image there")
    return found, root


class Listed(NamedTuple):
    """What is known of an image before it is opened.

    Attributes:
        id: Its COCO id.
        size: Height and width that it is annotated with, None where nobody says; they decide
            whether EXIF turns it, as in training and evaluation.
    """

    id: int
    size: tuple[int, int] | None = None


def listed_images(files: Sequence[Path], annotations: str | None) -> list[Listed]:
    """COCO image ids: those of an annotation file, else numbers in the names, else 1, 2, 3.

    Args:
        files: Images, relative to the folder they were looked for in.
        annotations: COCO JSON whose `file_name`s are those of the images: the same path, else the
            same name in another folder.

    Raises:
        UsageError: The file is no COCO JSON, an image is not in it, or it is unclear which one is.
    """
    if annotations is None:
        stems = [file.stem for file in files]
        numbered = all(stem.isdecimal() for stem in stems)
        ids = [int(stem) for stem in stems] if numbered else []
        unique = ids and len(set(ids)) == len(ids)
        return [Listed(i) for i in (ids if unique else range(1, len(files) + 1))]
    by_path = _of_annotations(existing("predict", "annotations", annotations), annotations)
    named = [Path(same_name(str(file))) for file in files]
    return [by_path[path] for path in _matched(named, list(by_path), annotations)]


def _matched(files: Sequence[Path], listed: Sequence[Path], annotations: str) -> list[Path]:
    """The entry of each image: that of the same path, else the only one of the same name."""
    by_name: dict[str, list[Path]] = {}
    for path in listed:
        by_name.setdefault(path.name, []).append(path)
    known = set(listed)
    found = {file: [file] if file in known else by_name.get(file.name, []) for file in files}
    unknown = [file for file, paths in found.items() if not paths]
    if unknown:
        raise UsageError(
            f"annotations={annotations}: {len(unknown)} of {len(files)} images are not among its "
            f"file names, the first is {unknown[0]}"
        )
    taken: dict[Path, Path] = {}
    for file, paths in found.items():
        other = taken.setdefault(paths[0], file)
        if len(paths) > 1 or other != file:
            rivals = paths if len(paths) > 1 else [other, file]
            raise UsageError(
                f"annotations={annotations}: which image is {file}? {rivals[0]} and {rivals[1]} "
                "have the same name; choose source= so that paths are equal to its file names"
            )
    return [found[file][0] for file in files]


def _of_annotations(file: Path, annotations: str) -> dict[Path, Listed]:
    """File name to id and size of the images of a COCO file."""
    try:
        content = json.loads(file.read_bytes())
        return {Path(same_name(image["file_name"])): _listed(image) for image in content["images"]}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UsageError(
            f"annotations={annotations}: no COCO JSON with images of file_name and id: {error!r}"
        ) from error


def _listed(image: Mapping[str, Any]) -> Listed:
    number = image["id"]
    if isinstance(number, float) and (not number.is_integer() or abs(number) > 2**53):
        raise ValueError(f"id: expected a whole number, got {number!r}")
    height, width = image.get("height"), image.get("width")
    return Listed(int(number), (int(height), int(width)) if height and width else None)


def described_heads(info: Mapping[str, Any], checkpoint: Path) -> dict[str, dict[str, Any]]:
    """What the model knows of each head, class names and original ids among it.

    A head of embeddings has none and needs none.
    """
    heads = info.get("heads", {})
    silent = [
        name
        for name, head in heads.items()
        if not {"ids", "names"} <= head.keys() and "num_identities" not in head
    ]
    if not heads or silent:
        raise UsageError(
            f"checkpoint={checkpoint}: its info does not name the classes: heads."
            f"{silent[0] if silent else 'NAME'} with ids and names is needed for results"
        )
    return dict(heads)


def _predictor(
    checkpoint: Path, device: str, options: Mapping[str, Any], of_inferer: Sequence[str]
) -> Predictor:
    from densekit.inference import Predictor

    trust = trusted_packages(options["trust"])
    inferer = _inferer(checkpoint, of_inferer, trust) if of_inferer else None
    precision = options["precision"]
    return Predictor(checkpoint, device, precision, trust=trust, inferer=inferer)


def _names(value: Any) -> list[str]:
    """One name or a list of them; YAML reads some as numbers."""
    given = value if isinstance(value, list) else [value]
    return [str(name) for name in given if name is not None]


def _root(word: str) -> str:
    """The first name of a key, `inferer` of `+inferer.window=[64,64]`."""
    return word.partition("=")[0].lstrip("+~").partition(".")[0]


def _inferer(checkpoint: Path, words: Sequence[str], trust: Sequence[str]) -> Any:
    """The checkpoint's inferer with some of its values set, or another one."""
    from omegaconf import OmegaConf

    from densekit.app.config.compose import apply_values
    from densekit.artifact import load_artifact
    from densekit.build import instantiate
    from densekit.trust import check_stored

    stored = yaml.safe_load(load_artifact(checkpoint)["config"]).get(INFERER)
    plain = {INFERER: stored or {"_target_": "densekit.inference.WholeImage"}}
    check_stored(plain, trust)
    cfg = OmegaConf.create(plain)
    OmegaConf.set_struct(cfg, True)
    apply_values(cfg, words, trust)
    chosen: Any = OmegaConf.to_container(cfg[INFERER], resolve=True)
    return instantiate(chosen, INFERER)


def _find(
    source: str | None, images: Sequence[str], predictor: Predictor
) -> tuple[list[list[Path]], Path]:
    """The files of each image, and the folder that their names are relative to."""
    if predictor.frames.dims != 3:
        from densekit.data.classification.series import SUFFIXES as SERIES

        suffixes = SEQUENCES if predictor.frames.letters else SERIES
        files, root = find_images(source, SUFFIXES if predictor.frames.dims == 2 else suffixes)
        return [[file] for file in files], root
    if source and (images or source.lower().endswith(".csv")):
        return listed_volumes(Path(source).expanduser(), images)
    files, root = find_volumes(source)
    return by_case(files, predictor.frames.channels), root


def _run(
    predictor: Predictor,
    read: Callable[[Sequence[Path], tuple[int, int] | None], Any],
    cases: Sequence[Sequence[Path]],
    listed: Sequence[Listed],
    names: Sequence[Path],
    writer: Writer,
) -> list[str]:
    """Predicts image by image; returns a message for each one that cannot be read."""
    from rich.progress import track

    broken, tiler = [], Tiler(predictor)
    for case, (image_id, size), name in track(
        list(zip(cases, listed, names, strict=True)), "predicting"
    ):
        try:
            if tiler.takes(case[0]):
                tiler.run(case[0], image_id, name, writer)
                continue
            image = read(case, size)
            result = predictor([image])[0]
        # the file is broken, no image for this model, or too large
        except (ValueError, TypeError, MemoryError) as error:
            named = str(case[0]) in str(error)
            broken.append(str(error) if named else f"{case[0]}: {error}")
            continue
        writer.add(image, image_id, case[0], name, result)
    return broken


def _read(
    predictor: Predictor, series: str | None, case: Sequence[Path], size: tuple[int, int] | None
) -> Any:
    """A picture of one file, or a volume of one or more."""
    if predictor.frames.dims != 3:
        return predictor.read(case[0], size)
    from densekit.data.medical.volumes import read_channels

    return read_channels(case, series)


def _count(writer: Writer) -> str:
    if not writer.boxes.results:
        return ""
    return f", {counted(sum(map(len, writer.boxes.results.values())), 'object')}"


def overlay_names(files: Sequence[Path], root: Path) -> list[Path]:
    """Where each picture goes: as in the source, `.jpg`; names that would collide keep theirs."""
    relative = [Path(readable(path)) for path in below(files, root)]
    short = [path.with_suffix(".jpg") for path in relative]
    return distinct(short, [path.with_name(path.name + ".jpg") for path in relative])
