"""The number of objects again, kept per image: with intervals, and a section of the report."""

import numpy as np

from densekit.metrics.analyses import Bars, Suspect
from densekit.metrics.image_metric import ImageMetric


class CountRows(ImageMetric):
    """Mean absolute error of the number of objects per image."""

    higher_is_better = False
    width = 2  # numbers kept of each image: found, annotated

    def __init__(self, min_score=0.5, **kwargs):
        super().__init__(**kwargs)
        self.min_score = min_score  # every argument has an attribute of its name

    def row(self, result, truth):
        return np.array([(result["scores"] >= self.min_score).sum(), len(truth["boxes"])])

    def aggregate_rows(self, table):
        errors = np.abs(table[:, 0] - table[:, 1])
        return {"count_error": float(errors.mean()) if len(errors) else float("nan")}

    def cases(self):
        ids, table = self.computed()
        rows = zip(ids.tolist(), table.tolist(), strict=True)
        return [{"image_id": i, "count_error": abs(f - a)} for i, (f, a) in rows]

    def analyses(self):
        _, table = self.computed()
        sides = {"too few": table[:, 0] < table[:, 1], "too many": table[:, 0] > table[:, 1]}
        values = {name: float(wrong.sum()) for name, wrong in sides.items()}
        return [Bars("Images with a wrong number of objects", "images", values)]

    def suspects(self):
        ids, table = self.computed()
        empty = (table[:, 1] == 0) & (table[:, 0] > 2)
        return [Suspect(i, "objects found, none annotated", 0.5) for i in ids[empty].tolist()]
