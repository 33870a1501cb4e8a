"""Prediction on files: finds the inputs of `predict`, `verify` and `search`, and runs them."""
