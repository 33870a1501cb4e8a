"""The rules of the house that no other tool checks: packaging, sizes, lazy names, portability."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
MAX_LINES = 400
SOURCES = sorted(
    path for folder in ("densekit", "tools", "tests") for path in (PROJECT / folder).rglob("*.py")
)
PACKAGES = sorted(
    ".".join(path.parent.relative_to(PROJECT).parts)
    for path in (PROJECT / "densekit").rglob("__init__.py")
)


def _tracked_files() -> list[str]:
    """What git tracks; the rules about the repository have no meaning in an unpacked archive."""
    if not (PROJECT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return [name for name in listing.stdout.split("\0") if name and (PROJECT / name).is_file()]


def test_every_package_on_disk_is_in_the_wheel() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(settings["packages"]) == sorted([*PACKAGES, "densekit.conf"])


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in (PROJECT / "densekit").rglob("*.py")}
    assert [str(f) for f in folders if not (f / "__init__.py").exists()] == []


def test_files_stay_small() -> None:
    too_long = {
        str(path.relative_to(PROJECT)): count
        for path in SOURCES
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert too_long == {}, f"more than {MAX_LINES} lines: split by idea"


def test_a_tuple_of_numbers_has_one_home() -> None:
    homes: dict[tuple[str, str], list[str]] = {}
    for path in sorted((PROJECT / "densekit").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and re.fullmatch(
                r"\([-\d., ]+\)", text := ast.unparse(node.value)
            ):
                homes.setdefault((ast.unparse(node.targets[0]), text), []).append(path.name)
    assert {key: files for key, files in homes.items() if len(files) > 1} == {}


UNIX = {"fcntl", "grp", "pwd", "resource", "termios"}
UNIX_NAMES = {"getuid", "fork", "killpg", "sysconf", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1"}


def test_every_module_imports_on_windows() -> None:
    """Only functions name what Windows lacks."""
    found = []
    for path in sorted((PROJECT / "densekit").rglob("*.py")):
        for node in _run_by_import(ast.parse(path.read_text())):
            names = {node.attr} & UNIX_NAMES if isinstance(node, ast.Attribute) else set()
            names |= {a.name for a in node.names} & UNIX if isinstance(node, ast.Import) else set()
            names |= {node.module} & UNIX if isinstance(node, ast.ImportFrom) else set()
            found += [f"{path.name}: {name}" for name in names]
    assert found == []


def _run_by_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from _run_by_import(node)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves(package: str) -> None:
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None, f"{package}.{name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_also_a_module(package: str) -> None:
    # Importing a sub-module binds it in its package and would hide the lazy name from then on.
    folder = PROJECT.joinpath(*package.split("."))
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    public = set(getattr(importlib.import_module(package), "__all__", ()))
    assert public & modules == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module(package).no_such_name  # noqa: B018


@pytest.mark.parametrize(
    "statement",
    ["import densekit", "from densekit.app.cli import main; main(['--help'])"],
    ids=["import", "help"],
)
def test_starting_imports_nothing_heavy(statement: str) -> None:
    # What is imported, not how long it took: a clock would fail on a busy machine.
    program = (
        "import sys\n"
        f"try:\n    {statement}\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "heavy = {'torch', 'torchvision', 'lightning', 'albumentations', 'cv2', 'matplotlib'}\n"
        "print('HEAVY', sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_no_path_of_a_machine_is_committed() -> None:
    # Split so that this file does not find itself.
    pattern = re.compile(r"(?<![\w.$}])/" + r"(?:home|Users|root|work|mnt)/\w")
    found = []
    for name in _tracked_files():
        if Path(name).suffix in {".py", ".yaml", ".yml", ".toml", ".md", ".txt", ".cfg", ""}:
            lines = (PROJECT / name).read_text(errors="replace").splitlines()
            found += [
                f"{name}:{i}: {line}" for i, line in enumerate(lines, 1) if pattern.search(line)
            ]
    assert found == []


def test_neither_lock_file_nor_index_is_committed() -> None:
    assert [n for n in _tracked_files() if Path(n).name in {"uv.lock", "poetry.lock"}] == []
    lines = (PROJECT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert [line for line in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_every_imported_package_is_declared() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    declared = {canonicalize_name(Requirement(r).name) for r in [*project["dependencies"], *extras]}
    distributions = packages_distributions()
    undeclared = set()
    for path in (PROJECT / "densekit").rglob("*.py"):
        for name in _imported_packages(path) - sys.stdlib_module_names - {"densekit"}:
            homes = {canonicalize_name(home) for home in distributions.get(name, [name])}
            if not homes & declared:
                undeclared.add(f"{path.relative_to(PROJECT)}: {name}")
    assert undeclared == set()


def _imported_packages(path: Path) -> set[str]:
    """Top-level packages that a file imports, at its head or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_constraints_meet_the_lower_bounds() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    pins = dict(
        line.split("==")
        for line in (PROJECT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    groups = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for requirement in map(Requirement, groups):
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} against {pin}"
