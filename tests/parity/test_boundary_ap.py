"""Boundary AP against pycocotools with the rims of all masks, drawn by erosion of whole images."""

from __future__ import annotations

import contextlib
import io

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from densekit.metrics import evaluate_files
from densekit.metrics.detection.boundary_ap import boundary_iou
from tests.parity.test_coco_files_pycocotools import AREAS, Case, mean

pytestmark = pytest.mark.parity


def rim(mask: np.ndarray) -> np.ndarray:
    """As the authors draw it: the mask without what is left of it after erosions."""
    steps = max(1, round(0.02 * float(np.hypot(*mask.shape))))
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=steps)
    return mask - inner[1:-1, 1:-1]


class Reference(COCOeval):
    def computeIoU(self, imgId, catId):
        whole = super().computeIoU(imgId, catId)
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if not len(truth) or not len(found):
            return whole
        order = np.argsort([-one["score"] for one in found], kind="mergesort")
        found = [found[i] for i in order[: self.params.maxDets[-1]]]
        rims = [
            [
                coco_mask.encode(np.asfortranarray(rim(coco_mask.decode(one["segmentation"]))))
                for one in side
            ]
            for side in (found, truth)
        ]
        crowd = [one["iscrowd"] for one in truth]
        thin = coco_mask.iou(*rims, crowd)
        return np.where(np.array(crowd, bool), whole, np.minimum(whole, thin))


def reference(results, annotations):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        found = truth.loadRes(str(results))
        for one in found.dataset["annotations"]:
            one["area"] = float(coco_mask.area(found.annToRLE(one)))
        evaluator = Reference(truth, found, "segm")
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"]
    numbers = {f"AP{name}": precision[:, :, :, [a], -1] for name, a in AREAS.items()}
    numbers |= {"AP50": precision[[0], :, :, 0, -1], "AP75": precision[[5], :, :, 0, -1]}
    return {name: mean(cells[cells > -1]) for name, cells in numbers.items()}


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(6), id="few"),
        pytest.param(range(6, 80), id="many", marks=pytest.mark.slow),
    ],
)
def test_random_files_equal_the_definition(tmp_path, seeds):
    for seed in seeds:
        results, annotations = Case(seed, "segm").write(tmp_path)
        ours = evaluate_files(results, annotations, iou_type="boundary")
        theirs = reference(results, annotations)
        ours = {name: ours[name] for name in theirs}
        assert ours == pytest.approx(theirs, rel=0, abs=0, nan_ok=True), f"seed {seed}"


def test_rims_equal_the_erosion_of_whole_images():
    rng = np.random.default_rng(0)
    for size in ((40, 43), (200, 150), (61, 320)):
        masks = [cv2.blur(rng.random(size), (9, 9)) > 0.5 for _ in range(2)]
        rims = [rim(mask.astype(np.uint8)) for mask in masks]
        expected = (rims[0] & rims[1]).sum() / (rims[0] | rims[1]).sum()
        assert boundary_iou(*masks) == expected
