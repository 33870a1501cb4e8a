"""The path from the command line to the model: every step is gone once."""

from __future__ import annotations

import ast
import gc
import json
import shutil
import subprocess
import sys
import weakref
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from densekit.app.cli import main
from densekit.app.config import compose, overrides
from densekit.app.run import job, launch
from densekit.app.run.folder import PENDING
from densekit.data import CategoryScenes
from tests.unit.app.small_run import SMALL_RUN

COUNT_READS = """
import json
import sys
from collections import Counter
from pathlib import Path

runs = json.loads(sys.argv[1])
reads = Counter()

def count(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], (str, Path)):
        reads[str(arguments[0])] += 1

sys.addaudithook(count)
from densekit.app.cli import main
from densekit.app.run import fit

fit.fit = lambda cfg, data, stopping: print(len(next(iter(data.sources.values())).train))
for words in runs:
    assert main(["train", *words]) == 0, words
print("READS", dict(reads))
"""
"""Runs in a process of their own: it counts how often files and folders are opened."""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_words_are_parsed_and_composed_and_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            calls[arguments[0] if name == "_parsed" else name] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, call)

    counted(overrides, "_parsed")
    counted(compose, "hydra_compose")
    counted(job, "resolve")
    counted(job, "describe_data")
    monkeypatch.setattr(launch, "run_job", lambda cfg, sources: calls.update(["run"]))
    words = [*SMALL_RUN, "run_name=1e3"]
    assert main(["train", *words]) == 0
    steps = ["hydra_compose", "resolve", "describe_data", "run"]
    assert calls == Counter([*words, *steps])


def test_no_placeholder_is_left_in_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(launch, "run_job", lambda cfg, sources: started.append(cfg))
    assert main(["train", *SMALL_RUN, "+vars.note='of ${paths.run}!'"]) == 0
    (run,) = (tmp_path / "runs" / "quickstart_classification").iterdir()
    assert started[0]["vars"]["note"] == f"of {run}!"
    assert started[0]["callbacks"]["checkpoint"]["folder"] == f"{run}/checkpoints"
    assert PENDING not in (run / "config.yaml").read_text()


@pytest.mark.parametrize("devices", [1, 2])
def test_data_sets_are_handed_to_the_one_process(
    monkeypatch: pytest.MonkeyPatch, devices: int
) -> None:
    handed: list[Any] = []
    monkeypatch.setattr(launch, "run_job", lambda cfg, sources: handed.append(sources))
    monkeypatch.setattr(launch, "_launch", lambda file, count: handed.append(count))
    assert main(["train", *SMALL_RUN, f"trainer.devices={devices}"]) == 0
    assert handed == [2] if devices == 2 else set(handed[0]) == {"scenes"}


def test_data_sets_that_lie_in_the_run_folder_are_built_again_there() -> None:
    sources = {"a": object()}
    outside = job.Job({"data": {"a": {"cache": "/c"}}, "x": PENDING}, "name", sources)
    assert outside.placed(Path("/r")) == ({"data": {"a": {"cache": "/c"}}, "x": "/r"}, sources)
    inside = job.Job({"data": {"a": {"cache": f"{PENDING}/c"}}}, "name", sources)
    assert inside.placed(Path("/r")) == ({"data": {"a": {"cache": "/r/c"}}}, None)
    assert sources == {}


class Cached(CategoryScenes):
    """Makes its cache folder as soon as it is built."""

    living: ClassVar[weakref.WeakSet[Cached]] = weakref.WeakSet()

    def __init__(self, cache: str, **named: Any) -> None:
        super().__init__(**named)
        Path(cache).mkdir(parents=True)
        self.living.add(self)


CACHED = [
    *SMALL_RUN,
    "trust=[tests]",
    "data.scenes.train._target_=tests.unit.app.run.test_job.Cached",
    "+data.scenes.train.cache='${paths.run}/cache'",
]


@pytest.mark.parametrize("devices", [1, 2])
def test_a_cache_in_the_run_folder_is_made_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, devices: int
) -> None:
    handed: list[Any] = []
    monkeypatch.setattr(launch, "run_job", lambda cfg, sources: handed.append(sources))
    monkeypatch.setattr(launch, "_launch", lambda file, count: handed.append(None))
    assert main(["train", *CACHED, f"trainer.devices={devices}"]) == 0
    gc.collect()
    assert (handed, len(Cached.living)) == ([None], 0)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert not Path(PENDING).exists()


def test_a_refused_run_keeps_no_data_set(tmp_path: Path, capsys: Any) -> None:
    assert main(["train", *CACHED, "backbone.width='${data_info:nope}'"]) == 2
    assert "backbone.width" in capsys.readouterr().err
    gc.collect()
    assert len(Cached.living) == 0
    assert list(tmp_path.iterdir()) == []
    shutil.rmtree(PENDING)


def _picture(file: Path, value: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (32, 32), value).save(file)


def _coco(root: Path) -> list[str]:
    for split in ("train", "val"):
        _picture(root / split / "a.png")
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0}
        flat = {**box, "id": 2, "bbox": [1, 1, 0, 9]}
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 32, "width": 32}],
            "annotations": [box, flat],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (root / f"{split}.json").write_text(json.dumps(content))
    return ["data=coco_folder"]


def _voc(root: Path) -> list[str]:
    _picture(root / "JPEGImages" / "a.png")
    _picture(root / "JPEGImages" / "b.png")
    (root / "Annotations").mkdir()
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    text = f"<annotation><object><name>cat</name>{box}</object></annotation>"
    (root / "Annotations" / "a.xml").write_text(text)
    return ["data=voc_folder", "data.voc_folder.train=${vars.whole}", "vars.whole.names=[cat]"]


def _masks(root: Path) -> list[str]:
    _picture(root / "images" / "a.png")
    _picture(root / "masks" / "a.png", 1)
    words = ["data=mask_folder", "data.mask_folder.train=${vars.whole}", "head=unet", "neck=none"]
    return [*words, "metrics=segmentation", "vars.whole.names=[background,crack,dent]"]


READ = (
    (_coco, ["train.json", "val.json"], "train.json"),
    (_voc, ["Annotations/a.xml", "Annotations", "JPEGImages"], "without an XML file"),
    (_masks, ["masks", "images"], "no pixel of"),
)
"""A data set, the files and folders of it that are read once, and a warning that is given once."""


def test_data_are_read_once_and_warned_about_once(tmp_path: Path) -> None:
    runs = []
    for write, _, _ in READ:
        root = tmp_path / write.__name__
        words = [*write(root), f"paths.data={root}", f"run_name={write.__name__}", "logger=none"]
        if write is not _coco:
            name = words[0].partition("=")[2]
            words += [f"data.{name}.val=null", f"data.{name}.test=null"]
        runs.append([*words, "trainer.accelerator=cpu"])
    command = [sys.executable, "-c", COUNT_READS, json.dumps(runs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    reads = ast.literal_eval(done.stdout.rpartition("READS ")[2])
    for write, read, said in READ:
        root = tmp_path / write.__name__
        assert {path: reads.get(str(root / path), 0) for path in read} == dict.fromkeys(read, 1)
        warned = [line for line in done.stderr.splitlines() if said in line]
        assert len(warned) == 1, done.stderr
        (run,) = (tmp_path / "runs" / write.__name__).iterdir()
        assert warned[0] in (run / "console.log").read_text().splitlines()
