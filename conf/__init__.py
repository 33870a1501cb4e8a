"""Hydra groups; installed as `densekit.conf`."""
