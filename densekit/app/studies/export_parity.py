"""`densekit export`: what a file is compared with its model on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.config.overrides import Overrides
from densekit.app.errors import UsageError
from densekit.app.prediction.calibration import of_pictures, of_training
from densekit.app.prediction.sources import find_images, find_volumes
from densekit.app.run.evaluation import evaluation_data
from densekit.build import metric_recipes

if TYPE_CHECKING:
    from densekit.data.source import Source
    from densekit.inference.engine import Pair
    from densekit.inference.export import gate
    from densekit.inference.export.base import Example
    from densekit.model import DenseModel

FINDERS = {2: find_images, 3: find_volumes}
"""Spatial dimensions to what finds such files."""


class Ground:
    """The images that a file is compared with its model on: of data, of a folder, or noise.

    They are found before the export, so that a wrong name costs no time.

    Args:
        artifact: What `load_artifact` returns, with all heads.
        checkpoint: Its file.
        overrides: `data=NAME` and so on, as `densekit eval` takes them.
        options: Of `densekit export`: `images`, `split`, `limit`.
        dims: Spatial dimensions of what the model predicts on.

    Raises:
        UsageError: There are no such data or images.
    """

    def __init__(
        self,
        artifact: Mapping[str, Any],
        checkpoint: Path,
        overrides: Overrides,
        options: Mapping[str, Any],
        dims: int,
    ) -> None:
        self.artifact, self.checkpoint = artifact, checkpoint
        self.overrides = overrides
        self.limit: int | None = options["limit"]
        self.folder: str | None = options["images"]
        self.files: list[Path] = []
        self.cfg: dict[str, Any] | None = None
        self.sources: dict[str, Any] = {}
        with_data = bool(overrides.keys - {"trust"}) or options["split"] is not None
        if with_data and self.folder is not None:
            raise UsageError("images, data: expected one of the two, got both")
        if with_data:
            self.cfg, self.sources, self.split = evaluation_data(
                artifact, checkpoint, overrides, options["split"]
            )
        elif self.folder is not None:
            if dims not in FINDERS:
                raise UsageError(f"images: expected none for a model of series, got {self.folder}")
            found, _ = FINDERS[dims](self.folder)
            self.files = found[: self.limit]

    def seen(self, model: DenseModel) -> list[Pair]:
        """Returns what the network sees of calibration images, for int8.

        They are the pictures of `images`, else training images.
        """
        from densekit.inference.calibration import seen_by
        from densekit.inference.predictor import stored_inferer
        from densekit.inference.slices import sliced

        inferer: Any = stored_inferer(self.artifact, self.checkpoint, self.overrides.trust)
        if model.info.get("slices"):
            inferer = sliced(inferer, model.info)
        if self.folder is None:
            images = of_training(self.checkpoint, self.overrides)
        else:
            images = of_pictures(self.folder, ())
        return seen_by(model, inferer, images(model))

    def compare(self, pair: gate.Pair, example: Example, trust: Sequence[str]) -> gate.Parity:
        """Runs file and model on these images.

        Args:
            pair: Model and file.
            example: Shapes of the file.
            trust: Packages whose classes the stored inferer may be built of.
        """
        from densekit.inference.export.gate import on_images, on_noise
        from densekit.inference.predictor import stored_inferer

        if self.cfg is not None:
            return self._on_data(pair, self.cfg)
        if self.folder is None:
            return on_noise(pair, example)
        inferer = stored_inferer(self.artifact, self.checkpoint, trust)
        return on_images(pair, inferer, self.files, self.folder)

    def _on_data(self, pair: gate.Pair, cfg: dict[str, Any]) -> gate.Parity:
        from densekit.app.run.fit import build_inferer
        from densekit.inference.export.gate import joined, on_data
        from densekit.training.metric_set import build_metrics

        recipes, inferer = metric_recipes(cfg), build_inferer(cfg, pair.model)
        found = []
        for name, source in self.sources.items():
            heads = [head for head in source.heads if head in pair.model.heads]
            first, second = (build_metrics(pair.model, heads, recipes) for _ in range(2))
            self._shorten(source)
            batches = source.eval_loader(self.split)
            where = f"{name} {self.split}"
            found.append(on_data(pair, inferer, batches, (first, second), where))
        return joined(found)

    def _shorten(self, source: Source) -> None:
        """Leaves the first `limit` images of the split."""
        whole = source.splits[self.split]
        if self.limit is not None and self.limit < len(whole):
            from densekit.data.subset import Subset

            setattr(source, self.split, Subset(whole, range(self.limit)))
