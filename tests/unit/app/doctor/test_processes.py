"""Files that end the process that reads them are named, and every other one is read."""

import pytest

from densekit.app.doctor import scan
from densekit.app.doctor.facts import Example, Part, Study
from densekit.app.doctor.processes import Unread, _cause, read_all
from densekit.app.doctor.run import diagnose
from tests.unit.app.doctor import small_sets as sets
from tests.unit.app.doctor.reading import read


@pytest.mark.parametrize("workers", [0, 2])
def test_every_file_is_read(workers):
    tasks = [f"file {number}" for number in range(30)]
    assert dict(read_all(read, tasks, workers)) == {task: task.upper() for task in tasks}


def test_a_file_that_ends_its_process_is_named_and_the_others_are_read(tmp_path):
    once = f"once {tmp_path / 'done'}"
    tasks = ["first", "segfault", once, "last"]
    found = dict(read_all(read, tasks, 1))
    assert found.pop("segfault") == Unread("reading it ended the process by SIGSEGV")
    # The other one is sound when it is read again: memory may have run out for another's sake.
    assert found == {task: task.upper() for task in ("first", once, "last")}


def test_what_an_exit_code_says():
    assert _cause(3) == "reading it ended the process with exit code 3"
    assert "memory" in _cause(-9)


@pytest.mark.parametrize(
    ("make", "folder", "check"),
    [
        (sets.yolo, "images", "broken-image"),
        (sets.masks, "masks", "broken-mask"),
        (sets.volumes, "images", "broken-volume"),
    ],
)
def test_such_a_file_is_a_finding_that_is_not_remembered(
    make, folder, check, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    node, sound = make(tmp_path / "set"), scan.facts_of
    bad = sorted((tmp_path / "set" / folder).iterdir())[3]
    full = [True]

    def facts_of(task):
        if task.path == bad and full:
            return Unread("there is not enough memory to read it")
        return sound(task)

    monkeypatch.setattr(scan, "facts_of", facts_of)
    (finding,) = diagnose("mine", node, None).findings
    assert (finding.check, finding.file) == (check, str(bad))
    assert "memory" in finding.message
    full.clear()
    assert diagnose("mine", node, None).findings == []


def test_no_memory_is_no_crash(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def out_of_memory(_):
        raise MemoryError

    monkeypatch.setattr(scan, "_read", out_of_memory)
    part = Part("train", [Example(tmp_path / "a.png")], kind="boxes")
    (example,) = scan.scan(Study("mine", {"train": part}), 0).parts["train"].examples
    assert example.picture is not None
    assert (example.picture.kind, "memory" in example.picture.error) == ("broken", True)
    assert example.is_broken
