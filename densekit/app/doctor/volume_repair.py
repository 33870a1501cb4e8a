"""Repairs the copies of volumes where no voxel changes its value or its position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need
from densekit._files import replacing
from densekit.app.doctor.checks.table import CHECKS
from densekit.app.doctor.facts import Study
from densekit.app.doctor.findings import ORDER, Finding, Severity
from densekit.app.doctor.rewriting import Log
from densekit.data.medical.grids import grid_distance, orientation_of
from densekit.data.medical.nifti import nifti_grid, two_frames
from densekit.data.medical.volume_files import has_suffix

NIFTI = (".nii", ".nii.gz")
"""Files that can be rewritten."""
WHOLE = 1e-3
"""Largest distance of a mask's values from whole numbers that rounding explains."""
NEAR = 0.5
"""Distance in voxels below which the nearest voxel of a mask is the one that it was."""
NOT_REPAIRED = "not repaired"


@dataclass(frozen=True)
class Case:
    """The copies of a case.

    Attributes:
        image: Its first volume.
        masks: Its masks.
        usual: Orientation of most volumes of the data set.
    """

    image: Path
    masks: tuple[Path, ...]
    usual: str


def repair_volumes(study: Study, copy_of: Callable[[Path], Path], log: Log) -> None:
    """Repairs what the checks find, and names what remains as not repaired.

    Args:
        study: The examined data set.
        copy_of: The copy of a file.
        log: What is done, with the names of the sources.
    """
    cases = _cases(study, copy_of)
    if not cases:
        return
    for finding in _findings(study):
        file = Path(finding.file)
        name, repaired = REPAIRS.get(finding.check, (NOT_REPAIRED, _cannot))
        done = file in cases and has_suffix(file, NIFTI) and repaired(copy_of(file), cases[file])
        detail = finding.message if done else f"{finding.check}: {finding.message}"
        log.add(name if done else NOT_REPAIRED, file, detail)


def _cases(study: Study, copy_of: Callable[[Path], Path]) -> Mapping[Path, Case]:
    """Each volume and mask with its case."""
    volumes = [v for _, e in study.each() for v in e.volumes if v.shape and v.placed]
    usual = Counter(volume.orientation for volume in volumes).most_common(1)
    cases: dict[Path, Case] = {}
    for _, example in study.each():
        masks = tuple(mask for mask in example.mask_files if mask is not None)
        if example.files:
            copies = tuple(copy_of(mask) for mask in masks)
            case = Case(copy_of(example.files[0]), copies, usual[0][0] if usual else "")
            cases |= dict.fromkeys((*example.files, *masks), case)
    return cases


def _findings(study: Study) -> Iterator[Finding]:
    """Errors and warnings, those with a repair first and in the order of the repairs."""
    order = list(dict.fromkeys([*REPAIRS, *CHECKS]))
    seen = set[tuple[str, str]]()
    for name in order:
        if ORDER[CHECKS[name].severity] > ORDER[Severity.WARNING]:
            continue
        for finding in CHECKS[name](study):
            if (name, finding.file) not in seen:
                yield finding
            seen.add((name, finding.file))


def _cannot(file: Path, case: Case) -> bool:
    return False


def _one_frame(file: Path, case: Case) -> bool:
    """Sets the qform to the sform, which is what readers use."""
    stored = _open(file)
    _save(file, stored, stored.dataobj.get_unscaled(), stored.affine)
    if two_frames(nifti_grid(file)):  # a quaternion cannot express shear: none is better then
        stored = _open(file)
        stored.set_qform(None, 0)
        with replacing(file) as part:
            need("nibabel", "writing NIfTI").save(stored, part)
    return True


def _whole_values(file: Path, case: Case) -> bool:
    """Stores the values of a mask as whole numbers if that is what they are but for rounding."""
    stored = _open(file)
    values = np.asarray(stored.dataobj, np.float64)
    whole = np.rint(values)
    if not np.abs(values - whole).max(initial=0.0) <= WHOLE or whole.min(initial=0.0) < 0:
        return False
    dtype = np.min_scalar_type(int(whole.max(initial=0.0)))
    stored.set_data_dtype(dtype)
    _save(file, stored, whole.astype(dtype), stored.affine, scaling=(1.0, 0.0))
    return True


def _onto_volume(file: Path, case: Case) -> bool:
    """Stores a mask in the orientation of its volume, with the geometry of the volume."""
    volume, stored = nifti_grid(case.image), _open(file)
    if not (volume.is_placed and _is_placed(stored)):
        return False
    values, affine = _turned(stored, orientation_of(volume))
    shape = tuple(reversed(values.shape[:3]))
    if shape != volume.shape or grid_distance(volume.affine, affine, shape) >= NEAR:
        return False
    _save(file, stored, values, volume.affine)
    return True


def _as_usual(file: Path, case: Case) -> bool:
    """Stores a volume and its masks in the usual orientation; voxels stay where they are."""
    files = [_open(one) for one in (file, *case.masks)]
    if not all(map(_is_placed, files)):
        return False
    for one, stored in zip((file, *case.masks), files, strict=True):
        _save(one, stored, *_turned(stored, case.usual))
    return True


REPAIRS: Mapping[str, tuple[str, Callable[[Path, Case], bool]]] = {
    "frames-differ": ("qform set to the sform", _one_frame),
    "mask-with-fractions": ("label values rounded", _whole_values),
    "volume-mask-size": ("mask stored like its volume", _onto_volume),
    "volume-mask-moved": ("mask stored like its volume", _onto_volume),
    "mixed-orientations": ("orientation changed to the usual one", _as_usual),
}
"""Check to the name of its repair and the repair of a file, which says whether it was possible."""


def _open(file: Path) -> Any:
    return need("nibabel", "repairing volumes").load(file)


def _is_placed(stored: Any) -> bool:
    """Whether a file of three axes states its orientation."""
    return len(stored.shape) >= 3 and bool(
        stored.header["sform_code"] > 0 or stored.header["qform_code"] > 0
    )


def _turned(stored: Any, codes: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The stored values with their axes permuted and flipped, and their affine."""
    ways = need("nibabel", "orientations").orientations
    change = ways.ornt_transform(ways.io_orientation(stored.affine), ways.axcodes2ornt(codes))
    values = ways.apply_orientation(stored.dataobj.get_unscaled(), change)
    return values, stored.affine @ ways.inv_ornt_aff(change, stored.shape[:3])


def _save(
    file: Path,
    stored: Any,
    values: NDArray[Any],
    affine: NDArray[Any],
    scaling: tuple[float, float] | None = None,
) -> None:
    """Writes stored values with the header of their file: type, scaling and codes stay."""
    new = type(stored)(np.asanyarray(values), affine, stored.header)
    new.header.set_slope_inter(*(scaling or (stored.dataobj.slope, stored.dataobj.inter)))
    new.set_sform(affine, int(stored.header["sform_code"]))
    new.set_qform(affine, int(stored.header["qform_code"]))
    with replacing(file) as part:
        need("nibabel", "writing NIfTI").save(new, part)
