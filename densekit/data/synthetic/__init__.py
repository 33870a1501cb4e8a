"""Rendered images for quick starts and tests: no files, identical in every run.

`scenes` has objects with boxes, masks or one category, `place_scenes` adds places and
`panoptic_scenes` stuff behind them, `shapes` draws one large shape. `dataset` is their base class,
`canvas` composes a scene, `drawing` draws shapes.
"""
