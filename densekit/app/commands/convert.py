"""`densekit convert`: turns another library's weights into a checkpoint of densekit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.errors import UsageError
from densekit.app.options.table import Command, Option, names, parse_command, text
from densekit.app.report import print_lines, quoted

if TYPE_CHECKING:
    from densekit.interop import Conversion

SUFFIXES = (".ckpt",)
COMMAND = Command(
    name="convert",
    usage="source=SOURCE output=FILE.ckpt [names=FILE]",
    about="""
Converts a model of another library, published or your own: torchvision, detectron2, mmdetection,
mmsegmentation, timm, smp, insightface, and ResNets of self-supervised pre-trainings. The result
predicts what the original does and is used like a checkpoint of a run. Prints which tensors were
mapped and left out; refuses a source of which a weight has no place. Nothing of a file is run: it
must hold tensors, not pickled modules.
""",
    examples=(
        "convert source=torchvision:fasterrcnn_resnet50_fpn_v2 output=detector.ckpt",
        "convert source=torchvision:resnet50.IMAGENET1K_V1 output=resnet50.ckpt",
        "convert source=timm:resnet50.a1_in1k output=resnet50.ckpt",
        "convert source=fasterrcnn.pth output=detector.ckpt names=classes.txt",
        "convert source=FOLDER output=unet.ckpt    # of smp's model.save_pretrained(FOLDER)",
        "convert source=model_final_280758.pkl output=detector.ckpt    # of detectron2's model zoo",
        "convert source=pspnet_r50-d8_512x1024_40k_cityscapes.pth output=pspnet.ckpt",
        "convert source=moco_v2_800ep_pretrain.pth.tar output=moco.ckpt",
    ),
    options=(
        Option(
            "source",
            text("SOURCE", "a file, a folder, torchvision:NAME or timm:NAME"),
            None,
            "a file of tensors, a folder of smp, or a published model: torchvision:NAME, timm:NAME",
            required=True,
        ),
        Option("output", text("FILE.ckpt"), None, "the checkpoint to write", required=True),
        Option(
            "names",
            names(),
            (),
            "names of the classes, or a text file with one per line (default: those of the source,"
            " or class_0 and so on)",
        ),
        Option(
            "leave",
            names("MODULE"),
            (),
            "modules of a file to leave out, which densekit does not have: of a Mask R-CNN of"
            " torchvision, [roi_heads.mask_head,roi_heads.mask_predictor]",
        ),
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, _ = parse_command(COMMAND, arguments)
    file = Path(options["output"]).expanduser()
    if file.suffix not in SUFFIXES:
        raise UsageError(f"output: expected a file that ends in {SUFFIXES[0]}, got {file}")
    listed = listed_names(options["names"])
    from densekit.interop import convert

    found = convert(options["source"], listed, options["leave"])
    found.save(file)
    print_lines(*report(found), *_next_commands(found, file))
    return 0


def listed_names(given: Sequence[str]) -> list[str] | None:
    """Names of classes, of one file the lines; None if there are none.

    Raises:
        UsageError: The file holds no names.
    """
    file = Path(given[0]).expanduser() if len(given) == 1 else None
    if file is None or not file.is_file():
        return list(given) or None
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    if not (found := [line for line in lines if line]):
        raise UsageError(f"names: expected one name per line, got an empty file {file}")
    return found


def report(found: Conversion) -> list[str]:
    """What was converted, mapped, left out and assumed, one line each."""
    lines = [f"source:  {found.source}", f"mapped:  {len(found.mapped)} tensors"]
    for reason, count in Counter(found.left.values()).items():
        one = next(name for name, why in found.left.items() if why == reason)
        lines.append(f"left:    {_counted(count, one)}: {reason}")
    lines += [f"assumed: {text}" for text in found.assumed]
    lines += [f"head:    {name}, {_classes(info)}" for name, info in _heads(found).items()]
    return lines


def _counted(count: int, name: str) -> str:
    return f"{name} and {count - 1} more" if count > 1 else name


def _heads(found: Conversion) -> Mapping[str, Mapping[str, Any]]:
    known: Mapping[str, Mapping[str, Any]] = found.model.info.get("heads", {})
    return known


def _classes(info: Mapping[str, Any]) -> str:
    names = info.get("names", ())
    if not names:
        return "without classes"
    shown = ", ".join(names[:4])
    return f"{len(names)} classes ({shown}{', ...' if len(names) > 4 else ''})"


def _next_commands(found: Conversion, file: Path) -> list[str]:
    word = quoted(f"checkpoint={file}")
    if not _heads(found):
        return [
            f"written: {file}, a backbone without a head",
            f"train:   densekit train {word} ...",
        ]
    return [
        f"written: {file}",
        f"predict: densekit predict {word} source=FOLDER output=DIR",
        f"train:   densekit train {word} data=NAME ...",
    ]
