"""Writes results of any kind into one folder, each kind through its own writer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import write_json
from densekit._names import readable
from densekit.app.results.boxes import BoxWriter
from densekit.app.results.categories import CategoryWriter
from densekit.app.results.embeddings import EmbeddingWriter
from densekit.app.results.masks import PREVIEW, MaskClasses, MaskWriter, write_classes
from densekit.app.results.panoptic import PanopticWriter
from densekit.app.results.series import SeriesMaskWriter
from densekit.app.results.volumes import VolumeWriter
from densekit.app.results.yolo import YoloWriter
from densekit.data.medical.grids import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from densekit.inference.thresholds import Threshold


class Writer:
    """Writes results image by image; `close` writes those collected over all images.

    Args:
        output: Folder; created if needed.
        heads: What each head and combination predicts, `described` of the model.
        thresholds: Head name to the scores from which its boxes are drawn; 0.5 without.
        overlays: Whether to draw overlays.
        embeddings: File format of embeddings, see `EmbeddingWriter`.
        labels: Format of label files, one per image: "yolo", or None for none.
    """

    def __init__(
        self,
        output: Path,
        heads: Mapping[str, Mapping[str, Any]],
        thresholds: Mapping[str, Threshold] | None = None,
        overlays: bool = True,
        embeddings: str = "npz",
        labels: str | None = None,
    ) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self.output = output
        self.heads = heads
        self.overlays = overlays
        self.images: list[dict[str, Any]] = []
        self.thresholds = thresholds or {}
        self.boxes, self.categories = BoxWriter(output), CategoryWriter(output)
        self.pictures, self.series, self.volumes = MaskWriter(), SeriesMaskWriter(), VolumeWriter()
        self.embeddings = EmbeddingWriter(output, embeddings)
        self.panoptic = PanopticWriter(output)
        self.labels = YoloWriter() if labels == "yolo" else None
        self.legends: dict[str, list[dict[str, Any]]] = {}

    def add(
        self,
        image: NDArray[Any] | Volume,
        image_id: int,
        file: Path,
        name: Path,
        by_head: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Adds the results of one image.

        Args:
            image: An image (H, W, C), a series (L, C), or a volume.
            image_id: Its COCO id.
            file: Its source file.
            name: Its overlay, relative to the folder of overlays.
            by_head: Head name to result, as `Predictor` returns them.
        """
        self._note(image_id, file, image.shape if isinstance(image, Volume) else image.shape[:-1])
        for head, result in by_head.items():
            if "boxes" in result:
                self._add_boxes(head, image, image_id, name, result)
            elif "mask" in result:
                self._add_mask(head, image, name, result["mask"])
            elif "panoptic" in result:
                self._add_segments(head, image, image_id, name, result)
            elif "probabilities" in result:
                self._add_category(head, image, file, name, result)
            elif "embedding" in result:
                self.embeddings.add(head, file, result["embedding"])

    def add_tiled(self, head: str, image_id: int, file: Path, name: Path, mask: Path) -> None:
        """Adds a huge image whose mask has been written; draws every n-th pixel of it."""
        from densekit.inference.tile_source import TileSource

        source, classes = TileSource(file), MaskClasses(self.heads[head])
        self._note(image_id, file, source.shape[:2])
        self.legends[head] = classes.legend(255)
        if self.overlays:
            small, found = source.thumbnail(PREVIEW)[0], TileSource(mask).thumbnail(PREVIEW)[0]
            labels = classes.labels(found).transpose(2, 0, 1)
            drawn = labels if classes.multilabel else labels[0]
            self.pictures.draw(small, drawn, classes, self._folder("overlays", head) / name)

    def mask_file(self, head: str, name: Path) -> Path:
        """Path of the mask of an image, without suffix."""
        return self._folder("masks", head) / name.with_suffix("")

    def close(self) -> None:
        """Writes what was collected per head, the legend of masks, and the images.

        Heads without any result are taken to predict boxes.
        """
        seen = {*self.legends, *self.categories.rows, *self.embeddings.found}
        seen |= self.panoptic.annotations.keys()
        self.panoptic.close(self.heads)
        self.boxes.close([head for head in self.heads if head not in seen])
        self.categories.close(list(self.heads))
        self.embeddings.close()
        if self.labels is not None:
            self.labels.close(self.output)
        if self.legends:
            write_classes(self.legends, self.output)
        write_json(self.output / "images.json", self.images)

    def _note(self, image_id: int, file: Path, size: tuple[int, ...]) -> None:
        names = ("length",) if len(size) == 1 else ("depth", "height", "width")[-len(size) :]
        sides = dict(zip(names, map(int, size), strict=True))
        self.images.append({"id": image_id, "file_name": readable(file), **sides})

    def _add_boxes(
        self, head: str, image: Any, image_id: int, name: Path, result: Mapping[str, Any]
    ) -> None:
        from densekit.inference.restore import HALF
        from densekit.inference.thresholds import confident

        self.boxes.add(head, result, image_id, self.heads[head]["ids"])
        shown = confident(dict(result), self.thresholds.get(head, HALF))
        names = self.heads[head]["names"]
        if self.labels is not None:
            height, width = image.shape[:2]
            file = self._label_file(head, name)
            self.labels.add_boxes(head, shown, (height, width), names, file)
        if self.overlays:
            self.boxes.draw(image, shown, names, self._folder("overlays", head) / name)

    def _add_segments(
        self, head: str, image: Any, image_id: int, name: Path, result: Mapping[str, Any]
    ) -> None:
        ids, file = self.heads[head]["ids"], name.with_suffix(".png")
        self.panoptic.add(head, result, image_id, ids, file)
        if self.overlays:
            self.panoptic.draw(image, result, self._folder("overlays", head) / name)

    def _add_category(
        self, head: str, image: Any, file: Path, name: Path, result: Mapping[str, Any]
    ) -> None:
        names = self.heads[head]["names"]
        self.categories.add(head, result, file, names)
        if self.overlays:
            self.categories.draw(image, result, names, self._folder("overlays", head) / name)

    def _add_mask(self, head: str, image: Any, name: Path, mask: NDArray[Any]) -> None:
        classes = MaskClasses(self.heads[head])
        writer: Any
        if isinstance(image, Volume):
            writer = self.volumes
            writer.write(mask, classes, self.mask_file(head, name), image)
        else:
            writer = self.series if image.ndim == 2 else self.pictures
            writer.write(mask, classes, self.mask_file(head, name))
            if self.labels is not None and writer is self.pictures:
                self.labels.add_mask(head, mask, classes, self._label_file(head, name))
        self.legends[head] = classes.legend(writer.largest)
        if self.overlays:
            writer.draw(image, mask, classes, self._folder("overlays", head) / name)

    def _label_file(self, head: str, name: Path) -> Path:
        return self._folder("labels", head) / name.with_suffix(".txt")

    def _folder(self, kind: str, head: str) -> Path:
        return self.output / kind / (head if len(self.heads) > 1 else "")
