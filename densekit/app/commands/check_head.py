"""`densekit check-head`: tests a head against every point of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from densekit._console import plain
from densekit.app.errors import UsageError
from densekit.app.options import Command
from densekit.app.report import print_whole
from densekit.app.shared_options import TRUST

if TYPE_CHECKING:
    from rich.text import Text

    from densekit.testing.contract import Outcome
    from densekit.testing.subject import Subject
    from densekit.types import Sample

COMMAND = Command(
    name="check-head",
    usage="head=NAME [data=NAME] [key=value ...]",
    about="""
Builds a small model with the head and tests every point of the contract: images with no object, one
and 500 objects, images in which everything is ignored, odd sizes, one and four channels, bfloat16,
compile, export, two processes and more. It prints a table and takes about half a minute. The exit
code is 1 if a point fails. From Python and in your tests: densekit.testing.check_head.

The images are synthetic, with boxes, masks, classes and identities. A head with targets of its own
is tested on the first images of a data set: data=NAME.
""",
    examples=(
        "check-head head=acme/polyp",
        "check-head head=unet heads.segmentation.depth=4",
        "check-head '~head' '+heads.mine._target_=my_head.MyHead' 'trust=[my_head]'",
        "check-head head=faster_rcnn data=bccd paths.data=FOLDER",
    ),
    settings=(
        ("head=NAME", "a file of the group head, listed below"),
        ("data=NAME", "a file of the group data, whose training images are used"),
        ("heads.NAME.KEY=VALUE", "an argument of the head"),
        TRUST.row,
    ),
    overrides=True,
    groups=lambda: ["head"],
)
CLASSES = 3
"""Number of classes of the synthetic images."""
SAMPLES = 4


@dataclass(frozen=True)
class MadeUp:
    """Stands for a data set where the images are made up.

    Attributes:
        heads: All there are.
        targets: Head name to "identity", of those that tell identities apart.
    """

    heads: Sequence[str]
    targets: Mapping[str, str]
    train = None

    def describe(self) -> dict[str, Any]:
        """What `${data_info:...}` is answered."""
        from densekit.testing.samples import synthetic_info

        return synthetic_info(CLASSES) | {
            "channels": 3,
            "background": True,
            "multilabel": False,
            "targets": {"identity": {"num_identities": CLASSES}},
        }


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code: 1 if a head breaks the contract."""
    subjects = _subjects(arguments)
    from rich.console import Console
    from rich.table import Table

    from densekit.testing.contract import report
    from densekit.testing.head_checks import CHECKS

    console, failed = Console(), False
    for name, subject in subjects.items():
        with console.status(f"heads.{name}"):
            outcomes = report(subject, CHECKS)
        table = Table(title=plain(f"heads.{name}"), title_justify="left")
        for column in ("check", "", "the contract"):
            table.add_column(column)
        for outcome in outcomes:
            table.add_row(*_row(outcome))
        print_whole(table)
        failed |= any(outcome.error for outcome in outcomes)
    return 1 if failed else 0


def _row(outcome: Outcome) -> tuple[Text, Text, Text]:
    if outcome.error is None:
        return plain(outcome.name), plain("ok", "green"), plain(outcome.asks, "dim")
    found = plain(f"{outcome.asks}\n").append(outcome.error, "red")
    return plain(outcome.name), plain("FAILED", "red"), found


def _subjects(arguments: Sequence[str]) -> dict[str, Subject]:
    """The heads of a command line, by name, each with what it is tried on."""
    from densekit.app.config.compose import compose
    from densekit.app.config.data_info import model_info, register_data_info
    from densekit.app.config.overrides import parse
    from densekit.app.config.resolve import describe_data, resolve
    from densekit.build import instantiate
    from densekit.testing.samples import synthetic_samples
    from densekit.testing.subject import Subject

    if not any(word.lstrip("+").startswith("head") for word in arguments):
        raise UsageError("head: expected a head, got nothing; densekit check-head head=NAME")
    cfg = compose(parse(arguments)).cfg
    own = any(word.startswith(("data=", "experiment=")) for word in arguments)
    if own:
        sources: Mapping[str, Any] = describe_data(cfg)
    else:
        kinds = {head: "identity" for head, node in cfg.heads.items() if "num_identities" in node}
        sources = {name: MadeUp(list(cfg.heads), kinds) for name in cfg.data}
        register_data_info(sources)
    plain = resolve(cfg)
    info = model_info(sources, plain["heads"], plain["resize"])["heads"]
    subjects = {}
    for name, node in plain["heads"].items():
        trainer = next((one for one in sources.values() if name in one.heads), None)
        if trainer is None:
            raise UsageError(f"data.NAME.heads: expected a data set that trains {name}, got none")
        make = instantiate({**node, "_partial_": True}, f"heads.{name}")
        samples = _stored(trainer) if own else synthetic_samples(CLASSES)
        specs = trainer.train.target_specs if own else {}
        subjects[name] = Subject(make, samples, specs, info[name])
    return subjects


def _stored(source: Any) -> list[Sample]:
    """The first training samples of a data set as they are stored, in the frame of their truth."""
    if source.train is None:
        raise UsageError("data: expected a data set with a training split, got none")
    count = min(SAMPLES, len(source.train))
    return [source.train[index] for index in range(count)]
