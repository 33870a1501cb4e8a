"""Embeddings from the command line: train, evaluate, keep thresholds, predict, verify, search."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from densekit import Predictor
from densekit.app.cli import main
from densekit.app.errors import UsageError
from densekit.app.prediction.embedder import Threshold
from densekit.app.prediction.gallery import exact, with_faiss
from densekit.app.results.embeddings import EmbeddingWriter, read_embeddings
from densekit.artifact import KEYS, load_artifact, write_artifact

PEOPLE, IMAGES = 6, 4


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures of 16x16 of six patterns, and all pairs of the last four."""
    root = tmp_path_factory.mktemp("data (1)") / "faces_orl"
    rng = np.random.default_rng(0)
    for person in range(1, PEOPLE + 1):
        pattern = rng.integers(60, 190, (16, 16))
        folder = root / f"s{person}"
        folder.mkdir(parents=True)
        for number in range(1, IMAGES + 1):
            noisy = (pattern + rng.integers(-20, 20, (16, 16))).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{number}.png")
    names = [(f"s{p}", n) for p in range(3, PEOPLE + 1) for n in range(1, IMAGES + 1)]
    rows = [
        f"{(i + j) % 10} {int(a[0] == b[0])} {a[0]} {a[1]} {b[0]} {b[1]}"
        for i, a in enumerate(names)
        for j, b in enumerate(names[:i])
    ]
    (root / "pairs_heldout.txt").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def work(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a tiny model was trained, evaluated and kept with its thresholds."""
    folder = tmp_path_factory.mktemp("work")
    words = [
        *(
            "experiment=orl_arcface",
            f"paths.data={people.parent}",
            "data.orl.train.identities=[s1,s2]",
        ),
        *("backbone.width=8", "heads.identity.embedding_size=8", "trainer.max_steps=2"),
        "heads.identity.pool.size=[16,16]",
        *("trainer.accelerator=cpu", "precision=32-true", "data.orl.batch_size=4"),
        *("data.orl.train_transform=null", "callbacks.progress=null", "run_name=faces"),
        *("callbacks.pictures=null", "trainer.enable_model_summary=false"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *words]) == 0
        (run,) = (folder / "runs" / "faces").iterdir()
        checkpoint = f"checkpoint={run / 'checkpoints' / 'last.ckpt'}"
        done = main(
            ["eval", checkpoint, "output=out", "artifact=faces.pt", "trainer.accelerator=cpu"]
        )
        assert done == 0
    return folder


def run_of(work: Path) -> Path:
    (run,) = (work / "runs" / "faces").iterdir()
    return run


def test_the_run_measures_pairs_and_takes_no_loss_of_strangers(work: Path) -> None:
    figures = json.loads((run_of(work) / "metrics.json").read_text())
    names = {name.removeprefix("test/identity/") for name in figures}
    assert {"accuracy", "eer", "auc", "tar_at_1e-1", "threshold_at_1e-1"} <= names
    assert not any("loss" in name or "/ce" in name for name in figures)
    again = json.loads((work / "out" / "metrics.json").read_text())
    assert again["test/identity/auc"] == figures["test/identity/auc"]


def test_the_checkpoint_knows_how_many_and_the_artifact_from_where(work: Path) -> None:
    stored = load_artifact(run_of(work) / "checkpoints" / "last.ckpt")["info"]["heads"]["identity"]
    assert stored.keys() == {"num_identities", "identities"}
    assert stored["num_identities"] == 2
    kept = load_artifact(work / "faces.pt")["info"]["heads"]["identity"]
    figures = json.loads((work / "out" / "metrics.json").read_text())
    assert kept["thresholds"]["1e-1"] == figures["test/identity/threshold_at_1e-1"]
    config = yaml.safe_load(load_artifact(work / "faces.pt")["config"])
    assert config["heads"]["identity"]["num_identities"] == 2


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(list(words))
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_verify_answers_with_the_stored_threshold(work, people, capsys) -> None:
    one, two = str(people / "s4" / "1.png"), str(people / "s4" / "2.png")
    artifact = f"checkpoint={work / 'faces.pt'}"
    code, text = answer(capsys, "verify", artifact, one, one, "device=cpu")
    assert code == 0
    assert "similarity: 1.0000" in text
    assert "(false accept rate 0.1 on the pairs it was measured with)" in text
    assert "answer:     same" in text
    code, text = answer(capsys, "verify", artifact, one, two, "threshold=1.1", "json=true")
    found = json.loads(text)
    assert code == 0
    assert found["same"] is False
    assert found["false_accept_rate"] is None


def test_without_a_threshold_there_is_no_answer(work, people, capsys) -> None:
    one = str(people / "s4" / "1.png")
    checkpoint = f"checkpoint={run_of(work) / 'checkpoints' / 'last.ckpt'}"
    code, text = answer(capsys, "verify", checkpoint, one, one, "device=cpu")
    assert code == 1
    assert "similarity: 1.0000" in text
    assert "no answer: the checkpoint has no threshold" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["A"], "densekit verify: expected A B, got "),
        (["A", "none.png"], "B: expected an existing file or folder, got none.png"),
        (["A", "A", "far=1e-5"], "has a threshold (0.1), got 1e-05"),
        (["A", "A", "head=face"], "head: expected one of identity, got 'face'"),
        (["A", "A", "threshold=high"], "threshold: expected a number, got high"),
    ],
)
def test_wrong_words_are_refused(work, people, capsys, words, message) -> None:
    picture = str(people / "s4" / "1.png")
    words = [picture if word == "A" else word for word in words]
    code, text = answer(capsys, "verify", f"checkpoint={work / 'faces.pt'}", "device=cpu", *words)
    assert code == 2
    assert message in text


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_predict_writes_embeddings_and_search_reads_them(work, people, tmp_path, capsys, kind):
    artifact = f"checkpoint={work / 'faces.pt'}"
    source, output = f"source={people / 's4'}", f"output={tmp_path}"
    words = [artifact, "device=cpu", source, output, f"embeddings={kind}"]
    assert main(["predict", *words]) == 0
    files, vectors = read_embeddings(tmp_path / f"embeddings.{kind}")
    assert [Path(file).name for file in files] == [f"{n}.png" for n in range(1, IMAGES + 1)]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert not (tmp_path / "results.json").exists()
    probe = str(people / "s4" / "3.png")
    for index in ("exact", "faiss"):
        gallery = f"gallery={tmp_path / f'embeddings.{kind}'}"
        code, text = answer(
            capsys, "search", artifact, probe, gallery, "top=2", f"index={index}", "device=cpu"
        )
        assert code == 0
        first, second = text.splitlines()[1:]
        assert first.startswith("1.0000  same")
        assert first.endswith("3.png")
        assert float(second[:6]) <= 1


@pytest.mark.parametrize("size", [(1, 1), (12, 16), (640, 480)])
def test_pictures_of_another_cut_get_no_answer(work, people, tmp_path, capsys, size) -> None:
    """A picture of one pixel and two photographs were `same`, where training saw 16 x 16."""
    Image.new("L", size, 120).save(tmp_path / "other.png")
    artifact, good = f"checkpoint={work / 'faces.pt'}", str(people / "s4" / "1.png")
    expected = f"other.png: expected an image of 16 x 16, cropped .*, got {size[1]} x {size[0]}"
    other = str(tmp_path / "other.png")
    for command in (
        ["verify", artifact, other, other],
        ["verify", artifact, good, other],
        ["search", artifact, other, f"gallery={people}"],
    ):
        code, text = answer(capsys, *command, "device=cpu")
        assert code == 2
        assert re.search(expected, text), text
    words = [artifact, f"source={other}", f"output={tmp_path / 'o'}", "device=cpu"]
    code, text = answer(capsys, "predict", *words)
    assert code == 1
    assert "expected an image of 16 x 16" in " ".join(text.split())
    with pytest.raises(ValueError, match=expected):
        Predictor(work / "faces.pt")(other)


def test_a_checkpoint_that_does_not_say_is_told_of(work, people, tmp_path, capsys) -> None:
    stored = load_artifact(work / "faces.pt")
    assert stored["info"]["prepared"] == {
        "identity": {"min_size": [16, 16], "max_size": [16, 16], "aligned": False}
    }
    del stored["info"]["prepared"]
    parts = {key: stored[key] for key in KEYS}
    write_artifact(tmp_path / "old.pt", **parts)
    one = str(people / "s4" / "1.png")
    code, text = answer(capsys, "verify", f"checkpoint={tmp_path / 'old.pt'}", one, one)
    assert code == 0
    assert "does not state how its training images were prepared" in text


def test_search_in_a_folder(work, people, capsys) -> None:
    words = [str(people / "s5" / "2.png"), f"gallery={people}", "device=cpu", "top=100"]
    code, text = answer(capsys, "search", f"checkpoint={work / 'faces.pt'}", *words)
    assert code == 0
    lines = text.splitlines()[1:]
    assert len(lines) == PEOPLE * IMAGES
    assert Path(lines[0].split()[-1]).parts[-2:] == ("s5", "2.png")


def test_a_broken_picture_of_a_gallery_is_named_and_the_others_found(
    work, people, tmp_path, capsys
) -> None:
    shutil.copytree(people / "s5", tmp_path / "s5")
    (tmp_path / "s5" / "9.png").write_text("no picture")
    (tmp_path / "s5" / "8.png").write_bytes((people / "s5" / "1.png").read_bytes()[:60])
    words = [str(people / "s5" / "2.png"), f"gallery={tmp_path}", "device=cpu", "top=100"]
    code, text = answer(capsys, "search", f"checkpoint={work / 'faces.pt'}", *words)
    assert code == 1
    assert "2 images could not be read" in text
    assert all(f"{number}.png" in text for number in (1, 2, 3, 4, 8, 9))
    for file in (tmp_path / "s5").iterdir():
        file.write_text("no picture")
    code, text = answer(capsys, "search", f"checkpoint={work / 'faces.pt'}", *words)
    assert (code, "expected readable images, got none" in text) == (2, True)


def test_exact_and_faiss_find_the_same() -> None:
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(200, 16)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    one, two = exact(unit, unit[:7], 10), with_faiss(unit, unit[:7], 10)
    np.testing.assert_allclose(one[0], two[0], atol=1e-5)
    np.testing.assert_array_equal(one[1], two[1])


def test_files_of_embeddings(tmp_path: Path) -> None:
    writer = EmbeddingWriter(tmp_path)
    for head in ("a", "b"):
        writer.add(head, Path("x (1).png"), np.ones(3, np.float32))
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "embeddings_a.npz",
        "embeddings_b.npz",
    ]
    (tmp_path / "odd.npz").write_bytes(b"no zip")
    with pytest.raises(UsageError, match="expected embeddings written by densekit predict"):
        read_embeddings(tmp_path / "odd.npz")


def test_what_is_said_of_a_threshold() -> None:
    assert "not known" in str(Threshold(0.5, None))
    assert str(Threshold(0.5, 0.001)).startswith("0.5000 (false accept rate 0.001")
