"""Rendered images for quick starts and tests: no file, the same in every run.

`scenes` has objects with boxes, masks or one category, `place_scenes` adds places, `shapes` draws
one large shape. `dataset` is what they share, `canvas` composes a scene, `drawing` draws shapes.
"""
