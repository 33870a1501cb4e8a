"""The base class of what is made of the results of several heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from densekit.types import Result

if TYPE_CHECKING:
    from torchmetrics import Metric


class Combination(ABC):
    """Makes one result of the finished results of several heads: the last step of a prediction.

    It has no parameters and sees an image's results in its original frame, so it holds for any
    inferer and any engine. Its own result stands beside those of the heads, under the name that it
    has in `combine`, and is measured, predicted and written like theirs.

    The constructor takes the descriptions of the heads, `info["heads"]`, as a head's takes specs.

    Attributes:
        parts: Names of the heads whose results it reads.
        info: Its own description, in plain values: `names`, `ids`, `num_classes` and others.
        main_metric: See `densekit.heads.Head`; it goes before those of the heads.
    """

    parts: tuple[str, ...]
    info: Mapping[str, Any]
    main_metric: tuple[str, str] | None = None

    @abstractmethod
    def __call__(self, results: Mapping[str, Result]) -> Result:
        """Returns the combined result of one image.

        Args:
            results: Head name to result, of all heads of the model.
        """

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns the default metrics, by name; the configuration may replace them.

        Args:
            info: Its own description.
        """
        return {}
