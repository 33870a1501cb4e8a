"""`densekit explain`: the run, its files and its summary."""
