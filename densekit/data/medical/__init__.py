"""Volumes with masks.

`dataset` holds whole volumes, `slices` their slices. `layouts` and `patient_folders` find the
files of each case, `labels` maps stored values to classes. `volumes` reads and writes every
format: `nifti`, `dicom` (with `dicom_files`) and `itk`, by the names in `volume_files`. `grids` is
where voxels lie, `axes` turns volumes into one orientation, `resample` brings them to one spacing,
`cache` keeps the result on disk.
"""
