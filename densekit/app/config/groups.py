"""The folders of configuration groups: densekit's own, `./conf` and those of plug-ins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from densekit._names import unknown
from densekit.app.errors import UsageError
from densekit.plugins import conf_folders, find_plugins

NODES = (
    *("paths", "data", "backbone", "neck", "optimizer", "schedule", "trainer", "callbacks"),
    *("logger", "metrics"),
)
"""Groups whose options are under a key of the same name; those of `head` are in `heads.NAME`."""

PACKAGES = {"head": "heads.NAME", "transfer": "training.transfer"}
"""Groups whose files begin with another `# @package` than `_global_`; those of NODES need none."""


def own_conf() -> Path:
    """The folder of densekit's own groups, wherever the package is installed."""
    import densekit.conf

    return Path(densekit.conf.__path__[0]).resolve()


def extra_folders() -> list[Path]:
    """Further folders in search order: `./conf`, then those of plug-ins."""
    local = Path("conf").resolve()
    found = [local] if local.is_dir() else []
    return [folder for folder in [*found, *conf_folders()] if folder != own_conf()]


def searchpath(folders: Sequence[Path]) -> str:
    """The override that adds folders to Hydra's search path."""
    from hydra.core.override_parser.types import Quote, QuotedString

    entries = [QuotedString(f"file://{folder}", Quote.single).with_quotes() for folder in folders]
    return f"hydra.searchpath=[{','.join(entries)}]"


def options(group: str) -> list[str]:
    """The names a group offers, e.g. `resnet18` of `backbone` or `acme/polyp` of `head`."""
    names = set()
    for root in [own_conf(), *extra_folders()]:
        folder = root / group
        for file in folder.rglob("*.yaml"):
            names.add(file.relative_to(folder).with_suffix("").as_posix())
    return sorted(names)


def groups() -> list[str]:
    """The top-level groups."""
    roots = [own_conf(), *extra_folders()]
    return sorted({path.name for root in roots for path in root.iterdir() if _is_group(path)})


def is_group(key: str) -> bool:
    """Whether the key of an override names a group (`data`, `head`), not a value."""
    return bool(key) and any((root / key).is_dir() for root in [own_conf(), *extra_folders()])


def top_level_keys() -> set[str]:
    """The keys at the top of every composed configuration."""
    shipped = yaml.safe_load((own_conf() / "config.yaml").read_text(encoding="utf-8"))
    return {*NODES} | (set(shipped) - {"defaults"})


def check_choice(group: str, value: Any, word: str) -> None:
    """Refuses an option that a group does not have.

    Args:
        group: The group.
        value: The chosen name or list of names.
        word: The override as the user wrote it.
    """
    accepted = options(group)
    if value is None:
        hint = f"; {group}=none leaves it out" if "none" in accepted else ""
        raise UsageError(f"{word}: expected an option of the group, got null{hint}")
    for name in value if isinstance(value, list) else [value]:
        if str(name) not in accepted:
            raise UsageError(refused(f"{group}/{name}") or unknown(group, name, accepted))
        files = [folder / group / f"{name}.yaml" for folder in conf_folders()]
        found = [str(file) for file in files if file.is_file()]
        if len(found) > 1:
            raise UsageError(f"{word}: expected one plug-in with it, got {', '.join(found)}")


def refused(option: str) -> str:
    """Why a plug-in with an option, e.g. `head/acme/polyp`, cannot be used; "" if none has it."""
    for plugin in find_plugins():
        if plugin.error and plugin.conf and (plugin.conf / f"{option}.yaml").is_file():
            return f"{plugin.package}: {plugin.error}"
    return ""


def hidden_files(folders: Sequence[Path]) -> list[Path]:
    """Files of further folders that are hidden by a file of densekit, which comes first."""
    own = own_conf()
    return [
        file
        for folder in folders
        for file in sorted(folder.rglob("*.yaml"))
        if (own / file.relative_to(folder)).is_file()
    ]


def _is_group(path: Path) -> bool:
    return path.is_dir() and any(path.rglob("*.yaml"))
