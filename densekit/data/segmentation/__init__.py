"""Data sets of semantic masks.

`folder`, `listing`, `objects`, `voc`, `coco` and `yolo` read one format each; `dataset` and `drawn`
hold their base classes. `classes` determines the classes from the configuration, a file beside the
masks (`class_table`) or the masks; `codes` maps stored values to classes.
"""
