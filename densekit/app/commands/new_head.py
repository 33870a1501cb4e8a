"""`densekit new-head`: creates a package with a head that fulfils the contract."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from densekit.app.errors import UsageError
from densekit.app.options.table import Command, Option, parse_command, text
from densekit.app.terminal import print_lines, quoted
from densekit.plugins import CONTRACT

TEMPLATES = Path(__file__).parents[1] / "templates"
SUFFIX = ".txt"
NAME = re.compile(r"([a-z][a-z0-9_]*/)?[a-z][a-z0-9_]*")
COMMAND = Command(
    name="new-head",
    usage="NAME [output=DIR]",
    about="""
Creates a small package with a head, its conf/head/NAME.yaml, a test and a pyproject.toml. The
package can be installed with pip and passes densekit check-head as it is; edit it from there.
""",
    examples=("new-head acme/polyp     # package acme_polyp in ./acme-polyp, head=acme/polyp",),
    options=(
        Option(
            "output",
            text("DIR"),
            None,
            "new or empty folder (default: one named after the package)",
        ),
    ),
    words=("NAME",),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, names = parse_command(COMMAND, arguments)
    values = template_values(names[0])
    folder = Path(options["output"] or values["project"])
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"output: expected a new or empty folder, got {folder}")
    for file in write(folder, values):
        print_lines(str(file))
    install = f"pip install -e {quoted(folder if folder.is_absolute() else f'./{folder}')}"
    print_lines(f"next: uv {install}    # in a pip environment: {install}")
    print_lines(f"      densekit check-head {quoted(f'head={names[0]}')}")
    return 0


def template_values(option: str) -> dict[str, str]:
    """The values of the template variables.

    Args:
        option: Name of the head, as in `head=`: `polyp` or `acme/polyp`.

    Raises:
        UsageError: The name is not valid for an option and a package, or it is taken.
    """
    from densekit.app.config.groups import options

    if not NAME.fullmatch(option):
        raise UsageError(
            f"NAME: expected lower-case letters, digits and _ with at most one /, such as polyp or"
            f" acme/polyp, got {option!r}"
        )
    if option in options("head"):
        raise UsageError(
            f"NAME: expected a new name such as yours/{option}, got {option!r}, which exists"
        )
    owner, _, name = option.rpartition("/")
    package = f"{owner}_{name}" if owner else f"{name}_head"
    return {
        "option": option,
        "name": name,
        "package": package,
        "project": package.replace("_", "-"),
        "class_name": "".join(word.capitalize() for word in name.split("_")),
        "contract": str(CONTRACT),
    }


def write(folder: Path, values: dict[str, str]) -> list[Path]:
    """Fills the templates and writes them; returns the files."""
    files = []
    for template in sorted(TEMPLATES.rglob(f"*{SUFFIX}")):
        target = template.relative_to(TEMPLATES).as_posix().removesuffix(SUFFIX)
        target = target.replace("package/", f"{values['package']}/")
        target = target.replace("option", values["option"])
        file = folder / target
        file.parent.mkdir(parents=True, exist_ok=True)
        text = Template(template.read_text(encoding="utf-8")).substitute(values)
        file.write_text(text, encoding="utf-8")
        files.append(file)
    return files
