"""Reads, checks and packs annotated objects, from which boxes or masks are made.

`coco_json` reads COCO JSON for both; `outlines` encodes its polygons and run lengths. `packed`
keeps all objects of a data set in flat arrays, `sanitise` drops invalid boxes, `findings` counts
what was dropped or repaired.
"""
