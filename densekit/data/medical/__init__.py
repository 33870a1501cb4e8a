"""Data sets of medical volumes with masks.

`dataset` holds whole volumes, `slices` their slices. `layouts`, `description` (`dataset.json`) and
`patient_folders` find the files of each case, `labels` maps stored values to classes. `volumes`
reads and writes every format: `nifti`, `dicom` (with `dicom_files`) and `itk`, by the suffixes in
`volume_files`. `grids` describes the positions of voxels, `axes` turns volumes into one
orientation, `resample` to one spacing, `cache` keeps the result on disk.
"""
