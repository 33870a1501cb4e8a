"""Label-error candidates of known predictions; and of a network, through the command."""

from pathlib import Path

import numpy as np
import pytest

from densekit.app.doctor import page, scan
from densekit.app.doctor.disagreement import compare_categories, count_faces, mask_difference
from densekit.app.doctor.object_candidates import compare_boxes
from densekit.app.doctor.processes import Unread
from densekit.app.doctor.run import diagnose
from densekit.app.errors import UsageError
from tests.unit.app.doctor import small_sets as sets

NAMES = ["cat", "dog"]
TRUTH = {"boxes": np.array([[10, 10, 50, 50], [60, 10, 90, 50.0]]), "labels": np.array([0, 1])}
RIGHT = {"boxes": TRUTH["boxes"], "scores": np.array([0.9, 0.9]), "names": ["cat", "dog"]}


def test_boxes():
    assert compare_boxes(RIGHT, TRUTH, NAMES) == []
    (wrong,) = compare_boxes({**RIGHT, "names": ["dog", "dog"]}, TRUTH, NAMES)
    assert wrong == (
        "wrong-class-candidate",
        "cat is predicted as dog 0.90 at [10, 10, 50, 50]",
        0.9,
        (10, 10, 50, 50),
    )
    unsure = {**RIGHT, "names": ["dog", "dog"], "scores": np.array([0.5, 0.9])}
    assert compare_boxes(unsure, TRUTH, NAMES) == []
    alone = {"boxes": TRUTH["boxes"][:1], "labels": TRUTH["labels"][:1]}
    (missing,) = compare_boxes(RIGHT, alone, NAMES)
    assert (missing.check, missing.box) == ("unlabelled-object-candidate", (60, 10, 90, 50))
    fewer = {"boxes": TRUTH["boxes"][:1], "scores": np.array([0.9]), "names": ["cat"]}
    (spurious,) = compare_boxes(fewer, TRUTH, NAMES)
    assert (spurious.check, spurious.message[:3]) == ("spurious-object-candidate", "dog")
    assert compare_boxes(fewer, {**TRUTH, "crowd": np.array([False, True])}, NAMES) == []
    none = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "names": []}
    assert len(compare_boxes(none, TRUTH, NAMES)) == 2
    empty = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int)}
    assert compare_boxes(none, empty, NAMES) == []
    assert len(compare_boxes(RIGHT, empty, NAMES)) == 2


def test_a_box_beside_its_object():
    aside = {**TRUTH, "boxes": TRUTH["boxes"] + [[20, 0, 20, 0], [0, 0, 0, 0]]}
    (moved,) = compare_boxes(RIGHT, aside, NAMES)
    assert moved[:2] == (
        "moved-object-candidate",
        "cat at [30, 10, 70, 50] is predicted as cat 0.90 at [10, 10, 50, 50]",
    )
    unsure = {**RIGHT, "scores": np.array([0.5, 0.9])}
    assert compare_boxes(unsure, aside, NAMES) == []
    far = {**TRUTH, "boxes": TRUTH["boxes"] + [[0, 300, 0, 300], [0, 0, 0, 0]]}
    checks = [candidate.check for candidate in compare_boxes(RIGHT, far, NAMES)]
    assert checks == ["unlabelled-object-candidate", "spurious-object-candidate"]


def test_objects_that_touch_are_objects_of_their_own():
    boxes = np.array([[10, 10, 50, 50], [35, 10, 75, 50.0]])
    both = {"boxes": boxes, "scores": np.array([0.9, 0.9]), "names": ["cat", "cat"]}
    one = {"boxes": boxes[:1], "labels": np.array([0])}
    (missing,) = compare_boxes(both, one, NAMES)
    assert (missing.check, missing.box) == ("unlabelled-object-candidate", (35, 10, 75, 50))


