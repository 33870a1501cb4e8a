"""Where the inputs of `predict`, `verify` and `search` come from."""
