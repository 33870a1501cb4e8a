"""The command line of densekit, a thin layer over the library."""
