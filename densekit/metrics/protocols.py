"""What a metric may offer beyond `torchmetrics.Metric`; having the methods is enough.

A metric of a head is any `torchmetrics.Metric` that keeps these rules:

- `update(results, truth)` takes two lists of equal length, one dict per image each: what
  `densekit.inference.restore` returns for the head, and the annotation in the original frame.
  Every process calls it for every batch, with empty lists where it has no image.
- `compute()` returns one number, or a dict of metric name to number, the main one first, with the
  same names whatever was seen. What has no value is NaN; if that is the main one, a warning or a
  log message says why.
- No name is `loss` or `loss/...`: the terms of the loss are logged there.
- `higher_is_better` says whether the best value of the main one is the highest or the lowest; None
  leaves that open.
- States are registered with `add_state`, so that `reset`, `clone`, `to` and the gathering over
  processes work as torchmetrics does them.

The protocols below are optional. Their methods are called after `compute`, perhaps on the first
process alone, so they must not communicate.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.analyses import Analysis, Suspect

Draws = NDArray[np.integer[Any]]
"""(R, N) how often each of N images is in each of R draws; images by ascending id."""


@runtime_checkable
class HasCases(Protocol):
    """A metric that also measures every image by itself: its rows go into `cases_val.csv`."""

    def cases(self) -> list[dict[str, Any]]:
        """One row per image of all processes: `image_id`, then column to plain value."""


@runtime_checkable
class HasConfusion(Protocol):
    """A metric that counts which class is predicted for which: it is drawn after validation.

    Attributes:
        names: K class names.
    """

    names: list[str]

    def confusion(self) -> NDArray[np.int64]:
        """(K, K) counts of all processes by true class (row) and predicted class (column).

        Of (K + 1, K + 1) the last row and column are the background: nothing is annotated, or
        nothing is predicted.
        """


@runtime_checkable
class HasFacts(Protocol):
    """A metric that measures what predictions need, such as thresholds."""

    def facts(self) -> dict[str, Any]:
        """Plain values by name; checkpoints keep them in `info["heads"][HEAD]`."""


@runtime_checkable
class HasResamples(Protocol):
    """A metric that can be measured on other draws of its images, for intervals."""

    def image_ids(self) -> NDArray[np.int64]:
        """(N,) ascending ids of the images of all processes."""

    def resampled(self, draws: Draws) -> dict[str, NDArray[np.float64]]:
        """(R,) values of every draw by name of the metric; names without an interval may lack."""


@runtime_checkable
class HasAnalyses(Protocol):
    """A metric that explains its evaluation; a report shows each analysis below its head."""

    def analyses(self) -> list[Analysis]:
        """The analyses of the last `compute`, in the order in which a person reads them."""


@runtime_checkable
class HasSuspects(Protocol):
    """A metric that can name annotations that are probably wrong."""

    def suspects(self) -> list[Suspect]:
        """Of the last `compute`, the most confident disagreement first; at most some hundred."""
