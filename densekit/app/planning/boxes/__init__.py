"""`densekit plan` for data sets of boxes: resizing, anchors, levels and batch from the objects."""
