"""Reads, checks and packs annotated objects, from which boxes or masks are made.

`coco_json` reads COCO JSON for both, `coco_panoptic` its panoptic form; `outlines` encodes polygons
and run lengths, `id_maps` finds the objects of a mask that numbers them. `yolo_txt` reads the rows
of YOLO's label files, `yolo_files` finds them and their images, `yolo_config` reads the `data.yaml`
beside them. `searched` says which classes an image was searched for. `packed` keeps all objects of
a data set in flat arrays, `sanitise` drops invalid boxes, `findings` counts what was dropped or
repaired.
"""