def test_a_prediction_within_a_crowd_says_nothing():
    crowd = {"boxes": np.array([[0, 0, 100, 100.0]]), "labels": np.array([0])}
    assert compare_boxes(RIGHT, {**crowd, "crowd": np.array([True])}, NAMES) == []
    assert compare_boxes(RIGHT, crowd, NAMES) != []


def test_categories():
    sure = {"names": ["dog"], "scores": np.array([0.95])}
    assert compare_categories(sure, {"category": np.asarray(1)}, NAMES) == []
    (wrong,) = compare_categories(sure, {"category": np.asarray(0)}, NAMES)
    assert (wrong.message, wrong.strength) == ("cat is predicted as dog 0.95", 0.95)
    assert compare_categories({**sure, "scores": [0.6]}, {"category": np.asarray(0)}, NAMES) == []
    assert compare_categories(sure, {"category": np.array([0, 1])}, NAMES) == []


@pytest.mark.parametrize(
    ("scores", "checks"),
    [([0.9, 0.1], []), ([0.2], ["no-face"]), ([0.9, 0.85], ["several-faces"])],
)
def test_faces(scores, checks):
    assert [one.check for one in count_faces({"scores": np.array(scores)})] == checks


def test_masks():
    truth = {"mask": np.array([[0, 1, 255, 1]])}
    assert mask_difference({"mask": np.array([[0, 1, 1, 0]])}, truth, NAMES) == pytest.approx(1 / 3)
    with pytest.raises(UsageError, match="checkpoint: expected masks of"):
        mask_difference({"mask": truth["mask"], "names": ["a", "b"]}, truth, NAMES)


def test_candidates_are_notes_with_their_files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    node = sets.yolo(tmp_path)
    rows = iter(range(sets.CLEAN))

    def predict(images):
        assert len(images) == 1
        number = next(rows)
        boxes = [box for box, _ in sets.boxes_of(number)]
        names = ["dog" if number == 3 else "cat", "dog"]
        result = {"boxes": np.array(boxes, float), "scores": np.array([0.9, 0.9]), "names": names}
        return [{"detection": result}]

    (finding,) = diagnose("mine", node, None, predict=predict).findings
    assert (finding.check, finding.severity) == ("wrong-class-candidate", "note")
    assert Path(finding.file).name == "3.png"
    with pytest.raises(UsageError, match="checkpoint: expected a model of"):
        diagnose("mine", node, None, predict=lambda _: [{"identity": {"embedding": 0}}])


def test_images_of_people_without_a_face_or_with_several(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(6):
        sets.write(tmp_path / "people" / f"p{number // 2}" / f"{number}.png", sets.pixels(number))
    train = {"_target_": "densekit.data.IdentityFolder", "root": str(tmp_path / "people")}
    node = {"_target_": "densekit.data.Source", "heads": ["identity"], "train": train}
    scores = iter([[0.9], [], [0.95, 0.3], [0.9, 0.85], [0.99], [0.9]])

    def predict(images):
        found = np.array(next(scores))
        return [{"faces": {"boxes": np.ones((len(found), 4)), "scores": found}}]

    findings = diagnose("mine", node, None, predict=predict).findings
    named = {f.check: Path(f.file).name for f in findings if f.check.endswith(("face", "faces"))}
    assert named == {"no-face": "1.png", "several-faces": "3.png"}


def test_a_broken_image_is_not_opened_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    node = sets.yolo(tmp_path)
    bad = tmp_path / "images" / "3.png"
    sound = scan.facts_of
    killed = Unread("reading it ended the process by SIGSEGV")
    monkeypatch.setattr(scan, "facts_of", lambda t: killed if t.path == bad else sound(t))
    predicted = []

    def predict(images):
        predicted.append(images)
        return [{"detection": {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "names": []}}]

    diagnosis = diagnose("mine", node, None, predict=predict)
    assert len(predicted) == sets.CLEAN - 1
    opened = []
    monkeypatch.setattr(page, "thumbnail", lambda file, box: opened.append(file) or "data:")
    page.write_page(tmp_path / "page.html", [diagnosis])
    assert opened
    assert bad not in opened
