"""Contract tests of a head, on a small model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from densekit.testing.contract import prove
from densekit.testing.head_checks import CHECKS
from densekit.testing.samples import synthetic_info, synthetic_samples
from densekit.testing.subject import HeadMaker, Subject
from densekit.types import Sample, TargetSpec


def check_head(
    make: HeadMaker,
    num_classes: int = 3,
    *,
    multilabel: bool = False,
    spatial_dims: int = 2,
    samples: Sequence[Sample] | None = None,
    target_specs: Mapping[str, TargetSpec] | None = None,
) -> None:
    """Runs every contract test on a head, in about half a minute.

    Args:
        make: Builds the head on the specs of every level, `partial(MyHead, num_classes=3)`. It must
            pickle: one check runs in two processes.
        num_classes: Of the synthetic samples.
        multilabel: Likewise.
        spatial_dims: Likewise.
        samples: Two to eight training samples of your own, for heads with targets of their own
            (`extra`); no axis shorter than 32.
        target_specs: How collate stacks these targets.

    Raises:
        AssertionError: Names each failed check, its requirement and what was found.
    """
    if samples is None:
        samples = synthetic_samples(num_classes, multilabel=multilabel, spatial_dims=spatial_dims)
    prove(Subject(make, samples, target_specs or {}, synthetic_info(num_classes)), CHECKS)
