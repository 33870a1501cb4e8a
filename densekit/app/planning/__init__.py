"""`densekit plan`: derives an experiment from a data set of volumes."""
