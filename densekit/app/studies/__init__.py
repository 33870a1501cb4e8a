"""Several runs or models, measured against each other."""
