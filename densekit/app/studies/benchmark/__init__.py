"""`densekit benchmark`: works of ours and of a peer, proven equal, timed in turn and reported."""
