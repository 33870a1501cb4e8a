"""Pictures of a run: what the loader feeds, and predictions beside the truth.

Shape letters: B images, C channels, T target slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import ArrayLike, NDArray

from densekit._names import foreground
from densekit.training.category_pictures import draw_category, draw_category_result
from densekit.training.mask_pictures import draw_mask_result, draw_truth_of_batch, inside
from densekit.training.sources import source_heads, source_names
from densekit.types import Batch, Result
from densekit.visualization.boxes import draw_boxes
from densekit.visualization.colours import BACKGROUND
from densekit.visualization.images import LARGEST, Picture, at_most, save_picture
from densekit.visualization.panels import grid, side_by_side

LOADER_COLUMNS = 4


class RunPictures(Callback):
    """Saves `loader.png` from the first training batch and `predictions.png` after validation.

    Without a validation split the predictions are those of the test. It draws what the targets and
    the results of any head hold: boxes, masks with a legend, categories as titles; of a volume the
    slice with most foreground, a series as lines.

    Args:
        folder: Where the pictures go.
        images: Number of images in each, the first ones of the loader.
        min_score: Predictions below it are not drawn.
    """

    def __init__(self, folder: str | Path, images: int = 8, min_score: float = 0.5) -> None:
        self.folder = Path(folder)
        self.images = images
        self.min_score = min_score
        self._fed = self._validated = False
        self._rows: list[Picture] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draws the first batch of the run as the network gets it."""
        if self._fed or not trainer.is_global_zero:
            return
        self._fed = True
        cells = []
        for source, of_source in batch.items():
            names = class_names(trainer, pl_module, source)
            classes = mask_classes(trainer, pl_module, source)
            cells += draw_batch(of_source, names, self.images, classes)
        save_grid(cells, LOADER_COLUMNS, self.folder / "loader.png")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draws the first images, which are the same after every epoch."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        source = source_names(trainer)[dataloader_idx]
        names, heads = class_names(trainer, pl_module, source), source_heads(trainer, source)
        classes = mask_classes(trainer, pl_module, source)
        for row, result in enumerate(outputs["results"]):
            if len(self._rows) >= self.images * (dataloader_idx + 1):
                return
            if batch["sample_valid"][row]:
                expected = {name: result[name] for name in heads or result}
                self._rows += draw_result(batch, row, expected, names, self.min_score, classes)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what was drawn."""
        self._validated = True
        self._save()

    def on_test_batch_end(self, trainer: Trainer, *arguments: Any, **named: Any) -> None:
        """Draws the first images of the test if there was no validation."""
        if not self._validated:
            self.on_validation_batch_end(trainer, *arguments, **named)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what was drawn of the test."""
        if self._rows:
            self._save()

    def _save(self) -> None:
        save_grid(self._rows, 1, self.folder / "predictions.png")
        self._rows = []


def class_names(trainer: Trainer, pl_module: LightningModule, source: str) -> list[str]:
    """Class names of the first head of a data set that has some; masks have `mask_classes`."""
    known = _known(trainer, pl_module, source, of_masks=False)
    return list(known["names"]) if known else []


def mask_classes(trainer: Trainer, pl_module: LightningModule, source: str) -> dict[int, str]:
    """Mask value and name of the classes of the first head of a data set that learns masks."""
    known = _known(trainer, pl_module, source, of_masks=True)
    return foreground(known) if known else {}


def _known(
    trainer: Trainer, pl_module: LightningModule, source: str, *, of_masks: bool
) -> dict[str, Any] | None:
    """What the artifact knows of the first head that has names and (does not) learn masks.

    One data set may have both: a mask counts its background among the classes, boxes have none.
    """
    model: Any = pl_module.model
    known: dict[str, Any] = model.info.get("heads", {})
    for head in source_heads(trainer, source) or tuple(known):
        found: dict[str, Any] = known.get(head, {})
        if found.get("names") and ("mask" in model.heads[head].target_keys) is of_masks:
            return found
    return None


