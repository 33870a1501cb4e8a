"""Transforms of samples and of training batches.

`geometry` moves every kind of target, for all other transforms, with masks resized by `nearest`;
`resize` and `patch` (with `class_pixels`) set the size. `albumentations` (which gets the masks of
objects in `layers`), `torchvision` and `monai` wrap these libraries; `volumes` selects from `monai`
and our own `volume_steps` by name. `mosaic` and `copy_paste` mix a sample with the `partners` they
draw from its data set; `mixing` changes whole batches.
"""
