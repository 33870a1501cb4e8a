"""Hostile checkpoints through every command that reads one, watched by an audit hook.

The hook cannot be removed, so all of it happens in a child process.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from densekit import DenseModel
from densekit.app.cli import main
from densekit.app.config.compose import compose
from densekit.app.config.overrides import parse
from densekit.artifact import model_from_artifact, save_artifact
from densekit.backbones import ResNet
from densekit.heads import UNet
from tests.unit.escapes import ESCAPES, HEAD, RESNET, TRAP, URL, node
from tests.unit.odd_escapes import ODD

FORBIDDEN = (
    *("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec"),
    *("os.posix_spawn", "urllib.Request", "webbrowser.open", "ftplib.connect", "smtplib.connect"),
)
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "shutil.rmtree")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """An audit hook that notes writing outside of some folders, connections and programs."""

    def __init__(self, allowed: tuple[Path, ...]) -> None:
        self.allowed = tuple(map(str, allowed))
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN or (event == "import" and str(arguments[0]).startswith(TRAP)):
            self.seen.append(f"{event} {arguments!r}"[:300])
        elif event == "open":
            path, mode, flags = arguments
            writes = bool((flags or 0) & WRITES) or any(c in (mode or "") for c in "wax+")
            self._note(event, path if writes else None)
        elif event in CHANGES:
            self._note(event, arguments[0])

    def _note(self, event: str, path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or path == os.devnull:
            return
        place = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (resolves no links)
        if not place.startswith(self.allowed) and "__pycache__" not in place:
            self.seen.append(f"{event} {place}")


def _run_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run, as one of its checkpoints holds it."""
    words = ["data=mask_folder", "head=unet", "neck=none", "backbone=resnet18", "backbone.width=8"]
    text = OmegaConf.to_yaml(compose(parse(words)).cfg).replace("${paths.run}", str(folder / "old"))
    stored: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", "2", text))
    stored["vars"] = {}
    stored["heads"] = {"segmentation": node(HEAD, num_classes=2)}
    stored["paths"] = {name: str(folder / "old") for name in ("run", "runs", "data")}
    return stored


OF_RUN: dict[str, dict[str, Any]] = {
    "trust in the file": {"trust": [TRAP], "inferer": node(f"{TRAP}.Head")},
    "predictor that trusts": ESCAPES["predictor with trust"][0],
    "weights by address": {"backbone": node(RESNET, depth=18, width=8, weights=URL)},
    "another run": {"resume": "evil.ckpt", "checkpoint": URL},
    "another folder": {"paths": {"run": "/evil", "runs": "/evil", "data": "/evil"}},
    "a name that climbs": {"run_name": "../../evil"},
    "a class to import": {"training": node(f"{TRAP}.Head")},
}
"""Escapes by keys of a run, which are put through every command."""
MODEL = {
    "backbone": node(RESNET, depth=18, width=8),
    "heads": {"segmentation": node(HEAD, num_classes=2)},
}


def _saved(tables: dict[str, dict[str, Any]], base: dict[str, Any], folder: Path) -> Iterator[Path]:
    """A checkpoint for each escape that YAML can hold."""
    model = DenseModel(ResNet(18, width=8), {"segmentation": partial(UNet, num_classes=2)}, None)
    model.info["heads"] = {"segmentation": {"names": ["a", "b"], "ids": [0, 1], "num_classes": 2}}
    folder.mkdir()
    for name, parts in tables.items():
        try:
            text = yaml.safe_dump(base | parts, allow_unicode=True)
        except (yaml.YAMLError, RecursionError):
            continue  # no file can hold it
        save_artifact(folder / f"{name}.ckpt", model, text)
        yield folder / f"{name}.ckpt"
    text = f"heads: !!python/object/apply:os.system [touch {folder}/evil]\n"
    save_artifact(folder / "tags.ckpt", model, text)
    yield folder / "tags.ckpt"


def _commands(file: Path, out: Path, pictures: Path) -> Iterator[list[str]]:
    picture, model = pictures / "0.png", f"checkpoint={file}"
    yield ["predict", model, f"source={pictures}", f"output={out}"]
    yield ["train", f"resume={file}", f"paths.runs={out}"]
    yield ["eval", model, f"output={out}"]
    yield ["info", str(file)]
    if file.stem == "trust in the file":  # the slowest; none looks at more of the file than others
        yield ["export", model, "format=torch_export", "size=[32,32]", f"output={out / 'x.pt2'}"]
    yield ["search", str(picture), f"gallery={pictures}", model]
    yield ["verify", str(picture), str(picture), model]
    yield ["convert", f"source={file}", f"output={out / 'x.ckpt'}"]
    yield ["replay", str(file)]
    yield ["doctor", "data=mask_folder", f"paths.data={pictures}", model]


def _attack(folder: Path, pipe: Any) -> None:
    """Opens all files; sends what the hook saw, and what each command printed."""
    pictures, out = folder / "pictures", folder / "out"
    pictures.mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(pictures / "0.png")
    tables = {str(number): cfg for number, (cfg, _, _) in enumerate((ESCAPES | ODD).values())}
    models = list(_saved(tables, MODEL, folder / "models"))
    runs = list(_saved(OF_RUN, _run_config(folder), folder / "runs"))
    watch = Watch((Path(tempfile.gettempdir()), Path("/dev")))
    said: dict[str, str] = {}
    sys.addaudithook(watch)
    for file in models:
        try:
            model_from_artifact(file)
            said[f"{file.name}: load"] = "0 "  # the model alone holds no escape
        except ValueError as error:
            said[f"{file.name}: load"] = f"2 {error}"
    for file in runs:
        for words in _commands(file, out, pictures):
            text = io.StringIO()
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                try:
                    code: Any = main(words)
                except BaseException as error:  # what a user would see as a traceback
                    code = f"{type(error).__name__}: {error}"
            said[f"{file.name}: {words[0]}"] = f"{code} {text.getvalue()}"[:400]
    pipe.send((watch.seen, said, [str(p) for p in folder.rglob("evil*")]))


def test_no_command_writes_connects_or_starts_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{TRAP}.py").write_text("class Head:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    context = get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=_attack, args=(tmp_path, theirs))
    child.start()
    theirs.close()
    assert ours.poll(240), "no answer"
    seen, said, left = ours.recv()
    child.join()
    assert seen == []
    assert left == []
    assert len(said) > 130
    foreign = {key: text for key, text in said.items() if text[:1] not in "012"}
    assert foreign == {}


def test_the_hook_sees_what_it_is_for(tmp_path: Path) -> None:
    watch = Watch((tmp_path,))
    watch("open", ("/etc/evil", "w", 0))
    watch("open", (str(tmp_path / "x"), "w", 0))
    watch("open", ("/etc/passwd", "r", os.O_RDONLY))
    watch("socket.connect", (None, ("example.org", 80)))
    watch("import", (TRAP,))
    assert [event.split()[0] for event in watch.seen] == ["open", "socket.connect", "import"]