def draw_batch(
    batch: Batch,
    names: Sequence[str],
    limit: int,
    classes: Mapping[int, str],
) -> list[Picture]:
    """Draws masks, boxes or categories of the first images of a batch, without their padding.

    Args:
        batch: `image` (B, C, H, W), with `mask` or `category` series and volumes too; other images
            are left out.
        names: Class names.
        limit: Number of images at most.
        classes: Mask value to name.
    """
    rows = range(min(limit, len(batch["image"])))
    if "mask" in batch:
        return [draw_truth_of_batch(batch, row, classes) for row in rows]
    if "category" in batch and "boxes" not in batch:
        return [draw_category(seen(batch, row), batch["category"][row], names) for row in rows]
    if batch["image"].ndim != 4:
        return []
    cells = []
    for row in rows:
        boxes, labels = np.zeros((0, 4)), np.zeros(0, dtype=np.int64)
        if "boxes" in batch:
            valid = batch["boxes_valid"][row]  # (T,)
            boxes = batch["boxes"][row][valid].cpu().numpy()
            labels = batch["labels"][row][valid].cpu().numpy()
        image = seen(batch, row)
        share = np.divide(image.shape[:2], batch["size"][row].tolist())[[1, 0, 1, 0]]
        cells.append(draw(image, boxes * share, labels, names))
    return cells


def draw_result(
    batch: Batch,
    row: int,
    result: dict[str, Result],
    names: Sequence[str],
    min_score: float,
    classes: Mapping[int, str],
) -> list[Picture]:
    """Draws predictions of each head that has boxes, masks or categories, beside the truth.

    Args:
        batch: Evaluation batch, with `truth` and `meta`.
        row: Image in it.
        result: Head name to result, in the image's original frame.
        names: Class names.
        min_score: Predictions below it are left out.
        classes: Mask value to name.

    Returns:
        One picture a head that has boxes, a mask or a category, as far as the truth has them.
    """
    truth = batch["truth"][row]
    drawn = [
        draw_mask_result(batch, row, head, of_head["mask"], classes)
        for head, of_head in result.items()
        if "mask" in of_head and "mask" in truth
    ]
    drawn += [
        draw_category_result(seen(batch, row), head, of_head, truth["category"], names)
        for head, of_head in result.items()
        if "probabilities" in of_head and "category" in truth
    ]
    if batch["image"].ndim != 4 or "boxes" not in truth:
        return drawn
    image = seen(batch, row)
    original = batch["meta"][row].get("original_size", batch["size"][row].tolist())
    # Results and truth are in the original frame; the image has left it if it was resized.
    scale = np.divide(image.shape[:2], original)[[1, 0, 1, 0]]
    expected = draw(image, truth["boxes"] * scale, truth["labels"], names)
    for head, of_head in result.items():
        if "boxes" not in of_head:
            continue
        certain = of_head["scores"] >= min_score
        kept = (of_head[key][certain] for key in ("boxes", "labels", "scores"))
        boxes, labels, scores = kept
        found = draw(image, boxes * scale, labels, names, scores)
        drawn.append(side_by_side([found, expected], [head, "ground truth"]))
    return drawn


def draw(
    image: ArrayLike,
    boxes: ArrayLike,
    labels: NDArray[Any],
    names: Sequence[str],
    scores: ArrayLike | None = None,
) -> Picture:
    """`draw_boxes`, with numbers for classes without a name."""
    needed = int(labels.max()) + 1 if labels.size else 0
    complete = [*names, *(str(label) for label in range(len(names), needed))]
    return draw_boxes(image, boxes, labels, complete, scores)


def seen(batch: Batch, row: int) -> NDArray[Any]:
    """One image of a batch as (*S, C) without its padding; pictures no larger than they are shown.

    Its colours are those of the whole image, so that a smaller one looks like it.
    """
    image: NDArray[Any] = inside(batch["image"], batch, row).movedim(0, -1).cpu().numpy()
    if image.ndim != 3 or max(image.shape[:2]) <= LARGEST:
        return image
    return at_most(image, LARGEST)


def save_grid(cells: Sequence[Picture], columns: int, path: Path) -> None:
    """Saves pictures in a grid as wide as the widest, each in its own size."""
    if not cells:
        return
    width = max(cell.shape[1] for cell in cells)
    padded = []
    for cell in cells:
        left = (width - cell.shape[1]) // 2
        room = ((0, 0), (left, width - cell.shape[1] - left))
        planes = [np.pad(cell[..., c], room, constant_values=BACKGROUND[c]) for c in range(3)]
        padded.append(np.stack(planes, axis=-1))
    save_picture(grid(padded, columns, cell_width=width), path)
