"""One run of `densekit predict`: reads files, predicts, and writes the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from densekit._malloc import kept_memory
from densekit._names import counted
from densekit.app.config.overrides import parse, trusted_packages
from densekit.app.errors import UsageError
from densekit.app.options.shared import claimed, device_name, output_folder
from densekit.app.prediction.calibration import calibration_of
from densekit.app.prediction.found import relative_paths
from densekit.app.prediction.huge import Tiler
from densekit.app.prediction.huge_volumes import Streamer
from densekit.app.prediction.image_ids import Listed, listed_images
from densekit.app.prediction.series import predict_series
from densekit.app.prediction.sources import find_cases, overlay_names, volume_names
from densekit.app.results.writer import Writer
from densekit.app.terminal import print_lines
from densekit.data.reading.progress import tracked

if TYPE_CHECKING:
    from densekit.inference import Predictor

INFERER = "inferer"
"""The key of the checkpoint's configuration that may be overridden."""


def predict(
    checkpoint: Path,
    options: Mapping[str, Any],
    of_inferer: Sequence[str],
    of_data: Sequence[str] = (),
) -> int:
    """Predicts on every file and prints what was written; returns 1 if one could not be read.

    Args:
        checkpoint: The model.
        options: Values of the options of `densekit predict`.
        of_inferer: Overrides of the checkpoint's inferer.
        of_data: Overrides of its training data, for the calibration of int8.

    Raises:
        UsageError: A value is wrong, or there is nothing to read.
    """
    device = device_name(options["device"])
    output = output_folder(options["output"])
    predictor = predictor_of(checkpoint, device, options, of_inferer, of_data)
    heads = described_heads({"heads": predictor.model.described}, checkpoint)
    cases, root = find_cases(options["source"], options["channels"], predictor.frames)
    files = [case[0] for case in cases]
    listed = listed_images(relative_paths(files, root), options["annotations"])
    volumes = predictor.frames.dims == 3
    names = volume_names(cases, root) if volumes else overlay_names(files, root)
    labels = options["format"]
    if labels is not None and predictor.frames.dims != 2:
        raise UsageError(f"format: expected a model of images for {labels}, got {checkpoint}")
    with claimed(output), kept_memory(device):
        writer = Writer(
            output,
            heads,
            predictor.thresholds,
            options["overlays"],
            options["embeddings"],
            labels,
        )
        try:
            if predictor.frames.dims == 1:
                broken = predict_series(predictor, files, names, writer)
            else:
                read = partial(read_case, predictor, options["series"])
                broken = _run(predictor, read, cases, listed, names, writer)
        finally:
            writer.close()  # also what was done before an interrupt
    print_lines(f"engine: {predictor.engine.name}, precision: {predictor.engine.precision}")
    print_lines(*(f"threshold of {name}: {one}" for name, one in predictor.thresholds.items()))
    print_lines(f"{counted(len(writer.images), 'image')}{_count(writer)}: {writer.output}")
    if broken:
        print_lines(f"{counted(len(broken), 'image')} could not be read:", *broken)
    return 1 if broken else 0


def described_heads(info: Mapping[str, Any], checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Returns `info["heads"]`; refuses heads without class names and original ids.

    Embedding heads have none and need none.
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


def predictor_of(
    checkpoint: Path,
    device: str,
    options: Mapping[str, Any],
    of_inferer: Sequence[str] = (),
    of_data: Sequence[str] = (),
) -> Predictor:
    """Builds the predictor that a command's options ask for.

    Args:
        checkpoint: The model.
        device: Of `device_name`.
        options: `precision`, `engine`, `calibration` and `trust`.
        of_inferer: Overrides of the checkpoint's inferer.
        of_data: Overrides of its training data, for the calibration of int8.

    Raises:
        UsageError: A value is wrong.
    """
    from densekit.inference import Predictor

    trust = trusted_packages(options["trust"])
    inferer = _inferer(checkpoint, of_inferer, trust) if of_inferer else None
    return Predictor(
        checkpoint,
        device,
        options["precision"],
        options["engine"],
        trust=trust,
        inferer=inferer,
        threshold=options["threshold"],
        calibration=calibration_of(checkpoint, options, of_data),
    )


def _inferer(checkpoint: Path, words: Sequence[str], trust: Sequence[str]) -> Any:
    """Builds the checkpoint's inferer with overrides, or another one."""
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


def _run(
    predictor: Predictor,
    read: Callable[[Sequence[Path], tuple[int, int] | None], Any],
    cases: Sequence[Sequence[Path]],
    listed: Sequence[Listed],
    names: Sequence[Path],
    writer: Writer,
) -> list[str]:
    """Predicts image by image; returns a message per unreadable image."""
    broken, tiler, streamer = [], Tiler(predictor), Streamer(predictor)
    for case, (image_id, size), name in tracked(
        list(zip(cases, listed, names, strict=True)), "predicting"
    ):
        try:
            if tiler.takes(case[0]):
                tiler.run(case[0], image_id, name, writer)
                continue
            if streamer.takes(case):
                streamer.run(case, image_id, name, writer)
                continue
            image = read(case, size)
            result = predictor([image])[0]
        # the file is broken, not an image for this model, or too large
        except (ValueError, TypeError, MemoryError) as error:
            named = str(case[0]) in str(error)
            broken.append(str(error) if named else f"{case[0]}: {error}")
            continue
        writer.add(image, image_id, case[0], name, result)
    return broken


def read_case(
    predictor: Predictor, series: str | None, case: Sequence[Path], size: tuple[int, int] | None
) -> Any:
    """Reads an image from one file, or a volume from one or more."""
    if predictor.frames.dims != 3:
        return predictor.read(case[0], size)
    from densekit.data.medical.volumes import read_channels

    return read_channels(case, series)


def _count(writer: Writer) -> str:
    if not writer.boxes.results:
        return ""
    return f", {counted(sum(map(len, writer.boxes.results.values())), 'object')}"
