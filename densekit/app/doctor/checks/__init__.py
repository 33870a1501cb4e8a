"""The checks, one file per area; each file ends with the table `CHECKS`."""
