"""Further ways out of a stored configuration: odd names, odd values, odd places."""

from __future__ import annotations

import datetime
from typing import Any

from tests.unit.escapes import HEAD, RESNET, TRAP, URL, node

Escape = tuple[dict[str, Any], str, str]
DOTTED = "expected the dotted path of a class"
METRIC = "densekit.metrics.DiceScore"


def target(value: Any, found: str) -> Escape:
    """A class of a head."""
    return {"heads": {"a": {"_target_": value}}}, "heads.a._target_", found


def setting(value: Any, found: str, key: str = "x") -> Escape:
    """A setting of a head."""
    return {"heads": {"a": node(HEAD, **{key: value})}}, f"heads.a.{key}", found


def inner(value: Any, found: str, key: str = "x") -> Escape:
    """A class within a head."""
    cfg, where, _ = setting(value, "", key)
    return cfg, f"{where}._target_", found


def nested(levels: int) -> Any:
    cfg: Any = node("os.system")
    for _ in range(levels):
        cfg = {"a": cfg}
    return cfg


ODD: dict[str, Escape] = {
    "globals of a method": target(f"{HEAD}.__init__.__globals__", "expected a class"),
    "its class": target(f"{HEAD}.__class__", "expected a class"),
    "its bases": target(f"{HEAD}.__base__.__subclasses__", "expected a class"),
    "os within build": target("densekit.build.os.system", "build.os.system"),
    "importlib within build": target("densekit.build.importlib.util.LazyLoader", "densekit.build"),
    "torch within artifact": target("densekit.artifact.torch.load", "expected a class"),
    "a class of nn within losses": inner(node("densekit.losses.focal.nn.Linear"), "nn.Linear"),
    "a tensor within a head": inner(node("densekit.heads.segmentation.unet.Tensor"), "Tensor"),
    "text of another alphabet": target("d\u0435nsekit.heads.UNet", "got d\u0435nsekit"),
    "wide letters": target("\uff4fs.system", "got \uff4fs.system"),
    "blanks": target(f" {HEAD}", DOTTED),
    "NUL": target(f"{HEAD}\0", DOTTED),
    "a colon": target("densekit.heads:UNet", "expected"),
    "a path of a file": target("../evil.py", DOTTED),
    "list": target(["os.system"], DOTTED),
    "null": target(None, DOTTED),
    "number": target(5, DOTTED),
    "class of a class": target(node("os.system"), DOTTED),
    "interpolation": target("${x}", DOTTED),
    "bytes": target(b"os.system", DOTTED),
    "resolver that creates": setting("${oc.create:{_target_:os.system}}", "oc.create"),
    "resolver that selects": setting("${oc.select:paths.run}", "oc.select"),
    "resolver of Hydra": setting("${hydra:runtime.cwd}", "hydra:"),
    "resolver of densekit": setting("${data_info:num_classes}", "data_info"),
    "escaped resolver": setting("\\${oc.env:HOME}", "oc.env"),
    "resolver as a name": ({"heads": {"a": node(HEAD, **{"${x}": 1})}}, "heads.a", "plain names"),
    "set": setting({URL}, "expected a plain value, got set"),
    "bytes as a value": setting(URL.encode(), "expected a plain value, got bytes"),
    "date": setting(datetime.date(2020, 1, 1), "expected a plain value, got date"),
    "callable": setting(print, "expected a plain value, got builtin_function_or_method"),
    "tuple": ({"heads": {"a": node(HEAD, x=(node("os.system"),))}}, "heads.a.x[0]", "os.system"),
    "a name that is a number": (
        {"heads": {"a": {5: node("os.system"), **node(HEAD)}}},
        "heads.a.5._target_",
        "os.system",
    ),
    "a class that is not built": inner(node("os.system", _partial_=True), "os.system"),
    "a class that stays a dict": (
        {"heads": {"a": node(HEAD, _recursive_=False, x=node("os.system"))}},
        "heads.a.x._target_",
        "os.system",
    ),
    "converted in part": setting("partial", "expected 'all'", "_convert_"),
    "partial by text": setting("yes", "expected true or false", "_partial_"),
    "no positions": setting([], "expected no such key", "_args_"),
    "inferer of a metric": (
        {"metrics": {"a": {"b": node("densekit.inference.WholeImage")}}},
        "metrics.a.b._target_",
        "WholeImage",
    ),
    "metric of an inferer": (
        {"inferer": node("densekit.inference.CleanUp", inferer=node(METRIC))},
        "inferer.inferer._target_",
        METRIC,
    ),
    "tiles, which write": (
        {"inferer": node("densekit.inference.predict_tiles", source="/etc/passwd")},
        "inferer._target_",
        "expected a class",
    ),
    "an engine's cache": (
        {"inferer": node("densekit.inference.engines.cache.Cache", folder="/")},
        "inferer._target_",
        "cache.Cache",
    ),
    "metric with a path": (
        {"metrics": {"a": {"b": node(METRIC, path="/etc/passwd")}}},
        "metrics.a.b.path",
        "/etc/passwd",
    ),
    "metric with an address": (
        {"metrics": {"a": {"b": node(METRIC, more=[{"x": URL}])}}},
        "metrics.a.b.more[0].x",
        "example.org",
    ),
    "address without slashes": setting("file:/etc/passwd", "file:"),
    "share of a network": setting("\\\\host\\share", "host"),
    "drive": setting("C:\\x", "C:"),
    "home of another": setting("~root/x", "~root"),
    "path that climbs within": setting("a/../../x", "a/../../x"),
    "published backbone": (
        {"backbone": node(RESNET, stem="torchvision:resnet18")},
        "backbone.stem",
        "torchvision:",
    ),
    "nested without end": ({"heads": nested(3000)}, "heads", "endless nesting"),
    "deep": ({"evil": nested(60)}, "_target_", "os.system"),
    "trap in a part of no role": ({"evil": [node(f"{TRAP}.Head")]}, "evil[0]._target_", TRAP),
    "trap in the optimiser": (
        {"optimizer": node("torch.optim.SGD", params=[node(f"{TRAP}.Head")])},
        "optimizer.params[0]._target_",
        TRAP,
    ),
    "file of a checkpoint callback": (
        {
            "callbacks": {
                "a": node("lightning.pytorch.callbacks.ModelCheckpoint", filename="../../x")
            }
        },
        "callbacks.a.filename",
        "../../x",
    ),
    "module of schedules": (
        {"schedule": node("densekit.training.schedules.logging.FileHandler", filename="x")},
        "schedule._target_",
        "expected",
    ),
}
