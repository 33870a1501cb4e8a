"""One file per command of `densekit`; no command imports another."""
