"""All checks in one table."""

from __future__ import annotations

from densekit.app.doctor.checks import (
    boxes,
    candidates,
    categories,
    classes,
    duplicates,
    files,
    images,
    layouts,
    masks,
    records,
    volumes,
)
from densekit.app.doctor.findings import Check

AREAS = {
    "files": files.CHECKS,
    "duplicates": duplicates.CHECKS,
    "images": images.CHECKS,
    "annotations": records.CHECKS,
    "boxes": boxes.CHECKS,
    "layout of boxes": layouts.CHECKS,
    "classes": classes.CHECKS,
    "masks": masks.CHECKS,
    "categories and identities": categories.CHECKS,
    "volumes": volumes.CHECKS,
    "label errors, with checkpoint=": candidates.CHECKS,
}
"""The checks by area, in the order of the report."""

CHECKS: dict[str, Check] = {check.name: check for checks in AREAS.values() for check in checks}
"""Every check by its name."""
