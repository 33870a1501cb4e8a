"""Ways out of a stored configuration, each with the key and the text of its refusal."""

from __future__ import annotations

from typing import Any

TRAP = "trap_of_test"
"""A package that leaves a file when it is imported."""
RESNET = "densekit.backbones.ResNet"
HEAD = "densekit.heads.UNet"
URL = "https://example.org/evil-0123abcd.pth"


def node(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, **arguments}


ESCAPES: dict[str, tuple[dict[str, Any], str, str]] = {
    # name: configuration, key, what is refused
    "foreign class": ({"heads": {"a": node(f"{TRAP}.Head")}}, "heads.a._target_", TRAP),
    "foreign function": ({"heads": {"a": node(f"{TRAP}.run")}}, "heads.a._target_", TRAP),
    "os.system": ({"inferer": node("os.system")}, "inferer._target_", "os.system"),
    "torch.hub.load": ({"heads": {"a": node("torch.hub.load")}}, "heads.a._target_", "torch.hub"),
    "hydra.utils": (
        {"inferer": node("hydra.utils.call", cfg={})},
        "inferer._target_",
        "hydra.utils.call",
    ),
    "hydra's get_method": (
        {"heads": {"a": node(HEAD, losses=node("hydra.utils.get_method", path="os.system"))}},
        "heads.a.losses._target_",
        "hydra.utils.get_method",
    ),
    "predictor with trust": (
        {"inferer": node("densekit.Predictor", model_or_checkpoint="x", trust=[TRAP])},
        "inferer._target_",
        "densekit.Predictor",
    ),
    "predictor by another name": (
        {"inferer": node("densekit.inference.predictor.Predictor", model_or_checkpoint="x")},
        "inferer._target_",
        "predictor.Predictor",
    ),
    "predictor inside": (
        {
            "inferer": node(
                "densekit.inference.TestTimeAugmentation",
                inferer=node("densekit.inference.Predictor", model_or_checkpoint="x"),
            )
        },
        "inferer.inferer._target_",
        "Predictor",
    ),
    "predictor beside": (
        {
            "inferer": node(
                "densekit.inference.WholeImage", more=[[{"x": node("densekit.Predictor")}]]
            )
        },
        "inferer.more[0][0].x._target_",
        "densekit.Predictor",
    ),
    "model in a head": (
        {"heads": {"a": node("densekit.DenseModel")}},
        "heads.a._target_",
        "densekit.DenseModel",
    ),
    "backbone in a head": (
        {"heads": {"a": node(HEAD, losses={"x": node(RESNET, weights=URL)})}},
        "heads.a.losses.x._target_",
        RESNET,
    ),
    "data in a head": (
        {"heads": {"a": node("densekit.data.ImageFolder", root="/")}},
        "heads.a._target_",
        "densekit.data.ImageFolder",
    ),
    "data in a metric": (
        {"metrics": {"a": {"b": node("densekit.data.ImageFolder", root="/")}}},
        "metrics.a.b._target_",
        "ImageFolder",
    ),
    "callback as a loss": (
        {"heads": {"a": node(HEAD, losses={"x": node("densekit.training.MetricsFile", path="x")})}},
        "heads.a.losses.x._target_",
        "MetricsFile",
    ),
    "logger as an inferer": (
        {"inferer": node("lightning.pytorch.loggers.CSVLogger", save_dir="/x")},
        "inferer._target_",
        "CSVLogger",
    ),
    "optimiser as a head": (
        {"heads": {"a": node("torch.optim.SGD")}},
        "heads.a._target_",
        "torch.optim.SGD",
    ),
    "function of densekit": (
        {"backbone": node("densekit.backbones.resnet18", weights=URL)},
        "backbone._target_",
        "expected a class, the only thing",
    ),
    "method": (
        {"heads": {"a": node(f"{HEAD}.load_state_dict")}},
        "heads.a._target_",
        "expected a class, the only thing",
    ),
    "class method": (
        {"heads": {"a": node("densekit.heads.SmpHead.passed_on")}},
        "heads.a._target_",
        "expected a class, the only thing",
    ),
    "re-exported module": (
        {"heads": {"a": node("densekit.heads.segmentation.unet.nn.Sequential")}},
        "heads.a._target_",
        "nn.Sequential",
    ),
    "hydra through build": (
        {"heads": {"a": node("densekit.build.importlib.import_module", name=TRAP)}},
        "heads.a._target_",
        "densekit.build",
    ),
    "os through a module": (
        {"inferer": node("densekit.app.run.launch.os.system")},
        "inferer._target_",
        "densekit.app",
    ),
    "class of pathlib": (
        {"inferer": node("densekit.inference.predictor.Path")},
        "inferer._target_",
        "Path",
    ),
    "the program itself": (
        {"heads": {"a": node("densekit.heads.__main__.X")}},
        "heads.a._target_",
        "__main__",
    ),
    "private builtins": (
        {"heads": {"a": node("densekit.heads.__builtins__.eval")}},
        "heads.a._target_",
        "eval",
    ),
    "target that is no text": (
        {"heads": {"a": {"_target_": [f"{TRAP}.run"]}}},
        "heads.a._target_",
        TRAP,
    ),
    "by position": ({"backbone": node(RESNET, _args_=[18, URL])}, "backbone._args_", "by name"),
    "as hydra's object": (
        {"heads": {"a": node(HEAD, _convert_="object")}},
        "heads.a._convert_",
        "object",
    ),
    "recursion by text": (
        {"heads": {"a": node(HEAD, _recursive_="false")}},
        "heads.a._recursive_",
        "false",
    ),
    "environment": ({"backbone": node(RESNET, stem="${oc.env:HOME}")}, "backbone.stem", "oc.env"),
    "resolver in a list": (
        {"heads": {"a": node(HEAD, levels=["${oc.decode:x}"])}},
        "heads.a.levels[0]",
        "oc.decode",
    ),
    "timm from the hub": (
        {"backbone": node("densekit.backbones.TimmBackbone", name="hf-hub:evil/net")},
        "backbone.name",
        "hf-hub:evil/net",
    ),
    "timm from a folder": (
        {"backbone": node("densekit.backbones.TimmBackbone", name="local-dir:/tmp/evil")},
        "backbone.name",
        "local-dir",
    ),
    "address in a head": ({"heads": {"a": node(HEAD, norm=URL)}}, "heads.a.norm", "example.org"),
    "path in a head": ({"heads": {"a": node(HEAD, norm="../../x.pt")}}, "heads.a.norm", "x.pt"),
    "path of home": ({"neck": node("densekit.necks.FPN", norm="~/x")}, "neck.norm", "~/x"),
    "callback elsewhere": (
        {"callbacks": {"a": node("densekit.training.MetricsFile", path="/etc/bashrc")}},
        "callbacks.a.path",
        "/etc/bashrc",
    ),
    "callback in the working folder": (
        {"callbacks": {"a": node("densekit.training.MetricsFile", path="setup.py")}},
        "callbacks.a.path",
        "setup.py",
    ),
    "callback above the run": (
        {"callbacks": {"a": node("densekit.training.Checkpoint", folder="/run/../x")}},
        "callbacks.a.folder",
        "/run/../x",
    ),
    "callback beside the run": (
        {"callbacks": {"a": node("densekit.training.Curves", path="/runaway/x.png")}},
        "callbacks.a.path",
        "/runaway",
    ),
    "lightning's callback": (
        {"callbacks": {"a": node("lightning.pytorch.callbacks.ModelCheckpoint", dirpath="/x")}},
        "callbacks.a.dirpath",
        "/x",
    ),
    "logger's version": (
        {
            "logger": {
                "a": node("lightning.pytorch.loggers.CSVLogger", save_dir="/run", version="../x")
            }
        },
        "logger.a.version",
        "../x",
    ),
    "logger's server": (
        {"logger": {"a": node("lightning.pytorch.loggers.MLFlowLogger", tracking_uri="http://x")}},
        "logger.a.tracking_uri",
        "http://x",
    ),
    "logger's store": (
        {"logger": {"a": node("lightning.pytorch.loggers.MLFlowLogger", tracking_uri="file:x")}},
        "logger.a.tracking_uri",
        "file:x",
    ),
    "predictor as a callback": (
        {"callbacks": {"a": node("densekit.Predictor", model_or_checkpoint="x")}},
        "callbacks.a._target_",
        "densekit.Predictor",
    ),
    "trainer's argument": (
        {
            "trainer": node(
                "lightning.pytorch.Trainer", limit_val_batches=node("densekit.Predictor")
            )
        },
        "trainer.limit_val_batches._target_",
        "densekit.Predictor",
    ),
    "trainer's folder": (
        {"trainer": node("lightning.pytorch.Trainer", default_root_dir="x")},
        "trainer.default_root_dir",
        "'x'",
    ),
    "profiler's file": (
        {
            "trainer": node(
                "lightning.pytorch.Trainer",
                profiler=node("lightning.pytorch.profilers.AdvancedProfiler", dirpath="/x"),
            )
        },
        "trainer.profiler._target_",
        "AdvancedProfiler",
    ),
    "name of the run": ({"run_name": "../../etc"}, "run_name", "../../etc"),
    "data from the net": (
        {
            "data": {
                "a": node("densekit.data.Source", train=node("densekit.data.ImageFolder", root=URL))
            }
        },
        "data.a.train.root",
        "example.org",
    ),
    "another part": ({"model": node("densekit.heads.UNet")}, "model._target_", "UNet"),
}
