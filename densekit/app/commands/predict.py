"""`densekit predict`: runs a checkpoint on files and writes the results."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from densekit._names import counted
from densekit.app.config.overrides import parse, trusted_packages
from densekit.app.errors import UsageError
from densekit.app.options import (
    Command,
    Option,
    choice,
    flag,
    names,
    number,
    parse_command,
    text,
)
from densekit.app.prediction.found import below
from densekit.app.prediction.huge import Tiler
from densekit.app.prediction.image_ids import Listed, listed_images
from densekit.app.prediction.series import predict_series
from densekit.app.prediction.sources import (
    IMAGES,
    by_case,
    find_images,
    find_volumes,
    listed_volumes,
    overlay_names,
    volume_names,
)
from densekit.app.report import print_lines
from densekit.app.results.embeddings import FORMATS, check_installed
from densekit.app.results.writer import Writer
from densekit.app.shared_options import (
    CHECKPOINT,
    DEVICE,
    PRECISION,
    TRUST,
    checkpoint_file,
    device_name,
    existing,
    output_folder,
)

if TYPE_CHECKING:
    from densekit.inference import Predictor

INFERER = "inferer"
"""The key of the checkpoint's configuration that can be set."""
SEQUENCES = (".fasta", ".fa", ".fna", ".txt")
COMMAND = Command(
    name="predict",
    usage="checkpoint=PATH source=PATH output=DIR [key=value ...]",
    about="""
Runs a checkpoint on new images, volumes, series or sequences, the way it was validated, including
sliding window, test-time augmentation and clean-up. The output folder receives, depending on the
heads of the model:

  boxes               results.json: COCO results with the category ids of the data set
  masks               masks/NAME.png with the values of the data set and a palette of class colours;
                      of volumes masks/NAME.nii.gz with the affine and header of the source;
                      of series masks/NAME.csv with one row per position
  classes             categories.csv: the most probable classes of each image
  embeddings          embeddings.npz: path (N,) and embedding (N, E), of length 1

and in every case images.json (the file of each id), classes.json (the class of each mask value) and
overlays/ for inspection. Images that cannot be read are listed at the end, and the exit code is 1;
the results of all others are kept.

Models of volumes read NIfTI, MetaImage and NRRD files and folders of DICOM files. The channels of a
case are CASE_0000.nii.gz, CASE_0001.nii.gz and so on, or the files of each patient's folder that
channels= names. A TIFF or .npy image of more than 67 million pixels is processed in tiles, which
bound the memory, and its mask is masks/NAME.tif.
""",
    examples=(
        "predict checkpoint=runs/NAME/TIMESTAMP source=photos output=out",
        "predict checkpoint=PATH source='photos/**/*.jpg' output=out threshold=0.7",
        "predict checkpoint=PATH source=val2017 output=out annotations=instances_val2017.json",
        "predict checkpoint=PATH source=patient_17/T1 output=out",
        "predict checkpoint=PATH source=patients.csv output=out    # columns image_0, image_1 ...",
        "predict checkpoint=PATH source=BraTS output=out channels=[flair,t1,t1ce,t2]",
        "predict checkpoint=PATH source=scans output=out inferer.overlap=0.75",
    ),
    options=(
        CHECKPOINT,
        Option(
            "source",
            text("PATH", "a folder, a file or a pattern"),
            None,
            "a folder (searched recursively), a file, or a pattern such as 'in/**/*.jpg'",
            required=True,
        ),
        Option("output", text("DIR", "a folder"), None, "folder for the results", required=True),
        Option(
            "threshold",
            number(at_least=0),
            0.5,
            "lowest score of the boxes that are drawn; results.json contains all boxes",
        ),
        Option(
            "annotations",
            text("FILE"),
            None,
            "COCO JSON to take image ids from, so that densekit eval results= can match them",
        ),
        Option(
            "channels",
            names(),
            (),
            "names of the channels: files in each patient's folder, or columns of a table",
        ),
        Option(
            "series",
            text("NAME"),
            None,
            "UID or description of the series to read from DICOM folders; * and ? are wildcards",
        ),
        Option("overlays", flag(), True, "whether to write overlays"),
        Option(
            "embeddings",
            choice(*FORMATS),
            "npz",
            "file format of embeddings; parquet needs densekit[faces]",
        ),
        DEVICE,
        PRECISION,
        TRUST,
    ),
    settings=(
        (
            f"{INFERER}.KEY=VALUE",
            "an argument of the checkpoint's inferer; or another inferer,"
            " inferer={_target_:densekit.inference.SlidingWindow,window:[256,256]}",
        ),
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if an image could not be read."""
    of_inferer = [word for word in arguments if _root(word) == INFERER]
    options, _ = parse_command(COMMAND, [word for word in arguments if word not in of_inferer])
    checkpoint = checkpoint_file(options["checkpoint"])
    _check_given(options)
    device = device_name(options["device"])
    output = output_folder(options["output"])
    predictor = _predictor(checkpoint, device, options, of_inferer)
    heads = described_heads(predictor.model.info, checkpoint)
    cases, root = _find(options["source"], options["channels"], predictor)
    files = [case[0] for case in cases]
    listed = listed_images(below(files, root), options["annotations"])
    volumes = predictor.frames.dims == 3
    names = volume_names(cases, root) if volumes else overlay_names(files, root)
    writer = Writer(output, heads, options["threshold"], options["overlays"], options["embeddings"])
    try:
        if predictor.frames.dims == 1:
            broken = predict_series(predictor, files, names, writer)
        else:
            read = partial(_read, predictor, options["series"])
            broken = _run(predictor, read, cases, listed, names, writer)
    finally:
        writer.close()  # also what was done before an interrupt
    print_lines(f"precision: {predictor.precision or '32-true'}")
    print_lines(f"{counted(len(writer.images), 'image')}{_count(writer)}: {writer.output}")
    if broken:
        print_lines(f"{counted(len(broken), 'image')} could not be read:", *broken)
    return 1 if broken else 0


def _check_given(options: Mapping[str, Any]) -> None:
    """Refuses values that are wrong whatever the model is: importing torch takes seconds."""
    check_installed(options["embeddings"])
    if not glob.has_magic(options["source"]):
        existing("source", options["source"])
    if options["annotations"] is not None:
        existing("annotations", options["annotations"])


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
            f"{checkpoint}: expected heads.{silent[0] if silent else 'NAME'} with ids and names of"
            " its classes in info, got a checkpoint without"
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
    apply_values(cfg, parse(words), trust)
    chosen: Any = OmegaConf.to_container(cfg[INFERER], resolve=True)
    return instantiate(chosen, INFERER)


def _find(
    source: str, images: Sequence[str], predictor: Predictor
) -> tuple[list[list[Path]], Path]:
    """The files of each image, and the folder that their names are relative to."""
    if predictor.frames.dims != 3:
        from densekit.data.classification.series import SUFFIXES as SERIES

        suffixes = SEQUENCES if predictor.frames.letters else SERIES
        files, root = find_images(source, IMAGES if predictor.frames.dims == 2 else suffixes)
        return [[file] for file in files], root
    if images or source.lower().endswith(".csv"):
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
