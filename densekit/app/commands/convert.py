"""`densekit convert`: another library's weights as a checkpoint, and checkpoints in other forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densekit.app.errors import UsageError
from densekit.app.options.table import Command, Option, names, parse_command, text
from densekit.app.terminal import print_lines

SUFFIXES = (".ckpt", ".safetensors")
HUB = "hub:"
COMMAND = Command(
    name="convert",
    usage="source=SOURCE output=FILE [names=FILE] [leave=[MODULE]]",
    about="""
Converts a model of another library, published or your own: torchvision, detectron2, mmdetection,
mmsegmentation, timm, smp, insightface, and ResNets of self-supervised pre-trainings. The result
predicts what the original does and is used like a checkpoint of a run. Prints which tensors were
mapped and left out; refuses a source of which a weight has no place. Nothing of a file is run: it
must hold tensors, not pickled modules.

A run folder or a checkpoint of densekit as source is written in another form: without the
optimiser's state, as safetensors, or to the Hugging Face hub with a model card.
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
        "convert source=runs/NAME/TIMESTAMP output=model.safetensors",
        "convert source=runs/NAME/TIMESTAMP output=hub:OWNER/REPO",
    ),
    options=(
        Option(
            "source",
            text("SOURCE", "a file, a folder, torchvision:NAME or timm:NAME"),
            None,
            "a file of tensors, a folder of smp, a published model (torchvision:NAME, timm:NAME),"
            " a run folder or a checkpoint",
            required=True,
        ),
        Option(
            "output",
            text("FILE"),
            None,
            "the file to write, .ckpt or .safetensors, or hub:OWNER/REPO",
            required=True,
        ),
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
            "modules of a file to leave out: of a Keypoint R-CNN of detectron2, which densekit does"
            " not have, [roi_heads.keypoint_head]",
        ),
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, _ = parse_command(COMMAND, arguments)
    output = str(options["output"])
    if not output.startswith(HUB) and Path(output).suffix not in SUFFIXES:
        raise UsageError(
            f"output: expected a file that ends in {' or '.join(SUFFIXES)}, or {HUB}OWNER/REPO, got"
            f" {output}"
        )
    listed = listed_names(options["names"])
    from densekit.app.run.converting import convert_source, write

    artifact = convert_source(options["source"], listed, options["leave"])
    print_lines(*artifact.report, *write(artifact, output))
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
