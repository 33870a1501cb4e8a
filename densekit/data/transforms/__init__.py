"""Changes of samples and of training batches.

`geometry` moves every kind of target once, for all others; `resize` and `patch` (with
`class_pixels`) set the size. `albumentations`, `torchvision` and `monai` wrap these libraries;
`volumes` chooses among `monai` and our own `volume_steps` by name. `mixing` changes whole batches.
"""
