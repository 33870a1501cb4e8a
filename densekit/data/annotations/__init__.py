"""Annotated objects, read, checked and packed before they become boxes or masks.

`coco_json` reads COCO's JSON for both; `outlines` holds its polygons and run lengths. `packed`
keeps all objects of a data set in flat arrays, `sanitise` drops boxes that cannot be right,
`findings` counts what was dropped or repaired.
"""
