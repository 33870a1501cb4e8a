"""Alignment: exact similarities, the nearest one, pixels that land where they should."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from densekit.data import AlignFace, align_face
from densekit.data.identification.align import TEMPLATE, similarity


def turned(points, degrees=20.0, scale=1.7, shift=(30.0, 12.0)):
    angle = np.radians(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ matrix.T + shift


def test_an_exact_similarity_is_found():
    matrix = similarity(turned(TEMPLATE), TEMPLATE)
    mapped = turned(TEMPLATE) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(mapped, TEMPLATE, atol=1e-9)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_nearest_similarity_is_that_of_scikit_image(mirrored):
    rng = np.random.default_rng(0)
    for _ in range(20):
        source = turned(TEMPLATE, rng.uniform(-180, 180)) + rng.normal(0, 8, (5, 2))
        source = source * [-1, 1] if mirrored else source
        wanted = SimilarityTransform()
        wanted.estimate(source, TEMPLATE)
        np.testing.assert_allclose(similarity(source, TEMPLATE), wanted.params[:2], atol=1e-9)


def dots(points, size):
    """Smooth spots around points x, y."""
    y, x = np.mgrid[: size[0], : size[1]]
    image = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py in points)
    return (255 * np.clip(image, 0, 1)).astype(np.uint8)[..., None]


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (224, 224)])
def test_landmarks_land_on_the_template(size):
    points = turned(TEMPLATE, 15, 1.4, (60, 10))
    out = align_face(dots(points, (240, 260)), points, size)
    assert out.shape == (*size, 1)
    assert out.dtype == np.uint8
    scale = size[0] / 112
    target = TEMPLATE * scale + [(size[1] - 112 * scale) / 2, 0]
    for x, y in target:
        row, column = round(y), round(x)
        patch = out[row - 4 : row + 5, column - 4 : column + 5, 0].astype(float)
        ys, xs = np.mgrid[row - 4 : row + 5, column - 4 : column + 5]
        assert (xs * patch).sum() / patch.sum() == pytest.approx(x, abs=0.35)
        assert (ys * patch).sum() / patch.sum() == pytest.approx(y, abs=0.35)


def sample(image, path="x/a.png", **extra):
    found = {"image": image, "meta": {"path": path}, "identity": np.asarray(3)}
    return {**found, "extra": extra} if extra else found


def test_landmarks_of_the_sample_are_used_up():
    points = turned(TEMPLATE).astype(np.float32)
    given = sample(dots(points, (240, 260)), landmarks=points)
    out = AlignFace()(given, np.random.default_rng(0))
    assert "extra" not in out
    assert "landmarks" in given["extra"]
    assert out["image"].shape == (112, 112, 1)
    np.testing.assert_array_equal(out["image"], align_face(given["image"], points))


def test_landmarks_of_a_table(tmp_path):
    head = ",".join(["image", *(f"{axis}{n}" for n in range(1, 6) for axis in "xy")])
    row = ",".join(["a.png", *(f"{v:.4f}" for v in turned(TEMPLATE).reshape(-1))])
    (tmp_path / "points.csv").write_text(f"{head}\n{row}\n")
    align = AlignFace(tmp_path / "points.csv")
    image = dots(turned(TEMPLATE), (240, 260))
    out = align(sample(image, str(tmp_path / "a.png")), np.random.default_rng(0))
    wanted = align_face(image, turned(TEMPLATE))
    assert np.abs(out["image"].astype(int) - wanted).max() <= 1
    with pytest.raises(
        ValueError, match=r"expected landmarks of .*b\.png, got none in .*points\.csv"
    ):
        align(sample(image, str(tmp_path / "b.png")), np.random.default_rng(0))
    (tmp_path / "points.csv").write_text(f"{head}\n{row.replace('a.png,', 'a.png,x', 1)}\n")
    with pytest.raises(ValueError, match="line 2: x1: expected a finite number, got 'x"):
        AlignFace(tmp_path / "points.csv")


def test_without_landmarks_or_with_one_point_it_is_refused():
    with pytest.raises(ValueError, match="expected landmarks of .*, got no table of landmarks"):
        AlignFace()(sample(np.zeros((9, 9, 1), np.uint8)), np.random.default_rng(0))
    with pytest.raises(ValueError, match="landmarks: expected different points"):
        align_face(np.zeros((9, 9, 1), np.uint8), np.ones((5, 2)))
