"""Data sets of semantic masks.

`folder`, `listing`, `objects`, `voc` and `coco` are the formats, `dataset` is what they share.
`classes` finds out which classes there are, from the configuration, a file beside the masks
(`class_table`) or the masks; `codes` says which stored value is which class; `stored_values` reads
mask files.
"""
