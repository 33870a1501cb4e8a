"""Medical cases: their volumes and masks, which may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit.app.doctor.facts import Example
from densekit.app.doctor.readers.records import Records
from densekit.data.medical.labels import LabelTable
from densekit.data.medical.layouts import Names, stated_layout
from densekit.data.splits import SplitRule


class VolumeRecords(Records):
    """The cases of a data set of volumes.

    Args:
        root: Folder or table of the data set.
        split: "train", "val", "test" or "all".
        splits: Divides the patients.
        channels: Names of the volumes of each case.
        mask: Name of the masks.
        roi: Name of the masks of the region of interest.
        labels: Class names with their stored values.
        others: Arguments of the data set class that the doctor has no use for.

    Raises:
        ValueError: If the folder is not in a known layout.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "all",
        *,
        splits: SplitRule | None = None,
        channels: Sequence[str] = (),
        mask: str | None = None,
        roi: str | None = None,
        labels: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> None:
        layout = stated_layout(Path(root), Names(tuple(channels), mask, roi))
        groups = [
            case.patient or (case.name if splits is None else splits.group_of(case.name))
            for case in layout.cases
        ]
        chosen = range(len(groups)) if splits is None else splits.members(split, groups)
        table = LabelTable(labels or layout.labels or {"background": 0}, layout.source)
        named = dict(zip(table.ids, table.names, strict=True)) if not table.multilabel else {}
        super().__init__(
            [
                Example(
                    layout.cases[number].images[0],
                    index,
                    mask_files=(layout.cases[number].mask,),
                    group=groups[number],
                    files=layout.cases[number].images,
                )
                for index, number in enumerate(chosen)
            ],
            (),
            table.names,
            table.ids,
            kind="volume",
            values={value: named.get(value, "") for value in table.known}
            if labels or layout.labels
            else {},
        )


class SlicedRecords(VolumeRecords):
    """The volumes behind their slices.

    Args:
        volumes: The reader that has taken the place of the volumes.
        others: Arguments of the data set class that the doctor has no use for.
    """

    def __init__(self, volumes: VolumeRecords, **others: Any) -> None:
        Records.__init__(self, volumes.examples, volumes.defects, (), **others)
        self.facts = volumes.facts
