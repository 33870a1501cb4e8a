"""`densekit report`: a run as one HTML page. Each file makes the blocks of one part of it."""
